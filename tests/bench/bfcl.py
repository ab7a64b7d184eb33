"""BFCL's rows of one Python call or none, decided by a bundle, judged by the package's checker.

    python tests/bench/bfcl.py BUNDLE [--category simple_python ...] [--limit 100] [--out FILE]

Each row's functions are one tool set, so the stages are selection (or `none`) and arguments. The
rows and the checker come from the wheel of `bfcl-eval` in the cache. For evaluation only: nothing
is trained or tuned on them.
"""

import argparse
import json
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from random import Random
from statistics import median
from tempfile import TemporaryDirectory
from types import ModuleType, SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from bench.runs import save_result, table

from afx_export.wheels import download_wheel
from afx_train.data.imports.functions import bfcl
from afx_train.score import share
from agentflux.contracts.bundle import read_manifest, sha256_file
from agentflux.contracts.cache import cache_folder
from agentflux.contracts.experts import bundle_experts
from agentflux.contracts.prompts import Situation
from agentflux.contracts.tools import ToolCall, ToolSpec
from agentflux.errors import AgentFluxError
from agentflux.orchestration.stages import Stages
from agentflux.progress import progress
from agentflux.session import open_engine

VERSION = "2026.3.23"
SHA256 = "3bb6dfa5f0c68ad403c9ec50b00db2bb3b4cc9b38ab1ff33f48fe30d853d3a0a"
CATEGORIES = ("simple_python", "multiple", "irrelevance")
LIVE = ("live_simple", "live_multiple", "live_irrelevance")
TOOL_SET = "functions"
# Their accepted answers are wrong, whatever is answered.
DEFECTS = frozenset(
    {
        "live_simple_106-63-0",
        "live_simple_112-68-0",
        "live_multiple_862-181-3",
        "live_multiple_964-207-0",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A row: what is asked, over which tools, and what the checker wants to know."""

    id: str
    request: str
    tools: tuple[ToolSpec, ...]
    functions: Sequence[Mapping[str, Any]]
    accepted: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """How a question was answered. tool: None where it was refused."""

    id: str
    tool: str | None
    arguments: Mapping[str, Any] | None
    right: bool
    why: str
    ms: float


def main() -> None:
    """Ask, judge, print a table."""
    options = _options()
    wheel = _wheel()
    judge = _checker(wheel)
    manifest = read_manifest(options.bundle)
    experts = bundle_experts(options.bundle, manifest)
    rows: list[dict[str, Any]] = []
    with closing(open_engine(options.bundle, manifest, threads=options.threads)) as engine:
        stages = Stages(engine, manifest, {}, experts=experts)
        for category in options.category or CATEGORIES:
            asked = _drawn(list(_questions(wheel, category)), options.limit)
            answers: list[Answer] = []
            with progress(category, len(asked)) as advance:
                for question in asked:
                    answers.append(_answer(stages, question, category, judge))
                    advance()
            rows.append(_marks(category, answers))
            if options.answers:
                _save(options.answers / f"{category}.jsonl", answers)
    result = {"bundle": options.name or options.bundle.name, "model": manifest.base_model.id}
    print(table(rows))
    if options.out:
        told = [{**row, "right": asdict(row["right"])} for row in rows]
        save_result(options.out, {**result, "bfcl_eval": VERSION, "rows": told})


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    default = f"default: {', '.join(CATEGORIES)}"
    known = (*CATEGORIES, *LIVE)
    parser.add_argument("--category", action="append", choices=known, help=default)
    parser.add_argument("--limit", type=int, help="so many rows a category, drawn at random")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--name", default="", help="of the bundle, in the result")
    parser.add_argument("--answers", type=Path, help="folder for every answer, to read")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def _wheel() -> Path:
    """The package's wheel in the cache, checked; pip fetches it the first time."""
    folder = cache_folder() / "downloads" / "bfcl"
    wheel = download_wheel("BFCL", f"bfcl-eval=={VERSION}", folder)
    if sha256_file(wheel) != SHA256:
        wheel.unlink()
        sys.exit(f"{wheel.name} is not the pinned file and was discarded; run again")
    return wheel


def _checker(wheel: Path) -> Callable[[Question, ToolCall, str], str]:
    """The package's checker of calls: says what is wrong, nothing where all is right.

    Its table of hosted models needs all their clients and only says how names are spelled.
    """
    models = ModuleType("bfcl_eval.constants.model_config")
    models.MODEL_CONFIG_MAPPING = {"ours": SimpleNamespace(underscore_to_dot=False)}  # type: ignore[attr-defined]
    sys.modules[models.__name__] = models
    sys.path.insert(0, str(wheel))
    check = import_module("bfcl_eval.eval_checker.ast_eval.ast_checker").ast_checker
    python = import_module("bfcl_eval.constants.enums").Language.PYTHON

    def judge(question: Question, call: ToolCall, category: str) -> str:
        told = [{call.tool: dict(call.arguments)}]
        found = check(question.functions, told, question.accepted, python, category, "ours")
        return "" if found["valid"] else str(found["error"])

    return judge


def _questions(wheel: Path, category: str) -> Iterator[Question]:
    with zipfile.ZipFile(wheel) as archive:
        name = f"BFCL_v4_{category}.json"
        asked = archive.read(f"bfcl_eval/data/{name}").decode()
        answers = f"bfcl_eval/data/possible_answer/{name}"
        told = archive.read(answers).decode() if answers in archive.namelist() else ""
    accepted = {row["id"]: row["ground_truth"] for row in map(json.loads, told.splitlines())}
    with TemporaryDirectory() as folder:
        source = Path(folder) / name
        source.write_text(asked, encoding="utf-8")
        rows = list(bfcl(source, None))
    for line, row in zip(asked.splitlines(), rows, strict=True):
        raw = json.loads(line)
        if raw["id"] in DEFECTS:
            continue
        yield Question(
            id=raw["id"],
            request=row.request,
            tools=tuple(ToolSpec.from_wire(TOOL_SET, tool.wire) for tool in row.tools),
            functions=raw["function"],
            accepted=accepted.get(raw["id"], ()),
        )


def _drawn(questions: list[Question], limit: int | None) -> list[Question]:
    return questions if limit is None else Random(0).sample(questions, min(limit, len(questions)))


def _answer(
    stages: Stages,
    question: Question,
    category: str,
    judge: Callable[[Question, ToolCall, str], str],
) -> Answer:
    started = time.perf_counter()
    own = stages.with_catalog({TOOL_SET: question.tools})
    call: ToolCall | None = None
    try:
        situation = Situation(request=question.request)
        call = own.decide(situation, emit=lambda event: None, cancel=None).call
        why = _fault(question, call, category, judge)
    except AgentFluxError as error:
        why = f"{type(error).__name__}: {error}"
    return Answer(
        id=question.id,
        tool=call.tool if call else None,
        arguments=call.arguments if call else None,
        right=not why,
        why=why,
        ms=round((time.perf_counter() - started) * 1000, 1),
    )


def _fault(
    question: Question,
    call: ToolCall | None,
    category: str,
    judge: Callable[[Question, ToolCall, str], str],
) -> str:
    if not question.accepted:
        return "no function serves" if call else ""
    return judge(question, call, category) if call else "refused"


def _marks(category: str, answers: Sequence[Answer]) -> dict[str, Any]:
    return {
        "category": category,
        "right": share(answer.right for answer in answers),
        "refused": sum(answer.tool is None for answer in answers),
        "ms_median": round(median(answer.ms for answer in answers), 1),
    }


def _save(path: Path, answers: Sequence[Answer]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(asdict(answer), ensure_ascii=False) + "\n" for answer in answers)
    path.write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
