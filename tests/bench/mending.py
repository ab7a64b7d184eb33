"""Written arguments put right by what the texts show (`arguments.put_right`): is it ever wrong?

    python tests/bench/mending.py [--data samples/desk_assistant/data]
        [--asked CASES PREDICTIONS ...]

Printed for each parameter: of the training data's right values, how many would be changed to what
is no longer right. With --asked, how many of the calls of such predictions, the right tool chosen,
become right and how many wrong. Those of a bundle that mends are mended already.
"""
# ruff: noqa: T201

import argparse
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from afx_train.copied import Copying, copied_parameters
from afx_train.trajectory import Trajectory, read_trajectories
from agentflux.contracts.bundle import CatalogTool
from agentflux.contracts.cases import read_cases
from agentflux.contracts.prompts import Situation
from agentflux.contracts.spans import string_leaves
from agentflux.contracts.tools import Step, ToolCall, ToolSpec, load_tool_folder
from agentflux.orchestration.arguments import put_right

ROOT = Path(__file__).parents[2]
NOTHING_COPIED = Copying()
Known = Mapping[tuple[str, str], tuple[ToolSpec, CatalogTool]]


def main() -> None:
    """Count over the training data, then over each pair of cases and predictions."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT / "samples" / "desk_assistant" / "data")
    parser.add_argument(
        "--asked", nargs=2, type=Path, action="append", default=[], metavar=("CASES", "PREDICTIONS")
    )
    options = parser.parse_args()
    trajectories = read_trajectories(options.data / "train.jsonl")
    copying = copied_parameters(trajectories)
    known = {
        (tool.tool_set, tool.name): (tool, _seen(tool, copying))
        for tools in load_tool_folder(options.data / "tools").values()
        for tool in tools
    }
    _count(trajectories, known)
    for cases, predictions in options.asked:
        print(cases.name, dict(_asked(cases, predictions, known)))


def _seen(tool: ToolSpec, copying: Mapping[tuple[str, str], Copying]) -> CatalogTool:
    """What training sees of a tool."""
    how = copying.get((tool.tool_set, tool.name), NOTHING_COPIED)
    what = {"tool_set": tool.tool_set, "name": tool.name, "sha256": tool.sha256}
    return CatalogTool(**what, **how.as_fields())


def _count(trajectories: list[Trajectory], known: Known) -> None:
    values, changed, wrong = Counter[str](), Counter[str](), Counter[str]()
    for trajectory in trajectories:
        steps = list[Step]()
        for step in trajectory.steps:
            key, told = (step.tool_set, step.tool), tuple(steps)
            request, context = trajectory.request, trajectory.context
            situation = Situation(request=request, context=context, steps=told)
            other = put_right(step.arguments, *known[key], situation)
            pairs = zip(string_leaves(step.arguments), string_leaves(other), strict=True)
            right = other == step.arguments or other in step.accept
            for (path, before), (_, after) in pairs:
                name = f"{step.tool}.{path}"
                values[name] += 1
                changed[name] += before != after
                wrong[name] += before != after and not right
            call = ToolCall(tool_set=key[0], tool=key[1], arguments=step.arguments)
            steps.append(Step(call=call, observation=step.observation, is_error=step.is_error))
    for name, count in sorted(values.items()):
        if changed[name]:
            print(f"{name}: {count} values, {changed[name]} changed, {wrong[name]} wrongly")
    print(f"all: {sum(values.values())} values, {sum(wrong.values())} changed wrongly")


def _asked(cases: Path, predictions: Path, known: Known) -> Counter[str]:
    lines = [json.loads(line) for line in cases.read_text(encoding="utf-8").splitlines()]
    golds: dict[str, Any] = {row["id"]: row["gold"] for row in lines}
    situations = {case.id: case.situation() for case in read_cases(cases)}
    told = Counter[str]()
    for line in predictions.read_text(encoding="utf-8").splitlines():
        made = json.loads(line)
        gold, key = golds[made["id"]], (made["tool_set"], made["tool"])
        if made["tool"] is None or (gold["tool_set"], gold["tool"]) != key:
            continue
        given = made["arguments"]
        other = put_right(given, *known[key], situations[made["id"]])
        before, after = (a == gold["arguments"] or a in gold["accept"] for a in (given, other))
        told["calls"] += 1
        told["right"] += before
        told["changed"] += given != other
        told["made right"] += after and not before
        told["made wrong"] += before and not after
    return told


if __name__ == "__main__":
    main()
