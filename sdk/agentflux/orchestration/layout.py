"""A stage's prompt as the engine takes it: segments, each with the adapter that acts on it."""

from agentflux.contracts.bundle import AdapterEntry
from agentflux.contracts.prompts import StagePrompt
from agentflux.ports import Segment


def segments(prompt: StagePrompt, adapter: AdapterEntry | None) -> tuple[Segment, ...]:
    """Lay the prompt out for the engine. The static piece is worth keeping."""
    if adapter is None:
        pieces = prompt.pieces()
        return tuple(Segment(text=p, keep=p == prompt.static) for p in pieces)
    base, adapted = prompt.split(adapter.boundary)
    shared = tuple(Segment(text=p, keep=p == prompt.static) for p in base)
    own = (Segment(text=p, adapter=adapter.name, keep=p == prompt.static) for p in adapted)
    return (*shared, *own)
