"""Places that the context shows, where a call names them by words of the request."""

import pytest

from agentflux.contracts.prompts import Situation
from agentflux.contracts.tools import Step, ToolCall
from agentflux.orchestration.placed import in_its_place, place_of, without_repeats


@pytest.mark.parametrize(
    ("written", "context", "place"),
    [
        ("inbox", "Inbox: /home/station/in. Done: /home/station/done", "/home/station/in"),
        ("theo's program", "Theo's program: /home/theo/vetstock", "/home/theo/vetstock"),
        ("the ultrasound folder", "All in C:\\data\\Ultrasound.", "C:\\data\\Ultrasound"),
        ("uploads", "They arrive in /tmp/uploads-42.", "/tmp/uploads-42"),
        ("insurance claims", "In /srv/x: insurance_claims, lab", "insurance_claims"),
        ("Studio 2.ini", "config/ has studio1.ini and studio2.ini", "studio2.ini"),
        ("Moose.txt", "/tmp/d-4/moose.txt is the sheet", "/tmp/d-4/moose.txt"),
        ("/tmp/handouts-9c.", "Everything lies below /tmp/handouts-9c.", "/tmp/handouts-9c"),
    ],
)
def test_what_is_meant_is_put_in_place(written: str, context: str, place: str) -> None:
    assert place_of(written, context) == place


@pytest.mark.parametrize(
    ("written", "context"),
    [
        ("inbox", "Root: /srv/mail"),
        ("inbox", "/a/inbox and /b/inbox"),  # which of the two?
        ("uploads", "They arrive in /tmp/uploads_of_may"),
        ("notes.md", "/srv/notes.md"),  # as it is shown, in the folder to work in
        ("docs/inbox", "/srv/inbox"),
        ("docs", "Docs are in the folder"),
        ("/etc/hosts.", "Root: /srv"),
        ("", "Inbox: /srv/in"),
        ("...", "/srv/..."),
        ("a" * 50_000, "Inbox: /srv/in " * 500),
        ("inbox", "a" * 50_000 + " /" + "b1_" * 20_000),
    ],
)
def test_what_may_be_right_stays(written: str, context: str) -> None:
    assert place_of(written, context) == written


def test_only_places_of_calls_that_make_nothing_are_looked_at() -> None:
    asked = Situation(request="what is new?", context="Inbox: /srv/in")
    given = {"path": "inbox", "query": "inbox", "paths": ["inbox", "a.md"]}
    placed = {"path": "/srv/in", "query": "inbox", "paths": ["/srv/in", "a.md"]}
    assert in_its_place(given, "read_multiple_files", asked) == placed
    assert in_its_place(given, "create_directory", asked) == given
    moved = {"source": "inbox", "destination": "inbox"}
    assert in_its_place(moved, "move_file", asked) == {**moved, "source": "/srv/in"}
    assert in_its_place(given, "read_file", Situation(request="")) == given


@pytest.mark.parametrize(
    ("request_", "context", "path"),
    [
        ("list the footage folder", "Mounts /tmp/x (footage, exports)", "/tmp/x/footage"),
        ("what is in our 'Old Data' or my spare directory", "All in C:\\x", "C:\\x\\spare"),
        ("list the whole folder", "Mounts /tmp/x", "/tmp/x"),
        ("list the footage folder", "Footage folder: /tmp/x", "/tmp/x"),
        ("list the x folder", "Mounts /tmp/x", "/tmp/x"),
        ("the one folder or the other folder", "Mounts /tmp/x", "/tmp/x"),
    ],
)
def test_a_folder_that_the_request_names_lies_in_the_one_shown(
    request_: str, context: str, path: str
) -> None:
    shown = "C:\\x" if "C:" in context else "/tmp/x"
    asked = Situation(request=request_, context=context)
    assert in_its_place({"path": shown}, "list_directory", asked) == {"path": path}
    left_out = {"path": shown, "excludePatterns": ["footage", "spare"]}
    assert in_its_place(left_out, "search_files", asked) == left_out
    seen = Step(call=ToolCall(tool_set="filesystem", tool="x"), observation="")
    later = Situation(request=request_, context=context, steps=(seen,))
    assert in_its_place({"path": shown}, "list_directory", later) == {"path": shown}


def test_a_place_stands_once_in_a_list() -> None:
    notes = {"notes": ["c", "c", "g", "g"], "files": [{"name": "a"}, {"name": "a"}]}
    given = {"paths": ["a", "b", "a"], "path": "aa", **notes}
    assert without_repeats(given) == {**given, "paths": ["a", "b"]}
