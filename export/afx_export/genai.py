"""The one door to onnxruntime_genai: logits of a finished bundle, adapter by adapter."""

import json
import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from afx_export.adapters import FloatArray
from afx_export.certificate import Answer
from agentflux.contracts.bundle import NULL_ADAPTER
from agentflux.errors import EngineError, MissingExtra

# Before the import: telemetry would write into the user's cache as the library loads.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
try:
    import onnxruntime_genai as og
except ImportError as _error:
    raise MissingExtra("onnxruntime_genai", extra="export") from _error


class Runtime:
    """A bundle's graph, opened as a device opens it. Keeps the prefix KV between runs."""

    def __init__(self, folder: Path, adapters: Mapping[str, Path]) -> None:
        """Open the graph in `folder` with adapter files by name.

        Raises:
            EngineError: the native runtime refuses the graph or an adapter.
        """
        try:
            config = og.Config(str(folder))
            config.overlay(json.dumps(_session(threads=os.cpu_count() or 1)))
            self._model: Any = og.Model(config)
            self._tokenizer: Any = og.Tokenizer(self._model)
            self._adapters: Any = og.Adapters(self._model)
            for name, path in adapters.items():
                self._adapters.load(str(path), name)
        except (RuntimeError, ValueError) as error:
            msg = f"{folder}: the runtime cannot open the graph"
            raise EngineError(msg, native=str(error)) from error
        self._has_adapters = bool(adapters)
        self._generator: Any = None
        self._prefix: tuple[int, ...] = ()

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
        with self._faults(adapter):
            self._rewind(tuple(base))
            self._activate(adapter or NULL_ADAPTER)
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
        with self._faults(adapter):
            self._rewind(tuple(base))
            self._activate(adapter or NULL_ADAPTER)
            rows = [self._append(adapted)]
            rows += [self._append([token]) for token in fed[:-1]]
        return np.stack(rows)

    @contextmanager
    def _faults(self, adapter: str | None) -> Generator[None]:
        try:
            yield
        except (RuntimeError, ValueError) as error:
            msg = f"the runtime failed while computing adapter {adapter or NULL_ADAPTER!r}"
            raise EngineError(msg, native=str(error)) from error

    def _rewind(self, base: tuple[int, ...]) -> None:
        if self._generator is not None and base and self._prefix == base:
            self._generator.rewind_to(len(base))
            return
        params = og.GeneratorParams(self._model)
        params.set_search_options(max_length=len(base) + 1024, do_sample=False)
        self._generator, self._prefix = og.Generator(self._model, params), base
        self._activate(NULL_ADAPTER)
        if base:
            self._generator.append_tokens(list(base))

    def _activate(self, name: str) -> None:
        if self._has_adapters:
            self._generator.set_active_adapter(self._adapters, name)

    def _append(self, tokens: Sequence[int]) -> FloatArray:
        self._generator.append_tokens(list(tokens))
        row: FloatArray = np.array(self._generator.get_logits(), dtype=np.float32)[0, -1]
        return row


def _session(*, threads: int) -> dict[str, Any]:
    # No spinning: the certificate shares its cores with torch and with other work.
    options = {"intra_op_num_threads": threads, "session.intra_op.allow_spinning": "0"}
    return {"model": {"decoder": {"session_options": options}}}
