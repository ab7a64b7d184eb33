"""A function's signature as JSON Schema, and the check of arguments against it."""

import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import pydantic_core
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.errors import PydanticUserError

from agentflux.contracts.tools import Arguments, JsonSchema
from agentflux.errors import ConfigError
from agentflux.hosts.docstrings import argument_descriptions

_POSITIONAL_ONLY = inspect.Parameter.POSITIONAL_ONLY
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_FORBID = ConfigDict(extra="forbid")


class ArgumentsInvalid(Exception):
    """The arguments do not fit the signature; the text names each one that does not."""


@dataclass(frozen=True, slots=True)
class Signature:
    """The parameters of a function as one model. Model fields are `p0`, `p1`, … with aliases.

    A parameter may carry any name; a pydantic field may not.
    """

    model: type[BaseModel]
    names: tuple[str, ...]
    schema: JsonSchema

    def keywords(self, arguments: Arguments) -> dict[str, Any]:
        """Return what to call the function with: checked, converted, defaults left to it.

        Raises:
            ArgumentsInvalid: a value does not fit, one is missing or one is unknown.
        """
        try:
            checked = self.model.model_validate(dict(arguments))
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False)
            texts = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in found)
            raise ArgumentsInvalid("; ".join(texts)) from error
        given = checked.model_fields_set
        fields = ((name, f"p{index}") for index, name in enumerate(self.names))
        return {name: getattr(checked, field) for name, field in fields if field in given}


def read_signature(function: Callable[..., object]) -> Signature:
    """Read type hints, defaults and the docstring's `Args:`.

    Raises:
        ConfigError: it is no function, or a parameter has no type hint, or one that JSON cannot
            carry.
    """
    # Only a function brings the name, type hints and docstring that a tool is described by.
    if not callable(function) or not hasattr(function, "__name__"):
        raise ConfigError("is not a function; wrap it in one", where=f"tool function {function!r}")
    where = f"tool function {function.__name__!r}"
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError) as error:  # TypeError: of a callable without annotations
        raise ConfigError(f"a type hint cannot be resolved: {error}", where=where) from error
    described = argument_descriptions(function.__doc__)
    parameters = tuple(inspect.signature(function).parameters.values())
    fields: dict[str, Any] = {}
    for index, parameter in enumerate(parameters):
        _require_usable(parameter, hints, where)
        fields[f"p{index}"] = _field(parameter, hints[parameter.name], described)
    names = tuple(parameter.name for parameter in parameters)
    try:
        model = create_model(function.__name__, __config__=_FORBID, **fields)
        schema = model.model_json_schema(by_alias=True)
    except PydanticUserError as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"a type hint has no JSON Schema: {reason}", where=where) from error
    return Signature(model=model, names=names, schema=_plain(schema))


def _require_usable(parameter: inspect.Parameter, hints: Mapping[str, object], where: str) -> None:
    if parameter.kind in _VARIADIC or parameter.kind is _POSITIONAL_ONLY:
        raise ConfigError(
            f"parameter {parameter.name!r} must be one that can be passed by name", where=where
        )
    if parameter.name not in hints:
        raise ConfigError(f"parameter {parameter.name!r} needs a type hint", where=where)


def _field(
    parameter: inspect.Parameter, hint: object, described: Mapping[str, str]
) -> tuple[object, object]:
    required = parameter.default is inspect.Parameter.empty
    default: Any = ... if required else parameter.default
    description = described.get(parameter.name)
    return hint, Field(default, alias=parameter.name, description=description)


def _plain(schema: dict[str, Any]) -> dict[str, Any]:
    """Write the schema as short as a small model should read it.

    No titles; definitions in place, unless one refers to itself; an optional value is one that may
    be left out, so `null` is not offered and not written as a default.
    """
    definitions: dict[str, Any] = schema.pop("$defs", {})
    recursive = {name for name in definitions if _reaches(definitions, name, name, set())}
    shortener = _Shortener({name: definitions[name] for name in {*definitions} - recursive})
    plain: dict[str, Any] = {"properties": {}, **shortener.node(schema)}
    if recursive:
        plain["$defs"] = {name: shortener.node(definitions[name]) for name in sorted(recursive)}
    return plain


@dataclass(frozen=True, slots=True)
class _Shortener:
    inlined: Mapping[str, Any]

    def node(self, node: dict[str, Any]) -> dict[str, Any]:
        """Shorten one schema and what stands in it."""
        name = str(node.get("$ref", "")).removeprefix("#/$defs/")
        if name in self.inlined:
            beside = {key: value for key, value in node.items() if key != "$ref"}
            return self.node({**self.inlined[name], **beside})
        kept = _without_null(node)
        kept.pop("title", None)
        return {key: self._value(key, value) for key, value in kept.items()}

    def _value(self, key: str, value: Any) -> object:  # noqa: ANN401 - JSON
        if key == "properties":
            return {name: self.node(schema) for name, schema in value.items()}
        if key in ("anyOf", "allOf", "oneOf", "prefixItems"):
            return [self.node(schema) for schema in value]
        if key in ("items", "additionalProperties") and isinstance(value, dict):
            return self.node(cast("dict[str, Any]", value))
        return value


def _without_null(node: dict[str, Any]) -> dict[str, Any]:
    node = dict(node)
    if "default" not in node or node["default"] is not None:
        return node
    del node["default"]
    choices = [choice for choice in node.get("anyOf", []) if choice != {"type": "null"}]
    if len(choices) == 1:
        del node["anyOf"]
        return {**choices[0], **node}
    return {**node, "anyOf": choices} if choices else node


def _reaches(definitions: Mapping[str, Any], start: str, goal: str, seen: set[str]) -> bool:
    text = pydantic_core.to_json(definitions[start]).decode()
    direct = {name for name in definitions if f'"#/$defs/{name}"' in text}
    if goal in direct:
        return True
    return any(
        _reaches(definitions, name, goal, seen | {name}) for name in direct if name not in seen
    )
