"""Qwen2.5-Coder-0.5B-Instruct through the whole export: another architecture with real weights.

python tests/bench/second_model.py [--out docs/benchmarks]

Two adapters of random weights, one on attention and one on every linear layer, are exported with it
as cpu-int4; the certificate compares both graphs with transformers + PEFT. Then the stages are
measured as `afx bench` does. Needs about 6 GiB of memory.
"""
# ruff: noqa: T201

import argparse
import tempfile
import time
from pathlib import Path

from graphs import ALL, ATTENTION, RESULTS, random_lora
from runs import save_result, table

from afx_export.build import Request, build
from afx_export.placement import Place
from agentflux.benchmark.measure import measure
from agentflux.benchmark.workload import CATALOG, SITUATIONS
from agentflux.contracts.bundle import read_manifest
from agentflux.contracts.cache import cache_folder

MODEL, PROFILE = "qwen2.5-coder-0.5b-instruct", "cpu-int4"


def main() -> None:
    """Build, show the certificate, measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=cache_folder()) as temporary:
        root = Path(temporary)
        places = {"attention": Place(subtask="route"), "all": Place(subtask="select")}
        for name, targets in (("attention", ATTENTION), ("all", ALL)):
            random_lora(root / name, targets, model=MODEL)
        started = time.perf_counter()
        bundle = root / "bundle"
        adapters = tuple(root / name for name in places)
        build(Request(model=MODEL, profile=PROFILE, out=bundle, adapters=adapters, places=places))
        seconds = round(time.perf_counter() - started, 1)
        certificate = read_manifest(bundle).certificate
        assert certificate is not None
        rows = [
            {"graph": graph, **row.model_dump(exclude={"prompts"})}
            for graph, found in (("fp32", certificate.fp32), (PROFILE, certificate.bundle))
            for row in found
        ]
        cost = measure(bundle, catalog=CATALOG, situations=SITUATIONS, calls=len(SITUATIONS))
    facts = cost.to_dict()
    del facts["bundle"]
    result = {"build_s": seconds, "certificate": rows, "cost": facts}
    save_result(given.out / "second_model.json", {"model": MODEL, "profile": PROFILE, **result})
    print(table(rows))
    print(
        f"built in {seconds} s; {facts['file_bytes'] / 1e6:.0f} MB; a decision in three stages "
        f"{cost.call_median_ms:.0f} ms (n = {cost.calls}); prefill {cost.prefill_tokens_per_s}, "
        f"decode {cost.decode_tokens_per_s} tokens/s"
    )


if __name__ == "__main__":
    main()
