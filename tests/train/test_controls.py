"""Joint, matched and whole-prompt controls, granularity, and what a device makes of them."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from train.tiny import RECIPE, write_base, write_data

from afx_train.ablation import RESULT, ROW, ablate
from afx_train.codec import Codec
from afx_train.controls import load_recipe
from afx_train.corpus import Corpus, load_corpus
from afx_train.errors import RecipeError
from afx_train.job import run_job
from afx_train.loop import Progress
from afx_train.marks import Marking
from afx_train.outputs import read_weights
from afx_train.recipe import Recipe, read_recipe
from afx_train.runs import Running
from afx_train.task import job_sha256, make_task
from afx_train.trajectory import TrajectoryStep, read_trajectories, write_trajectories
from agentflux.contracts.cards import read_card

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


def test_a_joint_adapter_learns_exactly_the_examples_of_the_decoupled_ones(
    workspace: Path, recipe: Recipe, corpus: Corpus, codec: Codec
) -> None:
    joint = load_recipe(workspace / "recipe.toml", "joint")
    task = make_task(joint, joint.named("joint"), corpus, codec)
    apart = [make_task(recipe, plan, corpus, codec) for plan in recipe.adapters]
    assert [e.target for e in task.train] == [e.target for one in apart for e in one.train]
    for epoch in range(2):
        together = sorted(t for b in task.batches(epoch) for t in b.tokens)
        assert together == sorted(t for one in apart for b in one.batches(epoch) for t in b.tokens)
    assert len({e.key for e in task.train}) == len(task.train)


def test_in_smaller_batches_each_adapter_makes_as_many_steps_as_the_joint_one(
    workspace: Path, recipe: Recipe, corpus: Corpus, codec: Codec
) -> None:
    joint = load_recipe(workspace / "recipe.toml", "joint")
    together = len(make_task(joint, joint.named("joint"), corpus, codec).batches(0))
    smaller = load_recipe(workspace / "recipe.toml", "steps")
    made, steps = 0, 0
    for plan in smaller.adapters:
        task = make_task(smaller, plan, corpus, codec)
        before = make_task(recipe, recipe.named(plan.name), corpus, codec)
        assert [e.target for e in task.train] == [e.target for e in before.train]
        steps += len(task.batches(0))
        made += 1
    assert len(recipe.adapters) == made == 3
    assert 0.7 * together < steps / made < 1.3 * together
    small = load_recipe(workspace / "recipe.toml", "joint-steps")
    assert steps * 0.7 < len(make_task(small, small.named("joint-steps"), corpus, codec).batches(0))


def test_a_control_in_small_batches_is_the_same_control_otherwise(workspace: Path) -> None:
    for kind in ("joint", "matched", "prompt"):
        usual = load_recipe(workspace / "recipe.toml", kind)
        small = load_recipe(workspace / "recipe.toml", f"{kind}-steps")
        for plan, other in zip(usual.adapters, small.adapters, strict=True):
            ours, theirs = usual.settings(plan), small.settings(other)
            assert theirs.lora == ours.lora
            assert usual.boundary_of(plan) == small.boundary_of(other)
            if kind == "prompt" or plan.subtask == "joint":
                assert theirs.training.batch_tokens == ours.training.batch_tokens // 3


def test_the_matched_joint_adapter_has_the_parameters_of_the_decoupled_ones(
    workspace: Path, recipe: Recipe
) -> None:
    matched = load_recipe(workspace / "recipe.toml", "matched")
    lora = matched.settings(matched.named("matched")).lora
    assert lora.rank == sum(recipe.settings(p).lora.rank for p in recipe.adapters)
    assert lora.alpha / lora.rank == recipe.lora.alpha / recipe.lora.rank


def test_an_ablation_gives_every_row_the_same_examples_and_marks_it_once(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    selector = RECIPE.index('[[adapters]]\nname = "select.files"')
    text = RECIPE[:selector] + RECIPE[RECIPE.rindex("[[adapters]]") :]
    text = text.replace("epochs = 3", "epochs = 1").replace("easy_loss = 0.5", "easy_loss = 0.0")
    path = _recipe(workspace, tmp_path, text + "\n[examples]\nmax_examples = 7\n")
    out, how, wanted = tmp_path / "out", Running(threads=1), Marking(split="dev", limit=6)
    ablate(path, out, ["base", "joint", "decoupled"], how, wanted)
    printed = capsys.readouterr().out
    assert all(row in printed for row in ("base", "joint", "decoupled", "route/route"))
    card = read_card(out / "joint" / "joint")
    assert card is not None
    assert card.subtask == "joint"
    assert {"dev_exact", "dev_exact_route", "dev_exact_arguments"} <= set(card.scores)
    rows = {row["name"]: row for row in json.loads((out / RESULT).read_text())["rows"]}
    assert rows["joint"]["examples"] == rows["decoupled"]["examples"] == 2 * 7
    assert abs(rows["joint"]["steps"] - rows["decoupled"]["steps"]) <= 2
    marked = (out / "joint" / ROW).stat().st_mtime_ns
    shutil.rmtree(out / "joint" / "joint")
    ablate(path, out, ["joint"], how, wanted)
    assert (out / "joint" / ROW).stat().st_mtime_ns == marked
    assert not (out / "joint" / "joint").exists()
    assert json.loads((out / RESULT).read_text())["rows"] == [rows["joint"]]


def test_adapters_without_a_common_call_are_marked_on_their_own(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = RECIPE.index("[[adapters]]", RECIPE.index("[[adapters]]") + 1)
    path = _recipe(workspace, tmp_path, RECIPE[:first].replace("epochs = 3", "epochs = 1"))
    ablate(path, tmp_path / "out", ["base"], Running(), Marking(split="dev", limit=6))
    (row,) = json.loads((tmp_path / "out" / RESULT).read_text())["rows"]
    assert row["calls"] is None
    assert row["accuracy"]["route/route"]["count"] > 0
    assert "route/route" in capsys.readouterr().out


def test_ordinary_lora_acts_on_the_whole_prompt_and_says_so(
    workspace: Path, tmp_path: Path
) -> None:
    path = _recipe(workspace, tmp_path, RECIPE.replace("epochs = 3", "epochs = 1"))
    out = tmp_path / "out"
    made = run_job(path, "args.files", out, resume=False, report=_quiet, control="prompt")
    assert made.card.boundary == "prompt"
    again = run_job(path, "args.files", out, resume=False, report=_quiet)
    assert not again.skipped
    assert again.card.boundary == "request"


def test_keys_that_came_later_leave_the_identity_of_older_jobs_alone(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = recipe.adapters[0]
    known = job_sha256(recipe, plan, data="d", base="b")
    with monkeypatch.context() as patch:  # as if they had always been there
        patch.setattr("afx_train.task._LATER", frozenset[str]())
        assert job_sha256(recipe, plan, data="d", base="b") != known
    set_later = recipe.model_copy(
        update={"training": recipe.training.model_copy(update={"patience": 2})}
    )
    assert job_sha256(set_later, plan, data="d", base="b") != known
    assert "patience" in recipe.training.model_dump()


def test_a_delta_trains_its_own_ranks_and_leaves_the_shared_ones(
    workspace: Path, tmp_path: Path
) -> None:
    text = RECIPE.replace("epochs = 3", "epochs = 1") + (
        '\n[[adapters]]\nname = "{tool_set}.{tool}"\nsubtask = "arguments"\neach = "tool"\n'
        'delta_of = "args.files"\noverrides.lora.rank = 2\n'
    )
    path = _recipe(workspace, tmp_path, text)
    assert [p.name for p in read_recipe(path).adapters][3:] == [
        "clock.get_time",
        "files.read_text_file",
        "files.list_directory",
    ]
    for name in ("args.files", "files.list_directory"):
        run_job(path, name, tmp_path / "out", resume=False, report=_quiet)
    shared = read_weights(tmp_path / "out" / "args.files")
    both = read_weights(tmp_path / "out" / "files.list_directory")
    for name, tensor in both.items():
        old, new = (tensor[:4], tensor[4:]) if "lora_A" in name else (tensor[:, :4], tensor[:, 4:])
        assert torch.equal(old, shared[name])
        assert new.shape[0 if "lora_A" in name else 1] == 2
        assert new.abs().sum() > 0


@pytest.mark.parametrize(
    ("added", "said"),
    [
        ('subtask = "select"\nof = ["route"]', "`of` and `matched` belong to subtask 'joint'"),
        ('subtask = "joint"\nof = ["nix"]', "has no adapter 'nix'"),
        ('subtask = "joint"\ntool_set = "files"', "has no tool_set of its own"),
        ('subtask = "route"\nwarm_start = "route"\ndelta_of = "route"', "choose one"),
        ('subtask = "select"\ndelta_of = "later"', "does not stand earlier"),
        (
            'subtask = "route"\ndelta_of = "route"\noverrides.training.weight_decay = 0.1',
            "needs weight_decay 0",
        ),
        (
            'subtask = "joint"\nmatched = true\noverrides.lora.first_layer = 1',
            "the same target_modules and first_layer",
        ),
        ('subtask = "select"\neach = "server"', "Input should be 'tool_set' or 'tool'"),
    ],
)
def test_plans_that_make_no_sense_are_refused(
    workspace: Path, tmp_path: Path, added: str, said: str
) -> None:
    path = _recipe(workspace, tmp_path, f'{RECIPE}\n[[adapters]]\nname = "x"\n{added}\n')
    with pytest.raises(RecipeError) as raised:
        recipe = read_recipe(path)
        recipe.parts(recipe.named("x"))
    assert said in str(raised.value)


def test_each_without_data_names_the_command_that_makes_it(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    text = '\n[[adapters]]\nname = "only.{tool_set}"\nsubtask = "select"\neach = "tool_set"\n'
    path.write_text(RECIPE + text, encoding="utf-8")
    with pytest.raises(RecipeError, match="afx-train data build"):
        read_recipe(path)
    write_data(tmp_path / "data")
    assert [p.name for p in read_recipe(path).adapters][3:] == ["only.clock", "only.files"]


@pytest.mark.parametrize("each", ["tool", "tool_set"])
def test_each_writes_out_what_can_be_trained_and_no_more(tmp_path: Path, each: str) -> None:
    """Of unverified scenarios the first call counts; deprecated tools and empty objects do not."""
    data = write_data(tmp_path / "data")
    for split in ("train", "dev"):
        items = read_trajectories(data / f"{split}.jsonl")
        alone = [t for t in items if [s.tool for s in t.steps] != ["get_time"]]
        old = TrajectoryStep(tool_set="files", tool="read_file", arguments={"path": "x"})
        called = next(t for t in items if t.steps)
        deprecated = called.model_copy(update={"id": "old", "request": "old", "steps": (old,)})
        unseen = [t.model_copy(update={"verified": False}) for t in [*alone, deprecated]]
        write_trajectories(data / f"{split}.jsonl", unseen)
    write_base(tmp_path / "base")
    slots = "{tool_set}.{tool}" if each == "tool" else "{tool_set}"
    path = tmp_path / "recipe.toml"

    def written(subtask: str) -> list[str]:
        plan = f'[[adapters]]\nname = "{slots}"\nsubtask = "{subtask}"\neach = "{each}"\n'
        path.write_text(f'base_model = "base"\ndata = ["data"]\n{plan}', encoding="utf-8")
        recipe = read_recipe(path)
        for adapter in recipe.adapters:
            make_task(recipe, adapter, load_corpus([data]), Codec(tmp_path / "base", recipe.chat))
        return [adapter.name for adapter in recipe.adapters]

    tools = ["files.read_text_file", "files.list_directory"]
    assert written("arguments") == (tools if each == "tool" else ["files"])
    if each == "tool_set":
        assert written("select") == ["files"]
    (data / "dev.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(RecipeError, match=f"finds no {each.replace('_', ' ')} with calls"):
        written("arguments")


def _recipe(workspace: Path, folder: Path, text: str) -> Path:
    text = text.replace('"base"', f'"{workspace}/base"').replace('["data"', f'["{workspace}/data"')
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


def _quiet(_: Progress) -> None:
    return None
