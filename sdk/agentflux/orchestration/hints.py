"""Second opinions: what the request's own words say of a choice, beside the model.

A small model errs, and what knows words alone errs on other requests. So both have a say, as a
product of experts (Hinton 2002, doi:10.1162/089976602760128018), s being what the other expert says
of a name:

    P(name) ∝ P_model(name) ^ model · exp(other · s(name))

- Where the bundle has an intent classifier that knows some of the tools, s is its log-probability.
  Names that it does not know, a server beside those that were trained for or a tool that a known
  server got since, are weighed against all the others together, by how well the request fits them
  and what the model gives them; to a model that learned the others by heart a stranger is hardly
  ever right, which a constant makes good.
- Where no adapter was trained for the tools, s is how well the request fits the descriptions
  (`agentflux.orchestration.retrieval`). `none` fits by what the bundle's bi-encoder learned, and
  without one, by shared words alone, not at all.
- Where the request names the tool to use (`agentflux.orchestration.named`), it is that one.
- After a call, s is the log-probability by the classifier of what is left of the request, where it
  knows all the tools and the last call did not fail; elsewhere the choice is the model's alone.
  Whether the request is done is asked twice; what the router says of it counts again for the tool.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

from agentflux.contracts.bundle import Manifest
from agentflux.contracts.intents import Intents
from agentflux.contracts.logs import NEVER, log_total
from agentflux.contracts.prompts import FINISH, NONE, Situation
from agentflux.contracts.retriever import BiEncoder
from agentflux.contracts.tools import Catalog, ToolSpec
from agentflux.orchestration.named import named_tools
from agentflux.orchestration.shown import ShownTools
from agentflux.ports import Scores

# Found on servers of `samples/general` that no adapter was trained on: `tests/bench/hints.py`.
SHARED_MODEL, SHARED = 0.7, 2.0
MEANT_MODEL, MEANT = 0.5, 1.0
# The bi-encoder learned how often its own examples have no tool; beside a model that says so, too,
# its `none` counts by so much less (a logit).
NONE_LESS = 3.0
# Of one tool set with fewer tools than this: the fewer there are, the more is asked that none of
# them serves, by so much for one tool; and these exponents. Found on dev requests of
# `samples/general` cut into small sets (`data parts`), for two models.
MANY, NONE_MORE = 8, 9.0
FEW_MODEL, FEW = 0.35, 0.3
# Found on the sample's dev split, where all of (0.5, 0.5), (0.5, 1) and (1, 1) do as well.
INTENTS_MODEL, INTENTS = 0.5, 1.0
# After a call, found there, too, of a tool set and of a tool. The classifier learned from far more
# requests of one call than of several; its `finish` counts by so much less (a logarithm). Both
# stages can end a request, so a selector hears what the router says of that: this much of its
# log-odds.
LATER_MODEL, LATER_SETS, LATER, FINISH_LESS, ROUTED = 0.35, 1.0, 0.5, 3.0, 0.25
# Of the first tool, too, a selector hears the router's log-odds, of `none`, and its own `none` has
# so much more weight: of what was routed although no set serves it, it half knows. Found there, on
# 220 requests that no tool serves (175 instead of 164 refused) and 286 others (none more is).
SELECTED_NONE_MORE = 2.5
# The log-odds of a stranger: this much of the fit's, of the model's, and this. Found by logistic
# regression on requests for such a server beside the sample's five: `tests/bench/strangers.py`.
STRANGER_FIT, STRANGER_MODEL, STRANGER = 0.33, 0.21, 1.2
_FLOOR = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """What another expert says of each name, and the exponents of both.

    every: whether the model has to tell the probability of every name for it. doubted: a name whose
    likeliest rival it has to tell. The name with the highest score is one whose probability it has
    to tell.
    strangers: the names that the other expert does not know, with the log-odds, by how well the
    request fits, that it is about them and not about any of the others.
    """

    scores: Mapping[str, float]
    model: float
    other: float
    every: bool = False
    doubted: str | None = None
    strangers: Mapping[str, float] = field(default_factory=dict[str, float])

    @property
    def favourite(self) -> str | None:
        """The name with the highest score."""
        return max(self.scores, key=self.scores.__getitem__, default=None)


class SecondOpinions:
    """Who else is heard on a choice, over one catalog."""

    def __init__(
        self, manifest: Manifest, catalog: Catalog, shown: ShownTools, intents: Intents | None
    ) -> None:
        self._shown, self._intents = shown, intents
        self._trained = {(tool.tool_set, tool.name) for tool in manifest.catalog}
        self._labels = frozenset(intents.labels) if intents else frozenset[str]()
        self._routed = len(catalog) > 1  # what is chosen from was weighed against the other sets

    def of_sets(self, sets: Catalog, situation: Situation) -> Opinion | None:
        """Return what is said of the tool sets that the router chooses from."""
        tools = [tool for found in sets.values() for tool in found]
        if situation.steps:
            return self._of_later(situation, tools, lambda tool: tool.tool_set, other=LATER_SETS)
        if named := {tool.tool_set for tool in named_tools(tools, situation.request)}:
            return _of_named(named)
        if self._intents and (labelled := self._labelled(tools)):
            told = self._intents.log_probabilities(situation.request)
            by_set: dict[str, list[float]] = defaultdict(list)
            for tool in labelled:
                by_set[tool.tool_set].append(told[_label(tool)])
            scores = {name: log_total(logs) for name, logs in by_set.items()}
            opinion = _of_intents(scores | {NONE: _rest(told, labelled)})
            if strangers := sets.keys() - by_set.keys():
                matches = self._shown.set_matches(sets, situation)
                return _beside(opinion, strangers, of_fits(matches, self._shown.encoder))
            return opinion
        if all(map(self._known, tools)):
            return None
        return of_fits(self._shown.set_matches(sets, situation), self._shown.encoder)

    def of_tools(
        self,
        tool_set: str,
        tools: Sequence[ToolSpec],
        situation: Situation,
        *,
        own: bool,
        done: float = 0.0,
    ) -> Opinion | None:
        """Return what is said of a set's tools.

        own: the selector is that of this set. done: the log-odds that the request is done, or that
        no tool serves it, by the router.
        """
        if situation.steps:
            return self._of_later(situation, tools, lambda tool: tool.name, done=done)
        if named := {tool.name for tool in named_tools(tools, situation.request)}:
            return _of_named(named)
        if self._intents and (labelled := self._labelled(tools)):
            told = self._intents.log_probabilities(situation.request)
            none = told.get(NONE, NEVER) if self._routed else _rest(told, labelled)
            scores = {tool.name: told[_label(tool)] for tool in labelled}
            if self._routed:
                none += SELECTED_NONE_MORE + ROUTED * done
            opinion = _of_intents(scores | {NONE: none})
            if strangers := {tool.name for tool in tools} - scores.keys():
                matches = self._shown.tool_matches(tool_set, tools, situation)
                return _beside(opinion, strangers, of_fits(matches, self._shown.encoder))
            return opinion
        if own or all(map(self._known, tools)):
            return None
        fits = self._shown.tool_matches(tool_set, tools, situation)
        opinion = of_fits(fits, self._shown.encoder)
        if self._routed or len(tools) >= MANY or NONE not in opinion.scores:
            return opinion
        none = opinion.scores[NONE] + NONE_MORE * (1 - len(tools) / MANY)
        return replace(opinion, scores={**opinion.scores, NONE: none}, model=FEW_MODEL, other=FEW)

    def _of_later(
        self,
        situation: Situation,
        tools: Sequence[ToolSpec],
        name_of: Callable[[ToolSpec], str],
        *,
        other: float = LATER,
        done: float = 0.0,
    ) -> Opinion | None:
        """Return what is said of the names after a call, and of `finish`."""
        known = self._intents is not None and len(self._labelled(tools)) == len(tools)
        if not known or self._intents is None or situation.steps[-1].is_error:
            return None
        made = [s.call for s in situation.steps if not s.is_error]
        calls = [f"{call.tool_set}/{call.tool}" for call in (*situation.forgotten, *made)]
        told = self._intents.after(situation.request, calls)
        if told is None:
            return None
        logs: dict[str, list[float]] = defaultdict(list)
        for tool in tools:
            logs[name_of(tool)].append(told.get(_label(tool), _SELDOM))
        scores = {name: log_total(found) for name, found in logs.items()}
        scores[FINISH] = told.get(FINISH, _SELDOM) - FINISH_LESS + ROUTED * done / other
        return Opinion(scores=scores, model=LATER_MODEL, other=other, doubted=FINISH)

    def _labelled(self, tools: Iterable[ToolSpec]) -> list[ToolSpec]:
        """The tools that the classifier knows."""
        return [tool for tool in tools if _label(tool) in self._labels]

    def _known(self, tool: ToolSpec) -> bool:
        """Whether adapters were trained for it, as it is or as it was then."""
        return (tool.tool_set, tool.name) in self._trained


def of_fits(scores: Mapping[str, float], encoder: BiEncoder | None) -> Opinion:
    """Return what fits say of names: their logits by the bi-encoder, or BM25 without one."""
    if encoder is None:
        return Opinion(scores=scores, model=SHARED_MODEL, other=SHARED, every=True)
    told = {**scores, NONE: encoder.none - NONE_LESS}
    return Opinion(scores=told, model=MEANT_MODEL, other=MEANT, every=True)


def joined(scores: Scores, opinion: Opinion) -> Scores:
    """Choose again, with the other opinion.

    Names whose probability the engine did not tell are no candidates; where it told one only, that
    one stays. A name that the other expert does not know has the score 0 there.
    """
    if not scores.alternatives:
        return scores
    told = [(scores.best, scores.probability), *scores.alternatives]
    merits = {
        name: opinion.model * _log(p) + opinion.other * opinion.scores.get(name, 0)
        for name, p in told
    }
    merits |= _of_strangers(dict(told), merits, opinion.strangers)
    most = max(merits.values())
    shares = {name: math.exp(merit - most) for name, merit in merits.items()}
    total = sum(shares.values())
    (best, top), *others = sorted(
        ((name, share / total) for name, share in shares.items()), key=lambda pair: -pair[1]
    )
    return replace(
        scores,
        best=best,
        probability=top,
        margin=top - (others[0][1] if others else 0.0),
        entropy=-sum(p * math.log(p) for _, p in [(best, top), *others] if p > 0),
        alternatives=tuple(others),
    )


def _beside(opinion: Opinion, strangers: Set[str], fits: Opinion) -> Opinion:
    """Add the names that an opinion does not know. fits: what fits say of all names and `none`."""
    logits = {name: fits.other * score for name, score in fits.scores.items()}
    others = log_total([logit for name, logit in logits.items() if name not in strangers])
    odds = {name: logits[name] - others for name in strangers}
    return replace(opinion, strangers=odds, every=True)


def _of_strangers(
    told: Mapping[str, float], merits: Mapping[str, float], strangers: Mapping[str, float]
) -> dict[str, float]:
    """Return merits beside those of the other names. told: what the model gives each name."""
    known = [name for name in told if name not in strangers]
    together = log_total([merits[name] for name in known])
    given = _log(sum(told[name] for name in known if name != NONE))
    return {
        name: together
        + STRANGER_FIT * odds
        + STRANGER_MODEL * (_log(told[name]) - given)
        + STRANGER
        for name, odds in strangers.items()
        if name in told
    }


def _log(probability: float) -> float:
    return math.log(max(probability, _FLOOR))


_SELDOM = math.log(1e-4)
_SURE = -NEVER  # outweighs whatever a model says


def _of_named(names: Set[str]) -> Opinion:
    """Return that it is one of these; which one, the model says."""
    return Opinion(scores=dict.fromkeys(names, _SURE), model=1.0, other=1.0, every=True)


def _of_intents(scores: Mapping[str, float]) -> Opinion:
    return Opinion(scores=scores, model=INTENTS_MODEL, other=INTENTS)


def _label(tool: ToolSpec) -> str:
    return f"{tool.tool_set}/{tool.name}"


def _rest(told: Mapping[str, float], tools: Iterable[ToolSpec]) -> float:
    """Return the log-probability that none of these tools serves: the others' is that, too."""
    here = {_label(tool) for tool in tools}
    return log_total([share for name, share in told.items() if name not in here])
