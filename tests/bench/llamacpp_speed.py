"""Our bundle against llama.cpp on the same cores: prefill and decode, one LoRA active in both.

python tests/bench/llamacpp_speed.py BUNDLE [--adapter select] [--rounds 5] [--out docs/benchmarks]

BUNDLE: the sample's. llama.cpp (llama-cpp-python, compiled here) runs the same model's GGUF: Q4_1
as published, whose codes the bundle keeps, and requantized to Q4_0, its fastest format on x86. Each
measurement is a process of its own; they take turns, and medians are shown. Before that the two
are compared on stage prompts: the same LoRA must choose the same tokens.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import median

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


def agreement(bundle: Path, adapter: str) -> str:
    """Return how many most probable tokens both sides share, each under the adapter."""
    manifest, encode = read_manifest(bundle), tokenizer_of(bundle)
    equal = total = 0
    for situation in SITUATIONS[:4]:
        prompt = prompts.select_prompt(
            manifest.chat, "filesystem", CATALOG["filesystem"], situation
        )
        ids = [token for piece in prompt.pieces() for token in encode(piece)]
        fed = encode("move_file, read_text_file, list_directory")[:COMPARED_TOKENS]
        runtime = Runtime(bundle, manifest.runtime, manifest.adapters)
        ours = runtime.logits(adapter, (), ids, fed).argmax(-1).tolist()
        theirs = parts.ask(
            do="best_tokens",
            model=str(parts.gguf("Q4_1")),
            lora=str(parts.gguf_lora(ADAPTERS / adapter)),
            threads=physical_cores(),
            prompt=ids,
            fed=fed,
        )["best"]
        equal += sum(a == b for a, b in zip(ours, theirs, strict=True))
        total += len(ours)
    return f"{equal}/{total}"


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
    parser.add_argument("--adapter", default="select")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=graphs.RESULTS)
    given = parser.parse_args()
    lora = str(parts.gguf_lora(ADAPTERS / given.adapter))
    ways = {
        "ours, LoRA": lambda: ours(given.bundle, given.adapter),
        "llama.cpp Q4_0, LoRA": lambda: theirs("Q4_0", lora),
        "llama.cpp Q4_1, LoRA": lambda: theirs("Q4_1", lora),
        "ours, base": lambda: ours(given.bundle, "base"),
        "llama.cpp Q4_0, base": lambda: theirs("Q4_0", ""),
        "llama.cpp Q4_1, base": lambda: theirs("Q4_1", ""),
    }
    equal = agreement(given.bundle, given.adapter)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for _ in range(given.rounds):
        for name, measure in ways.items():
            found[name].append(measure())
    rows = [
        {"way": name, **{key: round(median(r[key] for r in runs), 1) for key in runs[0]}}
        for name, runs in found.items()
    ]
    for row, first in zip(rows, (rows[0],) * 3 + (rows[3],) * 3, strict=True):
        for key in ("prefill", "decode"):
            row[f"ours is {key}"] = f"{first[key] / row[key]:.2f} times"
    result = {
        "model": parts.MODEL,
        "llama_cpp_python": parts.VERSION,
        "threads": physical_cores(),
        "adapter": given.adapter,
        "rounds": given.rounds,
        "equal_most_probable_tokens": equal,
        "rows": rows,
        "runs": found,
    }
    save_result(given.out / "llamacpp_speed.json", result)
    print(f"most probable tokens equal under {given.adapter!r}: {equal}")
    print(table(rows))


if __name__ == "__main__":
    main()
