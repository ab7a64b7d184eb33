"""The prompt of each stage, and where an adapter starts to act on it.

Training, the certificate and the device build their prompts here and nowhere else. A prompt is a
list of pieces. Each piece is tokenized apart from its neighbours and starts or ends at a control
token, so joining pieces never changes a token; KV cache computed for a piece can be kept.

```
static        system turn with the catalog                        base model, kept in the cache
conversation  context, request, past calls and observations       base model or adapter (Boundary)
instruction   opens the assistant's turn and names the subtask    adapter
```

`Boundary` says from where the adapter is active: "request" (from the user's request on) or
"instruction" (only on the stage's last line), or "prompt" (everywhere: ordinary LoRA, which shares
no prefix with any other adapter). Everything before it is computed by the base model
and shared by all adapters (activated LoRA, arXiv:2504.12397).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from agentflux.contracts.tools import Arguments, Catalog, JsonSchema, Step, ToolCall, ToolSpec

PROMPT_CONTRACT = "afx-prompts/1"
NONE = "none"
FINISH = "finish"

Boundary = Literal["prompt", "request", "instruction"]
Subtask = Literal["route", "select", "arguments"]
Role = Literal["route", "select", "arguments", "joint"]
"""What an adapter was trained for: one subtask, or all of them jointly."""

MAX_NAMES_PER_SET = 24
MAX_DESCRIPTION_CHARS = 100
MAX_PARAMETERS = 16
MAX_PARAMETER_CHARS = 90
MAX_CHOICES = 8
MAX_OBSERVATION_CHARS = 600
MAX_PAST_ARGUMENT_CHARS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatFormat:
    """The model's turn markers, taken from its chat template at export. Default: ChatML."""

    begin: str = ""
    system_open: str = "<|im_start|>system\n"
    user_open: str = "<|im_start|>user\n"
    assistant_open: str = "<|im_start|>assistant\n"
    close: str = "<|im_end|>\n"
    end_token: str = "<|im_end|>"
    control_tokens: tuple[str, ...] = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")

    def neutral(self, text: str) -> str:
        """Return text with the model's control tokens broken, so that data cannot open a turn."""
        for token in self.control_tokens:
            text = text.replace(token, token[:1] + " " + token[1:])
        return text


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePrompt:
    """The pieces of one stage. Their texts in this order, tokenized apart, are the prompt."""

    static: str
    context: tuple[str, ...]
    conversation: tuple[str, ...]
    instruction: str

    def pieces(self) -> tuple[str, ...]:
        """All pieces in order, empty ones left out."""
        return tuple(
            p for p in (self.static, *self.context, *self.conversation, self.instruction) if p
        )

    def split(self, boundary: Boundary) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the pieces before and after the activation boundary."""
        base, adapted = (self.static, *self.context), (*self.conversation, self.instruction)
        if boundary == "instruction":
            base, adapted = (*base, *self.conversation), (self.instruction,)
        elif boundary == "prompt":
            base, adapted = (), (*base, *adapted)
        return tuple(p for p in base if p), tuple(p for p in adapted if p)


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What the agent knows when a stage starts.

    forgotten: calls made before these steps, for which the context had no room; no prompt shows
    them.
    """

    request: str
    context: str = ""
    steps: Sequence[Step] = field(default_factory=tuple[Step, ...])
    forgotten: Sequence[ToolCall] = field(default_factory=tuple[ToolCall, ...])


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One turn of a plain conversation with the base model, outside the stages."""

    role: Literal["system", "user", "assistant"]
    text: str


def stop_label(situation: Situation) -> str:
    """Name the candidate that ends the loop: `none` before any call, `finish` afterwards."""
    return FINISH if situation.steps else NONE


def route_prompt(chat: ChatFormat, catalog: Catalog, situation: Situation) -> StagePrompt:
    """Ask for the tool set of the next step."""
    lines = [f"- {name}: {_tool_names(tools)}" for name, tools in catalog.items()]
    head = "Tool sets that can serve the next step of the request:"
    return _stage(chat, "\n".join([head, *lines]), situation, "Tool set:\n")


def select_prompt(
    chat: ChatFormat, tool_set: str, tools: Sequence[ToolSpec], situation: Situation
) -> StagePrompt:
    """Ask for the tool of the next step within one tool set."""
    return _stage(chat, _tool_list(tool_set, tools), situation, "Tool:\n")


def arguments_prompt(
    chat: ChatFormat,
    tool: ToolSpec,
    tools: Sequence[ToolSpec],
    situation: Situation,
    *,
    described: bool = False,
) -> StagePrompt:
    """Ask for the arguments of the chosen tool, as compact JSON in the schema's order.

    described: tell the types and descriptions of its parameters first. An adapter that was trained
    for the tool knows them by heart; one for any tool has nowhere else to read them.
    """
    instruction = f"Arguments of {tool.name}:\n"
    if described:
        told = parameter_lines(tool.input_schema)
        instruction = "\n".join([f"Parameters of {tool.name}:", *told, instruction])
    return _stage(chat, _tool_list(tool.tool_set, tools), situation, instruction)


def answer_prompt(chat: ChatFormat, situation: Situation) -> StagePrompt:
    """Ask the base model for the final answer.

    The calls are told in the user's words, not as the assistant's turns: a small base model that
    sees calls among its own turns writes another call instead of an answer.
    """
    head = "You are a helpful assistant. Answer in one or two short, plain sentences."
    told = situation.request.strip()
    if situation.steps:
        results = "\n".join(
            _observed(f"{'Error' if s.is_error else 'Result'} of {s.call.tool}:\n", s)
            for s in situation.steps
        )
        told = f"I asked: {told}\n\n{results}\n\nTell me the outcome in one short sentence."
    return StagePrompt(
        static=_static(chat, head),
        context=_context(chat, situation.context),
        conversation=(f"{chat.user_open}{chat.neutral(told)}{chat.close}",),
        instruction=chat.assistant_open,
    )


def shown_texts(situation: Situation) -> tuple[str, ...]:
    """Return what the prompt shows of the request, the context and the observations."""
    seen = (cut(step.observation.strip(), MAX_OBSERVATION_CHARS) for step in situation.steps)
    return (situation.request, situation.context, *seen)


def telling_texts(situation: Situation) -> tuple[str, ...]:
    """Return what tells names: all that is shown but the request, and the earlier calls."""
    made = (json.dumps(dict(s.call.arguments), ensure_ascii=False) for s in situation.steps)
    return (*shown_texts(situation)[1:], *made)


def chat_pieces(chat: ChatFormat, turns: Sequence[Turn]) -> tuple[str, ...]:
    """Lay a plain conversation out and open the assistant's next turn."""
    opened = {
        "system": chat.system_open,
        "user": chat.user_open,
        "assistant": chat.assistant_open,
    }
    said = [f"{opened[turn.role]}{chat.neutral(turn.text.strip())}{chat.close}" for turn in turns]
    said.append(chat.assistant_open)
    return (chat.begin + said[0], *said[1:])


