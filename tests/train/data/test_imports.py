"""Public formats, each on a small sample written for this test."""

import csv
import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from afx_train.corpus import Corpus, World, load_corpus
from afx_train.data.check import DataReport
from afx_train.data.imports import FORMATS, import_folder
from afx_train.data.imports.functions import python_calls
from afx_train.errors import DataError
from afx_train.examples import ExampleMaker
from afx_train.recipe import AdapterPlan, Recipe
from afx_train.trajectory import TrajectoryStep

WEATHER = {
    "name": "get_weather",
    "description": "Tell the weather of a city.",
    "parameters": {
        "city": {"type": "str", "description": "The city."},
        "days": {"type": "int, optional", "description": "Days ahead.", "default": 1},
        "tags": {"type": "List[str], optional", "description": "", "default": []},
    },
}
CLOSED = {
    "name": "shop.open",
    "description": "Whether a shop is open.",
    "parameters": {
        "type": "dict",
        "properties": {
            "shop": {"type": "string"},
            "price": {"type": "float"},
            "where": {"type": "dict", "properties": {"zip": {"type": "string"}}},
        },
        "required": ["shop"],
    },
}


def _lines(path: Path, items: Sequence[object]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")
    return path


def _import(form: str, source: Path, out: Path, **how: Any) -> tuple[Corpus, DataReport]:
    report = import_folder(form, source, out, **how)
    corpus = load_corpus([out])
    assert report.problems == ()
    assert all(not t.verified for t in corpus.trajectories)
    return corpus, report


def _calls(corpus: Corpus, request: str) -> tuple[TrajectoryStep, ...]:
    (found,) = [t for t in corpus.trajectories if t.request == request]
    return found.steps


def test_xlam_types_optional_parameters_and_parallel_calls(tmp_path: Path) -> None:
    call = {"name": "get_weather", "arguments": {"city": "Oslo", "days": "3"}}
    other = {"name": "get_weather", "arguments": {"city": "Turku", "tags": ["snow"]}}
    rows = [
        {
            "query": "Weather in Oslo for 3 days and snow in Turku?",
            "tools": json.dumps([WEATHER]),
            "answers": json.dumps([call, other]),
        },
        {"query": "And elsewhere?", "tools": [WEATHER], "answers": [call]},
    ]
    source = tmp_path / "xlam.json"
    source.write_text(json.dumps(rows), encoding="utf-8")
    corpus, report = _import("xlam", source, tmp_path / "out")
    assert [s.arguments for s in _calls(corpus, rows[0]["query"])] == [
        {"city": "Oslo", "days": 3},
        {"city": "Turku", "tags": ["snow"]},
    ]
    (tool,) = corpus.catalog["xlam"]
    assert tool.input_schema["required"] == ["city"]
    assert tool.input_schema["properties"]["tags"]["items"] == {"type": "string"}
    assert report.rejected == {"value stands nowhere in the request": 1}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"type": "str"}, {"type": "int"}),
        ({"type": "int"}, {"type": "int, optional"}),
        ({"type": "int", "enum": [3]}, {"type": "int", "enum": [7]}),
    ],
)
def test_tools_of_one_name_that_take_other_values_are_two_tools(
    tmp_path: Path, one: dict[str, Any], other: dict[str, Any]
) -> None:
    rows = []
    for said, kind in (("3", one), ("7", other)):
        tool = {"name": "set_level", "description": "Set it.", "parameters": {"level": kind}}
        level = said if kind["type"] == "str" else int(said)
        call = {"name": "set_level", "arguments": {"level": level}}
        rows.append({"query": f"set level to {said}", "tools": [tool], "answers": [call]})
    corpus, _ = _import("xlam", _lines(tmp_path / "xlam.jsonl", rows), tmp_path / "out")
    first, second = (_calls(corpus, row["query"])[0] for row in rows)
    assert first.tool_set != second.tool_set
    assert first.arguments == {"level": "3" if one["type"] == "str" else 3}
    schemas = [corpus.tool(step).spec.input_schema for step in (first, second)]
    assert schemas[0] != schemas[1]


