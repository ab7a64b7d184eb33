"""Recall of the preselection: is the right tool among the first k?

python tests/bench/retrieval.py TOOLS CASES.jsonl [RETRIEVER]

TOOLS: a folder of <tool_set>.json files. RETRIEVER: a retriever.npz; without one, BM25 alone.

A case needs `query` and `gold` (or its own keys) with `tool_set` and `tool`. Counted twice: over
all tools of the folder at once, and within the right tool's own set.
"""
# ruff: noqa: T201

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from agentflux.contracts.retriever import load_retriever
from agentflux.contracts.tools import ToolSpec, load_tool_folder
from agentflux.orchestration.retrieval import Retriever

COUNTS = (1, 2, 4, 8, 16, 24, 32, 48)


def main(tools: Path, cases: Path, retriever: Path | None = None) -> None:
    """Print one row for each k."""
    catalog = load_tool_folder(tools)
    encoder = load_retriever(retriever) if retriever else None
    everything = Retriever([tool for found in catalog.values() for tool in found], encoder)
    own = {name: Retriever(found, encoder) for name, found in catalog.items()}
    asked: list[tuple[str, str, str]] = []
    for line in cases.read_text(encoding="utf-8").splitlines():
        case = json.loads(line)
        gold = case.get("gold") or case
        if gold.get("tool") in {tool.name for tool in catalog.get(gold.get("tool_set"), ())}:
            asked.append((case["query"], gold["tool_set"], gold["tool"]))
    print(f"{len(asked)} cases, {sum(map(len, catalog.values()))} tools, {len(catalog)} sets")
    for k in COUNTS:
        all_ = sum(has(everything.best(q, k), s, t) for q, s, t in asked)
        mine = sum(has(own[s].best(q, k), s, t) for q, s, t in asked)
        n = max(len(asked), 1)
        print(f"recall@{k:<3} over all tools {all_ / n:6.1%}   within the set {mine / n:6.1%}")


def has(found: Sequence[ToolSpec], tool_set: str, name: str) -> bool:
    """Whether the tool is among those found."""
    return any((tool.tool_set, tool.name) == (tool_set, name) for tool in found)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
