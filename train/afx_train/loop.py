"""The training loop of one adapter: prefix-cached, reproducible, resumable after any epoch."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any

import torch
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor

from afx_train.batching import Batch
from afx_train.errors import RecipeError, TrainingDiverged
from afx_train.model import AdaptedModel, Rows
from afx_train.recipe import Training
from afx_train.scoring import score_targets
from afx_train.task import Task

CHECKPOINT = "checkpoint.pt"
_FLOOR = 0.05  # the schedule's end, as a share of the peak


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a job stands, after each optimizer step and each epoch.

    dev: share of dev examples written right, only at the end of an epoch.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    examples_per_s: float
    dev: float | None = None


@dataclass(slots=True, kw_only=True)
class History:
    """What is known after some epochs; the best epoch's adapter lies in the checkpoint."""

    job: str
    epoch: int = 0
    step: int = 0
    losses: list[float] = field(default_factory=list[float])
    dev: list[float] = field(default_factory=list[float])
    seconds: float = 0.0
    examples: int = 0
    easy: list[str] = field(default_factory=list[str])

    @property
    def best(self) -> int:
        """Number of the best epoch so far, from 0; the earliest of equals."""
        return self.dev.index(max(self.dev))


Weights = dict[str, Tensor]
Report = Callable[[Progress], None]


def train(
    task: Task, model: AdaptedModel, folder: Path, *, job: str, resume: bool, report: Report
) -> tuple[Weights, History]:
    """Train an adapter and return the best epoch's weights.

    folder: holds the checkpoint, written after each epoch. job: identity of the job, so that a
    checkpoint of another job is not taken up.

    Raises:
        TrainingDiverged: the loss or its gradient is not a number.
    """
    torch.manual_seed(task.recipe.seed)
    run = _Run(task, model, job, report)
    if resume:
        run.load(folder / CHECKPOINT)
    for epoch in range(run.history.epoch, task.settings.training.epochs):
        run.epoch(epoch)
        run.save(folder / CHECKPOINT)
    return run.best, run.history


def fresh_weights(model: AdaptedModel, *, seed: int) -> None:
    """Draw the adapter's A matrices anew from the seed; B starts at zero."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.peft.named_parameters():
        if "lora_A" in name:
            bound = 1 / math.sqrt(parameter.shape[1])  # as PEFT: Kaiming uniform with a = sqrt(5)
            drawn = torch.empty(parameter.shape).uniform_(-bound, bound, generator=generator)
            parameter.data.copy_(drawn)
        elif "lora_B" in name:
            parameter.data.zero_()


def warm_weights(model: AdaptedModel, weights: Weights, *, origin: str) -> None:
    """Start from another adapter's weights.

    Raises:
        RecipeError: they have other shapes or sites.
    """
    own = get_peft_model_state_dict(model.peft)
    if {k: v.shape for k, v in own.items()} != {k: v.shape for k, v in weights.items()}:
        raise RecipeError(f"warm_start: adapter {origin!r} has another rank or other modules")
    set_peft_model_state_dict(model.peft, {k: v.float() for k, v in weights.items()})


def learning_rate(training: Training, done: float) -> float:
    """The schedule's value after a share of the training, 0 to 1."""
    if done < training.warmup:
        return training.learning_rate * (_FLOOR + (1 - _FLOOR) * done / training.warmup)
    done = (done - training.warmup) / (1 - training.warmup)
    share = {
        "cosine": 0.5 * (1 + math.cos(math.pi * done)),
        "linear": 1 - done,
        "constant": 1.0,
    }[training.schedule]
    return training.learning_rate * (_FLOOR + (1 - _FLOOR) * share)


