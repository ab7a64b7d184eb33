"""The two seams of the SDK: an engine that computes, a host that calls tools.

State goes into the request, not into the object. An engine may keep KV cache between requests, but
what it kept must not change a result.
"""

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from agentflux.contracts.tools import ToolCall, ToolResult, ToolSpec
from agentflux.errors import Cancelled


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A piece of the prompt, tokenized apart, computed under one adapter (None: the base).

    `keep` marks text that many requests share: an engine should keep its KV cache.
    """

    text: str
    adapter: str | None = None
    keep: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """Decode text after the segments, under the last segment's adapter.

    grammar: an llguidance grammar that the text must match; None for free text. keep_grammar: many
    requests use it (a tool's own), so an engine should keep it compiled.
    temperature: 0 is greedy. seed: only read when temperature is above 0.
    top_p: sample only among the likeliest tokens that hold this share. stop: texts that end the
    decoding and are not part of its result.
    repetition_penalty: divides the positive logits of tokens decoded before (and multiplies the
    negative ones); 1 is none. Source: Keskar et al. 2019 (arXiv:1909.05858), section 4.1.
    rollouts: under a grammar, the likeliest of so many greedy texts is taken, each from the
    likeliest beginning that could still be likelier; 1 is the greedy text alone. Only where
    temperature is 0, without stop texts and penalty.
    """

    segments: Sequence[Segment]
    max_tokens: int
    grammar: str | None = None
    keep_grammar: bool = False
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: Sequence[str] = ()
    repetition_penalty: float = 1.0
    rollouts: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How free decoding picks a token; see `Generation`. The same seed gives the same text."""

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Choosing:
    """Score the candidates as continuations of the segments, each ended by the end token.

    doubted: where this candidate is the best one, the likeliest other stands first among the
    alternatives, at the price of searching on. rival: the probability of this candidate is told,
    at the price of the passes that its name's branches need. every: that of each candidate is.
    """

    segments: Sequence[Segment]
    candidates: Sequence[str]
    doubted: str | None = None
    rival: str | None = None
    every: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What one request cost. Tokens of the prompt: `prefill_tokens` + `reused_tokens`.

    decoded_tokens: produced, the forced ones and those of other rollouts among them. forced_tokens:
    those of the text that the grammar dictated, appended without a choice. adapter_switches: on
    the live generator.
    """

    prefill_tokens: int = 0
    reused_tokens: int = 0
    decoded_tokens: int = 0
    forced_tokens: int = 0
    adapter_switches: int = 0
    ms: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """Decoded text. finish: "stop" (end token, stop text, complete grammar) or "length".

    support: under a grammar, the smallest share of the model's own probability that the grammar
    left over, among the tokens decoded freely. Near 0 the model wanted to write something else
    there. support_at: the characters decoded before that token.
    """

    text: str
    finish: str
    usage: Usage
    support: float = 1.0
    support_at: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """The best candidate, its probability among all candidates, and the lead over the runner-up.

    Probabilities are renormalized over the candidates' tokens at every branch. `margin` uses the
    runner-up's upper bound, so the true lead is at least this large. entropy: in nats, a lower
    bound for the same reason. alternatives: the likeliest others whose probability is known.
    """

    best: str
    probability: float
    margin: float
    usage: Usage
    entropy: float = 0.0
    alternatives: tuple[tuple[str, float], ...] = ()


class CancelToken:
    """Lets another thread stop a run. Checked between tokens and between stages."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        """Ask the run to stop."""
        self._event.set()

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._event.is_set()


def check_cancelled(cancel: CancelToken | None) -> None:
    """Raise Cancelled when the token was set."""
    if cancel is not None and cancel.cancelled:
        raise Cancelled("the run was cancelled")


class Engine(Protocol):
    """Computes under adapters. Thread-safe: requests of several threads take turns."""

    def generate(
        self,
        request: Generation,
        *,
        on_text: Callable[[str], None] | None = None,
        cancel: CancelToken | None = None,
    ) -> Completion:
        """Decode. `on_text` gets each new piece of text.

        Raises:
            ContextOverflow, AdapterNotFound, EngineError, Cancelled.
        """
        ...

    def choose(self, request: Choosing, *, cancel: CancelToken | None = None) -> Scores:
        """Score candidates. Raises as `generate` does."""
        ...

    def close(self) -> None:
        """Free native memory. Further requests raise EngineError."""
        ...


@runtime_checkable
class ToolHost(Protocol):
    """Calls tools. A failed tool is a result; a server that cannot be used raises."""

    def list_tools(self) -> Sequence[ToolSpec]:
        """Return all tools of all sets.

        Raises:
            ToolHostError: a server did not start or is gone.
        """
        ...

    def call(self, call: ToolCall, *, timeout_s: float) -> ToolResult:
        """Call a tool once. A failure, time-out or death of the server is a result `is_error`.

        Raises:
            ToolHostError: the server was already gone and could not be started again.
        """
        ...

    def close(self) -> None:
        """End the servers."""
        ...


@runtime_checkable
class ChangingHost(Protocol):
    """A host whose tools may change while it is open."""

    @property
    def revision(self) -> int:
        """A number that differs whenever `list_tools` may answer something else than before."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRecord:
    """One stage of a run, as traces, `afx eval` and `afx run --json` show it."""

    stage: str
    adapter: str | None
    choice: str | None = None
    probability: float | None = None
    margin: float | None = None
    entropy: float | None = None
    alternatives: tuple[tuple[str, float], ...] | None = None
    usage: Usage = field(default_factory=Usage)

    def log_odds(self, name: str) -> float:
        """Return the log-odds of a candidate; 0 where its probability was not told."""
        told = dict(self.alternatives or ())
        share = self.probability if name == self.choice else told.get(name)
        if share is None:
            return 0.0
        share = min(max(share, _LEAST), 1 - _LEAST)
        return math.log(share / (1 - share))


_LEAST = 1e-6
