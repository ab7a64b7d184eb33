"""Our three-stage call against llama.cpp's single call with all tools in one prompt.

python tests/bench/llamacpp_call.py BUNDLE TOOLS filesystem,git,memory,sqlite,time [--rounds 3]

TOOLS: a folder of <tool_set>.json files (as `afx eval --tools`). Both answer the same requests
with a call and nothing else. llama.cpp has the same model (Q4_0) without a LoRA, and decodes one
JSON object under a grammar of all tools, its name first. Two prompts are tried: `schemas`, the
tools' own JSON, as servers with an OpenAI interface build it; and `signatures`, the compact lines
of our select stage. Cold: the model is loaded, the KV cache empty. Warm: the part of the prompt
that no request changes is in the cache. A process a round and side, in turns.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import llamacpp_parts as parts
from graphs import RESULTS
from runs import save_result, table

from agentflux.benchmark.workload import SITUATIONS
from agentflux.contracts import prompts
from agentflux.contracts.bundle import read_manifest
from agentflux.contracts.prompts import ChatFormat
from agentflux.contracts.tools import Catalog, load_tool_folder
from agentflux.engines.ort import OrtEngine, physical_cores
from agentflux.orchestration.arguments import MAX_ARGUMENT_TOKENS
from agentflux.orchestration.stages import Stages

COLD = 3
HEAD = 'Serve the request with one of these tools. Write {"name": ..., "arguments": {...}}.\n'


def ours(bundle: Path, catalog: Catalog) -> list[dict[str, Any]]:
    """Decide each request cold, then warm; `none` is no candidate, so there are always stages."""
    engine = OrtEngine(bundle, manifest := read_manifest(bundle))
    stages = Stages(engine, manifest, catalog)
    for situation in SITUATIONS:  # adapters and grammars are loaded at first use
        stages.decide(situation, required=True, emit=lambda event: None, cancel=None)
    done: list[dict[str, Any]] = []
    for cold in (True, False):
        stages.warm_up()
        for situation in SITUATIONS[: COLD if cold else None]:
            if cold:
                engine.pool.clear()
            started = time.perf_counter()
            found = stages.decide(situation, required=True, emit=lambda event: None, cancel=None)
            spent = (time.perf_counter() - started) * 1e3
            usages = [record.usage for record in found.stages]
            done.append(
                {
                    "cold": cold,
                    "ms": spent,
                    "prefill_tokens": sum(usage.prefill_tokens for usage in usages),
                    "decoded_tokens": sum(usage.decoded_tokens for usage in usages),
                    "text": f"{found.call.tool} {dict(found.call.arguments)}" if found.call else "",
                }
            )
    engine.close()
    return done


def theirs(chat: ChatFormat, catalog: Catalog, *, signatures: bool) -> dict[str, Any]:
    """Let llama.cpp answer each request cold, then warm."""
    tools = [tool for group in catalog.values() for tool in group]
    lines = [
        f"- {prompts.signature(tool)}: {prompts.cut(tool.description, 100)}"
        if signatures
        else json.dumps(
            {
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.input_schema,
            },
            ensure_ascii=False,
        )
        for tool in tools
    ]
    asked = [
        f"{chat.user_open}{situation.context}\n{situation.request}{chat.close}{chat.assistant_open}"
        for situation in SITUATIONS
    ]
    calls = [
        {
            "type": "object",
            "properties": {"name": {"const": tool.name}, "arguments": tool.input_schema},
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for tool in tools
    ]
    return parts.ask(
        do="calls",
        model=str(parts.gguf("Q4_0")),
        threads=physical_cores(),
        context=8192,
        static=chat.system_open + HEAD + "\n".join(lines) + chat.close,
        requests=[*asked[:COLD], *asked],
        cold=COLD,
        schema={"oneOf": calls},
        limit=MAX_ARGUMENT_TOKENS,
    )


def summary(way: str, calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for the cold calls and one for the warm ones."""
    rows = []
    for cold in (True, False):
        some = [call for call in calls if call["cold"] == cold]
        rows.append(
            {
                "way": way,
                "cache": "cold" if cold else "warm",
                "n": len(some),
                "median ms": round(median(call["ms"] for call in some), 1),
                "decoded tokens": median(call["decoded_tokens"] for call in some),
            }
        )
    return rows


def main() -> None:
    """Measure in turns, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("tools", type=Path)
    parser.add_argument("sets", type=lambda text: text.split(","))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--ours", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    everything = load_tool_folder(given.tools)
    catalog = {name: everything[name] for name in given.sets}
    if given.ours:
        print(json.dumps(ours(given.bundle, catalog)))
        return
    chat = read_manifest(given.bundle).chat
    found: dict[str, list[dict[str, Any]]] = {}
    static: dict[str, int] = {}
    for _ in range(given.rounds):
        command = [sys.executable, *sys.argv, "--ours"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found.setdefault("ours", []).extend(json.loads(done.stdout.splitlines()[-1]))
        for signatures in (False, True):
            name = f"llama.cpp, {'signatures' if signatures else 'schemas'}"
            result = theirs(chat, catalog, signatures=signatures)
            found.setdefault(name, []).extend(result["calls"])
            static[name] = result["static_tokens"]
    rows = [row for way, calls in found.items() for row in summary(way, calls)]
    for row in rows:
        mine = next(r for r in rows if r["way"] == "ours" and r["cache"] == row["cache"])
        row["ours is"] = f"{row['median ms'] / mine['median ms']:.2f} times as fast"
    facts = {
        "model": parts.MODEL,
        "llama_cpp_python": parts.VERSION,
        "threads": physical_cores(),
        "tools": sum(map(len, catalog.values())),
        "tool_sets": given.sets,
        "rounds": given.rounds,
        "static_tokens": static,
    }
    save_result(given.out / "llamacpp_call.json", {**facts, "rows": rows, "calls": found})
    print(f"{facts['tools']} tools; tokens of llama.cpp's static prompt: {static}")
    print(table(rows))


if __name__ == "__main__":
    main()
