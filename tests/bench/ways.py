"""Other ways to decide a case than `afx eval`'s, in the same file of predictions.

    python tests/bench/ways.py WAY BUNDLE --tools TOOLS --cases FILE --out FILE [--limit N]

one-call: all tools of all sets, with their schemas, in one prompt in the layout of Qwen2.5's own
tool template (ChatML models without one are asked in it, too); the answer is decoded freely, and a
text that ends without a call is `none`. free-stages: the stages of this package, decoded without
any grammar; a name that is no candidate and arguments that are not JSON are errors. model-alone:
as `afx eval`, but nothing beside the model is heard (words, classifier, bi-encoder). set-alone: so,
with the gold tool set as the only one. given-set,
given-tool: the gold tool set, or the gold tool, is taken whatever would be chosen, so that the rest
is the bundle's; cases without a gold tool are answered by `none`.

All schemas of the sample's five tool sets are 5,500 tokens: a bundle that is asked for them in
one-call has to be built with recipes/cpu-int4-long.toml as its profile.
"""

import argparse
import json
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parents[1]))
from bench.desk import Steered

from agentflux.contracts.bundle import Manifest, read_manifest
from agentflux.contracts.cases import Case, count_cases, prediction_line, read_cases
from agentflux.contracts.experts import bundle_experts
from agentflux.contracts.prompts import ChatFormat, Situation
from agentflux.contracts.tools import Catalog, ToolCall, ToolSpec, load_tool_folder
from agentflux.errors import EngineError
from agentflux.evaluation import predict
from agentflux.orchestration.arguments import MAX_ARGUMENT_TOKENS
from agentflux.orchestration.events import Event
from agentflux.orchestration.hints import SecondOpinions
from agentflux.orchestration.stages import Decision, Stages
from agentflux.ports import (
    CancelToken,
    Choosing,
    Completion,
    Engine,
    Generation,
    Scores,
    Segment,
    StageRecord,
)
from agentflux.progress import progress
from agentflux.session import open_engine

MAX_NAME_TOKENS = 24
HEADS = {"qwen": "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."}
HEAD = "You are a helpful assistant."
TOOLS = """

# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>"""
CALLS = """
</tools>

For each function call, return a json object with function name and arguments within \
<tool_call></tool_call> XML tags:
<tool_call>
{"name": <function-name>, "arguments": <args-json-object>}
</tool_call>"""

WAYS = ("one-call", "free-stages", "model-alone", "set-alone", "given-set", "given-tool")
Decide = Callable[[Case], Decision]


