"""The requests that a bundle is measured with when none are given.

Three tool sets under the names of widely used MCP servers, so that a bundle trained for those
servers runs its own adapters; another bundle serves them with its general ones or the base. The
work per call is what counts here, not whether the answer is right.
"""

from agentflux.contracts.prompts import Situation
from agentflux.contracts.tools import Catalog, ToolSpec


def _tool(tool_set: str, name: str, description: str, **parameters: str) -> ToolSpec:
    properties = {key: {"type": kind} for key, kind in parameters.items()}
    schema = {"type": "object", "properties": properties, "required": list(parameters)}
    return ToolSpec(tool_set=tool_set, name=name, description=description, input_schema=schema)


CATALOG: Catalog = {
    "filesystem": (
        _tool("filesystem", "read_text_file", "Read a file as text.", path="string"),
        _tool("filesystem", "list_directory", "List the files of a folder.", path="string"),
        _tool("filesystem", "create_directory", "Make a new folder.", path="string"),
        _tool(
            "filesystem",
            "move_file",
            "Move or rename a file.",
            source="string",
            destination="string",
        ),
    ),
    "git": (
        _tool("git", "git_status", "Show the working tree status.", repo_path="string"),
        _tool("git", "git_log", "Show the commit log.", repo_path="string", max_count="integer"),
        _tool(
            "git", "git_create_branch", "Make a branch.", repo_path="string", branch_name="string"
        ),
    ),
    "time": (
        _tool("time", "get_current_time", "Tell the time in a time zone.", timezone="string"),
        _tool(
            "time",
            "convert_time",
            "Convert a time between time zones.",
            source_timezone="string",
            time="string",
            target_timezone="string",
        ),
    ),
}

_CONTEXT = "Workspace root: /home/ana/desk\nRepository: /home/ana/desk/project\nTime zone: UTC"

SITUATIONS = tuple(
    Situation(request=request, context=_CONTEXT)
    for request in (
        "What does notes/today.md say?",
        "Show me the last 12 commits of the project.",
        "Move inbox/café.txt to archive/2024, please.",
        "What time is it in Tokyo right now?",
        "Make a folder called invoices/2025.",
        "Start a branch named fix-login in the repository.",
        "It is 14:30 in Lisbon; what does the clock say in New York?",
        "List everything in photos/summer.",
    )
)
