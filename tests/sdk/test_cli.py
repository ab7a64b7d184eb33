"""`afx` as a user runs it: the fixed contracts on stdout, errors of ours and their exit codes."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sdk.support import manifest

from agentflux.contracts.bundle import MANIFEST

AFX = [sys.executable, "-m", "agentflux.cli"]
SERVER = Path(__file__).parents[1] / "servers" / "good.py"


def afx(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [*AFX, *map(str, arguments)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)


@pytest.mark.model
def test_eval_writes_one_prediction_a_case_and_survives_a_bad_one(
    desk_bundle: Path, tmp_path: Path
) -> None:
    schema = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
    tools = [{"name": "read_text_file", "description": "Read a file.", "inputSchema": schema}]
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "filesystem.json").write_text(json.dumps(tools), encoding="utf-8")
    cases = [{"id": "a", "query": "read notes.txt"}, {"id": "b", "query": "word " * 9000}]
    lines = "".join(json.dumps(case) + "\n" for case in cases)
    (tmp_path / "cases.jsonl").write_text(lines, encoding="utf-8")
    out = tmp_path / "out.jsonl"
    options = ["--tools", tmp_path / "tools", "--cases", tmp_path / "cases.jsonl", "--out", out]
    done = afx("eval", desk_bundle, *options)
    assert done.returncode == 0, done.stderr
    first, second = (json.loads(line) for line in out.read_text(encoding="utf-8").splitlines())
    assert {"id", "tool_set", "tool", "arguments", "confidence", "stages"} <= set(first)
    assert second["id"] == "b"
    assert second["error"].startswith("ContextOverflow")


@pytest.mark.model
def test_run_prints_one_json_object(desk_bundle: Path, tmp_path: Path) -> None:
    entry = {"command": sys.executable, "args": [str(SERVER)]}
    servers = tmp_path / "servers.json"
    servers.write_text(json.dumps({"mcpServers": {"notes": entry}}), encoding="utf-8")
    done = afx("run", desk_bundle, "--mcp", servers, "--yes", "--json", "good morning")
    assert done.returncode == 0, done.stderr
    assert {"steps", "answer", "stopped", "trace"} <= set(json.loads(done.stdout))


def test_a_folder_that_is_no_bundle_is_bad_input(tmp_path: Path) -> None:
    done = afx("inspect", tmp_path)
    assert done.returncode == 4
    assert "afx-export build" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.model
def test_a_flipped_byte_fails_the_check(desk_bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "bundle"
    shutil.copytree(desk_bundle, copy)
    file = next(copy.glob("adapters/*.onnx_adapter"))
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    done = afx("inspect", copy)
    assert done.returncode == 5
    assert file.name in done.stderr


@pytest.mark.model
def test_inspect_shows_the_adapters_and_the_certificate(desk_bundle: Path) -> None:
    done = afx("inspect", desk_bundle)
    assert done.returncode == 0
    assert "route" in done.stdout
    assert "greedy tokens equal" in done.stdout


def test_wrong_usage_exits_with_two() -> None:
    assert afx("run").returncode == 2


def test_a_path_that_cannot_be_written_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text(manifest().to_json(), encoding="utf-8")
    (tmp_path / "files.json").write_text('[{"name": "read"}]', encoding="utf-8")
    cases = tmp_path / "cases.jsonl"
    cases.write_text('{"id": 1, "query": "x"}\n', encoding="utf-8")
    out = cases / "out.jsonl"
    done = afx("eval", tmp_path, "--tools", tmp_path, "--cases", cases, "--out", out)
    assert done.returncode == 4
    assert str(cases) in done.stderr
    assert "Traceback" not in done.stderr


def test_help_teaches_without_loading_a_model() -> None:
    done = afx("eval", "--help")
    assert done.returncode == 0
    assert "JSON lists of MCP tools" in " ".join(done.stdout.split())
    program = (
        "import sys; from agentflux.cli import main; sys.argv = ['afx', 'eval', '--help']\n"
        "try: main()\n"
        "except SystemExit: sys.exit('onnxruntime_genai' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.model
def test_bench_measures_a_bundle_as_json_and_draws_it(desk_bundle: Path, tmp_path: Path) -> None:
    picture = tmp_path / "latency.svg"
    done = afx("bench", desk_bundle, "--calls", "2", "--json", "--svg", picture)
    assert done.returncode == 0, done.stderr
    cost = json.loads(done.stdout)
    assert [stage["stage"] for stage in cost["stages"]][:2] == ["route", "select"]
    assert cost["calls"] == 2
    assert min(cost["prefill_tokens_per_s"], cost["decode_tokens_per_s"], cost["kv_bytes"]) > 0
    # The catalogs were warmed up, so a stage reuses more than it computes.
    assert cost["stages"][0]["reused_tokens"] > cost["stages"][0]["prefill_tokens"]
    assert "whole call" in picture.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--cases", "x.jsonl"), "belong together"),
        (("other",), "--tune"),
        (("--tune", "--threads", "1"), "tries threads"),
    ],
)
def test_bench_refuses_options_that_contradict_each_other(
    options: tuple[str, ...], said: str
) -> None:
    done = afx("bench", "bundle", *options)
    assert done.returncode == 4
    assert said in done.stderr
