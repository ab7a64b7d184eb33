"""One adapter's training task: its examples, variants, constraints and identity."""

import hashlib
import json
from collections.abc import Sequence, Set
from dataclasses import dataclass
from random import Random
from typing import Any

from pydantic import BaseModel

from afx_train.batching import Batch, Shown, epoch_rows, packed_batches, plain_batches
from afx_train.catalogs import Variant
from afx_train.codec import Codec, Tokens
from afx_train.copied import Copying, copied_parameters
from afx_train.corpus import Corpus
from afx_train.errors import DataError
from afx_train.examples import Example, ExampleMaker
from afx_train.recipe import AdapterPlan, Recipe, Settings
from afx_train.scoring import ArgumentConstraint, Constraint, name_constraint
from afx_train.trajectory import Split
from agentflux.contracts.bundle import CatalogTool
from agentflux.contracts.prompts import NONE, PROMPT_CONTRACT

# Keys that recipes got later count only where they are set: adapters from before stay valid.
_LATER = frozenset(
    {
        "patience",
        "masked_variants",
        "each",
        "delta_of",
        "of",
        "matched",
        "context_dropped",
        "sets_offered",
        "guests",
        "described",
        "start_share",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The examples of one subtask, with the settings that say how they are drawn."""

    plan: AdapterPlan
    settings: Settings
    maker: ExampleMaker
    train: tuple[Example, ...]
    dev: tuple[Example, ...]

    @property
    def short(self) -> tuple[Example, ...]:
        """Those to learn that `max_row_tokens` does not leave out."""
        most = self.settings.examples.max_row_tokens
        return tuple(example for example in self.train if example.width <= most)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Everything about one adapter's training that is not the model.

    parts: one, or for a joint adapter one for each adapter whose examples it learns.
    """

    recipe: Recipe
    plan: AdapterPlan
    settings: Settings
    corpus: Corpus
    codec: Codec
    variants: dict[str, tuple[Variant, ...]]
    parts: tuple[Part, ...]

    @property
    def train(self) -> tuple[Example, ...]:
        """All examples to learn."""
        return tuple(example for part in self.parts for example in part.train)

    @property
    def too_long(self) -> int:
        """How many of them `max_row_tokens` leaves out."""
        return sum(len(part.train) - len(part.short) for part in self.parts)

    @property
    def dev(self) -> tuple[Example, ...]:
        """All examples of the dev split."""
        return tuple(example for part in self.parts for example in part.dev)

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt, with its answer, that training or the dev split has."""
        learned = (example for part in self.parts for example in part.short)
        prefix = {
            group: max(len(v.static) + len(v.lead) for v in variants)
            for group, variants in self.variants.items()
        }
        return max(prefix[example.group] + example.width for example in (*learned, *self.dev))

    def examples(self, split: Split) -> tuple[Example, ...]:
        """All examples of any split."""
        return tuple(example for part in self.parts for example in part.maker.make(split))

    def batches(self, epoch: int, easy: Set[str] = frozenset()) -> list[Batch]:
        """Draw the batches of an epoch; the same for the same seed and the same easy examples.

        Each part of a joint adapter gives what it would give to an adapter of its own.
        """
        rng = self._rng(self.plan, epoch)
        rows: list[Shown] = []
        for part in self.parts:
            if part.plan is not self.plan and epoch >= part.settings.training.epochs:
                continue
            rows += epoch_rows(
                part.train,
                self.variants,
                part.settings,
                none_target=self.codec.label(NONE),
                easy=easy,
                rng=rng if part.plan is self.plan else self._rng(part.plan, epoch),
            )
        return packed_batches(rows, batch_tokens=self.settings.training.batch_tokens, rng=rng)

    def _rng(self, plan: AdapterPlan, epoch: int) -> Random:
        return Random(f"{self.recipe.seed}/{plan.name}/epoch {epoch}")

    def evaluation(self, examples: Sequence[Example]) -> list[list[Shown]]:
        """Rows under the plain catalog, in batches of training's size."""
        size = self.settings.training.batch_tokens
        return plain_batches(examples, self.variants, batch_tokens=size)

    def constraint(self, row: Shown) -> Constraint:
        """What the device lets the model write here."""
        example = row.example
        if example.subtask == "arguments":
            tools = self.corpus.catalog[example.tool_set]
            tool = next(t for t in tools if t.name == example.label)
            return ArgumentConstraint(self.codec, tool)
        return name_constraint(self.candidates(row))

    def candidates(self, row: Shown) -> tuple[Tokens, ...]:
        """The names that can be chosen here, the stop label last."""
        names = (*row.variant.names, row.example.stop)
        return tuple(self.codec.label(name) for name in dict.fromkeys(names))

    def catalog(self) -> tuple[CatalogTool, ...]:
        """The tools that the adapter was trained on, with their hashes.

        Of a world that is offered in parts there are many, and it is none that a device serves.
        """
        most = self.settings.examples.sets_offered
        served = [world.catalog for world in self.corpus.worlds if len(world.catalog) <= most]
        chosen = self.plan.tool_set
        writes = self.plan.subtask == "arguments"
        copied = copied_parameters(self.corpus.trajectories) if writes else {}
        return tuple(
            CatalogTool(
                tool_set=name,
                name=tool.name,
                sha256=tool.sha256,
                **copied.get((name, tool.name), Copying()).as_fields(),
            )
            for catalog in served
            for name, tools in catalog.items()
            if chosen in (None, name)
            for tool in tools
        )


def make_task(recipe: Recipe, plan: AdapterPlan, corpus: Corpus, codec: Codec) -> Task:
    """Derive one adapter's examples.

    Raises:
        DataError: the data has no train or dev examples for it.
    """
    boundary = recipe.boundary_of(plan)
    parts: list[Part] = []
    variants: dict[str, tuple[Variant, ...]] = {}
    for own in recipe.parts(plan):
        name = "" if own is plan else own.name
        maker = ExampleMaker(recipe, own, corpus, codec, boundary=boundary, part=name)
        parts.append(_part(recipe, own, maker))
        variants |= maker.variants()
    return Task(
        recipe=recipe,
        plan=plan,
        settings=recipe.settings(plan),
        corpus=corpus,
        codec=codec,
        variants=variants,
        parts=tuple(parts),
    )


def _part(recipe: Recipe, plan: AdapterPlan, maker: ExampleMaker) -> Part:
    made: dict[Split, tuple[Example, ...]] = {s: maker.make(s) for s in ("train", "dev")}
    for split, examples in made.items():
        if not examples:
            raise DataError(f"adapter {plan.name!r}: the data has no {split} examples for it")
    settings = recipe.settings(plan)
    shares = settings.examples
    chosen = tuple(e for e in made["train"] if _draw(e) < shares.share)
    if not any(example.width <= shares.max_row_tokens for example in chosen):
        raise DataError(
            f"adapter {plan.name!r}: examples.share ({shares.share}) and examples.max_row_tokens "
            f"({shares.max_row_tokens}) leave none of its {len(made['train'])} examples"
        )
    return Part(plan=plan, settings=settings, maker=maker, train=chosen, dev=made["dev"])


def _draw(example: Example) -> float:
    """Map a row to 0..1 by its trajectory: equal for all adapters."""
    trajectory = example.id.rpartition("/")[0]
    digest = hashlib.sha256(trajectory.encode()).hexdigest()
    return float(int(digest[:8], 16) / 2**32)


def job_sha256(
    recipe: Recipe, plan: AdapterPlan, *, data: str, base: str, started_from: str = ""
) -> str:
    """Identity of a training job: what, changed, would change the adapter.

    data, base: hashes of the data and of the base weights; started_from: of the job that made the
    adapter which it starts from.
    """
    facts = _facts(recipe, plan) | {
        "prompts": PROMPT_CONTRACT,
        "seed": recipe.seed,
        "boundary": recipe.boundary_of(plan),
        "chat": repr(recipe.chat),
        "hashes": [data, base, started_from],
    }
    if plan.subtask == "joint":
        facts["parts"] = [_facts(recipe, part) for part in recipe.parts(plan)]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _facts(recipe: Recipe, plan: AdapterPlan) -> dict[str, Any]:
    settings = recipe.settings(plan)
    return {
        "settings": {name: _set_keys(section) for name, section in settings},
        "plan": _set_keys(plan, "overrides", "boundary"),
    }


def _set_keys(section: BaseModel, *excluded: str) -> dict[str, Any]:
    dumped = section.model_dump(mode="json", exclude=set(excluded))
    fields = type(section).model_fields
    return {
        key: value
        for key, value in dumped.items()
        if key not in _LATER or getattr(section, key) != fields[key].default
    }
