"""Oracle swaps, calibration and the page."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from afx_train.data.check import check, picture
from afx_train.evaluate import AdapterReport, Verdict, some_trajectories, swaps
from afx_train.examples import Example
from afx_train.report import predictions_page, reliability
from afx_train.score import read_marks, share, summary
from afx_train.trajectory import Trajectory, TrajectoryStep
from agentflux.contracts.prompts import Subtask


def _verdict(
    moment: str, subtask: Subtask, label: str, chosen: str, *, probability: float = 0.5
) -> Verdict:
    example = Example(
        id=moment,
        subtask=subtask,
        tool_set="s",
        group="s",
        label=label,
        stop="none",
        before=(),
        prompt=(),
        target=(),
    )
    right = label == chosen
    return Verdict(example=example, right=right, chosen=chosen, probability=probability)


def _report(subtask: Subtask, *verdicts: Verdict) -> AdapterReport:
    return AdapterReport(
        name=subtask,
        subtask=subtask,
        split="dev",
        accuracy=share(v.right for v in verdicts),
        per_label={},
        verdicts=verdicts,
    )


def test_swaps_replace_stages_by_the_truth() -> None:
    route = _report(
        "route",
        _verdict("a/0", "route", "files", "files"),
        _verdict("b/0", "route", "files", "clock"),
        _verdict("c/0", "route", "clock", "clock"),
        _verdict("d/none", "route", "none", "none"),
        _verdict("e/none", "route", "none", "files"),
    )
    select = _report(
        "select",
        _verdict("a/0", "select", "read", "read"),
        _verdict("b/0", "select", "read", "read"),
        _verdict("c/0", "select", "now", "later"),
        _verdict("d/none", "select", "none", "read"),
    )
    arguments = _report(
        "arguments",
        _verdict("a/0", "arguments", "x", "y"),
        _verdict("b/0", "arguments", "x", "x"),
    )
    joined = swaps([route, select, arguments], single_set=False)
    assert joined is not None
    assert joined.own.count == 5
    shares = (joined.own, joined.gold_set, joined.gold_tool, joined.gold_arguments, joined.own_set)
    assert [s.right for s in shares] == [1, 2, 4, 2, 3]
    alone = swaps([select, arguments], single_set=True)
    assert alone is not None
    assert (alone.own.right, alone.own.count) == (1, 4)
    assert swaps([arguments], single_set=False) is None


def test_a_limit_takes_the_same_trajectories_whatever_their_order() -> None:
    ids = [f"t{number}" for number in range(9)]
    some = some_trajectories(ids, 4)
    assert some is not None
    assert len(some) == 4
    assert some == some_trajectories(ids[::-1], 4)
    assert some_trajectories(ids, 0) is None


def test_reliability_measures_the_distance_to_the_diagonal() -> None:
    sure = [(0.95, n < 95) for n in range(100)]
    doubtful = [(0.15, n < 55) for n in range(100)]
    bins, error = reliability([*sure, *doubtful])
    assert [(b.count, round(b.right, 2)) for b in bins] == [(100, 0.55), (100, 0.95)]
    assert error == pytest.approx(0.2)


def test_the_page_stands_alone_and_shows_what_was_confused(tmp_path: Path) -> None:
    nasty = 'read <script>alert("x")</script> & go'
    gold = {"tool_set": "files", "tool": "read", "arguments": {"path": "a"}}
    cases = [{"id": n, "query": f"{nasty} {n}", "gold": gold} for n in range(4)]
    got = [
        gold | {"confidence": 0.9},
        gold | {"tool": "list", "confidence": 0.8},
        {"tool_set": None, "tool": None, "arguments": {}, "confidence": 0.3},
        {"error": "boom"},
    ]
    for name, items in (
        ("cases", cases),
        ("predictions", [g | {"id": n} for n, g in enumerate(got)]),
    ):
        text = "".join(json.dumps(item) + "\n" for item in items)
        (tmp_path / name).write_text(text, encoding="utf-8")
    marked = read_marks(tmp_path / "cases", tmp_path / "predictions")
    page = predictions_page(summary(marked), marked)
    _well_formed(page)
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")
    for said in ("files.read → files.list", "files.read → (no call)", "error: boom", "25.0%"):
        assert said in page
    assert page.count("<svg") == 1


def test_the_data_picture_has_a_histogram_of_each_length() -> None:
    step = TrajectoryStep(tool_set="s", tool="t", arguments={"a": "r"}, observation="o" * 90)
    item = Trajectory(
        id="1", request="r" * 50, steps=(step,), phrasing="p", kind="single", split="train"
    )
    tool = {"name": "t", "inputSchema": {"type": "object", "properties": {"a": {}}}}
    report = check([item], {"s": [tool]})
    assert report.observation_chars == {"80": 1}
    assert report.balance == {"s": 1.0}
    page = picture(report)
    _well_formed(page)
    assert page.count("<svg") == 3


def _well_formed(page: str) -> None:
    """Every tag that is opened is closed, in order."""
    void, stack = {"meta", "line", "rect", "circle", "polyline"}, list[str]()

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag not in void:
                stack.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert stack.pop() == tag

    Reader().feed(
        re.sub(r"<(\w+)([^>]*)/>", r"<\1\2></\1>", page)
        .replace("</line>", "")
        .replace("</rect>", "")
        .replace("</circle>", "")
        .replace("</polyline>", "")
    )
    assert stack == []
