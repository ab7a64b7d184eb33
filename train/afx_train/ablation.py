"""The ablation of one recipe: the same data and effort, with and without decoupling."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from afx_train.controls import CONTROLS
from afx_train.errors import RecipeError
from afx_train.evaluate import AdapterReport, Swaps, swaps
from afx_train.marks import Marker, Marking
from afx_train.outputs import read_weights
from afx_train.runs import Running, named_shares, run_recipe, write_text

ROWS = ("base", "decoupled", *CONTROLS)
DEFAULT_ROWS = ("base", "joint", "matched", "decoupled")
RESULT = "ablation.json"
_WIDTH = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class AblationRow:
    """One way of training and what came of it. calls: None where the stages share no moment."""

    name: str
    adapters: int
    parameters: int
    calls: Swaps | None


def ablate(recipe: Path, out: Path, rows: Sequence[str], how: Running, wanted: Marking) -> None:
    """Train and mark the rows; write `ablation.json` into `out` and print a table.

    Raises:
        ConfigError: an unknown row, or the recipe does not go with one.
        JobFailed: an adapter was not trained.
    """
    if unknown := sorted(set(rows) - set(ROWS)):
        raise RecipeError(f"no row {unknown[0]!r}; there are {', '.join(ROWS)}")
    done: list[AblationRow] = []
    for name in rows:
        done.append(_row(name, recipe, out, how, wanted))
        document = {"split": wanted.split, "limit": wanted.limit, "rows": [asdict(r) for r in done]}
        write_text(out / RESULT, json.dumps(document, indent=2) + "\n")
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH
    console.print(_table(done))


def _row(name: str, recipe: Path, out: Path, how: Running, wanted: Marking) -> AblationRow:
    control = name if name in CONTROLS else None
    folder, wanted = out / name, Marking(split=wanted.split, limit=wanted.limit, control=control)
    folder.mkdir(parents=True, exist_ok=True)
    marker = Marker(recipe, wanted)
    if name == "base":
        return _marked(name, marker, list(marker.base_model()), 0)
    run_recipe(recipe, folder, [], Running(**asdict(how) | {"resume": True, "control": control}))
    reports = list(marker.adapters(folder, ()))
    plans = marker.plans(())
    numbers = [t.numel() for plan in plans for t in read_weights(folder / plan.name).values()]
    return _marked(name, marker, reports, sum(numbers))


def _marked(
    name: str, marker: Marker, reports: Sequence[AdapterReport], parameters: int
) -> AblationRow:
    return AblationRow(
        name=name,
        adapters=len(marker.plans(())) if parameters else 0,
        parameters=parameters,
        calls=swaps(reports, single_set=len(marker.corpus.catalog) == 1),
    )


def _table(rows: Sequence[AblationRow]) -> Table:
    table = Table("row", "adapters", "parameters")
    heads = list(named_shares(rows[0].calls)) if rows and rows[0].calls else []
    for head in heads:
        table.add_column(head)
    for row in rows:
        shares = named_shares(row.calls).values() if row.calls else []
        marks = (f"{s.value:.1%} ({s.low:.1%}-{s.high:.1%})" for s in shares)
        table.add_row(row.name, str(row.adapters), f"{row.parameters:,}", *marks)
    return table
