"""What a constrained greedy decoder would write, told from one teacher-forced pass.

The right target is written exactly if at each of its positions its token is the best among the
tokens that the constraint allows there. No decoding is needed to know that.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import llguidance
import numpy as np
import torch
from torch import Tensor

from afx_train.batching import Shown, collate
from afx_train.codec import Codec, Tokens
from afx_train.model import AdaptedModel, Rows
from agentflux.contracts.tools import ToolSpec


@dataclass(frozen=True, slots=True)
class Greedy:
    """Whether the target would be written, and its probability among what is allowed.

    wrong_at: the target's first position where another token is better; instead: that token.
    """

    written: bool
    probability: float
    wrong_at: int | None = None
    instead: int | None = None


class NameConstraint:
    """Candidates as token sequences: what may follow each beginning."""

    def __init__(self, candidates: Iterable[Tokens]) -> None:
        self._next: dict[Tokens, set[int]] = {}
        for candidate in candidates:
            for at, token in enumerate(candidate):
                self._next.setdefault(candidate[:at], set()).add(token)

    def allowed(self, target: Tokens) -> Iterator[Tensor | None]:
        """Token ids allowed at each position of the target; None where only one is."""
        for at in range(len(target)):
            choices = sorted(self._next[target[:at]])
            yield torch.tensor(choices) if len(choices) > 1 else None


class ArgumentConstraint:
    """A tool's schema, as llguidance enforces it."""

    def __init__(self, codec: Codec, tool: ToolSpec) -> None:
        self._codec, self._tool = codec, tool

    def allowed(self, target: Tokens) -> Iterator[Tensor | None]:
        """Token ids allowed at each position of the target; None where only one is."""
        matcher = llguidance.LLMatcher(self._codec.constrained, self._codec.grammar(self._tool))
        for token in target:
            forced = matcher.compute_ff_tokens()
            yield None if forced else allowed_ids(matcher.compute_bitmask())
            matcher.consume_token(token)


Constraint = NameConstraint | ArgumentConstraint


def score_targets(
    model: AdaptedModel, rows: Sequence[Shown], constraints: Sequence[Constraint]
) -> list[Greedy]:
    """Score each row's target under its constraint. All rows share one static prefix."""
    batch = collate(rows)
    with torch.no_grad():
        hidden = model.hidden(batch.static, Rows.of(batch))
        logits = model.logits(hidden[list(batch.supervised)]).cpu()
    scored: list[Greedy] = []
    start = 0
    for row, constraint in zip(rows, constraints, strict=True):
        target = row.example.target
        scored.append(_follow(logits[start : start + len(target)], target, constraint))
        start += len(target)
    return scored


def _follow(logits: Tensor, target: Tokens, constraint: Constraint) -> Greedy:
    probability, wrong_at, instead = 1.0, None, None
    rows = zip(logits, target, constraint.allowed(target), strict=True)
    for at, (row, token, allowed) in enumerate(rows):
        if allowed is None:
            continue
        among = row[allowed].softmax(0)
        mine = float(among[(allowed == token).nonzero()[0, 0]])
        probability *= mine
        if wrong_at is None and mine < float(among.max()):
            wrong_at, instead = at, int(allowed[among.argmax()])
    return Greedy(wrong_at is None, probability, wrong_at, instead)


def allowed_ids(mask: bytes) -> Tensor:
    """Token ids whose bit is set in a matcher's mask, in order."""
    bits = np.unpackbits(np.frombuffer(mask, dtype=np.uint8), bitorder="little")
    return torch.from_numpy(bits.nonzero()[0])


@lru_cache(maxsize=512)
def name_constraint(candidates: tuple[Tokens, ...]) -> NameConstraint:
    """Build a constraint once per set of candidates."""
    return NameConstraint(candidates)
