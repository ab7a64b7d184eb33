from agentflux.contracts.bundle import CatalogTool
from agentflux.contracts.prompts import Situation
from agentflux.contracts.tools import ToolSpec
from agentflux.orchestration.astray import held_to_texts, held_to_what_is_shown

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


UNKNOWN = ToolSpec(
    tool_set="kube",
    name="set_image",
    input_schema={
        "type": "object",
        "properties": {name: {"type": "string"} for name in ("deployment", "image", "note")},
        "required": ["deployment", "image"],
    },
)


def test_a_slip_of_an_unknown_tools_string_is_held_to_what_it_may_be_a_slip_of() -> None:
    texts = ["ranker should run SHAFT-B.tap from now on", ""]
    found = held_to_texts({"deployment": "ranker", "image": "SAFET-B.tap"}, UNKNOWN, texts)
    assert "SHAFT-B.tap" in found.one_of["image"]
    assert found.one_of.keys() == {"image"}
    for image in ("shaft-b.tap", "SELECT count(*) FROM images", "2026-01-01", ""):
        assert not held_to_texts({"deployment": "ranker", "image": image}, UNKNOWN, texts), image


def test_one_text_is_not_the_value_of_two_required_strings_of_an_unknown_tool() -> None:
    said = "set login to quay.io/sso:5.0"
    both = {"deployment": "quay.io/sso:5.0", "image": "quay.io/sso:5.0"}
    assert held_to_texts(both, UNKNOWN, [said]).spans == {"deployment": "quay.io/sso:5.0"}
    assert not held_to_texts(both, UNKNOWN, [said, "quay.io/sso:5.0"]), "it is said twice"
    optional = {"deployment": "login", "image": "quay.io/sso:5.0", "note": "login"}
    assert not held_to_texts(optional, UNKNOWN, [said]), "`grounded` sees to these"
    assert not held_to_texts(None, UNKNOWN, [said])
