"""A short real run of a bundle: load, decode, switch an adapter and back. A program of its own.

`python -m agentflux.engines.trial BUNDLE` prints one JSON object. It is run as a child process, so
that a native crash is an answer, too. BUNDLE `tiny` is the model that ships with the package:
random weights, two layers, made by tests/make_trial_model.py.
"""

import json
import sys
import time
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from agentflux.contracts.bundle import (
    MANIFEST,
    AdapterEntry,
    BaseModelInfo,
    FileEntry,
    Manifest,
    RuntimeSettings,
    read_manifest,
    sha256_file,
)
from agentflux.contracts.prompts import ChatFormat
from agentflux.errors import AgentFluxError, EngineError

TINY = "tiny"
_TOKENS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What a trial found. switched: an adapter acted, and its end restored the base bit for bit."""

    bundle: str
    load_ms: float
    decode_ms_per_token: float
    adapter: str | None
    switched: bool


def tiny_folder() -> Path:
    """Return the folder of the model that ships with the package."""
    return Path(str(files("agentflux") / "trial_model"))


def run_trial(folder: Path, manifest: Manifest) -> Trial:
    """Run a bundle on this machine.

    Raises:
        EngineError: the runtime failed, or what it computed is not finite or not repeatable.
    """
    from agentflux.engines.ort import OrtEngine
    from agentflux.ports import Generation, Segment

    started = time.perf_counter()
    engine = OrtEngine(folder, manifest)
    load_ms = (time.perf_counter() - started) * 1e3
    adapter = next((entry.name for entry in manifest.adapters), None)
    prompt = Segment(text="Which files are in the folder docs?", adapter=None)
    try:
        rows = [
            engine.logits((prompt, Segment(text="\nTool:", adapter=name)))
            for name in (None, adapter, None)
        ]
        if not all(np.isfinite(row).all() for row in rows):
            raise EngineError("the model computes NaN or infinity on this device")
        if not np.array_equal(rows[0], rows[2]):
            raise EngineError("the base model differs after an adapter was active")
        done = engine.generate(Generation(segments=(prompt,), max_tokens=_TOKENS, grammar=None))
        return Trial(
            bundle=manifest.name,
            load_ms=round(load_ms, 1),
            decode_ms_per_token=round(done.usage.ms / max(done.usage.decoded_tokens, 1), 2),
            adapter=adapter,
            switched=adapter is not None and not np.array_equal(rows[0], rows[1]),
        )
    finally:
        engine.close()


def tiny_manifest(folder: Path) -> Manifest:
    """Describe the shipped model for this version's contracts."""
    config = json.loads((folder / "genai_config.json").read_text(encoding="utf-8"))
    model, decoder = config["model"], config["model"]["decoder"]
    elements = 2 * decoder["num_hidden_layers"] * decoder["num_key_value_heads"]
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    zero = "0" * 64
    return Manifest(
        name=TINY,
        made_by="agentflux",
        chat=ChatFormat(),
        base_model=BaseModelInfo(
            id=TINY,
            licence="Apache-2.0",
            architecture="LlamaForCausalLM",
            weights_sha256=zero,
            layers=decoder["num_hidden_layers"],
            hidden_size=decoder["hidden_size"],
            vocab_size=model["vocab_size"],
            kv_bytes_per_token=elements * decoder["head_size"] * 4,
            end_token_ids=(model["eos_token_id"],),
        ),
        runtime=RuntimeSettings(
            profile="cpu-fp32",
            provider="cpu",
            precision="fp32",
            adapter_mode="runtime",
            context_tokens=config["search"]["max_length"],
            kv_budget_bytes=1 << 26,
        ),
        adapters=(
            AdapterEntry(
                name="trial",
                subtask="select",
                rank=2,
                file="adapters/trial.onnx_adapter",
                weights_sha256=zero,
            ),
        ),
        files=tuple(
            FileEntry(
                path=path.relative_to(folder).as_posix(),
                sha256=sha256_file(path),
                bytes=path.stat().st_size,
            )
            for path in paths
        ),
    )


def main() -> None:
    """Run the bundle that the command line names and print the result as JSON."""
    answer: dict[str, Any]
    try:
        if sys.argv[1] == TINY:
            folder = tiny_folder()
            manifest = tiny_manifest(folder)
        else:
            folder = Path(sys.argv[1])
            manifest = read_manifest(folder)
        answer = {"trial": asdict(run_trial(folder, manifest)), "error": ""}
    except AgentFluxError as error:
        answer = {"trial": None, "error": str(error)}
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