def target_text(arguments: Arguments, schema: JsonSchema) -> str:
    """Write arguments as the model is trained to write them: compact, in the schema's order."""
    return json.dumps(_ordered(arguments, schema), ensure_ascii=False, separators=(",", ":"))


def signature(tool: ToolSpec) -> str:
    """Render a tool as `name(path, head?, edits[oldText, newText])`."""
    return tool.name + _parameters(tool.input_schema)


def parameter_lines(schema: JsonSchema) -> list[str]:
    """Render each parameter as `- unit?: cm|inch; of the result`, at most 16 of them."""
    properties, required = schema.get("properties") or {}, set(schema.get("required") or ())
    lines: list[str] = []
    for name, found in list(properties.items())[:MAX_PARAMETERS]:
        about = found.get("description") if isinstance(found, Mapping) else None
        told = [_kind(found), *([_shortened(about)] if isinstance(about, str) and about else [])]
        lines.append(f"- {name}{'' if name in required else '?'}: {'; '.join(told)}")
    return lines


def cut(text: str, limit: int) -> str:
    """Keep the beginning and the end of a long text and say how much is missing."""
    if len(text) <= limit:
        return text
    head = limit * 2 // 3
    left_out = len(text) - limit
    return (
        f"{text[:head]} … [{left_out} characters left out] … {text[len(text) - (limit - head) :]}"
    )


