"""Controls of the same effort: what a decoupled recipe is compared with."""

from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import ValidationError

from afx_train.errors import RecipeError
from afx_train.recipe import AdapterPlan, Recipe, read_recipe

Control = Literal[
    "joint",
    "matched",
    "prompt",
    "request",
    "instruction",
    "steps",
    "joint-steps",
    "matched-steps",
    "prompt-steps",
]
CONTROLS: tuple[Control, ...] = get_args(Control)
_STEPS = "steps"


def load_recipe(path: Path, control: Control | None = None) -> Recipe:
    """Read a recipe, turned into a control where one is named.

    Raises:
        RecipeError: as `read_recipe`; or the control does not go with it.
    """
    recipe = read_recipe(path)
    if control is None:
        return recipe
    try:
        return controlled(recipe, control)
    except ValidationError as error:
        message = error.errors()[0]["msg"]
        raise RecipeError(f"control {control!r}: {message}", where=str(path)) from error


def controlled(recipe: Recipe, control: Control) -> Recipe:
    """Turn a decoupled recipe into a control of the same data and effort.

    joint: one adapter learns the examples of all. matched: the same, its rank raised until it has
    as many parameters. prompt, request, instruction: the same adapters, all with that boundary.
    steps: the same adapters in smaller batches, so that each makes about as many steps as the joint
    one. joint-steps, matched-steps, prompt-steps: those in batches as small.
    """
    kind = control.removesuffix(_STEPS).removesuffix("-")
    if small := control.endswith(_STEPS):
        recipe = Recipe.model_validate(recipe.model_dump() | {"adapters": _in_steps(recipe)})
    if not kind:
        return recipe
    if kind in ("prompt", "request", "instruction"):
        moved = [p.model_dump() | {"boundary": None} for p in recipe.adapters]
        return Recipe.model_validate(recipe.model_dump() | {"boundary": kind, "adapters": moved})
    parts = [p for p in recipe.adapters if p.subtask != "joint" and p.delta_of is None]
    settings = [recipe.settings(plan).training for plan in parts]
    training = {"epochs": max(s.epochs for s in settings)}
    if small:
        training["batch_tokens"] = max(s.batch_tokens for s in settings)
    joint = {
        "name": control,
        "subtask": "joint",
        "matched": kind == "matched",
        "overrides": {"training": training},
    }
    plans = [p.model_dump() for p in recipe.adapters if p.subtask != "joint"]
    return Recipe.model_validate(recipe.model_dump() | {"adapters": [*plans, joint]})


def _in_steps(recipe: Recipe) -> list[dict[str, Any]]:
    decoupled = [plan for plan in recipe.adapters if plan.subtask != "joint"]
    plans = list[dict[str, Any]]()
    for plan in decoupled:
        own = plan.model_dump()
        tokens = recipe.settings(plan).training.batch_tokens // len(decoupled)
        training = own["overrides"].get("training", {}) | {"batch_tokens": tokens}
        plans.append(own | {"overrides": own["overrides"] | {"training": training}})
    return plans


def trained_of(recipe: Recipe, control: Control | None) -> tuple[AdapterPlan, ...]:
    """The adapters that a row of the ablation trains."""
    if control and control.startswith(("joint", "matched")):
        return tuple(plan for plan in recipe.adapters if plan.subtask == "joint")
    return recipe.adapters
