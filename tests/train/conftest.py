"""One tiny workspace for the trainer's tests: base model, data, recipe."""

import warnings
from pathlib import Path

import pytest
import torch
from train.asked import write_model
from train.tiny import RECIPE, write_base, write_data

from afx_train.codec import Codec
from afx_train.corpus import Corpus, load_corpus
from afx_train.recipe import Recipe, read_recipe


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with base/, data/ and recipe.toml; read-only for the tests."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("train")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        write_base(folder / "base")
    write_data(folder / "data")
    (folder / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def recipe(workspace: Path) -> Recipe:
    """The workspace's recipe."""
    return read_recipe(workspace / "recipe.toml")


@pytest.fixture(scope="session")
def corpus(workspace: Path) -> Corpus:
    """The workspace's data."""
    return load_corpus([workspace / "data"])


@pytest.fixture(scope="session")
def codec(workspace: Path, recipe: Recipe) -> Codec:
    """The workspace's tokenizer."""
    return Codec(workspace / "base", recipe.chat)


@pytest.fixture(scope="session")
def words_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder whose tokenizer has the words of `train.asked` as one token each."""
    folder = tmp_path_factory.mktemp("words")
    write_model(folder)
    return folder
