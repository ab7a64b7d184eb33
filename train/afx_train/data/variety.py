"""How varied hand-written phrasings are: many a tool, no two alike, none copied across tools."""

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from afx_train.data.grammar import Phrasing, skeleton

LEAST = 60
NEAR = 0.8
MAX_LISTED = 20
_MAX_NEAR_SHARE = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """Two wordings that share most of their words, slots blanked (Jaccard index, 0.8 to 1)."""

    overlap: float
    groups: tuple[str, str]
    asks: tuple[str, str]

    def __str__(self) -> str:
        """As `0.83 git.git_log 'show the log' ~ git.git_show 'show a log'`."""
        sides = (f"{group} {ask!r}" for group, ask in zip(self.groups, self.asks, strict=True))
        return f"{self.overlap:.2f} {' ~ '.join(sides)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class VarietyReport:
    """The findings. `problems` is empty where the phrasings can teach.

    phrasings: distinct wordings by tool (or `none.<category>`, `scenario.<sets>`); what differs in
    case and punctuation only counts once. alike: neighbours within a tool. across: neighbours of
    different tools, which one word or the kind of a slot has to tell apart. copies: those across
    tools that even have the same slots, so that nothing tells them apart. least: that a tool needs.
    """

    phrasings: Mapping[str, int]
    alike: tuple[Neighbours, ...]
    across: tuple[Neighbours, ...]
    copies: tuple[Neighbours, ...]
    least: int
    tools: tuple[str, ...]

    @property
    def problems(self) -> tuple[str, ...]:
        """Say what makes the phrasings unfit."""
        found = [
            f"{tool} has {self.phrasings[tool]} phrasings; at least {self.least} are needed"
            for tool in self.tools
            if self.phrasings[tool] < self.least
        ]
        near = Counter(pair.groups[0] for pair in self.alike)
        found += [
            f"{tool}: {count} of {self.phrasings[tool]} phrasings are nearly alike"
            for tool, count in near.items()
            if count > _MAX_NEAR_SHARE * self.phrasings[tool]
        ]
        found += [f"the same words: {pair}" for pair in self.alike if pair.overlap == 1.0]
        found += [f"copied: {pair}" for pair in self.copies]
        return tuple(found)


def check_variety(phrasings: Sequence[Phrasing], *, least: int = LEAST) -> VarietyReport:
    """Compare every wording with every other one. least: wordings that a tool needs."""
    distinct = list({p.id: p for p in phrasings}.values())
    counts = Counter(p.group for p in distinct)
    pairs = sorted(_neighbours(distinct), key=lambda pair: -pair.overlap)
    across = tuple(pair for pair in pairs if pair.groups[0] != pair.groups[1])
    return VarietyReport(
        phrasings=dict(sorted(counts.items())),
        alike=tuple(pair for pair in pairs if pair.groups[0] == pair.groups[1]),
        across=across,
        copies=tuple(p for p in across if skeleton(p.asks[0]) == skeleton(p.asks[1])),
        least=least,
        tools=tuple(sorted({p.group for p in distinct if p.kind == "single"})),
    )


def _neighbours(phrasings: Sequence[Phrasing]) -> Iterator[Neighbours]:
    """All pairs with an overlap of at least NEAR.

    Two such sets share one of their rarest words; how many of them to look at follows from the
    overlap (prefix filtering, Chaudhuri et al. 2006), so that few pairs are compared.
    """
    words = [_words(p.ask) for p in phrasings]
    often = Counter(word for one in words for word in one)
    seen: dict[str, list[int]] = defaultdict(list)
    for number, one in enumerate(words):
        rarest = sorted(one, key=lambda word: (often[word], word))
        looked = rarest[: len(one) - math.ceil(NEAR * len(one)) + 1]
        for other in sorted({n for word in looked for n in seen[word]}):
            overlap = len(one & words[other]) / len(one | words[other])
            if overlap >= NEAR:
                left, right = phrasings[other], phrasings[number]
                yield Neighbours(
                    overlap=round(overlap, 3),
                    groups=(left.group, right.group),
                    asks=(left.ask, right.ask),
                )
        for word in looked:
            seen[word].append(number)


def _words(ask: str) -> frozenset[str]:
    """The words of a wording with every slot blanked; a word that stands twice counts twice."""
    counts = Counter(re.sub(r"<\w+>", "<>", skeleton(ask)).split())
    return frozenset(f"{word} {n}" for word, count in counts.items() for n in range(count))


def as_json_text(report: VarietyReport) -> str:
    """Return the report as indented JSON."""
    document = asdict(report) | {"problems": report.problems}
    return json.dumps(document, ensure_ascii=False, indent=2)


def as_text(report: VarietyReport) -> str:
    """Return the report to read on a terminal."""
    fewest = sorted(report.tools, key=lambda tool: report.phrasings[tool])[:5]
    lines = [
        f"{sum(report.phrasings.values())} phrasings, {len(report.tools)} tools; fewest: "
        + ", ".join(f"{tool} {report.phrasings[tool]}" for tool in fewest),
        f"nearly alike within a tool: {len(report.alike)}; across tools: {len(report.across)}",
        *(f"  {pair}" for pair in (*report.alike, *report.across)[:MAX_LISTED]),
        f"problems: {len(report.problems) or 'none'}",
    ]
    return "\n".join([*lines, *(f"- {text}" for text in report.problems)])
