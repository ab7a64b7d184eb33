"""Renderings of the tool catalog: the same tools in other orders, some of them missing.

An adapter that has seen one catalog only learns positions instead of names. Each rendering costs
one prefix, computed once, so there are few of them.
"""

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import TypeVar

from afx_train.codec import Codec, Tokens
from agentflux.contracts.prompts import ChatFormat, Situation, route_prompt, select_prompt
from agentflux.contracts.tools import Catalog, ToolSpec

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One rendering: the prefix that rows share, and the names that stand in it.

    whole: it is the catalog as the device shows it. held_out: of names that training never asks
    for; beside others it would learn that they are never right.
    lead: the prefix instead of `static` where the adapter computes it, too (whole-prompt LoRA).
    aliases: what a name is called in this rendering, where it is not called by itself.
    masked: names or descriptions are missing, so that only requests without history fit.
    unchecked: sets of another data folder stand in it, too, which might serve what no set of its
    own folder does; so nothing is `none` here.
    """

    static: Tokens
    names: tuple[str, ...]
    whole: bool = False
    held_out: bool = False
    lead: Tokens = ()
    aliases: Mapping[str, Tokens] = field(default_factory=dict[str, Tokens])
    masked: bool = False
    unchecked: bool = False

    def under_adapter(self) -> "Variant":
        """The same rendering for an adapter that acts on the whole prompt."""
        return replace(self, static=(), lead=self.static)


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """Tool sets of other data folders that may stand beside a world's own.

    known: of small worlds, each as it is offered whole. many: those that training asks for, of
    worlds that are offered in parts. guests: how many of the many stand beside a small world at
    most; 0: no world is ever mixed with another.
    """

    known: Sequence[Catalog] = ()
    many: Catalog = field(default_factory=dict[str, Sequence[ToolSpec]])
    guests: int = 0


def route_variants(  # noqa: PLR0913 - what is rendered, with what, how often
    catalog: Catalog,
    codec: Codec,
    chat: ChatFormat,
    *,
    taught: Container[str],
    count: int,
    most: int,
    seed: str,
    beside: Neighbours,
) -> tuple[Variant, ...]:
    """Render the tool sets; the tools within a set are shuffled as well.

    More than `most` tool sets are no catalog that a device shows: they are dealt out `count` times
    in parts of 2 to `most` sets, so each stands in `count` renderings beside other ones. taught:
    the sets that training asks for; the others are dealt out apart from them.
    beside: with guests, a small world gets as many renderings again with some of the many among its
    own, and in every other dealing a part has at most so many sets, and a small world beside it.
    """
    everything: dict[str, Sequence[ToolSpec]] = {**beside.many, **catalog}
    for known in beside.known:
        everything |= known

    def render(names: Sequence[str], rng: Random | None) -> str:
        shown = {name: _shuffled(everything[name], rng) for name in names}
        return route_prompt(chat, shown, Situation(request="")).static

    def rendered(
        names: Sequence[str], rng: Random, *, held_out: bool = False, unchecked: bool = False
    ) -> Variant:
        static = codec.encode([render(names, rng)])
        return Variant(static=static, names=tuple(names), held_out=held_out, unchecked=unchecked)

    if len(catalog) <= most:
        made = list(_variants(tuple(catalog), render, codec, count=count, seed=seed))
        strangers = sorted(name for name in beside.many if name not in catalog)
        for number in range(count if beside.guests and strangers else 0):
            rng = Random(f"{seed}/guests/{number}")
            size = min(rng.randint(1, beside.guests), len(strangers))
            made.append(rendered(_shuffled([*catalog, *rng.sample(strangers, size)], rng), rng))
        return tuple(made)
    made = []
    for held_out in (False, True):
        dealt = tuple(name for name in catalog if (name not in taught) == held_out)
        for number in range(count):
            rng = Random(f"{seed}/parts/{number}")
            left = _shuffled(dealt, rng)
            mixed = beside.guests > 0 and bool(beside.known) and number % 2 == 1
            while left:
                size = rng.randint(1, beside.guests) if mixed else rng.randint(2, most)
                part, left = left[:size], left[size:]
                if mixed:
                    part = _shuffled([*part, *rng.choice(beside.known)], rng)
                made.append(rendered(part, rng, held_out=held_out, unchecked=mixed))
    return tuple(made)


def tool_variants(
    tool_set: str,
    tools: Sequence[ToolSpec],
    codec: Codec,
    chat: ChatFormat,
    *,
    count: int,
    seed: str,
) -> tuple[Variant, ...]:
    """Render the tools of one set, as selection and arguments show them."""
    by_name = {tool.name: tool for tool in tools}

    def render(names: Sequence[str], _: Random | None) -> str:
        shown = [by_name[name] for name in names]
        return select_prompt(chat, tool_set, shown, Situation(request="")).static

    return _variants(tuple(by_name), render, codec, count=count, seed=f"{seed}/{tool_set}")


def masked_variants(
    tool_set: str,
    tools: Sequence[ToolSpec],
    codec: Codec,
    chat: ChatFormat,
    *,
    count: int,
    seed: str,
) -> tuple[Variant, ...]:
    """Render tools whose names say nothing, and, in turn, tools without a description.

    What is learned from the first are descriptions, from the second names: function masking of
    Lin et al. 2024 (Hammer, arXiv:2410.04587), section 4.2. Only for requests without history,
    which would call the tools by their own names.
    """
    made: list[Variant] = []
    for number in range(count):
        rng = Random(f"{seed}/{tool_set}/masked/{number}")
        order = _shuffled(tools, rng)
        aliases = dict[str, str]()
        if number % 2 == 0:
            aliases = {tool.name: _code_name(rng) for tool in order}
            order = [replace(tool, name=aliases[tool.name]) for tool in order]
        else:
            order = [replace(tool, description="") for tool in order]
        static = select_prompt(chat, tool_set, order, Situation(request="")).static
        made.append(
            Variant(
                static=codec.encode([static]),
                names=tuple(aliases) or tuple(tool.name for tool in order),
                aliases={name: codec.label(alias) for name, alias in aliases.items()},
                masked=True,
            )
        )
    return tuple(made)


def _code_name(rng: Random) -> str:
    return "".join(rng.choices("bcdfghjklmnpqrstvwxz", k=2)) + f"{rng.randrange(1000):03}"


def _variants(
    names: tuple[str, ...],
    render: Callable[[Sequence[str], Random | None], str],
    codec: Codec,
    *,
    count: int,
    seed: str,
) -> tuple[Variant, ...]:
    """The plain rendering, then shuffled ones.

    From four on every other one lacks a part of the names. The parts cover all names, so each is
    missing from one rendering.
    """
    made = [Variant(static=codec.encode([render(names, None)]), names=names, whole=True)]
    dealt = list(names)
    Random(f"{seed}/dealt").shuffle(dealt)
    parts = max(1, count // 2)
    for number in range(1, count):
        rng = Random(f"{seed}/{number}")
        part, shortened = number // 2, number % 2 == 1
        left_out = set(dealt[part::parts]) if shortened and parts > 1 else set()
        shown = tuple(_shuffled([n for n in names if n not in left_out], rng))
        if shown:
            made.append(Variant(static=codec.encode([render(shown, rng)]), names=shown))
    return tuple(made)


def _shuffled(items: Sequence[_Item], rng: Random | None) -> list[_Item]:
    mixed = list(items)
    if rng is not None:
        rng.shuffle(mixed)
    return mixed
