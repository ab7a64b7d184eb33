"""The time world: no state, only the zone that the device is in."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

from afx_train.data.template import Value
from afx_train.data.worlds import Need, ServerCommand, UnknownSlot
from desk_worlds import contexts

LOCAL_ZONES = """
Europe/Lisbon Europe/Berlin Europe/Warsaw Europe/Paris Europe/Madrid Europe/Rome Europe/London
Europe/Amsterdam Europe/Stockholm Europe/Helsinki Europe/Athens Europe/Istanbul Europe/Kyiv
Europe/Prague Europe/Vienna Europe/Zurich Europe/Dublin Europe/Oslo Europe/Brussels Europe/Budapest
Europe/Bucharest Europe/Copenhagen Europe/Sofia Europe/Tallinn Europe/Riga Europe/Belgrade
America/New_York America/Chicago America/Denver America/Los_Angeles America/Toronto
America/Vancouver
America/Mexico_City America/Bogota America/Lima America/Santiago America/Sao_Paulo America/Halifax
America/Argentina/Buenos_Aires America/Caracas America/Phoenix America/Anchorage America/Montevideo
Africa/Nairobi Africa/Lagos Africa/Cairo Africa/Johannesburg Africa/Accra Africa/Casablanca
Africa/Addis_Ababa Africa/Tunis Africa/Dakar Asia/Tokyo Asia/Kolkata Asia/Shanghai Asia/Dubai
Asia/Singapore Asia/Seoul Asia/Manila Asia/Jakarta Asia/Karachi Asia/Dhaka Asia/Kathmandu
Asia/Tehran Asia/Jerusalem Asia/Riyadh Asia/Taipei Asia/Hong_Kong Asia/Ho_Chi_Minh Asia/Tashkent
Asia/Almaty Australia/Sydney Australia/Perth Australia/Adelaide Australia/Brisbane Pacific/Auckland
Pacific/Honolulu Atlantic/Reykjavik Atlantic/Azores
""".split()
# Names of the same zone: whichever is given, the answer is the same.
_LINKS = (
    *(("Asia/Kolkata", "Asia/Calcutta"), ("Europe/Kyiv", "Europe/Kiev"), ("UTC", "Etc/UTC")),
    *(("UTC", "GMT"), ("UTC", "Etc/GMT"), ("Asia/Ho_Chi_Minh", "Asia/Saigon")),
    *(("Asia/Kathmandu", "Asia/Katmandu"), ("Asia/Yangon", "Asia/Rangoon")),
    *(("America/New_York", "US/Eastern"), ("America/Los_Angeles", "US/Pacific")),
    *(("America/Chicago", "US/Central"), ("America/Denver", "US/Mountain")),
    ("America/Argentina/Buenos_Aires", "America/Buenos_Aires"),
)
_ZONE_KEYS = ("timezone", "source_timezone", "target_timezone")


class ClockWorld:
    """The time server: stateless."""

    tool_set = "time"

    def __init__(self, command: ServerCommand) -> None:
        self.server = command

    def needs_context(self, need: Need) -> bool:
        """Where the local zone is an argument: no request tells it."""
        return "local" in need.slots

    def scene(self, rng: Random, need: Need) -> "ClockScene":
        """Draw a local zone and a moment."""
        moment = datetime(2025, 1, 1, tzinfo=UTC) + timedelta(seconds=rng.randint(0, 63_000_000))
        zone = rng.choice(LOCAL_ZONES)
        place = rng.choice(LOCAL_ZONES) if "place" in need.slots else zone
        return ClockScene(zone, moment, place)


class ClockScene:
    """A device somewhere, at some moment."""

    def __init__(self, zone: str, moment: datetime, place: str) -> None:
        self._zone, self._moment, self._place = zone, moment, place

    @property
    def paths(self) -> Mapping[str, str]:
        """None."""
        return {}

    def slot(self, name: str) -> Value:
        """Return {local}, or {place}: what a clock there shows at the drawn moment."""
        if name == "local":
            return self._zone
        if name == "place":
            now = self._moment.astimezone(ZoneInfo(self._place))
            return {"said": _city(self._place), "tz": self._place, "now": f"{now:%H:%M}"}
        raise UnknownSlot(name)

    def context(self, rng: Random) -> str:
        """Word the local zone."""
        return contexts.zone_line(self._zone, _city(self._zone), rng)

    def refuses(self, tool: str, arguments: Mapping[str, Any]) -> str:
        """Refuse conversions from a zone into itself."""
        if tool == "convert_time" and arguments["source_timezone"] == arguments["target_timezone"]:
            return "both zones are the same"
        return ""

    def accept(self, tool: str, arguments: Mapping[str, Any], request: str) -> list[dict[str, Any]]:
        """Accept the other names of a zone."""
        out: list[dict[str, Any]] = []
        for key in _ZONE_KEYS:
            for pair in _LINKS:
                if (zone := arguments.get(key)) in pair:
                    out.append({**arguments, key: pair[1 - pair.index(str(zone))]})
        return out

    def build(self) -> None:
        """Nothing to build."""

    def observed(self, tool: str, text: str) -> str:
        """Say what the server would say at the drawn moment instead of now."""
        try:
            said = json.loads(text)
        except ValueError:
            return text
        if "source" in said:
            said = self._converted(said)
        else:
            said |= _fields(self._moment.astimezone(ZoneInfo(said["timezone"])))
        return json.dumps(said, indent=2)

    def _converted(self, said: dict[str, Any]) -> dict[str, Any]:
        source, target = said["source"], said["target"]
        there = self._moment.astimezone(ZoneInfo(source["timezone"]))
        asked = datetime.fromisoformat(source["datetime"])
        here = there.replace(hour=asked.hour, minute=asked.minute, second=0, microsecond=0)
        then = here.astimezone(UTC).astimezone(ZoneInfo(target["timezone"]))
        apart = (then.utcoffset() or timedelta()) - (here.utcoffset() or timedelta())
        hours = apart.total_seconds() / 3600
        whole = f"{hours:+.1f}h"
        shown = whole if hours.is_integer() else f"{hours:+.2f}".rstrip("0").rstrip(".") + "h"
        return {
            "source": {**source, **_fields(here)},
            "target": {**target, **_fields(then)},
            "time_difference": shown,
        }


def _city(zone: str) -> str:
    return zone.rsplit("/", 1)[-1].replace("_", " ")


def _fields(moment: datetime) -> dict[str, Any]:
    return {
        "datetime": moment.isoformat(timespec="seconds"),
        "day_of_week": f"{moment:%A}",
        "is_dst": bool(moment.dst()),
    }
