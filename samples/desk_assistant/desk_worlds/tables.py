"""The sqlite world: a database of one to four tables with their rows."""

import re
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from random import Random
from typing import Any, cast

from afx_train.data.grammar import load_yaml
from afx_train.data.template import Value
from afx_train.data.verify import Rejected
from afx_train.data.worlds import Need, ServerCommand, UnknownSlot
from desk_worlds import contexts, vocabulary
from desk_worlds.draws import base_of

Cell = str | int | float
_SCHEMA_SLOTS = frozenset(
    {"table", "textcol", "numcol", "datecol", "col", "val", "newval", "num", "day"}
)
_TABLE_PREFIXES = ("tbl_", "tbl", "app_", "my_", "t_", "shop_", "old_", "team_")
_TABLE_SUFFIXES = ("_2025", "_2026", "_archive", "_log", "_list", "_v2", "_data", "_new", "_backup")
_SYNONYMS = {
    "total": ("total", "amount", "sum_eur", "price", "order_total", "gross"),
    "amount": ("amount", "value", "sum", "eur", "cost", "total"),
    "customer": ("customer", "client", "buyer", "customer_name"),
    "client": ("client", "customer", "company", "account_name"),
    "qty": ("qty", "quantity", "pieces", "units", "stock"),
    "minutes": ("minutes", "duration_min", "length_min", "mins"),
    "hours": ("hours", "hrs", "time_spent", "effort_h"),
    "price": ("price", "cost", "list_price", "unit_cost", "price_eur"),
    "cost": ("cost", "charge", "price", "expense"),
    "status": ("status", "state", "stage"),
    "category": ("category", "kind", "type", "section"),
    "name": ("name", "full_name", "fullname", "person"),
    "student": ("student", "pupil", "learner", "student_name"),
    "owner": ("owner", "assignee", "responsible", "keeper"),
    "score": ("score", "points", "mark", "result"),
    "weight": ("weight", "kg", "mass_kg", "gross_weight"),
    "city": ("city", "town", "place"),
    "country": ("country", "origin", "nation"),
    "room": ("room", "location", "room_name"),
    "budget": ("budget", "cost", "spend", "price"),
    "rating": ("rating", "stars", "grade", "score"),
    "guest": ("guest", "visitor", "booked_by", "guest_name"),
    "book": ("book", "title", "book_title"),
    "nights": ("nights", "stay", "nights_booked"),
    "doctor": ("doctor", "physician", "gp", "treated_by"),
}
_NEW_WORDS = (
    """
amber|birch|cobalt|delta|east wing|fig jam|granite|harbour|ivory|juniper|kiosk|lavender|maple|nutmeg
onyx|paprika|quartz|rosemary|saffron|teal|umber|velvet|walnut|yellow line|zinc|north gate|silver
express|premium|trial|urgent|on hold|returned|waiting|second-hand|wholesale|gift|online|mobile
Tallinn|Porto|Accra|Quito|Leeds|Zagreb|Hanoi|Turin|Bergen|Graz|blue shed|room 12|ward 4|class 9c
rye bread|goat cheese|olive oil|copper wire|oak board|spare tyre|night shift|spring sale|deposit
""".strip()
    .replace("\n", "|")
    .split("|")
)


@dataclass(frozen=True, slots=True)
class Table:
    """A table with its rows. Column kinds: integer, text, real, date."""

    name: str
    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[Cell, ...], ...]

    @property
    def key(self) -> str:
        """The first column, where it holds integers."""
        name, kind = self.columns[0]
        return name if kind == "integer" else ""

    def of(self, *kinds: str) -> list[str]:
        """Columns of these kinds, the id left out."""
        return [name for name, kind in self.columns[1:] if kind in kinds]

    def values(self, column: str) -> list[Cell]:
        """The cells of a column."""
        at = [name for name, _ in self.columns].index(column)
        return [row[at] for row in self.rows]


class TablesWorld:
    """One database file, rewritten for each example."""

    tool_set = "sqlite"

    def __init__(self, path: Path, grammars: Path, command: ServerCommand) -> None:
        self.path, self.server = path, command
        self._models = tuple(
            _table(entry)
            for entry in cast("list[dict[str, Any]]", load_yaml(grammars / "sqlite_tables.yaml"))
        )

    def needs_context(self, need: Need) -> bool:
        """Where a table or column is an argument that the request does not name."""
        return bool(_SCHEMA_SLOTS & set(map(base_of, need.slots - need.told)))

    def scene(self, rng: Random, need: Need) -> "TablesScene":
        """Draw a database, or make the one that was written: `tables`."""
        if need.own is not None:
            return TablesScene(self.path, rng, [_table(entry) for entry in need.own["tables"]])
        models = rng.sample(self._models, rng.choices((1, 2, 3, 4), (45, 30, 17, 8))[0])
        tables = [_variant(model, rng) for model in models]
        return TablesScene(self.path, rng, tables)


