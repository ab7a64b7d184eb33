"""How fine argument writers are cut: one for all tools, one with a delta, a set's, a tool's.

    python tests/bench/granularity.py [--out runs/granularity] [--save FILE]

The rows of recipes/granularity.toml learn the same examples of the sample's `git` tools (those of
`make evidence`), all from the sample's general writer; each is exported as cpu-int4 and asked for
the arguments of held-out phrasings, the right tool given. Goes on where it was stopped.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from bench import evidence
from bench.runs import save_result, table

RECIPE = Path(__file__).parent / "recipes" / "granularity.toml"
ROWS = {"shared": "shared", "delta": "delta.git", "set": "set.git", "tool": "tool.*"}
CASES = 100


def main() -> None:
    """Train, export, ask, mark; print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=evidence.ROOT / "runs" / "granularity")
    parser.add_argument("--threads", type=int, help="of the runtime; default: all cores")
    parser.add_argument("--save", type=Path, help="also write the result here")
    options = parser.parse_args()
    out: Path = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    evidence.prepare_data()
    cases = evidence.served_cases(out, CASES)
    evidence.run("afx_train.cli", "run", str(RECIPE), "--out", str(out / "adapters"), "--resume")
    rows = [_marked(name, out, cases, options.threads) for name in ROWS]
    print(table([evidence.shown(row) for row in rows]))
    if options.save is not None:
        told = {"tool_set": evidence.TOOL_SET, "profile": evidence.PROFILE}
        save_result(options.save, {**told, "model": evidence.MODEL, "rows": rows})


def _marked(name: str, out: Path, cases: Path, threads: int | None) -> dict[str, Any]:
    adapters = evidence.trained_in(out / "adapters", ROWS[name])
    exported = evidence.Exported(out / name, adapters, threads)
    answers = exported.answers("given-tool", evidence.DATA / "tools", cases)
    return {
        "row": name,
        **evidence.effort(adapters),
        **evidence.costs_of(answers, stage="arguments"),
        "arguments": evidence.report_of(cases, answers)["arguments"],
    }


if __name__ == "__main__":
    main()
