import pytest

from agentflux.contracts.bundle import CatalogTool
from agentflux.contracts.prompts import Situation
from agentflux.orchestration.mended import (
    as_said,
    from_its_start,
    in_lines,
    mended,
    to_the_end,
    whole_path,
)

SEEN = CatalogTool(
    tool_set="filesystem",
    name="write_file",
    sha256="0" * 64,
    copied=("note",),
    inner=("path", "to"),
)


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        ("heron.jpg", "spring/heron.jpg"),
        ("run.cfg", "run.cfg"),
        ("Heron.jpg", "spring/heron.jpg"),
        ("new.txt", "new.txt"),
        ("rules.txt", "rules.txt"),
        ("fox.png", "fox.png"),
        ("eron.jpg", "eron.jpg"),
        ("readme.MD", "README.md"),
        ("spring", "spring"),
        ("spring/Heron.jpg", "spring/heron.jpg"),
        ("c/NEW.txt", "c/new.txt"),
        ("c/Fox", "c/Fox"),
    ],
)
def test_a_file_is_in_the_folder_that_it_is_listed_in(name: str, whole: str) -> None:
    context = (
        r"In it: spring/heron.jpg, a/fox.png, b/fox.png, rules.txt, old/rules.txt; README.md;"
        r" a/new.txt C:\lab\run.cfg"
    )
    assert whole_path(name, ["the bird and new.txt, please", context]) == whole


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ('print "Hello, 7B!"', 'print("Hello, 7B!")'),
        ('print "Hello, 7B!"\n', 'print("Hello, 7B!")\n'),
        ("Hello, 7B!", "Hello, 7B!"),
        ("hello_7B", "hello_7B"),
        ("line/in", "line/in"),
        ("'7B", "7B"),
        ("'9B", "'9B"),
        ("Hello\n7B", "Hello\n7B"),
    ],
)
def test_a_copied_line_gets_its_marks_back(written: str, said: str) -> None:
    assert as_said(written, ['one line in it: print("Hello, 7B!").']) == said


def test_what_is_moved_keeps_its_name_and_what_training_copied_stays() -> None:
    situation = Situation(request="keep f(a, b) in top", context="inbox/a.md")
    moved = {"path": "inbox/a.md", "to": "a.md", "note": "f a, b", "lines": [{"text": "f a, b"}]}
    assert mended(moved, SEEN, situation) == moved | {"lines": [{"text": "f(a, b)"}]}
    from_root = {"path": "/srv/inbox/a.md", "to": "a.md"}
    assert mended(from_root, SEEN, situation) == from_root
    assert mended({"path": "a.md", "n": 3}, SEEN, situation) == {"path": "inbox/a.md", "n": 3}


@pytest.mark.parametrize(
    ("request_", "lines"),
    [
        ("three lines: oats, limes and tofu", "oats\nlimes\ntofu"),
        ("start it over, one per line: oats, limes, and then tofu", "oats\nlimes\ntofu"),
        ("two text lines: oats, limes and tofu", "oats, limes and tofu"),
        ("a line that says: oats, limes and tofu", "oats, limes and tofu"),
    ],
)
def test_items_stand_in_lines_where_the_request_wants_so_many(request_: str, lines: str) -> None:
    assert in_lines("oats, limes and tofu", request_) == lines
    assert in_lines("oats, limes\nand tofu", request_) == "oats, limes\nand tofu"
    assert not in_lines("", request_)


@pytest.mark.parametrize(
    ("request_", "written", "whole"),
    [
        ("in it exactly: Gate changed. Ask Noel.", "Gate changed", "Gate changed. Ask Noel."),
        ("in these words: It rains.", "It rains", "It rains."),
        ("put in: It rains.", "It rains", "It rains"),
        ("exactly what I said, It rains.", "It rains", "It rains"),
        ("exactly: It rains.", "", ""),
    ],
)
def test_what_is_said_exactly_goes_to_its_end(request_: str, written: str, whole: str) -> None:
    assert to_the_end(written, request_) == whole


def test_what_is_said_behind_an_object_is_no_part_of_it() -> None:
    asked = 'overwrite it with exactly this: {"a": 1}   -- never mind what is in it'
    assert to_the_end('{"a": 1}', asked) == '{"a": 1}'
    asked = "write exactly this: [x] done, and no more"
    assert to_the_end("[x]", asked) == "[x] done, and no more"


@pytest.mark.parametrize(
    ("request_", "whole"),
    [
        ("Commit it. Message: topup: raise the gap", "topup: raise the gap"),
        ("message: fix(ui): raise the gap", "fix(ui): raise the gap"),
        ("commit with message: raise the gap", "raise the gap"),
        ("gw-west: raise the gap", "raise the gap"),
        ("Message: Topup: raise the gap", "raise the gap"),
        ("something else", "raise the gap"),
    ],
)
def test_a_text_begins_with_the_word_and_colon_that_are_said(request_: str, whole: str) -> None:
    assert from_its_start("raise the gap", request_) == whole
    assert from_its_start("", request_) == ""


def test_only_links_that_are_shown_are_taken_away() -> None:
    shown = "Ana -works_at-> Mill; Ana -owns-> Van 7"
    written = {"relations": [{"from": "Ana", "to": "Van 7", "kind": "works_at"}], "all": [True]}
    removes, adds = (
        CatalogTool(tool_set="memory", name=name, sha256="0" * 64)
        for name in ("delete_relations", "create_relations")
    )
    asked = Situation(request="she left", context=shown)
    meant = [{"from": "Ana", "to": "Mill", "kind": "works_at"}]
    assert mended(written, removes, asked) == written | {"relations": meant}
    assert mended(written, adds, asked) == written
    spelled = Situation(request="the works_at of Van 7", context=shown)
    assert mended(written, removes, spelled) == written
