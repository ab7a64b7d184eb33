"""A server that nobody trained for, beside those that the adapters know: who is asked?

    python tests/bench/strangers.py BUNDLE [--known samples/desk_assistant/data]
        [--many samples/general/data] [--servers 14] [--threads N] [--out FILE]

Some servers kept out of training (the dev split of `many`) stand, one at a time, beside the known
tool sets. Requests for it, for the known sets and for none of them are routed. Printed: the share
decided right by the model alone, with the fit of words and meaning alone beside it, and as the SDK
does; and what a logistic regression finds for the three numbers of strangers in
`agentflux.orchestration.hints`.
"""
# ruff: noqa: T201

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parents[1]))
from bench.hints import every_score, shown_tools
from bench.runs import save_result, table

from afx_train.score import share
from afx_train.trajectory import Trajectory, read_trajectories
from agentflux.contracts import prompts
from agentflux.contracts.bundle import Manifest, read_manifest
from agentflux.contracts.experts import Experts, bundle_experts
from agentflux.contracts.prompts import NONE, Situation
from agentflux.contracts.tools import Catalog, load_tool_folder
from agentflux.engines.ort import OrtEngine
from agentflux.orchestration import hints
from agentflux.ports import Scores
from agentflux.progress import progress

A_SERVER = {"stranger": 8, "known": 8, "none": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request over the known sets and one stranger."""

    kind: str
    item: Trajectory
    stranger: str
    sets: Catalog

    @property
    def right(self) -> str:
        """The tool set that serves it."""
        return self.item.steps[0].tool_set if self.item.steps else NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Routed:
    """What the model gives every name, and what the others say."""

    asked: Asked
    scores: Scores
    fits: hints.Opinion
    said: hints.Opinion


def main() -> None:
    """Ask, count, fit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--known", type=Path, default=Path("samples/desk_assistant/data"))
    parser.add_argument("--many", type=Path, default=Path("samples/general/data"))
    parser.add_argument("--servers", type=int, default=14)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    manifest = read_manifest(given.bundle)
    experts = bundle_experts(given.bundle, manifest)
    asked = list(_asked(given.known, given.many, given.servers))
    with closing(OrtEngine(given.bundle, manifest, threads=given.threads)) as engine:
        with progress("requests", len(asked)) as advance:
            routed = []
            for one in asked:
                routed.append(_routed(engine, manifest, experts, one))
                advance()
    ways: dict[str, Callable[[Routed], str]] = {
        "model": lambda r: r.scores.best,
        "words and meaning beside it": lambda r: hints.joined(r.scores, r.fits).best,
        "as the SDK does": lambda r: hints.joined(r.scores, r.said).best,
    }
    rows: list[dict[str, Any]] = []
    for name, chosen in ways.items():
        marks = [(r.asked.kind, chosen(r) == r.asked.right) for r in routed]
        kinds = {kind: str(share(ok for k, ok in marks if k == kind)) for kind in A_SERVER}
        rows.append({"way": name, **kinds, "all": str(share(ok for _, ok in marks))})
    fitted = _fitted(routed)
    print(table(rows))
    print(json.dumps(fitted))
    if given.out:
        save_result(given.out, {"bundle": manifest.name, "rows": rows, "regression": fitted})


def _asked(known: Path, many: Path, servers: int) -> Iterator[Asked]:
    own, others = load_tool_folder(known / "tools"), load_tool_folder(many / "tools")
    strange = [t for t in read_trajectories(many / "dev.jsonl") if t.steps]
    familiar = [t for t in read_trajectories(known / "dev.jsonl") if len(t.steps) == 1]
    unserved = [t for t in read_trajectories(known / "dev.jsonl") if not t.steps]
    rng = Random(5)
    names = sorted({step.tool_set for item in strange for step in item.steps})
    for name in rng.sample(names, min(servers, len(names))):
        its = [item for item in strange if item.steps[0].tool_set == name]
        for kind, items in (("stranger", its), ("known", familiar), ("none", unserved)):
            for item in rng.sample(items, min(A_SERVER[kind], len(items))):
                yield Asked(kind=kind, item=item, stranger=name, sets={**own, name: others[name]})


def _routed(engine: OrtEngine, manifest: Manifest, experts: Experts, asked: Asked) -> Routed:
    situation = Situation(request=asked.item.request, context=asked.item.context)
    prompt = prompts.route_prompt(manifest.chat, asked.sets, situation)
    shown = shown_tools(manifest, asked.sets, experts.retriever)
    opinions = hints.SecondOpinions(manifest, asked.sets, shown, experts.intents)
    said = opinions.of_sets(asked.sets, situation)
    if said is None or not said.strangers:
        sys.exit("the bundle's classifier has to know the known tools and not the strangers")
    return Routed(
        asked=asked,
        scores=every_score(engine, manifest.adapter_for("route"), prompt, list(asked.sets)),
        fits=hints.of_fits(shown.set_matches(asked.sets, situation), experts.retriever),
        said=said,
    )


def _fitted(routed: list[Routed]) -> dict[str, float]:
    """Fit whether the stranger is right by the log-odds of its fit and of the model."""
    rows = []
    for one in routed:
        told = {one.scores.best: one.scores.probability, **dict(one.scores.alternatives)}
        name = one.asked.stranger
        others = sum(p for n, p in told.items() if n not in (name, NONE))
        model = math.log(max(told[name], 1e-9)) - math.log(max(others, 1e-9))
        rows.append([one.said.strangers[name], model, 1.0])
    inputs = torch.tensor(rows, dtype=torch.float64)
    right = torch.tensor([float(one.asked.kind == "stranger") for one in routed]).double()
    weights = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    balance = torch.where(right > 0, (1 - right).sum() / right.sum(), 1.0)
    optimizer = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        found = functional.binary_cross_entropy_with_logits(inputs @ weights, right, balance)
        total = found + 0.002 * weights[:2].square().sum()
        total.backward()
        return total

    optimizer.step(loss)
    names = ("STRANGER_FIT", "STRANGER_MODEL", "STRANGER")
    found = weights.detach().tolist()
    return {name: round(value, 3) for name, value in zip(names, found, strict=True)}


if __name__ == "__main__":
    main()
