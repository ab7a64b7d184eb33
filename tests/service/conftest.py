"""One service for all tests that only talk to it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from service.support import Service, clock, start


@pytest.fixture(scope="session")
def service_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("service")


@pytest.fixture(scope="session")
def service(desk_bundle: Path, service_folder: Path) -> Iterator[Service]:
    """The real process with the sample's bundle and a clock whose calls ask for approval."""
    servers = clock(service_folder)
    running = start(
        desk_bundle,
        service_folder,
        servers=servers,
        requests_per_minute="100000",
        queue="64",
        header_seconds="4",
    )
    yield running
    assert running.stop() == 0, running.log.read_text(encoding="utf-8")
