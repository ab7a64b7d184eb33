"""What a teacher writes: other words for known requests, and new requests with their calls.

Nothing is taken on trust: values have to stand in the new words, calls have to fit the schema and
to succeed on the real servers.
"""

import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, cast

from jsonschema import SchemaError
from pydantic import ValidationError

from afx_train.data.check import founded, texts_of, words_only
from afx_train.data.endpoint import Messages
from afx_train.data.generate import Draft
from afx_train.data.verify import Rejected
from afx_train.trajectory import Trajectory, TrajectoryStep
from agentflux.contracts.validation import argument_validator

LEVELS: dict[str, str] = {
    "plain": "plain and direct",
    "hard": "indirect: the wish or the reason instead of the command, with some irrelevant detail; "
    "do not use the words of the tool's name",
    "careless": "hurried: lower case, a typo or two, clipped grammar, as typed on a phone",
}
_SYSTEM = (
    "You write what people type to an assistant on their own computer. They do not know its tools. "
    "Answer with JSON alone."
)
TAUGHT_ID = "taught/"
_LONGEST = 600


class Verifier(Protocol):
    """Executes a draft's calls: `afx_train.data.verify.Servers`."""

    async def verify(self, draft: Draft) -> Trajectory:
        """Return the trajectory with what the servers said, or raise Rejected."""
        ...


class Asked(Protocol):
    """Answers questions: `afx_train.data.endpoint.Teacher`."""

    def ask(self, messages: Messages) -> str:
        """Return the answer's text."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a data folder has already.

    requests: of all its splits, their words only. called: (tool set, tool) that its training split
    calls; all others are kept from training.
    """

    requests: Set[str]
    called: Set[tuple[str, str]]

    @classmethod
    def of(cls, items: Iterable[Trajectory]) -> "Known":
        """What these trajectories, without a teacher's, have."""
        own = [item for item in items if not is_taught(item)]
        return cls(
            requests={words_only(item.request) for item in own},
            called={(s.tool_set, s.tool) for i in own if i.split == "train" for s in i.steps},
        )


@dataclass(slots=True)
class Taught:
    """What came of the lessons, and what was dropped, by reason."""

    trajectories: list[Trajectory] = field(default_factory=list[Trajectory])
    dropped: Counter[str] = field(default_factory=Counter[str])


def is_taught(item: Trajectory) -> bool:
    """Whether a teacher wrote its request."""
    return item.id.startswith(TAUGHT_ID)


def rewording_question(item: Trajectory, level: str, count: int) -> Messages:
    """Ask for other words for a request; its calls stay right."""
    calls = [{"tool": s.tool, "arguments": s.arguments} for s in item.steps]
    kept = sorted({v for s in item.steps for v in texts_of(s.arguments) if v and v in item.request})
    return [
        {"role": "system", "content": _SYSTEM},
        {
            "role": "user",
            "content": f"Request: {item.request}\n"
            f"It is served by: {json.dumps(calls, ensure_ascii=False)}\n"
            f"Write {count} really different requests that ask for exactly the same. "
            f"Style: {LEVELS[level]}. Keep these texts as they are: "
            f"{json.dumps(kept, ensure_ascii=False)}.\n"
            "Answer: a JSON list of texts.",
        },
    ]


def reworded(items: Iterable[Trajectory], teacher: Asked, *, count: int, known: Set[str]) -> Taught:
    """Let the teacher reword requests of the training split, each at every level.

    known: the words of requests, of any split, that are not to be written again.
    """
    taught = Taught()
    chosen = [item for item in items if item.split == "train" and item.steps]
    seen = {*known, *(words_only(item.request) for item in chosen)}
    for item in chosen:
        for level in LEVELS:
            answer = teacher.ask(rewording_question(item, level, count))
            for number, text in enumerate(_texts(answer)[:count], start=1):
                if reason := _unfit(text, item, level, seen):
                    taught.dropped[reason] += 1
                    continue
                seen.add(words_only(text))
                new = {"id": f"{TAUGHT_ID}{item.id}-{level}{number}", "request": text}
                taught.trajectories.append(item.model_copy(update=new))
    return taught


def request_question(draft: Draft, tools: Sequence[Mapping[str, Any]], level: str) -> Messages:
    """Ask for a new request on the draft's workspace, with the calls that serve it."""
    item = draft.trajectory
    shown = [{k: t.get(k) for k in ("name", "description", "inputSchema")} for t in tools]
    known = [{"tool": s.tool, "arguments": s.arguments} for s in item.steps]
    tool_set = item.steps[0].tool_set
    return [
        {"role": "system", "content": _SYSTEM},
        {
            "role": "user",
            "content": f"Tools of {tool_set}: {json.dumps(shown, ensure_ascii=False)}\n"
            f"The assistant knows: {item.context or '(nothing)'}\n"
            f"Things that exist here are named in: {json.dumps(known, ensure_ascii=False)}\n"
            f"Write one new request that needs one or two of these tools, about things that exist. "
            f"Style: {LEVELS[level]}. Every value of an argument stands in the request or in what "
            "the assistant knows.\n"
            'Answer: {"request": text, "steps": [{"tool": name, "arguments": object}, …]}.',
        },
    ]


