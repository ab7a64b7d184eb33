import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from afx_export.cli import main
from agentflux.contracts.cache import CACHE_VARIABLE

from .conftest import Exported


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["afx-export", *arguments])
    with pytest.raises(SystemExit) as done:
        main()
    return int(done.value.code or 0)


def test_help_loads_no_model_library() -> None:
    code = (
        "import sys; from afx_export.cli import main; sys.argv = ['afx-export', '--help']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'onnx', 'onnxruntime', 'onnxruntime_genai', 'peft'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("nonsense",), 2, "No such command"),
        (("build", "--model", "x"), 2, "Missing option"),
        (("fetch", "gpt-oss"), 4, "known names: smollm2-135m-instruct"),
        (("verify", "no-such-bundle"), 5, "has no afx.json"),
    ],
)
def test_each_kind_of_failure_has_its_exit_code(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert _run(monkeypatch, *arguments) == code
    out, err = capsys.readouterr()
    assert (said in err, out) == (True, "")


def test_verify_prints_json_on_stdout_only(
    exported: Exported, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("verify", str(exported.bundle), "--model", str(exported.model), "--json")
    assert _run(monkeypatch, *arguments) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["files"] == len(exported.manifest.files)
    assert len(report["certificate"]["fp32"]) == 4


def test_diff_says_on_stdout_what_has_to_travel(
    exported: Exported,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    smaller = shutil.copytree(exported.bundle, tmp_path / "bundle")
    assert _run(monkeypatch, "remove-adapter", str(smaller), "picker") == 0
    assert capsys.readouterr().out.strip() == str(smaller)
    assert _run(monkeypatch, "diff", str(smaller), str(exported.bundle), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["adapters_added"] == ["picker"]
    assert set(found["travels"]) == {"adapters/picker.onnx_adapter", "afx.json"}
    assert _run(monkeypatch, "diff", str(smaller), str(exported.bundle)) == 0
    assert "bytes travel" in capsys.readouterr().out


def test_report_prints_the_page_s_path(
    exported: Exported,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = tmp_path / "page.html"
    assert _run(monkeypatch, "report", str(exported.bundle), "--out", str(page), "--no-sites") == 0
    assert capsys.readouterr().out.strip() == str(page)
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


@pytest.mark.parametrize("command", ["models", "profiles"])
def test_lists_are_also_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert _run(monkeypatch, command, "--json") == 0
    names = [row["name"] for row in json.loads(capsys.readouterr().out)]
    assert {"smollm2-135m-instruct", "cpu-int4"} & set(names)
