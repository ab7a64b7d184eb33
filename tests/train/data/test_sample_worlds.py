"""The sample's worlds on their real servers."""

import importlib
import json
import subprocess
from pathlib import Path
from random import Random

import pytest
from train.data.shelf import SAMPLE

from afx_train.data.build import build_dataset
from afx_train.data.folder import TAUGHT
from afx_train.data.grammar import load_phrasings
from afx_train.data.worlds import Need, World, load_worlds
from afx_train.errors import DataError
from afx_train.trajectory import read_trajectories

ASKS = """
tool_set: {tool_set}
tools: {{{tool}: [{{args: {args}, ask: ["{ask}"], expect_error: {error}}}]}}
"""


def _grammar(folder: Path, tool_set: str, tool: str, args: str, ask: str, error: str) -> None:
    target = folder / tool_set
    target.mkdir(parents=True, exist_ok=True)
    text = ASKS.format(tool_set=tool_set, tool=tool, args=args, ask=ask, error=error)
    (target / f"{tool}.yaml").write_text(text, encoding="utf-8")


@pytest.fixture
def five_sets(tmp_path: Path) -> Path:
    """One wording for a tool of each set, and one whose right call fails."""
    folder = tmp_path / "grammars"
    for name in ("sqlite_tables.yaml", "memory_graph.yaml"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes((SAMPLE / "phrasings" / name).read_bytes())
    rows = (
        ("filesystem", "read_text_file", '{path: "{file}"}', "read {file}", "false"),
        ("filesystem", "get_file_info", '{path: "{missing}"}', "stat {missing}", "true"),
        ("git", "git_show", '{repo_path: "{repo}", revision: "{commit}"}', "{commit}?", "false"),
        ("sqlite", "describe_table", '{table_name: "{table}"}', "columns of {table}", "false"),
        ("memory", "open_nodes", '{names: ["{entity}"]}', "who is {entity}", "false"),
        ("time", "get_current_time", '{timezone: "{local}"}', "what time is it", "false"),
    )
    for row in rows:
        _grammar(folder, *row)
    return folder


def test_calls_run_on_the_real_servers_and_are_the_same_each_time(
    tmp_path: Path, five_sets: Path
) -> None:
    for name in ("one", "two"):
        out, worlds = tmp_path / name, SAMPLE / "worlds.py"
        report = build_dataset(five_sets, worlds, None, out, seed=5, least_per_tool=3)
        assert report.rejected == {}
        assert report.problems == ()
    one, two = (
        [
            item
            for split in ("train", "dev", "test")
            for item in read_trajectories(tmp_path / name / f"{split}.jsonl")
        ]
        for name in ("one", "two")
    )
    assert one == two
    assert {s.tool for i in one for s in i.steps if s.is_error} == {"get_file_info"}
    assert all(s.observation for i in one for s in i.steps)
    assert not any("/afx-data-" in s.observation for i in one for s in i.steps)
    listed = json.loads((tmp_path / "one" / "tools" / "git.json").read_text(encoding="utf-8"))
    assert "inputSchema" in listed[0]


OWN = """
tool_set: {tool_set}
scenes:
  - world: {world}
    {asked}
"""
HIVES = """{sqlite: {tables: [{name: hives, columns: [[id, integer], [name, text], [place, text]],
      rows: [[1, Linde, orchard], [2, Moos, roof]]}],
      shown: ["hives(id, name, place: orchard, roof)"]}}"""
SETTINGS = """{filesystem: {files: {conf/worker.env: "QUEUE=a\\nJOBS=4\\n", in/scan.pdf: ""},
      folders: [done], shown: ["Only {root} is open."]}}"""
STORE = """{memory: {entities: [{name: hv-prod, type: server, facts: [keeps the keys]}],
      shown: [""]}}"""


def _own(folder: Path, tool_set: str, world: str, asked: str) -> None:
    target = folder / tool_set / "own.yaml"
    target.parent.mkdir(parents=True, exist_ok=True)
    text = OWN.format(tool_set=tool_set, world=world, asked=asked)
    target.write_text(text, encoding="utf-8")


def test_a_workspace_written_by_hand_is_what_its_requests_are_asked_in(
    tmp_path: Path, five_sets: Path
) -> None:
    query = "SELECT COUNT(*) FROM hives WHERE place = 'roof'"
    _own(
        five_sets,
        "sqlite",
        HIVES,
        f'tools: {{read_query: [{{args: {{query: "{query}"}}, ask: ["bees up there?"]}}]}}',
    )
    steps = (
        "{tool_set: filesystem, tool: read_text_file, args: {path: conf/worker.env}}",
        "{tool_set: filesystem, tool: edit_file, args: {path: conf/worker.env, "
        "edits: [{oldText: JOBS=4, newText: JOBS=8}]}}",
        "{tool_set: filesystem, tool: move_file, args: {source: in/scan.pdf, "
        "destination: done/scan.pdf}}",
    )
    asked = f'scenarios: [{{steps: [{", ".join(steps)}], ask: ["eight jobs, scan is done"]}}]'
    _own(five_sets, "filesystem", SETTINGS, asked)
    asked = 'tools: {open_nodes: [{args: {names: [hv-prod]}, ask: ["what of hv-prod?"]}]}'
    _own(five_sets, "memory", STORE, asked)
    out = tmp_path / "out"
    report = build_dataset(five_sets, SAMPLE / "worlds.py", None, out, per_phrasing=4)
    assert report.rejected == {}
    items = [i for path in out.glob("*.jsonl") for i in read_trajectories(path)]
    counted = [i for i in items if any(s.arguments.get("query") == query for s in i.steps)]
    moved = [i for i in items if "move_file" in {s.tool for s in i.steps}]
    stored = [i for i in items if i.request == "what of hv-prod?"]
    assert counted
    assert moved
    assert stored
    assert {item.request for item in counted} == {"bees up there?"}
    for item in counted:
        assert "hives(id, name, place: orchard, roof)" in item.context
        assert item.steps[0].observation == "[{'COUNT(*)': 1}]"
    for item in moved:
        assert "Only " in item.context
        assert "{root}" not in item.context
        assert item.steps[0].observation == "QUEUE=a\nJOBS=4\n"
        assert not any(step.is_error for step in item.steps)
    for item in stored:
        assert "keeps the keys" not in item.context
        assert "keeps the keys" in item.steps[0].observation


@pytest.mark.parametrize(
    ("world", "says"),
    [
        ("{sqlite: {shown: [a]}}", "tables"),
        ("{filesystem: {files: {a.txt: a}}}", "shown"),
        ("{filesystem: {files: {a.txt: a}, shown: []}}", "shown"),
        ("{mail: {shown: [a]}}", "no world for tool set 'mail'"),
    ],
)
def test_a_workspace_that_its_world_cannot_make_is_refused_with_its_place(
    tmp_path: Path, five_sets: Path, world: str, says: str
) -> None:
    _own(five_sets, "sqlite", world, "tools: {list_tables: [{ask: [tables?]}]}")
    with pytest.raises(DataError, match=says) as raised:
        build_dataset(five_sets, SAMPLE / "worlds.py", None, tmp_path / "out")
    assert "own.yaml" in str(raised.value)


def test_a_second_build_leaves_no_tool_set_and_no_teacher_s_requests_of_before(
    tmp_path: Path, five_sets: Path
) -> None:
    out = tmp_path / "out"
    for _ in range(2):
        build_dataset(five_sets, SAMPLE / "worlds.py", None, out, only=["time"])
        built = {path.relative_to(out): path.read_bytes() for path in out.rglob("*.json*")}
        (out / "tools" / "calendar.json").write_text("[]", encoding="utf-8")
        (out / TAUGHT).write_text("", encoding="utf-8")
    assert {path.name for path in built} == {
        *(f"{name}.json" for name in ("filesystem", "git", "memory", "sqlite", "time", "report")),
        *(f"{split}.jsonl" for split in ("train", "dev", "test")),
    }


def test_an_error_that_a_server_tells_as_a_result_is_no_right_call(
    tmp_path: Path, five_sets: Path
) -> None:
    wrong = "SELECT INTO {table} ({textcol}) VALUES ('{newval}')"
    ask = "add {newval} as a {textcol} to {table}"
    _grammar(five_sets, "sqlite", "write_query", f'{{query: "{wrong}"}}', ask, "false")
    out = tmp_path / "out"
    report = build_dataset(five_sets, SAMPLE / "worlds.py", None, out, only=["sqlite"])
    assert report.rejected.keys() == {"sqlite.write_query"}
    assert "SELECT queries are not allowed" in " ".join(report.failures)
    steps = [s for path in out.glob("*.jsonl") for i in read_trajectories(path) for s in i.steps]
    assert {step.tool for step in steps} == {"describe_table"}


def test_a_table_with_too_few_columns_is_drawn_again(tmp_path: Path, five_sets: Path) -> None:
    wanted = "SELECT {textcol2} FROM {table} WHERE {textcol} = '{val}'"
    ask = "{textcol2|words} of {table} where it is {val}"  # {textcol2} is drawn first
    _grammar(five_sets, "sqlite", "read_query", f'{{query: "{wanted}"}}', ask, "false")
    out = tmp_path / "out"
    worlds = SAMPLE / "worlds.py"
    report = build_dataset(five_sets, worlds, None, out, only=["sqlite"], per_phrasing=30)
    assert report.rejected == {}
    items = [i for path in out.glob("*.jsonl") for i in read_trajectories(path)]
    assert sum(step.tool == "read_query" for item in items for step in item.steps) > 20


def test_a_repository_is_valid_git_and_has_the_hash_it_promised(
    tmp_path: Path, worlds: dict[str, World]
) -> None:
    need = Need(slots=frozenset({"commit"}), told=frozenset({"commit"}), root="/home/ana/desk")
    scene = worlds["git"].scene(Random(1), need)
    commit = str(scene.slot("commit"))
    scene.build()
    for command in (["fsck", "--strict"], ["cat-file", "-e", commit], ["diff", "--quiet", "HEAD"]):
        done = subprocess.run(
            ["git", *command], cwd=tmp_path / "scratch" / "repo", capture_output=True, check=False
        )
        assert done.returncode == (1 if command[0] == "diff" else 0), done.stderr


@pytest.mark.parametrize("seed", range(40))
def test_found_is_the_only_match_and_biggest_the_largest(
    tmp_path: Path, worlds: dict[str, World], seed: int
) -> None:
    slots = frozenset({"dir", "word", "found", "biggest", "smallest"})
    scene = worlds["filesystem"].scene(Random(seed), Need(slots=slots, root="/home/ana/desk"))
    values = {name: str(scene.slot(name)).removeprefix("/home/ana/desk/") for name in slots}
    scene.build()
    files = tmp_path / "scratch" / "files"
    folder = files / values["dir"]
    matches = list(folder.rglob(f"*{values['word']}*"))
    assert [path.relative_to(files).as_posix() for path in matches] == [values["found"]]
    by_size = sorted((p for p in folder.iterdir() if p.is_file()), key=lambda p: p.stat().st_size)
    assert len(by_size) >= 3
    assert values["biggest"] == by_size[-1].relative_to(files).as_posix()
    assert values["smallest"] == by_size[0].relative_to(files).as_posix()


@pytest.mark.parametrize("seed", range(20))
def test_the_old_text_stands_in_the_file(
    tmp_path: Path, worlds: dict[str, World], seed: int
) -> None:
    scene = worlds["filesystem"].scene(
        Random(seed), Need(slots=frozenset({"file", "old", "new"}), shown=False)
    )
    file, old, new = (str(scene.slot(name)) for name in ("file", "old", "new"))
    scene.build()
    assert old in (tmp_path / "scratch" / "files" / file).read_text(encoding="utf-8")
    assert old != new
    assert not {'"', "/"} & {*old, *new}


@pytest.mark.parametrize("seed", range(20))
def test_what_a_request_names_by_its_last_part_is_listed_in_full(
    tmp_path: Path, worlds: dict[str, World], seed: int
) -> None:
    slots = frozenset({"listed", "listeddir", "newfile"})
    need = Need(slots=slots, told=slots, root="C:\\Users\\ana\\desk" if seed % 2 else "/home/ana")
    assert worlds["filesystem"].needs_context(need)
    scene = worlds["filesystem"].scene(Random(seed), need)
    listed, folder = str(scene.slot("listed")), str(scene.slot("listeddir"))
    context = scene.context(Random(seed))
    assert listed in context
    assert folder in context
    scene.build()
    for shown in (listed, folder):
        real = scene.paths.get(shown, shown)
        assert (tmp_path / "scratch" / "files" / real).exists()
        name = shown.replace("\\", "/").rpartition("/")[2]
        assert len(list((tmp_path / "scratch" / "files").rglob(name))) == 1


def test_backslashes_of_windows_lead_to_the_files(worlds: dict[str, World]) -> None:
    root, said = "C:\\Users\\ana\\desk", list[str]()
    need = Need(slots=frozenset({"file"}), told=frozenset({"file"}), root=root)
    for seed in range(20):
        scene = worlds["filesystem"].scene(Random(seed), need)
        said.append(path := str(scene.slot("file")))
        scene.build()
        if "\\" in path:
            assert "/" not in path
            real = scene.paths.get(path) or path.replace(root, scene.paths[root])
            assert Path(real.replace("\\", "/")).is_file()
            forms = scene.accept("read_text_file", {"path": path}, "")
            relative = path.removeprefix(root + "\\")
            assert {relative.replace("\\", "/"), f"{root}\\{relative}"} - {path} <= {
                form["path"] for form in forms
            }
            mixed = {"path": f"{path}/sub"}
            assert scene.refuses("read_text_file", mixed)
    assert len({"\\" in path for path in said}) == 2


def test_what_is_past_is_shown_in_its_own_words(tmp_path: Path, worlds: dict[str, World]) -> None:
    memory = worlds["memory"]
    for slot, fields in (("stored", ("name", "fact")), ("link", ("from", "type", "to"))):
        need = Need(slots=frozenset({slot}), told=frozenset({slot}))
        assert memory.needs_context(need)
        for seed in range(20):
            scene = memory.scene(Random(seed), need)
            value, context = scene.slot(slot), scene.context(Random(seed))
            assert isinstance(value, dict)
            assert all(value[field] in context for field in fields)
            scene.build()
            text = (tmp_path / "scratch" / "memory.jsonl").read_text(encoding="utf-8")
            assert all(value[field] in text for field in fields)


def test_values_vary(worlds: dict[str, World]) -> None:
    contexts, texts, vocabulary = (
        importlib.import_module(f"desk_worlds.{name}")
        for name in ("contexts", "texts", "vocabulary")
    )
    rng = Random(0)
    assert len({vocabulary.root_path(rng) for _ in range(2000)}) > 1000
    assert len({texts.note(rng) for _ in range(2000)}) > 1000
    assert len({texts.commit_message(rng) for _ in range(2000)}) > 1000
    assert len({texts.branch_name(rng) for _ in range(2000)}) > 1000
    for forms in (contexts.ROOTS, contexts.REPOS, contexts.ZONES, contexts.TABLE_HEADS):
        assert len({*forms}) >= 12


@pytest.mark.parametrize("wrong", [{"only": ["filesytem"]}, {"held_out": ["time.tell"]}])
def test_a_misspelt_name_is_refused_before_anything_runs(
    tmp_path: Path, wrong: dict[str, list[str]]
) -> None:
    with pytest.raises(DataError, match=r"no phrasing is for .*; there is (filesystem|time)"):
        build_dataset(SAMPLE / "phrasings", SAMPLE / "worlds.py", None, tmp_path / "out", **wrong)
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_no_worlds_file_is_refused(tmp_path: Path) -> None:
    wrong = tmp_path / "worlds.py"
    with pytest.raises(DataError, match="Python file"):
        load_worlds(wrong, scratch=tmp_path, grammars=tmp_path)
    wrong.write_text("x = 1\n", encoding="utf-8")
    with pytest.raises(DataError, match="worlds"):
        load_worlds(wrong, scratch=tmp_path, grammars=tmp_path)
    assert load_phrasings(SAMPLE / "phrasings")
