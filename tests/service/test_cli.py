"""`afx-serve` with something wrong: one line that names it, and the exit code."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec


def serve(folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edge_service.cli", *arguments],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "AFX_SERVE_DATA": str(folder / "state"), **env},
        cwd=folder,
    )


def refused(done: subprocess.CompletedProcess[str], code: int) -> str:
    """Return the line that says why."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    *_, last = done.stderr.splitlines()
    assert last.startswith("afx-serve: ")
    return last


@pytest.mark.parametrize(
    ("arguments", "env", "named"),
    [
        (["no-such-bundle"], {}, "no-such-bundle"),
        (["b", "--config", "no.toml"], {}, "no.toml"),
        (["b", "--approve", "sometimes"], {}, "approve"),
        (["b"], {"AFX_SERVE_KEEP_RUNS": "0"}, "AFX_SERVE_KEEP_RUNS"),
        (["b", "--data", "file/state"], {}, "file/state"),
    ],
)
def test_what_is_wrong_is_named(
    tmp_path: Path, arguments: list[str], env: dict[str, str], named: str
) -> None:
    (tmp_path / "file").write_text("not a folder")
    assert named in refused(serve(tmp_path, *arguments, **env), 4)


def test_an_address_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = serve(tmp_path, "b", "--port", str(port))
    assert f"127.0.0.1:{port}" in refused(done, 4)


def test_with_a_trusted_key_an_unsigned_bundle_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "unsigned").mkdir()
    (tmp_path / "unsigned" / "afx.json").write_text("{}", encoding="utf-8")
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    (tmp_path / "key.pub").write_bytes(key.public_bytes(serialization.Encoding.PEM, form))
    done = serve(tmp_path, "unsigned", AFX_SERVE_TRUST=str(tmp_path / "key.pub"))
    assert "is not signed" in refused(done, 4)


def test_a_key_is_added_listed_and_revoked(tmp_path: Path) -> None:
    key = serve(tmp_path, "keys", "add", "phone", "--tenant", "home").stdout.strip()
    key_id = key.split("-")[1]
    listed = serve(tmp_path, "keys", "list").stdout
    assert listed.split() == [key_id, "valid", "home", "phone"]
    assert serve(tmp_path, "keys", "revoke", key_id).returncode == 0
    assert "revoked" in serve(tmp_path, "keys", "list").stdout
    assert key_id in refused(serve(tmp_path, "keys", "revoke", key_id), 4)
