"""A data folder cut into small tool sets."""

import json
from pathlib import Path

import pytest

from afx_train.corpus import load_corpus
from afx_train.data.folder import TAUGHT, write_folder
from afx_train.data.parts import Cut, cut_folder
from afx_train.errors import DataError
from afx_train.trajectory import Trajectory, TrajectoryStep, write_trajectories


def _folder(where: Path, *, tools: int = 7) -> Path:
    names = [f"act_{number}" for number in range(tools)]
    (where / "tools").mkdir(parents=True)
    listed = [
        {"name": name, "description": f"Does {name}.", "inputSchema": {"type": "object"}}
        for name in names
    ]
    (where / "tools" / "shop.json").write_text(json.dumps(listed), encoding="utf-8")
    steps = {name: TrajectoryStep(tool_set="shop", tool=name) for name in names}

    def asked(number: int, *calls: str, kind: str = "single") -> Trajectory:
        return Trajectory(
            id=f"t{number}",
            request=f"please do thing {number}",
            steps=tuple(steps[name] for name in calls),
            phrasing=f"p{number}",
            kind=kind,
            split="train",
        )

    single = [asked(n, names[n % tools]) for n in range(70)]
    several = asked(100, names[0], names[1], kind="scenario")
    unserved = asked(101, kind="none/shop")
    write_trajectories(where / "train.jsonl", [*single, several, unserved])
    return where


def test_every_tool_is_in_one_small_part_and_keeps_its_requests(tmp_path: Path) -> None:
    cut_folder(_folder(tmp_path / "data"), tmp_path / "parts", Cut(most=3, beside=0.0))
    corpus = load_corpus([tmp_path / "parts"])
    assert all(1 <= len(tools) <= 3 for tools in corpus.catalog.values())
    homes = {tool.name: name for name, tools in corpus.catalog.items() for tool in tools}
    assert sorted(homes) == [f"act_{n}" for n in range(7)]
    assert sum(map(len, corpus.catalog.values())) == 7
    called = [step for item in corpus.trajectories for step in item.steps]
    assert len(called) == 70  # the request of two calls is left out
    assert all(step.tool_set == homes[step.tool] for step in called)


def test_what_a_sister_serves_is_refused_here(tmp_path: Path) -> None:
    cut_folder(_folder(tmp_path / "data"), tmp_path / "parts", Cut(most=2, beside=1.0))
    corpus = load_corpus([tmp_path / "parts"])
    parts = len(corpus.catalog)
    refused = [item for item in corpus.trajectories if not item.steps]
    assert len(refused) == 70 * (parts - 1) + 1
    assert {item.kind.removeprefix("none/") for item in refused} <= set(corpus.catalog)
    served = {(i.request, s.tool_set) for i in corpus.trajectories for s in i.steps}
    assert not served & {(item.request, item.kind.removeprefix("none/")) for item in refused}


def test_parts_are_sound_data_and_a_second_cut_leaves_nothing_of_the_first(tmp_path: Path) -> None:
    source, out = _folder(tmp_path / "data"), tmp_path / "parts"
    assert cut_folder(source, out, Cut(most=1, beside=1.0)).problems == ()
    first = set(load_corpus([out]).catalog)
    assert cut_folder(source, out, Cut(most=4, seed=1)).problems == ()
    assert len(set(load_corpus([out]).catalog)) < len(first)


def test_the_same_seed_cuts_the_same(tmp_path: Path) -> None:
    source = _folder(tmp_path / "data")
    texts = []
    for name in ("one", "two"):
        cut_folder(source, tmp_path / name, Cut(beside=0.3, seed=4))
        texts.append((tmp_path / name / "train.jsonl").read_bytes())
    assert texts[0] == texts[1]


def test_a_folder_is_not_cut_over_itself(tmp_path: Path) -> None:
    source = _folder(tmp_path / "data")
    before = (source / "train.jsonl").read_bytes()
    with pytest.raises(DataError, match="folder of their own"):
        cut_folder(source, source, Cut())
    assert (source / "train.jsonl").read_bytes() == before


def test_a_folder_cut_from_another_counts_once_where_requests_are_counted(tmp_path: Path) -> None:
    source = _folder(tmp_path / "data")
    cut_folder(source, tmp_path / "parts", Cut(most=2))
    both = load_corpus([source, tmp_path / "parts"])
    assert both.whole().worlds == both.worlds[:1]
    assert load_corpus([source]).whole().worlds == both.worlds[:1]


def test_a_folder_written_again_has_no_tool_set_and_no_teacher_s_requests_of_before(
    tmp_path: Path,
) -> None:
    _folder(tmp_path / "data")
    out = tmp_path / "parts"
    cut_folder(tmp_path / "data", out, Cut(most=1))
    (out / TAUGHT).write_bytes((out / "train.jsonl").read_bytes())
    cut_folder(tmp_path / "data", out, Cut(most=7))
    again = load_corpus([out])
    cut_folder(tmp_path / "data", tmp_path / "fresh", Cut(most=7))
    assert again == load_corpus([tmp_path / "fresh"])


def test_what_cannot_be_written_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    tool = {"name": "act", "description": "Acts.", "inputSchema": {"type": "object"}}
    write_folder(tmp_path, [], {"shop": [tool]}, dropped={})
    whole = (tmp_path / "tools" / "shop.json").read_bytes()
    with pytest.raises(UnicodeEncodeError):
        write_folder(tmp_path, [], {"shop": [tool | {"description": "\ud800"}]}, dropped={})
    assert (tmp_path / "tools" / "shop.json").read_bytes() == whole
