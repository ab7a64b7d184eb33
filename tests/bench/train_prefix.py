"""Prefix-cached training against plain full-prompt training: examples a second, loss, memory.

    python tests/bench/train_prefix.py RECIPE [--only ADAPTER] [--batches 6] [--rounds 3]

Both train the same batches of the recipe's data from the same weights with the same optimizer, in
turns; the medians of the rounds are compared. The plain loop is transformers + PEFT as in
tests/train/plain.py: whole prompts, padded, logits at every position. Its rows are split where
`--plain-rows` of them are together, since whole prompts take more memory. The first round of the
prefix-cached loop computes the prefixes; `--warm` leaves it out. One process, `--threads` threads.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from pathlib import Path

import torch
from peft import get_peft_model_state_dict, set_peft_model_state_dict

sys.path.insert(0, str(Path(__file__).parents[1]))
from train.plain import PlainTrainer, plain_rows

from afx_train.batching import Batch
from afx_train.codec import Codec
from afx_train.corpus import load_corpus
from afx_train.loop import fresh_weights, token_losses
from afx_train.model import AdaptedModel, load_model
from afx_train.recipe import base_folder, data_folders, read_recipe
from afx_train.task import make_task


def main() -> None:
    """Run both loops in turns and print one JSON object."""
    options = _options()
    torch.set_num_threads(options.threads)
    recipe = read_recipe(options.recipe)
    plan = recipe.named(options.only or recipe.adapters[0].name)
    base = base_folder(recipe, options.recipe)
    corpus = load_corpus(data_folders(recipe, options.recipe))
    task = make_task(recipe, plan, corpus, Codec(base, recipe.chat))
    batches = task.batches(0)[: options.batches]
    rate = task.settings.training.learning_rate
    model = load_model(base, task.settings.lora, precision="fp32")
    fresh_weights(model, seed=recipe.seed)
    start = {k: v.clone() for k, v in get_peft_model_state_dict(model.peft).items()}
    plain = PlainTrainer(base, task.settings.lora, start)
    cached_s, plain_s = list[float](), list[float]()
    curves: dict[str, list[float]] = {}
    for number in range(options.rounds):
        for one in (model.peft, plain.peft):
            set_peft_model_state_dict(one, {k: v.clone() for k, v in start.items()})
        if not options.warm:
            model.forget()
        seconds, curves["cached"] = _cached(model, batches, rate)
        cached_s.append(seconds)
        seconds, curves["plain"] = _plain(plain, batches, rate, options.plain_rows)
        plain_s.append(seconds)
        print(f"round {number + 1}: {cached_s[-1]:.1f} s, {plain_s[-1]:.1f} s", file=sys.stderr)
    examples = sum(len(batch.tokens) for batch in batches)
    rates = {"cached": cached_s, "plain": plain_s}
    apart = [abs(a - b) for a, b in zip(curves["cached"], curves["plain"], strict=True)]
    document = {
        "adapter": plan.name,
        "boundary": recipe.boundary_of(plan),
        "examples": examples,
        "prompt_tokens": round(
            statistics.mean(len(row.ids) for b in batches for row in plain_rows(b)), 1
        ),
        "examples_per_s": {k: round(examples / statistics.median(v), 3) for k, v in rates.items()},
        "speedup": round(statistics.median(plain_s) / statistics.median(cached_s), 2),
        "losses": {k: [round(x, 4) for x in v] for k, v in curves.items()},
        "largest_loss_difference": max(apart),
        "threads": options.threads,
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
    }
    print(json.dumps(document, indent=2))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--batches", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--plain-rows", type=int, default=4)
    parser.add_argument("--warm", action="store_true")
    return parser.parse_args()


def _cached(model: AdaptedModel, batches: list[Batch], rate: float) -> tuple[float, list[float]]:
    optimizer, losses = torch.optim.AdamW(model.trained, lr=rate), list[float]()
    started = time.perf_counter()
    for batch in batches:
        loss = token_losses(model, batch).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return time.perf_counter() - started, losses


def _plain(
    plain: PlainTrainer, batches: list[Batch], rate: float, at_once: int
) -> tuple[float, list[float]]:
    optimizer, losses = torch.optim.AdamW(plain.trained, lr=rate), list[float]()
    started = time.perf_counter()
    for batch in batches:
        rows, total = plain_rows(batch), 0.0
        for at in range(0, len(rows), at_once):
            part = rows[at : at + at_once]
            count = sum(batch.lengths[at : at + at_once])
            loss = plain.loss(part) * (count / sum(batch.lengths))
            loss.backward()
            total += float(loss.detach())
        optimizer.step()
        optimizer.zero_grad()
        losses.append(total)
    return time.perf_counter() - started, losses


if __name__ == "__main__":
    main()
