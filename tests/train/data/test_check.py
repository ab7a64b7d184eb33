"""The report finds what it is there to find."""

from pathlib import Path

from afx_train.data.check import check
from afx_train.trajectory import (
    Split,
    Trajectory,
    TrajectoryStep,
    read_trajectories,
    write_trajectories,
)

TOOLS = {
    "shelf": [
        {
            "name": "take",
            "inputSchema": {
                "type": "object",
                "properties": {"item": {"type": "string"}},
                "required": ["item"],
                "additionalProperties": False,
            },
        }
    ]
}


def _item(number: int, *, split: Split = "train", **arguments: object) -> Trajectory:
    step = TrajectoryStep(tool_set="shelf", tool="take", arguments=arguments or {"item": "cup"})
    return Trajectory(
        id=str(number),
        request=f"take the cup {number}",
        steps=(step,),
        phrasing=f"shelf.take/{number}",
        kind="single",
        split=split,
    )


def test_what_is_written_is_read_again_whatever_ends_a_line_elsewhere(tmp_path: Path) -> None:
    items = [
        _item(number).model_copy(update={"request": f"say hello{mark}now"})
        for number, mark in enumerate(("\u2028", "\u2029", "\x85", "\n", "\r\n", "\x0c"))
    ]
    write_trajectories(tmp_path / "x.jsonl", items)
    assert read_trajectories(tmp_path / "x.jsonl") == items


def test_sound_data_has_no_problems() -> None:
    report = check([_item(1), _item(2, split="test")], TOOLS)
    assert report.problems == ()
    assert report.splits == {"train": 1, "test": 1}
    assert report.per_tool == {"shelf.take": {"train": 1, "dev": 0, "test": 1}}
    assert report.unfounded == {}


def test_a_phrasing_in_two_splits_is_a_leak() -> None:
    leaking = _item(2, split="test").model_copy(update={"phrasing": "shelf.take/1"})
    assert "phrasing 1 is in ['test', 'train']" in check([_item(1), leaking], TOOLS).leaks


def test_the_same_request_in_two_splits_is_a_leak() -> None:
    leaking = _item(2, split="test").model_copy(update={"request": "Take the cup: 1!"})
    assert len(check([_item(1), leaking], TOOLS).leaks) == 1


def test_a_repeated_request_is_counted() -> None:
    assert check([_item(1), _item(1)], TOOLS).duplicates == 1


def test_arguments_against_the_schema_are_found() -> None:
    report = check([_item(1, item=3), _item(2, box="cup")], TOOLS)
    assert len(report.schema_errors) == 3


def test_a_call_to_an_unlisted_tool_is_found() -> None:
    assert check([_item(1)], {}).schema_errors == ("1: no tool shelf.take",)


def test_a_value_from_nowhere_is_unfounded() -> None:
    assert check([_item(1, item="saucer")], TOOLS).unfounded == {"shelf.take": 1}


def test_a_value_from_an_observation_is_founded() -> None:
    first = _item(1).steps[0].model_copy(update={"observation": "saucer"})
    second = first.model_copy(update={"arguments": {"item": "saucer"}})
    item = _item(1).model_copy(update={"steps": (first, second)})
    assert check([item], TOOLS).unfounded == {}
