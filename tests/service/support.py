"""The real service as a process: started with the sample's bundle, stopped or killed by tests."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

CLOCK = Path(__file__).parents[1] / "servers" / "clock.py"
# A loaded machine takes minutes for what an idle one does in a second.
PATIENCE_S = 600.0
ASK_TIME = "What time is it in Tokyo right now?"


def report_figures(**figures: Any) -> None:
    """Add what a long run counted to the JSON file that AFX_FIGURES names."""
    if path := os.environ.get("AFX_FIGURES"):
        file = Path(path)
        so_far = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        text = json.dumps({**so_far, **figures}, indent=1) + "\n"
        file.write_text(text, encoding="utf-8")


def until(check: Callable[[], Any], what: str, timeout_s: float = PATIENCE_S) -> Any:
    """Return the first true value of `check`."""
    deadline, pause = time.monotonic() + timeout_s, threading.Event()
    while time.monotonic() < deadline:
        if value := check():
            return value
        pause.wait(0.05)
    raise AssertionError(f"{what}: not within {timeout_s:g} s")


@dataclass
class Service:
    """A running service, and a client with its first key."""

    process: subprocess.Popen[str]
    url: str
    data: Path
    log: Path
    accepted: list[str] = field(default_factory=list)

    @property
    def key(self) -> str:
        return (self.data / "first-key").read_text(encoding="utf-8").strip()

    def client(self, key: str | None = None, **options: Any) -> httpx.Client:
        headers = {"Authorization": f"Bearer {key or self.key}", **options.pop("headers", {})}
        # A connection kept alive may be closed by the server in the moment of its next use.
        fresh = httpx.Limits(max_keepalive_connections=0)
        options = {"limits": fresh, "timeout": PATIENCE_S, **options}
        return httpx.Client(base_url=self.url, headers=headers, **options)

    def ready(self) -> bool:
        return httpx.get(f"{self.url}/health/ready", timeout=PATIENCE_S).status_code == 200

    def new_key(self, name: str, tenant: str | None = None) -> str:
        return keys(self.data, "add", name, *(["--tenant", tenant] if tenant else [])).strip()

    def accept_held(self) -> list[str]:
        """Accept the clock's tools: they are not those that the bundle was exported with."""
        with self.client() as client:
            catalog = client.get("/v1/tools").json()
            usable = {(s["name"], t["name"]) for s in catalog["tool_sets"] for t in s["tools"]}
            held = catalog["held"]
            for one in held:
                assert (one["tool_set"], one["tool"]["name"]) not in usable
                body = {"tool_set": one["tool_set"], "tool": one["tool"]["name"]}
                done = client.post("/v1/tools/accept", json={**body, "sha256": one["sha256"]})
                assert done.status_code == 200, done.text
        return [one["tool"]["name"] for one in held]

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(how)
        code = self.process.wait(timeout=PATIENCE_S)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code


def start(
    bundle: Path,
    folder: Path,
    *options: str,
    servers: Path | None,
    **env: str,
) -> Service:
    """Start the service with its data in `folder`, on a free port; wait until it is ready."""
    log = folder / "service.log"
    command = [sys.executable, "-m", "edge_service.cli", str(bundle), "--port", "0"]
    command += ["--data", str(folder / "state"), "--threads", "2", *options]
    command += ["--mcp", str(servers)] if servers else []
    settings = {f"AFX_SERVE_{name.upper()}": value for name, value in env.items()}
    with log.open("a", encoding="utf-8") as stream:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=stream,
            text=True,
            env={**os.environ, **settings},
        )
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    assert url, log.read_text(encoding="utf-8")
    service = Service(process, url, folder / "state", log)
    try:
        until(service.ready, "the service is ready")
        service.accepted = service.accept_held()
    except BaseException:
        process.kill()
        raise
    return service


def clock(folder: Path, seconds: float = 0.0, more: str = "") -> Path:
    """Write a servers.json with the logging clock. more: behind a tool's description."""
    entry = {
        "command": sys.executable,
        "args": [str(CLOCK), str(folder / "clock.log"), f"{seconds}", more],
    }
    path = folder / "servers.json"
    path.write_text(json.dumps({"mcpServers": {"time": entry}}), encoding="utf-8")
    return path


@contextmanager
def clock_that_says(folder: Path, text: str) -> Iterator[None]:
    """Put a text behind each time that the clock tells."""
    says = folder / "clock.log.says"
    says.write_text(text, encoding="utf-8")
    try:
        yield
    finally:
        says.unlink()


def clock_log(folder: Path) -> list[dict[str, Any]]:
    """What the clock wrote."""
    path = folder / "clock.log"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def keys(data: Path, *arguments: str) -> str:
    """Run `afx-serve keys`."""
    command = [sys.executable, "-m", "edge_service.cli", "keys", *arguments, "--data", str(data)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def events(response: httpx.Response) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Read (id, type, data) of a stream of server-sent events."""
    number, kind = 0, ""
    for line in response.iter_lines():
        if line.startswith("id: "):
            number = int(line[4:])
        elif line.startswith("event: "):
            kind = line[7:]
        elif line.startswith("data: "):
            yield number, kind, json.loads(line[6:])
