"""Phrasing files: what is read, and what is refused with its place."""

from pathlib import Path

import pytest
from train.data.shelf import SAMPLE

from afx_train.data.grammar import load_phrasings, skeleton
from afx_train.data.template import Slot, fill, number_words, parse
from afx_train.errors import DataError


def test_every_wording_becomes_a_phrasing_with_its_call(grammars: Path) -> None:
    found = load_phrasings(grammars)
    assert len(found) == 4
    assert found[0].calls[0].tool == "take"
    assert found[0].group == "shelf.take"
    assert [p.expect_error for p in found] == [False, False, False, True]


def test_all_phrasings_of_the_sample_are_valid() -> None:
    found = load_phrasings(SAMPLE / "phrasings")
    assert len(found) > 5000
    assert {p.kind.split("/")[0] for p in found} == {"single", "scenario", "none"}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("tools: {take: [{args: {}, ask: []}]}", "ask"),
        ("tools: {take: [{args: {}, ask: [x], asks: []}]}", "asks"),
        ("tools: {take: [{args: {}, ask: ['{x|loud}']}]}", "loud"),
        ("tools: {take: [{args: {}, ask: ['{x']}]}", "brace"),
        ("values: {c: [{a: 1}]}\ntools: {take: [{args: {}, ask: ['{c.b}']}]}", "does not fit"),
        ("values: {c: [word]}\ntools: {take: [{args: {}, ask: ['{c.b}']}]}", "does not fit"),
        ("tools: [", "YAML"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name_and_key(
    tmp_path: Path, line: str, said: str
) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.yaml").write_text(f"tool_set: set\n{line}\n", encoding="utf-8")
    with pytest.raises(DataError, match=said) as caught:
        load_phrasings(tmp_path)
    assert caught.value.where


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="phrasing files"):
        load_phrasings(tmp_path)


def test_wordings_that_differ_in_case_and_marks_share_an_identity() -> None:
    assert skeleton("What does {file} say?") == skeleton("what does {file2|quoted} say")
    assert skeleton("What does {file} say?") != skeleton("What does {dir} say?")


def test_a_template_splits_into_text_and_slots() -> None:
    parts = parse("{{x}} {file2.name|words}!", where="here")
    assert parts == ("{x} ", Slot(base="file", number="2", field="name", filter="words"), "!")


def test_a_text_that_is_one_slot_keeps_the_type() -> None:
    assert fill("{n}", lambda _: 7, where="") == 7
    assert fill("-{n}", lambda _: 7, where="") == "-7"
    assert fill("{n|words}", lambda _: 7, where="") == "seven"
    assert fill("{f|name}", lambda _: "a/b c.txt", where="") == "b c.txt"
    assert fill("{f|words}", lambda _: "works_at", where="") == "works at"


@pytest.mark.parametrize(("number", "words"), [(0, "zero"), (13, "thirteen"), (42, "forty-two")])
def test_numbers_are_spelled(number: int, words: str) -> None:
    assert number_words(number) == words
