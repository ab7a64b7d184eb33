import pytest

from agentflux.contracts.zones import known_zone, with_known_zones


@pytest.mark.parametrize(
    ("written", "known"),
    [
        ("Europe/Reykjavik", "Atlantic/Reykjavik"),
        ("Asia/Sydney", "Australia/Sydney"),
        ("America/Maynooth", "America/Maynooth"),
        ("Europe/Buenos_Aires", "Europe/Buenos_Aires"),  # two zones have it
        ("Europe/Lisbon", "Europe/Lisbon"),
        ("Asia/Calcutta", "Asia/Calcutta"),
        ("UTC", "UTC"),
        ("Reykjavik", "Reykjavik"),
    ],
)
def test_a_city_is_under_the_continent_that_the_list_has_it_under(written: str, known: str) -> None:
    assert known_zone(written) == known


def test_only_what_a_description_calls_an_iana_name_is_looked_up() -> None:
    asked = {"type": "string", "description": "IANA timezone name"}
    schema = {"properties": {"zone": asked, "path": {"type": "string"}, "any": True}}
    written = {"zone": "Asia/Sydney", "path": "Asia/Sydney", "any": "Asia/Sydney", "hour": 3}
    assert with_known_zones(written, schema) == written | {"zone": "Australia/Sydney"}
    assert with_known_zones(written, {"type": "object"}) == written
