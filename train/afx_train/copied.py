"""Which string parameters the training data only ever copies from the texts at hand, and how."""

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Set
from dataclasses import dataclass, field
from typing import Any

from afx_train.trajectory import Trajectory
from agentflux.contracts.paths import absolute_paths, bare, files, folders
from agentflux.contracts.spans import (
    ANY_NUMBER,
    EMPTY,
    are_shown,
    is_one_line,
    is_span,
    names,
    strange_names,
    string_leaves,
    words,
)

MIN_EXAMPLES = 20
MIN_SHARE = 0.99
# A parameter's own word stands in so many of its values, and in such a share of them.
MIN_OWN_COUNT, MIN_OWN_SHARE = 5, 0.001
MAX_OWN_WORDS = 64
MIN_PATHS = 0.5  # of a parameter's values have a separator or an ending, if they are paths


@dataclass(frozen=True, slots=True)
class Copying:
    """Paths of a tool's copied parameters: see `agentflux.contracts.bundle.CatalogTool`."""

    copied: tuple[str, ...] = ()
    worded: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    named: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    inner: tuple[str, ...] = ()

    def as_fields(self) -> Mapping[str, Any]:
        """As the fields of a CatalogTool."""
        return {
            "copied": self.copied,
            "worded": dict(self.worded),
            "named": self.named,
            "folders": self.folders,
            "inner": self.inner,
        }


def copied_parameters(trajectories: Iterable[Trajectory]) -> dict[tuple[str, str], Copying]:
    """Return, for each (tool set, tool), what its strings are copied from.

    A path counts with at least 20 training values of which at most 1 % break the rule: first that
    values are spans, then that they are made of words that stood before, or that so many values
    have (`SELECT`, any number) that they belong to the parameter. Of the latter, whether names are
    those that are shown is said by at least 20 values with shown names, again with 1 % let off; by
    as many beside a context with absolute paths, whether they are such a path, or never its folder.
    """
    values: dict[tuple[str, str], dict[str, _Values]] = defaultdict(lambda: defaultdict(_Values))
    for trajectory in trajectories:
        if trajectory.split != "train":
            continue
        texts, telling = [trajectory.request, trajectory.context], [trajectory.context]
        listed, told = names([trajectory.context]), absolute_paths([trajectory.context])
        for step in trajectory.steps:
            said = {word for text in texts for word in words(text)}
            beside = (names(telling), listed)
            shown = absolute_paths(texts)
            for path, value in string_leaves(step.arguments):
                of = values[step.tool_set, step.tool][path]
                of.add(value, texts, said, beside)
                if told:
                    of.placed(value, shown, folders(told))
            texts.append(step.observation)
            telling += [step.observation, json.dumps(step.arguments, ensure_ascii=False)]
    found: dict[tuple[str, str], Copying] = {}
    for key, paths in sorted(values.items()):
        copied = tuple(path for path, seen in sorted(paths.items()) if seen.copied)
        own = {p: seen.own_words() for p, seen in sorted(paths.items()) if p not in copied}
        worded = {path: listed for path, listed in own.items() if listed is not None}
        if copied or worded:
            named = tuple(path for path, own in worded.items() if paths[path].named(own))
            held = [path for path in sorted(paths) if path in copied or path in worded]
            one = tuple(path for path in held if paths[path].folder)
            inner = tuple(path for path in held if paths[path].inner)
            found[key] = Copying(copied, worded, named, one, inner)
    return found


class _Values:
    """The training values of one parameter."""

    def __init__(self) -> None:
        self._spans = 0
        self._new = list[frozenset[str]]()  # of each value, the words that did not stand before
        # Each value; the names shown beside it, and those of them that the context lists.
        self._beside = list[tuple[str, frozenset[str], frozenset[str]]]()
        # Of the values whose context has absolute paths: those that are one that is shown, those
        # that are a path or words of one, and those that are the folder itself.
        self._placed = Counter[str]()

    def add(
        self,
        value: str,
        texts: list[str],
        said: set[str],
        beside: tuple[frozenset[str], frozenset[str]],
    ) -> None:
        self._beside.append((value, *beside))
        self._spans += is_span(value, texts)
        new = {ANY_NUMBER if w.isdecimal() else w for w in words(value) if w not in said}
        new |= set() if is_one_line(value) else {value}  # a word that no other value has
        self._new.append(frozenset(new if value else {EMPTY}))

    def placed(self, value: str, shown: Set[str], tops: Set[str]) -> None:
        """Count where a value stands, the context having absolute paths."""
        self._placed["all"] += 1
        self._placed["shown"] += value in shown
        self._placed["top"] += bare(value) in tops
        self._placed["path"] += any(mark in value for mark in "/\\") or bool(files(value))

    @property
    def folder(self) -> bool:
        """Whether the values are absolute paths that are shown."""
        count = self._placed["all"]
        return count >= MIN_EXAMPLES and self._placed["shown"] >= MIN_SHARE * count

    @property
    def inner(self) -> bool:
        """Whether the values are paths, and never the context's folder."""
        count = self._placed["all"]
        paths = self._placed["path"] >= MIN_PATHS * count
        return count >= MIN_EXAMPLES and paths and self._placed["top"] <= (1 - MIN_SHARE) * count

    @property
    def copied(self) -> bool:
        count = len(self._new)
        return count >= MIN_EXAMPLES and self._spans >= MIN_SHARE * count

    def own_words(self) -> tuple[str, ...] | None:
        """The words that belong to the parameter, or None where values have others, too."""
        count = len(self._new)
        counts = Counter(word for new in self._new for word in new)
        least = max(MIN_OWN_COUNT, MIN_OWN_SHARE * count)
        own = {word for word, seen in counts.items() if seen >= least}
        kept = sum(new <= own for new in self._new)
        if count < MIN_EXAMPLES or kept < MIN_SHARE * count or len(own) > MAX_OWN_WORDS:
            return None
        return tuple(sorted(own))

    def named(self, own: Collection[str]) -> bool:
        """Whether words outside single quotes are shown names, where such are shown."""
        told = [b for b in self._beside if are_shown(b[0], own, *b[1:])]
        strange = sum(bool(strange_names(value, own, *shown)) for value, *shown in told)
        return len(told) >= MIN_EXAMPLES and strange <= (1 - MIN_SHARE) * len(told)
