"""How probable `none` must be, found on decided development cases."""

import json
from pathlib import Path
from typing import Any

import pytest

from afx_train.calibrate import Doubt, best_threshold, calibrate
from afx_train.errors import DataError
from agentflux.contracts.cards import AdapterCard, read_card, write_card


def doubt(probability: float, right: str) -> Doubt:
    return Doubt(probability=probability, none_right=right == "none", name_right=right == "name")


def test_the_threshold_parts_what_none_and_what_the_name_gets_right() -> None:
    doubts = [doubt(0.3, "name"), doubt(0.5, "name"), doubt(0.55, ""), doubt(0.9, "none")]
    found = best_threshold(doubts)
    assert 0.5 < found.min_none <= 0.9
    assert (found.doubts, found.right, found.right_before) == (4, 3, 1)


def test_among_equal_thresholds_the_lowest_is_taken() -> None:
    assert best_threshold([doubt(0.4, "none"), doubt(0.8, "")]).min_none < 0.4
    assert best_threshold([doubt(0.4, "name"), doubt(0.4, "none")]).min_none < 0.4


def stage(kind: str, choice: str, probability: float, *others: tuple[str, float]) -> dict[str, Any]:
    return {"stage": kind, "choice": choice, "probability": probability, "alternatives": others}


def files(tmp_path: Path, decided: list[tuple[str | None, list[dict[str, Any]]]]) -> list[Path]:
    """One case each: the gold tool (of set git; None: no call) and the stages."""
    cases, predictions = tmp_path / "cases.jsonl", tmp_path / "predictions.jsonl"
    gold = [{"tool_set": "git" if tool else None, "tool": tool} for tool, _ in decided]
    rows = [{"id": str(n), "query": "?", "gold": g} for n, g in enumerate(gold)]
    made = [
        {"id": str(n), "tool_set": None, "tool": None, "stages": stages}
        for n, (_, stages) in enumerate(decided)
    ]
    for path, lines in ((cases, rows), (predictions, made)):
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return [cases, predictions]


def card(folder: Path, name: str, subtask: str) -> Path:
    path = folder / name
    path.mkdir(parents=True)
    facts = {"boundary": "request", "base_model": "m", "base_weights_sha256": "0" * 64}
    write_card(path, AdapterCard.model_validate({"name": name, "subtask": subtask, **facts}))
    return path


def test_a_selector_is_judged_on_what_the_router_sends_it(tmp_path: Path) -> None:
    sent, wrong = stage("route", "git", 0.9), stage("route", "time", 0.9)
    weak = ("none", 0.6, ("log", 0.3))
    decided = [
        ("log", [sent, stage("select", *weak)]),
        ("log", [sent, stage("select", "log", 0.3, ("none", 0.6))]),  # overruled already
        ("log", [sent, stage("select", "log", 0.8, ("none", 0.1))]),  # never in doubt
        ("log", [wrong, stage("select", *weak)]),  # the name would be wrong
        (None, [sent, stage("select", "none", 0.9, ("log", 0.1))]),
    ]
    adapters = tmp_path / "adapters"
    git, route = card(adapters, "select.git", "select"), card(adapters, "route", "route")
    found = calibrate(*files(tmp_path, decided), adapters)["select"]
    assert (found.doubts, found.right) == (4, 3)
    assert 0.6 < found.min_none <= 0.9
    cards = [read_card(path) for path in (git, route)]
    assert [c.calibration.min_none for c in cards if c] == [found.min_none, 0.0]


def test_predictions_without_a_doubt_say_what_is_missing(tmp_path: Path) -> None:
    decided = [("log", [stage("route", "git", 0.9), stage("select", "log", 0.9)])]
    with pytest.raises(DataError, match="min_none above 0"):
        calibrate(*files(tmp_path, decided), tmp_path)
