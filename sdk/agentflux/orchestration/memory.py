"""What was said and done before in a conversation, told to the next request in its context.

The stages' prompts stay what the adapters were trained on: a first request's prompt is unchanged,
later ones have a longer context. The latest exchanges are kept, within a share of the model's
context. Text that is only appended to keeps its KV cache.
"""

import json
from collections.abc import Sequence

from agentflux.contracts.lengths import cut_to, tokens_at_most
from agentflux.contracts.prompts import MAX_PAST_ARGUMENT_CHARS, cut
from agentflux.contracts.tools import Step

# Catalogs take up to half of the context, a run's own calls and results most of the rest.
_SHARE = 8
_HEAD = "Earlier in this conversation:"


class Memory:
    """The latest exchanges of one conversation."""

    def __init__(self, *, context_tokens: int) -> None:
        """context_tokens: of the model. An eighth of them is the most that memory takes."""
        self._limit = context_tokens // _SHARE
        self._exchanges: list[str] = []

    def add(self, request: str, steps: Sequence[Step], answer: str) -> None:
        """Remember an exchange. Where there is no room, the oldest ones go until half is free.

        Half, so that not every request changes the text's beginning and with it the KV cache of
        all that follows.
        """
        said = [f"User: {_line(request)}"]
        said += [f"Called: {_told(step)}" for step in steps if not step.is_error]
        said += [f"Assistant: {_line(answer)}"] if answer.strip() else []
        self._exchanges.append(cut_to("\n".join(said), self._limit / 2))
        if self._length() > self._limit:
            while len(self._exchanges) > 1 and self._length() > self._limit / 2:
                del self._exchanges[0]

    def forget(self) -> None:
        """Start anew."""
        self._exchanges.clear()

    def after(self, context: str) -> str:
        """Return a request's context, followed by what was said before."""
        if not self._exchanges:
            return context
        return "\n".join([*filter(None, [context.strip()]), _HEAD, *self._exchanges])

    def _length(self) -> float:
        return sum(map(tokens_at_most, self._exchanges))


def _told(step: Step) -> str:
    arguments = json.dumps(step.call.arguments, ensure_ascii=False)
    return f"{step.call.tool_set} {step.call.tool} {cut(arguments, MAX_PAST_ARGUMENT_CHARS)}"


def _line(text: str) -> str:
    return " ".join(text.split())
