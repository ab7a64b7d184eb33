"""Large tool sets are cut by words to what the context holds; sets that fit are shown whole."""

import pytest
from sdk.support import manifest

from agentflux import Situation, ToolSpec
from agentflux.contracts import prompts
from agentflux.contracts.prompts import ChatFormat
from agentflux.engines.scripted import ScriptedEngine
from agentflux.orchestration.retrieval import Retriever, words
from agentflux.orchestration.shown import ShownTools
from agentflux.orchestration.stages import Stages

THINGS = ["invoice", "customer", "shipment", "calendar", "ticket", "recipe", "sensor", "playlist"]
DEEDS = {
    "create": "Make a new {} and return its number",
    "delete": "Remove one {} for good",
    "search": "Find every {} that matches some words",
    "update": "Change the fields of a {}",
    "export": "Write all of a {} to a spreadsheet file",
}
TOOLS = tuple(
    ToolSpec(
        tool_set="office",
        name=f"{deed}_{thing}",
        description=about.format(thing),
        input_schema={"type": "object", "properties": {f"{thing}_id": {"type": "string"}}},
    )
    for thing in THINGS
    for deed, about in DEEDS.items()
)
ASKED = {
    "Please remove invoice 17 for good": "delete_invoice",
    "find all customers called Meyer": "search_customer",
    "put the sensors into a spreadsheet": "export_sensor",
    "change the date in calendar 5": "update_calendar",
    "make me a new playlist": "create_playlist",
    "search the recipes for lentils": "search_recipe",
    "deleting tickets, number 9": "delete_ticket",
    "update shipment 12 with the new address": "update_shipment",
}


def test_words_are_split_at_cases_and_cut_to_stems() -> None:
    assert words("listFilesInFolders XMLExport_created") == words(
        "list file folder XML exports create"
    )


@pytest.mark.parametrize("request_", ASKED)
def test_the_tool_that_is_meant_is_among_the_first_four_of_forty(request_: str) -> None:
    found = [tool.name for tool in Retriever(TOOLS).best(request_, 4)]
    assert ASKED[request_] in found


def test_what_is_shown_fits_half_of_the_context_and_keeps_its_order() -> None:
    shown = ShownTools(ChatFormat(), {"office": TOOLS}, context_tokens=400)
    found = shown.tools("office", Situation(request="delete invoice 17"))
    static = prompts.select_prompt(ChatFormat(), "office", found, Situation(request="")).static
    assert 4 <= len(found) < len(TOOLS)
    assert len(static) <= 600
    assert list(found) == [tool for tool in TOOLS if tool in found]


def test_a_set_that_fits_is_shown_whole_whatever_is_asked() -> None:
    shown = ShownTools(ChatFormat(), {"office": TOOLS}, context_tokens=4096)
    assert shown.tools("office", Situation(request="delete invoice 17")) is TOOLS


def test_a_hundred_tool_sets_are_preselected_for_the_router() -> None:
    catalog = {
        f"app{i}_{thing}": tuple(t for t in TOOLS if t.name.endswith(thing))
        for i in range(13)
        for thing in THINGS
    }
    shown = ShownTools(ChatFormat(), catalog, context_tokens=1024)
    found = shown.sets(Situation(request="delete app7 sensor"))
    assert len(found) < len(catalog)
    assert "app7_sensor" in found


def test_stages_offer_only_what_they_show() -> None:
    small = manifest()
    small = small.model_copy(
        update={"runtime": small.runtime.model_copy(update={"context_tokens": 400})}
    )
    engine = ScriptedEngine(["delete_invoice", '{"invoice_id":"17"}'])
    stages = Stages(engine, small, {"office": TOOLS})
    decision = stages.decide(
        Situation(request="delete invoice 17"), emit=lambda event: None, cancel=None
    )
    assert decision.call is not None
    assert decision.call.tool == "delete_invoice"
    assert len(engine.requests[0].candidates) < len(TOOLS)
