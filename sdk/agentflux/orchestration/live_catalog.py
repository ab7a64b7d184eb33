"""The tools that may be used now: what the host lists, less what is held back."""

import threading

from agentflux.contracts.tools import Catalog, ToolSpec, by_set
from agentflux.errors import ConfigError, ToolHostError
from agentflux.orchestration.pins import HeldTool, Pins
from agentflux.ports import ChangingHost, ToolHost


class LiveCatalog:
    """Follows the host's tools. Safe to use from several threads."""

    def __init__(
        self, host: ToolHost, pins: Pins, *, trusted: frozenset[str] = frozenset()
    ) -> None:
        """List the tools once. trusted: sets of the application itself, which are never held.

        Raises:
            ToolHostError: a server cannot be used.
        """
        self._host, self._pins, self._trusted = host, pins, trusted
        self._lock = threading.Lock()
        self._revision = _revision(host)
        self._listed = tuple(host.list_tools())
        self._sift()

    def tools(self) -> Catalog:
        """Return the usable tools by tool set; the same object until something changes.

        While a server that changed cannot be asked, its tools stay as they were.
        """
        with self._lock:
            revision = _revision(self._host)
            if revision != self._revision:
                try:
                    listed = tuple(self._host.list_tools())
                except ToolHostError:
                    return self._catalog
                self._revision = revision
                if listed != self._listed:
                    self._listed = listed
                    self._sift()
            return self._catalog

    @property
    def held(self) -> tuple[HeldTool, ...]:
        """Tools that changed and wait to be accepted."""
        with self._lock:
            return self._held

    def accept(self, tool_set: str, name: str, *, sha256: str | None = None) -> ToolSpec:
        """Let a held tool be used as it is now; return it.

        sha256: `HeldTool.sha256` of the tool that was looked at; None takes what is held now.

        Raises:
            ConfigError: no such tool is held, or it is another by now.
        """
        with self._lock:
            held = [h for h in self._held if (h.tool.tool_set, h.tool.name) == (tool_set, name)]
            if not held:
                raise ConfigError(f"no tool {tool_set}.{name} is held back")
            found = [h.tool for h in held if sha256 in (None, h.sha256)]
            if not found:
                msg = f"the tool {tool_set}.{name} changed since it was shown; look at it again"
                raise ConfigError(msg)
            self._pins.accept(found[0])
            self._sift()
            return found[0]

    def _sift(self) -> None:
        foreign = [tool for tool in self._listed if tool.tool_set not in self._trusted]
        _, self._held = self._pins.sift(foreign)
        held = [one.tool for one in self._held]
        self._catalog: Catalog = by_set(tool for tool in self._listed if tool not in held)


def _revision(host: ToolHost) -> int:
    return host.revision if isinstance(host, ChangingHost) else 0
