"""A manifest whose numbers contradict the runtime's configuration is refused before it is used."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from sdk.support import ZERO_HASH, adapter, manifest

from agentflux.contracts.bundle import FileEntry, Manifest, read_manifest
from agentflux.contracts.consistency import check_consistent, own_threads
from agentflux.errors import ManifestInvalid

CONFIG: dict[str, Any] = {
    "model": {
        "vocab_size": 100,
        "decoder": {
            "num_hidden_layers": 1,
            "num_key_value_heads": 2,
            "head_size": 4,
            "hidden_size": 8,
        },
    },
    "search": {"max_length": 64},
}


def _whole(folder: Path, config: object = CONFIG, **base: object) -> Manifest:
    (folder / "genai_config.json").write_text(json.dumps(config), encoding="utf-8")
    whole = manifest([adapter("a", "route")])
    facts = {"kv_bytes_per_token": 2 * 1 * 2 * 4 * 4, **base}
    paths = ("genai_config.json", "tokenizer.json", "adapters/a.onnx_adapter")
    entries = tuple(FileEntry(path=path, sha256=ZERO_HASH, bytes=1) for path in paths)
    return whole.model_copy(
        update={
            "base_model": whole.base_model.model_copy(update=facts),
            "runtime": whole.runtime.model_copy(update={"context_tokens": 64}),
            "files": entries,
        }
    )


def test_a_manifest_that_agrees_passes(tmp_path: Path) -> None:
    check_consistent(_whole(tmp_path), tmp_path)
    check_consistent(_whole(tmp_path, kv_bytes_per_token=2 * 1 * 2 * 4 * 2), tmp_path)


@pytest.mark.parametrize(
    ("options", "threads"), [({}, None), ({"intra_op_num_threads": 3}, 3), (None, None)]
)
def test_the_profiles_threads_are_read(
    tmp_path: Path, options: dict[str, int] | None, threads: int | None
) -> None:
    config = _with_options(options) if options is not None else CONFIG
    check_consistent(_whole(tmp_path, config), tmp_path)
    assert own_threads(tmp_path) == threads


@pytest.mark.parametrize("options", [{"intra_op_num_threads": "four"}, [], 3])
def test_threads_that_are_no_number_are_refused(tmp_path: Path, options: object) -> None:
    with pytest.raises(ManifestInvalid, match=r"intra_op_num_threads|that is none"):
        check_consistent(_whole(tmp_path, _with_options(options)), tmp_path)


def _with_options(options: object) -> dict[str, Any]:
    decoder = CONFIG["model"]["decoder"] | {"session_options": options}
    return CONFIG | {"model": CONFIG["model"] | {"decoder": decoder}}


@pytest.mark.parametrize(
    ("fact", "value"),
    [
        ("layers", 2),
        ("hidden_size", 9),
        ("vocab_size", 101),
        ("kv_bytes_per_token", 1),
        ("end_token_ids", (100,)),
        ("end_token_ids", ()),
    ],
)
def test_a_number_that_differs_is_named(tmp_path: Path, fact: str, value: object) -> None:
    with pytest.raises(ManifestInvalid, match=fact):
        check_consistent(_whole(tmp_path, **{fact: value}), tmp_path)


def test_more_context_than_the_graph_was_made_for_is_refused(tmp_path: Path) -> None:
    whole = _whole(tmp_path)
    huge = whole.runtime.model_copy(update={"context_tokens": 10**12})
    with pytest.raises(ManifestInvalid, match="context_tokens"):
        check_consistent(whole.model_copy(update={"runtime": huge}), tmp_path)


@pytest.mark.parametrize("config", [[], {}, {"model": 3}, {"model": {"decoder": None}}])
def test_a_runtime_configuration_that_is_none_is_refused(tmp_path: Path, config: object) -> None:
    with pytest.raises(ManifestInvalid, match=r"genai_config\.json that is none"):
        check_consistent(_whole(tmp_path, config), tmp_path)


def test_files_that_the_runtime_reads_must_be_listed(tmp_path: Path) -> None:
    whole = _whole(tmp_path)
    with pytest.raises(ManifestInvalid, match=r"does not list tokenizer\.json"):
        check_consistent(whole.model_copy(update={"files": whole.files[:1]}), tmp_path)


def test_an_adapter_under_another_adapters_file_is_refused(tmp_path: Path) -> None:
    whole = _whole(tmp_path)
    exchanged = (whole.adapters[0].model_copy(update={"name": "b"}),)
    with pytest.raises(ManifestInvalid, match="gives adapter 'b' the file"):
        check_consistent(whole.model_copy(update={"adapters": exchanged}), tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_in_place_of_the_manifest_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "afx.json")
    with pytest.raises(ManifestInvalid, match="not a plain file"):
        read_manifest(tmp_path)
