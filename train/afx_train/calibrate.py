"""Find on development cases how probable a `none` must be before a stage believes it.

The cases are decided by the exported bundle as it will be used (`afx eval`), so a selector is
judged on what its router sends it, not on the share of hopeless requests that it was trained with.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from afx_train.errors import DataError
from afx_train.score import Marked, choices, read_marks
from agentflux.contracts.cards import read_card, write_card
from agentflux.contracts.prompts import NONE, Subtask


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """A stage at which `none` was weighed against the likeliest name."""

    probability: float
    none_right: bool
    name_right: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A threshold, and how many of the doubts are decided right with it and with 0."""

    min_none: float
    doubts: int
    right: int
    right_before: int


def calibrate(cases: Path, predictions: Path, adapters: Path) -> dict[Subtask, Found]:
    """Set `min_none` in the cards of all routers and selectors of a folder.

    One threshold for the routers and one for all selectors: a single selector meets too few doubts.

    Raises:
        DataError: a file is malformed, or no stage of the predictions weighed a `none`.
        ConfigError: a card is not valid.
    """
    marked = read_marks(cases, predictions)
    found: dict[Subtask, Found] = {
        subtask: best_threshold(doubts)
        for subtask in _STAGES
        if (doubts := list(_doubts(marked, subtask)))
    }
    if not found:
        raise DataError(
            "no stage weighed a `none` against a name; decide the cases with a bundle of adapters "
            "whose cards have calibration.min_none above 0",
            where=str(predictions),
        )
    if not adapters.is_dir():
        raise DataError("is no folder of adapters", where=str(adapters))
    for folder in sorted(path for path in adapters.iterdir() if path.is_dir()):
        card = read_card(folder)
        if card is not None and card.subtask in found:
            write_card(folder, card.with_thresholds({"min_none": found[card.subtask].min_none}))
    return found


def best_threshold(doubts: Sequence[Doubt]) -> Found:
    """Return the threshold that decides most doubts right; between equals, the lowest.

    It lies in the middle between two probabilities that were seen, so that it generalizes.
    """
    ordered = sorted(doubts, key=lambda d: d.probability)
    levels = [0.0, *(d.probability for d in ordered), 1.0]
    right = before = sum(d.none_right for d in ordered)
    best, most = _LOWEST, right
    for at, doubt in enumerate(ordered):
        right += doubt.name_right - doubt.none_right
        if right > most and levels[at + 2] > levels[at + 1]:
            best, most = (levels[at + 1] + levels[at + 2]) / 2, right
    return Found(min_none=round(best, 4), doubts=len(ordered), right=most, right_before=before)


_STAGES: tuple[Subtask, ...] = ("route", "select")
_LOWEST = 0.01  # not 0, with which the runner-up is not told and nothing can be found again


def _doubts(marked: Iterable[Marked], subtask: Subtask) -> Iterator[Doubt]:
    for mark in marked:
        for stage, label in choices(mark):
            if stage["stage"] == subtask and (weighed := _weighed(stage)):
                probability, name = weighed
                yield Doubt(
                    probability=probability,
                    none_right=mark.gold["tool_set"] is None,
                    name_right=name == label,
                )


def _weighed(stage: Mapping[str, Any]) -> tuple[float, str] | None:
    """Return the probability of `none` and the likeliest name, where both were considered."""
    others = stage.get("alternatives") or ()
    if not others or NONE not in (stage["choice"], others[0][0]):
        return None
    if stage["choice"] == NONE:
        return stage["probability"], others[0][0]
    # A `none` that stands behind a more probable name was never in doubt.
    return None if others[0][1] < stage["probability"] else (others[0][1], stage["choice"])
