"""Marks for one adapter alone, in torch: names by their probability, arguments exactly."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

import torch
from torch import Tensor

from afx_train.batching import Shown, by_tokens
from afx_train.codec import Tokens
from afx_train.examples import Example
from afx_train.model import AdaptedModel, Rows
from afx_train.score import Share, share
from afx_train.scoring import score_targets
from afx_train.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One example's mark. chosen and probability: of the best name; empty for arguments."""

    example: Example
    right: bool
    chosen: str = ""
    probability: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterReport:
    """An adapter's marks on a split."""

    name: str
    split: str
    accuracy: Share
    per_label: dict[str, Share]
    verdicts: tuple[Verdict, ...]


def evaluate_adapter(
    model: AdaptedModel, task: Task, examples: Sequence[Example], *, split: str, limit: int = 0
) -> AdapterReport:
    """Mark an adapter on examples, at most `limit` of them (0: all), under the plain catalog."""
    chosen = list(examples)
    if limit and len(chosen) > limit:
        chosen = Random(f"{task.recipe.seed}/{task.plan.name}/evaluate").sample(chosen, limit)
    mark = _mark_arguments if task.plan.subtask == "arguments" else _mark_names
    verdicts = tuple(v for rows in task.evaluation(chosen) for v in mark(model, task, rows))
    by_label: dict[str, list[bool]] = defaultdict(list)
    for verdict in verdicts:
        by_label[verdict.example.label].append(verdict.right)
    return AdapterReport(
        name=task.plan.name,
        split=split,
        accuracy=share(v.right for v in verdicts),
        per_label={label: share(by_label[label]) for label in sorted(by_label)},
        verdicts=verdicts,
    )


def threshold(verdicts: Sequence[Verdict]) -> float:
    """The probability below which refusing a name gives the most right decisions on these.

    A refused name counts as the stop label. The lowest of equally good thresholds is taken.
    """
    best, most = 0.0, sum(v.right for v in verdicts)
    for candidate in sorted({v.probability for v in verdicts}):
        right = sum(
            v.right if v.probability >= candidate else v.example.label == v.example.stop
            for v in verdicts
        )
        if right > most:
            best, most = candidate, right
    return round(best, 4)


def _mark_arguments(model: AdaptedModel, task: Task, rows: list[Shown]) -> list[Verdict]:
    """Exact match: constrained greedy decoding writes the target or an accepted one."""
    tried = [
        Shown(example=replace(row.example, target=target, accept=()), variant=row.variant)
        for row in rows
        for target in (row.example.target, *row.example.accept)
    ]
    right: dict[str, bool] = defaultdict(bool)
    for part in by_tokens(tried, task.settings.training.batch_tokens):
        scores = score_targets(model, part, [task.constraint(row) for row in part])
        for row, score in zip(part, scores, strict=True):
            right[row.example.key] |= score.written
    return [Verdict(example=row.example, right=right[row.example.key]) for row in rows]


def _mark_names(model: AdaptedModel, task: Task, rows: list[Shown]) -> list[Verdict]:
    verdicts: list[Verdict] = []
    for row, candidates, probabilities in _name_probabilities(model, task, rows):
        best = int(probabilities.argmax())
        label = task.codec.text(candidates[best])
        verdicts.append(
            Verdict(
                example=row.example,
                right=label == row.example.label,
                chosen=label,
                probability=float(probabilities[best]),
            )
        )
    return verdicts


def _name_probabilities(
    model: AdaptedModel, task: Task, rows: list[Shown]
) -> list[tuple[Shown, tuple[Tokens, ...], Tensor]]:
    """Probability of each candidate, renormalized over the candidates' tokens at every branch."""
    static = rows[0].variant.static
    prompts = Rows(
        before=[row.example.before for row in rows], tokens=[row.example.prompt for row in rows]
    )
    with torch.no_grad():
        hidden, pasts = model.prefill(static, prompts)
        ends = torch.tensor([len(t) for t in prompts.tokens]).cumsum(0) - 1
        first = model.logits(hidden[ends]).cpu()
        found = []
        for at, row in enumerate(rows):
            candidates = task.candidates(row)
            tails = [candidate[:-1] for candidate in candidates]
            later = model.extended(static, [pasts[at]] * len(tails), tails)
            logits = torch.split(model.logits(later).cpu(), [len(t) for t in tails])
            full = [torch.cat([first[at : at + 1], part]) for part in logits]
            found.append((row, candidates, _trie_probabilities(candidates, full)))
    return found


def _trie_probabilities(candidates: Sequence[Tokens], logits: Sequence[Tensor]) -> Tensor:
    """logits: for each candidate (tokens, vocabulary)."""
    following: dict[Tokens, set[int]] = defaultdict(set)
    for candidate in candidates:
        for at, token in enumerate(candidate):
            following[candidate[:at]].add(token)
    probabilities = torch.ones(len(candidates))
    for number, (candidate, rows) in enumerate(zip(candidates, logits, strict=True)):
        for at, token in enumerate(candidate):
            allowed = sorted(following[candidate[:at]])
            if len(allowed) > 1:
                among = rows[at, allowed].softmax(0)
                probabilities[number] *= among[allowed.index(token)]
    return probabilities
