"""Cases for `afx eval` and the marks of its predictions."""

import json
from pathlib import Path
from typing import Any

import pytest

from afx_train.cases import cases_of, write_cases
from afx_train.corpus import Corpus
from afx_train.errors import DataError
from afx_train.score import (
    as_json_text,
    as_text,
    read_marks,
    same,
    score_files,
    share,
    summary,
)
from agentflux.contracts.cases import Case


def test_cases_hold_the_contracts_keys_and_the_gold_call(workspace: Path, tmp_path: Path) -> None:
    out = tmp_path / "cases.jsonl"
    count = write_cases(workspace / "data", "test", out, final=True)
    cases = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert len(cases) == count
    assert len({c["id"] for c in cases}) == count
    second = next(c for c in cases if c["id"].startswith("both") and c["id"].endswith("/1"))
    assert second["history"] == [
        {
            "tool_set": "files",
            "tool": "read_text_file",
            "arguments": {"head": 3, "path": "a b.txt"},
            "observation": "é text",
        }
    ]
    assert second["gold"]["tool"] == "get_time"
    last = next(c for c in cases if c["id"].startswith("both") and c["id"].endswith("/2"))
    assert last["gold"]["tool_set"] is None


def test_a_case_says_which_of_its_past_calls_failed(corpus: Corpus) -> None:
    both = next(t for t in corpus.trajectories if t.id == "both0")
    failed = both.steps[0].model_copy(update={"is_error": True})
    both = both.model_copy(update={"steps": (failed, *both.steps[1:])})
    made = [Case.model_validate(case).situation() for case in cases_of(both, final=True)]
    assert [[s.is_error for s in one.steps] for one in made] == [[], [True], [True, False]]


def test_a_sample_is_drawn_without_replacement_and_the_same_for_a_seed(
    workspace: Path, tmp_path: Path
) -> None:
    drawn: list[list[str]] = []
    for number, seed in enumerate((1, 1, 2)):
        out = tmp_path / f"{number}.jsonl"
        assert write_cases(workspace / "data", "train", out, final=True, sample=9, seed=seed) == 9
        drawn.append(out.read_text(encoding="utf-8").splitlines())
    assert len(set(drawn[0])) == 9
    assert drawn[0] == drawn[1] != drawn[2]


def test_marks_count_sets_tools_calls_and_abstentions(tmp_path: Path) -> None:
    read = {"tool_set": "files", "tool": "read", "arguments": {"path": "a", "n": 2}}
    other = {"path": "b"}
    gold = [read | {"accept": [other]}, read, read, read, read, _none(), _none(), _none()]
    got = [
        read | {"arguments": other},
        read | {"arguments": {"n": 2.0, "path": "a"}},
        read | {"arguments": {"path": "a"}},
        read | {"tool": "list"},
        _none(),
        _none(),
        read,
        {"error": "boom"},
    ]
    report = score_files(*_files(tmp_path, gold, got))
    assert (report.tool_set.right, report.tool.right, report.call.right) == (5, 4, 3)
    assert (report.arguments.right, report.arguments.count) == (2, 3)
    assert (report.abstention_precision.right, report.abstention_precision.count) == (1, 2)
    assert (report.abstention_recall.right, report.abstention_recall.count) == (1, 3)
    assert report.failed == 1
    assert {k: (v.right, v.count) for k, v in report.per_tool.items()} == {
        "(no call)": (1, 3),
        "files.read": (2, 5),
    }
    assert [m.got for m in report.misses][-1] == "error: boom"
    assert "5 of 5" in as_text(report, errors=9)
    assert json.loads(as_json_text(report))["call"]["right"] == 3
    assert report.novelty == {}


def test_unseen_tools_and_servers_are_marked_apart(tmp_path: Path) -> None:
    read = {"tool_set": "files", "tool": "read", "arguments": {"path": "a"}}
    move, now = read | {"tool": "move"}, read | {"tool_set": "clock", "tool": "now"}
    gold, got = [read, read, move, now, now, _none()], [read, _none(), move, now, read, _none()]
    marked = read_marks(*_files(tmp_path, gold, got))
    report = summary(marked, seen={("files", "read"), ("files", "list")})
    assert {kind: (s["call"].right, s["call"].count) for kind, s in report.novelty.items()} == {
        "phrasing": (1, 2),
        "tool": (1, 1),
        "server": (1, 2),
    }
    assert "unseen server: call        50.0%" in as_text(report, errors=0)


def test_the_interval_holds_the_share_and_narrows_with_the_count() -> None:
    few, many = share([True, False] * 10), share([True, False] * 500)
    assert few.low < few.value < few.high
    assert many.high - many.low < 0.5 * (few.high - few.low)


def test_values_are_compared_as_json() -> None:
    assert same({"a": [1, {"b": 2.0}]}, {"a": [1.0, {"b": 2}]})
    assert not same(True, 1)
    assert not same({"a": 1}, {"a": 1, "b": None})
    assert not same("1", 1)


@pytest.mark.parametrize(
    ("cases", "predictions", "said"),
    [
        ("", "", "has no cases"),
        ('{"id": 1, "query": "q"}', "", ":1: has no 'gold'"),
        ("nonsense", "", ":1: is not JSON"),
        ('{"id": 1, "query": "q", "gold": null}', "", ":1: its gold call needs 'tool_set'"),
        (
            '{"id": 1, "query": "q", "gold": {"tool_set": null, "tool": null}}',
            '{"id": 2}',
            "no prediction for case 1",
        ),
    ],
)
def test_malformed_files_are_named_with_their_line(
    tmp_path: Path, cases: str, predictions: str, said: str
) -> None:
    (tmp_path / "c").write_text(cases, encoding="utf-8")
    (tmp_path / "p").write_text(predictions, encoding="utf-8")
    with pytest.raises(DataError, match=said):
        score_files(tmp_path / "c", tmp_path / "p")


def _none() -> dict[str, Any]:
    return {"tool_set": None, "tool": None, "arguments": {}}


def _files(folder: Path, gold: list[Any], got: list[Any]) -> tuple[Path, Path]:
    cases, predictions = folder / "cases.jsonl", folder / "predictions.jsonl"
    lines = [json.dumps({"id": i, "query": "q", "gold": g}) for i, g in enumerate(gold)]
    cases.write_text("\n".join(lines), encoding="utf-8")
    lines = [json.dumps({"id": i} | g) for i, g in enumerate(got)]
    predictions.write_text("\n".join(lines), encoding="utf-8")
    return cases, predictions
