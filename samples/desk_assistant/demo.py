"""The demonstration: a dozen requests over five real MCP servers, each effect checked by program.

python samples/desk_assistant/demo.py            # builds what is missing

Exit code 5 where more than two went wrong, 4 where something is missing.
"""

import argparse
import json
import re
import sqlite3
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bundle import PROFILE, ensure_bundle
from servers import install, write_servers_json
from workspace import FILES, ORDERS, git, make_workspace

import agentflux

# The model may miss one where sums are rounded otherwise; more say that something is broken.
MAY_BE_WRONG = 2
BROKEN, MISSING = 5, 4

Check = Callable[[Path, agentflux.RunResult], bool]


@dataclass(frozen=True)
class Task:
    """A request, and the program that says whether what it asked for has happened."""

    kind: str
    request: str
    check: Check


def seen(*texts: str) -> Check:
    """The observations hold these texts, and no call failed."""

    def check(root: Path, result: agentflux.RunResult) -> bool:
        together = "\n".join(step.observation for step in result.steps)
        fine = bool(result.steps) and not any(step.is_error for step in result.steps)
        return fine and all(text in together for text in texts)

    return check


def counted(rows: int) -> Check:
    """The observation is one row with one number, and it is the right one."""

    def check(root: Path, result: agentflux.RunResult) -> bool:
        pattern = rf"\[\{{'[^']+': {rows}\}}\]"
        return any(re.fullmatch(pattern, step.observation.strip()) for step in result.steps)

    return check


def file_says(name: str, text: str) -> Check:
    """The file is there and holds the text."""

    def check(root: Path, result: agentflux.RunResult) -> bool:
        path = root / name
        return path.is_file() and text in path.read_text(encoding="utf-8")

    return check


def moved(source: str, target: str) -> Check:
    """The file has its new name and is gone from the old one."""
    text = FILES[source]

    def check(root: Path, result: agentflux.RunResult) -> bool:
        return not (root / source).exists() and file_says(target, text)(root, result)

    return check


def committed(message: str) -> Check:
    """The newest commit has this message."""

    def check(root: Path, result: agentflux.RunResult) -> bool:
        return git(root / "site", "log", "-1", "--format=%s").strip() == message

    return check


def stored(name: str, fact: str) -> Check:
    """The knowledge graph holds an entity with this observation."""

    def check(root: Path, result: agentflux.RunResult) -> bool:
        graph = root / "data" / "memory.jsonl"
        lines = graph.read_text(encoding="utf-8").splitlines() if graph.exists() else []
        things = [json.loads(line) for line in lines]
        return any(t.get("name") == name and fact in t.get("observations", ()) for t in things)

    return check


def row_count(count: int) -> Check:
    """The orders table has so many rows."""

    def check(root: Path, result: agentflux.RunResult) -> bool:
        connection = sqlite3.connect(root / "data" / "desk.db")
        try:
            return connection.execute("SELECT COUNT(*) FROM orders").fetchone() == (count,)
        finally:
            connection.close()

    return check


def abstained(root: Path, result: agentflux.RunResult) -> bool:
    """No tool was called, and something was said."""
    return not result.steps and bool(result.answer)


def reported_missing(root: Path, result: agentflux.RunResult) -> bool:
    """The file was asked for, the server's error was read, and the run ended by itself."""
    return bool(result.steps) and result.steps[0].is_error and result.stopped == "answered"


TASKS = (
    Task("read", "What does notes/shopping.txt say?", seen("rye bread")),
    Task("list", "Show me what is in the docs folder", seen("plan.md", "rent contract.txt")),
    Task(
        "write",
        "Create a file notes/todo.txt with the text: call the dentist",
        file_says("notes/todo.txt", "call the dentist"),
    ),
    Task(
        "rename",
        "Rename drafts/letter.txt to drafts/letter-final.txt",
        moved("drafts/letter.txt", "drafts/letter-final.txt"),
    ),
    Task(
        "git, read",
        "Which lines have I changed in the repository that are not staged yet?",
        seen("open daily"),
    ),
    Task(
        "git, write",
        'Commit what is staged with the message "Add Saturday hours"',
        committed("Add Saturday hours"),
    ),
    Task("sql, read", "How many rows are in the orders table?", counted(len(ORDERS))),
    Task("sql, write", "Delete the row with id 2 from orders", row_count(len(ORDERS) - 1)),
    Task(
        "memory",
        "Store a new entity in memory: Marta, a person who likes oat milk",
        stored("Marta", "likes oat milk"),
    ),
    Task("time", "What time is it in Tokyo right now?", seen("Asia/Tokyo")),
    Task(
        "two steps",
        "Make a folder called archive and then move notes/old ideas.txt into it",
        moved("notes/old ideas.txt", "archive/old ideas.txt"),
    ),
    Task("abstain", "Tell me a joke about two cats", abstained),
    Task("missing file", "Read notes/holiday.txt to me", reported_missing),
)


def main() -> None:
    """Build what is missing, run every task, count right and wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", default=PROFILE, help="device profile of the bundle")
    profile = parser.parse_args().profile
    try:
        wrong = run_tasks(profile)
    except (agentflux.AgentFluxError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        sys.exit(MISSING)
    sys.exit(BROKEN if len(wrong) > MAY_BE_WRONG else 0)


def run_tasks(profile: str) -> list[str]:
    """Run every task over real servers; return the kinds that went wrong."""
    bundle = ensure_bundle(profile)
    install()
    with tempfile.TemporaryDirectory(prefix="desk-") as folder:
        root = Path(folder).resolve()
        context = make_workspace(root)
        servers = write_servers_json(root, root / "data" / "servers.json")
        with agentflux.open_bundle(bundle, mcp=servers, approve="all") as agent:
            warm = agent.warm_up()
            tools = sum(len(found) for found in agent.catalog.values())
            print(f"{len(agent.catalog)} servers, {tools} tools; shared prefixes computed once: ")
            print(f"{warm.prefill_tokens} tokens in {warm.ms / 1e3:.1f} s\n")
            outcome = [run_task(agent, task, root, context) for task in TASKS]
    wrong = [task.kind for task, right in zip(TASKS, outcome, strict=True) if not right]
    print(
        f"{sum(outcome)} of {len(TASKS)} right" + (f"; wrong: {', '.join(wrong)}" if wrong else "")
    )
    print(f"\nbundle: {bundle}")
    return wrong


def run_task(agent: agentflux.Agent, task: Task, root: Path, context: str) -> bool:
    """Run one task, print its stages and its check."""
    print(f"● {task.kind}: {task.request}")
    printer = agentflux.StagePrinter(sys.stdout, stream=None)
    try:
        result = agent.run(task.request, context=context, on_event=printer)
    except agentflux.AgentFluxError as error:
        print(f"  ✗ {error}\n")
        return False
    print(f"  answer     {result.answer}")
    printer.summary(result)
    right = task.check(root, result)
    print("  ✓ the asked effect is there\n" if right else "  ✗ the asked effect is NOT there\n")
    return right


if __name__ == "__main__":
    main()
