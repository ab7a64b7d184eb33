"""`afx doctor` as a user runs it, in environments that are broken in real ways."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agentflux.doctor import diagnose, render

TRIAL = "import sys; from agentflux.cli import main; sys.argv = ['afx', 'doctor', '--json']; main()"


def _doctor(folder: Path, *arguments: str) -> tuple[int, dict[str, Any], str]:
    """Run `afx doctor` with `folder` first on the path of modules, and an empty cache."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(folder),
        "AGENTFLUX_CACHE": str(folder / "cache"),
    }
    done = subprocess.run(
        [sys.executable, "-c", TRIAL, *arguments],
        env=environment,
        capture_output=True,
        text=True,
    )
    return done.returncode, json.loads(done.stdout), done.stderr


def _package(folder: Path, name: str, version: str = "9.9") -> None:
    """Leave the metadata of a package, as pip does."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    (info / "METADATA").write_text(text, encoding="utf-8")


def _profile(report: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(row for row in report["profiles"] if row["profile"] == name)
    return found


def test_a_working_machine_proves_it_with_an_adapter_switch(tmp_path: Path) -> None:
    code, report, said = _doctor(tmp_path)
    assert (code, said) == (0, "")
    cpu = _profile(report, "cpu-int4")
    assert cpu["state"] == "ready"
    assert cpu["trial"]["switched"] is True
    assert cpu["trial"]["decode_ms_per_token"] > 0
    assert _profile(report, "cuda-fp16")["trial"] is None
    assert "CPUExecutionProvider" in {row["provider"] for row in report["machine"]["devices"]}


def test_two_runtimes_in_one_environment_are_a_conflict_with_its_remedy(tmp_path: Path) -> None:
    _package(tmp_path, "onnxruntime-gpu")
    _package(tmp_path, "onnxruntime-genai-cuda")
    code, report, _ = _doctor(tmp_path)
    assert (code, report["healthy"]) == (5, False)
    assert report["machine"]["conflicts"] == [
        ["onnxruntime-genai", "onnxruntime-genai-cuda"],
        ["onnxruntime", "onnxruntime-gpu"],
    ]
    every = "onnxruntime onnxruntime-genai onnxruntime-genai-cuda onnxruntime-gpu"
    for profile, extra in (("cpu-int4", "cpu"), ("cuda-int4", "cuda")):
        found = _profile(report, profile)
        assert (found["state"], found["trial"]) == ("conflict", None)
        assert found["mend"] == (
            f"pip uninstall -y {every} && pip install 'agentflux-edge[{extra}]'"
        )


def test_a_runtime_that_kills_its_process_is_reported_not_suffered(tmp_path: Path) -> None:
    (tmp_path / "onnxruntime_genai.py").write_text("import os; os.abort()", encoding="utf-8")
    code, report, said = _doctor(tmp_path)
    assert (code, said) == (5, "")
    assert "crashed" in _profile(report, "cpu-fp32")["trial"]["error"]


def test_a_broken_onnxruntime_is_named(tmp_path: Path) -> None:
    broken = "raise ImportError('libonnxruntime.so.1: cannot open shared object file')"
    (tmp_path / "onnxruntime.py").write_text(broken, encoding="utf-8")
    code, report, _ = _doctor(tmp_path)
    assert code == 5
    assert "cannot open shared object" in report["machine"]["devices_error"]
    assert _profile(report, "cpu-int4")["mend"].startswith(
        "pip install --force-reinstall onnxruntime"
    )


def test_a_provider_in_a_wheel_of_its_own_is_asked_too(tmp_path: Path) -> None:
    _package(tmp_path, "onnxruntime-ep-imaginary")
    plugin = "get_ep_name = lambda: 'X'\nget_library_path = lambda: '/nowhere/libx.so'\n"
    (tmp_path / "onnxruntime_ep_imaginary.py").write_text(plugin, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "afx_profiles.ep_devices"]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    report = json.loads(done.stdout)
    assert "onnxruntime-ep-imaginary cannot be registered" in report["error"]
    assert "CPUExecutionProvider" in {row["provider"] for row in report["devices"]}


@pytest.mark.model
def test_a_given_bundle_is_run_and_shown_to_a_person(desk_bundle: Path) -> None:
    found = diagnose(desk_bundle)
    text = render(found)
    assert found.healthy
    assert f"works: {desk_bundle.name} loaded" in text
    assert "adapter switched and back" in text
