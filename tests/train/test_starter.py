"""`afx-train init`: a recipe from running servers, and the reference of recipes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from afx_train.corpus import load_corpus
from afx_train.errors import RecipeError
from afx_train.recipe import read_recipe
from afx_train.reference import with_reference
from afx_train.starter import recipe_text, write_starter
from afx_train.trajectory import Trajectory, TrajectoryStep, schema_text, write_trajectories
from agentflux.contracts.tools import ToolSpec

SERVERS = Path(__file__).parents[1] / "servers"


def _catalog() -> dict[str, tuple[ToolSpec, ...]]:
    schema = {"type": "object", "properties": {"path": {"type": "string"}}}
    names = {"files": ("read", "list"), 'a "quoted" set': ("tell",)}
    return {
        name: tuple(ToolSpec(tool_set=name, name=n, input_schema=schema) for n in tools)
        for name, tools in names.items()
    }


def test_the_running_servers_tell_their_tools(tmp_path: Path) -> None:
    entry = {"command": sys.executable, "args": [str(SERVERS / "good.py")]}
    config = tmp_path / "servers.json"
    config.write_text(json.dumps({"mcpServers": {"good": entry}}), encoding="utf-8")
    out = tmp_path / "new" / "recipe.toml"
    out.parent.mkdir()
    command = [sys.executable, "-m", "afx_train.cli", "init", "--mcp", str(config)]
    done = subprocess.run(
        [*command, "--out", str(out)], capture_output=True, text=True, check=True, timeout=300
    )
    assert "1 tool sets, 4 tools" in done.stdout
    recipe = read_recipe(out)
    assert [(p.subtask, p.tool_set) for p in recipe.adapters] == [
        ("select", "good"),
        ("arguments", "good"),
    ]
    listed = json.loads((tmp_path / "new" / "data" / "tools" / "good.json").read_text())
    assert [tool["name"] for tool in listed] == ["echo", "fail", "slow", "count"]


@pytest.mark.parametrize("size", ["small", "7b"])
@pytest.mark.parametrize("granularity", ["per_tool_set", "per_tool", "shared", "shared+delta"])
def test_every_starter_is_a_valid_recipe(tmp_path: Path, size: str, granularity: str) -> None:
    path = tmp_path / "recipe.toml"
    catalog = {"files": _catalog()["files"], "clock": _catalog()["files"]}
    write_starter(path, catalog, model="m", size=size, granularity=granularity)
    calls = (TrajectoryStep(tool_set="files", tool="read"),)
    for split in ("train", "dev"):
        item = Trajectory.model_validate(
            {
                "id": "x",
                "request": "r",
                "steps": calls,
                "phrasing": "p",
                "kind": "k",
                "split": split,
            }
        )
        write_trajectories(tmp_path / "data" / f"{split}.jsonl", [item])
    recipe = read_recipe(path)
    names = [p.name for p in recipe.adapters if p.subtask == "arguments"]
    assert (
        names
        == {
            "per_tool_set": ["args.files", "args.clock"],
            "per_tool": ["args.files.read"],
            "shared": ["args"],
            "shared+delta": ["args", "args.files.read"],
        }[granularity]
    )
    assert recipe.lora.rank == {"small": 12, "7b": 32}[size]
    assert set(load_corpus([tmp_path / "data"]).catalog) == {"files", "clock"}


def test_names_are_quoted_as_toml_needs_it() -> None:
    import tomllib

    text = recipe_text(_catalog(), model="m", size="small", granularity="shared")
    plans = tomllib.loads(text)["adapters"]
    assert {p.get("tool_set") for p in plans} == {None, "files", 'a "quoted" set'}


def test_an_existing_recipe_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text("mine", encoding="utf-8")
    with pytest.raises(RecipeError, match="--force"):
        write_starter(path, _catalog(), model="m", size="small", granularity="shared")
    with pytest.raises(RecipeError, match="none of small, 7b"):
        write_starter(path, _catalog(), model="m", size="70b", granularity="shared")
    assert path.read_text(encoding="utf-8") == "mine"


def test_the_recipes_reference_is_what_validates_it(repository: Path) -> None:
    text = (repository / "docs" / "training.md").read_text(encoding="utf-8")
    assert with_reference(text) == text, "run: python -m afx_train.reference docs/training.md"
    assert "| `patience` |" in text


def test_the_published_schema_is_the_one_that_is_read(repository: Path) -> None:
    from jsonschema import Draft202012Validator

    text = (repository / "docs" / "trajectory.schema.json").read_text(encoding="utf-8")
    assert text == schema_text(), "run: afx-train data schema > docs/trajectory.schema.json"
    validator = Draft202012Validator(json.loads(text))
    line = {"id": "1", "request": "r", "phrasing": "p", "kind": "single", "split": "train"}
    step = {"tool_set": "s", "tool": "t", "arguments": {"a": 1}}
    assert validator.is_valid(line | {"steps": [step], "verified": False})
    for wrong in ({"split": "all"}, {"request": 3}, {"extra": 1}, {"steps": [step | {"x": 1}]}):
        assert not validator.is_valid(line | wrong)
