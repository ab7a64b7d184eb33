"""Phrasing files: what people say and the call that it asks for, as written by hand (YAML)."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from afx_train.data.template import Slot, parse, slots_of
from afx_train.errors import DataError

MAX_ERRORS_SHOWN = 3

Record = str | int | float | dict[str, Any]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Group(_Model):
    """One way to fill a tool's arguments, and the requests that ask for it."""

    args: dict[str, Any] = Field(default_factory=dict)
    ask: tuple[str, ...] = Field(min_length=1)
    expect_error: bool = False


class ScenarioStep(_Model):
    """One call of a scenario."""

    tool_set: str
    tool: str
    args: dict[str, Any] = Field(default_factory=dict)


class Scenario(_Model):
    """Several calls in order, and the requests that ask for them."""

    steps: tuple[ScenarioStep, ...] = Field(min_length=1)
    ask: tuple[str, ...] = Field(min_length=1)
    expect_error: bool = False


class OwnWorld(BaseModel):
    """A tool set's part of a workspace written by hand.

    shown: wordings of the context, of which one is drawn; `{root}` is the workspace's root.
    What else it has is what the tool set's world makes a scene of; the worlds say what they take.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    shown: tuple[str, ...] = Field(min_length=1)


class _Asked(_Model):
    tools: dict[str, tuple[Group, ...]] = Field(default_factory=dict)
    scenarios: tuple[Scenario, ...] = ()


class OwnScene(_Asked):
    """A workspace written by hand, by tool set, and what is asked in it."""

    world: dict[str, OwnWorld] = Field(min_length=1)


class PhrasingFile(_Asked):
    """One file: single calls (`tools`), requests without a tool (`requests`), or `scenarios`.

    scenes: the first and the last of these, each in a workspace of its own.
    """

    tool_set: str = "scenarios"
    fills: int = Field(default=1, ge=1)
    values: dict[str, tuple[Record, ...]] = Field(default_factory=dict)
    requests: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    scenes: tuple[OwnScene, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPattern:
    """A gold call whose arguments still have slots."""

    tool_set: str
    tool: str
    args: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Phrasing:
    """One wording with its gold calls (none: no tool serves it).

    id: the same for wordings that differ in case and punctuation only, so that a split by id
    keeps them together.
    fills: it gets so many times the training examples, where the values have to be learned too.
    kind: "single", "scenario" or "none/<category>".
    world: by tool set, the workspace that was written for it; empty: one is drawn.
    """

    id: str
    kind: str
    group: str
    ask: str
    calls: tuple[CallPattern, ...]
    values: Mapping[str, tuple[Record, ...]] = field(repr=False)
    where: str
    expect_error: bool = False
    fills: int = 1
    world: Mapping[str, OwnWorld] = field(default_factory=dict[str, OwnWorld], repr=False)

    def slots(self) -> tuple[Slot, ...]:
        """Every slot, those of the request first."""
        calls = (slot for call in self.calls for slot in slots_of(call.args, where=self.where))
        return (*slots_of(self.ask, where=self.where), *calls)


def load_phrasings(folder: Path) -> tuple[Phrasing, ...]:
    """Read every YAML file in the folder's subfolders, in name order.

    Raises:
        DataError: with file and key, where a file breaks the format; or there is none.
    """
    files = sorted(folder.glob("*/**/*.yaml"))
    if not files:
        raise DataError("has no <tool_set>/*.yaml phrasing files", where=str(folder))
    found: dict[tuple[str, str], Phrasing] = {}
    for path in files:
        for phrasing in _phrasings(path, str(path.relative_to(folder))):
            found.setdefault((phrasing.group, phrasing.ask), phrasing)
    return tuple(found.values())


def load_yaml(path: Path) -> object:
    """Read a YAML file.

    Raises:
        DataError: it cannot be read.
    """
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=loader)  # noqa: S506
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"cannot be read as YAML: {error}", where=str(path)) from error


def skeleton(ask: str) -> str:
    """Reduce a wording to what tells it from others: words and slots, without case and marks."""
    blank = re.sub(r"\{(\w+?)\d*(\.\w+)?(\|\w+)?\}", r"<\1>", ask.lower())
    return " ".join(re.findall(r"<\w+>|\w+|[^\w\s.,!?;:'\"]", blank))


def _phrasings(path: Path, name: str) -> Iterator[Phrasing]:
    try:
        document = PhrasingFile.model_validate(load_yaml(path))
    except ValidationError as error:
        wrong = [
            f"{'.'.join(str(part) for part in e['loc']) or 'top level'}: {e['msg']}"
            for e in error.errors()[:MAX_ERRORS_SHOWN]
        ]
        raise DataError("; ".join(wrong), where=str(path)) from error
    for world, (group, kind, calls, asks, expect_error) in _placed(document):
        for ask in asks:
            phrasing = Phrasing(
                id=f"{group}/{hashlib.sha256(skeleton(ask).encode()).hexdigest()[:12]}",
                kind=kind,
                group=group,
                ask=ask,
                calls=calls,
                values=document.values,
                where=f"{name}: {group}",
                expect_error=expect_error,
                fills=document.fills,
                world=world,
            )
            _check(phrasing)
            yield phrasing


_Entry = tuple[str, str, tuple[CallPattern, ...], tuple[str, ...], bool]


def _placed(document: PhrasingFile) -> Iterator[tuple[Mapping[str, OwnWorld], _Entry]]:
    """What the file asks, with the workspace that it is asked in where one was written."""
    for entry in _entries(document, document.tool_set):
        yield {}, entry
    for category, asks in document.requests.items():
        yield {}, (f"none.{category}", f"none/{category}", (), asks, False)
    for scene in document.scenes:
        for entry in _entries(scene, document.tool_set):
            yield scene.world, entry


def _entries(document: _Asked, tool_set: str) -> Iterator[_Entry]:
    for tool, groups in document.tools.items():
        for group in groups:
            call = CallPattern(tool_set=tool_set, tool=tool, args=group.args)
            yield f"{tool_set}.{tool}", "single", (call,), group.ask, group.expect_error
    for scenario in document.scenarios:
        calls = tuple(
            CallPattern(tool_set=s.tool_set, tool=s.tool, args=s.args) for s in scenario.steps
        )
        sets = "+".join(dict.fromkeys(call.tool_set for call in calls))
        yield f"scenario.{sets}", "scenario", calls, scenario.ask, scenario.expect_error


def _check(phrasing: Phrasing) -> None:
    """Refuse slots that name a missing field of the file's own values."""
    parse(phrasing.ask, where=phrasing.where)
    for slot in phrasing.slots():
        records = phrasing.values.get(slot.name) or phrasing.values.get(slot.base)
        for record in records or ():
            if isinstance(record, dict) != bool(slot.field) or (
                isinstance(record, dict) and slot.field not in record
            ):
                raise DataError(
                    f"{{{slot.name}.{slot.field}}} in {phrasing.ask!r} does not fit the value "
                    f"{record!r}",
                    where=phrasing.where,
                )
