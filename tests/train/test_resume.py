"""Killed at any moment, a run goes on to the weights of an uninterrupted one, bit for bit.

AFX_KILLS sets how often it is killed (`make kills` does it 20 times).
"""

import multiprocessing
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
import torch
from train.killing import train_in_child
from train.tiny import RECIPE

from afx_train.codec import Tokens
from afx_train.outputs import read_weights
from afx_train.recall import Recall, replay

KILLS = int(os.environ.get("AFX_KILLS", "3"))
NAME = "select.files"
WAIT_S = 300.0


@pytest.fixture(params=[0, 1])
def recipe_path(workspace: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """The tiny recipe with the late boundary and too little memory to recall everything.

    Once with branches in all layers, once with a layer below them that runs once a row.
    """
    text = RECIPE.replace('"base"', f'"{workspace}/base"').replace('"data"', f'"{workspace}/data"')
    text = text.replace("seed = 5", 'seed = 5\nboundary = "instruction"')
    text = text.replace("epochs = 3", "epochs = 3\nrecall_gib = 0.0001\ndev_examples = 4")
    text = text.replace("[lora]", f"[lora]\nfirst_layer = {request.param}")
    path = tmp_path / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_run_killed_at_random_moments_ends_with_the_uninterrupted_weights(
    recipe_path: Path, tmp_path: Path
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    steps, _ = _run(recipe_path, whole, kill_after=None)
    wanted = read_weights(whole / NAME)
    rng, kills, resumed, latest = Random(KILLS), 0, 0, 0
    while kills < KILLS or not (broken / NAME).exists():
        if (broken / NAME).exists():
            _assert_equal(read_weights(broken / NAME), wanted)
            shutil.rmtree(broken)
            latest = 0
        kill_after = rng.randrange(steps) if kills < KILLS else None
        _, told = _run(recipe_path, broken, kill_after=kill_after)
        if told and latest > 1:  # it does not begin anew: the step before was on the disk
            assert told[0] >= latest
            resumed += 1
        latest = max([latest, *told])
        kills += kill_after is not None
    assert resumed
    _assert_equal(read_weights(broken / NAME), wanted)
    assert (broken / NAME / "training_log.json").read_bytes() == (
        whole / NAME / "training_log.json"
    ).read_bytes()
    assert [p.name for p in broken.iterdir()] == [NAME]


def test_a_replay_keeps_what_was_kept_and_computes_no_more() -> None:
    asked = [(_key(n % 3), [_key(n), _key(n + 1), (), _key(n - 7)]) for n in range(1, 40)]
    real: Recall[str] = Recall(25)
    counted: list[int] = []
    for static, befores in asked:
        real.fetch(static, befores, _computing(static, counted))
    all_of_it, counted[:] = sum(counted), []
    again = replay(asked, 25, lambda static, rows: _computing(static, counted)(rows))
    assert again.kept == real.kept
    assert list(again.kept) == list(real.kept)
    assert len(real.kept) <= sum(counted) < all_of_it


def _computing(static: Tokens, counted: list[int]) -> Callable[[list[Tokens]], list[str]]:
    """Values that tell what was computed beside them."""

    def compute(rows: list[Tokens]) -> list[str]:
        counted.append(len(rows))
        return [f"{static} {row} of {rows}" for row in rows]

    return compute


def _key(number: int) -> Tokens:
    return (number,) * (1 + number % 4)


def _run(recipe: Path, out: Path, *, kill_after: int | None) -> tuple[int, list[int]]:
    """Train until the end, or kill -9 after some reports. Returns how many, and their steps."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["train.killing", "afx_train.job"])
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=train_in_child, args=(recipe, NAME, out, theirs))
    process.start()
    theirs.close()
    told: list[int] = []
    try:
        while kill_after is None or len(told) < kill_after:
            assert ours.poll(WAIT_S), "the job does not go on"
            told.append(ours.recv())
    except EOFError:
        process.join(WAIT_S)
        assert process.exitcode == 0
        return len(told), told
    process.kill()
    process.join(WAIT_S)
    return len(told), told


def _assert_equal(ours: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == wanted.keys()
    assert all(torch.equal(ours[name], wanted[name]) for name in wanted)
