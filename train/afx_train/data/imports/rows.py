"""What every converter yields, and how rows become a data folder's tools and trajectories."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from jsonschema import SchemaError

from afx_train.data.check import founded, texts_of, words_only
from afx_train.data.generate import split_of
from afx_train.trajectory import Split, Trajectory, TrajectoryStep
from agentflux.contracts.validation import argument_validator

MAX_TOOLS_A_SET = 24

JsonObject = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A function as a JSON Schema tool. field: its tool set, where the source names one."""

    name: str
    description: str
    schema: JsonObject
    field: str = ""

    @property
    def wire(self) -> dict[str, Any]:
        """As MCP lists it."""
        return {
            "name": self.name,
            "description": self.description,
            "inputSchema": dict(self.schema),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A gold call. accept: other arguments that are right as well."""

    tool: Tool
    arguments: JsonObject
    accept: tuple[JsonObject, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One request. tools: all that stand beside it. calls: none where no tool serves it.

    none: why no tool serves it, or the tool set that comes nearest.
    split: the source's own, None to split by the request's words. vouched: a person wrote the
    arguments, which may follow from the request without standing in it (a date in other words).
    """

    request: str
    calls: tuple[Call, ...] = ()
    tools: tuple[Tool, ...] = ()
    none: str = "unserved"
    split: Split | None = None
    vouched: bool = False


@dataclass(slots=True, kw_only=True)
class Imported:
    """The finished data and what was dropped of the source, by reason."""

    tools: dict[str, list[dict[str, Any]]]
    trajectories: list[Trajectory]
    dropped: Counter[str] = field(default_factory=Counter[str])


def imported(source: str, rows: Iterable[Row]) -> Imported:
    """Place the tools in tool sets and make a trajectory of every sound row.

    Dropped: repeated requests, calls that break their tool's schema even after their values were
    turned into the schema's types, values of text that stand nowhere in the request.
    """
    dropped: Counter[str] = Counter()
    sound = list(_sound(rows, dropped))
    placed = _placed(source, sound)
    tools: dict[str, list[dict[str, Any]]] = {}
    for (name, _), tool in placed.items():
        tools.setdefault(name, []).append(tool.wire)
    where = {(tool.name, _identity(tool)): name for (name, _), tool in placed.items()}
    items = [_trajectory(source, row, where) for row in sound]
    return Imported(tools=tools, trajectories=items, dropped=dropped)


def slug(text: str) -> str:
    """A name of letters, digits and underscores."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_") or "tools"


def _sound(rows: Iterable[Row], dropped: Counter[str]) -> Iterable[Row]:
    seen: set[str] = set()
    for row in rows:
        words = words_only(row.request)
        reason = ""
        calls: list[Call] = []
        if not words or words in seen:
            reason = "repeated request"
        for call in row.calls:
            fixed = _fitting(call)
            if fixed is None:
                reason = reason or "arguments break the schema"
            elif not (row.vouched or _founded(fixed, row.request)):
                reason = reason or "value stands nowhere in the request"
            else:
                calls.append(fixed)
        if reason:
            dropped[reason] += 1
            continue
        seen.add(words)
        yield replace(row, calls=tuple(calls))


def _founded(call: Call, request: str) -> bool:
    return all(founded(text, request) for text in texts_of(call.arguments))


def _fitting(call: Call) -> Call | None:
    try:
        validator = argument_validator(call.tool.schema)
    except SchemaError:
        return None
    properties = call.tool.schema.get("properties", {})
    arguments: dict[str, Any] = {
        key: _typed(value, properties.get(key, {})) for key, value in call.arguments.items()
    }
    if set(arguments) - set(properties) or not validator.is_valid(arguments):
        return None
    accept = tuple(a for a in call.accept if validator.is_valid(a))
    return Call(tool=call.tool, arguments=arguments, accept=accept)


def _typed(value: object, schema: JsonObject) -> object:
    """Turn a text into the number or truth value that the schema asks for, where it is one."""
    kind = schema.get("type")
    if isinstance(value, str):
        text = value.strip()
        if kind == "integer" and re.fullmatch(r"[+-]?\d+", text):
            return int(text)
        if kind == "number" and re.fullmatch(r"[+-]?\d+(\.\d+)?", text):
            return float(text)
        if kind == "boolean" and text.lower() in ("true", "false"):
            return text.lower() == "true"
    if kind == "string" and isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:g}" if isinstance(value, float) else str(value)
    if kind == "integer" and isinstance(value, float) and value == int(value):
        return int(value)
    return value


def _identity(tool: Tool) -> str:
    text = f"{tool.field}\n{tool.description}\n{json.dumps(tool.schema, sort_keys=True)}"
    return hashlib.sha256(text.encode()).hexdigest()


def _placed(source: str, rows: Sequence[Row]) -> dict[tuple[str, str], Tool]:
    """Give every tool a tool set: its own field, else the set where its fellows are.

    Returns (tool set, tool name) → tool. Tools that stand beside each other in a row come into one
    set where there is room, since they are each other's distractors.
    """
    placed: dict[tuple[str, str], Tool] = {}
    home: dict[tuple[str, str], str] = {}
    sizes: Counter[str] = Counter()
    opened: Counter[str] = Counter()
    for row in rows:
        near = ""
        for tool in _tools_of(row):
            key = (tool.name, _identity(tool))
            if key not in home:
                stem = _stem(tool.field) if tool.field else source
                name = near if near.startswith(stem) else ""
                if not _has_room(name, tool, sizes, placed):
                    name = _open_set(stem, tool, sizes, placed, opened)
                placed[name, tool.name], home[key] = tool, name
                sizes[name] += 1
            near = home[key]
    return dict(sorted(placed.items(), key=lambda pair: pair[0][0]))


def _tools_of(row: Row) -> list[Tool]:
    found = {(t.name, _identity(t)): t for t in (*row.tools, *(c.tool for c in row.calls))}
    return list(found.values())


def _has_room(
    name: str, tool: Tool, sizes: Counter[str], placed: Mapping[tuple[str, str], Tool]
) -> bool:
    return bool(name) and sizes[name] < MAX_TOOLS_A_SET and (name, tool.name) not in placed


def _open_set(
    stem: str,
    tool: Tool,
    sizes: Counter[str],
    placed: Mapping[tuple[str, str], Tool],
    opened: Counter[str],
) -> str:
    """The newest set of a stem that has room; a new one where none has."""
    newest = _numbered(stem, opened[stem])
    if opened[stem] and _has_room(newest, tool, sizes, placed):
        return newest
    opened[stem] += 1
    return _numbered(stem, opened[stem])


def _stem(field: str) -> str:
    return field if re.fullmatch(r"[A-Za-z0-9_-]+", field) else slug(field)


def _numbered(stem: str, number: int) -> str:
    return stem if number <= 1 else f"{stem}_{number}"


def _trajectory(source: str, row: Row, where: Mapping[tuple[str, str], str]) -> Trajectory:
    words = words_only(row.request)
    digest = hashlib.sha256(words.encode()).hexdigest()[:12]
    steps = tuple(
        TrajectoryStep(
            tool_set=where[call.tool.name, _identity(call.tool)],
            tool=call.tool.name,
            arguments=dict(call.arguments),
            accept=tuple(dict(a) for a in call.accept),
        )
        for call in row.calls
    )
    kind = "single" if len(steps) == 1 else "scenario" if steps else f"none/{row.none}"
    return Trajectory(
        id=f"{source}-{digest}",
        request=row.request,
        steps=steps,
        phrasing=f"{source}/{digest}",
        kind=kind,
        split=row.split or split_of(digest),
        verified=False,
    )
