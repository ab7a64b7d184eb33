"""The functions of samples/custom_tools are tools as they stand."""

import runpy
from pathlib import Path

import pytest
from sdk.hosts.processes import call

from agentflux.hosts.local import LocalTools

SAMPLE = Path(__file__).parents[3] / "samples" / "custom_tools" / "main.py"


def test_the_samples_functions_work_as_tools(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sample = runpy.run_path(str(SAMPLE))
    host = LocalTools("functions", [sample["show_list"], sample["add_item"]])

    shown, added = host.list_tools()
    answer = host.call(call("functions", "add_item", item="milk", shop="grocery"), timeout_s=5)

    assert (shown.read_only, added.read_only) == (True, None)
    assert added.input_schema["properties"]["item"] == {
        "type": "string",
        "description": "what to buy",
    }
    assert answer.text == "milk is on the list."
    assert host.call(call("functions", "show_list"), timeout_s=5).text == "milk (grocery)\n"
