"""What is learned, and that the prefix cache learns it as plain training does."""

import json
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import get_peft_model_state_dict
from torch import Tensor
from train.plain import MASKED, PlainRow, PlainTrainer, plain_rows
from train.tiny import write_data

from afx_train.batching import Batch, Shown, collate
from afx_train.codec import Codec, Tokens
from afx_train.corpus import Corpus, load_corpus
from afx_train.loop import token_losses
from afx_train.model import AdaptedModel, Rows, load_model
from afx_train.recipe import Recipe, read_recipe
from afx_train.starts import fresh_weights
from afx_train.task import Task, make_task
from agentflux.contracts.cache import model_folder

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
NAMES = ("route", "select.files", "args.files")
BOUNDARIES = ("prompt", "request", "instruction")


@pytest.fixture(scope="module")
def tasks(recipe: Recipe, corpus: Corpus, codec: Codec) -> dict[tuple[str, str], Task]:
    """Every subtask's task at every boundary."""
    return {
        (plan.name, boundary): make_task(
            recipe.model_copy(update={"boundary": boundary}), plan, corpus, codec
        )
        for plan in recipe.adapters
        for boundary in BOUNDARIES
    }


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_the_argument_mask_is_the_object_and_the_selector_mask_the_name(
    tasks: dict[tuple[str, str], Task], codec: Codec, data: st.DataObject
) -> None:
    task = tasks[data.draw(st.sampled_from(sorted(tasks)))]
    batch, rows = _batch(task, data)
    for row, plain in zip(rows, plain_rows(batch), strict=True):
        learned = [label for label in plain.labels if label != MASKED]
        assert learned[-1] == codec.end_token
        text = codec.text(learned[:-1])
        if task.plan.subtask == "arguments":
            assert json.loads(text) in ({"path": "a b.txt", "head": 3}, {"path": "x"})
        else:
            assert text in (*row.variant.names, row.example.stop)
        before = codec.text(plain.ids[: -len(learned)])
        assert before.endswith(("Tool set:\n", "Tool:\n", f"Arguments of {row.example.label}:\n"))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_masked_token_has_no_label_and_the_others_teach_what_plain_training_teaches(
    workspace: Path, tasks: dict[tuple[str, str], Task], data: st.DataObject
) -> None:
    """Where the hidden state has no gradient, no label could change one."""
    task = tasks[data.draw(st.sampled_from(sorted(tasks)))]
    model, plain = _pair(workspace)
    batch, _ = _batch(task, data)
    ours = _gradients(model, batch)
    assert model.last.grad is not None
    taught = model.last.grad.abs().sum(-1).nonzero().flatten().tolist()
    assert taught == sorted(batch.supervised)
    assert _relative(ours, _plain_gradients(plain, plain_rows(batch))) < 1e-4


@pytest.mark.model
def test_gradients_on_the_real_model_equal_plain_training(tmp_path: Path, recipe: Recipe) -> None:
    folder = model_folder("smollm2-135m-instruct")
    corpus = load_corpus([write_data(tmp_path / "data")])
    codec = Codec(folder, recipe.chat)
    model = load_model(folder, recipe.lora)
    _stir(model)
    plain = PlainTrainer(folder, recipe.lora, get_peft_model_state_dict(model.peft))
    for boundary in BOUNDARIES:
        chosen = recipe.model_copy(update={"boundary": boundary})
        task = make_task(chosen, recipe.adapters[1], corpus, codec)
        rows = [Shown(example=e, variant=task.variants[e.group][0]) for e in task.train[:2]]
        batch = collate(rows)
        theirs = _plain_gradients(plain, plain_rows(batch))
        assert _relative(_gradients(model, batch), theirs) < 1e-4


def _batch(task: Task, data: st.DataObject) -> tuple[Batch, list[Shown]]:
    """One to four of a task's examples behind one of their catalogs."""
    first = data.draw(st.sampled_from(task.train))
    fellows = [e for e in task.train if e.group == first.group]
    chosen = data.draw(st.lists(st.sampled_from(fellows), min_size=1, max_size=4))
    variants = task.variants[first.group]
    fitting = [v for v in variants if all(e.label in (*v.names, e.stop) for e in chosen)]
    variant = data.draw(st.sampled_from(fitting))
    rows = [Shown(example=example, variant=variant) for example in chosen]
    return collate(rows), rows


@cache
def _pair(workspace: Path) -> tuple["_Watched", PlainTrainer]:
    lora = read_recipe(workspace / "recipe.toml").lora
    model = _Watched(load_model(workspace / "base", lora).peft)
    _stir(model)
    return model, PlainTrainer(workspace / "base", lora, get_peft_model_state_dict(model.peft))


def _stir(model: AdaptedModel) -> None:
    fresh_weights(model, seed=1)
    generator = torch.Generator().manual_seed(2)
    for parameter in model.trained:
        noise = torch.empty(parameter.shape).normal_(0, 0.02, generator=generator)
        parameter.data.add_(noise)


class _Watched(AdaptedModel):
    """Keeps the last hidden states, with their gradient."""

    last: Tensor

    def hidden(self, static: Tokens, rows: Rows) -> Tensor:
        self.last = super().hidden(static, rows)
        self.last.retain_grad()
        return self.last


def _gradients(model: AdaptedModel, batch: Batch) -> list[Tensor]:
    return _grads(token_losses(model, batch).mean(), model.trained)


def _plain_gradients(plain: PlainTrainer, rows: list[PlainRow]) -> list[Tensor]:
    return _grads(plain.loss(rows), plain.trained)


def _grads(loss: Tensor, parameters: list[torch.nn.Parameter]) -> list[Tensor]:
    for parameter in parameters:
        parameter.grad = None
    loss.backward()
    return [p.grad for p in parameters if p.grad is not None]


def _relative(ours: list[Tensor], theirs: list[Tensor]) -> float:
    a, b = (torch.cat([g.flatten() for g in side]) for side in (ours, theirs))
    return float((a - b).norm() / b.norm())
