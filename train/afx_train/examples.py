"""From trajectories to the examples of one subtask."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from random import Random

from afx_train.catalogs import (
    Neighbours,
    Variant,
    masked_variants,
    route_variants,
    tool_variants,
)
from afx_train.codec import Codec, Tokens
from afx_train.corpus import Corpus, World
from afx_train.errors import RecipeError
from afx_train.recipe import AdapterPlan, ExampleShares, Recipe
from afx_train.trajectory import Split, Trajectory, TrajectoryStep, first_call_of
from agentflux.contracts.prompts import (
    FINISH,
    NONE,
    Boundary,
    Situation,
    StagePrompt,
    Subtask,
    arguments_prompt,
    route_prompt,
    select_prompt,
)
from agentflux.contracts.tools import Step, ToolCall, ToolSpec

ROUTER = ""
_KEYWORD = re.compile(r"\b[A-Z]{2,}\b")
_ROUTE: Subtask = "route"
_SELECT: Subtask = "select"


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One prompt of a stage and what is to be written.

    group: whose catalog variants stand before it (a tool set, or ROUTER; of which part, where an
    adapter learns several subtasks). tool_set: "" for the router.
    label: the right name; for arguments, the tool. stop: the candidate that ends the loop here.
    shape: of an argument object, which keys it has and how many items; see `shape_of`.
    before: tokens that the base computes; prompt: tokens that the adapter computes.
    accept: other targets that are right as well.
    """

    id: str
    subtask: Subtask
    tool_set: str
    group: str
    label: str
    stop: str
    before: Tokens
    prompt: Tokens
    target: Tokens
    accept: tuple[Tokens, ...] = ()
    shape: str = ""

    @property
    def key(self) -> str:
        """Identity among all examples of an adapter."""
        return f"{self.group}/{self.id}"

    @property
    def width(self) -> int:
        """Tokens of the row without the shared prefix; a target's last token is never read."""
        return len(self.before) + len(self.prompt) + len(self.target) - 1

    @property
    def may_lose_gold(self) -> bool:
        """Whether the right name can be taken from the catalog, which makes `none` right."""
        return self.stop == NONE and self.label != NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class _Moment:
    """A situation and the right name in it."""

    id: str
    situation: Situation
    tool_set: str
    label: str
    step: TrajectoryStep | None = None


