"""Function-calling data sets: xLAM/APIGen, BFCL, Seal-Tools and ToolACE style."""

import ast
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from afx_train.data.imports.files import documents, files_of
from afx_train.data.imports.rows import Call, JsonObject, Row, Tool
from afx_train.errors import DataError

_TYPES = {
    "str": "string",
    "string": "string",
    "int": "integer",
    "integer": "integer",
    "float": "number",
    "number": "number",
    "double": "number",
    "bool": "boolean",
    "boolean": "boolean",
    "list": "array",
    "array": "array",
    "tuple": "array",
    "set": "array",
    "dict": "object",
    "object": "object",
}
_MAX_ACCEPTED = 16
_CALL_REFERENCE = re.compile(r"API_call_\d+")


def xlam(source: Path, _: Path | None) -> Iterator[Row]:
    """xLAM / APIGen: {"query", "tools": [...], "answers": [{"name", "arguments"}]}, JSON inside."""
    for where, item in documents(source):
        tools = {t.name: t for t in map(_xlam_tool, _listed(item.get("tools"), where))}
        answers = _listed(item.get("answers"), where)
        calls = [_call(tools, a.get("name"), a.get("arguments"), where) for a in answers]
        yield Row(
            request=_text(item, "query", where),
            calls=tuple(c for c in calls if c),
            tools=tuple(tools.values()),
        )


def bfcl(source: Path, answers: Path | None) -> Iterator[Row]:
    """BFCL style: {"id", "question": [[{"role", "content"}]], "function": [...]}.

    answers: {"id", "ground_truth": [{name: {argument: [accepted, …]}}]}; without the file, or
    without a line there, no call is right. BFCL itself is for evaluation: train on nothing of it.
    """
    gold = {str(a["id"]): a["ground_truth"] for _, a in documents(answers)} if answers else {}
    for where, item in documents(source):
        turns = item.get("question") or []
        asked = turns[0] if turns and isinstance(turns[0], list) else turns
        request = "\n".join(t["content"] for t in asked if t.get("role") == "user")
        tools = {t.name: t for t in map(_schema_tool, _listed(item.get("function"), where))}
        calls = [
            _accepting(tools[name], wanted)
            for answer in gold.get(str(item.get("id")), ())
            for name, wanted in answer.items()
            if name in tools
        ]
        yield Row(request=request, calls=tuple(calls), tools=tuple(tools.values()))


def seal_tools(source: Path, _: Path | None) -> Iterator[Row]:
    """Seal-Tools: a folder with tool.jsonl and *.jsonl of {"query", "calling"}, .gz or not."""
    tools = {
        str(item["api_name"]): Tool(
            name=str(item["api_name"]),
            description=str(item.get("api_description", "")),
            schema=_schema(item.get("parameters") or {}, item.get("required") or ()),
            field=str(item.get("field", "")).split("/")[0],
        )
        for path in files_of(source, "tool")
        for _, item in documents(path)
    }
    if not tools:
        raise DataError("has no tool.jsonl", where=str(source))
    for path in files_of(source, "dev", "train", "test_in_domain", "test_out_domain"):
        for where, item in documents(path):
            calls = _listed(item.get("calling"), where)
            if any(_CALL_REFERENCE.search(json.dumps(c.get("parameters"))) for c in calls):
                continue
            made = [_call(tools, c.get("api"), c.get("parameters"), where) for c in calls]
            yield Row(request=_text(item, "query", where), calls=tuple(c for c in made if c))


def toolace(source: Path, _: Path | None) -> Iterator[Row]:
    """ToolACE style: {"system": "… [tools as JSON] …", "conversations": [{"from", "value"}]}.

    Calls are written as Python: [name(argument="value")]. Only the first answer is taken.
    """
    for where, item in documents(source):
        tools = {t.name: t for t in map(_schema_tool, _embedded_list(_text(item, "system", where)))}
        turns = [(str(t["from"]), str(t["value"])) for t in _listed(item["conversations"], where)]
        asked = next((n for n, (who, _) in enumerate(turns) if who in ("user", "human")), None)
        if asked is None or asked + 1 >= len(turns):
            continue
        calls = [
            Call(tool=tools[name], arguments=arguments)
            for name, arguments in python_calls(turns[asked + 1][1])
            if name in tools
        ]
        yield Row(request=turns[asked][1], calls=tuple(calls), tools=tuple(tools.values()))


