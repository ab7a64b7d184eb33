from agentflux.contracts.bundle import CatalogTool
from agentflux.contracts.prompts import Situation
from agentflux.orchestration.astray import held_to_what_is_shown

REPO = r"C:\Users\ana\AppData\Local\Temp\app"
SEEN = CatalogTool(
    tool_set="git",
    name="git_add",
    sha256="0" * 64,
    copied=("repo_path", "files[]"),
    folders=("repo_path",),
    inner=("files[]",),
)


def held(request: str, context: str, **arguments: object) -> dict[str, set[str]]:
    found = held_to_what_is_shown(arguments, SEEN, Situation(request=request, context=context))
    return {path: {*texts} for path, texts in found.one_of.items()}


def test_a_folder_that_is_not_shown_is_held_to_those_that_are() -> None:
    cut_off = held("stage all", f"repo: {REPO}", repo_path=r"C:\Users\ana")
    assert cut_off == {"repo_path": {REPO}}
    assert held("stage all", f"repo: {REPO}", repo_path=REPO) == {}
    assert held("stage all", "the repo is here", repo_path="here") == {}, "none is shown"
    asked = held("stage all in /srv/b", "repo: /srv/a", repo_path="/srv/b")
    assert asked == {}, "the request shows one, too"


def test_the_folder_itself_is_no_file_that_the_request_names() -> None:
    there = {"repo_path": "/srv/a"}
    assert held("stage x.md", "repo: /srv/a", **there, files=["/srv/a/"]) == {"files[]": {"x.md"}}
    assert held("stage x.md", "repo: /srv/a", **there, files=["/srv/a/x.md"]) == {}
    assert held("stage everything", "repo: /srv/a", **there, files=["/srv/a"]) == {}
    opened = "repo: /srv/a. open: /srv/a/x.md"
    assert held("stage x.md", opened, **there, files=["/srv/a/x.md"]) == {}


def test_what_cannot_be_read_is_held_to_nothing() -> None:
    assert not held_to_what_is_shown(None, SEEN, Situation(request="x", context="repo: /srv/a"))


def test_names_are_looked_for_where_the_parameters_own_words_are_not_known() -> None:
    tool = CatalogTool(tool_set="sqlite", name="read_query", sha256="0" * 64, named=("query",))
    situation = Situation(request="show the orders", context="Tables: orders, items")
    for query, strays in [("items of ordr", {"query"}), ("items", set())]:
        found = held_to_what_is_shown({"query": query}, tool, situation)
        assert {*found.named} == strays
