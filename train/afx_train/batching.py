"""An epoch's batches: which examples, under which catalog variant, packed by tokens."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from operator import itemgetter
from random import Random
from statistics import median

from afx_train.catalogs import Variant
from afx_train.codec import Tokens
from afx_train.examples import Example
from afx_train.recipe import ExampleShares, Settings
from agentflux.contracts.prompts import NONE

_SELDOM = 30  # of shapes with fewer examples than that none is preferred to another
_SPREAD = 64  # a prefix of so many batches is met all through an epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """An example under one catalog variant. Its label may have become `none` there."""

    example: Example
    variant: Variant

    @property
    def cost(self) -> int:
        """Tokens of its own that are computed under the adapter."""
        return len(self.example.prompt) + len(self.example.target) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Rows behind one prefix: `static`, computed by the base, or `lead`, by the adapter.

    keys: the examples' identities, one a row. lengths: target tokens of each row.
    supervised: positions on the packed axis whose next token is learned; targets: those tokens.
    Only the name or the argument object and the end token are ever targets.
    """

    static: Tokens
    lead: Tokens
    keys: tuple[str, ...]
    lengths: tuple[int, ...]
    before: tuple[Tokens, ...]
    tokens: tuple[Tokens, ...]
    supervised: tuple[int, ...]
    targets: tuple[int, ...]


def collate(rows: Sequence[Shown]) -> Batch:
    """Pack rows of one variant; a target's last token is predicted, never read."""
    tokens, supervised, targets = [], list[int](), list[int]()
    start = 0
    for row in rows:
        prompt, target = row.example.prompt, row.example.target
        tokens.append(prompt + target[:-1])
        first = start + len(prompt) - 1
        supervised += range(first, first + len(target))
        targets += target
        start += row.cost
    return Batch(
        static=rows[0].variant.static,
        lead=rows[0].variant.lead,
        keys=tuple(row.example.key for row in rows),
        lengths=tuple(len(row.example.target) for row in rows),
        before=tuple(row.example.before for row in rows),
        tokens=tuple(tokens),
        supervised=tuple(supervised),
        targets=tuple(targets),
    )


def epoch_rows(
    examples: Sequence[Example],
    variants: Mapping[str, Sequence[Variant]],
    settings: Settings,
    *,
    none_target: Tokens,
    easy: Set[str],
    rng: Random,
) -> list[Shown]:
    """Draw an epoch's rows: balance labels, let easy ones rest, give each a variant.

    easy: keys of examples of which only a part is drawn.
    """
    shares, training = settings.examples, settings.training
    short = [e for e in examples if e.width <= shares.max_row_tokens]
    drawn = balanced(short, cap=shares.balance_cap, rng=rng)
    if shares.max_examples is not None:
        drawn = drawn[: shares.max_examples]
    drawn = [e for e in drawn if e.key not in easy or rng.random() < training.easy_kept] or drawn
    rows: list[Shown] = []
    for example in drawn:
        # The same variant in every epoch, so that what the base computed for it can be recalled.
        own = Random(f"{example.tool_set}/{example.id}")
        shown = show(example, variants[example.group], shares, none_target=none_target, rng=own)
        rows.append(shown)
    return rows


def packed_batches(rows: Iterable[Shown], *, batch_tokens: int, rng: Random) -> list[Batch]:
    """Pack rows behind their prefixes, rows of like width together; shuffle the batches.

    Those of a prefix with few batches come at about the same time, since it is not kept for long.
    """
    timed: list[tuple[float, Batch]] = []
    for shown in _by_prefix(rows):
        parts = by_tokens(_bucketed(shown, rng), batch_tokens)
        span = min(1.0, len(parts) / _SPREAD)
        start = rng.uniform(0, 1 - span)
        timed += [(start + span * rng.random(), collate(part)) for part in parts]
    return [batch for _, batch in sorted(timed, key=itemgetter(0))]


