"""Which string parameters the training data only ever copies from the texts at hand."""

from collections import defaultdict
from collections.abc import Iterable

from afx_train.trajectory import Trajectory
from agentflux.contracts.spans import is_span, string_leaves

MIN_EXAMPLES = 20
MIN_SHARE = 0.99


def copied_parameters(trajectories: Iterable[Trajectory]) -> dict[tuple[str, str], tuple[str, ...]]:
    """Return, for each (tool set, tool), the paths whose values are spans of what stood before.

    A path counts with at least 20 training values of which at most 1 % are not spans.
    """
    counts: dict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0, 0])
    for trajectory in trajectories:
        if trajectory.split != "train":
            continue
        texts = [trajectory.request, trajectory.context]
        for step in trajectory.steps:
            for path, value in string_leaves(step.arguments):
                count = counts[step.tool_set, step.tool, path]
                count[0] += 1
                count[1] += is_span(value, texts)
            texts.append(step.observation)
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for (tool_set, tool, path), (seen, spans) in sorted(counts.items()):
        if seen >= MIN_EXAMPLES and spans >= MIN_SHARE * seen:
            found[tool_set, tool].append(path)
    return {key: tuple(paths) for key, paths in found.items()}