class TablesScene:
    """A database; {table} and its columns are those of one of its tables."""

    def __init__(self, path: Path, rng: Random, tables: Sequence[Table]) -> None:
        self._path, self._rng, self._tables = path, rng, tables
        self._table = rng.choice(tables)
        self._drawn: dict[str, Value] = {}

    @property
    def paths(self) -> Mapping[str, str]:
        """None: the server knows its one file."""
        return {}

    def slot(self, name: str) -> Value:
        """Return a slot of the README's table."""
        if name not in self._drawn:
            self._drawn[name] = self._draw(base_of(name), name)
        return self._drawn[name]

    def context(self, rng: Random) -> str:
        """Word the tables with their columns."""
        return contexts.tables_text([(t.name, t.columns) for t in self._tables], rng)

    def refuses(self, tool: str, arguments: Mapping[str, Any]) -> str:
        """Refuse a new table that exists already."""
        made = re.match(r"CREATE TABLE (?:IF NOT EXISTS )?(\w+)", str(arguments.get("query", "")))
        if made and made[1].lower() in {t.name.lower() for t in self._tables}:
            return f"table {made[1]} exists"
        return ""

    def accept(self, tool: str, arguments: Mapping[str, Any], request: str) -> list[dict[str, Any]]:
        """Accept a final semicolon and a spelled-out ascending order."""
        query = arguments.get("query")
        if not isinstance(query, str):
            return []
        forms = [query + ";"]
        if re.search(r"ORDER BY \w+( LIMIT \d+)?$", query):
            forms.append(re.sub(r"(ORDER BY \w+)", r"\1 ASC", query))
        return [{**arguments, "query": form} for form in forms]

    def build(self) -> None:
        """Write the database."""
        for leftover in (self._path, self._path.with_name(self._path.name + "-journal")):
            leftover.unlink(missing_ok=True)
        with sqlite3.connect(self._path) as database:
            database.execute("PRAGMA synchronous=OFF")
            for table in self._tables:
                listed = ", ".join(
                    f"{name} {kind.upper()}" + (" PRIMARY KEY" if name == table.key else "")
                    for name, kind in table.columns
                )
                database.execute(f"CREATE TABLE {table.name} ({listed})")
                marks = ", ".join("?" * len(table.columns))
                database.executemany(f"INSERT INTO {table.name} VALUES ({marks})", table.rows)
        database.close()

    def observed(self, tool: str, text: str) -> str:
        """Refuse errors: this server tells them as it tells results."""
        if text.startswith(("Error:", "Database error:")):
            message = f"{tool}: {text[:160]}"
            raise Rejected(message)
        return text

    def _draw(self, base: str, name: str) -> Value:
        table, rng = self._table, self._rng
        if base == "table":
            return self._other_table() if name != base else table.name
        if base == "textcol":
            return self._unused(base, table.of("text"))
        if base == "numcol":
            return self._unused(base, table.of("integer", "real"))
        if base == "datecol":
            return table.of("date")[0]
        if base == "col":
            return self._unused(base, [column for column, _ in table.columns[1:]])
        if base == "val":
            return self._unused(base, list(dict.fromkeys(table.values(str(self.slot("textcol"))))))
        if base == "newval":
            return self._new_value()
        if base in ("n", "rowcount"):
            most = len(table.rows)
            return rng.randint(2, most if rng.random() < 0.5 else 20) if base == "n" else str(most)
        if base in ("num", "day"):
            return self._draw_pair(base)[name]
        raise UnknownSlot(base)

    def _draw_pair(self, base: str) -> dict[str, Value]:
        """Draw {num} and a larger {num2}, or {day} and a later {day2}."""
        column = str(self.slot("numcol" if base == "num" else "datecol"))
        cells = sorted(self._table.values(column))
        exact = self._rng.random() < 0.3
        if base == "num":
            low, high = float(cells[0]), float(cells[-1])
            pair = sorted(self._rng.uniform(low, high) for _ in range(2))
            first, second = (_rounded(number, low, high) for number in pair)
            first = float(self._rng.choice(cells[:-1])) if exact else first
            second = second if second > first else first + (1 if high < 50 else 10)
            found: list[Value] = [_plain(first), _plain(second)]
        else:
            days = [date.fromisoformat(str(cell)) for cell in cells]
            span = max(2, (days[-1] - days[0]).days)
            start = self._rng.randint(0, span - 1)
            first_day = self._rng.choice(days[:-1]) if exact else days[0] + timedelta(start)
            later = first_day + timedelta(self._rng.randint(1, span))
            found = [first_day.isoformat(), later.isoformat()]
        self._drawn |= {base: found[0], base + "2": found[1]}
        return {base: found[0], base + "2": found[1]}

    def _new_value(self) -> str:
        """A value that could stand in {textcol} and does not: a name among names."""
        cells = [str(cell) for cell in self._table.values(str(self.slot("textcol")))]
        while True:
            value = (
                vocabulary.person(self._rng) if _are_names(cells) else self._rng.choice(_NEW_WORDS)
            )
            if value not in cells and value not in self._drawn.values():
                return value

    def _other_table(self) -> Cell:
        return self._unused("table", [t.name for t in self._tables if t is not self._table])

    def _unused(self, base: str, choices: Sequence[Cell]) -> Cell:
        used = [v for k, v in self._drawn.items() if base_of(k) == base]
        if base == "col":
            other = ("textcol", "numcol", "datecol")
            used += [v for k, v in self._drawn.items() if k in other]
        if free := [choice for choice in choices if choice not in used]:
            return self._rng.choice(free)
        raise UnknownSlot(base)


