"""What a compiled grammar takes: a tool's own, and one of spans of a request's texts.

python tests/bench/grammars.py BUNDLE [COUNT]

Prints milliseconds to compile and KiB to keep, each as the mean over COUNT different ones.
"""
# ruff: noqa: T201

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import llguidance

from agentflux import ToolSpec
from agentflux.benchmark.machine import resident_bytes
from agentflux.contracts.bundle import read_manifest
from agentflux.contracts.grammar import arguments_grammar, copying_grammar, tokenizer

_LINE = "[FILE] report-{0}-{1}.txt modified on 2024-03-{0} by user {1}, {0}{1} bytes"


def main(bundle: Path, count: int) -> None:
    """Print both rows."""
    model = read_manifest(bundle).base_model
    text = (bundle / "tokenizer.json").read_text(encoding="utf-8")
    tokens = tokenizer(text, model.vocab_size, min(model.end_token_ids))
    own = [arguments_grammar(_tool(f"path_{index}")) for index in range(count)]
    seen = "\n".join(_LINE.format(index, index * 7) for index in range(9))
    spans = [
        copying_grammar(_tool("path"), ["path"], [f"What does notes/{index}.md say?", seen])
        for index in range(count)
    ]
    for name, grammars in {"a tool's own": own, f"spans of {len(seen)} characters": spans}.items():
        print(f"{name}: {_cost(tokens, grammars)}")


def _cost(tokens: llguidance.LLTokenizer, grammars: Sequence[str]) -> str:
    started, before = time.perf_counter(), resident_bytes()
    kept = [llguidance.LLMatcher(tokens, grammar) for grammar in grammars]
    ms = (time.perf_counter() - started) * 1e3 / len(kept)
    kib = (resident_bytes() - before) / 1024 / len(kept)
    assert not any(matcher.is_error() for matcher in kept)
    return f"{ms:.1f} ms to compile, {kib:.0f} KiB kept, n={len(kept)}"


def _tool(parameter: str) -> ToolSpec:
    schema = {
        "type": "object",
        "properties": {parameter: {"type": "string"}, "head": {"type": "number"}},
        "required": [parameter],
    }
    return ToolSpec(tool_set="files", name="read", input_schema=schema)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 200)