def balanced(examples: Sequence[Example], *, cap: float, rng: Random) -> list[Example]:
    """Shuffle, and keep at most `cap` times the median label's count of each label.

    A label of a first step and of a later one are two: later ones are seldom, and another decision.
    Argument objects of a shape that is seldom among a label's (an optional parameter, several
    items) come earlier, so that a beginning has as many of them as the root of their share: drawn
    evenly, what stands in one call of ten is not learned.
    """
    counts = Counter(map(_decision, examples))
    shapes = Counter((_decision(example), example.shape) for example in examples)

    def order(example: Example) -> float:
        decision = _decision(example)
        share = max(_SELDOM, shapes[decision, example.shape]) / counts[decision]
        return rng.expovariate(1.0) * math.sqrt(min(1.0, share))

    shuffled = sorted(examples, key=order)
    if not counts:
        return []
    most = max(1, round(cap * median(counts.values())))
    taken: dict[tuple[str, str, str], int] = defaultdict(int)
    kept: list[Example] = []
    for example in shuffled:
        taken[_decision(example)] += 1
        if taken[_decision(example)] <= most:
            kept.append(example)
    return kept


def _decision(example: Example) -> tuple[str, str, str]:
    return example.group, example.stop, example.label


def show(
    example: Example,
    variants: Sequence[Variant],
    shares: ExampleShares,
    *,
    none_target: Tokens,
    rng: Random,
) -> Shown:
    """Give an example a variant: the whole catalog, another with its gold name, or one without."""
    variants = [v for v in variants if not v.held_out]
    without = [v for v in variants if example.label not in v.names and not v.unchecked]
    if example.may_lose_gold and without and rng.random() < shares.gold_removed:
        lost = replace(example, label=NONE, target=none_target)  # its key stays: it can rest
        return Shown(example=lost, variant=rng.choice(without))
    whole = [v for v in variants if v.whole]
    fitting = [v for v in variants if not v.whole and _fits(example, v)]
    if whole and (not fitting or rng.random() < shares.plain_share):
        return Shown(example=example, variant=whole[0])
    chosen = rng.choice(fitting)
    target = chosen.aliases.get(example.label, example.target)
    return Shown(example=replace(example, target=target), variant=chosen)


def _fits(example: Example, variant: Variant) -> bool:
    stops = example.label == example.stop
    if variant.masked and example.stop != NONE:
        return False
    if variant.unchecked and example.label == NONE:
        return False
    return example.label in variant.names or stops


def _bucketed(rows: Sequence[Shown], rng: Random) -> list[Shown]:
    """Put rows of like width side by side: rows of a batch are padded to the widest."""
    return sorted(rows, key=lambda row: row.example.width * rng.uniform(0.9, 1.1))


def by_tokens(rows: Iterable[Shown], budget: int) -> list[list[Shown]]:
    """Cut a sequence of rows where the budget is full. A longer row stands alone."""
    cut: list[list[Shown]] = []
    left = 0
    for row in rows:
        if row.example.width > left or not cut:
            cut.append([])
            left = budget
        cut[-1].append(row)
        left -= row.example.width
    return cut


def plain_batches(
    examples: Sequence[Example], variants: Mapping[str, Sequence[Variant]], *, batch_tokens: int
) -> list[list[Shown]]:
    """Rows under the whole catalog, or the first part of it that has the right name."""
    rows: list[Shown] = []
    for example in examples:
        fitting = [v for v in variants[example.group] if v.whole or _fits(example, v)]
        rows.append(Shown(example=example, variant=fitting[0]))
    return [part for shown in _by_prefix(rows) for part in by_tokens(shown, batch_tokens)]


def _by_prefix(rows: Iterable[Shown]) -> list[list[Shown]]:
    groups: dict[tuple[Tokens, Tokens], list[Shown]] = defaultdict(list)
    for row in rows:
        groups[row.variant.static, row.variant.lead].append(row)
    return list(groups.values())
