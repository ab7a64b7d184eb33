"""Which parameters count as copied."""

from afx_train.copied import copied_parameters
from afx_train.trajectory import Trajectory, TrajectoryStep


def trajectory(number: int, request: str, arguments: dict[str, object], split: str) -> Trajectory:
    step = TrajectoryStep(tool_set="files", tool="read", arguments=arguments, observation="seen")
    return Trajectory.model_validate(
        {
            "id": f"t{number}",
            "request": request,
            "steps": [step],
            "phrasing": "p",
            "kind": "single",
            "split": split,
        }
    )


def test_a_parameter_is_copied_when_nearly_all_training_values_stand_before_it() -> None:
    copies = [
        trajectory(n, f"read file{n}.txt please", {"path": f"file{n}.txt", "mode": "r"}, "train")
        for n in range(20)
    ]
    other_split = [trajectory(99, "read it", {"path": "made up"}, "dev")]
    assert copied_parameters(copies + other_split) == {("files", "read"): ("path",)}
    assert copied_parameters(copies[:19]) == {}
    assert copied_parameters([*copies, trajectory(98, "x", {"path": "made up"}, "train")]) == {}


def test_a_value_may_come_from_an_earlier_observation() -> None:
    items = []
    for number in range(20):
        first = TrajectoryStep(
            tool_set="files", tool="list", arguments={}, observation=f"[FILE] n{number}.md"
        )
        second = TrajectoryStep(
            tool_set="files", tool="read", arguments={"path": f"n{number}.md"}, observation="."
        )
        item = trajectory(number, "read the only file", {}, "train")
        items.append(item.model_copy(update={"steps": (first, second)}))
    assert copied_parameters(items) == {("files", "read"): ("path",)}
