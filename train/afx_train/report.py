"""One HTML page about a training: losses, marks, confusions, calibration, the worst errors."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from afx_train import webpage
from afx_train.codec import Codec, Tokens
from afx_train.corpus import Corpus
from afx_train.evaluate import AdapterReport, Swaps, Verdict, trajectory_of
from afx_train.outputs import LOG
from afx_train.score import Marked, Report, Share

MAX_ERRORS = 60
MAX_LABELS = 40
_BINS = 10

Row = tuple[str, Share]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """Choices of like probability: how probable they were on average, and how many were right."""

    probability: float
    right: float
    count: int


def reliability(choices: Sequence[tuple[float, bool]]) -> tuple[list[Bin], float]:
    """The calibration curve in ten bins of equal width, and the expected calibration error.

    Source: Guo et al. 2017 (arXiv:1706.04599), section 2.
    """
    dealt: list[list[tuple[float, bool]]] = [[] for _ in range(_BINS)]
    for probability, right in choices:
        dealt[min(_BINS - 1, int(probability * _BINS))].append((probability, right))
    bins = [
        Bin(
            probability=sum(p for p, _ in part) / len(part),
            right=sum(r for _, r in part) / len(part),
            count=len(part),
        )
        for part in dealt
        if part
    ]
    error = sum(b.count * abs(b.probability - b.right) for b in bins) / max(1, len(choices))
    return bins, error


def adapters_page(
    reports: Sequence[AdapterReport],
    joined: Swaps | None,
    out: Path,
    *,
    corpus: Corpus,
    codec: Codec,
) -> str:
    """The page of `afx-train evaluate`. out: the folder of the adapters, with their logs."""
    requests = {t.id: t.request for t in corpus.trajectories}
    named = [r for r in reports if r.subtask != "arguments"]
    sections = [
        marks_section("Adapters", [(f"{r.name} ({r.subtask})", r.accuracy) for r in reports]),
        _swaps_section(joined),
        _loss_section(dict.fromkeys(r.name for r in reports), out),
        calibration_section([(v.probability, v.right) for r in named for v in r.verdicts]),
        *(
            confusion_section(
                f"{r.name}: chosen against right", [(v.example.label, v.chosen) for v in r.verdicts]
            )
            for r in named
        ),
        marks_section(
            "By label",
            [
                (f"{r.name}: {label}", marks)
                for r in reports
                for label, marks in r.per_label.items()
            ],
        ),
        errors_section([e for r in reports for e in _errors(r, requests, codec.text)]),
    ]
    title = f"Training report, {reports[0].split} split" if reports else "Training report"
    return webpage.page(title, [s for s in sections if s])


def predictions_page(report: Report, marked: Sequence[Marked]) -> str:
    """The page of `afx-train score`: what a bundle on a device made of the cases."""
    whole = [
        ("tool set", report.tool_set),
        ("tool", report.tool),
        ("call: tool and all arguments", report.call),
        ("call, first step", report.first_step),
        ("arguments, given the right tool", report.arguments),
        ("abstention precision", report.abstention_precision),
        ("abstention recall", report.abstention_recall),
        *(
            (f"unseen {kind}: {name}", marks)
            for kind, shares in report.novelty.items()
            for name, marks in shares.items()
        ),
    ]
    answered = [m for m in marked if m.prediction.get("confidence") is not None]
    queries = {str(m.case["id"]): m for m in marked}
    errors = [
        (_confidence(queries[miss.id]), miss.query, miss.expected, miss.got)
        for miss in report.misses
    ]
    sections = [
        marks_section("Marks", whole),
        calibration_section([(_confidence(m), m.tool_right) for m in answered]),
        confusion_section("Tools", [(m.name, m.got) for m in marked]),
        marks_section("Calls by tool", list(report.per_tool.items())),
        errors_section(errors),
    ]
    return webpage.page(f"{len(marked)} predictions", [s for s in sections if s])


def _confidence(marked: Marked) -> float:
    return float(marked.prediction.get("confidence") or 0.0)


def marks_section(title: str, rows: Sequence[Row]) -> str:
    """Shares with their intervals."""
    cells = [
        (name, f"{marks.value:.1%}", f"{marks.low:.1%} to {marks.high:.1%}", marks.count)
        for name, marks in rows
    ]
    head = ("", "right", "95 % interval", "n")
    return webpage.section(title, webpage.table(head, cells), note="Intervals are bootstrapped.")


def calibration_section(choices: Sequence[tuple[float, bool]]) -> str:
    """Probability of the chosen names against how often they were right."""
    if not choices:
        return ""
    bins, error = reliability(choices)
    curve = {"right": [(b.probability, b.right) for b in bins]}
    picture = webpage.lines("Share right by probability", curve, x="probability", unit=True)
    rows = [(f"{b.probability:.2f}", f"{b.right:.2f}", b.count) for b in bins]
    return webpage.section(
        "Calibration",
        picture,
        webpage.table(("mean probability", "share right", "n"), rows),
        note=f"A choice of probability p should be right in p of the cases. "
        f"Expected calibration error: {error:.3f}.",
    )


def confusion_section(title: str, pairs: Sequence[tuple[str, str]]) -> str:
    """What was chosen (columns) where what was right (rows)."""
    counts = Counter(pairs)
    often = Counter(label for pair in pairs for label in {*pair})
    labels = sorted(label for label, _ in often.most_common(MAX_LABELS))
    cut = f" The {MAX_LABELS} most frequent of {len(often)}." if len(often) > MAX_LABELS else ""
    note = f"Rows: right. Columns: chosen. Shaded by the share of the row.{cut}"
    return webpage.section(title, webpage.matrix(counts, labels, labels), note=note)


def errors_section(errors: Sequence[tuple[float, str, str, str]]) -> str:
    """Errors to read: (confidence, request, right, got), the most confident first."""
    worst = sorted(errors, key=lambda e: -e[0])[:MAX_ERRORS]
    rows = [(f"{c:.2f}", request, right, got) for c, request, right, got in worst]
    head = ("probability", "request", "right", "got")
    note = f"{len(worst)} of {len(errors)}, the most confident ones first."
    return webpage.section("Worst errors", webpage.table(head, rows, code=2), note=note)


def _errors(
    report: AdapterReport, requests: Mapping[str, str], text: Callable[[Tokens], str]
) -> list[tuple[float, str, str, str]]:
    return [
        (
            verdict.probability,
            requests.get(trajectory_of(verdict.example), verdict.example.id),
            f"{report.name}: {_right(verdict, text)}",
            verdict.chosen,
        )
        for verdict in report.verdicts
        if not verdict.right
    ]


def _right(verdict: Verdict, text: Callable[[Tokens], str]) -> str:
    example = verdict.example
    return text(example.target) if example.subtask == "arguments" else example.label


def _swaps_section(joined: Swaps | None) -> str:
    if joined is None:
        return ""
    rows = [
        ("own route, own tool, own arguments", joined.own),
        ("true set, own tool, own arguments", joined.gold_set),
        ("true set, true tool, own arguments", joined.gold_tool),
        ("own route, own tool, true arguments", joined.gold_arguments),
        ("own route alone", joined.own_set),
    ]
    return marks_section("Whole calls, with stages replaced by the truth", rows)


def _loss_section(names: Mapping[str, None], out: Path) -> str:
    figures: list[str] = []
    for name in names:
        path = out / name / LOG
        if not path.is_file():
            continue
        log: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        steps = [(float(step), float(loss)) for step, loss in log["steps"]]
        per_epoch = steps[-1][0] / max(1, len(log["dev"])) if steps else 1.0
        dev = [((at + 1) * per_epoch, float(value)) for at, value in enumerate(log["dev"])]
        figures.append(
            webpage.lines(name, {"loss": steps, "dev accuracy": dev}, x="optimizer steps")
        )
    note = "Loss a supervised token, and the share of dev prompts written exactly after each epoch."
    return webpage.section("Training", *figures, note=note) if figures else ""
