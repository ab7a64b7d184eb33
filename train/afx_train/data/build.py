"""Build the data set: phrasings → drafts → verified trajectories → files and a report."""

import asyncio
import difflib
import json
import os
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from afx_train.data.check import DataReport, check
from afx_train.data.folder import write_data
from afx_train.data.generate import Draft, drafts, fills_of
from afx_train.data.grammar import Phrasing, load_phrasings
from afx_train.data.verify import Rejected, running, verified
from afx_train.data.worlds import World, load_worlds
from afx_train.errors import DataError
from afx_train.trajectory import Trajectory

MAX_FAILURES_KEPT = 40
HOPELESS_AFTER = 50
_MEMORY_DISK = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in it
_SCRATCH_BYTES = 256 << 20  # more than the largest workspace needs

Progress = Callable[[int, int], None]


@dataclass(slots=True)
class _Tally:
    done: list[Trajectory] = field(default_factory=list[Trajectory])
    styles: Counter[str] = field(default_factory=Counter[str])
    rejected: Counter[str] = field(default_factory=Counter[str])
    failures: list[str] = field(default_factory=list[str])


def build_dataset(  # noqa: PLR0913 - each is an option of the command
    grammars: Path,
    worlds: Path,
    tools: Path | None,
    out: Path,
    *,
    seed: int = 0,
    per_phrasing: float = 1.25,
    least_per_tool: int = 140,
    only: Sequence[str] = (),
    held_out: Sequence[str] = (),
    progress: Progress | None = None,
) -> DataReport:
    """Write `train|dev|test.jsonl`, `tools/<set>.json` and `report.json` into `out`.

    A `taught.jsonl` there was made of other data and goes.

    tools: a folder of tools/list files to check the running servers' tools against.
    only: restrict the build to these tool sets (for a quick look).
    held_out: tools ("filesystem.move_file") or tool sets whose trajectories all go to test.
    progress: called with (done, total).

    Raises:
        DataError: phrasings, worlds or servers do not fit together; says where.
    """
    known = load_phrasings(grammars)
    _refuse_unknown("--only", only, {*_sets(known), "none"})
    _refuse_unknown("--held-out", held_out, {*_sets(known), *_tools(known)})
    phrasings = _chosen(known, only)
    with tempfile.TemporaryDirectory(prefix="afx-data-", dir=_in_memory()) as folder:
        made = load_worlds(worlds, scratch=Path(folder).resolve(), grammars=grammars)
        fills = fills_of(
            phrasings, per_phrasing=per_phrasing, least_per_tool=least_per_tool, seed=seed
        )
        with _out_of_groups():
            tally, listed = asyncio.run(_verified(phrasings, made, fills, seed, progress))
    items = _held_out(_distinct(tally.done), held_out)
    _same_tools(listed, tools)
    return _write(out, items, listed, tally)


async def _verified(
    phrasings: Sequence[Phrasing],
    worlds: Mapping[str, World],
    fills: Mapping[tuple[str, str], int],
    seed: int,
    progress: Progress | None,
) -> tuple[_Tally, dict[str, list[dict[str, Any]]]]:
    total, tally = sum(fills.values()), _Tally()
    async with running({name: world.server for name, world in worlds.items()}) as servers:
        listed = await servers.tools()
        made = drafts(_interleaved(phrasings), worlds, fills=fills, seed=seed)
        async with aclosing(verified(made, servers.verify)) as results:
            async for draft, result in results:
                _count(tally, draft, result)
                if progress:
                    progress(len(tally.done) + len(tally.failures), total)
    return tally, listed


@contextmanager
def _out_of_groups() -> Iterator[None]:
    """Raise an error of ours as itself: the servers' task groups wrap what ends them."""
    try:
        yield
    except BaseExceptionGroup as group:
        ours: BaseException | None = group.subgroup(DataError)
        while isinstance(ours, BaseExceptionGroup):
            ours = ours.exceptions[0]
        if ours is None:
            raise
        raise ours from None


def _in_memory() -> Path | None:
    """A folder in memory, where there is one: ten thousand workspaces are made and removed."""
    try:
        free = shutil.disk_usage(_MEMORY_DISK).free
    except OSError:
        return None
    return _MEMORY_DISK if free > _SCRATCH_BYTES and os.access(_MEMORY_DISK, os.W_OK) else None


