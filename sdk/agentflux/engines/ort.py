"""ONNX Runtime GenAI: the only importer of onnxruntime_genai, and the only door for its faults."""

import json
import os
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import llguidance
import numpy as np
import numpy.typing as npt

from agentflux.contracts.bundle import NULL_ADAPTER, Manifest, check_file, check_files
from agentflux.contracts.consistency import check_consistent, own_threads
from agentflux.contracts.grammar import tokenizer as grammar_tokenizer
from agentflux.contracts.switching import GRAPH, WEIGHTS, Activate, Switching, switching
from agentflux.engines.candidates import Path as TokenPath
from agentflux.engines.candidates import Tree, best_candidate
from agentflux.engines.likeliest import likeliest, masked
from agentflux.engines.prefix import Line, Logits, Pair, Placed, PrefixPool
from agentflux.engines.stop_text import StopText
from agentflux.engines.turns import Turns
from agentflux.errors import Cancelled, EngineError, MissingExtra
from agentflux.ports import (
    CancelToken,
    Choosing,
    Completion,
    Generation,
    Scores,
    Segment,
    Usage,
    check_cancelled,
)

# Without this, onnxruntime-genai >= 0.15 writes a device id and two databases into the home folder.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
try:
    import onnxruntime_genai as og
except ImportError as error:
    raise MissingExtra("onnxruntime_genai", extra="cpu") from error

og.disable_telemetry_events()

OnText = Callable[[str], None]
# Providers are registered with the process, once.
_PLUGINS: set[str] = set()


