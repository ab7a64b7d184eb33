import pytest

from agentflux.contracts.tables import (
    columns_of_tables,
    with_its_table,
    with_trimmed_literals,
    without_unasked_key,
)

TWO = "runs(id INTEGER PRIMARY KEY, runner TEXT, km REAL), shoes[id, brand, bought_on DATE]"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (TWO, {"runs": {"id", "runner", "km"}, "shoes": {"id", "brand", "bought_on"}}),
        (
            "CREATE TABLE jobs (\n  no INTEGER,\n  price NUMERIC(5, 2)\n)",
            {"jobs": {"no", "price"}},
        ),
        ("- larder: Item, unit (kg or l), amount real", {"larder": {"item", "unit", "amount"}}),
        ("Launderette: table machines with machine, kg, state", {}),
        ("The user lives in Rome (Italy, Europe/Rome).", {}),
        ("branches: main", {}),
    ],
)
def test_tables_are_read_where_their_columns_are_listed(
    text: str, found: dict[str, set[str]]
) -> None:
    assert columns_of_tables([text]) == found


@pytest.mark.parametrize(
    ("table", "rest", "meant"),
    [
        ("INSERT INTO runner", "(runner, km) VALUES ('Bo', 5)", "INSERT INTO runs"),
        ("SELECT brand FROM runs", "WHERE bought_on > '2025'", "SELECT brand FROM shoes"),
        ("UPDATE runners", "SET km = 6 WHERE runner = 'shoes'", "UPDATE runs"),
        ("DELETE FROM runners", "WHERE runner = 'back from Oslo, into bed'", "DELETE FROM runs"),
        ("SELECT km FROM runs", "WHERE km > 3", None),
        ("SELECT id FROM running", "LIMIT 2", None),
        ("SELECT colour FROM running", "LIMIT 2", None),
        ("SELECT km FROM runners JOIN shoes", "ON shoes.id = runners.id", None),
        ("from runners", "with km", None),
    ],
)
def test_a_table_is_the_one_that_has_the_columns(table: str, rest: str, meant: str | None) -> None:
    found = with_its_table(f"{table} {rest}", [TWO])
    assert found == (None if meant is None else f"{meant} {rest}")


def test_a_table_that_is_told_of_without_its_columns_stays() -> None:
    told = [TWO, "The table walkers is as wide as that of runs."]
    assert with_its_table("SELECT km FROM walkers", told) is None


def test_a_database_is_no_table() -> None:
    told = ["stock.db has lamps(sku TEXT, finish TEXT)"]
    wrong = "INSERT INTO stock (sku) VALUES ('L-2')"
    meant = "INSERT INTO lamps (sku) VALUES ('L-2')"
    assert with_its_table(wrong, told) == meant


@pytest.mark.parametrize(
    ("request_", "kept"),
    [("a table days with id and day", True), ("day is its primary key", True), ("a table", False)],
)
def test_a_primary_key_is_made_where_the_request_speaks_of_one(
    request_: str, *, kept: bool
) -> None:
    made = "CREATE TABLE days (day TEXT PRIMARY KEY, score INTEGER)"
    plain = "CREATE TABLE days (day TEXT, score INTEGER)"
    assert without_unasked_key(made, request_) == (made if kept else plain)
    assert without_unasked_key("SELECT ' PRIMARY KEY'", request_) == "SELECT ' PRIMARY KEY'"


def test_texts_in_quotes_have_no_space_at_their_ends() -> None:
    assert (
        with_trimmed_literals("DELETE FROM a WHERE b = ' x y '") == "DELETE FROM a WHERE b = 'x y'"
    )
    kept = "SELECT * FROM a WHERE b = 'it ''x'' '"
    assert with_trimmed_literals(kept) == kept
    assert with_trimmed_literals("say ' x '") == "say ' x '"
