"""Evaluate a recipe's trained adapters and put the marks into their cards."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from afx_train.codec import Codec
from afx_train.corpus import load_corpus
from afx_train.errors import DataError, RecipeError
from afx_train.evaluate import AdapterReport, evaluate_adapter, threshold
from afx_train.examples import ExampleMaker
from afx_train.job import plan_named
from afx_train.loop import warm_weights
from afx_train.model import load_model
from afx_train.outputs import read_weights
from afx_train.recipe import base_folder, data_folders, read_recipe
from afx_train.task import make_task
from afx_train.trajectory import Split
from agentflux.contracts.bundle import Calibration
from agentflux.contracts.cards import read_card, write_card


@dataclass(frozen=True, slots=True, kw_only=True)
class Marking:
    """What to mark. limit: examples an adapter, 0 for all. calibrate: set the cards' thresholds."""

    split: str
    limit: int = 0
    calibrate: bool = False


def mark_adapters(
    recipe_path: Path, out: Path, only: list[str], wanted: Marking
) -> Iterator[AdapterReport]:
    """Mark each adapter on a split; its card gets the accuracy and, if asked, the threshold.

    Raises:
        ConfigError: the recipe, its data, the split or an adapter is not there or wrong.
    """
    split = wanted.split
    if split not in ("train", "dev", "test"):
        raise DataError(f"no split {split!r}; there are train, dev and test")
    recipe = read_recipe(recipe_path)
    base, corpus = base_folder(recipe, recipe_path), load_corpus(data_folders(recipe, recipe_path))
    codec = Codec(base, recipe.chat)
    plans = [plan_named(recipe, name, recipe_path) for name in only] or list(recipe.adapters)
    for plan in plans:
        folder = out / plan.name
        card = read_card(folder) if folder.is_dir() else None
        if card is None:
            raise RecipeError(f"adapter {plan.name!r} is not in {out}; train it first")
        task = make_task(recipe, plan, corpus, codec)
        model = load_model(base, task.settings.lora, precision=task.settings.training.precision)
        warm_weights(model, read_weights(folder), origin=plan.name)
        examples = ExampleMaker(recipe, plan, corpus, codec).make(cast(Split, split))
        if not examples:
            raise DataError(f"adapter {plan.name!r}: the data has no {split} examples for it")
        report = evaluate_adapter(model, task, examples, split=split, limit=wanted.limit)
        scores = card.scores | {f"{split}_exact": round(report.accuracy.value, 4)}
        changes: dict[str, object] = {"scores": scores}
        if wanted.calibrate and plan.subtask != "arguments":
            floor = threshold(report.verdicts)
            changes["calibration"] = Calibration(min_probability=floor)
        write_card(folder, card.model_copy(update=changes))
        yield report
