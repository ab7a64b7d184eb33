"""A small world without servers, and the sample's own worlds."""

from pathlib import Path

import pytest
from train.data.shelf import PHRASINGS, SAMPLE, ShelfWorld

from afx_train.data.worlds import World, load_worlds


@pytest.fixture
def grammars(tmp_path: Path) -> Path:
    """A folder with one phrasing file."""
    folder = tmp_path / "grammars" / "shelf"
    folder.mkdir(parents=True)
    (folder / "taking.yaml").write_text(PHRASINGS, encoding="utf-8")
    return folder.parent


@pytest.fixture
def shelf() -> dict[str, ShelfWorld]:
    """The worlds by tool set."""
    return {"shelf": ShelfWorld()}


@pytest.fixture
def worlds(tmp_path: Path) -> dict[str, World]:
    """The sample's worlds, in a scratch folder."""
    scratch = tmp_path / "scratch"
    return load_worlds(SAMPLE / "worlds.py", scratch=scratch, grammars=SAMPLE / "phrasings")
