"""Optional parameters by the request's words."""

from agentflux.contracts.intents import GIVEN, NOT_GIVEN
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
