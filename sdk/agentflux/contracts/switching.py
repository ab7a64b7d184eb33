"""How an adapter becomes active on a live generator: one small class for each adapter mode.

A bundle's graph and the program that runs it agree here, and only here. The generator is ONNX
Runtime GenAI's; nothing of it is imported, so export certifies a bundle with the very code that
the device switches it with.

| mode | the graph | a switch |
|---|---|---|
| runtime | one; LoRA matrices are graph inputs | `set_active_adapter` with a file's matrices |
| stacked | one; all matrices inside, input `adapter_id` picks a row | a number in a bound array |
| merged | one an adapter over shared weights; input `adapter_gate` | a 0 or 1 in a bound array |
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from agentflux.contracts.bundle import (
    NULL_ADAPTER,
    NULL_ADAPTER_FILE,
    AdapterEntry,
    RuntimeSettings,
)
from agentflux.errors import AdapterNotFound, EngineError

GRAPH = "model.onnx"
WEIGHTS = "model.onnx.data"
ADAPTER_ID = "adapter_id"
"""Graph input of stacked mode: int64, shape (1,). The adapter's `index`; 0 is the base."""
ADAPTER_GATE = "adapter_gate"
"""Graph input of merged mode: the graph's float type, shape (1,). 1: adapter on; 0: the base."""

# A switch by `set_active_adapter` leaves about 9 microseconds a token on an onnxruntime-genai 0.18
# generator. At this count a new generator costs less than what the old one would lose in its next
# hundred calls. Changing a number in a bound array leaves nothing behind.
MAX_SWITCHES = 128

Activate = Callable[[str], None]


class LiveGenerator(Protocol):
    """What is used of `onnxruntime_genai.Generator`."""

    def set_active_adapter(self, adapters: Any, name: str) -> None:  # noqa: ANN401 - native
        """Bind an adapter's matrices for later tokens."""
        ...

    def set_model_input(self, name: str, value: npt.NDArray[Any]) -> None:
        """Bind an array, once for each name."""
        ...


class AdapterStore(Protocol):
    """Adapters loaded beside a model: `onnxruntime_genai.Adapters`."""

    def load(self, path: str, name: str) -> object:
        """Map an `.onnx_adapter` file."""
        ...


class Switching(Protocol):
    """Switches the adapters of one bundle. `max_switches`: renew a generator after so many."""

    max_switches: int

    def graph(self, adapters: Iterable[str]) -> str:
        """Return the file of the graph that computes a request under these adapters.

        Raises:
            AdapterNotFound: the bundle lacks one.
        """
        ...

    def attach(self, generator: LiveGenerator, graph: str) -> Activate:
        """Prepare a new generator of `graph`; the result activates an adapter by name on it."""
        ...


def switching(
    bundle: Path,
    settings: RuntimeSettings,
    adapters: Sequence[AdapterEntry],
    *,
    open_store: Callable[[], AdapterStore],
    admit: Callable[[str], object] = lambda file: None,
) -> Switching:
    """Return how this bundle's adapters are switched.

    open_store: called at first need. admit: called with an adapter's file before it is loaded.
    """
    if settings.adapter_mode == "stacked":
        return StackedSwitching(bundle, adapters)
    if settings.adapter_mode == "merged":
        return MergedSwitching(bundle, adapters, np.dtype(settings.graph_type))
    return RuntimeSwitching(bundle, adapters, open_store, admit)


class RuntimeSwitching:
    """Matrices are graph inputs, bound from files that are mapped at first use."""

    max_switches = MAX_SWITCHES

    def __init__(
        self,
        bundle: Path,
        adapters: Sequence[AdapterEntry],
        open_store: Callable[[], AdapterStore],
        admit: Callable[[str], object],
    ) -> None:
        self._bundle, self._open_store, self._admit = bundle, open_store, admit
        self._files = {entry.name: entry.file for entry in adapters}
        if self._files:
            self._files[NULL_ADAPTER] = NULL_ADAPTER_FILE
        self._store: AdapterStore | None = None
        self._loaded: set[str] = set()

    def graph(self, adapters: Iterable[str]) -> str:
        """See `Switching`."""
        _require(adapters, self._files, self._bundle)
        return GRAPH

    def attach(self, generator: LiveGenerator, graph: str) -> Activate:
        """See `Switching`."""

        def activate(adapter: str) -> None:
            if self._files:
                generator.set_active_adapter(self._with(adapter), adapter)

        return activate

    def _with(self, adapter: str) -> AdapterStore:
        if self._store is None:
            self._store = self._open_store()
        if adapter not in self._loaded:
            file = str(self._files[adapter])
            self._admit(file)
            self._store.load(str(self._bundle / file), adapter)
            self._loaded.add(adapter)
        return self._store


class StackedSwitching:
    """All matrices are in the graph; a bound number says which row of them computes."""

    max_switches = sys.maxsize

    def __init__(self, bundle: Path, adapters: Sequence[AdapterEntry]) -> None:
        self._bundle = bundle
        self._rows = {entry.name: entry.index or 0 for entry in adapters}

    def graph(self, adapters: Iterable[str]) -> str:
        """See `Switching`."""
        _require(adapters, self._rows, self._bundle)
        return GRAPH

    def attach(self, generator: LiveGenerator, graph: str) -> Activate:
        """See `Switching`."""
        if not self._rows:
            return _base_only
        return _bound(generator, ADAPTER_ID, np.zeros(1, np.int64), {**self._rows, NULL_ADAPTER: 0})


class MergedSwitching:
    """Each adapter has a graph of its own. What a graph computed stays in that graph's cache."""

    max_switches = sys.maxsize

    def __init__(
        self, bundle: Path, adapters: Sequence[AdapterEntry], graph_type: np.dtype[Any]
    ) -> None:
        self._bundle, self._type = bundle, graph_type
        self._graphs = {entry.name: str(entry.file) for entry in adapters}

    def graph(self, adapters: Iterable[str]) -> str:
        """See `Switching`.

        Raises:
            EngineError: two adapters in one request; they live in different graphs.
        """
        wanted = sorted(set(adapters) - {NULL_ADAPTER})
        _require(wanted, self._graphs, self._bundle)
        if len(wanted) > 1:
            msg = f"adapters {', '.join(wanted)} cannot share a request: the bundle is merged"
            raise EngineError(msg)
        return self._graphs[wanted[0]] if wanted else GRAPH

    def attach(self, generator: LiveGenerator, graph: str) -> Activate:
        """See `Switching`."""
        if graph == GRAPH:
            return _base_only
        gates = {name: int(file == graph) for name, file in self._graphs.items()}
        return _bound(generator, ADAPTER_GATE, np.zeros(1, self._type), {**gates, NULL_ADAPTER: 0})


def _bound(
    generator: LiveGenerator, graph_input: str, array: npt.NDArray[Any], values: dict[str, int]
) -> Activate:
    """Bind the array once; GenAI reads it at every step, so writing into it switches live."""
    generator.set_model_input(graph_input, array)

    def activate(adapter: str) -> None:
        array[0] = values[adapter]

    return activate


def _base_only(adapter: str) -> None:
    """Activate nothing: the graph computes the base and has no other adapter."""


def _require(adapters: Iterable[str], known: Iterable[str], bundle: Path) -> None:
    names = set(known) - {NULL_ADAPTER}
    for adapter in sorted(set(adapters) - names - {NULL_ADAPTER}):
        raise AdapterNotFound(adapter, available=sorted(names), bundle=bundle.name)