class OrtEngine:
    """Serves one bundle. One request computes at a time; others wait for their turn."""

    def __init__(
        self,
        bundle: Path,
        manifest: Manifest,
        *,
        threads: int | None = None,
        spinning: bool | None = None,
    ) -> None:
        """Check the bundle's files, then load the model.

        An adapter's file is hashed and loaded when it is first used, so that opening does not grow
        with their bytes; a damaged one is a FileMismatch of the request that needs it. The weights
        are hashed while the runtime loads them.

        threads: of ONNX Runtime; None takes what the bundle says, else the machine's physical
        cores. spinning: whether idle threads spin while they wait; None takes what the bundle says.

        Raises:
            FileMismatch: a file is not the one that was exported.
            EngineError: the runtime cannot load the model.
        """
        check_files(manifest, bundle, later={*_adapter_files(manifest), WEIGHTS})
        check_consistent(manifest, bundle)
        self._bundle, self._manifest = bundle, manifest
        self.threads = threads or own_threads(bundle) or physical_cores()
        self._turns = Turns()
        self._end_tokens = frozenset(manifest.base_model.end_token_ids)
        self._spinning = spinning
        if manifest.runtime.plugin:
            _register_plugin(manifest.runtime.plugin, extra=manifest.runtime.extra)
        self._models: dict[str, Any] = {}
        self._switching = self._unloaded()
        with _weights_checked(manifest, bundle), _native("cannot load the model"):
            self._tokenizer: Any = og.Tokenizer(self._model(GRAPH))
        with _native("cannot read tokenizer.json"):
            self._tokenizer_json = (bundle / "tokenizer.json").read_text(encoding="utf-8")
        self.encode = lru_cache(maxsize=4096)(self._encode)
        self._compiled = lru_cache(maxsize=256)(self._compile)
        self.pool = PrefixPool(
            self._open_stream,
            context_tokens=manifest.runtime.context_tokens,
            bytes_per_token=manifest.base_model.kv_bytes_per_token,
            budget_bytes=manifest.runtime.kv_budget_bytes,
            max_lines=manifest.runtime.max_generators,
            max_switches=self._switching.max_switches,
        )

    def generate(
        self,
        request: Generation,
        *,
        on_text: OnText | None = None,
        cancel: CancelToken | None = None,
    ) -> Completion:
        """See `agentflux.ports.Engine`."""
        with self._turns.take(cancel):
            started = time.perf_counter()
            placed = self._place(request.segments, room=request.max_tokens)
            decoder = _Decoder(self, placed.line, request, on_text, cancel)
            with self._dropped_on_fault(lambda: decoder.line):
                finish = decoder.run()
            usage = _usage(placed, started, decoder.produced, decoder.forced)
            return Completion(
                text=decoder.text(),
                finish=finish,
                usage=usage,
                support=decoder.support,
                support_at=len(self.decode(decoder.tokens[: decoder.support_at])),
            )

    def choose(self, request: Choosing, *, cancel: CancelToken | None = None) -> Scores:
        """See `agentflux.ports.Engine`."""
        with self._turns.take(cancel):
            started = time.perf_counter()
            end = min(self._end_tokens)
            names = [self.encode(text) for text in request.candidates]
            tree = Tree([(*tokens, end) for tokens in names])
            listed = list(request.candidates)
            doubted, rival = (
                listed.index(name) if name in listed else None
                for name in (request.doubted, request.rival)
            )
            placed = self._place(request.segments, room=max(map(len, names)))
            line, length, decoded = placed.line, len(placed.line.pairs), 0

            def logits_at(path: TokenPath) -> Logits:
                nonlocal line, decoded
                check_cancelled(cancel)
                if path:
                    line = self.pool.branch(line, length, path)
                    decoded += len(path)
                return line.stream.logits()

            with self._dropped_on_fault(lambda: line):
                found = best_candidate(
                    tree, logits_at, doubted=doubted, rival=rival, every=request.every
                )
            return Scores(
                best=request.candidates[found.index],
                probability=found.probability,
                margin=found.margin,
                entropy=found.entropy,
                alternatives=tuple((request.candidates[i], p) for i, p in found.alternatives),
                usage=_usage(placed, started, decoded, 0),
            )

    def close(self) -> None:
        """See `agentflux.ports.Engine`."""
        with self._turns.take():
            self.pool.clear()
            self._models.clear()
            self._switching = self._unloaded()
            self._tokenizer = None

    def logits(self, segments: Sequence[Segment]) -> Logits:
        """Return the logits after the segments: what parity tests compare. Shape (vocab_size,)."""
        with self._turns.take():
            return self._place(segments, room=1).line.stream.logits().copy()

    def decode(self, tokens: Sequence[int]) -> str:
        """Turn tokens into text."""
        with _native("cannot decode tokens"):
            return str(self._tokenizer.decode(np.asarray(tokens, np.int32)))

    def stream_decoder(self) -> Any:
        """Return a decoder of single tokens that holds back incomplete characters."""
        return self._tokenizer.create_stream()

    def matcher(self, grammar: str, *, keep: bool) -> llguidance.LLMatcher:
        """Start matching a grammar over this bundle's tokens; one to keep is compiled once.

        Kept are tools' grammars (6 KiB each). One whose strings are spans of a request's own texts
        takes 340 KiB for 600 characters and is never asked for again (`tests/bench/grammars.py`).
        """
        return self._compiled(grammar).deep_copy() if keep else self._compile(grammar)

    def _compile(self, grammar: str) -> llguidance.LLMatcher:
        with _native("cannot read tokenizer.json"):
            tokens = grammar_tokenizer(
                self._tokenizer_json, self._manifest.base_model.vocab_size, min(self._end_tokens)
            )
        matcher = llguidance.LLMatcher(tokens, grammar)
        if matcher.is_error():
            raise EngineError("the grammar is not valid", native=matcher.get_error())
        return matcher

    @property
    def end_tokens(self) -> frozenset[int]:
        """Tokens that end a turn."""
        return self._end_tokens

    def _place(self, segments: Sequence[Segment], *, room: int) -> Placed:
        if self._tokenizer is None:
            raise EngineError("the engine is closed")
        pairs: list[Pair] = []
        kept = 0
        for segment in segments:
            adapter = segment.adapter or NULL_ADAPTER
            pairs.extend((token, adapter) for token in self.encode(segment.text))
            kept = len(pairs) if segment.keep else kept
        if not pairs:
            raise EngineError("the prompt is empty")
        graph = self._switching.graph({adapter for _, adapter in pairs})
        return self.pool.place(pairs, kept=kept, room=room, graph=graph)

    def _encode(self, text: str) -> tuple[int, ...]:
        with _native("cannot tokenize"):
            return tuple(int(t) for t in self._tokenizer.encode(text))

    def _unloaded(self) -> Switching:
        """Return how adapters are switched, with none of them loaded."""
        return switching(
            self._bundle,
            self._manifest.runtime,
            self._manifest.adapters,
            open_store=lambda: og.Adapters(self._model(GRAPH)),
            admit=self._admit,
        )

    def _admit(self, file: str) -> None:
        check_file(self._manifest, self._bundle, file)

    def _open_stream(self, capacity: int, graph: str) -> "_OrtStream":
        model = self._model(graph)
        with _native("cannot open a generator"):
            params = og.GeneratorParams(model)
            params.set_search_options(max_length=capacity, do_sample=False)
            generator = og.Generator(model, params)
            return _OrtStream(generator, self._switching.attach(generator, graph), capacity)

    def _model(self, graph: str) -> Any:
        """Open one of the bundle's graphs at its first use. Only merged bundles have several."""
        if graph not in self._models:
            if graph != GRAPH:
                self._admit(graph)
            # Fatal only: what fails is raised, and would be printed a second time.
            options: dict[str, object] = {
                "intra_op_num_threads": self.threads,
                "log_severity_level": 4,
            }
            if self._spinning is not None:
                options["session.intra_op.allow_spinning"] = "1" if self._spinning else "0"
            overlay = {"model": {"decoder": {"filename": graph, "session_options": options}}}
            with _native(f"cannot load {graph}"):
                config = og.Config(str(self._bundle))
                config.overlay(json.dumps(overlay))
                self._models[graph] = og.Model(config)
        return self._models[graph]

    @contextmanager
    def _dropped_on_fault(self, line: Callable[[], Line]) -> Generator[None]:
        """Forget a line whose native state is unknown: after an error, or Ctrl-C amid a pass."""
        try:
            yield
        except Cancelled:
            raise
        except BaseException:
            self.pool.drop(line())
            raise


