"""Thresholds under which an adapter's choice is refused, set on development data.

A choice whose probability is below `calibration.min_probability` of its adapter counts as the stop
label (`none`, or `finish` after a call). The decisions come from adapters marked in torch
(`evaluate --calibrate`) or from what a bundle answered on a device (`calibrate --refuse`).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import floor
from pathlib import Path
from typing import Any, Literal, get_args

from afx_train.errors import RecipeError
from afx_train.score import Marked, choices
from agentflux.contracts.cards import read_card, write_card

Criterion = Literal["right", "f1"]
CRITERIA: tuple[Criterion, ...] = get_args(Criterion)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One choice among names.

    probability: of the chosen name. stops: it is the stop label. should_stop: that would be right.
    """

    probability: float
    right: bool
    stops: bool
    should_stop: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusals:
    """What a threshold does to some decisions.

    right: decisions that are right. precision: of those that stop, how many should; recall: of
    those that should stop, how many do; both 0 of nothing.
    """

    threshold: float
    count: int
    right: int
    stopped: int
    rightly_stopped: int
    should_stop: int

    @property
    def precision(self) -> float:
        return self.rightly_stopped / max(1, self.stopped)

    @property
    def recall(self) -> float:
        return self.rightly_stopped / max(1, self.should_stop)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 0 where nothing is stopped rightly."""
        return 2 * self.rightly_stopped / max(1, self.stopped + self.should_stop)

    def value(self, criterion: Criterion) -> float:
        """What a threshold is chosen by; the count of right decisions settles equal F1."""
        return float(self.right) if criterion == "right" else self.f1


def refusals(decisions: Sequence[Decision], threshold: float) -> Refusals:
    """Count what refusing every choice below a threshold gives."""
    stops = [d.stops or d.probability < threshold for d in decisions]
    return Refusals(
        threshold=threshold,
        count=len(decisions),
        right=sum(d.should_stop if d.probability < threshold else d.right for d in decisions),
        stopped=sum(stops),
        rightly_stopped=sum(s and d.should_stop for s, d in zip(stops, decisions, strict=True)),
        should_stop=sum(d.should_stop for d in decisions),
    )


def best_threshold(decisions: Sequence[Decision], criterion: Criterion = "right") -> Refusals:
    """Find the threshold that is best on these; of equally good ones the lowest.

    right: the most right decisions. f1: the best harmonic mean of the precision and recall of
    stopping, which refuses more.
    """
    candidates = sorted({0.0, *(_up(d.probability) for d in decisions)})
    tried = [refusals(decisions, threshold) for threshold in candidates]
    return max(tried, key=lambda r: (r.value(criterion), r.right, -r.threshold))


def _up(probability: float) -> float:
    """The next of the 4-digit numbers that cards hold, so that a choice can lie just below it."""
    return min(1.0, (floor(probability * 10_000 + 1e-6) + 1) / 10_000)


def device_decisions(marked: Iterable[Marked]) -> dict[str, list[Decision]]:
    """The decisions that the adapters of a bundle made in `afx eval`'s predictions."""
    found: dict[str, list[Decision]] = defaultdict(list)
    for one in marked:
        for stage, label in choices(one):
            if stage["adapter"] is not None:
                found[stage["adapter"]].append(_decision(stage, label, one.stop))
    return dict(found)


def _decision(stage: Mapping[str, Any], label: str, stop: str) -> Decision:
    return Decision(
        probability=float(stage.get("probability") or 0.0),
        right=stage["choice"] == label,
        stops=stage["choice"] == stop,
        should_stop=label == stop,
    )


def refuse_in_cards(
    adapters: Path, decisions: Mapping[str, Sequence[Decision]], criterion: Criterion
) -> dict[str, tuple[Refusals, Refusals]]:
    """Write each adapter's threshold into its card. Returns what it does, and what 0 does.

    Raises:
        RecipeError: none of the adapters that decided lies in the folder.
        ConfigError: a card is not valid.
    """
    done: dict[str, tuple[Refusals, Refusals]] = {}
    for name, made in sorted(decisions.items()):
        folder = adapters / name
        card = read_card(folder) if folder.is_dir() else None
        if card is None:
            continue
        best = best_threshold(made, criterion)
        write_card(folder, card.with_thresholds({"min_probability": best.threshold}))
        done[name] = best, refusals(made, 0.0)
    if not done:
        names = ", ".join(sorted(decisions)) or "no adapter at all"
        raise RecipeError(f"holds none of the adapters that decided: {names}", where=str(adapters))
    return done