def main() -> None:
    """Decide every case and write the predictions under a temporary name first."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--tools", type=Path, required=True)
    parser.add_argument("--cases", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--threads", type=int)
    given = parser.parse_args()
    manifest = read_manifest(given.bundle)
    partial = given.out.with_name(given.out.name + ".partial")
    failed, total = 0, count_cases(given.cases, limit=given.limit)
    with closing(open_engine(given.bundle, manifest, threads=given.threads)) as engine:
        decide = _decide(given, engine, manifest)
        with partial.open("w", encoding="utf-8") as stream, progress("cases", total) as advance:
            for case in read_cases(given.cases, limit=given.limit):
                line = predict(case, decide)
                failed += "error" in line
                stream.write(prediction_line(line))
                advance()
    partial.replace(given.out)
    print(f"{total} cases, {failed} without a usable answer", file=sys.stderr)


def decider(way: str, engine: Engine, manifest: Manifest, catalog: Catalog) -> Decide:
    """Return one of the ways that need to know nothing of a case but what it asks."""
    if way == "one-call":
        prompt = OneCall(manifest.chat, catalog, model=manifest.base_model.id)
        return lambda case: prompt.decide(engine, case.situation())
    asked = Unconstrained(engine) if way == "free-stages" else engine
    stages = Stages(asked, manifest, catalog)
    return lambda case: _alone(stages, case)


def _decide(given: argparse.Namespace, engine: Engine, manifest: Manifest) -> Decide:
    catalog = load_tool_folder(given.tools)
    if given.way in ("one-call", "free-stages", "model-alone"):
        return decider(given.way, engine, manifest, catalog)
    experts = bundle_experts(given.bundle, manifest)
    lines = given.cases.read_text(encoding="utf-8").splitlines()
    golds = {row["id"]: row["gold"] for row in map(json.loads, lines)}
    steered = Steered(engine)
    if given.way == "set-alone":
        every = {name: Stages(engine, manifest, {name: tools}) for name, tools in catalog.items()}
        nothing = Decision(call=None, confidence=1.0, stages=())

        def set_alone(case: Case) -> Decision:
            name = golds[case.id]["tool_set"]
            return nothing if name is None else _alone(every[name], case)

        return set_alone

    def given_set(case: Case) -> Decision:
        tool_set = golds[case.id]["tool_set"]
        if tool_set is None:
            return Decision(call=None, confidence=1.0, stages=())
        over = Stages(steered, manifest, catalog, experts=experts)
        return steered.take(over, case.situation(), tool_set, required=False)

    def given_tool(case: Case) -> Decision:
        tool_set, tool = golds[case.id]["tool_set"], golds[case.id]["tool"]
        if tool is None:
            return Decision(call=None, confidence=1.0, stages=())
        over = Stages(steered, manifest, {tool_set: catalog[tool_set]}, experts=experts)
        decision = steered.take(over, case.situation(), tool_set, tool)
        if decision.call is None or decision.call.tool != tool:
            sys.exit(f"{case.id}: {tool} was not taken")
        return decision

    return given_set if given.way == "given-set" else given_tool


def _alone(stages: Stages, case: Case) -> Decision:
    """Decide with nothing beside the model."""
    with (
        patch.object(SecondOpinions, "of_sets", _nothing),
        patch.object(SecondOpinions, "of_tools", _nothing),
    ):
        return stages.decide(case.situation(), emit=_quiet, cancel=None)


class OneCall:
    """All tools in one prompt, one call as the answer."""

    def __init__(self, chat: ChatFormat, catalog: Catalog, *, model: str) -> None:
        self._chat = chat
        self._tools = {tool.name: tool for tools in catalog.values() for tool in tools}
        head = next((text for name, text in HEADS.items() if model.startswith(name)), HEAD)
        listed = [head, TOOLS, *(f"\n{_function(tool)}" for tool in self._tools.values()), CALLS]
        self._static = f"{chat.begin}{chat.system_open}{''.join(listed)}{chat.close}"

    def text(self, situation: Situation) -> tuple[str, str]:
        """Return the part that all requests share and the rest."""
        chat = self._chat
        asked = f"{situation.context}\n\n{situation.request}".strip()
        turns = [f"{chat.user_open}{asked}{chat.close}"]
        for step in situation.steps:
            call = _told(step.call.tool, dict(step.call.arguments))
            turns.append(f"{chat.assistant_open}<tool_call>\n{call}\n</tool_call>{chat.close}")
            seen = f"<tool_response>\n{step.observation}\n</tool_response>"
            turns.append(f"{chat.user_open}{seen}{chat.close}")
        return self._static, "".join([*turns, chat.assistant_open])

    def decide(self, engine: Engine, situation: Situation) -> Decision:
        """Decode freely and read the first call."""
        static, rest = self.text(situation)
        request = Generation(
            segments=(Segment(text=static, keep=True), Segment(text=rest)),
            max_tokens=MAX_ARGUMENT_TOKENS,
            stop=("</tool_call>",),
        )
        done = engine.generate(request)
        stages = (StageRecord(stage="one-call", adapter=None, usage=done.usage),)
        found = _first_object(done.text)
        if found is None and "<tool_call>" not in done.text and done.finish == "stop":
            return Decision(call=None, confidence=1.0, stages=stages)
        name, arguments = (found or {}).get("name"), (found or {}).get("arguments")
        if name not in self._tools or not isinstance(arguments, dict):
            told = f"no call of a known tool: {done.text[:200]!r}"
            return Decision(call=None, confidence=0.0, stages=stages, problem=told)
        call = ToolCall(tool_set=self._tools[name].tool_set, tool=name, arguments=arguments)
        return Decision(call=call, confidence=1.0, stages=stages)


class Unconstrained:
    """An engine that decodes names and arguments freely and takes what it can read."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def choose(self, request: Choosing, *, cancel: CancelToken | None = None) -> Scores:
        """Read a candidate off the first line of free text."""
        asked = Generation(segments=request.segments, max_tokens=MAX_NAME_TOKENS, stop=("\n",))
        done = self._engine.generate(asked, cancel=cancel)
        if (name := done.text.strip()) not in request.candidates:
            raise EngineError(f"{name[:80]!r} is no candidate")
        return Scores(best=name, probability=1.0, margin=1.0, usage=done.usage)

    def generate(
        self,
        request: Generation,
        *,
        on_text: Callable[[str], None] | None = None,
        cancel: CancelToken | None = None,
    ) -> Completion:
        """Decode without a grammar; of the text its first JSON object is kept."""
        free = replace(request, grammar=None, keep_grammar=False, rollouts=1)
        done = self._engine.generate(free, on_text=on_text, cancel=cancel)
        found = _first_object(done.text)
        return done if found is None else replace(done, text=json.dumps(found), finish="stop")

    def close(self) -> None:
        """Close the engine."""
        self._engine.close()


def _quiet(event: Event) -> None:
    pass


def _nothing(*_: object, **__: object) -> None:
    """What nobody says."""


def _first_object(text: str) -> dict[str, Any] | None:
    start = text.find("{")
    while start >= 0:
        try:
            found, _ = json.JSONDecoder().raw_decode(text[start:])
        except ValueError:
            start = text.find("{", start + 1)
            continue
        return cast("dict[str, Any]", found)
    return None


def _function(tool: ToolSpec) -> str:
    schema = dict(tool.input_schema)
    told = {"name": tool.name, "description": tool.description, "parameters": schema}
    return json.dumps({"type": "function", "function": told}, ensure_ascii=False)


def _told(name: str, arguments: dict[str, Any]) -> str:
    return json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)


if __name__ == "__main__":
    main()
