"""The ablation of one recipe: the same data and effort, with and without decoupling."""

import hashlib
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
from afx_train.score import Share
from agentflux.contracts.cache import weights_sha256
from agentflux.contracts.cards import read_card

ROWS = ("base", "decoupled", *CONTROLS)
DEFAULT_ROWS = ("base", "joint", "matched", "decoupled")
RESULT = "ablation.json"
ROW = "row.json"
_WIDTH = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class AblationRow:
    """One way of training and what came of it.

    examples, steps: what training went over, all adapters together; they differ between rows only
    by how examples are packed, and by which ones were easy. accuracy: by `<adapter>/<subtask>`,
    on true prompts. calls: whole ones, None where the stages share no moment.
    """

    name: str
    adapters: int
    parameters: int
    examples: int
    steps: int
    accuracy: dict[str, Share]
    calls: Swaps | None


def ablate(recipe: Path, out: Path, rows: Sequence[str], how: Running, wanted: Marking) -> None:
    """Train and mark the rows; write `ablation.json` into `out` and print a table.

    Each row's folder gets a `row.json` of its own. A row that is marked already, from the same
    recipe and data and on the same split, is not marked again.

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
    identity = _identity(name, marker)
    if (known := _known(folder / ROW, identity)) is not None:
        return known
    if name == "base":
        row = _marked(name, marker, list(marker.base_model()), None)
    else:
        run_recipe(
            recipe, folder, [], Running(**asdict(how) | {"resume": True, "control": control})
        )
        row = _marked(name, marker, list(marker.adapters(folder, ())), folder)
    write_text(
        folder / ROW, json.dumps({"identity": identity, "row": asdict(row)}, indent=2) + "\n"
    )
    return row


def _identity(name: str, marker: Marker) -> str:
    """What, changed, would change a row."""
    facts = [name, marker.recipe.model_dump_json(), marker.corpus.sha256]
    facts += [weights_sha256(marker.base), marker.wanted.split, str(marker.wanted.limit)]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()


def _known(path: Path, identity: str) -> AblationRow | None:
    if not path.is_file():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    if found["identity"] != identity:
        return None
    calls = found["row"]["calls"]
    shares = {stage: Share(**marks) for stage, marks in calls.items()} if calls else None
    known = {name: Share(**marks) for name, marks in found["row"]["accuracy"].items()}
    joined = Swaps(**shares) if shares else None
    return AblationRow(**found["row"] | {"calls": joined, "accuracy": known})


def _marked(
    name: str, marker: Marker, reports: Sequence[AdapterReport], folder: Path | None
) -> AblationRow:
    """folder: of the row's adapters; None for the base model."""
    plans = marker.plans(()) if folder else []
    adapters = [folder / plan.name for plan in plans] if folder else []
    cards = [card.training for path in adapters if (card := read_card(path)) is not None]
    return AblationRow(
        name=name,
        adapters=len(adapters),
        parameters=sum(t.numel() for path in adapters for t in read_weights(path).values()),
        examples=sum(int(card.get("examples_seen", "0")) for card in cards),
        steps=sum(int(card.get("steps", "0")) for card in cards),
        accuracy={f"{report.name}/{report.subtask}": report.accuracy for report in reports},
        calls=swaps(reports, single_set=len(marker.corpus.catalog) == 1),
    )


def _table(rows: Sequence[AblationRow]) -> Table:
    """Whole calls; where there are none, the adapters on true prompts."""
    table = Table("row", "adapters", "parameters", "examples", "steps")
    shares = [named_shares(row.calls) if row.calls else row.accuracy for row in rows]
    heads = list(dict.fromkeys(head for one in shares for head in one))
    for head in heads:
        table.add_column(head)
    for row, found in zip(rows, shares, strict=True):
        marks = [
            f"{s.value:.1%} ({s.low:.1%}-{s.high:.1%})" if (s := found.get(head)) else ""
            for head in heads
        ]
        facts = (row.adapters, row.parameters, row.examples, row.steps)
        table.add_row(row.name, *(f"{fact:,}" for fact in facts), *marks)
    return table
