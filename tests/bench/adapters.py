"""What many adapters cost: time and memory of the export, time to open the bundle.

python tests/bench/adapters.py [--count 40] [--rounds 3] [--out docs/benchmarks]

Exports SmolLM2-135M-Instruct with `--count` adapters (attention, r16, random weights) for cpu-int4
into an empty cache, once without the certificate and once with it, each in a process of its own,
beside the model builder's own int4 export of the base. Then opens the bundle as a device does,
beside what ONNX Runtime GenAI needs for the model alone, in turns.

Memory is the most that the process and its children held together, sampled: all resident pages, and
in brackets without those of mapped files, which the system can take back.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from graphs import ATTENTION, MODEL, RESULTS, random_lora
from runs import save_result, table

from afx_export.sources import resolve
from agentflux.contracts.cache import CACHE_VARIABLE, cache_folder

PROFILE = "cpu-int4"


def random_adapters(root: Path, count: int) -> None:
    """Save PEFT LoRAs of random weights, each other ones."""
    from safetensors.numpy import load_file, save_file

    first = random_lora(root / "adapter00", ATTENTION)
    matrices = load_file(first / "adapter_model.safetensors")
    for index in range(1, count):
        folder = root / f"adapter{index:02}"
        folder.mkdir()
        shutil.copyfile(first / "adapter_config.json", folder / "adapter_config.json")
        random = np.random.default_rng(index)
        save_file(
            {name: random.permuted(matrix) for name, matrix in matrices.items()},
            folder / "adapter_model.safetensors",
        )


def export(adapters: Path, out: Path, *, certify: bool) -> None:
    """Export the bundle; without `certify` nothing is compared and the manifest says so."""
    from afx_export import build as building
    from afx_export.adapters import find_adapters
    from afx_export.placement import Place
    from agentflux.contracts.bundle import Certificate

    if not certify:
        nothing = Certificate(
            versions={},
            provider="cpu",
            fp32=(),
            bundle=(),
            tokenizer_prompts=0,
            tokenizer_mismatches=0,
        )
        building.certify = lambda *_: nothing
    names = [folder.name for folder in find_adapters((adapters,))]
    places = {name: Place(subtask="arguments", tool_set="many", tool=name) for name in names}
    building.build(
        building.Request(model=MODEL, profile=PROFILE, out=out, adapters=(adapters,), places=places)
    )


def open_bundle(bundle: Path) -> dict[str, float]:
    """Return seconds: the runtime's model alone, and all that opening the bundle takes."""
    import onnxruntime_genai as og

    from agentflux.contracts.bundle import read_manifest
    from agentflux.engines.ort import OrtEngine, physical_cores

    def model_alone() -> None:
        config = og.Config(str(bundle))
        options = {"intra_op_num_threads": physical_cores()}
        config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
        og.Tokenizer(og.Model(config))

    def whole() -> None:
        OrtEngine(bundle, read_manifest(bundle)).close()

    spent = {}
    for name, action in (("model", model_alone), ("bundle", whole)):
        action()
        times = []
        for _ in range(5):
            started = time.perf_counter()
            action()
            times.append(time.perf_counter() - started)
        spent[name] = median(times)
    return spent


def measured(action: Callable[[], object]) -> tuple[float, int, int]:
    """Return seconds, peak resident bytes and peak anonymous bytes of this process's children."""
    peak, stop = [0, 0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.02):
            found = [_memory(pid) for pid in _children(os.getpid())]
            for place in (0, 1):
                peak[place] = max(peak[place], sum(one[place] for one in found))

    thread = threading.Thread(target=watch)
    thread.start()
    started = time.perf_counter()
    try:
        action()
    finally:
        spent = time.perf_counter() - started
        stop.set()
        thread.join()
    return spent, peak[0], peak[1]


def _children(parent: int) -> list[int]:
    try:
        text = Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="ascii")
    except OSError:
        return []
    direct = [int(pid) for pid in text.split()]
    return [*direct, *(pid for child in direct for pid in _children(child))]


def _memory(pid: int) -> tuple[int, int]:
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0, 0
    fields = dict(line.split(":", 1) for line in lines if line.startswith(("VmRSS", "RssAnon")))
    resident, anonymous = (int(fields.get(k, "0 kB").split()[0]) for k in ("VmRSS", "RssAnon"))
    return resident * 1024, anonymous * 1024


def _run(*arguments: str, cache: Path | None = None) -> str:
    environment = {**os.environ, **({CACHE_VARIABLE: str(cache)} if cache else {})}
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return done.stdout


def _builder(out: Path) -> None:
    command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-p", "int4", "-e", "cpu"]
    command += ["-i", str(resolve(MODEL).folder), "-o", str(out), "-c", str(out / "scratch")]
    subprocess.run(command, check=True, capture_output=True)
    shutil.rmtree(out)


def _export(root: Path, name: str, *options: str) -> None:
    """Export into `root / name` with a cache that holds the model only."""
    cache = root / "cache"
    shutil.rmtree(cache, ignore_errors=True)
    cache.mkdir()
    (cache / "models").symlink_to(cache_folder() / "models")
    _run("--export", str(root / "adapters"), str(root / name), *options, cache=cache)


def exports(root: Path, rounds: int) -> list[dict[str, Any]]:
    """Measure the exports in turns, each into an empty cache that holds the model only."""
    found: dict[str, list[tuple[float, int, int]]] = {}
    for turn in range(rounds):
        ways = {"builder, base alone": partial(_builder, root / "builder")}
        ways["export"] = partial(_export, root, "export")
        if not turn:
            ways["export, certified"] = partial(_export, root, "certified", "--certify")
        for way, action in ways.items():
            found.setdefault(way, []).append(measured(action))
    weights = sum(path.stat().st_size for path in resolve(MODEL).folder.glob("*.safetensors"))
    return [
        {
            "export": way,
            "n": len(runs),
            "seconds": round(median(run[0] for run in runs), 1),
            "peak MB": f"{median(run[1] for run in runs) / 1e6:.0f} "
            f"({median(run[2] for run in runs) / 1e6:.0f})",
            "of fp32 weights": round(median(run[1] for run in runs) / weights, 2),
        }
        for way, runs in found.items()
    ]


def main() -> None:
    """Export, open, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--export", nargs=2, type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--certify", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--open", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.export:
        export(*given.export, certify=given.certify)
        return
    if given.open:
        print(json.dumps(open_bundle(given.open)))
        return
    with tempfile.TemporaryDirectory(dir=cache_folder()) as temporary:
        root = Path(temporary)
        random_adapters(root / "adapters", given.count)
        rows = exports(root, given.rounds)
        opened = [
            json.loads(_run("--open", str(root / "export")).splitlines()[-1])
            for _ in range(given.rounds)
        ]
    opening = {key: round(median(one[key] for one in opened) * 1e3) for key in opened[0]}
    allowed = 1.5 * rows[0]["seconds"] + 0.5 * given.count
    result = {"adapters": given.count, "allowed_seconds": allowed, "exports": rows}
    save_result(given.out / "adapters.json", {**result, "opening_ms": opening})
    print(table(rows))
    print(
        f"{given.count} adapters: allowed {allowed:.1f} s (bar: 1.5 x builder + 0.5 s an adapter)"
    )
    print(
        f"opening: bundle {opening['bundle']} ms, the runtime's model and tokenizer "
        f"{opening['model']} ms (bar: 50 ms more)"
    )


if __name__ == "__main__":
    main()
