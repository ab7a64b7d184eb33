"""`afx-train data teach`: a data folder, enlarged by what a teacher writes."""

import asyncio
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from random import Random

from afx_train.corpus import load_corpus
from afx_train.data.check import DataReport, check, words_only
from afx_train.data.endpoint import Teacher
from afx_train.data.folder import TAUGHT
from afx_train.data.generate import drafts, fills_of
from afx_train.data.grammar import load_phrasings
from afx_train.data.teach import (
    LEVELS,
    Known,
    Taught,
    composed,
    is_taught,
    reworded,
    rewording_question,
)
from afx_train.data.verify import running
from afx_train.data.worlds import load_worlds
from afx_train.errors import DataError
from afx_train.trajectory import Trajectory, write_trajectories

_ANSWER_CHARS = 300


def lesson_items(data: Path, *, limit: int, seed: int) -> list[Trajectory]:
    """The training trajectories to reword: `limit` of them (0: all), drawn by the seed."""
    items = [t for t in load_corpus([data]).trajectories if t.split == "train" and t.steps]
    items = [t for t in items if not is_taught(t)]
    if not items:
        raise DataError("has no training trajectories with calls", where=str(data))
    return Random(seed).sample(items, limit) if 0 < limit < len(items) else items


def estimated_cost(teacher: Teacher, items: Sequence[Trajectory], *, count: int) -> float:
    """US dollars for rewording, before anything is asked."""
    questions = [rewording_question(item, level, count) for item in items for level in LEVELS]
    return teacher.estimate(questions, answer_chars=_ANSWER_CHARS * count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """What to ask for.

    count: rewordings of each request at each level. new: new requests in all; they need grammars
    and worlds, whose scenes they are about and executed on.
    """

    count: int = 2
    new: int = 0
    grammars: Path | None = None
    worlds: Path | None = None
    seed: int = 0


def teach(
    data: Path, teacher: Teacher, items: Sequence[Trajectory], lesson: Lesson
) -> tuple[DataReport, Taught]:
    """Write `taught.jsonl` into the data folder and return the report on the whole folder.

    No request of any split is written again, and no tool called that the training split does not
    call: both would train on what the test split asks.

    Raises:
        TeacherFailed: the endpoint fails. What it answered before stays in the cache.
        DataError: the data, the phrasings or the worlds do not fit together.
    """
    known = Known.of(load_corpus([data]).trajectories)
    taught = reworded(items, teacher, count=lesson.count, known=known.requests)
    if lesson.new:
        more = asyncio.run(_compose(teacher, lesson, _with(known, taught)))
        taught.trajectories += more.trajectories
        taught.dropped += more.dropped
    write_trajectories(data / TAUGHT, taught.trajectories)
    whole = load_corpus([data])
    report = check(whole.trajectories, whole.listed()).with_build(
        styles={"taught": len(taught.trajectories)},
        rejected=dict(taught.dropped),
        failures=(),
        repeated=0,
    )
    return report, taught


def _with(known: Known, taught: Taught) -> Known:
    words = {words_only(item.request) for item in taught.trajectories}
    return replace(known, requests=known.requests | words)


async def _compose(teacher: Teacher, lesson: Lesson, known: Known) -> Taught:
    grammars, worlds, seed = lesson.grammars, lesson.worlds, lesson.seed
    if grammars is None or worlds is None:
        raise DataError("new requests need --grammars and --worlds to be executed on")
    taught = Taught()
    with tempfile.TemporaryDirectory(prefix="afx-teach-") as folder:
        made = load_worlds(worlds, scratch=Path(folder).resolve(), grammars=grammars)
        phrasings = [p for p in load_phrasings(grammars) if p.kind == "single"]
        Random(seed).shuffle(phrasings)
        fills = fills_of(phrasings, per_phrasing=1.0, least_per_tool=0, seed=seed)
        async with running({name: world.server for name, world in made.items()}) as servers:
            tools = await servers.tools()
            chosen = islice(drafts(phrasings, made, fills=fills, seed=seed), lesson.new)
            async for found in composed(chosen, tools, teacher, servers, known):
                if isinstance(found, str):
                    taught.dropped[found] += 1
                else:
                    taught.trajectories.append(found)
    return taught
