"""Where an activated LoRA (PEFT's `alora_invocation_tokens`) begins to act on our prompts."""

from collections.abc import Callable

from afx_export.adapters import Adapter
from afx_export.errors import AdapterRefused
from afx_export.placement import Placed
from afx_export.stage_prompts import stage_prompts
from agentflux.contracts.prompts import Boundary, ChatFormat


def activation_boundary(
    placed: Placed, adapter: Adapter, chat: ChatFormat, encode: Callable[[str], list[int]]
) -> Boundary:
    """Return the adapter's boundary: its card's, or the one that its invocation tokens mark.

    PEFT activates such an adapter at the last occurrence of its invocation tokens. On our prompts
    that is a boundary only where the tokens open the stage's instruction.

    Raises:
        AdapterRefused: they mark another place, or one that its card contradicts.
    """
    tokens = adapter.invocation_tokens
    said = placed.card.boundary if placed.card else None
    if not tokens:
        return said or "request"
    for prompt in stage_prompts(chat, placed.place.subtask):
        begins = encode(prompt.instruction)
        if tuple(begins[: len(tokens)]) != tokens:
            raise AdapterRefused(
                adapter.name,
                f"alora_invocation_tokens {list(tokens)} do not open the stage's instruction "
                f"({prompt.instruction!r} is {begins}); train it with a start of that",
            )
    if said == "request":
        raise AdapterRefused(
            adapter.name,
            "its card says boundary 'request', alora_invocation_tokens say 'instruction'",
        )
    return "instruction"


__all__ = ["activation_boundary"]
