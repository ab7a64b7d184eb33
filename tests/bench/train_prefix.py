"""Prefix-cached training against plain full-prompt training: examples a second, gradients, memory.

    python tests/bench/train_prefix.py RECIPE [--only ADAPTER] [--batches 6] [--plain-batches 1]

Both train the same batches of the recipe's data from the same weights with the same optimizer, in
turns; the medians of the rounds are compared. The plain loop is transformers + PEFT as in
tests/train/plain.py: whole prompts, padded, logits at every position. Its rows are split where
`--plain-rows` of them are together, since whole prompts take more memory; it goes over the first
`--plain-batches` only, since it takes minutes. The prefix-cached loop goes over its batches twice:
in the first pass it also computes what later ones recall (the prefixes, and the layers below
`lora.first_layer`); `speedup` is that of all of the recipe's epochs, one first and the rest
later. Gradients are those of the first step. Peak memory is that of a process of its own that runs
the real loop over `--peak-examples` examples (0: not measured). `--threads` threads.
"""

import argparse
import json
import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))
from bench.runs import save_result
from train.plain import PlainTrainer, plain_rows

from afx_train.batching import Batch
from afx_train.codec import Codec
from afx_train.corpus import load_corpus
from afx_train.loop import token_losses, train
from afx_train.model import AdaptedModel, load_model
from afx_train.recipe import base_folder, data_folders, read_recipe
from afx_train.starts import fresh_weights
from afx_train.task import Task, make_task

Losses = list[float]
Gradients = dict[str, Tensor]


def main() -> None:
    """Run both loops in turns and print one JSON object."""
    options = _options()
    torch.set_num_threads(options.threads)
    task, base = _task(options.recipe, options.only)
    batches = task.batches(0)[: options.batches]
    few = batches[: options.plain_batches]
    rate = task.settings.training.learning_rate
    model = load_model(base, task.settings.lora, precision="fp32")
    start = _start(model, task.recipe.seed)
    plain = PlainTrainer(base, task.settings.lora, start)
    rates: dict[str, list[float]] = {"cached": [], "later": [], "plain": []}
    curves, gradients = dict[str, Losses](), dict[str, Gradients]()
    for number in range(options.rounds):
        for one in (model.peft, plain.peft):
            set_peft_model_state_dict(one, {k: v.clone() for k, v in start.items()})
        model.forget()
        model.recall_bytes = int(task.settings.training.recall_gib * 2**30)
        seconds, curves["cached"], gradients["cached"] = _cached(model, batches, rate)
        rates["cached"].append(_examples(batches) / seconds)
        seconds, _, _ = _cached(model, batches, rate)
        rates["later"].append(_examples(batches) / seconds)
        seconds, curves["plain"], gradients["plain"] = _plain(plain, few, rate, options.plain_rows)
        rates["plain"].append(_examples(few) / seconds)
        print(f"round {number + 1}: {rates}", file=sys.stderr)
    epochs = task.settings.training.epochs
    median = {name: statistics.median(found) for name, found in rates.items()}
    apart = [abs(a - b) for a, b in zip(curves["cached"], curves["plain"], strict=False)]
    lengths = [len(row.ids) for batch in few for row in plain_rows(batch)]
    result = {
        "adapter": task.plan.name,
        "boundary": task.recipe.boundary_of(task.plan),
        "examples": {"cached": _examples(batches), "plain": _examples(few)},
        "prompt_tokens": round(statistics.mean(lengths), 1),
        "examples_per_s": {name: round(value, 3) for name, value in median.items()},
        "speedup": {
            "first_epoch": round(median["cached"] / median["plain"], 2),
            "later_epochs": round(median["later"] / median["plain"], 2),
            "recipe": round(_whole(median, epochs) / median["plain"], 2),
            "epochs": epochs,
        },
        "gradient_difference": _difference(gradients["cached"], gradients["plain"]),
        "losses": {k: [round(x, 5) for x in v[: len(few)]] for k, v in curves.items()},
        "largest_loss_difference": max(apart),
        "threads": options.threads,
        "torch": torch.__version__,
    }
    if options.peak_examples:
        result["peak"] = _peak_of_a_worker(options)
    print(json.dumps(result, indent=2))
    if options.out:
        save_result(options.out, result)


def _whole(median: dict[str, float], epochs: int) -> float:
    """Examples a second over all epochs."""
    return epochs / (1 / median["cached"] + (epochs - 1) / median["later"])


