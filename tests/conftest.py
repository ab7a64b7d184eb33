"""Set-up that needs the real weights: built once into the cache folder by tests/prepare.py."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DESK = ROOT / "samples" / "desk_assistant"


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def desk_bundle() -> Path:
    """The sample's bundle, built when it is not in the cache folder yet."""
    done = subprocess.run(
        [sys.executable, str(DESK / "bundle.py")], check=True, capture_output=True, text=True
    )
    return Path(done.stdout.strip().splitlines()[-1])


@pytest.fixture(scope="session")
def desk_engine(desk_bundle: Path) -> Iterator[object]:
    """One engine over the sample's bundle, for all tests that only read from it."""
    from agentflux.contracts.bundle import read_manifest
    from agentflux.session import open_engine

    engine = open_engine(desk_bundle, read_manifest(desk_bundle), threads=2)
    yield engine
    engine.close()
