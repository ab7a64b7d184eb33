"""Marks for the predictions of `afx eval`: exact, with bootstrap intervals, no judge."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from afx_train.errors import DataError
from afx_train.trajectory import lines_of
from agentflux.contracts.prompts import FINISH, NONE

_RESAMPLES = 1000
_NO_GOLD = {"tool_set": None, "tool": None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """How many of a count are right, with the 95 % bootstrap interval of the share."""

    right: int
    count: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The share; 0 of nothing is 0."""
        return self.right / self.count if self.count else 0.0

    def __str__(self) -> str:
        """As `93.1 % (91.0-95.2, n=640)`."""
        return f"{self.value:.1%} ({self.low:.1%}-{self.high:.1%}, n={self.count})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Miss:
    """One wrong prediction, to read."""

    id: str
    query: str
    expected: str
    got: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All marks.

    tool_set, tool, call: over all cases; abstaining is right where no call is. arguments: exact
    among the calls whose tool is right. per_tool: call accuracy by gold tool. novelty: tool and
    call accuracy of the cases whose gold call is to a tool that training saw (`phrasing`), to an
    unseen tool of a known set (`tool`), to a set that it did not see (`server`); empty where it is
    not known what training saw.
    """

    cases: int
    failed: int
    tool_set: Share
    tool: Share
    call: Share
    arguments: Share
    first_step: Share
    abstention_precision: Share
    abstention_recall: Share
    per_tool: dict[str, Share]
    misses: tuple[Miss, ...]
    novelty: dict[str, dict[str, Share]] = field(default_factory=dict[str, dict[str, "Share"]])


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked:
    """One case with its prediction, and what of it is right."""

    case: Mapping[str, Any]
    prediction: Mapping[str, Any]
    set_right: bool
    tool_right: bool
    call_right: bool

    @property
    def gold(self) -> Mapping[str, Any]:
        """The right call."""
        gold: Mapping[str, Any] = self.case["gold"]
        return gold

    @property
    def stop(self) -> str:
        """What a stage says where no tool serves: `none`, or after a call `finish`."""
        return FINISH if self.case.get("history") else NONE

    @property
    def name(self) -> str:
        """Tool set and tool of the right call, or that there is none."""
        return _call_name(self.gold)

    @property
    def got(self) -> str:
        """Tool set and tool of the prediction; or its failure."""
        return "(failed)" if "error" in self.prediction else _call_name(self.prediction)


def score_files(cases: Path, predictions: Path) -> Report:
    """Compare predictions with the gold calls of their cases. Raises as `read_marks` does."""
    return summary(read_marks(cases, predictions))


def read_marks(cases: Path, predictions: Path) -> list[Marked]:
    """Mark every prediction of a file.

    Raises:
        DataError: a file is malformed, a case has no gold call or no prediction.
    """
    answered = {line["id"]: line for line in _lines(predictions, ("id",))}
    marked: list[Marked] = []
    for case in _lines(cases, ("id", "query", "gold")):
        if case["id"] not in answered:
            raise DataError(f"has no prediction for case {case['id']!r}", where=str(predictions))
        marked.append(_mark(case, answered[case["id"]]))
    if not marked:
        raise DataError("has no cases", where=str(cases))
    return marked


def choices(marked: Marked) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Yield the prediction's choices among names, each with the name that was right there.

    A selector of a tool set that is not the right one should have stopped.
    """
    gold_set, gold_tool = (marked.gold[key] or marked.stop for key in ("tool_set", "tool"))
    chosen_set = gold_set
    for stage in marked.prediction.get("stages", ()):
        if stage.get("choice") is None:
            continue
        if stage["stage"] == "route":
            yield stage, gold_set
            chosen_set = stage["choice"]
        elif stage["stage"] == "select":
            yield stage, gold_tool if chosen_set == gold_set else marked.stop


def share(right: Iterable[bool], *, seed: int = 0) -> Share:
    """Count, and resample for the interval."""
    values = [int(r) for r in right]
    if not values:
        return Share(right=0, count=0, low=0.0, high=0.0)
    rng, count, total = Random(seed), len(values), sum(values)
    means = sorted(sum(rng.choices(values, k=count)) / count for _ in range(_RESAMPLES))
    low, high = means[round(0.025 * _RESAMPLES)], means[round(0.975 * _RESAMPLES) - 1]
    return Share(right=total, count=count, low=low, high=high)


def as_json_text(report: Report) -> str:
    """The whole report as JSON."""
    return json.dumps(asdict(report), ensure_ascii=False, indent=2)


