"""What a data set holds and what is wrong with it: counts, leaks, schema errors, loose values."""

import json
import re
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from afx_train import webpage
from afx_train.data.template import children
from afx_train.trajectory import Trajectory, TrajectoryStep

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

MAX_LISTED = 40
MAX_SHOWN = 8
HISTOGRAM_STEP = 40

Counts = Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataReport:
    """The findings. `problems` is empty for a sound data set.

    per_tool: "filesystem.read_text_file" (or "none/<category>") → split → trajectories whose first
    call it is; `steps`: the same over all calls.
    balance: tool set → how many training calls its most frequent tool has for one of its median
    tool. unfounded: values that stand neither in request, context nor history, by no rule either.
    request_chars, argument_chars, observation_chars: histograms, lower bound of bin → count.
    unverified: trajectories whose calls were not executed.
    """

    splits: Counts
    kinds: Counts
    per_tool: Mapping[str, Counts]
    steps: Mapping[str, Counts]
    duplicates: int
    leaks: tuple[str, ...]
    schema_errors: tuple[str, ...]
    unfounded: Counts
    unfounded_examples: tuple[str, ...]
    without_context: float
    request_chars: Counts
    median_chars: float
    argument_chars: Counts = field(default_factory=dict[str, int])
    observation_chars: Counts = field(default_factory=dict[str, int])
    balance: Mapping[str, float] = field(default_factory=dict[str, float])
    unverified: int = 0
    styles: Counts = field(default_factory=dict[str, int])
    rejected: Counts = field(default_factory=dict[str, int])
    failures: tuple[str, ...] = ()
    repeated: int = 0

    @property
    def problems(self) -> tuple[str, ...]:
        """Say what makes the data unfit for training or evaluation."""
        found = [*self.leaks, *self.schema_errors]
        if self.duplicates:
            found.append(f"{self.duplicates} requests appear twice in the same context")
        return tuple(found)

    def with_build(
        self, *, styles: Counts, rejected: Counts, failures: tuple[str, ...], repeated: int
    ) -> "DataReport":
        """Return the report with what only the build knows."""
        return replace(self, styles=styles, rejected=rejected, failures=failures, repeated=repeated)

    def as_json(self) -> dict[str, Any]:
        """Return the report as a JSON document."""
        return {**asdict(self), "problems": list(self.problems)}


def check(
    items: Sequence[Trajectory], tools: Mapping[str, Sequence[Mapping[str, Any]]]
) -> DataReport:
    """Examine a data set against the tools that its calls are made to."""
    unfounded, examples = _unfounded(items)
    lengths = [len(item.request) for item in items]
    return DataReport(
        splits=dict(Counter(item.split for item in items)),
        kinds=dict(Counter(item.kind for item in items)),
        per_tool=_by_split((_first(item), item.split) for item in items),
        steps=_by_split((_name(s), item.split) for item in items for s in item.steps),
        duplicates=len(items) - len({_asked(item, tools) for item in items}),
        leaks=_leaks(items),
        schema_errors=_schema_errors(items, tools),
        unfounded=unfounded,
        unfounded_examples=examples,
        without_context=round(sum(not i.context for i in items) / max(1, len(items)), 4),
        request_chars=_histogram(lengths),
        median_chars=statistics.median(lengths) if lengths else 0.0,
        argument_chars=_histogram([len(json.dumps(s.arguments)) for i in items for s in i.steps]),
        observation_chars=_histogram([len(s.observation) for i in items for s in i.steps]),
        balance=_balance(items),
        unverified=sum(not item.verified for item in items),
    )


def _asked(item: Trajectory, tools: Mapping[str, object]) -> tuple[str, str, str]:
    """What may stand once: a request, and once more for each tool set that does not serve it."""
    refused_by = item.kind.removeprefix("none/") if not item.steps else ""
    return item.request, item.context, refused_by if refused_by in tools else ""


def _balance(items: Sequence[Trajectory]) -> dict[str, float]:
    calls = Counter((s.tool_set, s.tool) for i in items if i.split == "train" for s in i.steps)
    by_set: dict[str, list[int]] = {}
    for (name, _), count in calls.items():
        by_set.setdefault(name, []).append(count)
    return {name: round(max(n) / statistics.median(n), 2) for name, n in sorted(by_set.items())}


def _first(item: Trajectory) -> str:
    return _name(item.steps[0]) if item.steps else item.kind


def _name(step: TrajectoryStep) -> str:
    return f"{step.tool_set}.{step.tool}"


def _by_split(pairs: Iterator[tuple[str, str]]) -> dict[str, dict[str, int]]:
    out: dict[str, dict[str, int]] = {}
    for name, split in pairs:
        counts = out.setdefault(name, {"train": 0, "dev": 0, "test": 0})
        counts[split] += 1
    return dict(sorted(out.items()))


