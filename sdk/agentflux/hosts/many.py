"""Several hosts behind the protocol of one."""

from collections.abc import Sequence
from contextlib import ExitStack

from agentflux.contracts.tools import ToolCall, ToolResult, ToolSpec
from agentflux.errors import ConfigError
from agentflux.hosts.results import unknown_tool_set
from agentflux.ports import ChangingHost, ToolHost


class Hosts:
    """Offers the tool sets of all its hosts and sends each call to the host that has the set.

    The hosts are asked for their tools when they are first needed, not when this is made.
    """

    def __init__(self, hosts: Sequence[ToolHost]) -> None:
        self._hosts = tuple(hosts)
        self._owners: dict[str, ToolHost] | None = None

    @property
    def revision(self) -> int:
        """The sum over the hosts that may change."""
        return sum(host.revision for host in self._hosts if isinstance(host, ChangingHost))

    def list_tools(self) -> Sequence[ToolSpec]:
        """Return all tools, host by host.

        Raises:
            ConfigError: two hosts have a tool set of the same name.
            ToolHostError: a server did not start or is gone.
        """
        listings = [(host, tuple(host.list_tools())) for host in self._hosts]
        self._owners = _owners(listings)
        return tuple(tool for _, tools in listings for tool in tools)

    def call(self, call: ToolCall, *, timeout_s: float) -> ToolResult:
        """Call the tool on the host that has its tool set. Raises as `list_tools` does."""
        if self._owners is None:
            self.list_tools()
        owners = self._owners or {}
        if call.tool_set not in owners:
            return unknown_tool_set(call, available=owners)
        return owners[call.tool_set].call(call, timeout_s=timeout_s)

    def close(self) -> None:
        """Close every host, also when one of them raises."""
        with ExitStack() as stack:
            for host in self._hosts:
                stack.callback(host.close)


def _owners(listings: Sequence[tuple[ToolHost, Sequence[ToolSpec]]]) -> dict[str, ToolHost]:
    owners: dict[str, ToolHost] = {}
    for host, tools in listings:
        for name in dict.fromkeys(tool.tool_set for tool in tools):
            if owners.setdefault(name, host) is not host:
                first, second = type(owners[name]).__name__, type(host).__name__
                raise ConfigError(
                    f"tool set {name!r} is offered twice, by {first} and by {second}; "
                    "give one of them another name"
                )
    return owners