async def composed(
    drafts: Iterable[Draft],
    tools: Mapping[str, Sequence[Mapping[str, Any]]],
    teacher: Asked,
    servers: Verifier,
    known: Known,
) -> AsyncIterator[Trajectory | str]:
    """Yield new trajectories, executed on the draft's scene; or why there is none.

    Drafts of other splits, of errors, of several tool sets and of tools kept from training are
    passed over.
    """
    levels, asked = _cycle(tuple(LEVELS)), set(known.requests)
    for draft in drafts:
        if not _teachable(draft, known):
            continue
        level, tool_set = next(levels), draft.trajectory.steps[0].tool_set
        listed = [tool for tool in tools[tool_set] if (tool_set, tool["name"]) in known.called]
        written = _composition(teacher.ask(request_question(draft, listed, level)), draft)
        if not isinstance(written, str):
            written = _unsound(written, listed, asked) or written
        if isinstance(written, str):
            yield written
            continue
        try:
            made = await servers.verify(replace(draft, trajectory=written, style="teacher"))
        except Rejected:
            yield "rejected by the server"
            continue
        asked.add(words_only(made.request))
        yield made


def _teachable(draft: Draft, known: Known) -> bool:
    steps = draft.trajectory.steps
    return (
        draft.trajectory.split == "train"
        and not draft.expect_error
        and len({step.tool_set for step in steps}) == 1
        and all((step.tool_set, step.tool) in known.called for step in steps)
    )


def _composition(answer: str, draft: Draft) -> Trajectory | str:
    found = _json(answer)
    if not isinstance(found, dict):
        return "answer is no JSON object"
    item, tool_set = draft.trajectory, draft.trajectory.steps[0].tool_set
    given = cast("dict[str, Any]", found)
    try:
        steps = tuple(
            TrajectoryStep(tool_set=tool_set, tool=s["tool"], arguments=s.get("arguments") or {})
            for s in given["steps"]
        )
        return item.model_copy(
            update={
                "id": f"{TAUGHT_ID}{item.id}-new",
                "request": str(given["request"]).strip(),
                "steps": steps,
                "kind": "single" if len(steps) == 1 else "scenario",
            }
        )
    except (KeyError, TypeError, AttributeError, ValidationError):
        return "answer has another form"


def _unsound(item: Trajectory, listed: Sequence[Mapping[str, Any]], known: Set[str]) -> str:
    by_name = {tool["name"]: tool for tool in listed}
    if not item.steps or not item.request or len(item.request) > _LONGEST:
        return "no request or no call"
    if words_only(item.request) in known:
        return "repeats a known request"
    for step in item.steps:
        if step.tool not in by_name:
            return "unknown tool, or one kept from training"
        try:
            fits = argument_validator(by_name[step.tool]["inputSchema"]).is_valid(step.arguments)
        except SchemaError:
            return "the tool's schema is no JSON Schema"
        if not fits:
            return "arguments break the schema"
    first = texts_of(item.steps[0].arguments)
    if not all(founded(value, f"{item.request}\n{item.context}") for value in first):
        return "value stands nowhere"
    return ""


def _unfit(text: str, item: Trajectory, level: str, known: set[str]) -> str:
    """Why a rewording is not taken; empty where it is."""
    if not text.strip() or len(text) > _LONGEST:
        return "empty or too long"
    if words_only(text) in known:
        return "repeats a known request"
    values = [v for s in item.steps for v in texts_of(s.arguments) if v and v in item.request]
    if any(value not in text for value in values):
        return "a value got lost"
    first = item.steps[0].tool
    if level == "hard" and (first in text or first.replace("_", " ") in text.lower()):
        return "names the tool"
    return ""


def _texts(answer: str) -> list[str]:
    found = _json(answer)
    return [t.strip() for t in found if isinstance(t, str)] if isinstance(found, list) else []


def _json(answer: str) -> object:
    """The first JSON list or object of an answer, which may stand between other words."""
    decoder = json.JSONDecoder()
    for match in re.finditer(r"[\[{]", answer):
        try:
            found: object = decoder.raw_decode(answer, match.start())[0]
        except ValueError:
            continue
        return found
    return None


def _cycle(names: Sequence[str]) -> Iterator[str]:
    while True:
        yield from names