def _table(entry: Mapping[str, Any]) -> Table:
    return Table(
        name=entry["name"],
        columns=tuple((column, kind) for column, kind in entry["columns"]),
        rows=tuple(tuple(row) for row in entry["rows"]),
    )


def _variant(model: Table, rng: Random) -> Table:
    """A table as another person would have made it: other names, people, numbers and years."""
    joint = rng.choice(("snake", "snake", "snake", "camel", "pascal", "upper"))
    columns: list[tuple[str, str]] = [model.columns[0]]
    for name, kind in model.columns[1:]:
        other = rng.choice(_SYNONYMS.get(name, (name,)))
        other = name if other in {c for c, _ in columns} else other
        columns.append((_styled(other, joint), kind))
    if len({c.lower() for c, _ in columns}) < len(columns):
        columns = list(model.columns)
    return Table(_table_name(model.name, rng), tuple(columns), _rows(model, rng))


def _table_name(name: str, rng: Random) -> str:
    kind = rng.random()
    if kind < 0.62:
        return name
    if kind < 0.72:
        return rng.choice(_TABLE_PREFIXES) + name
    if kind < 0.86:
        return name + rng.choice(_TABLE_SUFFIXES)
    return rng.choice((name.upper(), name.capitalize(), _styled(name, "pascal")))


def _styled(name: str, joint: str) -> str:
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower().split("_")
    if joint == "camel":
        return words[0] + "".join(w.capitalize() for w in words[1:])
    if joint == "pascal":
        return "".join(w.capitalize() for w in words)
    return "_".join(words).upper() if joint == "upper" else "_".join(words)


def _rows(model: Table, rng: Random) -> tuple[tuple[Cell, ...], ...]:
    """Rename people, scale numbers and shift dates, each column as a whole."""
    columns = [list(cells) for cells in zip(*model.rows, strict=True)]
    shift = timedelta(rng.choice((0, -365, -731, 0, 181, rng.randint(-300, 200))))
    scale = rng.choice((1, 1, 0.5, 2, 3, 10)) if rng.random() < 0.6 else 1
    for at, (name, kind) in enumerate(model.columns[1:], start=1):
        cells = columns[at]
        if kind == "text" and _are_names([str(c) for c in cells]) and rng.random() < 0.7:
            people = {cell: vocabulary.person(rng) for cell in dict.fromkeys(cells)}
            columns[at] = [people[cell] for cell in cells]
        elif kind == "date":
            columns[at] = [(date.fromisoformat(str(c)) + shift).isoformat() for c in cells]
        elif kind in ("integer", "real") and name not in ("ph", "rating"):
            columns[at] = [
                round(float(c) * scale) if kind == "integer" else round(float(c) * scale, 2)
                for c in cells
            ]
    return tuple(zip(*columns, strict=True))


def _are_names(cells: Sequence[str]) -> bool:
    return all(re.fullmatch(r"(Dr )?[A-ZÀ-Ž][\w'-]+ [A-ZÀ-Ž][\w'-]+", cell) for cell in cells)


def _rounded(number: float, low: float, high: float) -> float:
    """Round as people do, to the size of the range."""
    step = next((s for s in (1000, 100, 50, 10, 5, 1) if (high - low) / s >= 4), 0.5)
    return max(step, round(number / step) * step)


def _plain(number: float) -> int | float:
    return int(number) if number == int(number) else round(number, 2)
