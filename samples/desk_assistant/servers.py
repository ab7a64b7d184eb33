"""The five MCP servers of the sample: installed once into the cache folder, then used offline.

filesystem and memory come from npm (`npm ci`, run by node); git, time and sqlite from PyPI, each in
an environment of its own, as uvx would do it (sqlite needs mcp < 2). Versions are pinned in
`server_packages/`.

    python samples/desk_assistant/servers.py WORKSPACE        # and writes WORKSPACE/servers.json
    python samples/desk_assistant/servers.py --install-only
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypedDict

from agentflux import AgentFluxError, cache_folder, errors

PACKAGES = Path(__file__).parent / "server_packages"
PYTHON_SERVERS = ("git", "time", "sqlite")
_DONE = "installed.sha256"
_TIMEOUT_S = 600


class Entry(TypedDict):
    """One server of an `mcpServers` file."""

    command: str
    args: list[str]
    env: dict[str, str]


class InstallError(AgentFluxError):
    """A server could not be installed."""


def servers_folder() -> Path:
    """Return where the servers are installed."""
    return cache_folder() / "servers"


def install() -> Path:
    """Install what is missing and return the folder. Does nothing, offline, when all is there.

    Raises:
        InstallError: node, npm or the network is missing; says which command failed.
    """
    folder = servers_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(max_workers=2) as pool:
        jobs = [pool.submit(_install_npm, folder / "npm")]
        jobs += [pool.submit(_install_python, folder / name, name) for name in PYTHON_SERVERS]
        for job in jobs:
            job.result()
    return folder


def server_commands(
    *, files: Path, database: Path, graph: Path, local_zone: str = "UTC"
) -> dict[str, Entry]:
    """Return the `mcpServers` entries: one folder of files, one database, one knowledge graph.

    The git server takes the repository with every call.
    """
    folder = servers_folder()
    npm = folder / "npm" / "node_modules" / "@modelcontextprotocol"
    sqlite, time = _script(folder / "sqlite", "mcp-server-sqlite"), folder / "time"
    return {
        "filesystem": _entry("node", npm / "server-filesystem" / "dist" / "index.js", files),
        "git": _entry(_script(folder / "git", "mcp-server-git")),
        "sqlite": _entry(sqlite, "--db-path", database),
        "time": _entry(_script(time, "mcp-server-time"), "--local-timezone", local_zone),
        "memory": {
            **_entry("node", npm / "server-memory" / "dist" / "index.js"),
            "env": {"MEMORY_FILE_PATH": str(graph)},
        },
    }


def write_servers_json(workspace: Path, target: Path | None = None) -> Path:
    """Write the workspace's servers.json in the format of desktop clients, and return its path."""
    path, root = target or workspace / "servers.json", workspace.absolute()
    (root / "data").mkdir(parents=True, exist_ok=True)
    commands = server_commands(
        files=root, database=root / "data" / "desk.db", graph=root / "data" / "memory.jsonl"
    )
    text = json.dumps({"mcpServers": commands}, indent=2, ensure_ascii=False)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(path)
    return path


def _entry(command: str | Path, *args: str | Path) -> Entry:
    return {"command": str(command), "args": [str(arg) for arg in args], "env": {}}


def _script(venv: Path, name: str) -> Path:
    if os.name == "nt":
        return venv / "Scripts" / f"{name}.exe"
    return venv / "bin" / name


def _install_npm(folder: Path) -> None:
    wanted = _digest(PACKAGES / "package.json", PACKAGES / "package-lock.json")
    if _is_done(folder, wanted):
        return
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        message = "node and npm are needed for the filesystem and memory servers; install Node.js"
        raise InstallError(message)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name in ("package.json", "package-lock.json"):
        shutil.copy(PACKAGES / name, folder / name)
    _call(npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts", cwd=folder)
    (folder / _DONE).write_text(wanted, encoding="utf-8")


def _install_python(venv: Path, name: str) -> None:
    wanted = _digest(PACKAGES / f"{name}.txt")
    if _is_done(venv, wanted):
        return
    shutil.rmtree(venv, ignore_errors=True)
    _call(sys.executable, "-m", "venv", str(venv), cwd=venv.parent)
    python = _script(venv, "python")
    requirements = str(PACKAGES / f"{name}.txt")
    options = ("--quiet", "--disable-pip-version-check", "--no-deps", "-r", requirements)
    _call(str(python), "-m", "pip", "install", *options, cwd=venv)
    (venv / _DONE).write_text(wanted, encoding="utf-8")


def _digest(*files: Path) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _is_done(folder: Path, wanted: str) -> bool:
    mark = folder / _DONE
    return mark.is_file() and mark.read_text(encoding="utf-8") == wanted


def _call(*command: str, cwd: Path) -> None:
    try:
        done = subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        message = f"{' '.join(command)}: {error}"
        raise InstallError(message) from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-800:]
        message = f"{' '.join(command)} failed; is the package registry reachable? It said: {said}"
        raise InstallError(message)


def main() -> None:
    """Install the servers; write servers.json where the command line names a workspace."""
    if len(sys.argv) != 2:
        print("usage: python servers.py WORKSPACE | --install-only", file=sys.stderr)
        raise SystemExit(2)
    try:
        folder = install()
        only = sys.argv[1] == "--install-only"
        print(folder if only else write_servers_json(Path(sys.argv[1])))
    except (InstallError, errors.ConfigError, OSError) as error:
        print(error, file=sys.stderr)
        raise SystemExit(4) from error


if __name__ == "__main__":
    main()
