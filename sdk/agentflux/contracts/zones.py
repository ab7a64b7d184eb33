"""Names of time zones: a city under the continent that IANA's list has it under.

A model that never saw `Atlantic/Reykjavik` writes `Europe/Reykjavik`. Where a parameter's
description asks for an IANA name, no zone has the written one and one zone alone has its city, it
is that one. On systems without IANA's list (Windows without `tzdata`) nothing changes.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any
from zoneinfo import available_timezones

from agentflux.contracts.tools import JsonSchema


def with_known_zones(arguments: Mapping[str, Any], schema: JsonSchema) -> dict[str, Any]:
    """Return the arguments with the zones that there are."""
    properties = schema.get("properties")
    if not isinstance(properties, Mapping):
        return dict(arguments)
    return {
        name: known_zone(value)
        if isinstance(value, str) and _asks_for_zone(properties.get(name))
        else value
        for name, value in arguments.items()
    }


def known_zone(name: str) -> str:
    """Return a zone's name: itself if there is one, else that of the only zone with its city."""
    found = _zones().get(_city(name), ()) if "/" in name else ()
    return found[0] if len(found) == 1 else name


def _asks_for_zone(node: object) -> bool:
    about = node.get("description") if isinstance(node, Mapping) else None
    return isinstance(about, str) and "IANA" in about


@cache
def _zones() -> Mapping[str, tuple[str, ...]]:
    """The zones of each city."""
    found: dict[str, tuple[str, ...]] = {}
    for name in sorted(available_timezones()):
        found[_city(name)] = (*found.get(_city(name), ()), name)
    return found


def _city(name: str) -> str:
    return name.rpartition("/")[2]
