"""What one KV cache is worth: a warm call in three stages against the same stages without reuse.

python tests/bench/calls.py BUNDLE [--rounds N] [--no-peft] [--out FILE.json]

The tools are those of the desk assistant's five servers, the calls those of `desk.py`. Taken in
turn, request by request:

shared   one KV cache, adapters switched on the live generator, warm
fresh    a new generator for every stage, so that each prefills its whole prompt
peft     transformers + PEFT in fp32 on as many threads: `set_adapter`, the whole prompt, greedy,
         as many new tokens as `shared` decoded in that stage

`against shared` compares the medians, `paired` is the median of the calls' own ratios, which other
work on the machine disturbs less. Checked on every warm call: the prefilled tokens are exactly
those that no earlier request over the same catalog had under the same adapter. Exit code 1 when
that or a bar (5x, 8x, of the medians) is missed.
"""
# ruff: noqa: T201

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from desk import DESK, REQUESTS, Asked, Served, Steered, desk_catalog
from runs import save_result, table

from agentflux.contracts.bundle import read_manifest
from agentflux.contracts.cache import cache_folder
from agentflux.engines.ort import OrtEngine
from agentflux.orchestration.stages import Stages
from agentflux.ports import Choosing, Segment

STAGES = ("route", "select", "arguments")
BARS = {"fresh": 5.0, "peft": 8.0}
Pairs = list[tuple[int, str | None]]


def main(bundle: Path, rounds: int, with_peft: bool, out: Path | None) -> int:
    """Measure, print and save; return 1 where a bar is missed."""
    manifest, catalog = read_manifest(bundle), desk_catalog()
    engine = OrtEngine(bundle, manifest)
    shared, fresh = Steered(engine), Steered(OrtEngine(bundle, manifest))
    fresh._before = fresh._engine.pool.clear
    runs: dict[str, Callable[[Asked], list[Served]]] = {
        "shared": decider(shared, Stages(shared, manifest, catalog)),
        "fresh": decider(fresh, Stages(fresh, manifest, catalog)),
    }
    if with_peft:
        runs["peft"] = Peft(engine, shared, [a.name for a in manifest.adapters])
    Stages(engine, manifest, catalog).warm_up()
    check = NewTokens(engine)
    for asked in REQUESTS:  # adapters are loaded at their first use
        check.seen(runs["shared"](asked))
    runs["fresh"](REQUESTS[0])
    taken: dict[str, list[float]] = {name: [] for name in runs}
    stages: dict[str, list[dict[str, float]]] = {"shared": [], "fresh": []}
    same = 0
    for _ in range(rounds):
        for asked in REQUESTS:
            texts = []
            for name, run in runs.items():
                started = time.perf_counter()
                served = run(asked)
                taken[name].append((time.perf_counter() - started) * 1e3)
                if name in stages:
                    assert len(served) == len(STAGES)
                    stages[name].append(
                        {s: one.result.usage.ms for s, one in zip(STAGES, served, strict=True)}
                    )
                    texts.append([one.text for one in served])
                if name == "shared":
                    check.exact(served)
            same += texts[0] == texts[1]
    medians = {name: statistics.median(times) for name, times in taken.items()}
    ratios = {name: ms / medians["shared"] for name, ms in medians.items() if name in BARS}
    rows = [
        {"run": name, "n": len(taken[name]), "median ms": f"{ms:.0f}"}
        | {s: _median(stages.get(name), s) for s in STAGES}
        | {
            "against shared": f"{ms / medians['shared']:.2f}",
            "paired": f"{paired(taken, name):.2f}",
        }
        for name, ms in medians.items()
    ]
    print(table(rows))
    print(
        f"{sum(map(len, catalog.values()))} tools in {len(catalog)} sets; warm calls prefilled "
        f"{statistics.median(check.prefilled):.0f} tokens and reused "
        f"{statistics.median(check.reused):.0f} (medians), exactly the new ones in all of "
        f"{len(check.prefilled)}; the same names and arguments in {same} of {len(taken['shared'])}"
    )
    if out is not None:
        figures = {
            "command": "tests/bench/calls.py",
            "model": manifest.base_model.id,
            "profile": manifest.runtime.profile,
            "threads": engine.threads,
            "tools": sum(map(len, catalog.values())),
            "ms": {name: [round(ms, 1) for ms in times] for name, times in taken.items()},
            "stage_ms": {
                name: {s: [round(row[s], 1) for row in found] for s in STAGES}
                for name, found in stages.items()
            },
            "prefilled": check.prefilled,
            "reused": check.reused,
            "same_output": same,
            "ratio": {name: round(ratio, 2) for name, ratio in ratios.items()},
            "paired_ratio": {name: round(paired(taken, name), 2) for name in ratios},
        }
        save_result(out, figures)
    return int(any(ratios[name] < BARS[name] for name in ratios))