def _stage(chat: ChatFormat, system: str, situation: Situation, instruction: str) -> StagePrompt:
    return StagePrompt(
        static=_static(chat, system),
        context=_context(chat, situation.context),
        conversation=_conversation(chat, situation),
        instruction=f"{chat.assistant_open}{chat.neutral(instruction)}",
    )


def _static(chat: ChatFormat, system: str) -> str:
    return f"{chat.begin}{chat.system_open}{chat.neutral(system)}{chat.close}"


def _context(chat: ChatFormat, context: str) -> tuple[str, ...]:
    text = chat.neutral(context.strip())
    return (f"{chat.system_open}{text}{chat.close}",) if text else ()


def _conversation(chat: ChatFormat, situation: Situation) -> tuple[str, ...]:
    turns = [f"{chat.user_open}{chat.neutral(situation.request.strip())}{chat.close}"]
    for step in situation.steps:
        past = cut(json.dumps(step.call.arguments, ensure_ascii=False), MAX_PAST_ARGUMENT_CHARS)
        call = chat.neutral(f"{step.call.tool_set} {step.call.tool} {past}")
        seen = chat.neutral(_observed("Error: " if step.is_error else "Result: ", step))
        turns.append(f"{chat.assistant_open}{call}{chat.close}")
        turns.append(f"{chat.user_open}{seen}{chat.close}")
    return tuple(turns)


def _observed(head: str, step: Step) -> str:
    return head + cut(step.observation.strip(), MAX_OBSERVATION_CHARS)


def _tool_list(tool_set: str, tools: Sequence[ToolSpec]) -> str:
    limit = MAX_DESCRIPTION_CHARS if len(tools) <= MAX_NAMES_PER_SET else MAX_DESCRIPTION_CHARS // 2
    lines = [f"- {signature(t)}: {_first_sentence(t.description, limit)}" for t in tools]
    return "\n".join([f"Tools of {tool_set}:", *lines])


def _tool_names(tools: Sequence[ToolSpec]) -> str:
    names = [t.name for t in tools[:MAX_NAMES_PER_SET]]
    more = len(tools) - len(names)
    return ", ".join(names) + (f" and {more} more" if more > 0 else "")


def _first_sentence(text: str, limit: int) -> str:
    line = " ".join(text.split())
    sentence = line.split(". ", 1)[0].rstrip(".")
    if len(sentence) <= limit:
        return sentence
    return sentence[:limit].rsplit(" ", 1)[0]


def _parameters(schema: JsonSchema) -> str:
    properties = schema.get("properties") or {}
    required = set(schema.get("required") or ())
    parts = [
        name + ("" if name in required else "?") + _nested(p) for name, p in properties.items()
    ]
    return f"({', '.join(parts)})"


def _kind(schema: object) -> str:
    """Name a parameter's type, or the values that it may have."""
    if not isinstance(schema, Mapping):
        return "any"
    if isinstance(choices := schema.get("enum"), list):
        return "|".join(str(choice) for choice in choices[:MAX_CHOICES])
    kind = schema.get("type")
    if kind == "array":
        return f"list of {_kind(schema.get('items'))}"
    if kind == "object" and isinstance(inner := schema.get("properties"), Mapping):
        return f"object[{', '.join(inner)}]"
    return kind if isinstance(kind, str) else "any"


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return (
        line if len(line) <= MAX_PARAMETER_CHARS else line[:MAX_PARAMETER_CHARS].rsplit(" ", 1)[0]
    )


def _nested(schema: object) -> str:
    if not isinstance(schema, Mapping):
        return ""
    if isinstance(choices := schema.get("enum"), list):
        return "=" + "|".join(str(c) for c in choices[:6])
    items = schema.get("items")
    if isinstance(items, Mapping) and isinstance(inner := items.get("properties"), Mapping):
        return f"[{', '.join(inner)}]"
    return "[]" if schema.get("type") == "array" else ""


def _ordered(value: object, schema: object) -> object:
    if not isinstance(schema, Mapping):
        return value
    if isinstance(value, Mapping):
        properties = schema.get("properties") or {}
        known = [key for key in properties if key in value]
        keys = known + [key for key in value if key not in properties]
        return {key: _ordered(value[key], properties.get(key)) for key in keys}
    if isinstance(value, list):
        return [_ordered(item, schema.get("items")) for item in value]
    return value
