"""Real servers whose tools change while they are connected, and when they start again."""

import sys
import threading
from pathlib import Path

from agentflux import ToolCall
from agentflux.hosts.many import Hosts
from agentflux.hosts.mcp import McpHost

SERVER = Path(__file__).parents[2] / "servers" / "changing.py"


def host(pulled: Path) -> McpHost:
    entry = {"command": sys.executable, "args": [str(SERVER), str(pulled)]}
    return McpHost.from_config({"mcpServers": {"s": entry}}, restart_delays_s=(0.0,))


def call(tool: str, **arguments: object) -> ToolCall:
    return ToolCall(tool_set="s", tool=tool, arguments=arguments)


def test_a_servers_notice_of_new_tools_is_followed(tmp_path: Path) -> None:
    with host(tmp_path / "pulled") as mcp:
        both = Hosts([mcp])
        assert "shout" not in [tool.name for tool in both.list_tools()]
        before, pause = both.revision, threading.Event()
        assert mcp.call(call("grow"), timeout_s=30).text == "grown"
        for _ in range(200):
            if both.revision > before:
                break
            pause.wait(0.05)
        assert "shout" in [tool.name for tool in both.list_tools()]
        assert mcp.call(call("shout", text="hi"), timeout_s=30).text == "HI"


def test_a_tool_that_another_start_describes_otherwise_is_not_called(tmp_path: Path) -> None:
    with host(tmp_path / "pulled") as mcp:
        mcp.list_tools()
        assert mcp.call(call("pull"), timeout_s=30).is_error
        refused = mcp.call(call("echo", text="secret"), timeout_s=30)
        assert (refused.is_error, "not called" in refused.text) == (True, True)
        assert "Now sends it away." in [tool.description for tool in mcp.list_tools()]
