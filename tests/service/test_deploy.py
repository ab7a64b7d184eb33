"""What `deploy/` names exists: files, commands, extras, settings; systemd reads its unit."""

import re
import shlex
import shutil
import subprocess
import tomllib
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from service.containerfile import copied, instruction

from edge_service.settings import ENV_PREFIX, Settings


@pytest.fixture(scope="module")
def deploy(repository: Path) -> Path:
    return repository / "samples" / "edge_service" / "deploy"


@pytest.fixture(scope="module")
def project(repository: Path) -> dict[str, object]:
    text = (repository / "pyproject.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)["project"]


def assert_settings(names: set[str]) -> None:
    assert names
    assert names <= {f"{ENV_PREFIX}{field.upper()}" for field in Settings.model_fields}


def test_the_container_file_names_what_there_is(
    repository: Path, project: dict[str, object]
) -> None:
    """tests/packaging takes its steps: copy, install, start, check the health."""
    (extras,) = re.findall(r"/src\[([a-z,]+)\]", instruction(repository, "RUN"))
    assert set(extras.split(",")) <= set(project["optional-dependencies"])  # type: ignore[call-overload]
    assert (Path(".ci/constraints.txt"), ".ci/constraints.txt") in copied(repository)
    assert "-c /src/.ci/constraints.txt" in instruction(repository, "RUN")
    assert_settings({pair.partition("=")[0] for pair in instruction(repository, "ENV").split()})


def test_the_windows_notes_name_our_commands(deploy: Path, project: dict[str, object]) -> None:
    text = (deploy / "windows.md").read_text(encoding="utf-8")
    (body,) = re.findall(r"```xml\n(.*?)```", text, re.DOTALL)
    service = ET.fromstring(body)  # noqa: S314 - our own file
    command = str(service.findtext("executable")).rpartition("\\")[2]
    assert command.removesuffix(".exe") in project["scripts"]  # type: ignore[operator]
    assert shlex.split(str(service.findtext("arguments")))[0] == "--config"
    assert_settings({str(env.get("name")) for env in service.iter("env")})
    assert (
        int(str(service.findtext("stoptimeout")).split()[0])
        > Settings.model_fields["drain_seconds"].default + 20
    )


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_accepts_the_unit(deploy: Path, tmp_path: Path) -> None:
    text = (deploy / "afx-serve.service").read_text(encoding="utf-8")
    assert_settings(set(re.findall(r"AFX_SERVE_[A-Z_]+", text)))
    assert "\nKillMode=mixed\n" in text, "else a stop ends the model and the tools first"
    unit = tmp_path / "afx-serve.service"
    here = text.replace("/opt/afx-serve/bin/afx-serve", str(shutil.which("true")))
    unit.write_text(here, encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