def test_bfcl_accepted_values_and_requests_without_a_call(tmp_path: Path) -> None:
    question = [[{"role": "user", "content": "Is Bakery Nord open, below 2 euros, in 0150?"}]]
    irrelevant = [[{"role": "user", "content": "Write me a poem."}]]
    source = _lines(
        tmp_path / "q.json",
        [
            {"id": "a_1", "question": question, "function": [CLOSED]},
            {"id": "a_2", "question": irrelevant, "function": [CLOSED]},
        ],
    )
    gold = {"shop": ["Bakery Nord", "Nord"], "price": [2, ""], "where": [{"zip": ["0150"]}]}
    answers = _lines(tmp_path / "a.json", [{"id": "a_1", "ground_truth": [{"shop.open": gold}]}])
    corpus, _ = _import("bfcl", source, tmp_path / "out", answers=answers)
    (step,) = _calls(corpus, question[0][0]["content"])
    assert step.tool == "shop.open"
    assert step.arguments == {"shop": "Bakery Nord", "price": 2, "where": {"zip": "0150"}}
    assert {"shop": "Nord", "price": 2, "where": {"zip": "0150"}} in step.accept
    assert {"shop": "Bakery Nord", "where": {"zip": "0150"}} in step.accept
    assert _calls(corpus, "Write me a poem.") == ()


def test_seal_tools_fields_become_tool_sets_and_references_are_left_out(tmp_path: Path) -> None:
    tools = [
        {
            "api_name": "findBook",
            "api_description": "Find a book",
            "field": "Library Science/Cataloguing",
            "parameters": {"title": {"type": "str", "description": "t"}},
            "required": ["title"],
        }
    ]
    said = "Find the book Momo, please."
    rows = [
        {"query": said, "calling": [{"api": "findBook", "parameters": {"title": "Momo"}}]},
        {
            "query": "Then it.",
            "calling": [{"api": "findBook", "parameters": {"title": "API_call_0"}}],
        },
    ]
    folder = tmp_path / "seal"
    _lines(folder / "dev.jsonl", rows)
    (folder / "tool.jsonl.gz").write_bytes(gzip.compress(json.dumps(tools[0]).encode()))
    corpus, _ = _import("seal-tools", folder, tmp_path / "out")
    assert list(corpus.catalog) == ["library_science"]
    assert [s.arguments for s in _calls(corpus, said)] == [{"title": "Momo"}]
    assert len(corpus.trajectories) == 1


def test_toolace_reads_calls_written_as_python(tmp_path: Path) -> None:
    system = (
        f"You are an expert. Here is a list of functions: {json.dumps([CLOSED])}\nReturn calls."
    )
    rows = [
        {
            "system": system,
            "conversations": [
                {"from": "user", "value": "Is Bakery Nord open?"},
                {"from": "assistant", "value": '[shop.open(shop="Bakery Nord")]'},
                {"from": "tool", "value": "[{}]"},
            ],
        },
        {
            "system": system,
            "conversations": [
                {"from": "user", "value": "Sing!"},
                {"from": "assistant", "value": "I cannot sing."},
            ],
        },
    ]
    corpus, _ = _import("toolace", _lines(tmp_path / "t.jsonl", rows), tmp_path / "out")
    assert [s.arguments for s in _calls(corpus, "Is Bakery Nord open?")] == [
        {"shop": "Bakery Nord"}
    ]
    assert _calls(corpus, "Sing!") == ()
    assert python_calls('[Get News(q="a), b(c=1)"), x.y(n=[1, {"k": None}])]') == [
        ("Get News", {"q": "a), b(c=1)"}),
        ("x.y", {"n": [1, {"k": None}]}),
    ]
    assert python_calls("[os.system('x') for x in y]") == []


def test_hwu64_scenarios_slots_and_general_talk(tmp_path: Path) -> None:
    path = tmp_path / "csv" / "alarm.csv"
    path.parent.mkdir()
    head = ["answerid", "scenario", "intent", "answer_annotation", "answer_from_anno"]
    rows = [
        [str(n), "alarm", "set", f"wake me at [time : {n} am]", f"wake me at {n} am"]
        for n in range(5, 9)
    ]
    rows += [rows[0], ["99", "general", "joke", "tell a joke", "tell a joke"]]
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, delimiter=";").writerows([head, *rows])
    corpus, _ = _import("hwu64", path.parent, tmp_path / "out")
    assert [s.arguments for s in _calls(corpus, "wake me at 6 am")] == [{"time": "6 am"}]
    assert _calls(corpus, "tell a joke") == ()
    assert len(corpus.trajectories) == 5
    assert [t.name for t in corpus.catalog["alarm"]] == ["set"]


def test_clinc150_keeps_its_splits_and_out_of_scope(tmp_path: Path) -> None:
    full = {
        "train": [["pay my bill", "pay_bill"], ["how are you", "greeting"]],
        "val": [["pay the bill now", "pay_bill"]],
        "test": [["please pay this bill", "pay_bill"]],
        "oos_train": [["who won in 1966", "oos"]],
        "oos_test": [["is mars far", "oos"]],
    }
    domains = {"banking": ["pay_bill"], "small_talk": ["greeting"]}
    for name, document in (("data_full.json", full), ("domains.json", domains)):
        _lines(tmp_path / "clinc" / name, [document])
    corpus, report = _import("clinc150", tmp_path / "clinc", tmp_path / "out")
    assert report.splits == {"train": 3, "dev": 1, "test": 2}
    assert [s.tool for s in _calls(corpus, "pay my bill")] == ["pay_bill"]
    assert _calls(corpus, "how are you") == _calls(corpus, "who won in 1966") == ()


