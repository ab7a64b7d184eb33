"""The bi-encoder's file, how it reads texts, and what fits what."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agentflux import ToolSpec
from agentflux.contracts import retriever
from agentflux.contracts.retriever import READING, BiEncoder, known_words, load_retriever
from agentflux.errors import FileMismatch
from agentflux.orchestration.retrieval import Retriever

WORDS = ("delete", "remind", "remove", "alarm", "file")
TOOLS = (
    ToolSpec(tool_set="disk", name="delete_file", description="Delete it"),
    ToolSpec(tool_set="clock", name="setAlarm", description=""),
)


def encoder() -> BiEncoder:
    """Two directions: delete, remove and file; remind and alarm."""
    vectors = np.array([[90, 0], [0, 50], [120, 0], [0, 127], [10, 0]], np.int8)
    ones = np.ones(len(WORDS), np.float16)
    return BiEncoder(
        vocabulary=WORDS,
        vectors=vectors,
        request_weights=ones,
        tool_weights=ones,
        scale=10.0,
        none=3.0,
    )


def test_a_request_finds_the_tool_that_shares_its_meaning_and_no_word() -> None:
    for request, best in (("remove the old one", 0), ("Remind me at noon", 1)):
        scores = Retriever(TOOLS, encoder()).scores(request)
        assert scores[best] == pytest.approx(10 + 10 * 0.5, rel=1e-4)
        assert scores[1 - best] == pytest.approx(0, abs=1e-4)
        assert Retriever(TOOLS).scores(request) == [0, 0]


def test_shared_words_count_on_top() -> None:
    plain, both = Retriever(TOOLS), Retriever(TOOLS, encoder())
    assert both.scores("alarm")[1] == pytest.approx(15 + 0.7 * plain.scores("alarm")[1], rel=1e-4)


def test_words_are_split_at_cases_and_unknown_ones_are_known_by_their_beginning() -> None:
    index = encoder().index
    found = known_words("setAlarms: REMINDER deleted_files, removal xyz", index)
    assert [WORDS[at] for at in found] == ["alarm", "remind", "delete", "file"]


def test_a_request_of_unknown_words_fits_nothing_in_particular() -> None:
    assert Retriever(TOOLS, encoder()).scores("¿qué hora es?") == [0, 0]
    assert encoder().fits("", []) == []


def test_what_single_words_find_counts_beside_the_cosine() -> None:
    tool = ToolSpec(tool_set="alarm", name="remind", description="alarm file")
    read = encoder().tool(tool)
    (fit,) = encoder().fits("delete the alarm", [read])
    one, two = np.array([1.0, 1.0]) / 2**0.5, np.array([1.0, 4.0]) / 17**0.5  # the texts' vectors
    assert fit == pytest.approx(10 * (one @ two + (0.5 + 0.5) / 2), rel=1e-4), "gates of a half"
    (fit,) = encoder().fits(
        "delete", [encoder().tool(ToolSpec(tool_set="", name="¿", description=""))]
    )
    assert fit == 0


def test_the_file_gives_back_what_was_saved_and_equal_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "a.npz", tmp_path / "b.npz"
    encoder().save(first)
    load_retriever(first).save(second)
    assert first.read_bytes() == second.read_bytes()
    both = (load_retriever(second), encoder())
    fits = [one.fits("remove", [one.tool(tool) for tool in TOOLS]) for one in both]
    assert fits[0] == fits[1]


def test_a_damaged_file_or_one_of_another_reading_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "retriever.npz"
    replace(encoder(), vocabulary=WORDS[1:]).save(path)
    with pytest.raises(FileMismatch, match="for 4 words"):
        load_retriever(path)
    with monkeypatch.context() as patched:
        newer = replace(retriever._FILE, version=READING + 1)  # noqa: SLF001 - a file from there
        patched.setattr(retriever, "_FILE", newer)
        encoder().save(path)
    with pytest.raises(FileMismatch, match=f"version {READING + 1}.*afx-train retriever"):
        load_retriever(path)
    encoder().save(path)
    whole = path.read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(FileMismatch, match=r"retriever\.npz cannot be read"):
            load_retriever(path)


def test_what_is_shown_of_a_long_list_is_for_words_and_meaning() -> None:
    request = "remind me at noon"  # means the alarm and shares no word with it
    assert Retriever(TOOLS).best(request, 1) == TOOLS[:1]
    assert Retriever(TOOLS, encoder()).best(request, 1) == TOOLS[1:]
