"""A data folder whose tool sets are cut into small ones, as an app with one to four functions has.

Who only learned from whole servers has seldom met a list that lacks the right tool. Here a part
lacks it for most of what its server was asked.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from afx_train.corpus import load_corpus
from afx_train.data.check import DataReport
from afx_train.data.folder import write_folder
from afx_train.errors import DataError
from afx_train.trajectory import Trajectory
from agentflux.contracts.tools import ToolSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """How tool sets are cut.

    most: tools of a part. beside: share of the requests for its sisters' tools that a part meets,
    as requests that no tool of it serves.
    """

    most: int = 4
    beside: float = 0.1
    seed: int = 0


def cut_folder(source: Path, out: Path, cut: Cut) -> DataReport:
    """Cut every tool set of a data folder into parts of 1 to `cut.most` tools, named `<set>.<n>`.

    Each tool is in one part. Requests of one call go with their tool; some of their sisters'
    requests come along as `none`, and what no tool of the whole set serves stays so. Requests of
    several calls are left out.

    Raises:
        DataError: the folder cannot be read, or nothing is left of it.
        ConfigError: it has no readable tools.
    """
    if out.resolve() == source.resolve():
        raise DataError("the parts need a folder of their own", where=str(out))
    corpus = load_corpus([source])
    rng = Random(cut.seed)
    parts = {name: list(_parts(tools, cut.most, rng)) for name, tools in corpus.catalog.items()}
    dropped: Counter[str] = Counter()
    items: list[Trajectory] = []
    for item in corpus.trajectories:
        placed = list(_placed(item, parts, cut, rng))
        items += placed
        dropped["several calls"] += len(item.steps) > 1
    if not items:
        raise DataError("has no request of one call", where=str(source))
    tools = {
        _name(name, number): [tool.wire for tool in part]
        for name, cuts in parts.items()
        for number, part in enumerate(cuts)
    }
    return write_folder(out, items, tools, dropped=dropped)


def _parts(tools: Sequence[ToolSpec], most: int, rng: Random) -> Iterator[list[ToolSpec]]:
    rest = rng.sample(tools, len(tools))
    while rest:
        size = rng.randint(1, most)
        yield rest[:size]
        rest = rest[size:]


def _placed(
    item: Trajectory, parts: dict[str, list[list[ToolSpec]]], cut: Cut, rng: Random
) -> Iterator[Trajectory]:
    if len(item.steps) > 1:
        return
    if not item.steps:
        nearest = item.kind.removeprefix("none/")
        number = rng.randrange(len(parts[nearest])) if nearest in parts else None
        kind = item.kind if number is None else f"none/{_name(nearest, number)}"
        yield item.model_copy(update={"kind": kind})
        return
    (step,) = item.steps
    for number, part in enumerate(parts[step.tool_set]):
        name = _name(step.tool_set, number)
        if any(tool.name == step.tool for tool in part):
            yield item.model_copy(update={"steps": (step.model_copy(update={"tool_set": name}),)})
        elif rng.random() < cut.beside:
            told = {"id": f"{item.id}-{number}", "steps": (), "kind": f"none/{name}"}
            yield item.model_copy(update=told)


def _name(tool_set: str, number: int) -> str:
    return f"{tool_set}.{number}"
