"""Our bundle against llama.cpp on the same cores: prefill and decode, one LoRA active in both.

python tests/bench/llamacpp_speed.py BUNDLE [--beside BUNDLE...] [--adapter select] [--rounds 5]

BUNDLE: the sample's. Those of `--beside` hold the same adapters (`afx-export variants`). llama.cpp
(llama-cpp-python, compiled here) runs the same model's GGUF: Q4_1 as published, whose codes the
bundle keeps, and requantized to Q4_0, its fastest format on x86. Each measurement is a process of
its own; they take turns, and medians are shown. Before that all are compared on stage prompts: how
many of the most probable tokens under the LoRA are those of Q4_1, which holds the published
weights.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import graphs
import llamacpp_parts as parts
from runs import save_result, table

from afx_export.certificate import tokenizer_of
from afx_export.genai import Runtime
from agentflux.benchmark.workload import CATALOG, SITUATIONS
from agentflux.contracts import prompts
from agentflux.contracts.bundle import read_manifest
from agentflux.engines.ort import physical_cores

ADAPTERS = Path(__file__).parents[2] / "samples" / "desk_assistant" / "adapters"
COMPARED_TOKENS = 12


def stage_tokens(bundle: Path) -> list[tuple[list[int], list[int]]]:
    """Return (prompt, tokens fed after it) of the select stage of every situation."""
    manifest, encode = read_manifest(bundle), tokenizer_of(bundle)
    fed = encode("move_file, read_text_file, list_directory")[:COMPARED_TOKENS]
    return [
        ([token for piece in prompt.pieces() for token in encode(piece)], fed)
        for prompt in (
            prompts.select_prompt(manifest.chat, "filesystem", CATALOG["filesystem"], situation)
            for situation in SITUATIONS
        )
    ]


def best_of_ours(bundle: Path, adapter: str) -> list[int]:
    """Return the most probable tokens of the stage prompts under the adapter."""
    manifest = read_manifest(bundle)
    runtime = Runtime(bundle, manifest.runtime, manifest.adapters)
    found: list[int] = []
    for prompt, fed in stage_tokens(bundle):
        found += runtime.logits(adapter, (), prompt, fed).argmax(-1).tolist()
    return found


def best_of_theirs(bundle: Path, kind: str, lora: str) -> list[int]:
    """Return the most probable tokens of the same prompts. bundle: for its tokenizer."""
    model, threads = str(parts.gguf(kind)), physical_cores()
    found: list[int] = []
    for prompt, fed in stage_tokens(bundle):
        job = {"model": model, "lora": lora, "threads": threads, "prompt": prompt, "fed": fed}
        found += parts.ask(do="best_tokens", **job)["best"]
    return found


def ours(bundle: Path, adapter: str) -> dict[str, float]:
    """Measure the bundle in a process of its own. adapter: `base` for the null adapter."""
    command = [sys.executable, graphs.__file__, "--one", str(bundle), adapter]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    rates: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return rates


def theirs(kind: str, lora: str) -> dict[str, float]:
    """Measure llama.cpp in a process of its own. lora: a GGUF file, or empty."""
    return parts.ask(
        do="speed",
        model=str(parts.gguf(kind)),
        lora=lora,
        threads=physical_cores(),
        prefill=graphs.PREFILL,
        decode=graphs.DECODE,
        repeats=graphs.REPEATS,
    )


def main() -> None:
    """Compare, measure in turns, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--beside", type=Path, nargs="+", default=[], help="other bundles of ours")
    parser.add_argument("--adapter", default="select")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=graphs.RESULTS)
    given = parser.parse_args()
    lora = str(parts.gguf_lora(ADAPTERS / given.adapter))
    bundles = {read_manifest(b).runtime.profile: b for b in (given.bundle, *given.beside)}
    ways: dict[str, Callable[[], dict[str, float]]] = {}
    best: dict[str, list[int]] = {}
    for profile, bundle in bundles.items():
        ways[f"{profile}, LoRA"] = partial(ours, bundle, given.adapter)
        best[f"{profile}, LoRA"] = best_of_ours(bundle, given.adapter)
    for kind in ("Q4_0", "Q4_1"):
        ways[f"llama.cpp {kind}, LoRA"] = partial(theirs, kind, lora)
        best[f"llama.cpp {kind}, LoRA"] = best_of_theirs(given.bundle, kind, lora)
    for profile, bundle in bundles.items():
        ways[f"{profile}, base"] = partial(ours, bundle, "base")
    for kind in ("Q4_0", "Q4_1"):
        ways[f"llama.cpp {kind}, base"] = partial(theirs, kind, "")
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for _ in range(given.rounds):
        for name, measure in ways.items():
            found[name].append(measure())
    rows = []
    for name, runs in found.items():
        row: dict[str, Any] = {"way": name}
        bar = "llama.cpp Q4_0, " + name.rpartition(", ")[2]
        for key in ("prefill", "decode"):
            row[key] = round(median(run[key] for run in runs), 1)
            row[f"{key} / Q4_0"] = round(row[key] / median(run[key] for run in found[bar]), 2)
        row["same tokens as Q4_1"] = _equal(best.get(name), best["llama.cpp Q4_1, LoRA"])
        rows.append(row)
    result = {
        "model": parts.MODEL,
        "llama_cpp_python": parts.VERSION,
        "threads": physical_cores(),
        "adapter": given.adapter,
        "rounds": given.rounds,
        "rows": rows,
        "runs": found,
    }
    save_result(given.out / "llamacpp_speed.json", result)
    print(table(rows))


def _equal(tokens: list[int] | None, others: list[int]) -> str:
    if tokens is None:
        return ""
    return f"{sum(a == b for a, b in zip(tokens, others, strict=True))}/{len(others)}"


if __name__ == "__main__":
    main()
