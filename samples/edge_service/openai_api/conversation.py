"""A list of messages as the situation that the stages see, and as turns for plain text."""

import json
from collections.abc import Sequence

from agentflux import Situation, Step, ToolCall, Turn
from edge_service.openai_api.schema import (
    AssistantMessage,
    Content,
    Message,
    SystemMessage,
    ToolCallItem,
    ToolMessage,
    UserMessage,
    encodable,
)
from edge_service.openai_api.tools import ToolNames
from edge_service.problems import Problem

DEFAULT_SYSTEM = "You are a helpful assistant. Answer in one to three short, plain sentences."
MAX_EARLIER_TURNS = 6
MAX_EARLIER_CHARS = 240
MAX_RESULT_CHARS = 1200


def situation(messages: Sequence[Message], names: ToolNames) -> Situation:
    """Return the last request, the calls since, and what was said before as context.

    Raises:
        Problem: calls and their results do not fit together.
    """
    check_calls(messages)
    last = max((i for i, m in enumerate(messages) if isinstance(m, UserMessage)), default=-1)
    said = [text_of(m.content) for m in messages if isinstance(m, SystemMessage)]
    earlier = [line for m in messages[: max(last, 0)] if (line := _line(m))]
    if earlier:
        said.append("\n".join(["Earlier in this conversation:", *earlier[-MAX_EARLIER_TURNS:]]))
    asked = messages[last] if last >= 0 else None
    return Situation(
        request=text_of(asked.content) if isinstance(asked, UserMessage) else "",
        context="\n\n".join(text for text in said if text.strip()),
        steps=_steps(messages[last + 1 :], names),
    )


def turns(messages: Sequence[Message]) -> tuple[Turn, ...]:
    """Return the conversation for the base model. System messages come first, as one turn.

    Calls and results are told in the user's words: a small base model that sees calls among its own
    turns writes another call instead of an answer.
    """
    system = [text_of(m.content) for m in messages if isinstance(m, SystemMessage)]
    said = [Turn(role="system", text="\n\n".join(system) or DEFAULT_SYSTEM)]
    results: list[str] = []
    for message in messages:
        if isinstance(message, ToolMessage):
            results.append(f"Result:\n{text_of(message.content)[:MAX_RESULT_CHARS]}")
        elif (turn := _turn(message)) is not None and turn.text.strip():
            said.append(turn)
            calls = isinstance(message, AssistantMessage) and message.tool_calls
            results = results if calls else []
    if results:
        asked = [f"I asked: {said.pop().text}"] if said[-1].role == "user" else []
        told = "\n\n".join([*asked, *results, "Tell me the outcome in short."])
        said.append(Turn(role="user", text=told))
    return tuple(said)


def text_of(content: Content | None) -> str:
    """Join the parts of a message."""
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part.text for part in content)


def check_calls(messages: Sequence[Message]) -> None:
    """Every call has one result behind it, every result a call before it.

    Raises:
        Problem: names the message.
    """
    open_calls: set[str] = set()
    for index, message in enumerate(messages):
        where = f"messages.{index}"
        if isinstance(message, ToolMessage):
            if message.tool_call_id not in open_calls:
                text = "a tool message must answer a call of the assistant message before it"
                raise Problem(400, text, "invalid_value", where)
            open_calls.discard(message.tool_call_id)
        elif open_calls and not isinstance(message, SystemMessage):
            text = f"no tool message answers the call {sorted(open_calls)[0]!r}"
            raise Problem(400, text, "invalid_value", where)
        elif isinstance(message, AssistantMessage):
            open_calls = {call.id for call in message.tool_calls or ()}
    if open_calls:
        text = f"no tool message answers the call {sorted(open_calls)[0]!r}"
        raise Problem(400, text, "invalid_value", f"messages.{len(messages)}")


def _steps(messages: Sequence[Message], names: ToolNames) -> tuple[Step, ...]:
    results = {m.tool_call_id: text_of(m.content) for m in messages if isinstance(m, ToolMessage)}
    calls = [c for m in messages if isinstance(m, AssistantMessage) for c in m.tool_calls or ()]
    return tuple(Step(call=_call(c, names), observation=results.get(c.id, "")) for c in calls)


def _call(item: ToolCallItem, names: ToolNames) -> ToolCall:
    tool_set, tool = names.split(item.function.name)
    try:
        arguments = json.loads(item.function.arguments or "{}")
    except (ValueError, RecursionError) as error:
        text = f"the arguments of {item.id!r} are not JSON"
        raise Problem(400, text, "invalid_value", "messages") from error
    if not isinstance(arguments, dict):
        text = f"the arguments of {item.id!r} are not an object"
        raise Problem(400, text, "invalid_value", "messages")
    if not encodable(arguments):  # escaped once more, so the request's own check cannot see it
        text = f"the arguments of {item.id!r} hold text that is not valid Unicode"
        raise Problem(400, text, "invalid_value", "messages")
    return ToolCall(tool_set=tool_set, tool=tool, arguments=arguments)


def _line(message: Message) -> str:
    """Render an earlier message in one line of the context."""
    turn = _turn(message)
    if turn is None or not turn.text.strip():
        return ""
    text = " ".join(turn.text.split())
    text = text if len(text) <= MAX_EARLIER_CHARS else text[:MAX_EARLIER_CHARS] + " …"
    return f"{'User' if turn.role == 'user' else 'Assistant'}: {text}"


def _turn(message: Message) -> Turn | None:
    if isinstance(message, UserMessage):
        return Turn(role="user", text=text_of(message.content))
    if isinstance(message, AssistantMessage):
        return Turn(role="assistant", text=text_of(message.content))
    return None
