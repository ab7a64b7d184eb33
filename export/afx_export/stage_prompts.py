"""The prompts on which a bundle is compared with transformers: real stages, small catalogue."""

from dataclasses import dataclass

from agentflux.contracts.bundle import AdapterEntry
from agentflux.contracts.prompts import (
    Boundary,
    ChatFormat,
    Role,
    Situation,
    StagePrompt,
    Subtask,
    arguments_prompt,
    route_prompt,
    select_prompt,
)
from agentflux.contracts.tools import Catalog, Step, ToolCall, ToolSpec

PROMPTS_PER_ADAPTER = 3
TOKENS_PER_PROMPT = 12


def _tool(tool_set: str, name: str, description: str, *parameters: str) -> ToolSpec:
    properties = {p: {"type": "string"} for p in parameters}
    schema = {"type": "object", "properties": properties, "required": list(parameters[:1])}
    return ToolSpec(tool_set=tool_set, name=name, description=description, input_schema=schema)


_FILES = (
    _tool("filesystem", "read_text_file", "Read a file as text", "path", "head"),
    _tool("filesystem", "list_directory", "List a folder", "path"),
    _tool("filesystem", "move_file", "Move or rename a file", "source", "destination"),
)
_GIT = (
    _tool("git", "git_status", "Show the working tree"),
    _tool("git", "git_log", "List commits"),
)
CATALOG: Catalog = {"filesystem": _FILES, "git": _GIT}

_MOVED = Step(
    call=ToolCall(tool_set="filesystem", tool="list_directory", arguments={"path": "inbox"}),
    observation="[FILE] report 2024.pdf\n[FILE] café.txt",
)
SITUATIONS = (
    Situation(request="What is in notes/today.md?", context="Workspace: /home/ana/work"),
    Situation(request="Move café.txt from inbox to archive/2024, please.", steps=(_MOVED,)),
    Situation(request="show the last 12 commits   of the 'main' branch"),
)

TRICKY_TEXTS = (
    "Grüße aus Köln: naïve café, Ærøskøbing, ångström",
    "日本語のテキスト、中文，한국어 и кириллица",
    "emoji 👩‍👩‍👧‍👦 🇳🇴 ✅ and combining e\u0301 a\u0308",
    "runs  of   spaces    and\ttabs\t\tand\n\n\nlines \n trailing  ",
    "/home/ana/My Documents/report (final) v2.1.tar.gz",
    "C:\\Users\\ana\\AppData\\Local\\Temp\\~x1.tmp",
    "0 1 12 123 1234 12345 3.14159 -1e-9 1,000,000 0xDEADBEEF 2024-02-29T23:59:59+05:30",
    '{"path":"a/b.txt","edits":[{"oldText":"x","newText":"y\\n"}],"dryRun":false}',
    "it's don't WE'LL i've they're O'Neill's",
    "\u00a0non-breaking\u200bzero-width\u202fnarrow",
    "SELECT * FROM \"t\" WHERE a<>b AND c LIKE '%_x';",
    "https://example.org/a?b=c&d=%20#frag mailto:x.y+z@example.co.uk",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One prompt of one adapter (None: the base), cut at its activation boundary."""

    adapter: str | None
    base: tuple[str, ...]
    adapted: tuple[str, ...]


def stage_prompts(chat: ChatFormat, subtask: Role) -> tuple[StagePrompt, ...]:
    """Build this stage's prompts in every situation; for a joint adapter, one of each stage."""
    if subtask == "joint":
        return _one_of_each(chat)
    return tuple(_prompt(chat, subtask, situation) for situation in SITUATIONS)


def stage_pieces(chat: ChatFormat) -> tuple[str, ...]:
    """Return every different piece of all stage prompts: what the device tokenizes."""
    subtasks: tuple[Subtask, ...] = ("route", "select", "arguments")
    prompts = (prompt for subtask in subtasks for prompt in stage_prompts(chat, subtask))
    return tuple(dict.fromkeys(piece for prompt in prompts for piece in prompt.pieces()))


def checks_of(chat: ChatFormat, adapter: AdapterEntry) -> tuple[Check, ...]:
    """Return what an adapter is compared on."""
    return tuple(
        _check(adapter.name, prompt, adapter.boundary)
        for prompt in stage_prompts(chat, adapter.subtask)[:PROMPTS_PER_ADAPTER]
    )


def base_checks(chat: ChatFormat) -> tuple[Check, ...]:
    """Return what the base is compared on: one prompt of each stage."""
    return tuple(_check(None, prompt, "request") for prompt in _one_of_each(chat))


def _one_of_each(chat: ChatFormat) -> tuple[StagePrompt, ...]:
    subtasks: tuple[Subtask, ...] = ("route", "select", "arguments")
    return tuple(stage_prompts(chat, s)[i] for i, s in enumerate(subtasks))


def _prompt(chat: ChatFormat, subtask: Subtask, situation: Situation) -> StagePrompt:
    if subtask == "route":
        return route_prompt(chat, CATALOG, situation)
    if subtask == "select":
        return select_prompt(chat, "filesystem", _FILES, situation)
    return arguments_prompt(chat, _FILES[2], _FILES, situation)


def _check(adapter: str | None, prompt: StagePrompt, boundary: Boundary) -> Check:
    base, adapted = prompt.split(boundary)
    return Check(adapter=adapter, base=base, adapted=adapted)
