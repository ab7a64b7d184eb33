"""Missing values: made from dev requests, measured as the device measures them."""

import json
from pathlib import Path

import llguidance
import pytest
import torch
from train.tiny import CLOCK, FILES, RECIPE

from afx_train.codec import Codec
from afx_train.corpus import load_corpus
from afx_train.job import run_job
from afx_train.marks import Marker, Marking
from afx_train.model import AdaptedModel, Rows, load_model
from afx_train.recipe import read_recipe
from afx_train.refusals import best_threshold
from afx_train.scoring import allowed_ids
from afx_train.starts import fresh_weights
from afx_train.supports import Probe, probes, support, support_decisions
from afx_train.task import Task, make_task
from afx_train.trajectory import Split, Trajectory, TrajectoryStep, write_trajectories
from agentflux.contracts.cards import read_card
from agentflux.contracts.grammar import copying_grammar
from agentflux.contracts.prompts import Boundary

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


@pytest.fixture(scope="module")
def copying(workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe whose data copies each path from the request; one of them is in the context too."""
    folder = tmp_path_factory.mktemp("copying")
    (folder / "data" / "tools").mkdir(parents=True)
    for name, tools in (("files", FILES), ("clock", CLOCK)):
        (folder / "data" / "tools" / f"{name}.json").write_text(json.dumps(tools))
    for split, count in (("train", 24), ("dev", 4), ("test", 1)):
        items = [_listing(split, number) for number in range(count)]  # type: ignore[arg-type]
        write_trajectories(folder / "data" / f"{split}.jsonl", items)
    text = RECIPE.replace('"base"', f'"{workspace}/base"').replace("epochs = 3", "epochs = 1")
    (folder / "recipe.toml").write_text(text, encoding="utf-8")
    return folder / "recipe.toml"


@pytest.fixture(scope="module")
def task(copying: Path, workspace: Path) -> Task:
    """The argument adapter's task."""
    recipe = read_recipe(copying)
    corpus = load_corpus([copying.parent / "data"])
    return make_task(
        recipe, recipe.named("args.files"), corpus, Codec(workspace / "base", recipe.chat)
    )


@pytest.fixture(scope="module")
def model(workspace: Path, task: Task) -> AdaptedModel:
    """The tiny base with a fresh adapter."""
    made = load_model(workspace / "base", task.settings.lora)
    fresh_weights(made, seed=1)
    return made


def test_a_value_is_missing_where_no_text_has_it(task: Task) -> None:
    found = list(probes(task))
    assert [probe.missing for probe in found] == [False, True, False, True, False, True, False]
    for probe in found:
        (value,) = json.loads(task.codec.text(probe.example.target)).values()
        stands = any(value in text for text in probe.texts)
        assert stands != probe.missing
        if probe.missing:
            assert probe.texts[0].startswith("list it please")


@pytest.mark.parametrize("boundary", ["request", "prompt"])
def test_support_is_what_plain_decoding_finds(
    task: Task, model: AdaptedModel, boundary: Boundary
) -> None:
    recipe = task.recipe.model_copy(update={"boundary": boundary})
    moved = make_task(recipe, task.plan, task.corpus, task.codec)
    for probe in list(probes(moved))[:3]:
        assert support(model, moved, probe) == pytest.approx(_plain(moved, model, probe), rel=1e-4)


def test_calibration_writes_both_kinds_of_threshold(
    copying: Path, task: Task, tmp_path: Path
) -> None:
    for name in ("args.files", "select.files"):
        run_job(copying, name, tmp_path, resume=False, report=lambda _: None)
    marker = Marker(copying, Marking(split="dev", calibrate="f1"))
    list(marker.adapters(tmp_path, ["args.files", "select.files"]))
    writes, selects = read_card(tmp_path / "args.files"), read_card(tmp_path / "select.files")
    assert writes is not None
    assert selects is not None
    assert selects.calibration.min_support == 0.0
    trained = marker._loaded(task.plan, _weights(tmp_path / "args.files"))[1]
    expected = best_threshold(support_decisions(trained, task), "f1").threshold
    assert writes.calibration.min_support == expected > 0.0
    assert writes.calibration.min_probability == 0.0


def _listing(split: Split, number: int) -> Trajectory:
    """The fourth of a split names its folder in the context as well."""
    folder = f"{split}{number}"
    step = TrajectoryStep(tool_set="files", tool="list_directory", arguments={"path": folder})
    return Trajectory(
        id=folder,
        request=f"list {folder} please {number}",
        context=f"Open: {folder}" if number == 3 else "",
        steps=(step,),
        phrasing=folder,
        kind="single",
        split=split,
    )


def _plain(task: Task, model: AdaptedModel, probe: Probe) -> float:
    """Greedy decoding that computes every row anew. The only argument is the one asked for."""
    grammar = copying_grammar(probe.spec, probe.seen.copied, probe.texts, worded=probe.seen.worded)
    matcher = llguidance.LLMatcher(task.codec.constrained, grammar)
    variant, done, lowest = task.variants[probe.example.group][0], list[int](), 1.0
    while not matcher.is_stopped():
        step = matcher.compute_ff_tokens()
        if not step:
            own = [(*probe.example.prompt, *done)]
            rows = Rows(lead=variant.lead, before=[probe.example.before], tokens=own)
            with torch.no_grad():
                shares = model.logits(model.hidden(variant.static, rows)[-1:])[0].softmax(0)
            allowed = allowed_ids(matcher.compute_bitmask())
            lowest = min(lowest, float(shares[allowed].sum()))
            step = [int(allowed[shares[allowed].argmax()])]
        matcher.consume_tokens(step)
        done += step
    return lowest


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    from afx_train.outputs import read_weights

    return read_weights(folder)
