# ruff: noqa: T201 - a program that prints a table
"""Export the sample's model and adapters for every profile, and check each graph: `make profiles`.

The checks of tests/export/test_profiles.py: ONNX checker, strict shape inference, a sound branch
at every projection that an adapter touches. Graphs come from the cache folder where it has them.
"""

import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from export.graph_checks import check_sites  # noqa: E402
from graphs import RESULTS  # noqa: E402
from runs import save_result, table  # noqa: E402

from afx_export.adapters import find_adapters, read_adapter  # noqa: E402
from afx_export.base_graph import base_graph, read_types  # noqa: E402
from afx_export.bundle import write_genai_config, write_graph  # noqa: E402
from afx_export.hf import linear_shapes  # noqa: E402
from afx_export.sources import resolve  # noqa: E402
from afx_profiles import list_profiles, load_profile  # noqa: E402
from agentflux.contracts.cache import cache_folder, weights_sha256  # noqa: E402


def main() -> None:
    """Print a row for each profile; stop at the first that fails."""
    model = resolve("smollm2-135m-instruct")
    weights, shapes = weights_sha256(model.folder), linear_shapes(model.folder)
    folders = find_adapters((ROOT / "samples" / "desk_assistant" / "adapters",))
    adapters = [read_adapter(folder, folder.name, shapes) for folder in folders]
    rows = []
    for name in list_profiles():
        profile, started = load_profile(name), time.perf_counter()
        base = base_graph(model, weights, profile)
        with tempfile.TemporaryDirectory(dir=cache_folder()) as scratch:
            out, mode = Path(scratch), profile.adapter_mode
            write_graph(base, out, shapes, adapters, mode=mode)
            write_genai_config(out, profile, profile.context_tokens)
            files = ["model.onnx"]
            if mode == "merged":
                files = [f"adapter.{adapter.name}.onnx" for adapter in adapters]
            kind = read_types(base).activations
            found = check_sites(out, files, shapes, mode=mode, kind=kind)
            size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
        spent = time.perf_counter() - started
        print(f"{name}: {found} branches, {spent:.0f} s", file=sys.stderr, flush=True)
        rows.append(
            {
                "profile": name,
                "adapter mode": mode,
                "float type": kind,
                "branches": found,
                "MB": round(size / 1e6),
            }
        )
    save_result(RESULTS / "profiles.json", {"adapters": len(adapters), "rows": rows})
    print(table(rows))


if __name__ == "__main__":
    main()
