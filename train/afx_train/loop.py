"""The training loop of one adapter: prefix-cached, reproducible, resumable after a kill."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any

import torch
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor

from afx_train.batching import Batch, Shown, collate
from afx_train.errors import TrainingDiverged
from afx_train.model import AdaptedModel, Rows
from afx_train.recipe import Training
from afx_train.scoring import score_targets
from afx_train.starts import Weights
from afx_train.task import Task

CHECKPOINT = "checkpoint.pt"
CHECKPOINT_S = 60.0
_FORMAT = 2
_FLOOR = 0.05  # the schedule's end, as a share of the peak


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a job stands, after each optimizer step and each epoch.

    loss: mean of the epoch so far; step_loss: of the latest step.
    dev: share of dev examples written right, only at the end of an epoch.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    step_loss: float
    examples_per_s: float
    dev: float | None = None


@dataclass(slots=True, kw_only=True)
class History:
    """What is known after some epochs; the best epoch's adapter lies in the checkpoint.

    losses, dev: one a finished epoch. steps: the loss of every optimizer step.
    rested: for every epoch that began, the examples that were easy then.
    """

    job: str
    epoch: int = 0
    step: int = 0
    losses: list[float] = field(default_factory=list[float])
    steps: list[float] = field(default_factory=list[float])
    dev: list[float] = field(default_factory=list[float])
    seconds: float = 0.0
    examples: int = 0
    rested: list[list[str]] = field(default_factory=list[list[str]])

    @property
    def best(self) -> int:
        """Number of the best epoch so far, from 0; of equals the latest: it has seen the most."""
        return max(range(len(self.dev)), key=lambda epoch: (self.dev[epoch], epoch))

    def stale(self, patience: int | None) -> bool:
        """Whether that many epochs in a row were no better than the best one."""
        if patience is None or not self.dev:
            return False
        return len(self.dev) - 1 - self.dev.index(max(self.dev)) >= patience


@dataclass(slots=True, kw_only=True)
class _Place:
    """How far an epoch has come. easy: the examples that are easy by now."""

    steps: int = 0
    total: float = 0.0
    seen: int = 0
    seconds: float = 0.0
    easy: list[str] = field(default_factory=list[str])


Report = Callable[[Progress], None]


def train(  # noqa: PLR0913 - one caller, each a fact of the job
    task: Task,
    model: AdaptedModel,
    folder: Path,
    *,
    job: str,
    resume: bool,
    report: Report,
    checkpoint_s: float = CHECKPOINT_S,
) -> tuple[Weights, History]:
    """Train an adapter and return the best epoch's weights.

    folder: holds the checkpoint, written after each epoch and every `checkpoint_s` seconds within
    one. A run that goes on from it gives the same weights, on a CPU with the same number of
    threads bit for bit. job: identity of the job; a checkpoint of another job is not taken up.

    Raises:
        TrainingDiverged: the loss or its gradient is not a number.
    """
    torch.manual_seed(task.recipe.seed)
    run = _Run(task, model, job, report, folder / CHECKPOINT, checkpoint_s)
    if resume:
        run.load()
    training = task.settings.training
    for epoch in range(run.history.epoch, training.epochs):
        if run.history.stale(training.patience):
            break
        run.epoch(epoch)
        run.save()
    return run.best, run.history


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
    def __init__(  # noqa: PLR0913 - internal
        self,
        task: Task,
        model: AdaptedModel,
        job: str,
        report: Report,
        path: Path,
        checkpoint_s: float,
    ) -> None:
        self.task, self.model, self.report = task, model, report
        self.path, self.checkpoint_s, self.saved_at = path, checkpoint_s, monotonic()
        self.training = task.settings.training
        self.history, self.place, self.best = History(job=job), _Place(), Weights()
        self.optimizer = torch.optim.AdamW(
            model.trained, lr=0.0, weight_decay=self.training.weight_decay, betas=(0.9, 0.98)
        )
        self.easy: set[str] = set()
        self.start = _copy(get_peft_model_state_dict(model.peft))

    def epoch(self, epoch: int) -> None:
        """Go over an epoch, from where its last checkpoint stands."""
        if len(self.history.rested) == epoch:
            self.history.rested.append(sorted(self.easy))
        windows, place = self._windows(epoch), self.place
        started = monotonic() - place.seconds
        for number in range(place.steps, len(windows)):
            done = (epoch + number / len(windows)) / self.training.epochs
            loss = self._step(windows[number], learning_rate(self.training, done))
            place.steps, place.total = number + 1, place.total + loss
            place.seen += sum(len(b.tokens) for b in windows[number])
            place.seconds = monotonic() - started
            self.history.step += 1
            self.history.steps.append(round(loss, 5))
            if monotonic() - self.saved_at >= self.checkpoint_s:
                self.save()
            self._say(epoch, len(windows))
        self._end(epoch, len(windows))

    def _end(self, epoch: int, windows: int) -> None:
        place, self.place = self.place, _Place()
        self.history.seconds += place.seconds
        self.history.examples += place.seen
        self.history.losses.append(place.total / windows)
        with self._averaged():
            self.history.dev.append(self._dev_accuracy())
            self.history.epoch = epoch + 1
            if self.history.best == epoch:
                self.best = _copy(get_peft_model_state_dict(self.model.peft))
        self._say(epoch, windows, place, self.history.dev[-1])

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Within it, the weights are those that are kept: averaged with what training began with.

        Between two sets of weights, one trained on from the other, lies mostly a better one
        (Wortsman et al. 2022, arXiv:2109.01903).
        """
        share, peft = self.training.start_share, self.model.peft
        if not share:
            yield
            return
        own = _copy(get_peft_model_state_dict(peft))
        mixed = {name: torch.lerp(own[name], self.start[name], share) for name in own}
        set_peft_model_state_dict(peft, mixed)
        try:
            yield
        finally:
            set_peft_model_state_dict(peft, own)

    def save(self) -> None:
        """Write the checkpoint, by a temporary name."""
        self.place.easy = sorted(self.easy)
        state = {
            "format": _FORMAT,
            "history": asdict(self.history),
            "place": asdict(self.place),
            "best": self.best,
            "weights": get_peft_model_state_dict(self.model.peft),
            "optimizer": self.optimizer.state_dict(),
        }
        partial = self.path.with_name(self.path.name + ".partial")
        torch.save(state, partial)
        partial.replace(self.path)
        self.saved_at = monotonic()

    def load(self) -> None:
        """Take up a checkpoint of the same job; anything else is left aside."""
        if not self.path.is_file():
            return
        state: dict[str, Any] = torch.load(self.path, weights_only=True)
        if state.get("format") != _FORMAT or state["history"]["job"] != self.history.job:
            return
        self.history, self.place = History(**state["history"]), _Place(**state["place"])
        self.best, self.easy = state["best"], set(self.place.easy)
        set_peft_model_state_dict(self.model.peft, state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.model.recalled(self._gone_over())

    def _gone_over(self) -> Iterator[Batch]:
        """The batches that the run has computed so far, in order."""
        for epoch in range(self.history.epoch):
            yield from chain.from_iterable(self._windows(epoch))
            yield from map(collate, self._dev_rows())
        if self.place.steps:
            done = self._windows(self.history.epoch)[: self.place.steps]
            yield from chain.from_iterable(done)

    def _windows(self, epoch: int) -> list[list[Batch]]:
        rested = frozenset(self.history.rested[epoch])
        batches, size = self.task.batches(epoch, rested), self.training.accumulate
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

    def _dev_rows(self) -> list[list[Shown]]:
        examples = list(self.task.dev)
        if len(examples) > self.training.dev_examples:
            rng = Random(f"{self.task.recipe.seed}/{self.task.plan.name}/dev")
            examples = rng.sample(examples, self.training.dev_examples)
        return self.task.evaluation(examples)

    def _dev_accuracy(self) -> float:
        written = [
            greedy.written
            for rows in self._dev_rows()
            for greedy in score_targets(
                self.model, rows, [self.task.constraint(row) for row in rows]
            )
        ]
        return sum(written) / len(written)

    def _say(
        self, epoch: int, of: int, place: _Place | None = None, dev: float | None = None
    ) -> None:
        """Report. Later epochs are taken to be as long as this one."""
        place = place or self.place
        later = (self.training.epochs - epoch - 1) * of
        self.report(
            Progress(
                epoch=epoch + 1,
                epochs=self.training.epochs,
                step=self.history.step,
                steps=self.history.step + of - place.steps + later,
                loss=place.total / max(1, place.steps),
                step_loss=self.history.steps[-1],
                examples_per_s=place.seen / max(place.seconds, 1e-9),
                dev=dev,
            )
        )


def token_losses(model: AdaptedModel, batch: Batch) -> Tensor:
    """Cross entropy of each of the batch's targets; all other positions have no loss."""
    hidden = model.hidden(batch.static, Rows.of(batch))
    logits = model.logits(hidden[list(batch.supervised)])
    targets = torch.tensor(batch.targets, device=logits.device)
    return torch.nn.functional.cross_entropy(logits, targets, reduction="none")


def _copy(weights: Weights) -> Weights:
    return {name: tensor.detach().cpu().clone() for name, tensor in weights.items()}
