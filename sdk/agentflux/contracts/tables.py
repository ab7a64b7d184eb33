"""Tables as texts list them, and statements of SQL that name the wrong one or make a key unasked.

Applications show tables in many ways; those that can be told apart without doubt are read:
`loans(id, book)`, `loans[id INTEGER, book TEXT]`, `CREATE TABLE loans (...)`, and a line of its own
`- loans: id, book`.
"""

import re
from collections.abc import Mapping, Sequence

from agentflux.contracts.spans import QUOTED, bare_names, names

Tables = Mapping[str, frozenset[str]]

_LISTED = re.compile(r"(?<![\w.])([A-Za-z_]\w*)\s?[(\[]([^()\[\]]*(?:\([^()]*\)[^()\[\]]*)*)[)\]]")
_LINE = re.compile(r"^\W*([A-Za-z_]\w*): ([^:\n]+,[^:\n]+)$", re.MULTILINE)
_COLUMN = re.compile(r"([A-Za-z_]\w*)(?:\s.*)?", re.DOTALL)
_FIRST = re.compile(r"[A-Za-z_]\w*(\s+([A-Z]+|int|integer|text|real|date)\b.*)?", re.DOTALL)
_INNER = re.compile(r"\([^()]*\)")
_STATEMENT = re.compile(r"\s*(?:SELECT|INSERT|UPDATE|DELETE)\b", re.IGNORECASE)
# A text in quotes is passed over: it may say "from Berlin".
_TABLE = re.compile(
    rf"{QUOTED.pattern}|\b(?P<verb>FROM|INTO|UPDATE|JOIN)\s+(?P<table>[A-Za-z_]\w*)", re.IGNORECASE
)
_DATABASE = re.compile(r"\w+\.(?:db|sqlite3?)\b", re.IGNORECASE)
_CREATION = re.compile(r"\s*CREATE TABLE\b", re.IGNORECASE)
_KEY = re.compile(r" PRIMARY KEY(?: AUTOINCREMENT)?\b", re.IGNORECASE)
_SAYS_KEY = re.compile(r"\b(?:primary|pk|keys?|keyed|unique|ids?|identif\w+)\b", re.IGNORECASE)
_LEAST = 2  # names, or it is no list of columns


def columns_of_tables(texts: Sequence[str]) -> Tables:
    """Return the tables that the texts list, with the names of their columns in lower case."""
    found = dict[str, frozenset[str]]()
    for text in texts:
        for match in (*_LISTED.finditer(text), *_LINE.finditer(text)):
            told = [part.strip() for part in _INNER.sub("", match.group(2)).split(",")]
            columns = [name[1].lower() for part in told if (name := _COLUMN.fullmatch(part))]
            if len(columns) == len(told) >= _LEAST and _FIRST.fullmatch(told[0]):
                found.setdefault(match.group(1), frozenset(columns))
    return found


def with_its_table(statement: str, texts: Sequence[str]) -> str | None:
    """Return a statement over one table with the name of the only table that has its columns.

    None where it is no statement, or its table has them or stands in the texts where no table's
    columns are listed, or where no one table or several have all columns that it names.
    """
    if not _STATEMENT.match(statement):
        return None
    tables = columns_of_tables(texts)
    named = {match["table"] for match in _TABLE.finditer(statement) if match["table"]}
    if len(named) != 1:
        return None
    table = named.pop().lower()
    own = next((columns for name, columns in tables.items() if name.lower() == table), None)
    if own is None and any(table in _outside_lists(text) for text in texts):
        return None
    every = frozenset[str]().union(*tables.values())
    used = {name.lower() for name in bare_names(statement)} & every - {table}
    if not used or (own is not None and used <= own):
        return None
    fitting = [name for name, columns in tables.items() if used <= columns]
    if len(fitting) != 1:
        return None
    return _TABLE.sub(lambda m: f"{m['verb']} {fitting[0]}" if m["table"] else m[0], statement)


def without_unasked_key(statement: str, request: str) -> str:
    """Return a CREATE TABLE without a primary key, where the request speaks of none."""
    if not _CREATION.match(statement) or _SAYS_KEY.search(request):
        return statement
    return _KEY.sub("", statement)


def with_trimmed_literals(statement: str) -> str:
    """Return a statement whose texts in quotes have no space at their ends."""
    if not _STATEMENT.match(statement) or "''" in statement:  # a quote within a text
        return statement
    return QUOTED.sub(lambda m: f"'{m.group()[1:-1].strip()}'", statement)


def _outside_lists(text: str) -> frozenset[str]:
    """Return the names of a text, in lower case, but those in lists of columns and of databases."""
    told = _DATABASE.sub(" ", text)
    rest = _LINE.sub(lambda m: m.group(1), _LISTED.sub(lambda m: m.group(1), told))
    return frozenset(name.lower() for name in names([rest]))
