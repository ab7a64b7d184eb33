"""From phrasings to drafts: slots filled with values of a drawn world, styled, split by phrasing.

Every draft has a random source of its own, seeded by phrasing and number: adding phrasings or
taking some away changes no other draft, and a phrasing's split depends on its own words only.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, cast

from afx_train.data.grammar import CallPattern, Phrasing
from afx_train.data.style import Piece, restyle
from afx_train.data.template import Slot, Value, change_texts, fill, filtered, parse
from afx_train.data.worlds import Need, Scene, UnknownSlot, World
from afx_train.errors import DataError
from afx_train.trajectory import Split, Trajectory, TrajectoryStep

TEST_PERCENT = 12
DEV_PERCENT = 8
NO_CONTEXT_SHARE = 0.12
_ATTEMPTS = 25
_QUOTES = (('"', '"'),) * 6 + (("'", "'"),) * 3 + (("“", "”"), ("`", "`"))
_FREE_TEXT = frozenset(
    (
        *("text", "memo", "items", "things", "note", "message", "insight", "finding", "topic"),
        *("obs", "fact", "newfact", "old", "new", "newval", "val"),
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A trajectory before its calls were executed, and the scenes to execute them in."""

    trajectory: Trajectory
    scenes: Mapping[str, Scene]
    style: str
    expect_error: bool


class _Redraw(Exception):
    """The draw makes no sense; draw again."""


