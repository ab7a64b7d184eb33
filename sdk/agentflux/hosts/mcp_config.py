"""The `mcpServers` JSON of desktop clients, read into what starts or reaches each server.

```json
{"mcpServers": {
  "git": {"command": "uvx", "args": ["mcp-server-git"], "env": {"TOKEN": "${GIT_TOKEN}"}},
  "crm": {"url": "https://crm.example/mcp", "headers": {"Authorization": "Bearer ${CRM_KEY}"}}}}
```

`${NAME}`, `${env:NAME}` and `${NAME:-default}` take environment variables in every text.
Imports no MCP library, so a configuration can be checked without it.
"""

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from agentflux.errors import ConfigError

# Never handed to a child: everything else. Secrets of the host application live in its environment.
DEFAULT_ENV_ALLOW = (
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE"),
    *("TZ", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"),
    *("APPDATA", "LOCALAPPDATA", "PROGRAMDATA", "PROGRAMFILES", "USERPROFILE", "USERNAME"),
    *("HOMEDRIVE", "HOMEPATH", "SYSTEMDRIVE", "SYSTEMROOT", "WINDIR", "COMSPEC", "PATHEXT"),
    *("TEMP", "TMP", "PROCESSOR_ARCHITECTURE"),
)

# Other clients write these; they say nothing about how to reach a server.
_HARMLESS = frozenset(
    {"name", "description", "icon", "version", "metadata", "gallery", "timeout", "trust"}
    | {"autoApprove", "alwaysAllow", "autoStart", "tools"}
)
_TOP_HARMLESS = frozenset({"$schema", "version", "inputs", "globalShortcut", "preferences"})
_OBJECT = TypeAdapter(dict[str, object], config=ConfigDict(strict=True))
_SHORTEST_SECRET = 4
_REFERENCE = re.compile(r"\$\{([^}]*)\}")
_VARIABLE = re.compile(
    r"(?:env:)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>.*))?", re.DOTALL
)


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    command: str | None = Field(default=None, min_length=1)
    args: list[str] = Field(default_factory=list[str])
    env: dict[str, str] = Field(default_factory=dict[str, str])
    cwd: str | None = None
    url: str | None = Field(default=None, pattern=r"^(https?://|\$\{)")
    headers: dict[str, str] = Field(default_factory=dict[str, str])
    type: (
        Literal["stdio", "http", "streamable-http", "streamableHttp", "streamable_http"] | None
    ) = None
    disabled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """One server: a command with its whole environment, or a URL with headers.

    shown: how messages name it, with references not expanded. secrets: what they must not contain.
    """

    name: str
    command: str = ""
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    cwd: Path | None = None
    url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    shown: str = ""
    secrets: frozenset[str] = field(default=frozenset(), repr=False)

    def redact(self, text: str) -> str:
        """Replace every secret in the text."""
        for secret in sorted(self.secrets, key=len, reverse=True):
            text = text.replace(secret, "***")
        return text


def load_servers(
    source: str | Path | Mapping[str, Any], *, env_allow: Iterable[str] = DEFAULT_ENV_ALLOW
) -> tuple[ServerConfig, ...]:
    """Read the servers that are not disabled, in the file's order.

    Raises:
        ConfigError: names the file and the key.
    """
    where, document = _document(source)
    inherited = {name: os.environ[name] for name in env_allow if name in os.environ}
    return tuple(
        _server(name, entry, where=f"{where}: mcpServers.{name}", inherited=inherited)
        for name, body in _entries(document, where)
        if not (entry := _entry(body, where=f"{where}: mcpServers.{name}")).disabled
    )


def _document(source: str | Path | Mapping[str, Any]) -> tuple[str, object]:
    if not isinstance(source, str | Path):
        return "<configuration>", dict(source)
    path = Path(source)
    try:
        text = path.read_text(encoding="utf-8-sig")
        return str(path), json.loads(text, object_pairs_hook=_no_duplicates)
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(path)) from error
    except ValueError as error:
        raise ConfigError(f"is not valid JSON: {error}", where=str(path)) from error


def _no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    seen: dict[str, object] = {}
    for key, value in pairs:
        if key in seen:
            msg = f"the key {key!r} stands twice in one object"
            raise ValueError(msg)
        seen[key] = value
    return seen


