"""What decoding brings to arguments: copied values, the search, leaving out what nothing founds.

    python tests/bench/arguments.py BUNDLE --cases cases.jsonl --tools data/tools [--out FILE]

Tool set and tool are the true ones; the bundle writes the arguments of each case in five ways, each
one step more than the one before: under the tool's schema, with spans held to the texts at hand,
with words held to them, searched for, and (as the SDK does, for tools that no adapter was trained
for) without optional strings that nothing founds. Tokens are those computed, forced ones among
them. One thread, so that it can share the machine.
"""
# ruff: noqa: T201

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parents[1]))
from bench.desk import Steered
from bench.runs import save_result, table

from afx_train.score import same, share
from agentflux.contracts.bundle import Manifest, read_manifest
from agentflux.contracts.cases import Case, read_cases
from agentflux.contracts.tools import load_tool_folder
from agentflux.engines.ort import OrtEngine
from agentflux.orchestration import stages
from agentflux.ports import Completion
from agentflux.progress import progress

SEARCHED = stages.ARGUMENT_ROLLOUTS
GROUNDED = stages.grounded


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One row: what holds the strings, how many rollouts, whether what nothing founds stays."""

    name: str
    spans: bool = True
    words: bool = True
    rollouts: int = SEARCHED
    grounded: bool = False


WAYS = (
    Way(name="schema alone", spans=False, words=False, rollouts=1),
    Way(name="spans", words=False, rollouts=1),
    Way(name="spans and words", rollouts=1),
    Way(name=f"searched, {SEARCHED} rollouts"),
    Way(name="grounded", grounded=True),
)


def main() -> None:
    """Ask, count, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--cases", type=Path, required=True)
    parser.add_argument("--tools", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    golds = {}
    for line in options.cases.read_text(encoding="utf-8").splitlines():
        case = json.loads(line)
        golds[case["id"]] = case["gold"]
    cases = [c for c in read_cases(options.cases) if golds[c.id]["tool"]]
    catalog = load_tool_folder(options.tools)
    manifest = read_manifest(options.bundle)
    engine = Steered(OrtEngine(options.bundle, manifest, threads=1))
    rows = []
    try:
        with progress("arguments", len(WAYS) * len(cases)) as advance:
            for way in WAYS:
                told, right, tokens = _told(manifest, way), [], 0
                with _decoding(way):
                    for case in cases:
                        gold = golds[case.id]
                        alone = {gold["tool_set"]: catalog[gold["tool_set"]]}
                        over = stages.Stages(engine, told, alone)
                        right.append(_is_right(engine, over, case, gold))
                        done = [s.result for s in engine.served if isinstance(s.result, Completion)]
                        tokens += sum(result.usage.decoded_tokens for result in done)
                        advance()
                rows.append({"way": way.name, "right": str(share(right)), "tokens": tokens})
    finally:
        engine.close()
    print(table(rows))
    if options.out:
        save_result(options.out, {"bundle": manifest.runtime.profile, "rows": rows})


def _is_right(engine: Steered, over: stages.Stages, case: Case, gold: Mapping[str, Any]) -> bool:
    call = engine.take(over, case.situation(), gold["tool_set"], gold["tool"]).call
    accepted = [gold["arguments"], *gold.get("accept", ())]
    return call is not None and any(same(call.arguments, wanted) for wanted in accepted)


def _told(manifest: Manifest, way: Way) -> Manifest:
    """The manifest as the way has it."""
    tools = tuple(
        tool.model_copy(
            update={
                "copied": tool.copied if way.spans else (),
                "worded": tool.worded if way.words else {},
            }
        )
        for tool in manifest.catalog
    )
    return manifest.model_copy(update={"catalog": tools})


@contextmanager
def _decoding(way: Way) -> Iterator[None]:
    left = GROUNDED if way.grounded else (lambda arguments, tool, texts: dict(arguments))
    with (
        patch.object(stages, "grounded", left),
        patch.object(stages, "ARGUMENT_ROLLOUTS", way.rollouts),
    ):
        yield


if __name__ == "__main__":
    main()