def shape_of(value: object) -> str:
    """Return what kind of an argument object it is: its keys, one item or several, yes or no.

    Of a statement, the keywords in capitals: `SELECT … WHERE` has another shape than `SELECT`.
    """
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{shape_of(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list | tuple):
        shapes = "|".join(sorted({shape_of(item) for item in value}))
        return f"[{shapes}{'+' if len(value) > 1 else ''}]" if value else "[-]"
    if isinstance(value, bool):
        return str(value)
    keywords = sorted(set(_KEYWORD.findall(value))) if isinstance(value, str) else []
    return " ".join(keywords) if len(keywords) > 1 else ""


class ExampleMaker:
    """Makes one adapter's examples and the catalog variants that they are shown with."""

    def __init__(  # noqa: PLR0913 - the last two only for a part of a joint adapter
        self,
        recipe: Recipe,
        plan: AdapterPlan,
        corpus: Corpus,
        codec: Codec,
        *,
        boundary: Boundary | None = None,
        part: str = "",
    ) -> None:
        """plan: of one subtask. boundary, part: those of the joint adapter that this is part of."""
        self._recipe, self._plan, self._corpus, self._codec = recipe, plan, corpus, codec
        self._shares: ExampleShares = recipe.settings(plan).examples
        self._boundary: Boundary = boundary or recipe.boundary_of(plan)
        self._part = part
        if plan.tool_set is not None and plan.tool_set not in corpus.catalog:
            raise RecipeError(
                f"adapter {plan.name!r}: tool set {plan.tool_set!r} is not in the data; "
                f"it has {', '.join(corpus.catalog)}"
            )

    def tool_sets(self) -> tuple[str, ...]:
        """The tool sets that the adapter serves."""
        return (self._plan.tool_set,) if self._plan.tool_set else tuple(self._corpus.catalog)

    def variants(self) -> dict[str, tuple[Variant, ...]]:
        """The catalog variants of each group; the first is the plain one."""
        count, seed = self._shares.catalog_variants, f"{self._recipe.seed}"
        catalog, chat, codec = self._corpus.catalog, self._recipe.chat, self._codec
        if self._plan.subtask == "route":
            made = {
                _router(number): route_variants(
                    world.catalog,
                    codec,
                    chat,
                    taught=world.taught,
                    count=count,
                    most=self._shares.sets_offered,
                    seed=seed,
                    beside=self._beside(world),
                )
                for number, world in enumerate(self._corpus.worlds)
            }
        else:
            masked = self._shares.masked_variants if self._plan.subtask == "select" else 0
            made = {
                name: (
                    *tool_variants(name, catalog[name], codec, chat, count=count, seed=seed),
                    *masked_variants(name, catalog[name], codec, chat, count=masked, seed=seed),
                )
                for name in self.tool_sets()
            }
        if self._boundary == "prompt":
            made = {name: tuple(v.under_adapter() for v in vs) for name, vs in made.items()}
        return {self._group(name): variants for name, variants in made.items()}

    def make(self, split: Split) -> tuple[Example, ...]:
        """Derive the examples of a split, in a fixed order."""
        rng = Random(f"{self._recipe.seed}/{self._plan.name}/{split}")
        worlds = [self._known(world.trajectories, split) for world in self._corpus.worlds]
        if self._plan.subtask == "route":
            return tuple(
                self._named(moment, _router(number))
                for number, known in enumerate(worlds)
                for moment in _route_moments(known, self._shares, rng)
            )
        if self._plan.subtask == "select":
            return tuple(
                self._named(moment, name)
                for name in self.tool_sets()
                for moment in self._select_moments(name, self._asked_of(name, worlds), rng)
            )
        return tuple(self._argument_examples(list(chain.from_iterable(worlds))))

    def _beside(self, world: World) -> Neighbours:
        """The other worlds' tool sets that may stand in this one's renderings."""
        most, others = self._shares.sets_offered, [w for w in self._corpus.worlds if w is not world]
        many = [other for other in others if len(other.catalog) > most]
        return Neighbours(
            known=[other.catalog for other in others if len(other.catalog) <= most],
            many={
                name: tools
                for other in many
                for name, tools in other.catalog.items()
                if name in other.taught
            },
            guests=self._shares.guests,
        )

    def _asked_of(self, tool_set: str, worlds: Sequence[Sequence[Trajectory]]) -> list[Trajectory]:
        """What is asked where the tool set is offered; elsewhere nobody knows what it can serve."""
        offering = zip(self._corpus.worlds, worlds, strict=True)
        return [item for world, known in offering if tool_set in world.catalog for item in known]

    def _known(self, items: Sequence[Trajectory], split: Split) -> list[Trajectory]:
        """Those of a split, without what nobody has seen and what training hides."""
        chosen = [t for t in items if t.split == split]
        known = [t if t.verified else first_call_of(t) for t in chosen]
        if split == "train" and self._plan.subtask != "arguments":
            return [self._without_context(t) for t in known]
        return known

    def _without_context(self, item: Trajectory) -> Trajectory:
        drawn = Random(f"{self._recipe.seed}/context/{item.id}").random()
        dropped = drawn < self._shares.context_dropped
        return item.model_copy(update={"context": ""}) if dropped else item

    def _select_moments(
        self, tool_set: str, items: Sequence[Trajectory], rng: Random
    ) -> Iterator[_Moment]:
        wanted = [
            _Moment(
                id=f"{t.id}/{k}",
                situation=situation(t, k),
                tool_set=tool_set,
                label=step.tool,
                step=step,
            )
            for t in items
            for k, step in enumerate(t.steps)
            if step.tool_set == tool_set and not self._corpus.tool(step).deprecated
        ]
        yield from wanted
        abstain = [t for t in items if not t.steps]
        foreign = [t for t in items if t.steps and t.steps[0].tool_set != tool_set]
        count = round(self._shares.select_none * len(wanted))
        near = [t for t in abstain if t.kind == f"none/{tool_set}"]
        half = _draw(near or abstain, count - count // 2, rng)
        for t in [*half, *_draw(foreign, count - len(half), rng)]:
            yield _stop(t, 0, tool_set, NONE)
        done = [t for t in items if t.steps and t.steps[-1].tool_set == tool_set]
        done = [t for t in done if t.verified]
        for t in _draw(done, round(self._shares.select_finish * len(wanted)), rng):
            yield _stop(t, len(t.steps), tool_set, FINISH)

    def _argument_examples(self, items: Sequence[Trajectory]) -> Iterator[Example]:
        sets, tool = self.tool_sets(), self._plan.tool
        for trajectory in items:
            for number, step in enumerate(trajectory.steps):
                if step.tool_set not in sets or (tool is not None and step.tool != tool):
                    continue
                known = self._corpus.tool(step)
                if known.spec.takes_arguments and not known.deprecated:
                    yield self.arguments(trajectory, number, step, known.spec)

    def arguments(
        self, trajectory: Trajectory, number: int, step: TrajectoryStep, spec: ToolSpec
    ) -> Example:
        """Derive the example of one step's arguments."""
        tools = self._corpus.catalog[step.tool_set]
        prompt = arguments_prompt(
            self._recipe.chat,
            spec,
            tools,
            situation(trajectory, number),
            described=self._shares.described,
        )
        before, adapted = self._pieces(prompt)
        return Example(
            id=f"{trajectory.id}/{number}",
            subtask="arguments",
            tool_set=step.tool_set,
            group=self._group(step.tool_set),
            label=step.tool,
            stop="",
            before=before,
            prompt=adapted,
            target=self._codec.arguments(spec, step.arguments),
            accept=tuple(self._codec.arguments(spec, other) for other in step.accept),
            shape=shape_of(step.arguments),
        )

    def _named(self, moment: _Moment, group: str) -> Example:
        chat, catalog = self._recipe.chat, self._corpus.catalog
        if self._plan.subtask == "route":
            prompt, subtask, name = route_prompt(chat, catalog, moment.situation), _ROUTE, ROUTER
        else:
            tools, subtask, name = catalog[moment.tool_set], _SELECT, moment.tool_set
            prompt = select_prompt(chat, name, tools, moment.situation)
        before, adapted = self._pieces(prompt)
        return Example(
            id=moment.id,
            subtask=subtask,
            tool_set=name,
            group=self._group(group),
            label=moment.label,
            stop=FINISH if moment.situation.steps else NONE,
            before=before,
            prompt=adapted,
            target=self._codec.label(moment.label),
        )

    def _pieces(self, prompt: StagePrompt) -> tuple[Tokens, Tokens]:
        """Tokens between the static part and the boundary, and after the boundary."""
        base, adapted = prompt.split(self._boundary)
        own = adapted if base else adapted[1:]
        return self._codec.encode(base[1:]), self._codec.encode(own)

    def _group(self, name: str) -> str:
        return f"{self._part}:{name}" if self._part else name


def situation(trajectory: Trajectory, steps: int) -> Situation:
    """What the agent knows after the first `steps` calls of a trajectory."""
    done = tuple(
        Step(
            call=ToolCall(tool_set=s.tool_set, tool=s.tool, arguments=s.arguments),
            observation=s.observation,
            is_error=s.is_error,
        )
        for s in trajectory.steps[:steps]
    )
    return Situation(request=trajectory.request, context=trajectory.context, steps=done)


def _route_moments(
    items: Sequence[Trajectory], shares: ExampleShares, rng: Random
) -> Iterator[_Moment]:
    for trajectory in items:
        if not trajectory.steps:
            yield _stop(trajectory, 0, ROUTER, NONE)
        for number, step in enumerate(trajectory.steps):
            yield _Moment(
                id=f"{trajectory.id}/{number}",
                situation=situation(trajectory, number),
                tool_set=ROUTER,
                label=step.tool_set,
                step=step,
            )
    scenarios = [t for t in items if len(t.steps) > 1]
    single = [t for t in items if len(t.steps) == 1 and t.verified]
    for trajectory in [*scenarios, *_draw(single, round(shares.route_finish * len(single)), rng)]:
        yield _stop(trajectory, len(trajectory.steps), ROUTER, FINISH)


def _stop(trajectory: Trajectory, steps: int, tool_set: str, label: str) -> _Moment:
    return _Moment(
        id=f"{trajectory.id}/{label}",
        situation=situation(trajectory, steps),
        tool_set=tool_set,
        label=label,
    )


def _router(world: int) -> str:
    """The router's group for the n-th data folder."""
    return f"{ROUTER}{world}" if world else ROUTER


def _draw(items: Sequence[Trajectory], count: int, rng: Random) -> list[Trajectory]:
    return rng.sample(items, min(count, len(items)))
