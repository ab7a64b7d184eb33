"""Run the certificate: open the graphs, ask transformers + PEFT, compare."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from afx_export.adapter_modes import locate
from afx_export.adapters import Adapter, FloatArray
from afx_export.certificate import (
    TIE,
    Encode,
    Parity,
    Question,
    compare,
    decode,
    require_equal,
    score,
    tokenizer_of,
    versions,
)
from afx_export.console import say, warn
from afx_export.errors import CertificateFailed
from afx_export.files import link_or_copy
from afx_export.sources import Model
from afx_export.stage_prompts import TRICKY_TEXTS, stage_pieces
from afx_profiles import load_profile
from agentflux.contracts.bundle import AdapterEntry, Certificate, RuntimeSettings
from agentflux.contracts.prompts import ChatFormat

if TYPE_CHECKING:
    from afx_export.genai import Runtime


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What a certificate is about: a base model and its adapters, already read and placed."""

    model: Model
    weights: str
    shapes: Mapping[str, tuple[int, int]]
    chat: ChatFormat
    end_token_ids: tuple[int, ...]
    adapters: tuple[Adapter, ...]
    entries: tuple[AdapterEntry, ...]


def certify(subject: Subject, bundle: Path, settings: RuntimeSettings) -> Certificate:
    """Compare the fp32 graph and the finished graph in `bundle` with transformers + PEFT.

    Both have the bundle's adapter mode.

    Raises:
        CertificateFailed: fp32 greedy tokens differ, or the native tokenizer does on a prompt.
    """
    encode = tokenizer_of(subject.model.folder)
    questions = _decode_fp32(subject, settings, encode)
    wanted = _reference(subject, questions)
    fp32 = compare(questions, [q.answer.logits for q in questions], wanted)
    if fp32.ties:
        warn(f"{fp32.ties} compared tokens differ at a tie (logits closer than {TIE})")
    require_equal(fp32)
    provider, precision = settings.provider, settings.precision
    if provider != "cpu":
        warn(f"the {provider} graph itself was not run: this machine certifies its edit in fp32")
        return _certificate(fp32, None, provider=provider, tokenizer=(0, 0))
    say(f"comparing the {precision} graph")
    runtime = _open(bundle, settings, subject.entries)
    own = compare(questions, score(runtime, questions), wanted)
    if precision == "fp32":
        require_equal(own)
    tokenizer = check_tokenizer(runtime.encode, encode, subject.chat)
    return _certificate(fp32, own, provider=provider, tokenizer=tokenizer)


def _decode_fp32(
    subject: Subject, settings: RuntimeSettings, encode: Encode
) -> tuple[Question, ...]:
    """Make the fp32 twin of the bundle in a temporary folder and let it decode the prompts."""
    from afx_export.base_graph import base_graph
    from afx_export.bundle import write_graph

    base = base_graph(subject.model, subject.weights, load_profile("cpu-fp32"))
    twin = settings.model_copy(update={"graph_type": "float32"})
    say(f"decoding with the fp32 graph ({settings.adapter_mode} adapters)")
    # Beside the cached graph, where its weights can be hard-linked instead of copied.
    with tempfile.TemporaryDirectory(prefix=".certify-", dir=base.parent) as temporary:
        folder = Path(temporary)
        write_graph(
            base,
            folder,
            subject.shapes,
            subject.adapters,
            mode=settings.adapter_mode,
            place_file=link_or_copy,
        )
        entries = locate(subject.entries, settings.adapter_mode)
        runtime = _open(folder, twin, entries)
        questions = decode(runtime, subject.chat, entries, encode)
        # Windows cannot remove files that a session maps.
        del runtime
    return questions


def _reference(subject: Subject, questions: Sequence[Question]) -> tuple[FloatArray, ...]:
    from afx_export.reference import Reference

    say(f"comparing with transformers + PEFT (base and {len(subject.adapters)} adapters)")
    folders = {adapter.name: adapter.folder for adapter in subject.adapters}
    return score(Reference(subject.model.folder, folders), questions)


def _open(folder: Path, settings: RuntimeSettings, entries: Sequence[AdapterEntry]) -> "Runtime":
    from afx_export.genai import Runtime

    return Runtime(folder, settings, entries)


def check_tokenizer(native: Encode, encode: Encode, chat: ChatFormat) -> tuple[int, int]:
    """Compare the device's tokenizer with tokenizer.json; return texts compared and different.

    Raises:
        CertificateFailed: a piece of a stage prompt comes out differently.
    """
    pieces, texts = stage_pieces(chat), TRICKY_TEXTS
    if wrong := [text for text in pieces if native(text) != encode(text)]:
        msg = f"the native tokenizer splits a stage prompt differently: {wrong[0]!r}"
        raise CertificateFailed(msg)
    different = [text for text in texts if native(text) != encode(text)]
    for text in different:
        warn(f"the native tokenizer splits {text!r} differently")
    return len(pieces) + len(texts), len(different)


def _certificate(
    fp32: Parity, own: Parity | None, *, provider: str, tokenizer: tuple[int, int]
) -> Certificate:
    return Certificate(
        versions=versions(),
        provider=provider,
        fp32=fp32.rows,
        bundle=own.rows if own else (),
        tokenizer_prompts=tokenizer[0],
        tokenizer_mismatches=tokenizer[1],
    )
