"""llama.cpp's side of the comparisons: one job as JSON on stdin, its result as JSON on stdout.

Runs in an environment of its own that has llama-cpp-python (`llamacpp_parts.python`), so it imports
nothing of this repository. It calls llama.cpp's C functions directly: the Python class around them
would cost llama.cpp time that is not its own.
"""

import ctypes
import json
import os
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import llama_cpp
import numpy as np
from llama_cpp.llama_grammar import json_schema_to_gbnf

_BATCH = 2048  # tokens that llama.cpp takes at once; more end the process


class Model:
    """A GGUF model with one sequence and, where given, one LoRA that is always active."""

    def __init__(self, path: str, *, threads: int, context: int, lora: str = "") -> None:
        settings = llama_cpp.llama_model_default_params()
        self.model = llama_cpp.llama_model_load_from_file(path.encode(), settings)
        options = llama_cpp.llama_context_default_params()
        options.n_ctx, options.n_batch, options.n_ubatch = context, _BATCH, 512
        options.n_threads = options.n_threads_batch = threads
        self.context = llama_cpp.llama_init_from_model(self.model, options)
        if not self.model or not self.context:
            sys.exit(f"llama.cpp cannot load {path}")
        self.vocabulary = llama_cpp.llama_model_get_vocab(self.model)
        self.size = llama_cpp.llama_vocab_n_tokens(self.vocabulary)
        self.memory = llama_cpp.llama_get_memory(self.context)
        if lora:
            adapter = llama_cpp.llama_adapter_lora_init(self.model, lora.encode())
            adapters = (llama_cpp.llama_adapter_lora_p_ctypes * 1)(adapter)
            scales = (ctypes.c_float * 1)(1.0)
            failed = llama_cpp.llama_set_adapters_lora(self.context, adapters, 1, scales)
            if not adapter or failed:
                sys.exit(f"llama.cpp cannot load {lora}")

    def feed(self, tokens: list[int]) -> None:
        """Compute tokens; the logits are those after the last one."""
        for start in range(0, len(tokens), _BATCH):
            some = tokens[start : start + _BATCH]
            array = (llama_cpp.llama_token * len(some))(*some)
            batch = llama_cpp.llama_batch_get_one(array, len(some))
            if llama_cpp.llama_decode(self.context, batch):
                sys.exit("llama_decode failed: the context is full, or memory")

    def keep(self, length: int) -> None:
        """Forget all but the first `length` tokens."""
        llama_cpp.llama_memory_seq_rm(self.memory, 0, length, -1)

    def logits(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Return the logits in place. Shape (vocabulary,)."""
        row = llama_cpp.llama_get_logits_ith(self.context, -1)
        return np.ctypeslib.as_array(row, shape=(self.size,))

    def encode(self, text: str) -> list[int]:
        """Tokenize, control tokens read as such."""
        data = text.encode()
        out = (llama_cpp.llama_token * (len(data) + 8))()
        count = llama_cpp.llama_tokenize(
            self.vocabulary, data, len(data), out, len(out), False, True
        )
        return list(out[:count])

    def text(self, tokens: list[int]) -> str:
        """Turn tokens into text."""
        out = b""
        piece = ctypes.create_string_buffer(256)
        for token in tokens:
            size = llama_cpp.llama_token_to_piece(
                self.vocabulary, token, piece, len(piece), 0, True
            )
            out += piece.raw[:size]
        return out.decode(errors="replace")


class Grammar:
    """A grammar that masks greedy choices as llama.cpp's own programs do.

    The most probable token is tried first; only where it does not fit, all are masked.
    """

    def __init__(self, model: Model, schema: str) -> None:
        self._size = model.size
        text = json_schema_to_gbnf(schema).encode()
        self._compiled = llama_cpp.llama_sampler_init_grammar(model.vocabulary, text, b"root")
        if not self._compiled:
            sys.exit("llama.cpp cannot parse the grammar")
        self._all = (llama_cpp.llama_token_data * model.size)()
        kind = [("id", np.int32), ("logit", np.float32), ("p", np.float32)]
        self._view = np.frombuffer(self._all, dtype=kind)

    def start(self) -> None:
        """Begin a new text."""
        self._live = llama_cpp.llama_sampler_clone(self._compiled)

    def end(self) -> None:
        """Free what the text needed."""
        llama_cpp.llama_sampler_free(self._live)

    def choose(self, logits: np.ndarray[Any, np.dtype[np.float32]]) -> int:
        """Return the most probable token that fits, and accept it."""
        best = int(logits.argmax())
        one = (llama_cpp.llama_token_data * 1)((best, float(logits[best]), 0.0))
        if not np.isfinite(self._masked(one, 1)[0].logit):
            self._view["id"], self._view["logit"] = np.arange(self._size), logits
            self._masked(self._all, self._size)
            best = int(self._view["id"][self._view["logit"].argmax()])
        llama_cpp.llama_sampler_accept(self._live, best)
        return best

    def _masked(self, data: Any, size: int) -> Any:
        array = llama_cpp.llama_token_data_array(data, size, -1, False)
        llama_cpp.llama_sampler_apply(self._live, ctypes.byref(array))
        return data


def speed(job: dict[str, Any]) -> dict[str, float]:
    """Return tokens a second: medians of prefill and decode."""
    prefill, decode = job["prefill"], job["decode"]
    model = Model(
        job["model"], threads=job["threads"], context=prefill + decode + 8, lora=job["lora"]
    )
    rates: dict[str, list[float]] = {"prefill": [], "decode": []}
    for _ in range(job["repeats"]):
        model.keep(0)
        started = time.perf_counter()
        model.feed(prefill_tokens(prefill))
        model.logits()
        rates["prefill"].append(prefill / (time.perf_counter() - started))
        started = time.perf_counter()
        for token in range(decode):
            model.feed([200 + token])
            model.logits()
        rates["decode"].append(decode / (time.perf_counter() - started))
    return {key: median(values) for key, values in rates.items()}


def prefill_tokens(count: int) -> list[int]:
    """Return the tokens that both sides compute."""
    return [100 + i % 900 for i in range(count)]


def best_tokens(job: dict[str, Any]) -> dict[str, list[int]]:
    """Return the most probable token after the prompt and after each fed token but the last."""
    model = Model(job["model"], threads=job["threads"], context=2048, lora=job["lora"])
    model.feed(job["prompt"])
    found = [int(model.logits().argmax())]
    for token in job["fed"][:-1]:
        model.feed([token])
        found.append(int(model.logits().argmax()))
    return {"best": found}


def calls(job: dict[str, Any]) -> dict[str, Any]:
    """Make one grammar-constrained call for each request: cold, then warm."""
    model = Model(job["model"], threads=job["threads"], context=job["context"], lora="")
    grammar = Grammar(model, json.dumps(job["schema"]))
    static = model.encode(job["static"])
    done: list[dict[str, Any]] = []
    for index, request in enumerate(job["requests"]):
        cold = index < job["cold"]
        model.keep(0 if cold else len(static))
        started = time.perf_counter()
        suffix = model.encode(request)
        model.feed(static + suffix if cold else suffix)
        prefilled = time.perf_counter()
        tokens = _decode(model, grammar, job["limit"])
        ended = time.perf_counter()
        done.append(
            {
                "cold": cold,
                "ms": (ended - started) * 1e3,
                "prefill_ms": (prefilled - started) * 1e3,
                "decoded_tokens": len(tokens),
                "text": model.text(tokens),
            }
        )
    return {"static_tokens": len(static), "calls": done}


def _decode(model: Model, grammar: Grammar, limit: int) -> list[int]:
    grammar.start()
    tokens: list[int] = []
    while len(tokens) < limit:
        token = grammar.choose(model.logits())
        if llama_cpp.llama_vocab_is_eog(model.vocabulary, token):
            break
        tokens.append(token)
        model.feed([token])
    grammar.end()
    return tokens


def quantize(job: dict[str, Any]) -> dict[str, int]:
    """Quantize a GGUF file once more."""
    options = llama_cpp.llama_model_quantize_default_params()
    options.ftype, options.allow_requantize = job["ftype"], True
    failed = llama_cpp.llama_model_quantize(
        job["source"].encode(), job["out"].encode(), ctypes.byref(options)
    )
    if failed:
        sys.exit("llama_model_quantize failed")
    return {"bytes": Path(job["out"]).stat().st_size}


@contextmanager
def _own_stdout():
    """Keep stdout for the result: native code writes to the descriptor."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    yield out
    out.flush()


def main() -> None:
    """Do the job."""
    jobs = {"speed": speed, "best_tokens": best_tokens, "calls": calls, "quantize": quantize}
    job = json.load(sys.stdin)
    with _own_stdout() as out:
        llama_cpp.llama_backend_init()
        json.dump(jobs[job.pop("do")](job), out)


if __name__ == "__main__":
    main()
