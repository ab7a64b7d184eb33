"""Intent corpora: scenarios and domains become tool sets, intents tools, slots arguments."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from afx_train.data.imports.files import read_json, tables
from afx_train.data.imports.rows import Call, Row, Tool
from afx_train.errors import DataError
from afx_train.trajectory import Split

_SPAN = re.compile(r"\[\s*([\w ]+?)\s*:\s*([^\]]*?)\s*\]")
_LEAST_OF_A_SLOT = 3
_CLINC_SPLITS: dict[str, Split] = {"train": "train", "val": "dev", "test": "test"}
_CLINC_NONE = ("small_talk", "meta")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """One request with its intent; tool_set "" where no tool is meant."""

    request: str
    tool_set: str
    intent: str
    slots: Mapping[str, str]
    split: Split | None = None


def hwu64(source: Path, _: Path | None) -> Iterator[Row]:
    """HWU64: `;`-separated CSV with answerid, scenario, intent and an annotation of the slots."""
    seen: set[tuple[str, str, str]] = set()
    said: list[_Said] = []
    for row in tables(source, delimiter=";"):
        try:
            key = (row["answerid"], row["scenario"], row["intent"])
            request, marked = row["answer_from_anno"].strip(), row["answer_annotation"]
        except KeyError as error:
            raise DataError(f"has no column {error}", where=str(source)) from error
        if key in seen or not request:
            continue
        seen.add(key)
        slots = {name: value for name, value in _SPAN.findall(marked) if value in request}
        served = "" if key[1] == "general" else key[1]
        said.append(_Said(request=request, tool_set=served, intent=key[2], slots=slots))
    yield from _rows(said)


def clinc150(source: Path, _: Path | None) -> Iterator[Row]:
    """CLINC150: a folder with data_full.json and domains.json, .gz or not."""
    domains = read_json(_file(source, "domains.json"))
    domain_of = {intent: name for name, intents in domains.items() for intent in intents}
    said: list[_Said] = []
    for key, pairs in read_json(_file(source, "data_full.json")).items():
        split = _CLINC_SPLITS.get(key.removeprefix("oos_"))
        for request, intent in pairs if split else ():
            domain = domain_of.get(intent, "")
            served = "" if domain in _CLINC_NONE else domain
            said.append(
                _Said(request=request, tool_set=served, intent=intent, slots={}, split=split)
            )
    yield from _rows(said)


def snips(source: Path, _: Path | None) -> Iterator[Row]:
    """SNIPS 2017: a folder of train_<intent>_full.json and validate_<intent>.json, .gz or not."""
    said: list[_Said] = []
    for path in sorted(source.glob("*_*.json*")):
        for intent, items in read_json(path).items():
            for item in items:
                pieces = [(str(p["text"]), p.get("entity")) for p in item["data"]]
                request = " ".join("".join(text for text, _ in pieces).split())
                slots = {str(name): text.strip() for text, name in pieces if name}
                split: Split | None = "test" if path.name.startswith("validate") else None
                said.append(
                    _Said(
                        request=request, tool_set="snips", intent=intent, slots=slots, split=split
                    )
                )
    if not said:
        raise DataError("has no train_*.json or validate_*.json", where=str(source))
    yield from _rows(said)


def _rows(said: Sequence[_Said]) -> Iterator[Row]:
    tools = _tools(said)
    for one in said:
        if not one.tool_set:
            yield Row(request=one.request, none=one.intent, split=one.split)
            continue
        tool = tools[one.tool_set, one.intent]
        known: Any = tool.schema["properties"]
        slots = {name: value for name, value in one.slots.items() if name in known}
        yield Row(
            request=one.request,
            calls=(Call(tool=tool, arguments=slots),),
            split=one.split,
        )


def _tools(said: Sequence[_Said]) -> dict[tuple[str, str], Tool]:
    """One tool an intent; its optional parameters are the slots that it is seen with."""
    slots: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for one in said:
        if one.tool_set:
            slots[one.tool_set, one.intent].update(one.slots.keys())
    return {
        (tool_set, intent): Tool(
            name=_words(intent).replace(" ", "_"),
            description=f"{_words(tool_set).capitalize()}: {_words(intent)}",
            schema={
                "type": "object",
                "properties": {
                    name: {"type": "string"}
                    for name, count in sorted(found.items())
                    if count >= _LEAST_OF_A_SLOT
                },
            },
            field=tool_set,
        )
        for (tool_set, intent), found in slots.items()
    }


def _words(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", name).lower()


def _file(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise DataError(f"has no {name}", where=str(folder))
