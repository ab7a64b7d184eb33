"""What a finished job leaves: a standard PEFT folder, its cards, and the log of its losses."""

import json
import re
import shutil
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from afx_train.errors import RecipeError
from afx_train.loop import History
from afx_train.recipe import Lora
from afx_train.starts import Weights
from afx_train.task import Task
from agentflux.contracts.bundle import Calibration
from agentflux.contracts.cards import AdapterCard, read_card, write_card
from agentflux.errors import ConfigError

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
LOG = "training_log.json"
_LOG_POINTS = 400
_NAMES = ("route", "select")
_MIN_NONE = 0.5  # until `afx-train calibrate` finds a better one
_PACKAGES = ("torch", "transformers", "peft")
# `afx-export fetch` writes the first; the second is a Hugging Face model card.
_LICENCE = {
    "afx_source.json": r'"licence": "([^"]+)"',
    "README.md": r"(?m)\A---\n(?:(?!---).*\n)*?license: *(\S+)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """What an adapter's cards say about its base model. sha256: of the weights."""

    sha256: str
    licence: str


def base_licence(folder: Path) -> str:
    """The licence that a model folder states: as fetched, or in its own card; else `unknown`."""
    for name, pattern in _LICENCE.items():
        path = folder / name
        found = re.search(pattern, path.read_text("utf-8")) if path.is_file() else None
        if found is not None:
            return found[1]
    return "unknown"


def write_adapter(
    folder: Path, peft: PeftModel, weights: Weights, task: Task, history: History, *, base: Base
) -> AdapterCard:
    """Write the adapter folder, by a temporary name; an older one is replaced."""
    partial = _partial(folder)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    half = {name: tensor.to(torch.float16).contiguous() for name, tensor in weights.items()}
    save_file(half, partial / WEIGHTS, metadata={"format": "pt"})
    config: Any = peft.peft_config["default"]
    config.base_model_name_or_path = task.recipe.base_model
    config.target_modules = list(task.settings.lora.target_modules)  # PEFT's set has no order
    config.inference_mode = True
    config.save_pretrained(str(partial))
    card = _card(task, history, base)
    (partial / LOG).write_text(_log(history), encoding="utf-8")
    (partial / "README.md").write_text(_readme(task, card, history, base), encoding="utf-8")
    write_card(partial, card)  # last: a folder with its card is whole
    _put_in_place(partial, folder)
    return card


def take_up(folder: Path) -> None:
    """Put in its place what was written whole when a kill came; what is not whole stays aside."""
    partial = _partial(folder)
    try:
        whole = partial.is_dir() and read_card(partial) is not None
    except ConfigError:
        return
    if whole:
        _put_in_place(partial, folder)


def work_folder(folder: Path) -> Path:
    """The hidden folder beside an adapter's in which its job works; it goes with the job."""
    return folder.with_name(f".{folder.name}")


def _put_in_place(partial: Path, folder: Path) -> None:
    """Two renames and no removal before them: at any moment a whole adapter is on the disk."""
    replaced = work_folder(folder) / "replaced"
    shutil.rmtree(replaced, ignore_errors=True)
    if folder.exists():
        replaced.parent.mkdir(exist_ok=True)
        folder.rename(replaced)
    partial.rename(folder)
    shutil.rmtree(replaced, ignore_errors=True)


def _partial(folder: Path) -> Path:
    return folder.with_name(folder.name + ".writing")


def read_weights(folder: Path) -> Weights:
    """Read an adapter folder's weights.

    Raises:
        RecipeError: they are missing or damaged.
    """
    try:
        return load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise RecipeError(f"cannot be read: {error}", where=str(folder / WEIGHTS)) from error


def read_scale(folder: Path) -> float:
    """Read what an adapter's output is multiplied by: alpha/rank, alpha/sqrt(rank) with rslora.

    Raises:
        RecipeError: PEFT's configuration is damaged, or gives some layers another rank or alpha.
    """
    where = str(folder / CONFIG)
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        rslora = bool(config.get("use_rslora"))
        scale = Lora(rank=config["r"], alpha=config["lora_alpha"], rslora=rslora).scale
    except (ValueError, KeyError, AttributeError) as error:
        raise RecipeError(f"cannot be read: {error}", where=where) from error
    for key in ("rank_pattern", "alpha_pattern"):
        if config.get(key):
            msg = f"{key} gives some layers a scale of their own; start from an adapter without it"
            raise RecipeError(msg, where=where)
    return scale


def _card(task: Task, history: History, base: Base) -> AdapterCard:
    best = history.best
    return AdapterCard(
        name=task.plan.name,
        subtask=task.plan.subtask,
        tool_set=task.plan.tool_set,
        tool=task.plan.tool,
        boundary=task.recipe.boundary_of(task.plan),
        described=task.plan.subtask == "arguments" and task.settings.examples.described,
        base_model=task.recipe.base_model,
        base_weights_sha256=base.sha256,
        catalog=task.catalog(),
        calibration=Calibration(min_none=_MIN_NONE if task.plan.subtask in _NAMES else 0.0),
        training={
            "job_sha256": history.job,
            "data_sha256": task.corpus.sha256,
            "seed": str(task.recipe.seed),
            "epochs": str(task.settings.training.epochs),
            "best_epoch": str(best + 1),
            "train_examples": str(len(task.train)),
            "dev_examples": str(len(task.dev)),
            "too_long_examples": str(task.too_long),
            "examples_seen": str(history.examples),
            "steps": str(history.step),
            "examples_per_s": f"{history.examples / max(history.seconds, 1e-9):.2f}",
        }
        | _peak_memory()
        | {name: version(name) for name in _PACKAGES},
        scores={
            "dev_accuracy": round(history.dev[best], 4),
            "train_loss": round(history.losses[best], 4),
        },
    )


def _peak_memory() -> dict[str, str]:
    """What this process took at most (resident); nothing where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return {}
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"peak_gib": f"{most / (2**30 if sys.platform == 'darwin' else 2**20):.2f}"}


def _log(history: History) -> str:
    """Losses by step (means of equal stretches, at most 400) and by epoch, as JSON."""
    steps = history.steps
    width = -(-len(steps) // _LOG_POINTS) or 1
    means = [
        [at + len(part), round(sum(part) / len(part), 4)]
        for at in range(0, len(steps), width)
        if (part := steps[at : at + width])
    ]
    log = {"steps": means, "epochs": history.losses, "dev": history.dev}
    return json.dumps(log) + "\n"


def _readme(task: Task, card: AdapterCard, history: History, base: Base) -> str:
    lora, training = task.settings.lora, task.settings.training
    serves = {
        "route": "chooses the tool set of the next step",
        "select": f"chooses the tool of the next step in {card.tool_set or 'any tool set'}",
        "arguments": f"writes the arguments of {card.tool or 'the tools'}"
        f" of {card.tool_set or 'any tool set'}",
        "joint": "does all subtasks of a tool call",
    }[card.subtask]
    epochs = "\n".join(
        f"| {number} | {loss:.4f} | {dev:.1%} |"
        for number, (loss, dev) in enumerate(zip(history.losses, history.dev, strict=True), 1)
    )
    return f"""---
library_name: peft
license: {base.licence.lower()}
base_model: {card.base_model}
tags: [lora, tool-calling, agentflux-edge]
---

# {card.name}

A LoRA adapter that {serves}, for AgentFlux Edge.

It is active from the prompt's `{card.boundary}` boundary on; everything before is computed by the
base model (prompt contract `{card.prompt_contract}`). Loaded in plain PEFT over a whole prompt it
gives other results.

- base model: `{card.base_model}`, weights SHA-256 `{card.base_weights_sha256}`, licence \
{base.licence}
- rank {lora.rank}, alpha {lora.alpha:g}{", rank-stabilized" if lora.rslora else ""}, on \
{", ".join(lora.target_modules)}{f" from layer {lora.first_layer} on" if lora.first_layer else ""}
- trained on {len(task.train)} examples, seed {task.recipe.seed}, {training.epochs} epochs, \
learning rate {training.learning_rate:g}; epoch {history.best + 1} was kept
- data SHA-256 `{task.corpus.sha256}`; job SHA-256 `{history.job}`

Dev accuracy: the share of dev prompts on which constrained greedy decoding gives exactly the
expected answer.

| epoch | train loss | dev accuracy |
|---|---|---|
{epochs}
"""