def _entries(document: object, where: str) -> list[tuple[str, object]]:
    top = _object(document, "must be an object", where=where)
    if "mcpServers" not in top:
        needed = 'needs the key "mcpServers": {"<tool set>": {"command": …}}'
        raise ConfigError(needed, where=where)
    if unknown := sorted(set(top) - _TOP_HARMLESS - {"mcpServers"}):
        raise ConfigError(f"unknown key {unknown[0]!r} beside 'mcpServers'", where=where)
    where = f"{where}: mcpServers"
    servers = _object(top["mcpServers"], "must be an object of servers by name", where=where)
    if not all(name.strip() for name in servers):
        raise ConfigError("a server needs a name", where=where)
    return list(servers.items())


def _object(value: object, message: str, *, where: str) -> dict[str, object]:
    try:
        return _OBJECT.validate_python(value)
    except ValidationError:
        raise ConfigError(message, where=where) from None


def _entry(body: object, *, where: str) -> _Entry:
    read = _object(body, 'must be an object with "command" or "url"', where=where)
    read = {key: value for key, value in read.items() if key not in _HARMLESS}
    if "transport" in read:
        read.setdefault("type", read.pop("transport"))
    if read.get("type") == "sse":
        use = "the SSE transport is not supported; use the server's streamable HTTP url"
        raise ConfigError(use, where=f"{where}.type")
    try:
        entry = _Entry.model_validate(read)
    except ValidationError as error:
        # The message of pydantic quotes the value, which may be a secret.
        first = error.errors(include_input=False, include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(first["msg"], where=f"{where}.{key}") from None
    return _consistent(entry, where)


def _consistent(entry: _Entry, where: str) -> _Entry:
    if (entry.command is None) == (entry.url is None):
        raise ConfigError("needs either 'command' or 'url'", where=where)
    stray = ("headers",) if entry.command is not None else ("args", "env", "cwd")
    for key in stray:
        if getattr(entry, key):
            kind = "command" if entry.command is not None else "url"
            raise ConfigError(f'does not go with "{kind}"', where=f"{where}.{key}")
    if entry.type is not None and (entry.type == "stdio") != (entry.command is not None):
        raise ConfigError(f"{entry.type!r} contradicts the other keys", where=f"{where}.type")
    return entry


def _server(name: str, entry: _Entry, *, where: str, inherited: Mapping[str, str]) -> ServerConfig:
    secrets: set[str] = set()

    def expand(text: str, key: str) -> str:
        return _expanded(text, where=f"{where}.{key}", remember=secrets.add)

    env = {key: expand(value, f"env.{key}") for key, value in entry.env.items()}
    headers = {key: expand(value, f"headers.{key}") for key, value in entry.headers.items()}
    secrets.update(env.values(), headers.values())
    secrets.update(word for value in headers.values() for word in value.split())
    raw_url = (entry.url or "").split("?")[0]
    return ServerConfig(
        name=name,
        command=expand(entry.command or "", "command"),
        args=tuple(expand(text, f"args.{index}") for index, text in enumerate(entry.args)),
        env={**inherited, **env},
        cwd=Path(expand(entry.cwd, "cwd")).expanduser() if entry.cwd else None,
        url=expand(entry.url or "", "url"),
        headers=headers,
        shown=" ".join([entry.command, *entry.args]) if entry.command else _no_userinfo(raw_url),
        secrets=frozenset(secret for secret in secrets if len(secret) >= _SHORTEST_SECRET),
    )


def _expanded(text: str, *, where: str, remember: Callable[[str], object]) -> str:
    def value(match: re.Match[str]) -> str:
        reference = _VARIABLE.fullmatch(match[1])
        if reference is None:
            raise ConfigError(f"{match[0]!r} is not a reference like ${{NAME}}", where=where)
        name = reference["name"]
        default: str | None = reference["default"]
        if name not in os.environ and default is None:
            raise ConfigError(f"environment variable {name!r} is not set", where=where)
        found = os.environ.get(name, default or "")
        if name not in DEFAULT_ENV_ALLOW:
            remember(found)
        return found

    return _REFERENCE.sub(value, text)


def _no_userinfo(url: str) -> str:
    return re.sub(r"(?<=://)[^/@]*@", "", url)
