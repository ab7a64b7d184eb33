"""What calls of many servers say of the rules for tools that nobody trained for.

    python tests/bench/unknown_tools.py [DATA]

DATA: a data folder, by default samples/general/data; the first calls of its train and dev splits
are counted. Printed: how often the listed value that a request names alone is what is called for
(`agentflux.contracts.optional.named_values`), how many strings without listed values are spans of
request and context, and how many calls have one text for two of them
(`agentflux.orchestration.astray`).
"""
# ruff: noqa: T201

import re
import sys
from collections import Counter
from pathlib import Path

from afx_train.trajectory import read_trajectories
from agentflux.contracts.optional import named_values, texts_of
from agentflux.contracts.spans import is_span
from agentflux.contracts.tools import load_tool_folder

DATA = Path(__file__).parents[2] / "samples" / "general" / "data"
_MOMENT = re.compile(r"[\d:T.\-/+Z ]+")  # dates and times are written otherwise than they are said


def main(data: Path = DATA) -> None:
    """Print the three counts."""
    tools = {(t.tool_set, t.name): t for s in load_tool_folder(data / "tools").values() for t in s}
    counts = Counter[str]()
    for item in (i for s in ("train", "dev") for i in read_trajectories(data / f"{s}.jsonl")):
        for step in item.steps[:1]:
            schema, given = tools[step.tool_set, step.tool].input_schema, step.arguments
            for name, value in named_values(schema, item.request).items():
                counts["named"] += 1
                counts["named, given"] += name in given
                counts["named, right"] += given.get(name) == value
            free = [
                t for n, t in given.items() if isinstance(t, str) and not texts_of(schema, n)[2]
            ]
            copied = [text for text in free if not _MOMENT.fullmatch(text)]
            counts["strings"] += len(copied)
            counts["spans"] += sum(is_span(t, (item.request, item.context)) for t in copied)
            counts["several"] += len(free) > 1
            counts["one text twice"] += len({*free}) < len(free)
    print(
        f"a listed value named alone: {counts['named']}, the parameter given: "
        f"{counts['named, given']}, with that value: {counts['named, right']}\n"
        f"strings that are no dates or times: {counts['strings']}, spans: {counts['spans']}\n"
        f"calls with several strings: {counts['several']}, one text twice: "
        f"{counts['one text twice']}"
    )


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
