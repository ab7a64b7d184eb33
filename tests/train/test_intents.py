"""Training the intent classifier on a data folder."""

import subprocess
import sys
from pathlib import Path

import pytest
from train.tiny import write_data

from afx_train.corpus import load_corpus
from afx_train.errors import DataError
from afx_train.intents import train_intents
from agentflux.contracts.intents import load_intents


def test_it_learns_which_words_ask_for_which_tool(tmp_path: Path) -> None:
    data = load_corpus([write_data(tmp_path / "data")])
    learned = train_intents(data)
    assert learned.right > 0.9 * learned.asked > 0
    again = train_intents(data)
    assert (again.intents.first.weights == learned.intents.first.weights).all()


def test_a_deprecated_tool_is_known_and_never_likely(tmp_path: Path) -> None:
    intents = train_intents(load_corpus([write_data(tmp_path / "data")])).intents
    assert "files/read_file" in intents.labels
    assert intents.log_probabilities("read_file a.txt")["files/read_file"] < -20


def test_the_command_writes_what_export_looks_for(workspace: Path, tmp_path: Path) -> None:
    recipe = str(workspace / "recipe.toml")
    command = [sys.executable, "-m", "afx_train.cli", "intents", recipe]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "dev requests right" in done.stderr
    assert load_intents(tmp_path / "adapters" / "intents.npz").card["learned"].isdigit()


def test_data_without_two_labels_is_refused(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    lines = (data / "train.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (data / "train.jsonl").write_text(lines[0], encoding="utf-8")
    with pytest.raises(DataError, match="two tools at least"):
        train_intents(load_corpus([data]))
