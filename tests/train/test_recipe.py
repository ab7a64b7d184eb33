"""Recipes: what is accepted, and what a person is told otherwise."""

from pathlib import Path

import pytest
from train.tiny import RECIPE

from afx_train.errors import RecipeError
from afx_train.recipe import base_folder, data_folders, read_recipe


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A valid recipe without its base model and data."""
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("rank = 4", "rnak = 4", "lora.rnak: Extra inputs are not permitted"),
        ("rank = 4", "rank = 0", "lora.rank: Input should be greater than or equal to 1"),
        ("seed = 5", "sed = 5", "known: base_model, data, seed"),
        ('base_model = "base"', "", "base_model: Field required"),
        ('name = "args.files"', 'name = "route"', "adapter 'route' stands twice"),
        ('subtask = "route"', 'subtask = "route"\ntool_set = "x"', "has no tool_set of its own"),
        (
            'subtask = "route"',
            'subtask = "route"\nwarm_start = "args.files"',
            "earlier in the plan",
        ),
        ('subtask = "route"', 'subtask = "select"\ntool = "x"', "needs subtask 'arguments'"),
        ('subtask = "route"', 'subtask = "route"\noverrides.lra.rank = 2', "unknown section 'lra'"),
        ('subtask = "route"', 'subtask = "route"\noverrides.lora.rnak = 2', "rnak"),
        ("seed = 5", "seed = ", "cannot be read as TOML"),
        ('subtask = "route"', 'subtask = "joint"\nof = ["route"]', "needs others that are not"),
        (
            'subtask = "route"',
            'subtask = "joint"\noverrides.training.epochs = 9',
            "more epochs than any of its parts",
        ),
    ],
)
def test_a_wrong_recipe_is_refused_with_file_and_key(
    written: Path, old: str, new: str, said: str
) -> None:
    written.write_text(RECIPE.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(RecipeError) as raised:
        read_recipe(written)
    assert said in str(raised.value)
    assert raised.value.where == str(written)


def test_overrides_hold_for_their_adapter_only(written: Path) -> None:
    text = RECIPE.replace('subtask = "route"', 'subtask = "route"\noverrides.training.epochs = 9')
    written.write_text(text, encoding="utf-8")
    recipe = read_recipe(written)
    route, select, _ = recipe.adapters
    assert recipe.settings(route).training.epochs == 9
    assert recipe.settings(route).training.batch_tokens == 400
    assert recipe.settings(select).training.epochs == 3


def test_a_missing_base_model_names_the_command_that_fetches_it(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTFLUX_CACHE", str(written.parent / "cache"))
    with pytest.raises(RecipeError, match="run: afx-export fetch base"):
        base_folder(read_recipe(written), written)


def test_a_fetched_catalogue_model_is_found_by_name(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTFLUX_CACHE", str(written.parent / "cache"))
    folder = written.parent / "cache" / "models" / "base"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}", encoding="utf-8")
    assert base_folder(read_recipe(written), written) == folder


def test_a_missing_data_folder_names_the_command_that_makes_it(written: Path) -> None:
    with pytest.raises(RecipeError, match="afx-train data build"):
        data_folders(read_recipe(written), written)


def test_the_samples_recipe_covers_five_tool_sets_and_the_choice_among_them(
    repository: Path,
) -> None:
    sets = ("filesystem", "git", "memory", "sqlite", "time")
    own = {(subtask, name) for subtask in ("select", "arguments") for name in sets}
    assert _placed(repository / "samples" / "desk_assistant") == own | {("route", None)}


def test_the_samples_general_recipe_serves_tools_that_nobody_trained_for(repository: Path) -> None:
    roles = {"select", "arguments"}
    assert _placed(repository / "samples" / "general") == {(role, None) for role in roles}


def _placed(folder: Path) -> set[tuple[str, str | None]]:
    recipe = read_recipe(folder / "recipe.toml")
    return {(plan.subtask, plan.tool_set) for plan in recipe.adapters}
