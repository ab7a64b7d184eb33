import pytest

from agentflux.contracts.paths import absolute_paths, bare, files, folders, is_shown


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("root: /home/ana/notes", {"/home/ana/notes"}),
        ("We're looking at /tmp/tmp.e2eQ1/app (git).", {"/tmp/tmp.e2eQ1/app"}),
        (
            r"C:\Users\ana\app is the repository, D:/data/ holds the rest",
            {r"C:\Users\ana\app", "D:/data"},
        ),
        ("/srv/a, /srv/b; and '/srv/c'", {"/srv/a", "/srv/b", "/srv/c"}),
        ("root:/srv/a", {"/srv/a"}),
        ("Europe/Berlin, and/or, src/app.js, ~/notes, ./x, https://host/page, / and //", set()),
    ],
)
def test_absolute_paths_are_found_where_they_begin(text: str, found: set[str]) -> None:
    assert absolute_paths([text, ""]) == found


def test_folders_are_the_outermost_paths_without_an_ending() -> None:
    assert folders({"/srv/a", "/srv/a/b", "/srv/ab", "/home/notes.md", r"C:\x\y", r"C:\x"}) == {
        "/srv/a",
        "/srv/ab",
        r"C:\x",
    }


def test_a_value_is_shown_although_a_space_cut_it_off() -> None:
    paths = absolute_paths([r"repository: C:\Users\Lea Voss\app"])
    assert paths == {r"C:\Users\Lea"}
    assert is_shown(r"C:\Users\Lea Voss\app", paths)
    assert not is_shown(r"C:\Users", paths)
    assert bare("/srv/a/") == bare("/srv/a") == "/srv/a"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("show notes.md and the end of logs/server.err", {"notes.md", "logs/server.err"}),
        (r"an .env file, src\ui\App.test.tsx?", {".env", r"src\ui\App.test.tsx"}),
        ("the contributing guide of v1.0 at 5.30, for a@b.com. Done. Next", set()),
    ],
)
def test_words_with_an_ending_name_files(text: str, found: set[str]) -> None:
    assert files(text) == found
