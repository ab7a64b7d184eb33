"""Training the intent classifier on a data folder."""

import subprocess
import sys
from pathlib import Path

import pytest
from train.tiny import write_data

from afx_train.corpus import load_corpus
from afx_train.errors import DataError
from afx_train.intents import train_intents
from afx_train.trajectory import Trajectory, TrajectoryStep, write_trajectories
from agentflux.contracts.intents import load_intents, surely_given


def test_it_learns_which_words_ask_for_which_tool(tmp_path: Path, workspace: Path) -> None:
    data = load_corpus([write_data(tmp_path / "data")])
    learned = train_intents(data, workspace / "base", seed=0)
    assert learned.right > 0.9 * learned.asked > 0
    assert learned.intents.reader is None  # the tokenizer has no whole words
    again = train_intents(data, workspace / "base", seed=0)
    assert (again.intents.first.weights == learned.intents.first.weights).all()


def test_a_deprecated_tool_is_known_and_never_likely(tmp_path: Path, words_base: Path) -> None:
    intents = train_intents(
        load_corpus([write_data(tmp_path / "data")]), words_base, seed=0
    ).intents
    assert "files/read_file" in intents.labels
    assert intents.log_probabilities("read_file a.txt")["files/read_file"] < -20


def test_the_command_writes_what_export_looks_for(workspace: Path, tmp_path: Path) -> None:
    recipe = str(workspace / "recipe.toml")
    command = [sys.executable, "-m", "afx_train.cli", "intents", recipe]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "dev requests right" in done.stderr
    assert load_intents(tmp_path / "adapters" / "intents.npz").card["learned"].isdigit()


def test_it_learns_which_words_give_an_optional_parameter(tmp_path: Path, workspace: Path) -> None:
    base = workspace / "base"
    folder = write_data(tmp_path / "data")
    calls = [("peek at", {"path": "a", "head": 1}), ("read", {"path": "a"})] * 80
    for split in ("train", "dev"):
        steps = [
            TrajectoryStep(tool_set="files", tool="read_text_file", arguments=made, observation="x")
            for _, made in calls
        ]
        items = [
            Trajectory(
                id=f"more{number}",
                request=f"{verb} file {number}",
                steps=(step,),
                phrasing=verb,
                kind="single",
                split=split,
            )
            for number, ((verb, _), step) in enumerate(zip(calls, steps, strict=True))
        ]
        write_trajectories(folder / f"{split}.jsonl", items)
    listed = tmp_path / "data" / "train.jsonl"
    other = write_data(tmp_path / "other") / "train.jsonl"
    with listed.open("a", encoding="utf-8") as stream:
        stream.write(other.read_text(encoding="utf-8"))
    intents = train_intents(load_corpus([folder]), base, seed=0).intents
    told = (
        intents.odds_given("files/read_text_file", f"{ask} file b") for ask in ("peek at", "read")
    )
    assert [surely_given(odds["head"]) for odds in told] == [True, False]
    few = train_intents(load_corpus([tmp_path / "other"]), base, seed=0).intents
    assert few.given is None


def test_data_without_two_labels_is_refused(tmp_path: Path, workspace: Path) -> None:
    data = write_data(tmp_path / "data")
    lines = (data / "train.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (data / "train.jsonl").write_text(lines[0], encoding="utf-8")
    with pytest.raises(DataError, match="two tools at least"):
        train_intents(load_corpus([data]), workspace / "base", seed=0)
