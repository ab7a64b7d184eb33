"""Thresholds: the best of all there are, from marks in torch or from a device's answers."""

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from afx_train.errors import RecipeError
from afx_train.refusals import (
    Criterion,
    Decision,
    best_threshold,
    device_decisions,
    refusals,
    refuse_in_cards,
)
from afx_train.runs import set_refusals
from afx_train.score import read_marks
from agentflux.contracts.bundle import Calibration
from agentflux.contracts.cards import AdapterCard, read_card, write_card


@pytest.mark.parametrize("criterion", ["right", "f1"])
def test_the_threshold_is_the_best_of_all_thresholds(criterion: Criterion) -> None:
    rng = Random(4)
    for _ in range(30):
        made = [_decision(rng.choice([0.2, 0.4, 0.6, 0.8]), rng) for _ in range(12)]
        found = best_threshold(made, criterion)
        tried = {at: refusals(made, at) for at in (0.0, 0.3, 0.5, 0.7, 0.9)}
        assert found.value(criterion) == max(r.value(criterion) for r in tried.values())
        assert found == refusals(made, found.threshold)
        if tried[0.0].value(criterion) == found.value(criterion) and criterion == "right":
            assert found.threshold == 0.0


def test_refusing_the_doubtful_trades_precision_for_recall() -> None:
    doubtful = Decision(probability=0.3, right=False, stops=False, should_stop=True)
    right = Decision(probability=0.4, right=True, stops=False, should_stop=False)
    sure = Decision(probability=0.9, right=False, stops=False, should_stop=True)
    made = [doubtful, right, right, sure]
    assert best_threshold(made, "right").threshold == 0.3001
    best = best_threshold(made, "f1")
    assert (best.precision, best.recall) == (1.0, 0.5)
    assert refusals(made, 0.0).f1 == 0.0
    assert refusals(made, 0.95).recall == 1.0


def test_a_device_s_answers_set_each_adapter_s_threshold(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = [_case(0, "files", "read"), _case(1, None, None), _case(2, "files", "list", done=True)]
    predictions = [
        _prediction(0, ("route", "files", 0.9), ("select.files", "read", 0.8)),
        _prediction(1, ("route", "files", 0.4), ("select.files", "read", 0.3)),
        _prediction(2, ("route", "finish", 0.6), (None, "read", 0.1)),
    ]
    for name, lines in (("cases", cases), ("predictions", predictions)):
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (tmp_path / name).write_text(text, encoding="utf-8")
    made = device_decisions(read_marks(tmp_path / "cases", tmp_path / "predictions"))
    route = made["route"]
    assert [(d.right, d.stops, d.should_stop) for d in route] == [
        (True, False, False),
        (False, False, True),
        (False, True, False),
    ]
    assert [d.should_stop for d in made["select.files"]] == [False, True]
    assert set(made) == {"route", "select.files"}
    kept = Calibration(min_support=0.2)
    for name in ("route", "args.files"):
        (tmp_path / name).mkdir()
        write_card(tmp_path / name, _card(name).model_copy(update={"calibration": kept}))
    set_refusals(tmp_path, tmp_path / "cases", tmp_path / "predictions", "right")
    card, other = read_card(tmp_path / "route"), read_card(tmp_path / "args.files")
    assert card is not None
    assert other is not None
    assert card.calibration == Calibration(min_probability=0.4001, min_support=0.2)
    assert other.calibration == kept
    assert "route\tmin_probability 0.4001\tn=3\tright 1 -> 2" in capsys.readouterr().out


def test_adapters_of_another_folder_are_not_taken_for_these(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="holds none of the adapters that decided: route"):
        refuse_in_cards(tmp_path, {"route": [_decision(0.5, Random(0))]}, "right")


def _decision(probability: float, rng: Random) -> Decision:
    stops, should = rng.random() < 0.4, rng.random() < 0.4
    right = stops if should else not stops and rng.random() < 0.7
    return Decision(probability=probability, right=right, stops=stops, should_stop=should)


def _case(number: int, tool_set: str | None, tool: str | None, *, done: bool = False) -> Any:
    history = [{"tool_set": "files", "tool": "list", "arguments": {}, "observation": ""}]
    gold = {"tool_set": tool_set, "tool": tool, "arguments": {}}
    return {"id": number, "query": "q", "gold": gold, "history": history if done else []}


def _prediction(number: int, *choices: tuple[str | None, str, float]) -> Any:
    stages = [
        {"stage": stage, "adapter": name, "choice": choice, "probability": probability}
        for stage, (name, choice, probability) in zip(("route", "select"), choices, strict=True)
    ]
    stages.append({"stage": "arguments", "adapter": "args.files"})
    answer = {"tool_set": "files", "tool": "read", "arguments": {}, "confidence": 0.5}
    return {"id": number, "stages": stages, **answer}


def _card(name: str) -> AdapterCard:
    return AdapterCard(
        name=name,
        subtask="route",
        boundary="request",
        base_model="b",
        base_weights_sha256="0" * 64,
    )