class _OrtStream:
    """A generator as a `Stream`."""

    def __init__(self, generator: Any, activate: Activate, capacity: int) -> None:
        self._generator, self._activate, self.capacity = generator, activate, capacity

    def append(self, tokens: Sequence[int]) -> None:
        with _native("the forward pass failed"):
            self._generator.append_tokens(np.asarray(tokens, np.int32))

    def rewind(self, length: int) -> None:
        with _native("the cache cannot be rewound"):
            self._generator.rewind_to(length)

    def activate(self, adapter: str) -> None:
        with _native(f"cannot activate adapter {adapter!r}"):
            self._activate(adapter)

    def logits(self) -> Logits:
        with _native("no logits"):
            out: Logits = np.asarray(self._generator.get_logits(), dtype=np.float32)
        last: Logits = out.reshape(-1, out.shape[-1])[-1]
        return last


class _Decoder:
    """Decodes one request: forced tokens in one pass, free tokens one by one."""

    def __init__(
        self,
        engine: OrtEngine,
        line: Line,
        request: Generation,
        on_text: OnText | None,
        cancel: CancelToken | None,
    ) -> None:
        self._engine, self.line, self._request = engine, line, request
        self._on_text, self._cancel = on_text, cancel
        self._matcher = None
        if request.grammar:
            self._matcher = engine.matcher(request.grammar, keep=request.keep_grammar)
        self._random = np.random.default_rng(request.seed % 2**64)  # it takes no negative one
        self._stream = engine.stream_decoder()
        self._stops = StopText(request.stop)
        self._text: list[str] = []
        self.tokens: list[int] = []
        self.produced = 0  # tokens, those of other rollouts among them
        self.forced = 0
        self.support, self.support_at = 1.0, 0

    def run(self) -> str:
        """Decode until the end and return how it finished."""
        finish = self._decode()
        self._pass_on(self._stops.push("", last=True))
        return finish

    def text(self) -> str:
        """Return all decoded text before a stop text."""
        if self._request.stop:
            return "".join(self._text)
        return self._engine.decode(self.tokens) if self.tokens else ""

    def _decode(self) -> str:
        request = self._request
        plain = request.temperature <= 0 and request.repetition_penalty == 1.0 and not request.stop
        if request.rollouts > 1 and self._matcher is not None and plain:
            return self._search(self._matcher)
        while len(self.tokens) < self._request.max_tokens:
            check_cancelled(self._cancel)
            step = self._forced() or self._free()
            if not step:
                return "stop"
            self._emit(step)
            self.produced += len(step)
            stopped = self._matcher is not None and self._matcher.is_stopped()
            if stopped or self._stops.found:
                return "stop"
            if len(self.tokens) < self._request.max_tokens:
                self.line.decode(step)
        return "length"

    def _search(self, matcher: llguidance.LLMatcher) -> str:
        found, self.produced = likeliest(
            _DecodedPart(self, len(self.line.pairs)),
            matcher,
            end_tokens=self._engine.end_tokens,
            max_tokens=self._request.max_tokens,
            rollouts=self._request.rollouts,
        )
        self.forced, self.support, self.support_at = found.forced, found.support, found.support_at
        self._emit(found.tokens)
        return found.finish

    def check_cancelled(self) -> None:
        """Raise Cancelled where the caller no longer waits."""
        check_cancelled(self._cancel)

    def restore(self, length: int, tokens: Sequence[int]) -> None:
        """Keep so many tokens of the line, then compute others."""
        self.line = self._engine.pool.branch(self.line, length, tokens)

    def _forced(self) -> list[int]:
        if self._matcher is None:
            return []
        room = self._request.max_tokens - len(self.tokens)
        forced = self._matcher.compute_ff_tokens()[:room]
        self._matcher.consume_tokens(forced)
        self.forced += len(forced)
        return [int(token) for token in forced]

    def _free(self) -> list[int]:
        logits = self.line.stream.logits()
        if self._request.repetition_penalty != 1.0 and self.tokens:
            logits = _penalized(logits, self.tokens, self._request.repetition_penalty)
        if self._matcher is not None:
            logits, left, _ = masked(logits, self._matcher)
            if left < self.support:
                self.support, self.support_at = left, len(self.tokens)
        token = self._pick(logits)
        if token in self._engine.end_tokens:
            return []
        if self._matcher is not None and not self._matcher.consume_token(token):
            raise EngineError("no token fits the grammar", native=self._matcher.get_error())
        return [token]

    def _pick(self, logits: Logits) -> int:
        if self._request.temperature <= 0:
            return int(logits.argmax())
        with np.errstate(over="ignore"):  # the coldest temperatures leave the likeliest alone
            scaled = (logits.astype(np.float64) - logits.max()) / self._request.temperature
        weights = np.exp(scaled)
        weights = _nucleus(weights / weights.sum(), self._request.top_p)
        return int(self._random.choice(len(weights), p=weights))

    def _emit(self, step: Sequence[int]) -> None:
        self.tokens.extend(step)
        if self._on_text is None and not self._request.stop:
            return
        for token in step:
            if piece := str(self._stream.decode(token)):
                self._pass_on(self._stops.push(piece))

    def _pass_on(self, piece: str) -> None:
        if piece:
            self._text.append(piece)
            if self._on_text is not None:
                self._on_text(piece)