class _Run:
    def __init__(self, task: Task, model: AdaptedModel, job: str, report: Report) -> None:
        self.task, self.model, self.report = task, model, report
        self.training = task.settings.training
        self.history, self.best = History(job=job), Weights()
        self.optimizer = torch.optim.AdamW(
            model.trained, lr=0.0, weight_decay=self.training.weight_decay, betas=(0.9, 0.98)
        )
        self.easy: set[str] = set()

    def epoch(self, epoch: int) -> None:
        started, total, seen = monotonic(), 0.0, 0
        windows = self._windows(epoch)
        for number, window in enumerate(windows, start=1):
            done = (epoch + (number - 1) / len(windows)) / self.training.epochs
            loss = self._step(window, learning_rate(self.training, done))
            total, seen = total + loss, seen + sum(len(b.tokens) for b in window)
            self.history.step += 1
            rate = seen / (monotonic() - started)
            self._say(epoch, number, len(windows), total / number, rate)
        self.history.seconds += monotonic() - started
        self.history.examples += seen
        self.history.losses.append(total / len(windows))
        rate = seen / (monotonic() - started)
        self.history.easy = sorted(self.easy)
        self.history.dev.append(self._dev_accuracy())
        self.history.epoch = epoch + 1
        if self.history.best == epoch:
            self.best = _copy(get_peft_model_state_dict(self.model.peft))
        mean, of = total / len(windows), len(windows)
        self._say(epoch, of, of, mean, rate, self.history.dev[-1])

    def save(self, path: Path) -> None:
        """Write the checkpoint, by a temporary name."""
        state = {
            "history": asdict(self.history),
            "best": self.best,
            "weights": get_peft_model_state_dict(self.model.peft),
            "optimizer": self.optimizer.state_dict(),
        }
        partial = path.with_name(path.name + ".partial")
        torch.save(state, partial)
        partial.replace(path)

    def load(self, path: Path) -> None:
        """Take up a checkpoint of the same job; anything else is left aside."""
        if not path.is_file():
            return
        state: dict[str, Any] = torch.load(path, weights_only=True)
        if state["history"]["job"] != self.history.job:
            return
        self.history, self.best = History(**state["history"]), state["best"]
        self.easy = set(self.history.easy)
        set_peft_model_state_dict(self.model.peft, state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])

    def _windows(self, epoch: int) -> list[list[Batch]]:
        batches, size = self.task.batches(epoch, self.easy), self.training.accumulate
        return [batches[at : at + size] for at in range(0, len(batches), size)]

    def _step(self, window: Sequence[Batch], rate: float) -> float:
        """One optimizer step over a window of batches. Returns the loss a target token."""
        count = sum(len(batch.targets) for batch in window)
        total = 0.0
        for batch in window:
            losses = token_losses(self.model, batch)
            self._note_easy(batch, losses.detach())
            loss = losses.sum() / count
            total += float(loss.detach())
            loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.model.trained, self.training.clip)
        if not (math.isfinite(total) and math.isfinite(float(norm))):
            raise TrainingDiverged(self.task.plan.name, step=self.history.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        return total

    def _note_easy(self, batch: Batch, losses: Tensor) -> None:
        worst = [float(part.max()) for part in torch.split(losses, list(batch.lengths))]
        for key, loss in zip(batch.keys, worst, strict=True):
            if loss < self.training.easy_loss:
                self.easy.add(key)
            else:
                self.easy.discard(key)

    def _dev_accuracy(self) -> float:
        examples = list(self.task.dev)
        if len(examples) > self.training.dev_examples:
            rng = Random(f"{self.task.recipe.seed}/{self.task.plan.name}/dev")
            examples = rng.sample(examples, self.training.dev_examples)
        written = [
            greedy.written
            for rows in self.task.evaluation(examples)
            for greedy in score_targets(
                self.model, rows, [self.task.constraint(row) for row in rows]
            )
        ]
        return sum(written) / len(written)

    def _say(
        self, epoch: int, number: int, of: int, loss: float, rate: float, dev: float | None = None
    ) -> None:
        """Report. Later epochs are taken to be as long as this one."""
        later = (self.training.epochs - epoch - 1) * of
        self.report(
            Progress(
                epoch=epoch + 1,
                epochs=self.training.epochs,
                step=self.history.step,
                steps=self.history.step + of - number + later,
                loss=loss,
                examples_per_s=rate,
                dev=dev,
            )
        )


def token_losses(model: AdaptedModel, batch: Batch) -> Tensor:
    """Cross entropy of each of the batch's targets; all other positions have no loss."""
    hidden = model.hidden(batch.static, Rows(before=batch.before, tokens=batch.tokens))
    logits = model.logits(hidden[list(batch.supervised)])
    targets = torch.tensor(batch.targets, device=logits.device)
    return torch.nn.functional.cross_entropy(logits, targets, reduction="none")


def _copy(weights: Weights) -> Weights:
    return {name: tensor.detach().cpu().clone() for name, tensor in weights.items()}
