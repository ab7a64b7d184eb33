"""Which calls may run, written down: one TOML file (or the same as a dict).

```toml
default = "ask"                       # where no rule matches: allow, deny, or ask

[[rules]]                             # the first rule that matches decides
tool_set = "filesystem"
tool = "write_*"                      # * and ? as in a shell; the default is "*"
verdict = "allow"
arguments.path = { within = "/srv/desk" }

[[rules]]
tool_set = "sqlite"
verdict = "deny"
arguments.query = { regex = "(?is).*\\\\bdrop\\\\b.*" }
```

"ask" leaves the call to `approve`. A rule's arguments must all match: `within` (an absolute path in
this folder, links resolved), `glob`, `regex` (the whole value), `one_of`; a text alone is a glob. A
list or an object matches "allow" when all its values do, and the other verdicts when one does. In
doubt a rule is read so that less is allowed. What a server says about its tools can only make it
stricter: a tool marked destructive is asked about unless an allowing rule names it without * or ?.
"""

import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from agentflux.contracts.tools import ToolCall, ToolSpec
from agentflux.errors import ConfigError

Verdict = Literal["allow", "deny", "ask"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Pattern(_Model):
    """What an argument must look like: exactly one of the four."""

    within: str | None = None
    glob: str | None = None
    regex: str | None = None
    one_of: tuple[str | int | float | bool, ...] | None = None

    @field_validator("regex")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            msg = f"is not a regular expression: {error}"
            raise ValueError(msg) from error
        return value

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            msg = "needs exactly one of within, glob, regex, one_of"
            raise ValueError(msg)
        if self.within is not None and not Path(self.within).is_absolute():
            msg = "within needs an absolute path"
            raise ValueError(msg)
        return self

    def matches(self, value: object, *, in_doubt: bool) -> bool:
        """Whether one plain value matches. in_doubt: the answer where nobody can tell."""
        if self.within is not None:
            return _within(value, Path(self.within), in_doubt=in_doubt)
        if self.one_of is not None:
            return any(type(value) is type(one) and value == one for one in self.one_of)
        text = value if isinstance(value, str) else json.dumps(value)
        if self.glob is not None:
            return fnmatchcase(text, self.glob)
        return re.fullmatch(self.regex or "", text) is not None


class Rule(_Model):
    """One rule: for which calls, and what is said to them."""

    tool_set: str = "*"
    tool: str = "*"
    verdict: Verdict
    arguments: dict[str, Pattern] = Field(default_factory=dict)

    @field_validator("arguments", mode="before")
    @classmethod
    def _globs(cls, value: object) -> object:
        if not isinstance(value, Mapping):
            return value
        return {k: {"glob": v} if isinstance(v, str) else v for k, v in value.items()}

    def matches(self, call: ToolCall) -> bool:
        """Whether the rule speaks of this call."""
        named = fnmatchcase(call.tool_set, self.tool_set) and fnmatchcase(call.tool, self.tool)
        return named and all(
            name in call.arguments and self._argument(pattern, call.arguments[name])
            for name, pattern in self.arguments.items()
        )

    @property
    def names_one_tool(self) -> bool:
        """Whether the rule was written for one tool alone."""
        return not any(sign in self.tool_set + self.tool for sign in "*?[")

    def _argument(self, pattern: Pattern, value: object) -> bool:
        doubt = self.verdict != "allow"
        found = [pattern.matches(leaf, in_doubt=doubt) for leaf in _leaves(value)]
        return any(found) if doubt else bool(found) and all(found)


class Policy(_Model):
    """Rules, read once and never changed by anything that a tool answers."""

    default: Verdict = "ask"
    rules: tuple[Rule, ...] = ()

    @classmethod
    def load(cls, source: "str | Path | Mapping[str, Any] | Policy") -> "Policy":
        """Read a policy.

        Raises:
            ConfigError: the file is unreadable, or a key is wrong (named).
        """
        if isinstance(source, Policy):
            return source
        where = "policy"
        if isinstance(source, str | Path):
            where, source = str(source), _toml(Path(source))
        try:
            return cls.model_validate(source)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key = ".".join(str(part) for part in first["loc"])
            raise ConfigError(f"{key}: {first['msg']}", where=where) from error

    def verdict(self, call: ToolCall, tool: ToolSpec) -> Verdict:
        """Judge a call by the first rule that matches."""
        rule = next((rule for rule in self.rules if rule.matches(call)), None)
        verdict = rule.verdict if rule is not None else self.default
        exact = rule is not None and rule.names_one_tool
        if verdict == "allow" and tool.destructive is True and not exact:
            return "ask"
        return verdict


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(path)) from error
    except ValueError as error:
        raise ConfigError(f"is not valid TOML: {error}", where=str(path)) from error


def _leaves(value: object) -> Iterator[object]:
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from _leaves(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _leaves(inner)
    else:
        yield value


def _within(value: object, folder: Path, *, in_doubt: bool) -> bool:
    """A relative path depends on the server's own folder, and a NUL on who reads it."""
    if not isinstance(value, str) or "\0" in value or not Path(value).is_absolute():
        return in_doubt
    return Path(os.path.realpath(value)).is_relative_to(os.path.realpath(folder))
