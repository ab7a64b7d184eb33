import pytest

from agentflux.contracts.listed import MOST, items_of


@pytest.mark.parametrize(
    ("observation", "names"),
    [
        ("[{'name': 'a b'}, {'name': 'c'}]", ["a b", "c"]),
        ('[{"id": 1, "city": "Oslo"}, {"id": 2, "city": "Rome"}]', ["Oslo", "Rome"]),
        ('["x", "y"]', ["x", "y"]),
        ('{"none": [], "entities": [{"name": "A", "n": {"k": ["v"]}}, {"name": "B"}]}', ["A", "B"]),
        ("Log:\nCommit: 'a1'\nMessage: m\n\nCommit: 'b2'\nMessage: n", ["a1", "b2"]),
        ("[FILE] a.txt\n[DIR] old things\n", ["a.txt", "old things"]),
        ("  main\n* fix/roads", ["main", "fix/roads"]),
        ("/srv/a.txt\nC:\\b.txt", ["/srv/a.txt", "C:\\b.txt"]),
    ],
)
def test_things_that_are_listed_have_names(observation: str, names: list[str]) -> None:
    assert [item.name for item in items_of(observation)] == names


@pytest.mark.parametrize(
    "observation",
    [
        "",
        "one.txt",
        "a.txt\na.txt",
        "port = 80\nhost = x",
        "Dear all, it rains\nand rains",
        "{'name': 'x'}",
        "[1, 2]",
        "[{'name': ",
        "[{" * 9999,
        "first\n\nsecond: x, y\n",
        "\n".join(f"f{number}" for number in range(MOST + 1)),
        "x\n" * 20_000,
    ],
)
def test_what_is_no_list_of_things_has_none(observation: str) -> None:
    assert items_of(observation) == ()


def test_all_that_is_said_of_a_thing_goes_with_it() -> None:
    people = '{"entities": [{"name": "A", "facts": ["cuts glass"]}, {"name": "B"}]}'
    assert [item.text for item in items_of(people)] == ["A cuts glass", "B"]
    log = "Commit: a1\nMessage: roads\n\nCommit: b2\nMessage: font"
    assert ["roads" in item.text for item in items_of(log)] == [True, False]
