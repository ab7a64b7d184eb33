"""Who is heard beside the model: words, the classifier, the bi-encoder, the router of the end."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from sdk.support import (
    CATALOG,
    FILES,
    adapter,
    asked,
    decide,
    manifest,
    scripted_stages,
    spec,
)

from agentflux import Step, ToolCall, ToolSpec
from agentflux.contracts.bundle import CatalogTool
from agentflux.contracts.experts import Experts
from agentflux.contracts.intents import Intents
from agentflux.contracts.prompts import Situation
from agentflux.contracts.retriever import BiEncoder, Described
from agentflux.engines.scripted import Entry
from agentflux.orchestration.fitting import shortened
from agentflux.orchestration.hints import FINISH_LESS
from agentflux.ports import Scores, StageRecord, Usage

READ_OR_LIST = Scores(
    best="list", probability=0.6, margin=0.2, usage=Usage(), alternatives=(("read", 0.4),)
)


def test_where_no_adapter_knows_the_tools_the_words_of_the_request_count() -> None:
    situation = Situation(request="please read it")
    script = ["files", READ_OR_LIST, '{"path":"a"}']
    for bundle in (manifest(), manifest([adapter("s", "select")])):
        decision, (route, select, _) = decide(script, bundle, situation)
        assert (route.every, select.every) == (True, True)
        assert decision.call is not None
        assert decision.call.tool == "read"
        record = decision.stages[1]
        assert record.probability is not None
        assert record.probability + sum(p for _, p in record.alternatives) == pytest.approx(1)
        assert record.margin == pytest.approx(record.probability - record.alternatives[0][1])


def test_a_tool_that_the_request_names_is_taken_whoever_says_otherwise() -> None:
    script = [READ_OR_LIST, '{"path":"a"}']
    sure = Saying(**SURE_OF_LIST)
    asked = "show me what is here with the read tool"
    decision, _ = decide_with(sure, script, sets=("files",), request=asked)
    assert decision.call is not None
    assert decision.call.tool == "read"
    later, _ = decide_with(sure, script, sets=("files",), request=asked, steps=1)
    assert later.call is not None
    assert later.call.tool == "list"


def test_trained_tools_and_later_steps_are_the_models_to_choose() -> None:
    situation = Situation(request="please read it")
    script = ["files", READ_OR_LIST, '{"path":"a"}']
    own = manifest([adapter("s", "select", "files")])
    seen = [CatalogTool(tool_set=t.tool_set, name=t.name, sha256=t.sha256) for t in FILES]
    known = manifest([adapter("s", "select")]).model_copy(update={"catalog": tuple(seen)})
    for bundle in (own, known):
        decision, (_, select, _) = decide(script, bundle, situation)
        assert not select.every
        assert decision.call is not None
        assert decision.call.tool == "list"
    past = Step(call=ToolCall(tool_set="files", tool="roots"), observation="/srv")
    later = Situation(request="please read it", steps=(past,))
    decision, (route, select, _) = decide(script, manifest(), later)
    assert (route.every, select.every) == (False, False)
    assert decision.call is not None
    assert decision.call.tool == "list"


class Saying(Intents):
    """A classifier that says what it is told to."""

    def __init__(self, **shares: float) -> None:
        object.__setattr__(self, "shares", {n.replace("__", "/"): p for n, p in shares.items()})
        object.__setattr__(self, "later", None)

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self.shares)

    def log_probabilities(self, request: str) -> dict[str, float]:
        return {name: math.log(share) for name, share in self.shares.items()}


SURE_OF_LIST = {"files__list": 0.88, "files__read": 0.1, "files__roots": 0.01, "none": 0.01}
UNSURE_OF_READ = Scores(
    best="read", probability=0.6, margin=0.2, usage=Usage(), alternatives=(("list", 0.4),)
)


def decide_with(  # noqa: ANN201 - a test's shorthand
    intents: Intents,
    script: list[Entry],
    *,
    sets: tuple[str, ...],
    steps: int = 0,
    request: str = "what is here",
):
    past = Step(call=ToolCall(tool_set="files", tool="roots"), observation="/srv")
    catalog = {name: CATALOG[name] for name in sets}
    stages, engine = scripted_stages(script, catalog=catalog, experts=Experts(intents=intents))
    situation = Situation(request=request, steps=(past,) * steps)
    decision = stages.decide(situation, emit=lambda event: None, cancel=None)
    return decision, engine.requests


def test_a_classifier_that_knows_all_the_tools_has_a_say_in_the_first_choice() -> None:
    script = [UNSURE_OF_READ, '{"path":"a"}']
    decision, (select, _) = decide_with(Saying(**SURE_OF_LIST), script, sets=("files",))
    assert not select.every
    assert select.rival == "list"  # the model has to tell what it gives the classifier's favourite
    assert decision.call is not None
    assert decision.call.tool == "list"
    shares = {"read": 0.6**0.5 * 0.1, "list": 0.4**0.5 * 0.88}
    assert decision.stages[0].probability == pytest.approx(shares["list"] / sum(shares.values()))


def test_a_classifier_of_first_calls_says_nothing_of_later_steps() -> None:
    script = ["files", UNSURE_OF_READ, '{"path":"a"}']
    decision, _ = decide_with(Saying(**SURE_OF_LIST), script, sets=("files", "clock"), steps=1)
    assert decision.call is not None
    assert decision.call.tool == "read"


class SayingLater(Saying):
    """One that was told what follows a call, too."""

    def after(self, request: str, calls: Sequence[str]) -> dict[str, float] | None:
        assert list(calls) == ["files/roots"]
        return self.log_probabilities(request)


DONE_OR_CLOCK = Scores(
    best="finish", probability=0.7, margin=0.4, usage=Usage(), alternatives=(("clock", 0.3),)
)


def test_what_is_left_of_the_request_has_a_say_in_what_follows_a_call() -> None:
    open_part = {"clock__now": 0.9, "files__read": 0.04, "finish": 0.01}
    known = {"files__list": 0.02, "files__roots": 0.03}
    intents = SayingLater(**open_part, **known)
    decision, (route, *_) = decide_with(
        intents, [DONE_OR_CLOCK, "now", '{"zone":"UTC"}'], sets=("files", "clock"), steps=1
    )
    assert route.doubted == "finish"
    assert decision.call is not None
    assert decision.call.tool == "now"
    done = SayingLater(clock__now=1e-4, files__read=1e-4, finish=0.99, **known)
    decision, _ = decide_with(done, [DONE_OR_CLOCK], sets=("files", "clock"), steps=1)
    assert decision.call is None


def to_the_clock_or(stop: str, share: float) -> Scores:
    """What a router says that gives its stop label such a share."""
    return Scores(
        best="clock",
        probability=1 - share,
        margin=1 - 2 * share,
        usage=Usage(),
        alternatives=((stop, share),),
    )


def test_what_the_router_says_of_the_end_counts_for_the_tool_too() -> None:
    def decided(router_says: float) -> str | None:
        routed = to_the_clock_or("finish", router_says)
        chosen = Scores(
            best="finish", probability=0.7, margin=0.4, usage=Usage(), alternatives=(("now", 0.3),)
        )
        neither = {name: 0.1 for name in ("files__read", "files__list", "files__roots")}
        even = SayingLater(clock__now=0.01, finish=0.01 * math.exp(FINISH_LESS), **neither)
        script = [routed, chosen, '{"zone":"UTC"}']
        decision, _ = decide_with(even, script, sets=("files", "clock"), steps=1)
        return decision.call and decision.call.tool

    assert decided(0.3) is None
    assert decided(0.01) == "now"


def test_what_the_router_says_of_none_counts_for_the_tool_too() -> None:
    def decided(router_says: float, *, sets: tuple[str, ...] = ("files", "clock")) -> str | None:
        routed = to_the_clock_or("none", router_says)
        chosen = Scores(
            best="now", probability=0.98, margin=0.96, usage=Usage(), alternatives=(("none", 0.02),)
        )
        even = Saying(clock__now=0.1, none=0.1, files__read=0.1, files__list=0.1, files__roots=0.1)
        script = [*[routed] * (len(sets) > 1), chosen, '{"zone":"UTC"}']
        decision, _ = decide_with(even, script, sets=sets)
        return decision.call and decision.call.tool

    assert decided(0.4) is None
    assert decided(1e-4) == "now"
    assert decided(0.4, sets=("clock",)) == "now", "nobody routed"


def test_a_slip_in_a_string_of_an_unknown_tool_is_mended() -> None:
    tool = spec("shop", "buy", id={"type": "string"})
    stages, engine = scripted_stages(
        ['{"id":"SAFET-B"}', '{"id":"SHAFT-B"}'], catalog={"shop": (tool,)}
    )
    situation = Situation(request="buy SHAFT-B")
    decision = stages.decide(situation, required=True, emit=lambda event: None, cancel=None)
    assert decision.call is not None
    assert decision.call.arguments == {"id": "SHAFT-B"}
    kinds = [record.stage for record in decision.stages]
    assert kinds == ["arguments", "arguments"]
    assert "SHAFT-B" in engine.requests[-1].grammar


def test_a_candidate_whose_probability_was_not_told_has_even_odds() -> None:
    record = StageRecord(stage="route", adapter=None, choice="files", probability=0.9)
    assert record.log_odds("files") == pytest.approx(math.log(9))
    assert record.log_odds("finish") == 0.0
    assert replace(record, alternatives=(("finish", 0.0),)).log_odds("finish") < -10


def test_a_call_for_which_the_context_had_no_room_counts_as_made() -> None:
    calls = [ToolCall(tool_set="files", tool=tool) for tool in ("roots", "read")]
    steps = tuple(Step(call=call, observation="x") for call in calls)
    long = Situation(request="x", steps=steps)
    shorter = shortened(long)
    assert shorter is not None
    assert (list(shorter.forgotten), list(shorter.steps)) == ([calls[0]], [steps[1]])

    class Hearing(Saying):
        def after(self, request: str, calls: Sequence[str]) -> dict[str, float] | None:
            assert list(calls) == ["files/roots", "files/read"]
            return {"finish": 0.0}

    told = Hearing(clock__now=0.9, files__read=0.05, files__list=0.02, files__roots=0.02)
    stages, _ = scripted_stages([DONE_OR_CLOCK], experts=Experts(intents=told))
    assert stages.decide(shorter, emit=lambda event: None, cancel=None).call is None


def test_after_a_failed_call_and_beside_unknown_tools_the_model_alone_says_what_follows() -> None:
    sure = SayingLater(clock__now=0.9, files__read=0.05, files__list=0.02, files__roots=0.02)
    failed = Step(
        call=ToolCall(tool_set="files", tool="roots"), observation="denied", is_error=True
    )
    stages, engine = scripted_stages([DONE_OR_CLOCK], experts=Experts(intents=sure))
    decision = stages.decide(
        Situation(request="x", steps=(failed,)), emit=lambda event: None, cancel=None
    )
    assert decision.call is None
    assert engine.requests[0].doubted is None
    part = SayingLater(files__read=0.5, files__list=0.3, files__roots=0.2)
    decision, _ = decide_with(part, [DONE_OR_CLOCK], sets=("files", "clock"), steps=1)
    assert decision.call is None


def test_a_tool_that_a_known_server_got_since_is_weighed_by_fit_and_the_others_by_words() -> None:
    knows_two = {name: share for name, share in SURE_OF_LIST.items() if name != "files__roots"}
    asked = (("hello", 1e-7, "list"), ("which allowed roots, the roots", 1e-4, "roots"))
    for request, given, tool in asked:
        doubt = Scores(
            best="read",
            probability=0.6,
            margin=0.2,
            usage=Usage(),
            alternatives=(("list", 0.3999), ("roots", given)),
        )
        decision, (select, *_) = decide_with(
            Saying(**knows_two), [doubt, '{"path":"a"}'], sets=("files",), request=request
        )
        assert select.every
        assert decision.call is not None
        assert decision.call.tool == tool


def test_a_server_beside_the_known_ones_is_weighed_against_all_of_them() -> None:
    routed = Scores(
        best="files",
        probability=0.9,
        margin=0.8,
        usage=Usage(),
        alternatives=(("none", 0.099), ("clock", 1e-3)),
    )
    for request, chosen in (("hello", "files"), ("the time now, which zone, now", "clock")):
        decision, (route, *_) = decide_with(
            Saying(**SURE_OF_LIST),
            [routed, "none"],
            sets=("files", "clock"),
            request=request,
        )
        assert route.every
        assert decision.stages[0].choice == chosen
        shares = [decision.stages[0].probability, *(p for _, p in decision.stages[0].alternatives)]
        assert sum(shares) == pytest.approx(1)


def test_what_tools_that_are_not_connected_would_serve_none_serves() -> None:
    says = {"clock__now": 0.9, "files__list": 0.04, "files__read": 0.03, "files__roots": 0.02}
    doubt = Scores(
        best="read", probability=0.5, margin=0.1, usage=Usage(), alternatives=(("none", 0.4),)
    )
    decision, _ = decide_with(Saying(**says, none=0.01), [doubt], sets=("files",))
    assert decision.call is None
    routed = Scores(
        best="files", probability=0.5, margin=0.1, usage=Usage(), alternatives=(("clock", 0.4),)
    )
    script = [routed, "now", '{"zone":"UTC"}']
    decision, _ = decide_with(Saying(**says, none=0.01), script, sets=("files", "clock"))
    assert decision.call is not None
    assert decision.call.tool_set == "clock"


class Meaning(BiEncoder):
    """A bi-encoder to which all tools are alike and that is sure of `none` or far from it."""

    def __init__(self, none: float) -> None:
        object.__setattr__(self, "none", none)

    def tool(self, tool: ToolSpec) -> Described:
        return Described(*(np.zeros(0, np.float32),) * 3)

    def fits(self, text: str, tools: Sequence[Described]) -> list[float]:
        return [1.0] * len(tools)


class Telling(Meaning):
    """One that is sure that requests give `n`."""

    def odds_given(self, tool: ToolSpec, request: str) -> dict[str, float]:
        return {"n": 5.0}


def test_what_a_request_surely_gives_to_an_unknown_tool_is_written_again() -> None:
    def asked_for(script: list[str], *, steps: int = 0, known: bool = False) -> object:
        tool = spec("shop", "buy", id={"type": "string"}, n={"type": "integer"})
        tool = replace(tool, input_schema={**tool.input_schema, "required": ["id"]})
        seen = CatalogTool(tool_set="shop", name="buy", sha256=tool.sha256)
        stages, _ = scripted_stages(
            script,
            bundle=manifest().model_copy(update={"catalog": (seen,) if known else ()}),
            catalog={"shop": (tool,)},
            experts=Experts(retriever=Telling(0.0)),
        )
        past = Step(call=ToolCall(tool_set="shop", tool="buy"), observation="x")
        situation = Situation(request="buy two of a", steps=(past,) * steps)
        decision = stages.decide(situation, required=True, emit=lambda event: None, cancel=None)
        return decision.call and decision.call.arguments

    short, whole = '{"id":"a"}', '{"id":"a","n":2}'
    assert asked_for([short, whole]) == {"id": "a", "n": 2}
    assert asked_for([whole]) == {"id": "a", "n": 2}
    assert asked_for([short], steps=1) == {"id": "a"}, "it learned from requests of one call"
    assert asked_for([short], known=True) == {"id": "a"}, "a classifier of its own speaks there"


@pytest.mark.parametrize(("none", "tool"), [(30.0, None), (-9.0, "list")])
def test_of_unknown_tools_the_bi_encoder_says_how_well_none_fits(
    none: float, tool: str | None
) -> None:
    doubt = Scores(
        best="list", probability=0.6, margin=0.2, usage=Usage(), alternatives=(("none", 0.4),)
    )
    stages, engine = scripted_stages(
        [doubt, '{"path":"a"}'],
        catalog={"files": CATALOG["files"]},
        experts=Experts(retriever=Meaning(none)),
    )
    decision = stages.decide(asked("qwerty"), emit=lambda event: None, cancel=None)
    assert engine.requests[0].every
    assert (decision.call and decision.call.tool) == tool


@pytest.mark.parametrize(("sets", "tool"), [(("files",), None), (("files", "clock"), "list")])
def test_where_one_set_offers_few_tools_none_is_likelier_than_where_the_router_weighed_it(
    sets: tuple[str, ...], tool: str | None
) -> None:
    doubt = Scores(
        best="list", probability=0.6, margin=0.2, usage=Usage(), alternatives=(("none", 0.4),)
    )
    routed: list[Entry] = ["files"] if len(sets) > 1 else []
    stages, _ = scripted_stages(
        [*routed, doubt, '{"path":"a"}'],
        catalog={name: CATALOG[name] for name in sets},
        experts=Experts(retriever=Meaning(3.0)),
    )
    decision = stages.decide(asked("qwerty"), emit=lambda event: None, cancel=None)
    assert (decision.call and decision.call.tool) == tool