def _task(recipe_path: Path, name: str) -> tuple[Task, Path]:
    recipe = read_recipe(recipe_path)
    plan = recipe.named(name or recipe.adapters[0].name)
    base = base_folder(recipe, recipe_path)
    corpus = load_corpus(data_folders(recipe, recipe_path))
    return make_task(recipe, plan, corpus, Codec(base, recipe.chat)), base


def _start(model: AdaptedModel, seed: int) -> dict[str, Tensor]:
    """Fresh weights, but B drawn too: where it is zero, A has no gradient to compare."""
    fresh_weights(model, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    start = {k: v.clone() for k, v in get_peft_model_state_dict(model.peft).items()}
    for name, tensor in start.items():
        if "lora_B" in name:
            tensor.normal_(std=0.005, generator=generator)
    return start


def _difference(left: Gradients, right: Gradients) -> dict[str, float]:
    """Of the whole gradient, and the worst of its tensors, relative to the plain loop's norm."""
    flat = [torch.cat([g[name].flatten() for name in sorted(right)]) for g in (left, right)]
    each = [float((left[n] - right[n]).norm() / right[n].norm()) for n in right]
    return {"whole": float((flat[0] - flat[1]).norm() / flat[1].norm()), "worst_tensor": max(each)}


def _examples(batches: list[Batch]) -> int:
    return sum(len(batch.tokens) for batch in batches)


def _peak_of_a_worker(options: argparse.Namespace) -> dict[str, float]:
    """Resident memory of a process that trains as a worker does."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    arguments = (options.recipe, options.only, options.peak_examples, options.threads, there)
    process = context.Process(target=_train_some, args=arguments)
    process.start()
    found: dict[str, float] = here.recv()
    process.join()
    return found


def _train_some(
    recipe: Path,
    name: str,
    examples: int,
    threads: int,
    tell: "multiprocessing.connection.Connection",
) -> None:
    torch.set_num_threads(threads)
    task, base = _task(recipe, name)
    parts = tuple(replace(p, train=p.train[:examples], dev=p.dev[:examples]) for p in task.parts)
    model = load_model(base, task.settings.lora, precision="fp32")
    model.recall_bytes = int(task.settings.training.recall_gib * 2**30)
    fresh_weights(model, seed=task.recipe.seed)
    with tempfile.TemporaryDirectory() as folder:
        _, history = train(
            replace(task, parts=parts),
            model,
            Path(folder),
            job="peak",
            resume=False,
            report=lambda _: None,
        )
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unit = 2**30 if sys.platform == "darwin" else 2**20
    tell.send(
        {
            "gib": round(most / unit, 2),
            "examples": history.examples,
            "examples_per_s": round(history.examples / history.seconds, 2),
            "recall_gib": task.settings.training.recall_gib,
        }
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--batches", type=int, default=6)
    parser.add_argument("--plain-batches", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--plain-rows", type=int, default=4)
    parser.add_argument("--peak-examples", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    return parser.parse_args()


def _cached(
    model: AdaptedModel, batches: list[Batch], rate: float
) -> tuple[float, Losses, Gradients]:
    def loss(batch: Batch) -> float:
        mean = token_losses(model, batch).mean()
        mean.backward()
        return float(mean.detach())

    return _trained(model.trained, model.peft, batches, rate, loss)


def _plain(
    plain: PlainTrainer, batches: list[Batch], rate: float, at_once: int
) -> tuple[float, Losses, Gradients]:
    def loss(batch: Batch) -> float:
        rows, total = plain_rows(batch), 0.0
        for at in range(0, len(rows), at_once):
            count = sum(batch.lengths[at : at + at_once])
            part = plain.loss(rows[at : at + at_once]) * (count / sum(batch.lengths))
            part.backward()
            total += float(part.detach())
        return total

    return _trained(plain.trained, plain.peft, batches, rate, loss)


def _trained(
    trained: list[torch.nn.Parameter],
    module: torch.nn.Module,
    batches: list[Batch],
    rate: float,
    loss: Callable[[Batch], float],
) -> tuple[float, Losses, Gradients]:
    """Seconds, the loss of each batch and the first one's gradients."""
    optimizer, losses, gradients = torch.optim.AdamW(trained, lr=rate), Losses(), Gradients()
    started = time.perf_counter()
    for batch in batches:
        losses.append(loss(batch))
        if not gradients:
            gradients = {
                name: p.grad.clone()
                for name, p in module.named_parameters()
                if p.requires_grad and p.grad is not None
            }
        optimizer.step()
        optimizer.zero_grad()
    return time.perf_counter() - started, losses, gradients


if __name__ == "__main__":
    main()
