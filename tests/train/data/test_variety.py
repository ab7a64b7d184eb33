"""Phrasings that say the same are found; those of the sample are many and different."""

from pathlib import Path

import pytest
import yaml

from afx_train.data.grammar import load_phrasings
from afx_train.data.variety import LEAST, VarietyReport, check_variety

SAMPLE = Path(__file__).parents[3] / "samples" / "desk_assistant" / "phrasings"


def test_the_sample_has_sixty_different_phrasings_a_tool_and_no_copies() -> None:
    report = check_variety(load_phrasings(SAMPLE))
    assert report.problems == ()
    assert len(report.tools) == 42  # all but the deprecated read_file
    assert min(report.phrasings[tool] for tool in report.tools) >= LEAST


def test_a_tool_with_few_phrasings_is_named(tmp_path: Path) -> None:
    report = _checked(tmp_path, take=["take the cup", "hand me a cup"])
    assert "shelf.take has 2 phrasings; at least 60 are needed" in report.problems
    assert _checked(tmp_path, take=["take the cup"], least=1).problems == ()


def test_case_and_marks_make_no_new_phrasing(tmp_path: Path) -> None:
    report = _checked(tmp_path, take=["take {n}", "Take {n}!", "TAKE, {n}"])
    assert report.phrasings == {"shelf.take": 1}


def test_wordings_that_differ_in_a_slot_only_are_the_same(tmp_path: Path) -> None:
    report = _checked(tmp_path, take=["bring {n} here", "bring {cup} here", "give {n}"], least=1)
    assert [pair.overlap for pair in report.alike] == [1.0]
    assert any(problem.startswith("the same words: 1.00 shelf.take") for problem in report.problems)


def test_a_copy_in_another_tool_is_found_and_a_neighbour_is_listed(tmp_path: Path) -> None:
    report = _checked(
        tmp_path,
        take=["bring me {n} of them", "one two three four {n}"],
        put=["Bring me {n} of them.", "one two three four five {n}"],
        least=1,
    )
    (copy,) = report.copies
    assert {*copy.groups} == {"shelf.take", "shelf.put"}
    assert [pair.overlap for pair in report.across] == [1.0, 0.833]
    assert [p for p in report.problems if p.startswith("copied")] == [f"copied: {copy}"]


@pytest.mark.parametrize("words", [1, 4, 9, 10, 11, 30])
def test_no_neighbour_is_overlooked(tmp_path: Path, words: int) -> None:
    """Whatever the length, a pair is found exactly if its overlap is at least 0.8."""
    common = [f"w{number}" for number in range(words)]
    for more in range(1, words + 2):
        asks = [" ".join(common), " ".join([*common, *(f"x{number}" for number in range(more))])]
        found = bool(_checked(tmp_path, take=asks, least=1).alike)
        assert found == (words / (words + more) >= 0.8)


def _checked(folder: Path, *, least: int = LEAST, **asks: list[str]) -> VarietyReport:
    (folder / "shelf").mkdir(exist_ok=True)
    tools = {tool: [{"ask": wordings}] for tool, wordings in asks.items()}
    text = yaml.safe_dump({"tool_set": "shelf", "tools": tools})
    (folder / "shelf" / "all.yaml").write_text(text, encoding="utf-8")
    return check_variety(load_phrasings(folder), least=least)
