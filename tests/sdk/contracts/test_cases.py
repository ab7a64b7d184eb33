"""Evaluation cases: the fixed contract, and what is said about a bad line."""

import json
from pathlib import Path

import pytest
from sdk.support import scripted_stages

from agentflux.contracts.cases import Case, read_cases
from agentflux.contracts.prompts import signature
from agentflux.contracts.tools import ToolSpec, load_tool_folder
from agentflux.errors import ConfigError, ContextOverflow
from agentflux.evaluation import evaluate_cases, predict


def write(path: Path, *lines: object) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def test_optional_keys_and_unknown_keys_are_fine(tmp_path: Path) -> None:
    past = {"tool_set": "files", "tool": "list", "arguments": {}, "observation": "a"}
    path = write(
        tmp_path / "c.jsonl",
        {"id": "1", "query": "x", "gold": {"tool": "y"}},
        {"id": 2, "query": "x", "context": None, "history": [past]},
    )
    first, second = read_cases(path)
    assert first.situation().steps == ()
    assert second.situation().steps[0].observation == "a"


def test_the_limit_stops_reading(tmp_path: Path) -> None:
    path = write(tmp_path / "c.jsonl", *({"id": i, "query": "x"} for i in range(5)))
    assert [case.id for case in read_cases(path, limit=2)] == [0, 1]


@pytest.mark.parametrize("line", ["{", '{"id": 1}', '{"id": 1, "query": 3}', "[]"])
def test_a_bad_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text('{"id": 0, "query": "x"}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"c\.jsonl:2"):
        list(read_cases(path))


def test_a_file_with_the_mark_of_windows_programs_is_read(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text('{"id": 1, "query": "café"}\n', encoding="utf-8-sig")
    assert [case.query for case in read_cases(path)] == ["café"]


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_a_file_that_is_not_utf8_is_refused_with_what_to_do(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text('{"id": 1, "query": "café"}\n', encoding=encoding)
    with pytest.raises(ConfigError, match="save it as UTF-8") as caught:
        list(read_cases(path))
    assert caught.value.where == str(path)


def test_a_folder_in_place_of_the_predictions_is_refused_before_any_work(tmp_path: Path) -> None:
    nothing = tmp_path / "not there"
    with pytest.raises(ConfigError, match="is a folder") as caught:
        evaluate_cases(nothing, tools=nothing, cases=nothing, out=tmp_path)
    assert caught.value.where == str(tmp_path)
    assert list(tmp_path.iterdir()) == []


def decide_by(script: list[str]):
    stages, _ = scripted_stages(script)
    return lambda case: stages.decide(case.situation(), emit=lambda event: None, cancel=None)


def test_a_prediction_has_the_keys_of_the_contract() -> None:
    line = predict(Case(id="7", query="x"), decide_by(["files", "read", '{"path":"a"}']))
    assert (line["id"], line["tool_set"], line["tool"]) == ("7", "files", "read")
    assert line["arguments"] == {"path": "a"}
    wanted = {"stage", "adapter", "ms", "prefill_tokens", "reused_tokens", "decoded_tokens"}
    assert [s["stage"] for s in line["stages"]] == ["route", "select", "arguments"]
    assert all(wanted <= set(stage) for stage in line["stages"])


def test_abstaining_is_null() -> None:
    line = predict(Case(id=1, query="x"), decide_by(["none"]))
    assert line["tool_set"] is None
    assert line["tool"] is None


def test_the_failure_of_one_case_is_its_error() -> None:
    def fail(case: Case):
        raise ContextOverflow(needed=9, limit=8)

    line = predict(Case(id=1, query="x"), fail)
    assert line["id"] == 1
    assert line["error"].startswith("ContextOverflow:")


@pytest.mark.parametrize("text", ["[3]", '[{"description": "no name"}]', "{", '[{"name": 3}]'])
def test_a_bad_tool_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "files.json").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="files"):
        load_tool_folder(tmp_path)


@pytest.mark.parametrize("schema", [{"required": True}, {"required": [{}]}, {"properties": ["a"]}])
def test_a_tool_whose_schema_no_prompt_can_show_is_refused_by_name(
    tmp_path: Path, schema: dict[str, object]
) -> None:
    tools = [{"name": "read", "inputSchema": schema}]
    (tmp_path / "files.json").write_text(json.dumps(tools), encoding="utf-8")
    with pytest.raises(ConfigError, match="tool 'read'") as caught:
        load_tool_folder(tmp_path)
    assert caught.value.where == "files"
    with pytest.raises(ConfigError, match="tool 'read'"):
        ToolSpec(tool_set="files", name="read", input_schema=schema)


@pytest.mark.parametrize("schema", [{}, {"properties": None, "required": None}, {"properties": []}])
def test_a_tool_without_parameters_is_one_however_its_server_writes_that(
    schema: dict[str, object],
) -> None:
    tool = ToolSpec.from_wire("files", {"name": "roots", "inputSchema": schema})
    assert not tool.takes_arguments
    assert signature(tool) == "roots()"


def test_a_folder_without_tools_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no <tool_set>.json"):
        load_tool_folder(tmp_path)
