"""What a decision costs in each row of the ablation: seconds, tokens and bytes, asked in turns.

    python tests/bench/evidence_costs.py [--row ROW ...] [--cases N] [--save FILE]

The bundles of `evidence.py` (trained first, by `make evidence`) decide the same cases of the git
tools, every case by all rows before the next one, each beginning with another row, on one thread
each: what else the machine does hits all alike. The first decision of each row, which computes the
list of tools, is told apart.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from bench import evidence
from bench.runs import save_result, table
from bench.ways import Decide, decider

from agentflux.contracts.bundle import read_manifest
from agentflux.contracts.cases import Case, read_cases
from agentflux.contracts.tools import load_tool_folder
from agentflux.evaluation import predict
from agentflux.progress import progress
from agentflux.session import open_engine

THREADS = 1
ROWS = tuple(row for row in evidence.ROWS if row != "free-stages")  # it comes to no decision


def main() -> None:
    """Ask all rows in turns; print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=evidence.ROOT / "runs" / "evidence")
    parser.add_argument(
        "--row", action="append", choices=ROWS, help="only this row; may be given again"
    )
    parser.add_argument("--cases", type=int, default=15)
    parser.add_argument("--save", type=Path, help="also write the result here")
    options = parser.parse_args()
    out: Path = options.out.resolve()
    known = [row for row in ROWS if row in evidence.UNTRAINED or evidence.adapters_of(row, out)]
    names = options.row or known
    if missing := sorted(set(names) - set(known)):
        sys.exit(f"{', '.join(missing)}: no adapters under {out}; train them with: make evidence")
    evidence.prepare_data()
    cases = list(read_cases(evidence.draw_cases(out)[0], limit=options.cases + 1))
    catalog = load_tool_folder(evidence.DATA / "tools")
    with ExitStack() as stack:
        rows = dict[str, Decide]()
        for name in names:
            bundle = evidence.exported_of(name, out, None).bundle()
            manifest = read_manifest(bundle)
            engine = stack.enter_context(closing(open_engine(bundle, manifest, threads=THREADS)))
            rows[name] = decider(evidence.way_of(name), engine, manifest, catalog)
        told = _told(rows, cases, out)
    print(table(told))
    if options.save is not None:
        what = {"model": evidence.MODEL, "profile": evidence.PROFILE, "threads": THREADS}
        save_result(options.save, {**what, "cases": options.cases, "rows": told})


def _told(rows: Mapping[str, Decide], cases: list[Case], out: Path) -> list[dict[str, Any]]:
    first, *others = cases
    cold = {name: predict(first, decide) for name, decide in rows.items()}
    lines, order = defaultdict[str, list[dict[str, Any]]](list), list(rows)
    with progress("cases", len(others)) as advance:
        for case in others:
            for name in order:
                lines[name].append(predict(case, rows[name]))
            order.append(order.pop(0))
            advance()
    return [
        {
            "row": name,
            "adapter_bytes": evidence.effort(evidence.adapters_of(name, out))["adapter_bytes"],
            "first_ms": evidence.medians_of([cold[name]])["ms_median"],
            **evidence.medians_of(lines[name]),
        }
        for name in rows
    ]


if __name__ == "__main__":
    main()