def _interleaved(phrasings: Sequence[Phrasing]) -> list[Phrasing]:
    """Mix the tool sets evenly: servers work side by side, and each has one workspace only."""
    by_set: dict[str, list[Phrasing]] = defaultdict(list)
    for phrasing in phrasings:
        by_set[phrasing.calls[0].tool_set if phrasing.calls else ""].append(phrasing)
    placed = [
        (at / len(listed), phrasing)
        for listed in by_set.values()
        for at, phrasing in enumerate(listed)
    ]
    return [phrasing for _, phrasing in sorted(placed, key=lambda pair: pair[0])]


def _count(tally: _Tally, draft: Draft, result: Trajectory | Rejected) -> None:
    if isinstance(result, Trajectory):
        tally.done.append(result)
        tally.styles[draft.style or "as written"] += 1
        return
    tally.rejected[draft.trajectory.phrasing.split("/")[0]] += 1
    tally.failures.append(f"{draft.trajectory.request!r}: {result}")
    _stop_if_hopeless(tally)


def _stop_if_hopeless(tally: _Tally) -> None:
    """Give up when most calls fail: a server is gone, or the worlds do not fit the phrasings."""
    if len(tally.failures) >= HOPELESS_AFTER and len(tally.failures) > len(tally.done):
        raise DataError(
            f"{len(tally.failures)} of {len(tally.failures) + len(tally.done)} gold calls failed, "
            f"the last one: {tally.failures[-1]}"
        )


def _chosen(phrasings: Sequence[Phrasing], only: Sequence[str]) -> list[Phrasing]:
    if not only:
        return list(phrasings)
    sets = {*only}
    return [
        p
        for p in phrasings
        if {c.tool_set for c in p.calls} <= sets and (p.calls or "none" in sets)
    ]


def _sets(phrasings: Sequence[Phrasing]) -> set[str]:
    return {call.tool_set for phrasing in phrasings for call in phrasing.calls}


def _tools(phrasings: Sequence[Phrasing]) -> set[str]:
    return {f"{call.tool_set}.{call.tool}" for phrasing in phrasings for call in phrasing.calls}


def _refuse_unknown(option: str, names: Sequence[str], known: Set[str]) -> None:
    """Refuse a name that no phrasing calls: it would leave the data silently as it is, or empty."""
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3) or sorted(known)
            msg = f"no phrasing is for {name!r}; there is {', '.join(near)}"
            raise DataError(msg, where=option)


def _distinct(items: Sequence[Trajectory]) -> list[Trajectory]:
    """Drop repeated requests in the same context."""
    seen: dict[tuple[str, str], Trajectory] = {}
    for item in items:
        seen.setdefault((item.request, item.context), item)
    return list(seen.values())


def _held_out(items: Sequence[Trajectory], held_out: Sequence[str]) -> list[Trajectory]:
    names = {*held_out}
    return [
        item.model_copy(update={"split": "test"})
        if any({s.tool_set, f"{s.tool_set}.{s.tool}"} & names for s in item.steps)
        else item
        for item in items
    ]


def _same_tools(listed: Mapping[str, list[dict[str, Any]]], folder: Path | None) -> None:
    for path in sorted(folder.glob("*.json")) if folder else ():
        expected = json.loads(path.read_text(encoding="utf-8"))
        if path.stem in listed and [t["name"] for t in expected] != [
            t["name"] for t in listed[path.stem]
        ]:
            raise DataError("lists other tools than the running server", where=str(path))


def _write(
    out: Path,
    items: Sequence[Trajectory],
    listed: Mapping[str, list[dict[str, Any]]],
    tally: _Tally,
) -> DataReport:
    report = check(items, listed).with_build(
        styles=dict(tally.styles.most_common()),
        rejected=dict(tally.rejected.most_common()),
        failures=tuple(tally.failures[:MAX_FAILURES_KEPT]),
        repeated=len(tally.done) - len(items),
    )
    write_data(out, items, listed, report, indent=2)
    return report
