"""The wheel in an empty environment, with only what `[cpu,mcp]` brings."""

import json
import subprocess
import sys
import urllib.request
import venv
import zipfile
from pathlib import Path

import pytest
from service.containerfile import copy_as_the_container_does, health_check, instruction
from service.support import until

from agentflux.contracts.cache import cache_folder

pytestmark = pytest.mark.model

HEAVY = ["torch", "transformers", "peft", "onnx", "fastapi", "mcp", "onnxruntime_genai"]


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """A Python with the wheel, installed from the wheels in the cache folder, offline.

    It is built from what the service's container file copies.
    """
    folder = tmp_path_factory.mktemp("bare")
    copy_as_the_container_does(repository, folder / "src")
    venv.create(folder / "env", with_pip=True)
    python = folder / "env" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", str(folder)]
    subprocess.run([*build, str(folder / "src")], check=True, capture_output=True)
    wheel = next(folder.glob("*.whl"))
    links = ["--no-index", "--find-links", str(cache_folder() / "wheels")]
    pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, *links, f"{wheel}[cpu,mcp]"], check=True)
    return python


def test_the_demo_bundle_runs(bare: Path, desk_bundle: Path, tmp_path: Path) -> None:
    """One request with a function as a tool; nothing is written into the home folder."""
    home = tmp_path / "home"
    home.mkdir()
    program = (
        "import agentflux, json\n"
        "def read_text_file(path: str) -> str:\n"
        "    '''Read a file as text.'''\n"
        "    return 'rye bread'\n"
        f"with agentflux.open_bundle({str(desk_bundle)!r}, tools=[read_text_file]) as agent:\n"
        "    print(agent.run('read notes.txt').to_json())\n"
    )
    environment = {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "PATH": ""}
    done = subprocess.run(
        [str(bare), "-c", program],
        check=True,
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
    )
    assert {"steps", "answer", "stopped", "trace"} <= set(json.loads(done.stdout))
    assert list(home.rglob("*")) == []


def test_importing_the_sdk_loads_nothing_heavy(bare: Path) -> None:
    program = f"import sys, agentflux; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([str(bare), "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_type_checkers_are_told_that_the_packages_have_types(bare: Path) -> None:
    with zipfile.ZipFile(next(bare.parents[2].glob("*.whl"))) as wheel:
        marked = {name for name in wheel.namelist() if name.endswith("py.typed")}
    packages = ("agentflux", "afx_export", "afx_profiles", "afx_train")
    assert marked == {f"{package}/py.typed" for package in packages}


@pytest.mark.parametrize(
    ("command", "extra"), [("afx-export", "cpu,export"), ("afx-train", "train")]
)
def test_a_missing_extra_is_named(bare: Path, command: str, extra: str, tmp_path: Path) -> None:
    script = bare.with_name(command)
    arguments = {
        "afx-export": ["build", "--model", str(tmp_path), "--profile", "cpu-int4", "--out", "b"],
        "afx-train": ["run", str(tmp_path / "recipe.toml")],
    }
    done = subprocess.run(
        [str(script), *arguments[command]],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 3, done.stderr
    assert f"agentflux-edge[{extra}]" in done.stderr


@pytest.mark.parametrize("command", ["afx", "afx-export", "afx-train"])
def test_help_needs_no_extra(bare: Path, command: str) -> None:
    done = subprocess.run(
        [str(bare.with_name(command)), "--help"], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout


def test_the_service_comes_with_its_extra(
    bare: Path, desk_bundle: Path, tmp_path: Path, repository: Path
) -> None:
    """Without the extra it is named; with it, the service and its page run as in the container."""
    serve = [str(bare.with_name(json.loads(instruction(repository, "ENTRYPOINT"))[0]))]
    servers = tmp_path / "servers.json"
    servers.write_text('{"mcpServers": {}}', encoding="utf-8")
    here = {"/bundle": desk_bundle, "/servers.json": servers, "/data": tmp_path / "data"}
    given = dict(pair.split("=") for pair in instruction(repository, "ENV").split())
    environment = {name: str(here.get(value, value)) for name, value in given.items()}
    environment |= {"PATH": "", "AFX_SERVE_PORT": "0"}
    missing = subprocess.run(serve, check=False, capture_output=True, text=True, env=environment)
    assert missing.returncode == 3, missing.stderr
    assert "agentflux-edge[service]" in missing.stderr
    wheel = next(bare.parents[2].glob("*.whl"))
    links = ["--no-index", "--find-links", str(cache_folder() / "wheels")]
    pip = [str(bare), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, *links, f"{wheel}[service]"], check=True)
    with (tmp_path / "log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            serve, stdout=subprocess.PIPE, stderr=log, text=True, env=environment, cwd=tmp_path
        )
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip().replace("0.0.0.0", "127.0.0.1")
            for path in ("/", "/web/app.js", "/docs"):
                with urllib.request.urlopen(address + path) as answer:
                    assert answer.status == 200
            check = health_check(repository, address.rpartition(":")[2])
            healthy = [str(bare), *check]
            until(
                lambda: not subprocess.run(healthy, check=False, capture_output=True).returncode,
                "it is healthy",
            )
        finally:
            process.terminate()
            process.communicate(timeout=60)
    assert process.returncode == 0, (tmp_path / "log").read_text(encoding="utf-8")
