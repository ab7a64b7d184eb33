"""How much the words of a request should say where no adapter knows the tools.

    python tests/bench/hints.py BUNDLE [--data samples/general/data] [--requests 260] [--out FILE]

Requests of the servers that the general adapters were not trained on (the dev split of `data`),
each set offered beside three others of them, are routed and, within the right set, selected by the
bundle. Printed: the share decided right by the model alone, by the words alone, and by both with
the numbers of `agentflux.orchestration.hints` and with those that would be best here.
"""

import argparse
import itertools
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from bench.runs import save_result

from afx_train.trajectory import Trajectory, read_trajectories
from agentflux.contracts import prompts
from agentflux.contracts.bundle import AdapterEntry, Manifest, read_manifest
from agentflux.contracts.experts import bundle_experts
from agentflux.contracts.prompts import NONE, Situation, StagePrompt
from agentflux.contracts.retriever import BiEncoder
from agentflux.contracts.tools import Catalog, ToolSpec, load_tool_folder
from agentflux.engines.ort import OrtEngine
from agentflux.orchestration import hints
from agentflux.orchestration.layout import segments
from agentflux.orchestration.shown import ShownTools
from agentflux.ports import Choosing, Scores

OFFERED = 4
MODEL = (0.0, 0.15, 0.25, 0.35, 0.5, 0.7, 1.0)
WORDS = (0.0, 0.3, 0.5, 0.7, 1.0, 1.4, 2.0, 3.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One choice: what the model says of every name, what the words say, and the right name."""

    scores: Scores
    said: hints.Opinion
    right: str


def main() -> None:
    """Ask the bundle, then weigh."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--data", type=Path, default=Path("samples/general/data"))
    parser.add_argument("--requests", type=int, default=260)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    manifest = read_manifest(options.bundle)
    encoder = bundle_experts(options.bundle, manifest).retriever
    engine = OrtEngine(options.bundle, manifest, threads=options.threads or None)
    asked = _requests(options.data, options.requests)
    try:
        made = {
            "route": [_route(engine, manifest, encoder, *a) for a in asked],
            "select": [_select(engine, manifest, encoder, *a) for a in asked],
        }
    finally:
        engine.close()
    result: dict[str, Any] = {"requests": len(asked), "offered": OFFERED}
    for stage, choices in made.items():
        result[stage] = {
            "model": _share(choices, 1.0, 0.0),
            "words": _share(choices, 0.0, 1.0),
            "both": _share(choices, choices[0].said.model, choices[0].said.other),
            "best": _best(lambda *n, c=choices: _share(c, *n)),
        }
    result["best_of_both_stages"] = _best(
        lambda *n: round(sum(_share(choices, *n) for choices in made.values()) / len(made), 4)
    )
    print(json.dumps(result, indent=2))
    if options.out:
        save_result(options.out, {"bundle": manifest.name} | result)


def _requests(data: Path, count: int) -> list[tuple[Trajectory, str, Catalog]]:
    """Draw dev requests, the served ones and as large a share of the others as there is."""
    catalog = load_tool_folder(data / "tools")
    items = read_trajectories(data / "dev.jsonl")
    held_out = sorted({step.tool_set for item in items for step in item.steps})
    rng = Random(1)
    drawn: list[tuple[Trajectory, str, Catalog]] = []
    for item in rng.sample(items, min(count, len(items))):
        own = item.steps[0].tool_set if item.steps else item.kind.removeprefix("none/")
        names = [own, *rng.sample([n for n in held_out if n != own], OFFERED - 1)]
        rng.shuffle(names)
        drawn.append((item, own, {name: catalog[name] for name in names}))
    return drawn


def _route(
    engine: OrtEngine,
    manifest: Manifest,
    encoder: BiEncoder | None,
    item: Trajectory,
    _: str,
    sets: Catalog,
) -> Choice:
    shown = shown_tools(manifest, sets, encoder)
    situation = Situation(request=item.request)
    prompt = prompts.route_prompt(manifest.chat, sets, situation)
    return Choice(
        scores=every_score(engine, manifest.adapter_for("route"), prompt, list(sets)),
        said=hints.of_fits(shown.set_matches(sets, situation), encoder),
        right=item.steps[0].tool_set if item.steps else NONE,
    )


def _select(
    engine: OrtEngine,
    manifest: Manifest,
    encoder: BiEncoder | None,
    item: Trajectory,
    own: str,
    sets: Catalog,
) -> Choice:
    shown = shown_tools(manifest, sets, encoder)
    situation, tools = Situation(request=item.request), sets[own]
    prompt = prompts.select_prompt(manifest.chat, own, tools, situation)
    names = [tool.name for tool in tools]
    return Choice(
        scores=every_score(engine, manifest.adapter_for("select", own), prompt, names),
        said=hints.of_fits(shown.tool_matches(own, tools, situation), encoder),
        right=item.steps[0].tool if item.steps else NONE,
    )


def every_score(
    engine: OrtEngine, adapter: AdapterEntry | None, prompt: StagePrompt, names: Sequence[str]
) -> Scores:
    """Ask for the probability of every name and of `none`."""
    asked = Choosing(segments=segments(prompt, adapter), candidates=(*names, NONE), every=True)
    return engine.choose(asked)


def shown_tools(
    manifest: Manifest, sets: Mapping[str, Sequence[ToolSpec]], encoder: BiEncoder | None
) -> ShownTools:
    """Return the catalog as a bundle's stages show it."""
    tokens = manifest.runtime.context_tokens
    return ShownTools(manifest.chat, sets, context_tokens=tokens, encoder=encoder)


def _share(choices: Sequence[Choice], model: float, words: float) -> float:
    right = 0
    for choice in choices:
        opinion = replace(choice.said, model=model, other=words)
        chosen = hints.joined(choice.scores, opinion)
        right += chosen.best == choice.right
    return round(right / len(choices), 4)


def _best(share: Callable[..., float]) -> dict[str, float]:
    """The two numbers of the grid that decide most choices right."""
    grid = itertools.product(MODEL, WORDS)
    found = max(grid, key=lambda numbers: share(*numbers))
    return dict(zip(("model", "words"), found, strict=True)) | {"right": share(*found)}


if __name__ == "__main__":
    main()
