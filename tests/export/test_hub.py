"""The hub source: the real huggingface_hub over HTTP, against a server with the hub's routes."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tiny_models import save_model

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPO = "owner/tiny"
LARGE = "more.safetensors"


class Hub(ThreadingHTTPServer):
    """Serves one repository. `broken`: how many downloads of the large file end half-way first."""

    def __init__(self, folder: Path, *, broken: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), _Routes)
        self.folder, self.broken = folder, broken
        self.downloads: list[tuple[str, str]] = []

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"


class _Routes(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        at = {f"/api/models/{REPO}", f"/api/models/{REPO}/revision/main"}
        at |= {f"/api/models/{REPO}/revision/{COMMIT}"}
        if path in at:
            self._send(200, json.dumps(self._info()).encode(), {}, with_body=with_body)
        elif path == f"/api/models/{REPO}/tree/{COMMIT}":
            self._send(200, json.dumps(self._tree()).encode(), {}, with_body=with_body)
        elif path.startswith(f"/{REPO}/resolve/{COMMIT}/"):
            self._file(path.rpartition("/")[2], with_body=with_body)
        else:
            missing = "RevisionNotFound" if "/revision/" in path else "RepoNotFound"
            self._send(404, b"{}", {"X-Error-Code": missing}, with_body=with_body)

    def _info(self) -> dict[str, object]:
        files = sorted(p for p in self.server.folder.iterdir())
        siblings = [{"rfilename": p.name, "size": p.stat().st_size} for p in files]
        return {"id": REPO, "sha": COMMIT, "siblings": siblings, "cardData": {"license": "mit"}}

    def _tree(self) -> list[dict[str, object]]:
        files = sorted(p for p in self.server.folder.iterdir())
        size = [(p.name, p.stat().st_size) for p in files]
        return [{"type": "file", "path": n, "size": b, "oid": "0" * 40} for n, b in size]

    def _file(self, name: str, *, with_body: bool) -> None:
        data = (self.server.folder / name).read_bytes()
        whole = len(data)
        headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": COMMIT}
        status, start = 200, 0
        if asked := self.headers.get("Range"):
            start = int(asked.removeprefix("bytes=").partition("-")[0])
            status, data = 206, data[start:]
            headers["Content-Range"] = f"bytes {start}-{whole - 1}/{whole}"
        if with_body:
            self.server.downloads.append((name, asked or ""))
        half = with_body and self.server.broken > 0 and name == LARGE
        self._send(status, data, headers, with_body=with_body, half=half)

    def _send(
        self,
        status: int,
        data: bytes,
        headers: dict[str, str],
        *,
        with_body: bool,
        half: bool = False,
    ) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(data))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if half:
            self.server.broken -= 1
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
        elif with_body:
            self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        """Be quiet."""


@contextmanager
def hub(folder: Path, *, broken: int = 0) -> Iterator[Hub]:
    """Run a hub while the block runs."""
    server = Hub(folder, broken=broken)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_model(tmp_path_factory.mktemp("repository"))
    (folder / LARGE).write_bytes(bytes(range(256)) * (24 * 2**12))  # some chunks of the library
    (folder / "pytorch_model.bin").write_bytes(b"a pickle that must not be taken")
    return folder


def fetch(name: str, url: str, cache: Path) -> subprocess.CompletedProcess[str]:
    """Run `afx-export fetch`: the hub's address is read when its library is imported."""
    env = os.environ | {
        "HF_ENDPOINT": url,
        "HF_HOME": str(cache / "hf"),
        "AGENTFLUX_CACHE": str(cache),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
    }
    command = [sys.executable, "-m", "afx_export.cli", "fetch", name]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def test_a_hub_model_is_fetched_at_its_commit_without_pickles_and_is_there_offline(
    repository: Path, tmp_path: Path
) -> None:
    with hub(repository) as server:
        first = fetch(REPO, server.url, tmp_path)
        assert first.returncode == 0, first.stderr
        asked = {name for name, _ in server.downloads}
    again = fetch(REPO, server.url, tmp_path)

    folder = Path(first.stdout.strip().splitlines()[-1])
    assert "model.safetensors" in asked
    assert "pytorch_model.bin" not in asked
    assert COMMIT in first.stderr
    assert (folder / "config.json").is_file()
    assert (again.returncode, again.stdout) == (0, first.stdout)


def test_a_download_that_breaks_off_is_taken_up_where_it_ended(
    repository: Path, tmp_path: Path
) -> None:
    with hub(repository, broken=1) as server:
        done = fetch(f"{REPO}@main", server.url, tmp_path)
        asked = [start for name, start in server.downloads if name == LARGE]

    assert done.returncode == 0, done.stderr
    assert asked[0] == ""
    assert asked[1].startswith("bytes=")
    assert asked[1] != "bytes=0-"
    folder = Path(done.stdout.strip().splitlines()[-1])
    assert (folder / LARGE).read_bytes() == (repository / LARGE).read_bytes()


@pytest.mark.parametrize("name", [f"{REPO}@no-such-tag", "owner/none"])
def test_an_unknown_model_or_revision_says_so(name: str, repository: Path, tmp_path: Path) -> None:
    with hub(repository) as server:
        done = fetch(name, server.url, tmp_path)

    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert name in done.stderr


def test_no_network_is_told_in_one_line(tmp_path: Path) -> None:
    done = fetch(REPO, "http://127.0.0.1:9", tmp_path)

    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "cannot be reached" in done.stderr