def python_calls(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Read `[name(a=1), other.name(b="x")]`; empty where the text is no list of calls.

    Names may hold spaces and dots, as ToolACE's do.
    """
    text = text.strip()
    if not (text.startswith("[") and text.endswith("]")):
        return []
    found: list[tuple[str, dict[str, Any]]] = []
    rest = text[1:-1].strip()
    while rest:
        name, _, inside = rest.partition("(")
        end = _closing(inside)
        if end is None or not name.strip():
            return []
        try:
            call = cast("ast.Call", ast.parse(f"f({inside[:end]})", mode="eval").body)
            arguments = {k.arg: ast.literal_eval(k.value) for k in call.keywords if k.arg}
        except (SyntaxError, ValueError):
            return []
        found.append((name.strip(), arguments))
        rest = inside[end + 1 :].lstrip(", \n")
    return found


def _closing(text: str) -> int | None:
    """Where the bracket closes that was opened before the text; quotes are respected."""
    depth, quote, at = 1, "", 0
    while at < len(text):
        sign = text[at]
        if quote:
            at += sign == "\\"
            quote = "" if sign == quote else quote
        elif sign in "\"'":
            quote = sign
        else:
            depth += (sign in "([{") - (sign in ")]}")
            if depth == 0:
                return at
        at += 1
    return None


def _call(tools: Mapping[str, Tool], name: object, arguments: object, where: str) -> Call | None:
    if str(name) not in tools:
        return None
    if not isinstance(arguments, dict):
        raise DataError(f"the arguments of {name!r} are no object", where=where)
    return Call(tool=tools[str(name)], arguments=cast("dict[str, Any]", arguments))


def _accepting(tool: Tool, wanted: Mapping[str, list[Any]]) -> Call:
    """BFCL's accepted values: the first of each is the gold one, "" means left out."""
    first = {k: _plain(v[0]) for k, v in wanted.items() if v and v[0] != ""}
    accept = [
        {key: item for key, item in (first | {name: _plain(other)}).items() if item != ""}
        for name, values in wanted.items()
        for other in values[1:]
    ]
    return Call(tool=tool, arguments=first, accept=tuple(accept[:_MAX_ACCEPTED]))


def _plain(value: object) -> object:
    """Take the first accepted value in nested objects too."""
    if isinstance(value, dict):
        inner = cast("dict[str, object]", value)
        return {k: _plain(v[0] if isinstance(v, list) and v else v) for k, v in inner.items()}
    return value


def _xlam_tool(item: JsonObject) -> Tool:
    parameters = cast("dict[str, Any]", item.get("parameters") or {})
    if "properties" in parameters:
        return _schema_tool(item)
    required = [
        name
        for name, p in parameters.items()
        if "optional" not in str(p.get("type")) and p.get("default") in (None, "")
    ]
    return Tool(
        name=str(item["name"]),
        description=str(item.get("description", "")),
        schema=_schema(parameters, required),
    )


def _schema_tool(item: JsonObject) -> Tool:
    parameters = cast("dict[str, Any]", item.get("parameters") or item.get("arguments") or {})
    return Tool(
        name=str(item["name"]),
        description=str(item.get("description", "")),
        schema=_schema(parameters.get("properties") or {}, parameters.get("required") or ()),
    )


def _schema(properties: JsonObject, required: Iterable[str]) -> JsonObject:
    return {
        "type": "object",
        "properties": {name: _property(p) for name, p in properties.items()},
        "required": [name for name in required if name in properties],
    }


def _property(given: object) -> dict[str, Any]:
    """One parameter as JSON Schema; Python's type names become JSON's, `any` becomes nothing."""
    spec = cast("dict[str, Any]", given) if isinstance(given, dict) else {}
    text = str(spec.get("type", "")).split(",")[0].strip()
    outer, _, inner = text.partition("[")
    made: dict[str, Any] = {}
    if kind := _TYPES.get(outer.strip().lower()):
        made["type"] = kind
    if made.get("type") == "array":
        items = spec.get("items") or {"type": inner.rstrip("]").split(",")[0]}
        made["items"] = _property(items)
    if made.get("type") == "object" and isinstance(spec.get("properties"), dict):
        made |= _schema(spec["properties"], spec.get("required") or ())
    if isinstance(spec.get("enum"), list):
        made["enum"] = spec["enum"]
    if isinstance(spec.get("description"), str):
        made["description"] = spec["description"]
    return made


def _embedded_list(text: str) -> list[JsonObject]:
    """The first JSON list of objects in a text."""
    decoder = json.JSONDecoder()
    for match in re.finditer(r"\[\s*\{", text):
        try:
            found, _ = decoder.raw_decode(text, match.start())
        except ValueError:
            continue
        return cast("list[JsonObject]", found)
    return []


def _listed(value: object, where: str) -> list[dict[str, Any]]:
    """A list of objects; a text is read as JSON."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise DataError(f"holds JSON that cannot be read: {error}", where=where) from error
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise DataError("needs a list of objects", where=where)
    return cast("list[dict[str, Any]]", value)


def _text(item: JsonObject, key: str, where: str) -> str:
    if not isinstance(item.get(key), str):
        raise DataError(f"has no text {key!r}", where=where)
    return str(item[key])