def bucket_of(text: str) -> int:
    """Map a text to 0..99, always the same one."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) % 100


def split_of(phrasing_id: str) -> Split:
    """Assign a phrasing to a split by its wording alone, whatever group it stands in."""
    wording = phrasing_id.rpartition("/")[2]
    bucket = bucket_of(wording)
    if bucket < TEST_PERCENT:
        return "test"
    return "dev" if bucket < TEST_PERCENT + DEV_PERCENT else "train"


def fills_of(
    phrasings: Sequence[Phrasing], *, per_phrasing: float, least_per_tool: int, seed: int
) -> dict[tuple[str, str], int]:
    """Decide how many examples each phrasing gets, by (group, ask).

    Single calls get `per_phrasing` on average, more in groups that would stay below
    `least_per_tool` examples, and in training so many times as their file says; scenarios 2;
    requests without a tool 1.
    """
    sizes: dict[str, int] = {}
    for phrasing in phrasings:
        sizes[phrasing.group] = sizes.get(phrasing.group, 0) + 1
    fills: dict[tuple[str, str], int] = {}
    for phrasing in phrasings:
        times = phrasing.fills if split_of(phrasing.id) == "train" else 1
        wanted = max(per_phrasing * times, min(4.0, least_per_tool / sizes[phrasing.group]))
        wanted = {"single": wanted, "scenario": 2.0}.get(phrasing.kind, 1.0)
        whole = int(wanted)
        extra = Random(f"{seed}/{phrasing.group}/{phrasing.ask}").random() < wanted - whole
        fills[phrasing.group, phrasing.ask] = whole + extra
    return fills


def drafts(
    phrasings: Sequence[Phrasing],
    worlds: Mapping[str, World],
    *,
    fills: Mapping[tuple[str, str], int],
    seed: int,
) -> Iterator[Draft]:
    """Yield the drafts of all phrasings, in their order.

    A draft's scene holds until the next draft of the same tool set is built.

    Raises:
        DataError: a slot that no world and no value list has, or a tool set without a world.
    """
    for phrasing in phrasings:
        for number in range(fills[phrasing.group, phrasing.ask]):
            yield _draft(phrasing, worlds, seed=seed, number=number)


def _draft(phrasing: Phrasing, worlds: Mapping[str, World], *, seed: int, number: int) -> Draft:
    reason = ""
    for attempt in range(_ATTEMPTS):
        rng = Random(f"{seed}/{phrasing.group}/{phrasing.ask}/{number}/{attempt}")
        try:
            return _Drawing(phrasing, worlds, rng).draft(number)
        except _Redraw as redraw:
            reason = str(redraw)
    raise DataError(
        f"no sensible values for {phrasing.ask!r} in {_ATTEMPTS} draws: {reason}",
        where=phrasing.where,
    )


class _Drawing:
    """One attempt at filling one phrasing."""

    def __init__(self, phrasing: Phrasing, worlds: Mapping[str, World], rng: Random) -> None:
        self.phrasing, self.worlds, self.rng = phrasing, worlds, rng
        self.values: dict[str, Value] = {}
        slots = phrasing.slots()
        told = frozenset(s.name for s in slots[: _count_told(phrasing)])
        self.need = Need(
            slots=frozenset(s.name for s in slots),
            told=told,
            tools=frozenset(call.tool for call in phrasing.calls),
        )
        self.sets = tuple(dict.fromkeys(call.tool_set for call in phrasing.calls))
        if missing := [n for n in (*self.sets, *phrasing.world) if n not in worlds]:
            raise DataError(f"no world for tool set {missing[0]!r}", where=phrasing.where)
        self.scenes = self._scenes()

    def _scenes(self) -> dict[str, Scene]:
        """Draw a scene of every world; those of other tool sets only lend their context."""
        self.root = ""
        scenes: dict[str, Scene] = {}
        self.shown = self._shown()
        for name, world in self.worlds.items():
            self.root = self.root or _draw_root(world, self.rng)
            mine = name in self.sets or not self.sets
            need = Need(
                slots=self.need.slots if mine else frozenset(),
                told=self.need.told if mine else frozenset(),
                tools=self.need.tools if mine else frozenset(),
                root=self.root,
                shown=name in self.shown,
                own=own.model_extra if (own := self.phrasing.world.get(name)) else None,
            )
            scenes[name] = self._scene(world, need)
        return scenes

    def _scene(self, world: World, need: Need) -> Scene:
        try:
            return world.scene(self.rng, need)
        except (KeyError, TypeError, ValueError) as error:
            if need.own is None:
                raise
            message = f"scenes.world.{world.tool_set}: {type(error).__name__}: {error}"
            raise DataError(message, where=self.phrasing.where) from error

    def _shown(self) -> set[str]:
        """Choose whose context is shown: what is needed, often more, sometimes nothing."""
        needed = {n for n in self.sets if self.worlds[n].needs_context(self.need)}
        needed |= {n for n in self.sets if n in self.phrasing.world}
        if not needed and self.rng.random() < NO_CONTEXT_SHARE:
            return set()
        others = [name for name in self.worlds if name not in self.sets]
        kind = self.rng.random()
        if kind < 0.35:
            return {*self.sets}
        if kind < 0.8:
            return {*self.sets, *others}
        return {*self.sets, *(name for name in others if self.rng.random() < 0.5)}

    def draft(self, number: int) -> Draft:
        phrasing = self.phrasing
        pieces, style = self._request(), ""
        if not phrasing.world:  # there, values stand in the wording itself
            pieces, style = restyle(pieces, self.rng)
        request = "".join(piece.text for piece in pieces)
        steps = tuple(self._step(call, request) for call in phrasing.calls)
        digest = hashlib.sha256(phrasing.ask.encode()).hexdigest()[:8]
        trajectory = Trajectory(
            id=f"{phrasing.id}-{digest[:4]}-{number}",
            request=request,
            context=self._context(),
            steps=steps,
            phrasing=phrasing.id,
            kind=phrasing.kind,
            split=split_of(phrasing.id),
        )
        scenes = {name: self.scenes[name] for name in self.sets}
        return Draft(
            trajectory=trajectory, scenes=scenes, style=style, expect_error=phrasing.expect_error
        )

    def _request(self) -> list[Piece]:
        pieces: list[Piece] = []
        for part in parse(self.phrasing.ask, where=self.phrasing.where):
            if isinstance(part, str):
                pieces.append(Piece(part))
            else:
                text = str(filtered(part, self._value(part)))
                quoted = part.filter == "quoted"
                text = _quoted(text, self.rng) if quoted else text
                free = part.base in _FREE_TEXT or " " in text
                pieces.append(Piece(text, is_value=True, open_end=free and not quoted))
        return pieces

    def _step(self, call: CallPattern, request: str) -> TrajectoryStep:
        scene = self.scenes[call.tool_set]
        where = self.phrasing.where
        arguments = cast(
            "dict[str, Any]",
            change_texts(dict(call.args), lambda text: fill(text, self._value, where=where)),
        )
        if reason := scene.refuses(call.tool, arguments):
            raise _Redraw(reason)
        accept = scene.accept(call.tool, arguments, request)
        return TrajectoryStep(
            tool_set=call.tool_set, tool=call.tool, arguments=arguments, accept=tuple(accept)
        )

    def _value(self, slot: Slot) -> Value:
        if slot.name not in self.values:
            self.values[slot.name] = self._draw(slot)
        value = self.values[slot.name]
        if not slot.field:
            return value
        if not isinstance(value, Mapping) or slot.field not in value:
            raise DataError(
                f"{{{slot.name}}} has no field {slot.field!r}", where=self.phrasing.where
            )
        return cast("Value", value[slot.field])

    def _draw(self, slot: Slot) -> Value:
        lists = self.phrasing.values
        if records := lists.get(slot.name) or lists.get(slot.base):
            used = [v for k, v in self.values.items() if k.rstrip("0123456789") == slot.base]
            free = [record for record in records if record not in used]
            return self.rng.choice(free or list(records))
        order = [*self.sets, *(name for name in self.worlds if name not in self.sets)]
        for name in order:
            try:
                return self.scenes[name].slot(slot.name)
            except UnknownSlot as unknown:
                if (lacking := unknown.args[0]) not in (slot.name, slot.base):
                    message = f"{{{slot.name}}} needs another {{{lacking}}} than there is"
                    raise _Redraw(message) from unknown
        if slot.number:
            message = f"not enough different {{{slot.base}}} in this draw"
            raise _Redraw(message)
        raise DataError(
            f"{{{slot.name}}} in {self.phrasing.ask!r} is in no value list and no world",
            where=self.phrasing.where,
        )

    def _context(self) -> str:
        lines = [self._line(name) for name in self.worlds if name in self.shown]
        lines = [line for line in lines if line]
        self.rng.shuffle(lines)
        single = all("\n" not in line for line in lines)
        if single and lines and self.rng.random() < 0.15:
            return self.rng.choice((" ", "; ", " | ")).join(lines)
        return "\n".join(lines)

    def _line(self, name: str) -> str:
        """One tool set's part of the context, as it was written or as its world words it."""
        if own := self.phrasing.world.get(name):
            return self.rng.choice(own.shown).replace("{root}", self.root)
        return self.scenes[name].context(self.rng)


def _draw_root(world: World, rng: Random) -> str:
    """Ask the first world that knows how for a root path; the others share it."""
    draw = getattr(world, "draw_root", None)
    return str(draw(rng)) if callable(draw) else ""


def _count_told(phrasing: Phrasing) -> int:
    return sum(isinstance(p, Slot) for p in parse(phrasing.ask, where=phrasing.where))


def _quoted(text: str, rng: Random) -> str:
    fitting = [pair for pair in _QUOTES if pair[0] not in text and pair[1] not in text]
    left, right = rng.choice(fitting or [("", "")])
    return f"{left}{text}{right}"
