"""Random interleavings: what the cache held before never changes a result.

AGENTFLUX_LONG=1 makes 6,000 steps instead of 600 on a tiny model, and 400 on the real one.
"""

import os
import random
import threading
from pathlib import Path

import numpy as np
import pytest

from agentflux import CancelToken
from agentflux.contracts.bundle import Manifest, read_manifest
from agentflux.engines.ort import OrtEngine
from agentflux.errors import Cancelled
from agentflux.ports import Choosing, Generation, Segment

from .conftest import Exported

LONG = bool(os.environ.get("AGENTFLUX_LONG"))
STEPS = 6000 if LONG else 600
REAL_STEPS = 400
NAMES = ("read", "rename", "list", "none")


def small(manifest: Manifest, lines: int) -> Manifest:
    """The same bundle with room for so many KV caches only, so that they push each other out."""
    room = lines * 1024 * manifest.base_model.kv_bytes_per_token
    runtime = manifest.runtime.model_copy(update={"kv_budget_bytes": room})
    return manifest.model_copy(update={"runtime": runtime})


def segments(rng: random.Random, adapters: list[str | None]) -> list[Segment]:
    """A prompt: a shared beginning, a conversation, and a tail under one adapter."""
    adapter = rng.choice(adapters)
    static = f"<|im_start|>system\n{rng.choice(['files', 'clock', 'mail', 'git'])}<|im_end|>\n"
    said = f"<|im_start|>user\n{rng.choice('abc') * rng.randint(1, 9)}<|im_end|>\n"
    early = adapter if rng.random() < 0.5 else None
    return [
        Segment(text=static, keep=True),
        Segment(text=said, adapter=early),
        Segment(text="<|im_start|>assistant\nTool:\n", adapter=adapter),
    ]


def disturb(engine: OrtEngine, rng: random.Random, prompt: list[Segment]) -> None:
    """Leave something behind: a decoding that ran, or one that was cancelled amid a token."""
    cancel = CancelToken()
    count = rng.randint(1, 12)

    def stop(text: str) -> None:
        if rng.random() < 0.3:
            cancel.cancel()

    request = Generation(segments=prompt, max_tokens=count, temperature=1.0, seed=rng.randint(0, 9))
    try:
        engine.generate(request, on_text=stop, cancel=cancel)
    except Cancelled:
        pass


def test_random_interleavings_equal_an_uncached_run(exported: Exported) -> None:
    manifest = read_manifest(exported.bundle)
    cached = OrtEngine(exported.bundle, small(manifest, 3), threads=1)
    fresh = OrtEngine(exported.bundle, manifest, threads=1)
    adapters = [None, *(adapter.name for adapter in manifest.adapters)]
    rng, worst, reused = random.Random(11), 0.0, 0
    for _ in range(STEPS):
        prompt = segments(rng, adapters)
        if rng.random() < 0.5:
            disturb(cached, rng, prompt if rng.random() < 0.5 else segments(rng, adapters))
        choice = Choosing(segments=prompt, candidates=NAMES)
        scores = cached.choose(choice)
        fresh.pool.clear()
        wanted = fresh.choose(choice)
        reused += scores.usage.reused_tokens
        assert abs(scores.probability - wanted.probability) < 0.05
        assert scores.best == wanted.best or wanted.margin < 0.1
        found, expected = cached.logits(prompt), fresh.logits(prompt)
        worst = max(worst, float(np.abs(found - expected).max() / np.ptp(expected)))
    assert worst < 0.05, f"largest difference of a logit: {worst:.3g} of the logits' spread"
    assert reused > 0
    assert cached.pool.lines <= 3


@pytest.mark.model
@pytest.mark.skipif(not LONG, reason="AGENTFLUX_LONG=1 asks for it")
def test_random_interleavings_equal_an_uncached_run_on_the_real_model(desk_bundle: Path) -> None:
    """Int4 and int8 kernels round whole batches, so under an adapter logits move a little."""
    manifest = read_manifest(desk_bundle)
    cached, fresh = OrtEngine(desk_bundle, small(manifest, 3)), OrtEngine(desk_bundle, manifest)
    adapters = [None, *(adapter.name for adapter in manifest.adapters)]
    rng, other, reused = random.Random(12), 0, 0
    for _ in range(REAL_STEPS):
        prompt = segments(rng, adapters)
        if rng.random() < 0.5:
            disturb(cached, rng, prompt if rng.random() < 0.5 else segments(rng, adapters))
        choice = Choosing(segments=prompt, candidates=NAMES)
        scores = cached.choose(choice)
        fresh.pool.clear()
        wanted = fresh.choose(choice)
        reused += scores.usage.reused_tokens
        other += scores.best != wanted.best
        assert scores.best == wanted.best or wanted.margin < 0.2
        found, expected = cached.logits(prompt), fresh.logits(prompt)
        assert float(np.abs(found - expected).max() / np.ptp(expected)) < 0.1
        if all(segment.adapter is None for segment in prompt):
            assert np.array_equal(found, expected)
    assert other <= REAL_STEPS // 50
    assert reused > 0
    assert cached.pool.lines <= 3


def test_sixteen_conversations_at_once_are_all_right(exported: Exported) -> None:
    manifest = read_manifest(exported.bundle)
    engine = OrtEngine(exported.bundle, small(manifest, 4), threads=1)
    adapters = [None, *(adapter.name for adapter in manifest.adapters)]
    prompts = [segments(random.Random(n), adapters) for n in range(16)]
    alone = [engine.choose(Choosing(segments=p, candidates=NAMES)) for p in prompts]
    wrong: list[int] = []

    def converse(number: int) -> None:
        for _ in range(5):
            scores = engine.choose(Choosing(segments=prompts[number], candidates=NAMES))
            if abs(scores.probability - alone[number].probability) > 0.05:
                wrong.append(number)

    threads = [threading.Thread(target=converse, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []
