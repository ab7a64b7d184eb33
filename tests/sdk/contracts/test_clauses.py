"""Clauses of a request, and which of them calls explain."""

import time

import pytest

from agentflux.contracts.clauses import clauses, left_over


@pytest.mark.parametrize(
    ("request_", "parts"),
    [
        ("stage notes.md and then show the log", ["stage notes.md", "show the log"]),
        ("Read a.txt. Once done, count the rows", ["Read a.txt", "done", "count the rows"]),
        ("1. status please 2) last commits", ["1", "status please", "last commits"]),
        ("what is in docs/plan.md", ["what is in docs/plan.md"]),
        ("read a.txt\nlist docs\nshow the log", ["read a.txt", "list docs", "show the log"]),
        ("set it to 15. Then add 5. list", ["set it to 15", "add 5", "list"]),
        ("status", ["status"]),
        ("", [""]),
        ("...", ["..."]),
        ("列出文件。然后提交", ["列出文件。然后提交"]),
    ],
)
def test_a_request_is_cut_where_requests_are_joined(request_: str, parts: list[str]) -> None:
    assert clauses(request_) == parts


def _told(text: str) -> dict[str, float]:
    found = {name: 0.0 if name in text else -5.0 for name in ("stage", "log", "count")}
    return {**found, "none": -1.0}


def test_each_call_explains_the_clause_that_speaks_most_for_it() -> None:
    request = "show the log, but first stage a.txt, then count all of it"
    assert left_over(request, [], _told)[1] == 3
    assert left_over(request, ["stage"], _told)[0] == ["show the log", "count all of it"]
    assert left_over(request, ["stage", "log"], _told)[0] == ["count all of it"]
    assert left_over(request, ["count", "log", "stage"], _told) == ([], 3)


def test_more_calls_than_clauses_leave_nothing() -> None:
    assert left_over("stage it all", ["stage", "stage", "log"], _told) == ([], 1)
    assert left_over("stage it all", ["unknown"], _told) == ([], 1)


def test_a_single_word_is_a_clause_where_it_asks_for_something() -> None:
    assert left_over("please, show the log, then count", ["log"], _told) == (["count"], 2)
    assert left_over("please", [], _told) == (["please"], 1)


@pytest.mark.parametrize(
    "text", ["x" + "." * 20_000 + "y", " " * 20_000, "1" * 20_000, "\n" * 20_000]
)
def test_no_text_takes_long_to_cut(text: str) -> None:
    started = time.monotonic()
    clauses(text)
    assert time.monotonic() - started < 1.0  # it took 6 s where each mark began a new search


def test_a_long_request_is_matched_with_its_calls() -> None:
    request = "stage a, then log b. " * 400
    left, count = left_over(request, ["stage"] * 5, _told)
    assert count == 800
    assert len(left) == 795