def test_snips_slots_are_arguments(tmp_path: Path) -> None:
    items = [
        {"data": [{"text": "play "}, {"text": f"song {n}", "entity": "track"}]} for n in range(4)
    ]
    folder = tmp_path / "snips"
    _lines(folder / "train_PlayMusic_full.json", [{"PlayMusic": items[:3]}])
    _lines(folder / "validate_PlayMusic.json", [{"PlayMusic": items[3:]}])
    corpus, _ = _import("snips", folder, tmp_path / "out")
    (step,) = _calls(corpus, "play song 2")
    assert (step.tool, step.arguments) == ("play_music", {"track": "song 2"})
    assert [t.split for t in corpus.trajectories if t.request == "play song 3"] == ["test"]


SERVER = """
tool_set: climateCtl
tools:
  - name: list_zones
    description: List the zones.
    inputSchema: {type: object, properties: {}}
  - name: set_heat
    description: Set the temperature of a zone.
    inputSchema:
      type: object
      properties: {zone: {type: string}, day: {type: string, description: YYYY-MM-DD}}
      required: [zone]
requests:
  - {request: warm up the hall on 3 May 2027, tool: set_heat,
     arguments: {zone: hall, day: "2027-05-03"}, accept: [{zone: Hall, day: "2027-05-03"}]}
  - request: what does a thermostat cost?
"""


def test_a_server_keeps_its_name_all_its_tools_and_what_it_does_not_serve(tmp_path: Path) -> None:
    source = tmp_path / "servers" / "climateCtl.yaml"
    source.parent.mkdir()
    source.write_text(SERVER, encoding="utf-8")
    corpus, _ = _import("servers", source.parent, tmp_path / "out")
    assert {n: [t.name for t in tools] for n, tools in corpus.catalog.items()} == {
        "climateCtl": ["list_zones", "set_heat"]
    }
    (step,) = _calls(corpus, "warm up the hall on 3 May 2027")
    assert step.arguments == {"zone": "hall", "day": "2027-05-03"}
    assert step.accept == ({"zone": "Hall", "day": "2027-05-03"},)
    (none,) = [t for t in corpus.trajectories if not t.steps]
    assert none.kind == "none/climateCtl"
    assert len({t.split for t in corpus.trajectories}) == 1  # whole servers are held out
    source.write_text(SERVER.replace("tool: set_heat", "tool: heat"), encoding="utf-8")
    with pytest.raises(DataError, match="'heat', which is no tool"):
        _import("servers", source, tmp_path / "out")


def test_a_limit_draws_the_same_rows_from_all_over_the_source(tmp_path: Path) -> None:
    rows = [
        {"query": f"Weather in town{n}?", "tools": [WEATHER], "answers": []} for n in range(200)
    ]
    source = _lines(tmp_path / "xlam.json", rows)
    first, _ = _import("xlam", source, tmp_path / "one", limit=20)
    again, _ = _import("xlam", source, tmp_path / "two", limit=20)
    drawn = {t.request for t in first.trajectories}
    assert drawn == {t.request for t in again.trajectories}
    assert len(drawn) == 20
    assert not drawn <= {f"Weather in town{n}?" for n in range(100)}


def test_of_what_was_not_executed_only_the_first_call_is_learned(
    workspace: Path, recipe: Recipe, corpus: Corpus, codec: Any
) -> None:
    plan = AdapterPlan(name="route", subtask="route")
    unseen = tuple(t.model_copy(update={"verified": False}) for t in corpus.trajectories)
    doubtful = Corpus(worlds=(World(catalog=corpus.catalog, trajectories=unseen),), sha256="")
    examples = ExampleMaker(recipe, plan, doubtful, codec).make("train")
    assert {e.stop for e in examples} == {"none"}
    assert all(e.id.endswith(("/0", "/none")) for e in examples)


@pytest.mark.parametrize("form", sorted(FORMATS))
def test_another_file_is_refused_by_its_name(tmp_path: Path, form: str) -> None:
    source = _lines(tmp_path / "other.json", [{"id": 1, "text": "x"}])
    with pytest.raises(DataError) as raised:
        import_folder(form, source, tmp_path / "out")
    assert str(tmp_path) in str(raised.value)
    with pytest.raises(DataError, match="there are servers, xlam, bfcl"):
        import_folder("nix", source, tmp_path / "out")
