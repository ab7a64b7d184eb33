"""The `mcpServers` file."""

import json
import os
from pathlib import Path

import pytest

from agentflux.errors import ConfigError
from agentflux.hosts.mcp_config import load_servers


def written(folder: Path, document: object) -> Path:
    path = folder / "servers.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def test_a_desktop_clients_file_is_read_with_its_harmless_keys(tmp_path: Path) -> None:
    document = {
        "globalShortcut": "Ctrl+Space",
        "mcpServers": {
            "git": {
                "type": "stdio",
                "command": "uvx",
                "args": ["mcp-server-git"],
                "cwd": "/srv",
                "autoApprove": ["git_status"],
                "timeout": 60,
            },
            "crm": {
                "type": "http",
                "url": "https://crm.example/mcp",
                "headers": {"Authorization": "Bearer abc"},
                "disabled": False,
            },
            "old": {"command": "old-server", "disabled": True},
        },
    }
    git, crm = load_servers(written(tmp_path, document))

    assert (git.name, git.command, git.args, git.cwd) == (
        "git",
        "uvx",
        ("mcp-server-git",),
        Path("/srv"),
    )
    assert (crm.name, crm.url, crm.headers) == (
        "crm",
        "https://crm.example/mcp",
        {"Authorization": "Bearer abc"},
    )


def test_references_take_environment_variables_and_defaults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AFX_TEST_ROOT", "/data")
    monkeypatch.delenv("AFX_TEST_ABSENT", raising=False)
    server = {
        "command": "${AFX_TEST_ROOT}/bin/server",
        "args": ["--root=${env:AFX_TEST_ROOT}", "$HOME", "${AFX_TEST_ABSENT:-none}"],
        "env": {"ROOT": "${AFX_TEST_ROOT}/x"},
    }
    (read,) = load_servers({"mcpServers": {"files": server}})

    assert read.command == "/data/bin/server"
    assert read.args == ("--root=/data", "$HOME", "none")
    assert read.env["ROOT"] == "/data/x"


def test_the_childs_environment_is_the_allow_list_and_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AFX_TEST_SECRET", "hidden")
    monkeypatch.setenv("AFX_TEST_OPEN", "seen")
    config = {"mcpServers": {"files": {"command": "server", "env": {"MODE": "ro"}}}}
    (read,) = load_servers(config, env_allow=["PATH", "AFX_TEST_OPEN"])

    assert read.env == {"PATH": os.environ["PATH"], "AFX_TEST_OPEN": "seen", "MODE": "ro"}


def test_values_of_the_configuration_do_not_appear_in_redacted_text_or_in_its_repr(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AFX_TEST_KEY", "key-123456")
    servers = {
        "crm": {"url": "https://u:pw@crm.example/mcp", "headers": {"Auth": "Bearer tok-98765"}},
        "db": {"command": "db", "args": ["--key", "${AFX_TEST_KEY}"], "env": {"PW": "pass-555"}},
    }
    crm, db = load_servers({"mcpServers": servers})

    assert crm.redact("401 for tok-98765") == "401 for ***"
    assert db.redact("key-123456 or pass-555") == "*** or ***"
    assert (crm.shown, db.shown) == ("https://crm.example/mcp", "db --key ${AFX_TEST_KEY}")
    assert "tok-98765" not in repr(crm)
    assert "pass-555" not in repr(db)


@pytest.mark.parametrize(
    ("document", "where", "message"),
    [
        ([], "", "must be an object"),
        ({"servers": {}}, "", 'needs the key "mcpServers"'),
        ({"mcpServers": {}, "extra": 1}, "", "unknown key 'extra'"),
        ({"mcpServers": []}, ": mcpServers", "must be an object of servers by name"),
        ({"mcpServers": {" ": {"command": "x"}}}, ": mcpServers", "needs a name"),
        ({"mcpServers": {"a": "uvx"}}, ": mcpServers.a", "'command'|\"command\""),
        ({"mcpServers": {"a": {}}}, ": mcpServers.a", "needs either 'command' or 'url'"),
        (
            {"mcpServers": {"a": {"command": "x", "url": "http://h/"}}},
            ": mcpServers.a",
            "needs either",
        ),
        ({"mcpServers": {"a": {"command": "x", "arg": []}}}, ": mcpServers.a.arg", "not permitted"),
        ({"mcpServers": {"a": {"command": "x", "args": "y"}}}, ": mcpServers.a.args", "valid list"),
        (
            {"mcpServers": {"a": {"command": "x", "env": {"N": 1}}}},
            ": mcpServers.a.env.N",
            "valid string",
        ),
        ({"mcpServers": {"a": {"url": "ftp://h/"}}}, ": mcpServers.a.url", "pattern"),
        (
            {"mcpServers": {"a": {"url": "http://h/", "args": ["x"]}}},
            ": mcpServers.a.args",
            "does not go with",
        ),
        (
            {"mcpServers": {"a": {"url": "http://h/", "type": "sse"}}},
            ": mcpServers.a.type",
            "streamable HTTP",
        ),
        (
            {"mcpServers": {"a": {"url": "http://h/", "type": "stdio"}}},
            ": mcpServers.a.type",
            "contradicts",
        ),
        (
            {"mcpServers": {"a": {"command": "x", "args": ["${AFX_NOT_SET}"]}}},
            ": mcpServers.a.args.0",
            "'AFX_NOT_SET' is not set",
        ),
        (
            {"mcpServers": {"a": {"command": "x", "env": {"T": "${input:token}"}}}},
            ": mcpServers.a.env.T",
            "not a reference",
        ),
    ],
)
def test_a_wrong_file_is_an_error_that_names_the_file_and_the_key(
    tmp_path: Path, document: object, where: str, message: str
) -> None:
    path = written(tmp_path, document)
    with pytest.raises(ConfigError, match=message) as caught:
        load_servers(path)

    assert caught.value.where == f"{path}{where}"


def test_an_error_does_not_quote_the_wrong_value(tmp_path: Path) -> None:
    secret = {"command": "x", "env": {"TOKEN": ["s3cr3t"]}}
    with pytest.raises(ConfigError) as caught:
        load_servers(written(tmp_path, {"mcpServers": {"a": secret}}))

    assert "s3cr3t" not in str(caught.value)


def test_a_server_named_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "servers.json"
    path.write_text('{"mcpServers": {"a": {"command": "x"}, "a": {"command": "y"}}}', "utf-8")

    with pytest.raises(ConfigError, match="'a' stands twice"):
        load_servers(path)


@pytest.mark.parametrize(("text", "message"), [("{", "not valid JSON"), (None, "cannot be read")])
def test_an_unreadable_file_is_named(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "servers.json"
    if text is not None:
        path.write_text(text, encoding="utf-8")

    with pytest.raises(ConfigError, match=message) as caught:
        load_servers(path)

    assert caught.value.where == str(path)
