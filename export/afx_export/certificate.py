"""Compare a finished graph with transformers + PEFT, token by token."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Protocol

import numpy as np

from afx_export.adapters import FloatArray
from afx_export.errors import CertificateFailed
from afx_export.stage_prompts import (
    TOKENS_PER_PROMPT,
    Check,
    base_checks,
    checks_of,
)
from agentflux.contracts.bundle import AdapterEntry, ParityRow
from agentflux.contracts.prompts import ChatFormat

BASE = "base"
# Two logits closer than this are a tie: fp32 rounding may order them either way.
TIE = 1e-3
_VERSIONED = ("agentflux-edge", "onnxruntime", "onnxruntime-genai", "peft", "torch", "transformers")

Encode = Callable[[str], list[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Greedy tokens, and the logits that each was chosen from: (tokens, vocabulary)."""

    tokens: tuple[int, ...]
    logits: FloatArray


class Scorer(Protocol):
    """One side of the comparison: a graph, or transformers + PEFT."""

    def logits(
        self, adapter: str | None, base: Sequence[int], adapted: Sequence[int], fed: Sequence[int]
    ) -> FloatArray:
        """Return one row of logits for each fed token: those that it would be chosen from."""
        ...


class Decoder(Scorer, Protocol):
    """A graph that decodes on its own."""

    def greedy(
        self, adapter: str | None, base: Sequence[int], adapted: Sequence[int], count: int
    ) -> Answer:
        """Decode greedily and keep the logits."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A check as token ids, with the tokens that the fp32 graph decoded for it."""

    check: Check
    base: tuple[int, ...]
    adapted: tuple[int, ...]
    answer: Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """Rows for the manifest, and what a person must be told of."""

    rows: tuple[ParityRow, ...]
    ties: int
    wrong: tuple[str, ...]


def versions() -> dict[str, str]:
    """Return the versions that the certificate depends on."""
    found: dict[str, str] = {}
    for name in _VERSIONED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def tokenizer_of(folder: Path) -> Encode:
    """Return the encoder of a folder's tokenizer.json, control tokens read as such."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return lambda text: list(tokenizer.encode(text, add_special_tokens=False).ids)


def decode(
    graph: Decoder, chat: ChatFormat, adapters: Sequence[AdapterEntry], encode: Encode
) -> tuple[Question, ...]:
    """Let the fp32 graph decode every check: the base's and every adapter's."""
    checks = [*base_checks(chat), *(c for entry in adapters for c in checks_of(chat, entry))]
    # Checks that share a prefix stand together, so both sides compute it once.
    checks.sort(key=lambda check: check.base)
    return tuple(_decode(graph, check, encode) for check in checks)


def _decode(graph: Decoder, check: Check, encode: Encode) -> Question:
    base = tuple(token for piece in check.base for token in encode(piece))
    adapted = tuple(token for piece in check.adapted for token in encode(piece))
    answer = graph.greedy(check.adapter, base, adapted, TOKENS_PER_PROMPT)
    return Question(check=check, base=base, adapted=adapted, answer=answer)


def score(side: Scorer, questions: Iterable[Question]) -> tuple[FloatArray, ...]:
    """Return a side's logits at every decoded token.

    Where its best token is the decoded one at every step, it would have decoded the same; feeding
    one side's tokens to all keeps later steps comparable after a difference.
    """
    return tuple(
        side.logits(q.check.adapter, q.base, q.adapted, q.answer.tokens) for q in questions
    )


def compare(
    questions: Sequence[Question], found: Sequence[FloatArray], wanted: Sequence[FloatArray]
) -> Parity:
    """Compare logits with the reference's (`wanted`), by adapter."""
    tallies: dict[str, _Tally] = {}
    for question, ours, theirs in zip(questions, found, wanted, strict=True):
        tallies.setdefault(question.check.adapter or BASE, _Tally()).add(ours, theirs)
    order = sorted(tallies, key=lambda name: (name != BASE, name))
    return Parity(
        rows=tuple(tallies[name].row(name) for name in order),
        ties=sum(tally.ties for tally in tallies.values()),
        wrong=tuple(name for name in order if tallies[name].wrong),
    )


class _Tally:
    """Running sums of one adapter."""

    def __init__(self) -> None:
        self.prompts = self.tokens = self.equal = self.ties = self.wrong = 0
        self.worst = self.total = 0.0

    def add(self, ours: FloatArray, theirs: FloatArray) -> None:
        """Count one prompt."""
        # A graph's vocabulary may be padded.
        width = min(ours.shape[1], theirs.shape[1])
        ours, theirs = ours[:, :width], theirs[:, :width]
        error = np.abs(ours - theirs)
        # NaN would compare as neither larger nor smaller: make it the worst error.
        error = np.where(np.isfinite(error), error, np.float32(np.finfo(np.float32).max))
        same = ours.argmax(axis=1) == theirs.argmax(axis=1)
        top = np.partition(theirs, -2, axis=1)[:, -2:]
        tied = (top[:, 1] - top[:, 0]) < TIE
        self.prompts += 1
        self.tokens += len(ours)
        self.equal += int(same.sum())
        self.ties += int((~same & tied).sum())
        self.wrong += int((~same & ~tied).sum())
        self.worst = max(self.worst, float(error.max()))
        self.total += float(error.mean(dtype=np.float64)) * len(ours)

    def row(self, name: str) -> ParityRow:
        """Return the manifest's row."""
        return ParityRow(
            adapter=name,
            prompts=self.prompts,
            tokens=self.tokens,
            equal_tokens=self.equal,
            max_logit_error=round(self.worst, 7),
            mean_logit_error=round(self.total / max(self.tokens, 1), 9),
        )


def require_equal(parity: Parity) -> None:
    """Let only a graph pass whose greedy tokens equal the reference's, ties aside.

    Raises:
        CertificateFailed: with the adapters that differ.
    """
    if parity.wrong:
        rows = {row.adapter: row for row in parity.rows}
        facts = ", ".join(
            f"{name} {rows[name].equal_tokens}/{rows[name].tokens} tokens equal "
            f"(max logit error {rows[name].max_logit_error:.3g})"
            for name in parity.wrong
        )
        msg = f"the fp32 graph does not compute what transformers + PEFT compute: {facts}"
        raise CertificateFailed(msg)