class _DecodedPart:
    """What a decoder's line holds behind the prompt, as a `likeliest.Cache`."""

    def __init__(self, decoder: _Decoder, start: int) -> None:
        self._decoder, self._start = decoder, start

    def logits(self) -> Logits:
        return self._decoder.line.stream.logits()

    def append(self, tokens: Sequence[int]) -> None:
        self._decoder.check_cancelled()
        self._decoder.line.decode(tokens)

    def restore(self, length: int, tokens: Sequence[int]) -> None:
        self._decoder.check_cancelled()
        self._decoder.restore(self._start + length, tokens)


def _penalized(logits: Logits, tokens: Sequence[int], penalty: float) -> Logits:
    """Return a copy in which the tokens are less likely."""
    lowered, seen = logits.copy(), np.unique(tokens)
    values = lowered[seen]
    lowered[seen] = np.where(values > 0, values / penalty, values * penalty)
    return lowered


def _nucleus(weights: npt.NDArray[np.float64], top_p: float) -> npt.NDArray[np.float64]:
    """Keep the likeliest tokens that together hold `top_p`, and renormalize.

    Source: Holtzman et al. 2020 (arXiv:1904.09751), section 3.1.
    """
    if top_p >= 1.0:
        return weights
    order = np.argsort(-weights)
    count = int(np.searchsorted(np.cumsum(weights[order]), top_p)) + 1
    kept = np.zeros_like(weights)
    kept[order[:count]] = weights[order[:count]]
    shares: npt.NDArray[np.float64] = kept / kept.sum()
    return shares