def as_text(report: Report, *, errors: int) -> str:
    """The report to read on a terminal."""
    rows = {
        "tool set": report.tool_set,
        "tool": report.tool,
        "call": report.call,
        "call, first step": report.first_step,
        "arguments given the tool": report.arguments,
        "abstention precision": report.abstention_precision,
        "abstention recall": report.abstention_recall,
    }
    lines = [f"{report.cases} cases, {report.failed} failed to run"]
    lines += [f"{name:26} {value}" for name, value in rows.items()]
    for kind, shares in report.novelty.items():
        lines += [f"{f'unseen {kind}: {name}':26} {marks}" for name, marks in shares.items()]
    lines += ["", "call accuracy by tool"]
    lines += [f"  {name:38} {value}" for name, value in report.per_tool.items()]
    if errors and report.misses:
        lines += ["", f"wrong ({min(errors, len(report.misses))} of {len(report.misses)})"]
    for miss in report.misses[:errors]:
        lines += [f"- {miss.query}", f"    expected {miss.expected}", f"    got      {miss.got}"]
    return "\n".join(lines)


def same(left: object, right: object) -> bool:
    """Equality of JSON values; true is not 1, 1.0 is 1."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right


def _mark(case: Mapping[str, Any], prediction: Mapping[str, Any]) -> Marked:
    gold = case["gold"]
    failed = "error" in prediction
    set_right = not failed and prediction.get("tool_set") == gold["tool_set"]
    tool_right = set_right and prediction.get("tool") == gold["tool"]
    accepted = [gold.get("arguments") or {}, *gold.get("accept", ())]
    given = prediction.get("arguments") or {}
    call_right = tool_right and (
        gold["tool"] is None or any(same(given, wanted) for wanted in accepted)
    )
    return Marked(
        case=case,
        prediction=prediction,
        set_right=set_right,
        tool_right=tool_right,
        call_right=call_right,
    )


def summary(marked: Sequence[Marked], seen: Set[tuple[str, str]] = frozenset()) -> Report:
    """All marks of a file together. seen: the tools that training called, as (set, tool)."""
    by_tool: dict[str, list[bool]] = defaultdict(list)
    for item in marked:
        by_tool[item.name].append(item.call_right)
    silent = [m for m in marked if "error" not in m.prediction and not m.prediction.get("tool_set")]
    none = [m for m in marked if m.gold["tool_set"] is None]
    with_tool = [m for m in marked if m.tool_right and m.gold["tool"] is not None]
    return Report(
        cases=len(marked),
        failed=sum("error" in m.prediction for m in marked),
        tool_set=share(m.set_right for m in marked),
        tool=share(m.tool_right for m in marked),
        call=share(m.call_right for m in marked),
        arguments=share(m.call_right for m in with_tool),
        first_step=share(m.call_right for m in marked if not m.case.get("history")),
        abstention_precision=share(m.gold["tool_set"] is None for m in silent),
        abstention_recall=share(m.set_right for m in none),
        per_tool={name: share(by_tool[name]) for name in sorted(by_tool)},
        misses=tuple(_miss(m) for m in marked if not m.call_right),
        novelty=_by_novelty(marked, seen) if seen else {},
    )


def _by_novelty(
    marked: Sequence[Marked], seen: Set[tuple[str, str]]
) -> dict[str, dict[str, Share]]:
    sets = {tool_set for tool_set, _ in seen}
    dealt: dict[str, list[Marked]] = {"phrasing": [], "tool": [], "server": []}
    for one in marked:
        tool_set, tool = one.gold["tool_set"], one.gold["tool"]
        if tool_set is not None:
            known = (tool_set, tool) in seen
            dealt["phrasing" if known else "tool" if tool_set in sets else "server"].append(one)
    return {
        kind: {"tool": share(m.tool_right for m in of), "call": share(m.call_right for m in of)}
        for kind, of in dealt.items()
        if of
    }


def _miss(item: Marked) -> Miss:
    got = item.prediction
    text = f"error: {got['error']}" if "error" in got else _call(got)
    return Miss(
        id=str(item.case["id"]),
        query=str(item.case["query"]),
        expected=_call(item.gold),
        got=text,
    )


def _call(call: Mapping[str, Any]) -> str:
    arguments = json.dumps(call.get("arguments") or {}, ensure_ascii=False)
    return _call_name(call) + (f" {arguments}" if call.get("tool") else "")


def _call_name(call: Mapping[str, Any]) -> str:
    return f"{call['tool_set']}.{call.get('tool')}" if call.get("tool_set") else "(no call)"


def _lines(path: Path, keys: Sequence[str]) -> list[dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read: {error}", where=str(path)) from error
    found: list[dict[str, Any]] = []
    for number, written in lines_of(text):
        where = f"{path}:{number}"
        try:
            line = json.loads(written)
        except ValueError as error:
            raise DataError(f"is not JSON: {error}", where=where) from error
        missing = [k for k in keys if not isinstance(line, dict) or k not in line]
        if missing:
            raise DataError(f"has no {missing[0]!r}", where=where)
        gold = line.get("gold", _NO_GOLD)
        if not isinstance(gold, dict) or not gold.keys() >= _NO_GOLD.keys():
            raise DataError("its gold call needs 'tool_set' and 'tool' (null: none)", where=where)
        found.append(line)
    return found
