"""Evaluate a recipe's trained adapters and put the marks into their cards."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from afx_train.codec import Codec
from afx_train.controls import Control, load_recipe, trained_of
from afx_train.corpus import load_corpus
from afx_train.errors import DataError, RecipeError
from afx_train.evaluate import AdapterReport, decisions, evaluate_adapter, some_trajectories
from afx_train.job import plan_named
from afx_train.model import AdaptedModel, load_model
from afx_train.outputs import read_weights
from afx_train.recipe import AdapterPlan, base_folder, data_folders
from afx_train.refusals import Criterion, best_threshold
from afx_train.starts import Weights, fresh_weights, own_weights
from afx_train.supports import support_decisions
from afx_train.task import Task, make_task
from afx_train.trajectory import Split
from agentflux.contracts.cards import read_card, write_card


@dataclass(frozen=True, slots=True, kw_only=True)
class Marking:
    """What to mark.

    limit: trajectories whose examples are marked, 0 for all. calibrate: set the cards' thresholds
    so that they are best by this.
    """

    split: str
    limit: int = 0
    calibrate: Criterion | None = None
    control: Control | None = None


class Marker:
    """A recipe with its data, ready to mark adapters on one split.

    Raises:
        ConfigError: the recipe, its data or the split is not there or wrong.
    """

    def __init__(self, recipe_path: Path, wanted: Marking) -> None:
        if wanted.split not in ("train", "dev", "test"):
            raise DataError(f"no split {wanted.split!r}; there are train, dev and test")
        self.path, self.wanted = recipe_path, wanted
        self.recipe = load_recipe(recipe_path, wanted.control)
        self.base = base_folder(self.recipe, recipe_path)
        self.corpus = load_corpus(data_folders(self.recipe, recipe_path))
        self.codec = Codec(self.base, self.recipe.chat)

    def adapters(self, out: Path, only: Sequence[str]) -> Iterator[AdapterReport]:
        """Mark each adapter; its card gets the accuracy and, if asked, the threshold.

        Raises:
            ConfigError: an adapter is not there, or the split has no examples for it.
        """
        for plan in self.plans(only):
            folder = out / plan.name
            card = read_card(folder) if folder.is_dir() else None
            if card is None:
                raise RecipeError(f"adapter {plan.name!r} is not in {out}; train it first")
            task, model = self._loaded(plan, read_weights(folder))
            reports = self._mark(task, model)
            if not reports:
                continue
            card = card.model_copy(update={"scores": card.scores | _scores(reports)})
            if self.wanted.calibrate is not None:
                floors = _thresholds(reports, task, model, self.wanted.calibrate)
                card = card.with_thresholds(floors)
            write_card(folder, card)
            yield from reports

    def base_model(self) -> Iterator[AdapterReport]:
        """Mark the base model itself on what the adapters are trained for."""
        for plan in self.plans(()):
            yield from self._mark(*self._loaded(plan, None))

    def plans(self, only: Sequence[str]) -> list[AdapterPlan]:
        """The adapters to mark."""
        named = [plan_named(self.recipe, name, self.path) for name in only]
        return named or list(trained_of(self.recipe, self.wanted.control))

    def _loaded(self, plan: AdapterPlan, weights: Weights | None) -> tuple[Task, AdaptedModel]:
        """weights: of the adapter; None loads the base model."""
        task = make_task(self.recipe, plan, self.corpus, self.codec)
        settings = task.settings
        model = load_model(self.base, settings.lora, precision=settings.training.precision)
        if weights is None:
            fresh_weights(model, seed=0)  # without effect: B is zero
        else:
            own_weights(model, weights, name=plan.name)
        return task, model

    def _mark(self, task: Task, model: AdaptedModel) -> tuple[AdapterReport, ...]:
        split = self.wanted.split
        examples = task.examples(cast("Split", split))
        if not examples:
            raise DataError(f"adapter {task.plan.name!r}: the data has no {split} examples for it")
        ids = (t.id for t in self.corpus.trajectories if t.split == split)
        chosen = some_trajectories(ids, self.wanted.limit)
        return evaluate_adapter(model, task, examples, split=split, only=chosen)


def _thresholds(
    reports: Sequence[AdapterReport], task: Task, model: AdaptedModel, criterion: Criterion
) -> dict[str, float]:
    """The card's thresholds that dev data tells something about."""
    made = {"min_probability": decisions(v for r in reports for v in r.verdicts)}
    if task.plan.subtask == "arguments":
        made["min_support"] = support_decisions(model, task)
    return {
        name: best_threshold(found, criterion).threshold for name, found in made.items() if found
    }


def _scores(reports: Sequence[AdapterReport]) -> dict[str, float]:
    """By `<split>_exact`, and where an adapter does several subtasks by subtask as well."""
    right = sum(r.accuracy.right for r in reports)
    count = sum(r.accuracy.count for r in reports)
    split = reports[0].split
    scores = {f"{split}_exact": round(right / count, 4)}
    if len(reports) > 1:
        scores |= {f"{split}_exact_{r.subtask}": round(r.accuracy.value, 4) for r in reports}
    return scores
