"""Every error that the SDK raises on purpose.

```
AgentFluxError
├── ConfigError              a file or an option that a person wrote is wrong
├── MissingExtra             an optional dependency is not installed; names the extra
├── BundleError              the bundle cannot be used
│   ├── ManifestInvalid      afx.json is missing, unreadable or breaks its schema
│   ├── FileMismatch         a file is missing or differs from the manifest
│   ├── ContractMismatch     made for another prompt contract, base model or schema version
│   └── NotTrusted           not signed with the key that the caller trusts
├── AdapterNotFound          no adapter of that name in the bundle
├── EngineError              the native runtime failed; its text is kept in `native`
│   ├── EngineBusy           too many requests wait for the model
│   └── EngineDied           its process ended or hung; it is started again for the next request
├── ContextOverflow          the prompt does not fit the bundle's context
├── SchemaNotSupported       a tool's input schema cannot be turned into a grammar
├── ToolHostError            a tool server as a whole failed (a failed *tool* is a result)
│   ├── ServerStartError     it did not start or did not speak MCP
│   └── ServerGone           it died or closed the connection
├── JournalError             a run's journal cannot be read or written
└── Cancelled                the caller asked to stop
```

`afx_export` and `afx_train` derive their own errors from `AgentFluxError` in their `errors.py`.
"""

import re
from collections.abc import Iterable

_SOURCE = re.compile(r"\S+\.(?:cc|cpp|cu|h|hpp):\d+ ?")


class AgentFluxError(Exception):
    """Base of all errors of this project. `str(error)` says what, where, and what to do."""


class ConfigError(AgentFluxError):
    """Something that a person wrote (a file, an option) is wrong."""

    def __init__(self, message: str, *, where: str = "") -> None:
        self.where = where
        super().__init__(f"{where}: {message}" if where else message)


class MissingExtra(AgentFluxError):
    """An optional dependency is not installed."""

    def __init__(self, module: str, *, extra: str) -> None:
        self.module, self.extra = module, extra
        super().__init__(f"{module!r} is not installed; run: pip install 'agentflux-edge[{extra}]'")


class BundleError(AgentFluxError):
    """The bundle cannot be used."""

    def __init__(self, message: str, *, bundle: str, hint: str = "") -> None:
        self.bundle, self.hint = bundle, hint
        super().__init__(f"{bundle}: {message}" + (f"; {hint}" if hint else ""))


class ManifestInvalid(BundleError):
    """afx.json is missing, unreadable, or breaks its schema."""


class FileMismatch(BundleError):
    """A file of the bundle is missing or is not the one that the manifest describes."""


class ContractMismatch(BundleError):
    """The bundle was made for another prompt contract, base model or schema version."""


class NotTrusted(BundleError):
    """The bundle is not signed with the key that the caller trusts, or was changed since."""


class AdapterNotFound(AgentFluxError):
    """No adapter of that name is in the bundle."""

    def __init__(self, name: str, *, available: Iterable[str], bundle: str = "") -> None:
        self.name, self.available = name, tuple(available)
        has = ", ".join(repr(n) for n in self.available) or "none"
        super().__init__(f"adapter {name!r} is not in bundle {bundle!r}; it has {has}")


class EngineError(AgentFluxError):
    """The native runtime failed."""

    def __init__(self, message: str, *, native: str = "") -> None:
        self.native = native
        super().__init__(message + (f" (runtime said: {_first_line(native)})" if native else ""))


class EngineBusy(EngineError):
    """Too many requests wait for the model. Try again later."""

    def __init__(self, *, waiting: int) -> None:
        self.waiting = waiting
        super().__init__(f"{waiting} requests wait for the model already; try again later")


class EngineDied(EngineError):
    """The runtime's own process ended or hung during a request; the next one finds a new one."""


class ContextOverflow(AgentFluxError):
    """The prompt and the room for its answer do not fit the context."""

    def __init__(self, *, needed: int, limit: int) -> None:
        self.needed, self.limit = needed, limit
        super().__init__(
            f"the prompt needs {needed} tokens but the bundle's context holds {limit}; "
            "shorten the request, its context or the history, or export with a larger context"
        )


class SchemaNotSupported(AgentFluxError):
    """A tool's input schema cannot be turned into a grammar."""

    def __init__(self, tool: str, *, reason: str) -> None:
        self.tool, self.reason = tool, reason
        super().__init__(f"input schema of tool {tool!r} cannot constrain decoding: {reason}")


class ToolHostError(AgentFluxError):
    """A tool server as a whole failed."""

    def __init__(self, server: str, message: str) -> None:
        self.server = server
        super().__init__(f"tool server {server!r}: {message}")


class ServerStartError(ToolHostError):
    """The server did not start or did not speak MCP."""


class ServerGone(ToolHostError):
    """The server died or closed the connection."""


class JournalError(AgentFluxError):
    """A run's journal cannot be read or written, so the run does not go on."""

    def __init__(self, path: object, message: str) -> None:
        self.path = str(path)
        super().__init__(f"journal {self.path!r} {message}")


class Cancelled(AgentFluxError):
    """The caller asked to stop."""


def _first_line(text: str) -> str:
    """Return a native message's first line without the C++ source locations in it."""
    line = text.strip().splitlines()[0] if text.strip() else ""
    while found := _SOURCE.search(line):
        line = line[: found.start()] + _after_function(line[found.end() :])
    return line.strip()[:200]


def _after_function(text: str) -> str:
    """Skip the C++ function that stands after a source location: its signature, or its name."""
    name, opened, _ = text.partition("(")
    if not opened or len(name.split()) > 3:
        return text.partition(" ")[2]
    depth = 0
    for index, character in enumerate(text):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == ")" and depth == 0:
            return text[index + 1 :].removeprefix(" const").lstrip()
    return ""
