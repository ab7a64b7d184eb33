"""The tutorial as it stands: its files are written, its commands run.

Training and export take minutes, so they run with `make tutorial`; always run: the server, the
data against it, and whether the recipe and the commands are ones of this version.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from afx_train.corpus import load_corpus
from afx_train.recipe import read_recipe

BIN = Path(sys.executable).parent
WHOLE = os.environ.get("AFX_TUTORIAL") == "1"


@pytest.fixture(scope="module")
def text(repository: Path) -> str:
    return (repository / "docs" / "tutorial.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def folder(text: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tutorial's files, each named in the text before its block."""
    made = tmp_path_factory.mktemp("tutorial")
    blocks = re.findall(r"`([a-z_]+\.(?:py|json|toml))`[^`]*\n```[a-z]+\n(.*?)```", text, re.DOTALL)
    # `servers.json` is named a sentence earlier than its block, behind another name.
    blocks += [("servers.json", re.findall(r"```json\n(.*?)```", text, re.DOTALL)[0])]
    for name, body in blocks:
        (made / name).write_text(body, encoding="utf-8")
    return made


def commands(text: str) -> list[str]:
    shell = "".join(re.findall(r"```bash\n(.*?)```", text, re.DOTALL))
    return [line for line in shell.splitlines() if line]


def run(command: str, folder: Path) -> str:
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env={**os.environ, "PATH": path},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_data_is_made_on_the_real_server(folder: Path) -> None:
    run("python make_data.py", folder)
    corpus = load_corpus([folder / "data"])
    assert {tool.name for tool in corpus.catalog["pantry"]} == {
        "list_items",
        "add_item",
        "take_item",
    }
    splits = {item.split for item in corpus.trajectories}
    assert splits == {"train", "dev", "test"}
    wordings = {s: {t.phrasing for t in corpus.trajectories if t.split == s} for s in splits}
    assert not wordings["train"] & wordings["test"]
    assert all(step.observation for item in corpus.trajectories for step in item.steps)


def test_the_recipe_and_the_commands_are_of_this_version(folder: Path, text: str) -> None:
    recipe = read_recipe(folder / "recipe.toml")
    assert [adapter.name for adapter in recipe.adapters] == ["select.pantry", "args.pantry"]
    json.loads((folder / "servers.json").read_text(encoding="utf-8"))
    for command in commands(text):
        if command.startswith("afx"):
            assert "Usage" in run(" ".join([*command.split()[:2], "--help"]), folder)


@pytest.mark.skipif(not WHOLE, reason="minutes of training: make tutorial")
@pytest.mark.model
def test_the_whole_tutorial_ends_with_an_assistant_that_calls_its_tool(
    folder: Path, text: str
) -> None:
    (folder / "pantry.json").unlink(missing_ok=True)
    said = {
        command: run(command, folder) for command in commands(text) if "make_data" not in command
    }
    last, before = list(said.values())[-1], list(said.values())[-2]
    assert "select.pantry" in before
    assert "add_item" in before
    assert "lentils" in (folder / "pantry.json").read_text(encoding="utf-8")
    assert "list_items" in last
