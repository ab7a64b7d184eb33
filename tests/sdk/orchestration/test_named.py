"""Tools that a request names."""

import pytest

from agentflux.contracts.tools import ToolSpec
from agentflux.orchestration.named import named_tools

TOOLS = [
    ToolSpec(tool_set="files", name=name, description="", input_schema={"type": "object"})
    for name in ("read_file", "read_text_file", "search")
]


@pytest.mark.parametrize(
    ("request_", "names"),
    [
        ("Use read_file on notes/a.txt", ["read_file"]),
        ("Use the older read_file tool, not its replacement, for notes/a.txt", ["read_file"]),
        ("call `read_text_file` with a.txt", ["read_text_file"]),
        ("With the search tool, look for a.txt", ["search"]),
        ("Use read_file, not read_text_file, for a.txt", ["read_file"]),
        ("Don't use read_file for a.txt", []),
        ("Use search terms that fit", []),
        ("What does read_file.py say?", []),
        ("Use my_read_file on a.txt", []),
        ("List the folder and then use read_file on the first", []),
        ("Read a.txt", []),
    ],
)
def test_a_request_names_the_tool_to_use(request_: str, names: list[str]) -> None:
    assert [tool.name for tool in named_tools(TOOLS, request_)] == names
