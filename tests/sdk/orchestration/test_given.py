"""Optional parameters by the request's words."""

from dataclasses import replace

from agentflux.contracts.intents import GIVEN, NOT_GIVEN
from agentflux.contracts.optional import named_values
from agentflux.contracts.tools import ToolSpec
from agentflux.orchestration.given import as_given

EDIT = ToolSpec(
    tool_set="files",
    name="edit",
    description="",
    input_schema={
        "type": "object",
        "properties": {"path": {"type": "string"}, "dry": {"type": "boolean"}},
        "required": ["path"],
    },
)
SURELY, SURELY_NOT = GIVEN + 1, NOT_GIVEN - 1


def test_what_is_surely_given_is_demanded_and_what_surely_is_not_is_gone() -> None:
    lacking = as_given(EDIT, {"path": "a"}, {"dry": SURELY})
    assert lacking.input_schema["required"] == ["path", "dry"]
    extra = as_given(EDIT, {"path": "a", "dry": True}, {"dry": SURELY_NOT})
    assert list(extra.input_schema["properties"]) == ["path"]
    assert EDIT.input_schema["required"] == ["path"]


def test_arguments_that_the_odds_allow_stay_as_they_are() -> None:
    unsure = ({}, {"dry": GIVEN - 1}, {"dry": NOT_GIVEN + 1})
    for odds in (*unsure, {"dry": SURELY_NOT}, {"path": SURELY_NOT}, {"depth": SURELY}):
        assert as_given(EDIT, {"path": "a"}, odds) is EDIT
    for odds in unsure:
        assert as_given(EDIT, {"path": "a", "dry": True}, odds) is EDIT
    assert as_given(EDIT, {"path": "a", "dry": True}, {"dry": SURELY, "path": SURELY_NOT}) is EDIT


def test_a_listed_value_that_the_request_names_alone_is_the_one() -> None:
    kinds = {"enum": ["bibtex", "ris", "us"]}
    nullable = {"anyOf": [{"enum": ["error", "hint", 3]}, {"type": "null"}]}
    schema = {"type": "object", "properties": {"kind": kinds, "level": nullable, "n": {}}}
    assert named_values(schema, "tell us all of it as a RIS file") == {"kind": "ris"}
    assert named_values(schema, "got any hints? or errors") == {}
    assert named_values(schema, "Hints only") == {"level": "hint"}
    tool = replace(EDIT, input_schema=schema)
    wrong = as_given(tool, {"kind": "bibtex"}, {}, {"kind": "ris"})
    assert wrong.input_schema["properties"]["kind"]["enum"] == ["ris"]
    assert not wrong.input_schema["required"]
    likely = as_given(tool, {}, {"level": 0.1}, {"level": "hint"})
    assert likely.input_schema["required"] == ["level"]
    for odds in ({}, {"level": -0.1}):
        assert as_given(tool, {}, odds, {"level": "hint"}) is tool
    assert as_given(tool, {"kind": "ris"}, {}, {"kind": "ris"}) is tool
