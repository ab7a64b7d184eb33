"""What tells of optional parameters: signals of a request, and log-odds of them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sdk.contracts.test_retriever import encoder

from agentflux import ToolSpec
from agentflux.contracts import optional
from agentflux.contracts.optional import KINDS, SIGNALS, TRAITS, Perceptron, optional_parameters
from agentflux.contracts.retriever import load_retriever
from agentflux.errors import FileMismatch

SCHEMA = {
    "type": "object",
    "properties": {
        "id": {"type": "integer"},
        "file": {"type": "string", "description": "the file to remove"},
        "alarm": {"enum": ["loud", "silent"]},
        "limit": {"anyOf": [{"type": "integer", "default": 10}, {"type": "null"}]},
        "since": {"type": ["string", "null"]},
        "odd": True,
    },
    "required": ["id"],
}
TOOL = ToolSpec(tool_set="x", name="y", description="", input_schema=SCHEMA)


def signals(request: str, name: str) -> list[float]:
    """The signals, which stand once for all kinds and once more for the parameter's own."""
    found = encoder().traits(TOOL, request)[name]
    assert found.shape == (TRAITS,)
    apart = found[SIGNALS:].reshape(len(KINDS), SIGNALS)
    assert [kind for kind, row in zip(KINDS, apart, strict=True) if row.any()] in (
        [],
        [_kind(name)],
    )
    return found[:SIGNALS].tolist()


def _kind(name: str) -> str:
    return {"alarm": "enum", "limit": "number"}.get(name, "string")


def test_optional_parameters_are_those_that_are_not_required() -> None:
    assert optional_parameters(SCHEMA) == ["file", "alarm", "limit", "since", "odd"]
    assert optional_parameters({}) == []


def test_a_name_a_description_and_a_value_find_their_words_in_the_request() -> None:
    nothing, named = signals("what is it", "file"), signals("delete the file", "file")
    assert nothing[:7] == [0] * 7
    assert named[:5] == pytest.approx([1, 0.5, 1, 1, 0.5], abs=1e-4)  # remove finds delete
    assert named[5:7] == [1, 0.5], "the description has `the` and `file`"
    assert signals("a silent one", "alarm")[8] == 1


def test_numbers_beyond_the_required_ones_and_dates_are_counted() -> None:
    assert signals("the last 5 of 12", "limit")[9] == 0.25
    assert signals("the last five", "limit")[9] == 0
    assert signals("from 2026-03-01 to 4 Jan", "since")[10] == 1
    assert signals("x", "since")[20] == 1
    assert signals("x", "limit")[16] == 1, "a default of a branch"
    assert signals("don't", "odd")[12] == 1


def perceptron(inner: np.ndarray) -> Perceptron:
    """One hidden unit."""
    one = np.ones(1, np.float32)
    return Perceptron(
        middle=np.zeros(TRAITS, np.float32),
        spread=np.ones(TRAITS, np.float32),
        inner=inner.astype(np.float32).reshape(TRAITS, 1),
        inner_bias=0 * one,
        outer=10 * one,
        outer_bias=np.array(-5, np.float32),
    )


def test_log_odds_of_every_optional_parameter_survive_the_file(tmp_path: Path) -> None:
    inner = np.zeros(TRAITS)
    inner[5] = 1  # the share of the name's words
    made = replace(encoder(), given=perceptron(inner))
    wanted = dict.fromkeys(("alarm", "limit", "since", "odd"), -5.0) | {"file": 5.0}
    assert made.odds_given(TOOL, "which file?") == pytest.approx(wanted)
    assert encoder().odds_given(TOOL, "which file?") == {}
    path = tmp_path / "retriever.npz"
    made.save(path)
    assert load_retriever(path).odds_given(TOOL, "which file?") == pytest.approx(wanted)
    broken = replace(perceptron(inner), middle=np.zeros(3, np.float32))
    replace(made, given=broken).save(path)
    with pytest.raises(FileMismatch, match="optional parameters"):
        load_retriever(path)


def test_words_that_nobody_knows_find_nothing() -> None:
    none = np.zeros((0, 2), np.float32)
    assert optional.found(none, none[:, 0], np.ones((1, 2), np.float32)) == optional.Found()
    assert optional.best_of([]) == optional.Found()
