"""One adapter's training task: its examples, variants, constraints and identity."""

import hashlib
import json
from collections.abc import Sequence, Set
from dataclasses import dataclass

from afx_train.batching import Batch, Shown, epoch_batches, plain_batches
from afx_train.catalogs import Variant
from afx_train.codec import Codec, Tokens
from afx_train.copied import copied_parameters
from afx_train.corpus import Corpus
from afx_train.errors import DataError
from afx_train.examples import Example, ExampleMaker
from afx_train.recipe import AdapterPlan, Recipe, Settings
from afx_train.scoring import ArgumentConstraint, Constraint, name_constraint
from afx_train.trajectory import Split
from agentflux.contracts.bundle import CatalogTool
from agentflux.contracts.prompts import NONE, PROMPT_CONTRACT


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Everything about one adapter's training that is not the model."""

    recipe: Recipe
    plan: AdapterPlan
    settings: Settings
    corpus: Corpus
    codec: Codec
    variants: dict[str, tuple[Variant, ...]]
    train: tuple[Example, ...]
    dev: tuple[Example, ...]

    def batches(self, epoch: int, easy: Set[str] = frozenset()) -> list[Batch]:
        """Draw the batches of an epoch; the same for the same seed and the same easy examples."""
        return epoch_batches(
            self.train,
            self.variants,
            self.settings,
            none_target=self.codec.label(NONE),
            easy=easy,
            seed=f"{self.recipe.seed}/{self.plan.name}/epoch {epoch}",
        )

    def evaluation(self, examples: Sequence[Example]) -> list[list[Shown]]:
        """Rows under the plain catalog, in batches of training's size."""
        size = self.settings.training.batch_tokens
        return plain_batches(examples, self.variants, batch_tokens=size)

    def constraint(self, row: Shown) -> Constraint:
        """What the device lets the model write here."""
        if self.plan.subtask == "arguments":
            tools = self.corpus.catalog[row.example.group]
            tool = next(t for t in tools if t.name == row.example.label)
            return ArgumentConstraint(self.codec, tool)
        return name_constraint(self.candidates(row))

    def candidates(self, row: Shown) -> tuple[Tokens, ...]:
        """The names that can be chosen here, the stop label last."""
        names = (*row.variant.names, row.example.stop)
        return tuple(self.codec.label(name) for name in dict.fromkeys(names))

    def catalog(self) -> tuple[CatalogTool, ...]:
        """The tools that the adapter was trained on, with their hashes."""
        chosen = self.plan.tool_set
        writes = self.plan.subtask == "arguments"
        copied = copied_parameters(self.corpus.trajectories) if writes else {}
        return tuple(
            CatalogTool(
                tool_set=name,
                name=tool.name,
                sha256=tool.sha256,
                copied=copied.get((name, tool.name), ()),
            )
            for name, tools in self.corpus.catalog.items()
            if chosen in (None, name)
            for tool in tools
        )


def make_task(recipe: Recipe, plan: AdapterPlan, corpus: Corpus, codec: Codec) -> Task:
    """Derive one adapter's examples.

    Raises:
        DataError: the data has no train or dev examples for it.
    """
    maker = ExampleMaker(recipe, plan, corpus, codec)
    made: dict[Split, tuple[Example, ...]] = {s: maker.make(s) for s in ("train", "dev")}
    for split, examples in made.items():
        if not examples:
            raise DataError(f"adapter {plan.name!r}: the data has no {split} examples for it")
    share = recipe.settings(plan).examples.share
    made["train"] = tuple(e for e in made["train"] if _draw(e) < share)
    return Task(
        recipe=recipe,
        plan=plan,
        settings=recipe.settings(plan),
        corpus=corpus,
        codec=codec,
        variants=maker.variants(),
        train=made["train"],
        dev=made["dev"],
    )


def _draw(example: Example) -> float:
    """Map a row to 0..1 by its trajectory: equal for all adapters."""
    trajectory = example.id.rpartition("/")[0]
    digest = hashlib.sha256(trajectory.encode()).hexdigest()
    return float(int(digest[:8], 16) / 2**32)


def job_sha256(
    recipe: Recipe, plan: AdapterPlan, *, data: str, base: str, started_from: str = ""
) -> str:
    """Identity of a training job: what, changed, would change the adapter.

    data, base: hashes of the data and of the base weights; started_from: of the warm start's job.
    """
    facts = {
        "prompts": PROMPT_CONTRACT,
        "seed": recipe.seed,
        "boundary": recipe.boundary_of(plan),
        "chat": repr(recipe.chat),
        "settings": recipe.settings(plan).model_dump(mode="json"),
        "plan": plan.model_dump(mode="json", exclude={"overrides", "boundary"}),
        "hashes": [data, base, started_from],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
