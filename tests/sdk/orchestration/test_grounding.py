"""Which optional arguments of a tool that nobody trained for stay."""

from typing import Any

import pytest
from sdk.support import asked, manifest, scripted_stages

from agentflux.contracts.bundle import CatalogTool
from agentflux.contracts.tools import ToolSpec
from agentflux.orchestration.grounding import grounded

TEXT = {"type": "string"}
TOOL = ToolSpec(
    tool_set="desk",
    name="note",
    input_schema={
        "type": "object",
        "properties": {
            "product": TEXT,
            "person": {"type": "string", "description": "who did it, or `staff`"},
            "since": TEXT,
            "level": {"type": "string", "enum": ["low", "high"]},
            "grams": {"type": "number"},
            "tags": {"type": "array", "items": TEXT},
        },
        "required": ["product"],
    },
)


@pytest.mark.parametrize(
    ("request_text", "dropped"),
    [
        ("note 1500 g salt", {"person": "salt"}),
        ("note 1500 g Salt", {"person": "salt"}),
        ("note salt", {"person": ""}),
        ("note salt", {"person": " "}),
        ("note salt", {"person": "Maria Silva"}),
        ("note salt, 210", {"since": "2023-01-01"}),
    ],
)
def test_what_nothing_founds_is_left_out(request_text: str, dropped: dict[str, Any]) -> None:
    assert grounded({"product": "salt", **dropped}, TOOL, [request_text]) == {"product": "salt"}


@pytest.mark.parametrize(
    ("request_text", "kept"),
    [
        ("Maria wants salt", {"person": "maria"}),
        ("note salt", {"person": "staff"}),
        ("salt since 3 pm", {"since": "15:00"}),
        ("salt since half past six", {"since": "06:30"}),
        ("salt since 1 July 2025", {"since": "2025-07-01"}),
        ("salt, urgent", {"level": "high"}),
        ("a kilo of salt", {"grams": 1000}),
        ("note salt", {"tags": ["invented"]}),
        ("note salt", {"since": "***"}),
    ],
)
def test_what_may_follow_from_other_words_stays(request_text: str, kept: dict[str, Any]) -> None:
    arguments = {"product": "salt", **kept}
    assert grounded(arguments, TOOL, [request_text]) == arguments


def test_required_arguments_always_stay() -> None:
    assert grounded({"product": "invented"}, TOOL, ["hello"]) == {"product": "invented"}


@pytest.mark.parametrize(
    ("schema", "stays"),
    [
        (True, False),
        ({"$ref": "#/$defs/Priority", "default": "low"}, True),
        ({"anyOf": [{"$ref": "#/$defs/Priority"}, {"type": "null"}]}, True),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, False),
        ({"const": "urgent"}, True),
        ({"$ref": "#/$defs/Circle"}, False),
    ],
)
def test_listed_values_stay_wherever_they_are_listed(schema: object, stays: bool) -> None:
    definitions = {
        "Priority": {"type": "string", "enum": ["low", "high"]},
        "Circle": {"$ref": "#/$defs/Circle"},
    }
    properties = {"name": {"type": "string"}, "priority": schema}
    tool = ToolSpec(
        tool_set="desk", name="add", input_schema={"properties": properties, "$defs": definitions}
    )
    left = grounded({"name": "milk", "priority": "urgent"}, tool, ["milk, do it asap"])
    assert ("priority" in left) is stays


def test_a_context_or_an_observation_founds_as_well_as_the_request() -> None:
    arguments = {"product": "salt", "person": "Maria"}
    assert grounded(arguments, TOOL, ["note salt", "User: Maria"]) == arguments


def test_tools_that_an_adapter_was_trained_for_are_left_alone() -> None:
    optional = ToolSpec(
        tool_set="files",
        name="read",
        input_schema={"type": "object", "properties": {"path": TEXT, "mode": TEXT}},
    )
    other = ToolSpec(tool_set="files", name="roots", input_schema={"type": "object"})
    seen = CatalogTool(tool_set="files", name="read", sha256=optional.sha256)
    written = '{"path":"a.txt","mode":"invented"}'
    calls = []
    for known in ((seen,), ()):
        bundle = manifest().model_copy(update={"catalog": known})
        stages, _ = scripted_stages(
            ["read", written], bundle=bundle, catalog={"files": (optional, other)}
        )
        decision = stages.decide(asked("read a.txt"), emit=lambda event: None, cancel=None)
        assert decision.call is not None
        calls.append(decision.call.arguments)
    assert calls == [{"path": "a.txt", "mode": "invented"}, {"path": "a.txt"}]
