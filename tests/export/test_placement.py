from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_models import save_adapter, save_card

from afx_export.activation import activation_boundary
from afx_export.adapters import Adapter
from afx_export.certificate import tokenizer_of
from afx_export.errors import AdapterRefused
from afx_export.placement import (
    Place,
    Placed,
    merged_catalog,
    parse_place,
    place_adapters,
)
from agentflux.contracts.prompts import ChatFormat
from agentflux.errors import ConfigError

WEIGHTS = "a" * 64


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("x=route", Place(subtask="route")),
        ("x=select:git", Place(subtask="select", tool_set="git")),
        ("x=arguments:git:log:1", Place(subtask="arguments", tool_set="git", tool="log:1")),
    ],
)
def test_place_names_subtask_set_and_tool(text: str, place: Place) -> None:
    assert parse_place(text) == ("x", place)


@pytest.mark.parametrize("text", ["x", "=route", "x=talk", "x=select:", "x=arguments:git:"])
def test_a_malformed_place_is_a_config_error(text: str) -> None:
    with pytest.raises(ConfigError, match="--place"):
        parse_place(text)


def test_an_adapter_of_another_base_is_refused(tmp_path: Path) -> None:
    folder = save_card(save_adapter(tmp_path / "a"), "b" * 64)
    with pytest.raises(AdapterRefused, match="another base model"):
        place_adapters([folder], {}, weights=WEIGHTS)


def test_an_adapter_of_another_prompt_contract_is_refused(tmp_path: Path) -> None:
    folder = save_card(save_adapter(tmp_path / "a"), WEIGHTS, prompt_contract="afx-prompts/0")
    with pytest.raises(AdapterRefused, match="prompt contract"):
        place_adapters([folder], {}, weights=WEIGHTS)


def test_an_adapter_without_card_needs_a_place(tmp_path: Path) -> None:
    folder = save_adapter(tmp_path / "a")
    with pytest.raises(ConfigError, match="--place a=subtask"):
        place_adapters([folder], {}, weights=WEIGHTS)
    placed = place_adapters([folder], {"a": Place(subtask="route")}, weights=WEIGHTS)
    assert (placed[0].name, placed[0].place.subtask, placed[0].card) == ("a", "route", None)


def test_a_place_for_nobody_or_for_a_card_is_refused(tmp_path: Path) -> None:
    folder = save_card(save_adapter(tmp_path / "a"), WEIGHTS)
    place = Place(subtask="route")
    with pytest.raises(ConfigError, match="named 'b'"):
        place_adapters([folder], {"b": place}, weights=WEIGHTS)
    with pytest.raises(ConfigError, match="has a card"):
        place_adapters([folder], {"a": place}, weights=WEIGHTS)


def test_two_adapters_cannot_share_a_name_or_a_place(tmp_path: Path) -> None:
    one = save_card(save_adapter(tmp_path / "one"), WEIGHTS)
    same_place = save_card(save_adapter(tmp_path / "two"), WEIGHTS)
    same_name = save_card(save_adapter(tmp_path / "x"), WEIGHTS, name="one", subtask="select")
    with pytest.raises(ConfigError, match="both serve route"):
        place_adapters([one, same_place], {}, weights=WEIGHTS)
    with pytest.raises(ConfigError, match="both hold an adapter named 'one'"):
        place_adapters([one, same_name], {}, weights=WEIGHTS)


def test_cards_of_one_bundle_must_agree_on_their_tools(tmp_path: Path) -> None:
    tool = {"tool_set": "git", "name": "log", "sha256": "0" * 64}
    changed = {**tool, "sha256": "1" * 64}
    one = save_card(save_adapter(tmp_path / "one"), WEIGHTS, catalog=(tool,))
    two = save_card(
        save_adapter(tmp_path / "two"),
        WEIGHTS,
        subtask="select",
        catalog=(tool,),
    )
    placed = place_adapters([one, two], {}, weights=WEIGHTS)
    assert [t.name for t in merged_catalog(placed)] == ["log"]
    save_card(two, WEIGHTS, subtask="select", catalog=(changed,))
    with pytest.raises(ConfigError, match="git/log"):
        merged_catalog(place_adapters([one, two], {}, weights=WEIGHTS))


@pytest.mark.parametrize(
    ("writers", "copied"),
    [
        ({"all": (None, ["path"]), "own": ("git", [])}, ()),
        ({"all": (None, []), "own": ("git", ["path"])}, ("path",)),
        ({"a.joint": ("joint", ["path"]), "own": ("git", [])}, ()),
        ({"chooser": ("select", ["path"])}, ()),
    ],
)
def test_what_the_most_special_writer_copies_is_what_counts(
    tmp_path: Path, writers: dict[str, tuple[str | None, list[str]]], copied: tuple[str, ...]
) -> None:
    tool = {"tool_set": "git", "name": "log", "sha256": "0" * 64}
    folders = []
    for name, (of, parameters) in writers.items():
        role = of if of in ("joint", "select") else "arguments"
        tool_set = None if of == "joint" else "git" if of == "select" else of
        folder = save_adapter(tmp_path / name)
        place: dict[str, object] = {"subtask": role, "tool_set": tool_set}
        save_card(folder, WEIGHTS, **place, catalog=(tool | {"copied": parameters},))
        folders.append(folder)
    for order in (folders, folders[::-1]):
        (found,) = merged_catalog(place_adapters(order, {}, weights=WEIGHTS))
        assert found.copied == copied


def _activated(model: Path, text: str) -> tuple[Adapter, Callable[[str], list[int]]]:
    encode = tokenizer_of(model)
    tokens = tuple(encode(text))
    adapter = Adapter(
        name="a", folder=Path(), pairs={}, weights_sha256=WEIGHTS, invocation_tokens=tokens
    )
    return adapter, encode


@pytest.mark.parametrize(
    "text", ["<|im_start|>", "<|im_start|>assistant\n", "<|im_start|>assistant\nTool:"]
)
def test_invocation_tokens_that_open_the_instruction_are_the_boundary(
    model: Path, text: str
) -> None:
    adapter, encode = _activated(model, text)
    placed = Placed(folder=Path(), name="a", place=Place(subtask="select"), card=None)
    assert activation_boundary(placed, adapter, ChatFormat(), encode) == "instruction"


@pytest.mark.parametrize(
    "text", ["<|im_start|>user\n", "assistant", "<|im_start|>assistant\nArguments"]
)
def test_invocation_tokens_that_mark_another_place_are_refused(model: Path, text: str) -> None:
    adapter, encode = _activated(model, text)
    placed = Placed(folder=Path(), name="a", place=Place(subtask="select"), card=None)
    with pytest.raises(AdapterRefused, match="do not open the stage's instruction"):
        activation_boundary(placed, adapter, ChatFormat(), encode)


def test_a_card_that_contradicts_the_invocation_tokens_is_refused(
    model: Path, tmp_path: Path
) -> None:
    folder = save_card(save_adapter(tmp_path / "a"), WEIGHTS, subtask="select", boundary="request")
    adapter, encode = _activated(model, "<|im_start|>assistant\n")
    placed = place_adapters([folder], {}, weights=WEIGHTS)[0]
    with pytest.raises(AdapterRefused, match="'request'"):
        activation_boundary(placed, adapter, ChatFormat(), encode)
