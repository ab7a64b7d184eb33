"""Export's door to onnxruntime_genai: logits of a finished bundle, adapter by adapter."""

import json
import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from afx_export.adapters import FloatArray
from afx_export.certificate import Answer
from agentflux.contracts.bundle import NULL_ADAPTER, AdapterEntry, RuntimeSettings
from agentflux.contracts.switching import GRAPH, Activate, switching
from agentflux.errors import EngineError, MissingExtra

# Before the import: telemetry would write into the user's cache as the library loads.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
try:
    import onnxruntime_genai as og
except ImportError as _error:
    raise MissingExtra("onnxruntime_genai", extra="cpu,export") from _error


class Runtime:
    """A bundle's graph, opened as a device opens it. Keeps the prefix KV between runs."""

    def __init__(
        self, folder: Path, settings: RuntimeSettings, adapters: Sequence[AdapterEntry]
    ) -> None:
        """Open the graph in `folder` with these adapters, in the settings' adapter mode.

        Raises:
            EngineError: the native runtime refuses the graph.
        """
        self._folder = folder
        self._models: dict[str, og.Model] = {}
        self._switching = switching(
            folder, settings, adapters, open_store=lambda: og.Adapters(self._model(GRAPH))
        )
        with self._faults("opening the graph"):
            self._tokenizer: Any = og.Tokenizer(self._model(GRAPH))
        self._generator: Any = None
        self._activate: Activate
        self._held: tuple[str, tuple[int, ...]] = ("", ())

    def encode(self, text: str) -> list[int]:
        """Tokenize as the device's native tokenizer does."""
        return [int(token) for token in self._tokenizer.encode(text)]

    def greedy(
        self, adapter: str | None, base: Sequence[int], adapted: Sequence[int], count: int
    ) -> Answer:
        """Decode `count` tokens; what follows an end token is decoded too.

        base is computed under the null adapter and its KV is reused by the next call with the
        same base; adapted and the decoded tokens are computed under `adapter`.
        """
        rows: list[FloatArray] = []
        tokens: list[int] = []
        step = list(adapted)
        name = adapter or NULL_ADAPTER
        with self._faults(f"computing adapter {name!r}"):
            self._rewind(tuple(base), name)
            self._activate(name)
            while len(tokens) < count:
                rows.append(self._append(step))
                step = [int(rows[-1].argmax())]
                tokens += step
        return Answer(tokens=tuple(tokens), logits=np.stack(rows))

    def logits(
        self, adapter: str | None, base: Sequence[int], adapted: Sequence[int], fed: Sequence[int]
    ) -> FloatArray:
        """Return the logits after the prompt and after each fed token but the last.

        Shape: (len(fed), vocabulary). Prefixes and adapters as in `greedy`.
        """
        name = adapter or NULL_ADAPTER
        with self._faults(f"computing adapter {name!r}"):
            self._rewind(tuple(base), name)
            self._activate(name)
            rows = [self._append(adapted)]
            rows += [self._append([token]) for token in fed[:-1]]
        return np.stack(rows)

    @contextmanager
    def _faults(self, what: str) -> Generator[None]:
        try:
            yield
        except (RuntimeError, ValueError) as error:
            msg = f"{self._folder}: the runtime failed while {what}"
            raise EngineError(msg, native=str(error)) from error

    def _model(self, graph: str) -> og.Model:
        if graph not in self._models:
            config = og.Config(str(self._folder))
            config.overlay(json.dumps(_decoder(graph, threads=os.cpu_count() or 1)))
            self._models[graph] = og.Model(config)
        return self._models[graph]

    def _rewind(self, base: tuple[int, ...], adapter: str) -> None:
        graph = self._switching.graph([adapter])
        if self._generator is not None and base and self._held == (graph, base):
            self._generator.rewind_to(len(base))
            return
        model = self._model(graph)
        params = og.GeneratorParams(model)
        params.set_search_options(max_length=len(base) + 1024, do_sample=False)
        self._generator, self._held = og.Generator(model, params), (graph, base)
        self._activate = self._switching.attach(self._generator, graph)
        self._activate(NULL_ADAPTER)
        if base:
            self._generator.append_tokens(list(base))

    def _append(self, tokens: Sequence[int]) -> FloatArray:
        self._generator.append_tokens(list(tokens))
        row: FloatArray = np.array(self._generator.get_logits(), dtype=np.float32)[0, -1]
        return row


def _decoder(graph: str, *, threads: int) -> dict[str, Any]:
    # No spinning: the certificate shares its cores with torch and with other work.
    options = {"intra_op_num_threads": threads, "session.intra_op.allow_spinning": "0"}
    return {"model": {"decoder": {"filename": graph, "session_options": options}}}
