import json
from typing import Any

import pytest

from agentflux.contracts.prompts import Situation
from agentflux.contracts.tools import Step, ToolCall
from agentflux.orchestration.meant import with_the_meant

TABLES = str([{"name": name} for name in ("staff", "rota_shifts", "payslips")])
ROADS = "bb11cc22dd33ee44ff55"
LOG = f"""Commit history:
Commit: 'aa00bb11cc22dd33ee44'
Author: <git.Actor "Hanne <hanne@shop.example>">
Message: 'Larger font'

Commit: '{ROADS}'
Author: <git.Actor "Priya <priya@shop.example>">
Message: 'Avoid toll roads'
"""
FILES = "[FILE] badger.jpg\n[FILE] otter.png\n[DIR] swan S3"
PEOPLE = json.dumps(
    {"entities": [{"name": "Vera", "observations": ["cuts glass"]}, {"name": "Noor"}]}
)


def after(request: str, observation: str, *, is_error: bool = False) -> Situation:
    call = ToolCall(tool_set="any", tool="look", arguments={})
    step = Step(call=call, observation=observation, is_error=is_error)
    return Situation(request=request, steps=(step,))


@pytest.mark.parametrize(
    ("request_", "observation", "written", "meant"),
    [
        ("describe the one with the shifts", TABLES, {"t": "payslips"}, {"t": "rota_shifts"}),
        ("show the one about tolls", LOG, {"r": "aa00bb1"}, {"r": ROADS}),
        (
            "of the last 5, Priya's",
            LOG,
            {"r": "aa00bb11cc22dd33ee44"},
            {"r": ROADS},
        ),
        (
            "the png to new/",
            FILES,
            {"from": "in/badger.jpg", "to": "new\\badger.jpg"},
            {"from": "in/otter.png", "to": "new\\otter.png"},
        ),
        ("move S3", FILES, {"names": ["otter.png"]}, {"names": ["swan S3"]}),
        ("forget who cuts glass", PEOPLE, {"who": [{"n": "Noor"}]}, {"who": [{"n": "Vera"}]}),
    ],
)
def test_a_word_of_the_request_says_which_entry_is_meant(
    request_: str, observation: str, written: dict[str, Any], meant: dict[str, Any]
) -> None:
    assert with_the_meant(written, after(request_, observation)) == meant


@pytest.mark.parametrize(
    ("request_", "observation", "written"),
    [
        ("describe payslips, where the shifts are", TABLES, {"t": "payslips"}),
        ("describe the last one of the shifts", TABLES, {"t": "payslips"}),
        ("describe all with shifts", TABLES, {"t": "payslips"}),
        ("shifts or staff, which is it?", TABLES, {"t": "payslips"}),
        ("describe the one with the shifts", TABLES, {"t": "rota_shifts"}),
        ("describe the one with the shifts", TABLES, {"t": "something"}),
        ("describe the one with the shifts", TABLES, {"t": "payslips", "u": "staff"}),
        ("describe the one with the shifts", "", {"t": "payslips"}),
        ("the one with the shifts", "rota: shifts\npayslips", {"t": "payslips"}),
        ("which table has them?", TABLES, {"t": "payslips"}),
    ],
)
def test_what_words_do_not_say_beyond_doubt_stays(
    request_: str, observation: str, written: dict[str, Any]
) -> None:
    assert with_the_meant(written, after(request_, observation)) == written


def test_nothing_is_picked_before_a_call_or_after_an_error() -> None:
    written = {"t": "payslips"}
    failed = after("the one with the shifts", TABLES, is_error=True)
    assert with_the_meant(written, failed) == written
    assert with_the_meant(written, Situation(request="the one with the shifts")) == written
