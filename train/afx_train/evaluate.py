"""Marks for one adapter alone, in torch: names by their probability, arguments exactly."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from afx_train.batching import Shown, by_tokens
from afx_train.codec import Tokens
from afx_train.examples import Example
from afx_train.model import AdaptedModel, Rows
from afx_train.refusals import Decision
from afx_train.score import Share, share
from afx_train.scoring import Greedy, score_targets
from afx_train.task import Task
from agentflux.contracts.prompts import Subtask


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One example's mark.

    chosen and probability: of the best name. For arguments: the beginning that greedy decoding
    writes up to and with its first token that differs, and 1.
    """

    example: Example
    right: bool
    chosen: str = ""
    probability: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterReport:
    """An adapter's marks on a split, for one subtask."""

    name: str
    subtask: Subtask
    split: str
    accuracy: Share
    per_label: dict[str, Share]
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Swaps:
    """End-to-end call accuracy, own stages against gold ones (the paper's oracle swap).

    own: every stage is the adapters'. gold_set: the router is replaced by the truth. gold_tool:
    router and selector are. gold_arguments: the arguments are, so this is tool accuracy.
    own_set: tool set accuracy. Exact: a stage that was right gives the next one the true prompt.
    """

    own: Share
    gold_set: Share
    gold_tool: Share
    gold_arguments: Share
    own_set: Share


def evaluate_adapter(
    model: AdaptedModel,
    task: Task,
    examples: Sequence[Example],
    *,
    split: str,
    only: Set[str] | None = None,
) -> tuple[AdapterReport, ...]:
    """Mark an adapter under the plain catalog, one report for each subtask that it does.

    only: the trajectories whose examples are marked; None for all.
    """
    chosen = [e for e in examples if only is None or trajectory_of(e) in only]
    verdicts: dict[Subtask, list[Verdict]] = defaultdict(list)
    for rows in task.evaluation(chosen):
        subtask = rows[0].example.subtask
        mark = _mark_arguments if subtask == "arguments" else _mark_names
        verdicts[subtask] += mark(model, task, rows)
    return tuple(
        AdapterReport(
            name=task.plan.name,
            subtask=subtask,
            split=split,
            accuracy=share(v.right for v in found),
            per_label=_per_label(found),
            verdicts=tuple(found),
        )
        for subtask, found in verdicts.items()
    )


def some_trajectories(ids: Iterable[str], limit: int) -> frozenset[str] | None:
    """Choose `limit` trajectories by their ids alone, so that all stages are marked on the same.

    None stands for all of them (limit 0).
    """
    ordered = sorted(ids, key=lambda one: hashlib.sha256(one.encode()).digest())
    return frozenset(ordered[:limit]) if limit else None


def trajectory_of(example: Example) -> str:
    """The id of the trajectory that an example is derived from."""
    return example.id.rpartition("/")[0]


def swaps(reports: Iterable[AdapterReport], *, single_set: bool) -> Swaps | None:
    """Join the stages' verdicts on the same moments; None without a common one.

    single_set: only one tool set is known, so that the device skips the router.
    """
    by_stage: dict[Subtask, dict[str, Verdict]] = defaultdict(dict)
    for report in reports:
        by_stage[report.subtask] |= {v.example.id: v for v in report.verdicts}
    routed, selected = by_stage["route"], by_stage["select"]
    rows: list[tuple[bool, bool, bool]] = []
    for moment, verdict in selected.items() if single_set else routed.items():
        stops = verdict.example.label == verdict.example.stop
        if single_set or stops:
            route = single_set or verdict.right
            select = verdict.right
        elif moment in selected:
            route, select = verdict.right, selected[moment].right
        else:
            continue
        filled = by_stage["arguments"].get(moment)
        rows.append((route, select, filled is None or filled.right))
    if not rows or not selected:
        return None
    return Swaps(
        own=share(r and s and a for r, s, a in rows),
        gold_set=share(s and a for _, s, a in rows),
        gold_tool=share(a for _, _, a in rows),
        gold_arguments=share(r and s for r, s, _ in rows),
        own_set=share(r for r, _, _ in rows),
    )


def decisions(verdicts: Iterable[Verdict]) -> list[Decision]:
    """The choices among names, as thresholds are set on them."""
    return [
        Decision(
            probability=v.probability,
            right=v.right,
            stops=v.chosen == v.example.stop,
            should_stop=v.example.label == v.example.stop,
        )
        for v in verdicts
        if v.example.subtask != "arguments"
    ]


def _per_label(verdicts: Sequence[Verdict]) -> dict[str, Share]:
    by_label: dict[str, list[bool]] = defaultdict(list)
    for verdict in verdicts:
        by_label[verdict.example.label].append(verdict.right)
    return {label: share(by_label[label]) for label in sorted(by_label)}


def _mark_arguments(model: AdaptedModel, task: Task, rows: list[Shown]) -> list[Verdict]:
    """Exact match: constrained greedy decoding writes the target or an accepted one."""
    tried = [
        Shown(example=replace(row.example, target=target, accept=()), variant=row.variant)
        for row in rows
        for target in (row.example.target, *row.example.accept)
    ]
    scored: dict[str, list[tuple[Shown, Greedy]]] = defaultdict(list)
    for part in by_tokens(tried, task.settings.training.batch_tokens):
        scores = score_targets(model, part, [task.constraint(row) for row in part])
        for row, score in zip(part, scores, strict=True):
            scored[row.example.key].append((row, score))
    return [
        Verdict(
            example=row.example,
            right=any(score.written for _, score in scored[row.example.key]),
            chosen=_beginning(task, scored[row.example.key]),
        )
        for row in rows
    ]


def _beginning(task: Task, tried: Sequence[tuple[Shown, Greedy]]) -> str:
    """What would be written, up to the first token that no accepted target has."""
    row, score = max(tried, key=lambda pair: _agreed(pair[1]))
    target = row.example.target
    if score.wrong_at is None or score.instead is None:
        return task.codec.text(target)
    return task.codec.text((*target[: score.wrong_at], score.instead)) + " …"


def _agreed(score: Greedy) -> float:
    return float("inf") if score.wrong_at is None else score.wrong_at


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
    variant, examples = rows[0].variant, [row.example for row in rows]
    static = variant.static
    prompts = Rows(
        lead=variant.lead,
        before=[example.before for example in examples],
        tokens=[example.prompt for example in examples],
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
