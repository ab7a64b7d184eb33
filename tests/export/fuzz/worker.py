# ruff: noqa: BLE001, TID253 - whatever gets through is the finding; loads models itself
"""Judges damaged bundles and adapter folders: one JSON line in, one out. See pool.py.

Usage: python worker.py bundle|adapter REFERENCE, where REFERENCE is a whole bundle, or the base
model of the adapters. Everything that is written to the standard streams is native text.
"""

import copy
import hashlib
import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agentflux.errors import AgentFluxError

PROMPT = "<|im_start|>user\nWhich files are new?<|im_end|>\n<|im_start|>assistant\nTool:\n"


def judge_bundle(_reference: Path) -> Callable[[Path], dict[str, str]]:
    """Open the bundle and compute logits under every adapter; also decode under a grammar."""
    from agentflux.contracts.bundle import read_manifest
    from agentflux.contracts.grammar import arguments_grammar
    from agentflux.contracts.tools import ToolSpec
    from agentflux.ports import Choosing, Generation, Segment
    from agentflux.session import open_engine

    schema = {"type": "object", "properties": {"a": {"type": "boolean"}}}
    grammar = arguments_grammar(ToolSpec(tool_set="t", name="t", input_schema=schema))

    def judge(folder: Path) -> dict[str, str]:
        manifest = read_manifest(folder)
        engine: Any = open_engine(folder, manifest, threads=1)
        try:
            digests = {}
            for name in (None, *(entry.name for entry in manifest.adapters)):
                segments = (Segment(text=PROMPT, adapter=name),)
                row = engine.logits(segments)
                digests[name or "base"] = hashlib.sha256(row.tobytes()).hexdigest()
                engine.choose(Choosing(segments=segments, candidates=("files", "git", "none")))
                engine.generate(Generation(segments=segments, max_tokens=6, grammar=grammar))
            return digests
        finally:
            engine.close()

    return judge


def judge_adapter(reference: Path) -> Callable[[Path], dict[str, str]]:
    """Read the adapter as export does, and compare every matrix product with PEFT's own."""
    import torch
    from transformers import AutoModelForCausalLM

    from afx_export.activation import activation_boundary
    from afx_export.adapters import find_adapters, read_adapter
    from afx_export.certificate import tokenizer_of
    from afx_export.hf import linear_shapes
    from afx_export.placement import place_adapters
    from afx_export.quiet import quiet
    from afx_export.reference import with_adapters
    from agentflux.contracts.cache import weights_sha256
    from agentflux.contracts.prompts import ChatFormat

    shapes, weights = linear_shapes(reference), weights_sha256(reference)
    encode = tokenizer_of(reference)
    with quiet():
        base = AutoModelForCausalLM.from_pretrained(reference, dtype=torch.float32)

    def judge(folder: Path) -> dict[str, str]:
        (placed,) = place_adapters(find_adapters((folder,)), {}, weights=weights)
        adapter = read_adapter(placed.folder, placed.name, shapes)
        activation_boundary(placed, adapter, ChatFormat(), encode)
        with quiet():
            labels, model = with_adapters(copy.deepcopy(base), {placed.name: folder})
        theirs = {
            name.removeprefix("base_model.model."): module.get_delta_weight(labels[placed.name])
            for name, module in model.named_modules()
            if hasattr(module, "get_delta_weight")
        }
        if set(theirs) != set(adapter.pairs):
            return {"other modules": "than PEFT adapts"}
        for name, pair in adapter.pairs.items():
            ours = torch.from_numpy(pair.b @ pair.a)
            if not torch.allclose(
                ours, theirs[name], rtol=1e-3, atol=1e-5 * float(ours.abs().max())
            ):
                return {name: "differs from PEFT"}
        return {}

    return judge


def main() -> None:
    """Answer until the input ends."""
    # The protocol keeps a copy of stdout; what libraries print goes where stderr goes.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    kind, reference = sys.argv[1], Path(sys.argv[2])
    judge = {"bundle": judge_bundle, "adapter": judge_adapter}[kind](reference)
    print(json.dumps({"outcome": "ready"}), file=out, flush=True)
    for line in sys.stdin:
        folder = Path(json.loads(line))
        try:
            answer: dict[str, Any] = {"outcome": "opened", "digests": judge(folder)}
        except AgentFluxError as error:
            answer = {"outcome": "refused", "error": type(error).__name__, "message": str(error)}
        except BaseException:
            answer = {"outcome": "broken", "message": traceback.format_exc()}
        print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":
    main()
