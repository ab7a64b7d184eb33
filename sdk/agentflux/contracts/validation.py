"""Check arguments against a tool's schema, by `jsonschema`.

A schema's patterns are ECMA-262. Python's `re` reads most of them; of the others (Unicode classes,
named groups) nothing is checked here: the grammar that the arguments were decoded under holds them.
"""

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import ValidationError, best_match
from jsonschema.validators import extend, validator_for

_NO_FORMATS = FormatChecker(formats=())  # or the metaschema asks for patterns that `re` reads
_VALUES = frozenset({"const", "enum", "default", "examples"})
_PATTERNED = (
    "pattern",
    "patternProperties",
    "additionalProperties",
    "unevaluatedProperties",
)


def argument_validator(schema: Mapping[str, Any]) -> Any:  # noqa: ANN401 - one of jsonschema's
    """Return a validator of `jsonschema` for a tool's arguments, by the draft that it names.

    Raises:
        SchemaError: of `jsonschema`: the schema itself is wrong.
    """
    return _validator(json.dumps(dict(schema)))


def check_arguments(arguments: Mapping[str, Any], schema: Mapping[str, Any]) -> None:
    """Refuse arguments that break the schema.

    Raises:
        ValidationError: of `jsonschema`, with what is wrong.
        SchemaError: of `jsonschema`: the schema itself is wrong.
    """
    error = best_match(argument_validator(schema).iter_errors(arguments))
    if error is not None:
        raise error


@lru_cache(maxsize=512)
def _validator(written: str) -> Any:  # noqa: ANN401 - one of jsonschema's
    """Check a schema and read it once: that takes a hundred times as long as checking arguments."""
    schema = json.loads(written)
    kind: Any = validator_for(schema, default=Draft202012Validator)
    kind.check_schema(schema, format_checker=_NO_FORMATS)
    return _readable(kind)(_undeclared(schema))


def _undeclared(node: Any) -> Any:  # noqa: ANN401 - JSON
    """The schema without the drafts that it names: they would bring jsonschema's own classes."""
    if isinstance(node, list):
        return [_undeclared(item) for item in node]
    if not isinstance(node, Mapping):
        return node
    return {
        key: value if key in _VALUES else _undeclared(value)
        for key, value in node.items()
        if not (key == "$schema" and isinstance(value, str))
    }


@cache
def _readable(kind: Any) -> Any:  # noqa: ANN401 - a class of jsonschema's
    """The validator, but a keyword whose patterns `re` cannot read says nothing."""
    known = {name: kind.VALIDATORS[name] for name in _PATTERNED if name in kind.VALIDATORS}
    rules = {name: _forgiving(rule) for name, rule in known.items()}
    return extend(kind, rules)  # type: ignore[no-untyped-call]


def _forgiving(rule: Any) -> Any:  # noqa: ANN401 - a function of jsonschema's
    def check(*given: Any) -> Iterator[ValidationError]:  # noqa: ANN401 - handed through
        try:
            yield from rule(*given) or ()
        except re.error:
            return

    return check
