"""Which subtask, tool set and tool each adapter serves: from its card, or from `--place`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

from pydantic import TypeAdapter, ValidationError

from afx_export.adapters import Adapter
from afx_export.errors import AdapterRefused
from agentflux.contracts.bundle import AdapterEntry, Calibration, CatalogTool, Name
from agentflux.contracts.cards import CARD, AdapterCard, read_card
from agentflux.contracts.prompts import PROMPT_CONTRACT, Boundary, Role
from agentflux.errors import ConfigError

ToolKey = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What `--place NAME=subtask[:tool_set[:tool]]` says."""

    subtask: Role
    tool_set: str | None = None
    tool: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """An adapter folder with its name and place; `card` is None when `--place` gave them."""

    folder: Path
    name: str
    place: Place
    card: AdapterCard | None

    def entry(self, adapter: Adapter, boundary: Boundary) -> AdapterEntry:
        """Return the manifest's entry, which the adapter mode gives its file or row."""
        card = self.card
        scores = (
            {f"score.{key}": f"{value:.6g}" for key, value in card.scores.items()} if card else {}
        )
        return AdapterEntry(
            name=self.name,
            subtask=self.place.subtask,
            tool_set=self.place.tool_set,
            tool=self.place.tool,
            boundary=boundary,
            described=bool(card and card.described),
            rank=adapter.rank,
            target_modules=adapter.target_modules,
            weights_sha256=adapter.weights_sha256,
            calibration=card.calibration if card else Calibration(),
            card={**card.training, **scores} if card else {},
        )


def parse_place(text: str) -> tuple[str, Place]:
    """Read one `--place` value.

    Raises:
        ConfigError: it is not NAME=subtask[:tool_set[:tool]].
    """
    name, equals, rest = text.partition("=")
    subtask, *more = rest.split(":", 2)
    subtasks = get_args(Role)
    if not name or not equals or subtask not in subtasks or not all(more):
        msg = f"{text!r} is not NAME=subtask[:tool_set[:tool]]; subtasks: {', '.join(subtasks)}"
        raise ConfigError(msg, where="--place")
    tool_set, tool = [*more, None, None][:2]
    return name, Place(subtask=cast("Role", subtask), tool_set=tool_set, tool=tool)


def place_adapters(
    folders: Sequence[Path], places: Mapping[str, Place], *, weights: str
) -> tuple[Placed, ...]:
    """Find every adapter's place and check that they fit together and to the base model.

    The result is in order of their names, so that equal input gives equal bundles.

    weights: the base model's `weights_sha256`.

    Raises:
        ConfigError: an adapter has no place, two have the same, or `--place` names none.
        AdapterRefused: an adapter was trained on another base model or prompt contract.
    """
    placed = sorted((_place(f, places, weights) for f in folders), key=lambda one: one.name)
    if unknown := sorted(set(places) - {folder.name for folder in folders}):
        raise ConfigError(f"no adapter folder is named {unknown[0]!r}", where="--place")
    names: dict[str, Path] = {}
    taken: dict[Place, str] = {}
    for one in placed:
        if one.name in names:
            msg = f"{one.folder} and {names[one.name]} both hold an adapter named {one.name!r}"
            raise ConfigError(msg, where="--adapters")
        if other := taken.get(one.place):
            msg = f"adapters {other!r} and {one.name!r} both serve {_words(one.place)}"
            raise ConfigError(msg, where="--adapters")
        names[one.name], taken[one.place] = one.folder, one.name
    return tuple(placed)


def _place(folder: Path, places: Mapping[str, Place], weights: str) -> Placed:
    card, given = read_card(folder), places.get(folder.name)
    if card and given:
        raise ConfigError(
            f"{folder.name!r} has a card ({CARD}); leave --place out", where="--place"
        )
    if given:
        return Placed(folder=folder, name=_checked_name(folder), place=given, card=None)
    if card is None:
        msg = f"has no {CARD}; say what it does: --place {folder.name}=subtask[:tool_set[:tool]]"
        raise ConfigError(msg, where=str(folder))
    if card.base_weights_sha256 != weights:
        raise AdapterRefused(
            card.name,
            f"it was trained on another base model ({card.base_model}, weights "
            f"{card.base_weights_sha256[:12]}…; this one has {weights[:12]}…)",
        )
    if card.prompt_contract != PROMPT_CONTRACT:
        raise AdapterRefused(
            card.name,
            f"it was trained for prompt contract {card.prompt_contract!r}, "
            f"this version writes {PROMPT_CONTRACT!r}; train it again",
        )
    place = Place(subtask=card.subtask, tool_set=card.tool_set, tool=card.tool)
    return Placed(folder=folder, name=card.name, place=place, card=card)


def _checked_name(folder: Path) -> str:
    try:
        TypeAdapter(Name).validate_python(folder.name)
    except ValidationError as error:
        msg = "the folder's name becomes the adapter's: use letters, digits, '.', '_' and '-'"
        raise ConfigError(msg, where=str(folder)) from error
    return folder.name


def _words(place: Place) -> str:
    return ":".join(part for part in (place.subtask, place.tool_set, place.tool) if part)


def merged_catalog(placed: Sequence[Placed]) -> tuple[CatalogTool, ...]:
    """Join the catalogs of all cards, in the order of their names.

    Raises:
        ConfigError: two adapters were trained for different versions of a tool.
    """
    return tuple(tool for _, (tool, _) in sorted(ranked_catalog(placed).items()))


def ranked_catalog(placed: Sequence[Placed]) -> dict[ToolKey, tuple[CatalogTool, int]]:
    """Join them; with each tool how special the writer is whose copying it has.

    Raises:
        ConfigError: two adapters were trained for different versions of a tool.
    """
    found: dict[ToolKey, tuple[CatalogTool, str, int]] = {}
    for one in placed:
        for tool in one.card.catalog if one.card else ():
            key, rank = (tool.tool_set, tool.name), writer_rank(one.place, tool)
            if key in found and found[key][0].sha256 != tool.sha256:
                msg = (
                    f"adapters {found[key][1]!r} and {one.name!r} were trained for different "
                    f"descriptions of {tool.tool_set}/{tool.name}; train them on one catalog"
                )
                raise ConfigError(msg, where="--adapters")
            if key not in found or rank > found[key][2]:
                found[key] = (tool if rank else without_copying(tool), one.name, rank)
    return {key: (tool, rank) for key, (tool, _, rank) in found.items()}


def writer_rank(place: Place | AdapterEntry, tool: CatalogTool) -> int:
    """How special a writer of a tool's arguments is: one for all, its set's, its own; 0 for none.

    The device asks the most special one, an own adapter before a joint one, so what that learned
    to copy is what counts.
    """
    serves = place.tool_set in (None, tool.tool_set) and place.tool in (None, tool.name)
    if not serves or place.subtask not in ("arguments", "joint"):
        return 0
    special = 1 + (place.tool_set is not None) + (place.tool is not None)
    return 2 * special - (place.subtask == "joint")


def without_copying(tool: CatalogTool) -> CatalogTool:
    """The tool without anything that training data said of its parameters: all strings are free."""
    return CatalogTool(tool_set=tool.tool_set, name=tool.name, sha256=tool.sha256)
