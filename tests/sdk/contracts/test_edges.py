import pytest

from agentflux.contracts.edges import as_shown, edges_of

SHOWN = (
    "The graph has Ana -works_at-> Old Mill; Ana -[owns]-> Van 7\n* Foxglove --sponsors--> Open.\n"
)
TRIPLES = "(Ana, knows, Ben), (Ben, knows, Mr. Cole)"


def test_links_are_read_from_arrows_and_triples() -> None:
    found = edges_of([SHOWN, TRIPLES, "a -> b", "x - y"])
    assert found == (
        ("The graph has Ana", "works_at", "Old Mill"),
        ("Ana", "owns", "Van 7"),
        ("Foxglove", "sponsors", "Open"),
        ("Ana", "knows", "Ben"),
        ("Ben", "knows", "Mr. Cole"),
    )


@pytest.mark.parametrize(
    ("source", "kind", "target", "ends"),
    [
        ("Ana", "works_at", "Van 7", ("Ana", "Old Mill")),
        ("Open", "sponsors", "Foxglove", ("Foxglove", "Open")),
        ("Ana", "works_at", "Old Mill", ("Ana", "Old Mill")),
        ("Ana", "sells", "Van 7", ("Ana", "Van 7")),
        ("Ben", "works_at", "Van 7", ("Ben", "Van 7")),
        ("Ben", "knows", "Dora", ("Ben", "Mr. Cole")),
    ],
)
def test_a_link_that_is_not_shown_is_the_only_one_of_its_type_and_end(
    source: str, kind: str, target: str, ends: tuple[str, str]
) -> None:
    link = {"from": source, "relationType": kind, "to": target}
    mended = as_shown(link, edges_of([SHOWN, TRIPLES]))
    assert mended == link | {"from": ends[0], "to": ends[1]}


def test_what_is_no_link_stays() -> None:
    edges = edges_of([SHOWN])
    for other in ({"from": "Ana", "to": "Van 7"}, {"from": 1, "to": 2, "type": "owns"}, {}):
        assert as_shown(other, edges) == other


def test_two_links_of_a_type_and_an_end_leave_it_as_it_is() -> None:
    edges = edges_of(["(Ana, knows, Ben), (Ana, knows, Cem)"])
    link = {"from": "Ana", "to": "Dora", "type": "knows"}
    assert as_shown(link, edges) == link
