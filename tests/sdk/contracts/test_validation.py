"""Arguments against schemas, those with patterns that Python's `re` cannot read among them."""

import pytest
from jsonschema import SchemaError, ValidationError

from agentflux.contracts.validation import check_arguments

LETTERS, YEAR = r"^\p{L}+$", r"^(?<year>\d{4})$"

TREE = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "properties": {"n": {"type": "string", "pattern": LETTERS}, "child": {"$ref": "#"}},
}


@pytest.mark.parametrize(
    ("schema", "given"),
    [
        ({"properties": {"n": {"type": "string", "pattern": LETTERS}}}, {"n": "abc"}),
        ({"properties": {"n": {"pattern": YEAR}}}, {"n": "1999"}),
        ({"patternProperties": {LETTERS: {}}, "additionalProperties": False}, {"n": 1}),
        ({"properties": {"n": True}}, {"n": 1}),
        ({"properties": {"n": {"pattern": "^a+$"}}}, {"n": "aa"}),
        (TREE, {"n": "a", "child": {"n": "b"}}),
        ({"$defs": {"t": TREE}, "properties": {"c": {"$ref": "#/$defs/t"}}}, {"c": {"n": "a"}}),
        ({"properties": {"c": {"const": {"$schema": "x"}}}}, {"c": {"$schema": "x"}}),
    ],
)
def test_arguments_that_a_schema_allows_pass(
    schema: dict[str, object], given: dict[str, object]
) -> None:
    check_arguments(given, schema)


@pytest.mark.parametrize(
    ("schema", "given"),
    [
        ({"properties": {"n": {"pattern": "^a+$"}}}, {"n": "b"}),
        ({"properties": {"n": {"type": "string", "pattern": LETTERS}}}, {"n": 1}),
        ({"properties": {"n": {"pattern": YEAR}, "k": {"type": "integer"}}}, {"n": "1", "k": "x"}),
        ({"additionalProperties": False}, {"n": 1}),
        (TREE, {"n": "a", "child": {"n": 1}}),
    ],
)
def test_arguments_that_break_a_schema_are_refused(
    schema: dict[str, object], given: dict[str, object]
) -> None:
    with pytest.raises(ValidationError):
        check_arguments(given, schema)


def test_a_schema_that_is_none_is_told_apart() -> None:
    with pytest.raises(SchemaError):
        check_arguments({}, {"type": "objekt"})
