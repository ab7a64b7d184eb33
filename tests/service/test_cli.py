"""`afx-serve` with something wrong: one line that names it, and the exit code."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edge_service.lock import claim


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
        (["b", "--host", ""], {}, "AFX_SERVE_HOST"),
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


def test_a_second_service_on_a_data_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    with claim(folder):
        said = refused(serve(tmp_path, "b"), 4)
        assert serve(tmp_path, "keys", "add", "phone").returncode == 0
    assert f"{folder}: another afx-serve uses this data folder" in said
    assert not (folder / "first-key").exists()
    assert "another afx-serve" not in refused(serve(tmp_path, "b"), 4)


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


def test_a_second_key_of_a_name_shares_its_runs_only_where_that_is_said(tmp_path: Path) -> None:
    assert serve(tmp_path, "keys", "add", "phone").returncode == 0
    again = refused(serve(tmp_path, "keys", "add", "phone"), 4)
    assert "give --tenant phone to share its runs" in again
    assert serve(tmp_path, "keys", "add", "phone", "--tenant", "phone").returncode == 0


def test_keys_are_those_of_the_folder_that_the_services_file_names(tmp_path: Path) -> None:
    (tmp_path / "service.toml").write_text(f"data = '{tmp_path / 'there'}'", encoding="utf-8")
    file = ("--config", "service.toml")
    key = serve(tmp_path, "keys", "add", "phone", *file, AFX_SERVE_DATA="").stdout.strip()
    key_id = key.split("-")[1]
    assert key_id in serve(tmp_path, "keys", "list", "--data", "there").stdout
    assert key_id in serve(tmp_path, "keys", "list", *file, AFX_SERVE_DATA="").stdout
    assert str(tmp_path / "state") in refused(serve(tmp_path, "keys", "list", *file), 4)
    revoked = serve(tmp_path, "keys", "revoke", key_id, *file, AFX_SERVE_DATA="")
    assert revoked.returncode == 0, revoked.stderr


@pytest.mark.parametrize("command", [["list"], ["revoke", "0123abcd"]])
def test_a_folder_without_keys_is_named_and_not_made(tmp_path: Path, command: list[str]) -> None:
    said = refused(serve(tmp_path, "keys", *command), 4)
    assert f"{tmp_path / 'state'}: has no service.db" in said
    assert not (tmp_path / "state").exists()