def paired(taken: dict[str, list[float]], name: str) -> float:
    """Return the median over the calls of how much longer each took than its shared neighbour."""
    pairs = zip(taken[name], taken["shared"], strict=True)
    return statistics.median(other / shared for other, shared in pairs)


def decider(engine: Steered, stages: Stages) -> Callable[[Asked], list[Served]]:
    """Run the stages of a request and return what the engine served."""

    def run(asked: Asked) -> list[Served]:
        engine.decide(stages, asked)
        return engine.served

    return run


class NewTokens:
    """Knows what was computed last over each catalog, and so which tokens of a stage are new."""

    def __init__(self, engine: OrtEngine) -> None:
        self._engine = engine
        self._last: dict[str, Pairs] = {}
        self.prefilled: list[int] = []
        self.reused: list[int] = []

    def seen(self, served: list[Served]) -> None:
        """Take note of a call that is not counted."""
        for one in served:
            self._last[one.request.segments[0].text] = self._pairs(one)

    def exact(self, served: list[Served]) -> None:
        """Count a warm call: every stage prefilled its new tokens and no other."""
        prefilled = reused = 0
        for one in served:
            wanted, static = self._pairs(one), one.request.segments[0].text
            old = self._last[static]
            shared = next(
                (i for i, (a, b) in enumerate(zip(old, wanted, strict=False)) if a != b),
                min(len(old), len(wanted)),
            )
            usage = one.result.usage
            assert usage.prefill_tokens == len(wanted) - shared, (usage, len(wanted), shared)
            assert usage.reused_tokens == shared
            self._last[static] = wanted
            prefilled, reused = prefilled + usage.prefill_tokens, reused + shared
        self.prefilled.append(prefilled)
        self.reused.append(reused)

    def _pairs(self, one: Served) -> Pairs:
        segments: list[Segment] = list(one.request.segments)
        return [(t, s.adapter) for s in segments for t in self._engine.encode(s.text)]


class Peft:
    """The stages that `shared` has just served, with transformers + PEFT on whole prompts."""

    def __init__(self, engine: OrtEngine, shared: Steered, adapters: list[str]) -> None:
        import torch
        from peft import PeftModel
        from transformers import AutoModelForCausalLM

        torch.set_num_threads(engine.threads)
        self._engine, self._shared, self._torch = engine, shared, torch
        folder = cache_folder() / "models" / "smollm2-135m-instruct"
        base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        first, *others = adapters
        self._labels = {name: name.replace(".", "_") for name in adapters}
        path = str(DESK / "adapters" / first)
        self._model: Any = PeftModel.from_pretrained(base, path, self._labels[first])
        for name in others:
            self._model.load_adapter(str(DESK / "adapters" / name), self._labels[name])
        self._model.eval()

    def __call__(self, asked: Asked) -> list[Served]:
        """Compute each stage of the last shared call anew."""
        for one in self._shared.served:
            tokens = [t for s in one.request.segments for t in self._engine.encode(s.text)]
            length = (
                len(self._engine.encode(one.text))
                if isinstance(one.request, Choosing)
                else one.result.usage.decoded_tokens
            )
            self._generate(tokens, one.request.segments[-1].adapter, length)
        return []

    def _generate(self, tokens: list[int], adapter: str | None, length: int) -> None:
        assert adapter is not None, "every stage of the sample has an adapter"
        ids = self._torch.tensor([tokens])
        self._model.set_adapter(self._labels[adapter])
        with self._torch.inference_mode():
            out = self._model.generate(
                input_ids=ids,
                attention_mask=self._torch.ones_like(ids),
                do_sample=False,
                min_new_tokens=length,
                max_new_tokens=length,
                pad_token_id=0,
            )
        assert out.shape[1] == len(tokens) + length


def _median(rows: list[dict[str, float]] | None, stage: str) -> str:
    return f"{statistics.median(row[stage] for row in rows):.0f}" if rows else ""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--no-peft", action="store_true")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    sys.exit(main(given.bundle, given.rounds, not given.no_peft, given.out))
