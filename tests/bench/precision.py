"""What a bundle's precision changes: logits at the gold answers of real stage prompts.

python tests/bench/precision.py REFERENCE BUNDLE... --tools DIR --cases CASES.jsonl

REFERENCE is the same bundle in fp32. For each case that has `gold`, the prompts of its stages are
computed under the bundle's adapters and the gold name or arguments are fed token by token. Printed:
the share of positions whose most probable token is the reference's, the mean KL divergence from
the reference in nats, and the mean negative log-likelihood of the gold tokens.
"""
# ruff: noqa: T201

import argparse
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from runs import table

from afx_export.certificate import tokenizer_of
from afx_export.genai import Runtime
from agentflux.contracts import prompts
from agentflux.contracts.bundle import AdapterEntry, Manifest, read_manifest
from agentflux.contracts.cases import Case
from agentflux.contracts.tools import Catalog, load_tool_folder

MAX_TARGET_TOKENS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One stage prompt, cut at the adapter's boundary, and the tokens fed after it."""

    adapter: str | None
    base: tuple[int, ...]
    adapted: tuple[int, ...]
    fed: tuple[int, ...]


def items(bundle: Path, catalog: Catalog, cases: Path, count: int, every: int) -> list[Item]:
    """Return every `every`-th stage prompt of `count` random cases (a fixed seed)."""
    manifest = read_manifest(bundle)
    rows = [json.loads(line) for line in cases.read_text(encoding="utf-8").splitlines()]
    random.Random(5).shuffle(rows)
    found = [stage for row in rows[:count] for stage in stages(manifest, catalog, row)]
    # Stages of one tool set share their static prefix.
    found.sort(key=lambda stage: stage[0])
    encode = tokenizer_of(bundle)
    end = manifest.base_model.end_token_ids[0]
    made = []
    for _, adapter, prompt, target in found[::every]:
        base, adapted = prompt.split(adapter.boundary if adapter else "request")
        made.append(
            Item(
                adapter=adapter.name if adapter else None,
                base=tuple(token for piece in base for token in encode(piece)),
                adapted=tuple(token for piece in adapted for token in encode(piece)),
                fed=(*encode(target)[:MAX_TARGET_TOKENS], end),
            )
        )
    return made


def stages(
    manifest: Manifest, catalog: Catalog, row: dict[str, Any]
) -> Iterator[tuple[str, AdapterEntry | None, prompts.StagePrompt, str]]:
    """Yield (sorting key, adapter, prompt, gold text) of each stage that the gold call passes."""
    situation, gold = Case.model_validate(row).situation(), row["gold"]
    name, stop = gold["tool_set"], prompts.stop_label(situation)
    prompt = prompts.route_prompt(manifest.chat, catalog, situation)
    yield "route", manifest.adapter_for("route"), prompt, name or stop
    if not name:
        return
    tools = catalog[name]
    prompt = prompts.select_prompt(manifest.chat, name, tools, situation)
    yield f"select.{name}", manifest.adapter_for("select", name), prompt, gold["tool"]
    tool = next(tool for tool in tools if tool.name == gold["tool"])
    if tool.takes_arguments:
        prompt = prompts.arguments_prompt(manifest.chat, tool, tools, situation)
        adapter = manifest.adapter_for("arguments", name, tool.name)
        text = prompts.target_text(gold["arguments"], tool.input_schema)
        yield f"args.{name}", adapter, prompt, text


def log_probabilities(bundle: Path, asked: list[Item]) -> list[np.ndarray[Any, Any]]:
    """Return log-softmax rows for each item: (tokens fed, vocabulary)."""
    manifest = read_manifest(bundle)
    runtime = Runtime(bundle, manifest.runtime, manifest.adapters)
    out = []
    for item in asked:
        logits = runtime.logits(item.adapter, item.base, item.adapted, item.fed)
        logits = logits.astype(np.float64)
        top = logits.max(-1, keepdims=True)
        out.append(logits - top - np.log(np.exp(logits - top).sum(-1, keepdims=True)))
    return out


def main() -> None:
    """Compare the bundles with the reference and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundles", nargs="+", type=Path, metavar="BUNDLE")
    parser.add_argument("--tools", type=Path, required=True)
    parser.add_argument("--cases", type=Path, required=True)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--every", type=int, default=4)
    given = parser.parse_args()
    catalog = load_tool_folder(given.tools)
    asked = items(given.bundles[0], catalog, given.cases, given.count, given.every)
    reference = log_probabilities(given.bundles[0], asked)
    rows = []
    for bundle in given.bundles:
        found = log_probabilities(bundle, asked)
        pairs = list(zip(reference, found, strict=True))
        size = sum(len(item.fed) for item in asked)
        equal = sum(int((a.argmax(-1) == b.argmax(-1)).sum()) for a, b in pairs)
        divergence = sum(float((np.exp(a) * (a - b)).sum()) for a, b in pairs) / size
        gold = sum(
            float(b[np.arange(len(i.fed)), list(i.fed)].sum())
            for i, b in zip(asked, found, strict=True)
        )
        rows.append(
            {
                "bundle": bundle.name,
                "equal": f"{equal}/{size}",
                "KL": f"{divergence:.4f}",
                "NLL of gold": f"{-gold / size:.3f}",
            }
        )
    print(table(rows))


if __name__ == "__main__":
    main()