@contextmanager
def _weights_checked(manifest: Manifest, bundle: Path) -> Generator[None]:
    """Hash the weights beside the body, which loads them and so must not trust them yet.

    The loader keeps Python's lock and hashing needs none, so they overlap. Weights of the right
    size can be wrong only in their values: the graph that says where they lie was checked before.

    Raises:
        FileMismatch: they are not those that were exported, whatever the body made of them.
    """
    if all(entry.path != WEIGHTS for entry in manifest.files):
        yield
        return
    begun = threading.Event()

    def check() -> None:
        begun.set()
        check_file(manifest, bundle, WEIGHTS)

    with ThreadPoolExecutor(1) as threads:
        checked = threads.submit(check)
        begun.wait()
        try:
            yield
        finally:
            checked.result()


def _adapter_files(manifest: Manifest) -> frozenset[str]:
    """Return the files that nothing reads before their adapter is used."""
    files = (str(adapter.file) for adapter in manifest.adapters)
    return frozenset(file for file in files if file.startswith(("adapters/", "adapter.")))


def physical_cores() -> int:
    """Return the physical cores this process may use; hyper-threads slow the kernels down."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    siblings = Path("/sys/devices/system/cpu/cpu0/topology/thread_siblings_list")
    try:
        threads = len(siblings.read_text(encoding="ascii").replace("-", ",").strip().split(","))
    except OSError:
        threads = 1
    return max(1, (allowed or 1) // threads)


def _register_plugin(module: str, *, extra: str) -> None:
    """Register a provider that comes as a wheel of its own, named by its Python module.

    Raises:
        MissingExtra: the wheel is not installed.
    """
    if module in _PLUGINS:
        return
    try:
        plugin = import_module(module)
    except ImportError as error:
        raise MissingExtra(module, extra=extra) from error
    with _native(f"cannot register {module}"):
        og.register_execution_provider_library(plugin.get_ep_name(), plugin.get_library_path())
    _PLUGINS.add(module)


def _usage(placed: Placed, started: float, decoded: int, forced: int) -> Usage:
    return Usage(
        prefill_tokens=placed.prefilled,
        reused_tokens=placed.reused,
        decoded_tokens=decoded,
        forced_tokens=forced,
        adapter_switches=placed.switches,
        ms=(time.perf_counter() - started) * 1e3,
    )


@contextmanager
def _native(what: str) -> Generator[None]:
    """Translate the runtime's exceptions. pybind11 raises these types for C++ errors."""
    try:
        yield
    except (RuntimeError, ValueError, TypeError, MemoryError, IndexError) as error:
        raise EngineError(what, native=str(error)) from error
