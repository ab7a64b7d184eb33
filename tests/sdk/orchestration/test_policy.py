"""Policies: what they allow, deny and leave open, and that doubt never allows."""

from pathlib import Path
from typing import Any

import pytest
from sdk.support import CATALOG, FILES, scripted_agent, spec

from agentflux import ToolCall, ToolSpec
from agentflux.errors import ConfigError
from agentflux.orchestration.loop import NOT_ALLOWED
from agentflux.orchestration.policy import Policy

WRITE = ToolSpec(tool_set="files", name="write", destructive=True)
READ = FILES[0]


def verdict(rule: dict[str, Any], tool: ToolSpec = READ, **arguments: object) -> str:
    call = ToolCall(tool_set=tool.tool_set, tool=tool.name, arguments=arguments)
    return Policy.load({"default": "ask", "rules": [rule]}).verdict(call, tool)


def test_the_first_rule_that_matches_decides(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(
        'default = "deny"\n'
        '[[rules]]\ntool_set = "files"\ntool = "re*"\nverdict = "ask"\n'
        '[[rules]]\ntool_set = "files"\nverdict = "allow"\n',
        "utf-8",
    )
    policy = Policy.load(path)
    found = [
        policy.verdict(ToolCall(tool_set=s, tool=t), spec(s, t))
        for s, t in [("files", "read"), ("files", "list"), ("git", "log")]
    ]
    assert found == ["ask", "allow", "deny"]


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("{root}/a.txt", "allow"),
        ("{root}/../etc/passwd", "ask"),
        ("{root}-other/a.txt", "ask"),
        ("{root}/link/passwd", "ask"),
        ("a.txt", "ask"),
        (7, "ask"),
    ],
)
def test_an_allowed_folder_cannot_be_left(tmp_path: Path, value: Any, wanted: str) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to("/etc")
    root = str(tmp_path / "root")
    rule = {"verdict": "allow", "arguments": {"path": {"within": root}}}
    path = value.replace("{root}", root) if isinstance(value, str) else value
    assert verdict(rule, path=path) == wanted


def test_a_relative_path_is_taken_for_denied_where_nobody_can_tell(tmp_path: Path) -> None:
    rule = {"verdict": "deny", "arguments": {"path": {"within": "/etc"}}}
    assert verdict(rule, path="../../etc/passwd") == "deny"
    assert verdict(rule, path=str(tmp_path)) == "ask"


def test_lists_allow_when_all_match_and_deny_when_one_does() -> None:
    allow = {"verdict": "allow", "arguments": {"paths": "*.txt"}}
    deny = {"verdict": "deny", "arguments": {"paths": "*.key"}}
    assert verdict(allow, paths=["a.txt", "b.txt"]) == "allow"
    assert verdict(allow, paths=["a.txt", "b.key"]) == "ask"
    assert verdict(allow, paths=[]) == "ask"
    assert verdict(deny, paths=["a.txt", {"name": "b.key"}]) == "deny"


def test_a_missing_argument_never_matches() -> None:
    assert verdict({"verdict": "allow", "arguments": {"path": "*"}}) == "ask"


def test_a_pattern_covers_the_whole_value() -> None:
    rule = {"verdict": "allow", "arguments": {"query": {"regex": "select .*"}}}
    assert verdict(rule, query="select 1") == "allow"
    assert verdict(rule, query="drop table x; select 1") == "ask"
    assert verdict(rule, query="select 1\n; drop table x") == "ask"


def test_one_of_keeps_types_apart() -> None:
    rule = {"verdict": "allow", "arguments": {"count": {"one_of": [1, "two"]}}}
    assert [verdict(rule, count=v) for v in (1, True, "1", "two")] == [
        "allow",
        "ask",
        "ask",
        "allow",
    ]


def test_a_destructive_tool_needs_a_rule_of_its_own() -> None:
    assert verdict({"tool": "wr*", "verdict": "allow"}, WRITE) == "ask"
    own = {"tool_set": "files", "tool": "write", "verdict": "allow"}
    assert verdict(own, WRITE) == "allow"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"default": "maybe"}, "default"),
        ({"rules": [{"verdict": "allow", "tools": "x"}]}, "rules.0.tools"),
        ({"rules": [{"verdict": "deny", "arguments": {"a": {"regex": "("}}}]}, "regular"),
        ({"rules": [{"verdict": "deny", "arguments": {"a": {}}}]}, "exactly one"),
        ({"rules": [{"verdict": "deny", "arguments": {"a": {"within": "x"}}}]}, "absolute"),
    ],
)
def test_a_wrong_policy_is_named(source: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Policy.load(source)


def test_a_policy_comes_before_approval_and_leaves_the_rest_to_it() -> None:
    policy = Policy.load({"rules": [{"tool": "read", "verdict": "deny"}]})
    script = ["files", "read", '{"path":"a"}', "files", "list", '{"path":"b"}', "finish", "ok"]
    agent, host = scripted_agent(
        script, {"files.list": "a, b"}, catalog=CATALOG, policy=policy, approve="all"
    )
    result = agent.run("look")
    assert [s.observation for s in result.steps] == [NOT_ALLOWED, "a, b"]
    assert [c.tool for c in host.calls] == ["list"]
