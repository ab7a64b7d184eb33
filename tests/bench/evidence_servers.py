"""Does decoupling help with servers that nobody trained for? On exported int4 bundles.

    python tests/bench/evidence_servers.py [--row ROW ...] [--out FOLDER] [--save FILE]

A joint adapter, one with as many parameters as the decoupled set, and the decoupled adapters learn
the same examples of many servers (recipes/evidence-servers.toml), are exported as cpu-int4 and
asked for other servers' tools (`unseen/`), the right server being the only one and nothing beside
the model being heard; then with the right tool given. Beside them the base model in the same
stages. Goes on where it was stopped.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from bench import evidence
from bench.runs import save_result, table

HERE = Path(__file__).parent
RECIPE, UNSEEN = HERE / "recipes" / "evidence-servers.toml", HERE / "unseen"
ROWS = ("base", *evidence.CONTROLS, "decoupled")


def main() -> None:
    """Train, export, ask and mark each row; print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=evidence.ROOT / "runs" / "evidence-servers")
    parser.add_argument(
        "--row", action="append", choices=ROWS, help="only this one; may be given again"
    )
    parser.add_argument("--threads", type=int, help="of the runtime; default: all cores")
    parser.add_argument("--save", type=Path, help="also write the result here")
    options = parser.parse_args()
    out: Path = options.out.resolve()
    names = options.row or ROWS
    evidence.run("afx_export.cli", "fetch", evidence.MODEL)
    evidence.train(RECIPE, out, names)
    cases = _served(out)
    rows = [_marked(name, out, cases, options.threads) for name in names]
    print(table([evidence.shown(row) for row in rows]))
    if options.save is not None:
        told = {"split": "servers that nobody trained for", "profile": evidence.PROFILE}
        save_result(options.save, {**told, "model": evidence.MODEL, "rows": rows})


def _served(out: Path) -> Path:
    """The requests that a tool serves."""
    path = out / "cases.jsonl"
    lines = (UNSEEN / "cases.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    evidence.write(path, [line for line in lines if '"tool": null' not in line])
    return path


def _marked(name: str, out: Path, cases: Path, threads: int | None) -> dict[str, Any]:
    exported = evidence.Exported(out / name, evidence.trained_in(out / name / "adapters"), threads)
    return {"row": name, **exported.marked("set-alone", UNSEEN / "tools", cases, ("tool", "call"))}


if __name__ == "__main__":
    main()
