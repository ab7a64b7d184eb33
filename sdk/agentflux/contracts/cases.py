"""Evaluation cases in, predictions out: one JSON object a line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agentflux.contracts.prompts import Situation
from agentflux.contracts.tools import Step, ToolCall
from agentflux.errors import ConfigError


class PastCall(BaseModel):
    """A call of the case's history."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    tool_set: str
    tool: str
    arguments: dict[str, Any] = Field(default_factory=dict)
    observation: str = ""
    is_error: bool = False


class Case(BaseModel):
    """What to decide. Keys that this contract does not name are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: str | int
    query: str
    context: str | None = None
    history: tuple[PastCall, ...] | None = None

    def situation(self) -> Situation:
        """Return the case as the stages see it."""
        steps = tuple(
            Step(
                call=ToolCall(tool_set=p.tool_set, tool=p.tool, arguments=p.arguments),
                observation=p.observation,
                is_error=p.is_error,
            )
            for p in self.history or ()
        )
        return Situation(request=self.query, context=self.context or "", steps=steps)


def read_cases(path: Path, *, limit: int | None = None) -> Iterator[Case]:
    """Read cases lazily; blank lines are passed over.

    Raises:
        ConfigError: the file is unreadable, or a line is no case (with file and line).
    """
    found = 0
    for number, line in enumerate(_lines(path), start=1):
        if limit is not None and found >= limit:
            return
        if line.strip():
            found += 1
            yield _case(line, where=f"{path}:{number}")


def count_cases(path: Path, *, limit: int | None = None) -> int:
    """Count and check the cases before work begins. Raises as `read_cases` does."""
    return sum(1 for _ in read_cases(path, limit=limit))


def prediction_line(data: dict[str, Any]) -> str:
    """Serialize one prediction."""
    return json.dumps(data, ensure_ascii=False) + "\n"


def _lines(path: Path) -> Iterator[str]:
    """Read UTF-8 with or without the mark at its start that Windows programs write."""
    try:
        with path.open(encoding="utf-8-sig") as stream:
            yield from stream
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(path)) from error
    except UnicodeDecodeError as error:
        hint = "save it as UTF-8 (in PowerShell `| Out-File -Encoding utf8` instead of `>`)"
        raise ConfigError(f"is not UTF-8 text; {hint}", where=str(path)) from error


def _case(line: str, *, where: str) -> Case:
    try:
        return Case.model_validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{key or 'case'}: {first['msg']}", where=where) from error
