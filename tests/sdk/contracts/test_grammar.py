"""Schemas become grammars that let through valid, closed, compact JSON and nothing else."""

import json
from typing import Any

import llguidance
import pytest

from agentflux.contracts.grammar import arguments_grammar
from agentflux.contracts.tools import ToolSpec
from agentflux.errors import SchemaNotSupported


def tool(schema: dict[str, Any]) -> ToolSpec:
    return ToolSpec(tool_set="t", name="t", input_schema=schema)


def accepts(schema: dict[str, Any], text: str) -> bool:
    """Match bytes: llguidance's tokenizer of single bytes stands in for a real one."""
    tokens = llguidance.LLTokenizer("byte")
    matcher = llguidance.LLMatcher(tokens, arguments_grammar(tool(schema)))
    ids = tokens.tokenize_str(text)
    return matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting()


PATH = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}


@pytest.mark.parametrize("text", ['{"path":"a b.txt"}', '{"path":"é漢\\"x"}', '{"path":""}'])
def test_valid_arguments_pass(text: str) -> None:
    assert accepts(PATH, text)
    json.loads(text)


@pytest.mark.parametrize(
    "text", ["{}", '{"path":3}', '{"path": "a"}', '{"path":"a","more":1}', "[]", "x"]
)
def test_everything_else_is_stopped(text: str) -> None:
    assert not accepts(PATH, text)


def test_nested_objects_are_closed_too() -> None:
    schema = {"type": "object", "properties": {"items": {"type": "array", "items": PATH}}}
    assert accepts(schema, '{"items":[{"path":"a"}]}')
    assert not accepts(schema, '{"items":[{"path":"a","x":1}]}')


def test_a_schema_without_properties_gives_an_empty_object() -> None:
    assert accepts({"type": "object"}, "{}")
    assert not accepts({"type": "object"}, '{"a":1}')


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"type": "banana"}}},
        {"type": "object", "properties": {"a": {"$ref": "#/nowhere"}}},
        {"type": "object", "properties": {"a": {"type": "string", "pattern": "("}}},
        {"type": "array"},
    ],
)
def test_a_schema_that_cannot_be_expressed_names_the_tool(schema: dict[str, Any]) -> None:
    with pytest.raises(SchemaNotSupported) as caught:
        arguments_grammar(tool(schema))
    assert caught.value.tool == "t"
    assert caught.value.reason
