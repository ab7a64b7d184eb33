"""One job: train one adapter of a recipe in this process."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from afx_train.codec import Codec
from afx_train.controls import Control, load_recipe
from afx_train.corpus import load_corpus
from afx_train.errors import RecipeError
from afx_train.loop import CHECKPOINT_S, Report, train
from afx_train.model import load_model
from afx_train.outputs import (
    CONFIG,
    WEIGHTS,
    Base,
    base_licence,
    read_scale,
    read_weights,
    take_up,
    work_folder,
    write_adapter,
)
from afx_train.recipe import AdapterPlan, Recipe, base_folder, data_folders
from afx_train.starts import delta_weights, fresh_weights, warm_weights
from afx_train.task import job_sha256, make_task
from agentflux.contracts.cache import weights_sha256
from agentflux.contracts.cards import AdapterCard, read_card


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A job's result. skipped: the adapter was there already, from the same recipe and data."""

    card: AdapterCard
    skipped: bool


def run_job(  # noqa: PLR0913 - the worker's arguments
    recipe_path: Path,
    name: str,
    out: Path,
    *,
    resume: bool,
    report: Report,
    control: Control | None = None,
    checkpoint_s: float = CHECKPOINT_S,
) -> Outcome:
    """Train one adapter into `out/<name>`, unless it is there from the same recipe and data.

    control: train it as this control of the recipe would. checkpoint_s: see `loop.train`.

    Raises:
        ConfigError: recipe, data or base model are wrong.
        TrainingDiverged: the loss is not a number.
    """
    recipe = load_recipe(recipe_path, control)
    plan = plan_named(recipe, name, recipe_path)
    origin = _origin(plan, out, recipe_path)
    base, corpus = base_folder(recipe, recipe_path), load_corpus(data_folders(recipe, recipe_path))
    base_hash = weights_sha256(base)
    job = job_sha256(
        recipe, plan, data=corpus.sha256, base=base_hash, started_from=_made_by(origin)
    )
    state = work_folder(out / name)
    take_up(out / name)
    card = read_card(out / name) if (out / name).is_dir() else None
    if card is not None and card.training.get("job_sha256") == job:
        shutil.rmtree(state, ignore_errors=True)  # killed before it could clean up
        return Outcome(card=card, skipped=True)
    task = make_task(recipe, plan, corpus, Codec(base, recipe.chat))
    precision = task.settings.training.precision
    model = load_model(base, task.settings.lora, precision=precision, longest=task.longest)
    model.recall_bytes = int(task.settings.training.recall_gib * 2**30)
    fresh_weights(model, seed=recipe.seed)
    if origin is not None and plan.warm_start:
        gain = read_scale(origin) / task.settings.lora.scale
        warm_weights(model, read_weights(origin), origin=plan.warm_start, gain=gain)
    elif origin is not None and plan.delta_of:
        frozen = recipe.frozen_rank(plan)
        delta_weights(model, read_weights(origin), origin=plan.delta_of, frozen=frozen)
    state.mkdir(parents=True, exist_ok=True)
    weights, history = train(
        task, model, state, job=job, resume=resume, report=report, checkpoint_s=checkpoint_s
    )
    facts = Base(sha256=base_hash, licence=base_licence(base))
    card = write_adapter(out / name, model.peft, weights, task, history, base=facts)
    shutil.rmtree(state)
    return Outcome(card=card, skipped=False)


def plan_named(recipe: Recipe, name: str, recipe_path: Path) -> AdapterPlan:
    """Find an adapter of the recipe.

    Raises:
        RecipeError: there is none of that name; lists those that are.
    """
    try:
        return recipe.named(name)
    except ValueError as error:
        raise RecipeError(str(error), where=str(recipe_path)) from error


def _origin(plan: AdapterPlan, out: Path, recipe_path: Path) -> Path | None:
    """The folder of the adapter that another one starts from.

    Raises:
        RecipeError: there is no adapter, or it is the one that is to be written.
    """
    if plan.starts_from_folder:
        folder = (recipe_path.parent / str(plan.warm_start)).resolve()
        if folder == (out / plan.name).resolve():
            raise RecipeError(
                f"adapter {plan.name!r}: warm_start is the folder that it is trained into, so that "
                "a run that goes on after a kill would start from its own result; train into "
                "another folder (--out trained) and copy the adapters when all are done",
                where=str(recipe_path),
            )
        todo = "give the folder of a trained adapter"
    elif plan.origin is not None:
        folder, todo = out / plan.origin, "train it first"
    else:
        return None
    if not all((folder / name).is_file() for name in (WEIGHTS, CONFIG)):
        raise RecipeError(
            f"adapter {plan.name!r}: warm_start or delta_of: {folder} holds no adapter; {todo}"
        )
    return folder


def _made_by(origin: Path | None) -> str:
    """Identity of what an adapter starts from: the job that made it, else its weights."""
    if origin is None:
        return ""
    card = read_card(origin)
    made_by = card.training.get("job_sha256") if card is not None else None
    return made_by or weights_sha256(origin)