def _histogram(lengths: Sequence[int]) -> dict[str, int]:
    bins = Counter(length // HISTOGRAM_STEP * HISTOGRAM_STEP for length in lengths)
    return {str(start): bins[start] for start in sorted(bins)}


def _leaks(items: Sequence[Trajectory]) -> tuple[str, ...]:
    """Name phrasings and requests that stand in two splits."""
    phrasing: dict[str, set[str]] = {}
    request: dict[str, set[str]] = {}
    for item in items:
        wording = item.phrasing.split("/", 1)[-1]
        phrasing.setdefault(wording, set()).add(item.split)
        request.setdefault(words_only(item.request), set()).add(item.split)
    found = [f"phrasing {key} is in {sorted(s)}" for key, s in phrasing.items() if len(s) > 1]
    found += [f"request {key!r} is in {sorted(s)}" for key, s in request.items() if len(s) > 1]
    return tuple(found[:MAX_LISTED])


def words_only(text: str) -> str:
    """A text's words in lower case: requests that differ in case and marks only are one request."""
    return " ".join(re.findall(r"\w+", text.lower()))


def _schema_errors(
    items: Sequence[Trajectory], tools: Mapping[str, Sequence[Mapping[str, Any]]]
) -> tuple[str, ...]:
    from jsonschema import SchemaError

    from agentflux.contracts.validation import argument_validator

    found: list[str] = []
    validators: dict[str, Any] = {}
    for name, listed in tools.items():
        for tool in listed:
            try:
                validators[f"{name}.{tool['name']}"] = argument_validator(tool["inputSchema"])
            except SchemaError as error:
                found.append(f"{name}.{tool['name']}: no JSON Schema: {error.message[:120]}")
    for item in items:
        for step in item.steps:
            validator = validators.get(_name(step))
            if validator is None:
                found.append(f"{item.id}: no tool {_name(step)}")
                continue
            for arguments in (step.arguments, *step.accept):
                found += [f"{item.id}: {message}" for message in _errors(validator, arguments)]
    return tuple(found[:MAX_LISTED])


def _errors(validator: "Draft202012Validator", arguments: Mapping[str, Any]) -> list[str]:
    found = validator.iter_errors(arguments)  # pyright: ignore[reportUnknownMemberType]
    return [error.message for error in found]


def _unfounded(items: Sequence[Trajectory]) -> tuple[dict[str, int], tuple[str, ...]]:
    counts: Counter[str] = Counter()
    examples: list[str] = []
    for item in items:
        known = f"{item.request}\n{item.context}"
        for step in item.steps:
            for value in texts_of(step.arguments):
                if not founded(value, known):
                    counts[_name(step)] += 1
                    examples.append(f"{_name(step)}: {value!r} for {item.request!r}")
            known += "\n" + step.observation
    return dict(counts.most_common()), tuple(examples[:MAX_LISTED])


def texts_of(node: object) -> Iterator[str]:
    """Yield every text in a JSON value."""
    if isinstance(node, str):
        yield node
    for value in children(node):
        yield from texts_of(value)


# Words that follow by rule: of SQL, of enumerations, of revisions, and of column types.
_BY_RULE = re.compile(
    r"(?:select|from|where|order|group|by|desc|asc|limit|count|distinct|sum|avg|max|min|between|and|in|"
    r"like|having|is|null|or|insert|into|values|update|set|delete|create|table|if|not|exists|"
    r"integer|int|text|real|date|primary|key|id|size|name|local|remote|all|head|utc|\d+)",
    re.IGNORECASE,
)


def founded(value: str, known: str) -> bool:
    """Whether a value stands in what is known: whole, or in all its words but those by rule."""
    if value in known or value in ("", "."):
        return True
    if re.fullmatch(r"[A-Za-z_]+(/[A-Za-z_+\-0-9]+)+|\d\d:\d\d|UTC|GMT", value):
        return True
    low = known.casefold()
    words = re.findall(r"\w+", value.replace("_", " ") if value not in low else value)
    flat = low.replace("_", " ")
    return all(word.casefold() in flat or _BY_RULE.fullmatch(word) for word in words)


def as_json_text(report: DataReport) -> str:
    """Return the report as indented JSON."""
    return json.dumps(report.as_json(), ensure_ascii=False, indent=2)


def as_text(report: DataReport) -> str:
    """Return the report to read on a terminal: counts by split, then what is wrong."""
    head = f"{'':44}" + "".join(f"{split:>8}" for split in ("train", "dev", "test"))
    rows = {"trajectories": report.splits, **report.per_tool}
    lines = [head, *(_counts_line(name, counts) for name, counts in rows.items()), ""]
    lines += [
        f"most frequent tool against the median one: {_pairs(_highest(report.balance))}",
        f"requests without context: {report.without_context:.1%}; "
        f"median length {report.median_chars:.0f} characters; not executed: {report.unverified}",
    ]
    if report.styles:
        lines.append(f"styles: {_pairs(report.styles)}")
    if report.rejected or report.repeated:
        rejected = _pairs(report.rejected) or "none"
        lines.append(f"dropped: {report.repeated} repeated; rejected: {rejected}")
    if report.unfounded:
        lines += ["", f"values that stand nowhere: {_pairs(report.unfounded)}"]
        lines += [f"- {text}" for text in report.unfounded_examples[:MAX_SHOWN]]
    lines += ["", f"problems: {len(report.problems) or 'none'}"]
    return "\n".join([*lines, *(f"- {text}" for text in report.problems)])


def _highest(counts: Mapping[str, float]) -> dict[str, float]:
    return dict(sorted(counts.items(), key=lambda pair: -pair[1])[:MAX_SHOWN])


def _counts_line(name: str, counts: Counts) -> str:
    return f"{name:44}" + "".join(f"{counts.get(s, 0):>8}" for s in ("train", "dev", "test"))


def _pairs(counts: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {count:g}" for name, count in counts.items())


def picture(report: DataReport) -> str:
    """Return the length histograms as an HTML page."""
    figures = [
        webpage.bars(title, [(float(at), n) for at, n in counts.items()], x="characters")
        for title, counts in (
            ("Requests", report.request_chars),
            ("Arguments", report.argument_chars),
            ("Observations", report.observation_chars),
        )
    ]
    steps = [
        (name, *(counts.get(s, 0) for s in ("train", "dev", "test")))
        for name, counts in report.steps.items()
    ]
    calls = webpage.table(("calls", "train", "dev", "test"), steps)
    sections = [webpage.section("Lengths", *figures), webpage.section("Calls", calls)]
    return webpage.page("Training data", sections)
