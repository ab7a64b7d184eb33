"""The likeliest text that a grammar lets through, where greedy decoding finds a likely beginning.

A grammar makes the greedy choice worse than it is in free text: a token that is likely now may
leave only words that are not. Best-first search: a rollout is decoded greedily and remembers at
each free token the runner-up. What follows can only lower a probability, so the beginning with
the runner-up bounds every text behind it. The likeliest beginning is rolled out next, as long as
its bound is above the likeliest complete text. Mostly none is: then the greedy text is the best.

A text's probability is the product of the model's own over its free tokens, without
renormalizing: where the grammar leaves the model little, the text is unlikely. Tokens that the
grammar dictates count as certain, since they are appended in one pass.
"""

import heapq
import itertools
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import llguidance
import llguidance.numpy
import numpy as np

from agentflux.engines.prefix import Logits
from agentflux.errors import EngineError


class Cache(Protocol):
    """What computes the tokens."""

    def logits(self) -> Logits:
        """Return the logits after the last token. Shape (vocab_size,)."""
        ...

    def append(self, tokens: Sequence[int]) -> None:
        """Compute decoded tokens. Raises Cancelled, where the caller no longer waits."""
        ...

    def restore(self, length: int, tokens: Sequence[int]) -> None:
        """Keep the first `length` decoded tokens, forget the others and compute `tokens`."""
        ...


@dataclass(slots=True, kw_only=True)
class Rollout:
    """A text, or its beginning. support: see `agentflux.ports.Completion`; at a token here."""

    tokens: list[int] = field(default_factory=list[int])
    log_probability: float = 0.0
    forced: int = 0
    support: float = 1.0
    support_at: int = 0
    finish: str = "length"


def masked(logits: Logits, matcher: llguidance.LLMatcher) -> tuple[Logits, float, float]:
    """Return a copy in which tokens that the grammar forbids have minus infinity.

    With it the share of the model's probability that is left over, and the logarithm of the
    logits' whole (of all tokens) relative to the largest.
    """
    mask = llguidance.numpy.allocate_token_bitmask(1, logits.shape[-1])
    llguidance.numpy.fill_next_token_bitmask(matcher, mask, 0)
    rows = logits.reshape(1, -1).copy()
    llguidance.numpy.apply_token_bitmask_inplace(rows, mask)
    row: Logits = rows[0]
    shares = np.exp(logits - logits.max())
    total = float(shares.sum())
    return row, float(shares[np.isfinite(row)].sum()) / total, math.log(total)


def likeliest(
    cache: Cache,
    matcher: llguidance.LLMatcher,
    *,
    end_tokens: Collection[int],
    max_tokens: int,
    rollouts: int,
) -> tuple[Rollout, int]:
    """Return the likeliest text of at most so many rollouts, and the tokens of all of them.

    The first rollout is the greedy text, which alone may lack its end within `max_tokens`. The
    others together have at most `max_tokens`, and each ends where it can no longer be likelier.
    """
    search = _Search(cache, matcher, end_tokens, max_tokens)
    best = search.greedy()
    search.most = search.produced + max_tokens
    for _ in range(rollouts - 1):
        complete = best.log_probability if best.finish == "stop" else -math.inf
        found = search.next_above(complete)
        if found is None:
            break
        if found.finish == "stop" and found.log_probability > complete:
            best = found
    return best, search.produced


class _Search:
    def __init__(
        self,
        cache: Cache,
        matcher: llguidance.LLMatcher,
        end_tokens: Collection[int],
        max_tokens: int,
    ) -> None:
        self._cache, self._matcher = cache, matcher
        self._ends, self._max = end_tokens, max_tokens
        self._cached: list[int] = []
        self.produced = 0
        self.most = max_tokens  # that may be produced in all
        self._open: list[tuple[float, int, Rollout]] = []
        self._order = itertools.count()

    def greedy(self) -> Rollout:
        """Roll out from the start."""
        text = Rollout()
        self._roll(text, self._matcher.deep_copy(), above=-math.inf)
        return text

    def next_above(self, log_probability: float) -> Rollout | None:
        """Roll the likeliest beginning out; None where none is above, or no token is left."""
        if self.produced >= self.most:
            return None
        if not self._open or -self._open[0][0] <= log_probability:
            return None
        text = heapq.heappop(self._open)[2]
        matcher = self._matcher.deep_copy()
        matcher.consume_tokens([token for token in text.tokens if token not in self._ends])
        self._roll(text, matcher, above=log_probability)
        return text

    def _roll(self, text: Rollout, matcher: llguidance.LLMatcher, *, above: float) -> None:
        """Decode greedily to the end, or until it is not above. Runners-up become beginnings."""
        while not self._ended(text, matcher) and len(text.tokens) < self._max:
            if text.log_probability <= above or self.produced >= self.most:
                break
            self._compute(text.tokens)
            if not self._forced(text, matcher):
                self._free(text, matcher)

    def _compute(self, tokens: list[int]) -> None:
        """Bring the cache to these tokens, from whatever text it holds."""
        pairs = zip(self._cached, tokens, strict=False)
        shared = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
        kept = min(shared, max(len(tokens) - 1, 0))  # the logits are those of what comes last
        fresh = tokens[kept:]
        if kept < len(self._cached):
            self._cache.restore(kept, fresh)
        elif fresh:
            self._cache.append(fresh)
        self._cached = list(tokens)

    def _ended(self, text: Rollout, matcher: llguidance.LLMatcher) -> bool:
        if text.tokens and text.tokens[-1] in self._ends:
            text.tokens.pop()
            text.finish = "stop"
        elif matcher.is_stopped():
            text.finish = "stop"
        return text.finish == "stop"

    def _forced(self, text: Rollout, matcher: llguidance.LLMatcher) -> bool:
        left = min(self._max - len(text.tokens), self.most - self.produced)
        forced = matcher.compute_ff_tokens()[:left]
        matcher.consume_tokens(forced)
        text.tokens += forced
        text.forced += len(forced)
        self.produced += len(forced)
        return bool(forced)

    def _free(self, text: Rollout, matcher: llguidance.LLMatcher) -> None:
        logits = self._cache.logits()
        allowed, left, log_total = masked(logits, matcher)
        highest = logits.max()
        if left < text.support:
            text.support, text.support_at = left, len(text.tokens)
        token = int(allowed.argmax())
        gained = float(allowed[token] - highest) - log_total
        allowed[token] = -np.inf
        other = int(allowed.argmax())
        if np.isfinite(allowed[other]):
            lost = float(allowed[other] - highest) - log_total
            beginning = replace(
                text,
                tokens=[*text.tokens, other],
                log_probability=text.log_probability + lost,
            )
            heapq.heappush(self._open, (-beginning.log_probability, next(self._order), beginning))
        text.log_probability += gained
        text.tokens.append(token)
        self.produced += token not in self._ends
        if token not in self._ends and not matcher.consume_token(token):
            raise EngineError("no token fits the grammar", native=matcher.get_error())
