"""Compare what a manifest says with the runtime's own configuration of the same bundle.

A manifest whose numbers are wrong would make the device allocate too much, or read an adapter
under another's name, long after every file's hash was found right.
"""

import json
from pathlib import Path
from typing import Any

from agentflux.contracts.bundle import Manifest
from agentflux.errors import ManifestInvalid

RUNTIME_CONFIG = "genai_config.json"
_NEEDED = (RUNTIME_CONFIG, "tokenizer.json")
_ELEMENT_BYTES = (2, 4)
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)


def check_consistent(manifest: Manifest, bundle: Path) -> None:
    """Check the manifest against genai_config.json. Call it after `check_files`.

    Raises:
        ManifestInvalid: with the first fact that differs.
    """
    listed = {entry.path for entry in manifest.files}
    for path in _NEEDED:
        if path not in listed:
            raise _invalid(bundle, f"does not list {path}")
    named = manifest.adapters if manifest.runtime.adapter_mode == "runtime" else ()
    for adapter in named:
        if Path(str(adapter.file)).stem != adapter.name:
            raise _invalid(bundle, f"gives adapter {adapter.name!r} the file {adapter.file!r}")
    try:
        config = json.loads((bundle / RUNTIME_CONFIG).read_text(encoding="utf-8"))
        differences = _differences(manifest, config)
    except _UNREADABLE as error:
        raise _invalid(
            bundle, f"lists a {RUNTIME_CONFIG} that is none ({type(error).__name__})"
        ) from error
    if differences:
        raise _invalid(bundle, f"contradicts {RUNTIME_CONFIG}: {differences[0]}")


def own_threads(bundle: Path) -> int | None:
    """The threads that the bundle's profile asks for; None leaves them to the device.

    Of a bundle that cannot be read, None, too: opening it tells why.
    """
    try:
        config = json.loads((bundle / RUNTIME_CONFIG).read_text(encoding="utf-8"))
        return _threads(config["model"]["decoder"])
    except _UNREADABLE:
        return None


def _threads(decoder: dict[str, Any]) -> int | None:
    threads: int | None = decoder.get("session_options", {}).get("intra_op_num_threads")
    return threads


def _differences(manifest: Manifest, config: dict[str, Any]) -> list[str]:
    base, decoder = manifest.base_model, config["model"]["decoder"]
    elements = 2 * decoder["num_hidden_layers"] * decoder["num_key_value_heads"]
    elements *= decoder["head_size"]
    pairs: tuple[tuple[str, int, tuple[int, ...]], ...] = (
        ("layers", base.layers, (decoder["num_hidden_layers"],)),
        ("hidden_size", base.hidden_size, (decoder["hidden_size"],)),
        ("vocab_size", base.vocab_size, (config["model"]["vocab_size"],)),
        (
            "kv_bytes_per_token",
            base.kv_bytes_per_token,
            tuple(elements * size for size in _ELEMENT_BYTES),
        ),
    )
    wrong = [
        f"{name} is {said}, not {right[0]}" for name, said, right in pairs if said not in right
    ]
    if (context := manifest.runtime.context_tokens) > config["search"]["max_length"]:
        wrong.append(f"context_tokens is {context}, more than {config['search']['max_length']}")
    if (threads := _threads(decoder)) is not None and (type(threads) is not int or threads < 1):
        wrong.append(f"intra_op_num_threads is {threads!r} there, no number of threads")
    ends = [token for token in base.end_token_ids if not 0 <= token < base.vocab_size]
    if ends or not base.end_token_ids:
        wrong.append(f"end_token_ids {list(base.end_token_ids)} are not in the vocabulary")
    return wrong


def _invalid(bundle: Path, message: str) -> ManifestInvalid:
    return ManifestInvalid(
        f"the manifest {message}", bundle=str(bundle), hint="copy the bundle again or rebuild it"
    )
