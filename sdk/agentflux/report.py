"""Runs and bundles as text for people: the stages as they happen, the manifest as a table."""

import json
from typing import TextIO

from agentflux.contracts.bundle import Manifest, ParityRow
from agentflux.orchestration.events import (
    AnswerText,
    CallFinished,
    CallStarted,
    Event,
    StageFinished,
)
from agentflux.orchestration.results import RunResult
from agentflux.ports import StageRecord

_SHOWN = 400


class StagePrinter:
    """Prints events as they come: stages and calls to `notes`, the answer to `stream`."""

    def __init__(self, notes: TextIO, *, stream: TextIO | None) -> None:
        self._notes, self._stream = notes, stream

    def __call__(self, event: Event) -> None:
        """Print one event."""
        if isinstance(event, StageFinished):
            self._note(stage_line(event.record))
        elif isinstance(event, CallStarted):
            arguments = json.dumps(event.call.arguments, ensure_ascii=False)
            self._note(f"  call       {event.call.tool_set}.{event.call.tool} {arguments}")
        elif isinstance(event, CallFinished):
            kind = "error" if event.step.is_error else "observed"
            self._note(f"  {kind:<10} {shortened(event.step.observation)}")
        elif isinstance(event, AnswerText) and self._stream is not None:
            self._stream.write(event.text)
            self._stream.flush()

    def summary(self, result: RunResult) -> None:
        """Print how the run ended and what it cost."""
        prefilled = sum(r.usage.prefill_tokens for r in result.trace)
        reused = sum(r.usage.reused_tokens for r in result.trace)
        ms = sum(r.usage.ms for r in result.trace)
        self._note(
            f"  {result.stopped}: {len(result.steps)} calls, {prefilled} tokens prefilled, "
            f"{reused} reused, {ms:.0f} ms of model time"
        )

    def _note(self, line: str) -> None:
        self._notes.write(line + "\n")
        self._notes.flush()


def stage_line(record: StageRecord) -> str:
    """Render a stage: its adapter, choice and probability, tokens and milliseconds."""
    choice = record.choice or ""
    sure = f"p={record.probability:.2f}" if record.probability is not None else ""
    usage = record.usage
    counts = (
        f"prefill {usage.prefill_tokens:>4}  reused {usage.reused_tokens:>5}  "
        f"decoded {usage.decoded_tokens:>3} ({usage.forced_tokens} forced)  {usage.ms:>6.0f} ms"
    )
    adapter = f"[{record.adapter or 'base'}]"
    return f"  {record.stage:<10} {adapter:<20} {choice:<26} {sure:<7} {counts}"


def shortened(text: str, limit: int = _SHOWN) -> str:
    """Return the text on one line, cut with a note of how much is missing."""
    line = " ⏎ ".join(part for part in text.splitlines() if part.strip())
    return line if len(line) <= limit else f"{line[:limit]} … (+{len(line) - limit} characters)"


def manifest_table(manifest: Manifest) -> str:
    """Render a manifest for reading."""
    base, runtime = manifest.base_model, manifest.runtime
    rows = [
        f"bundle      {manifest.name} (made by {manifest.made_by})",
        f"base model  {base.id} · {base.architecture} · {base.licence}",
        f"profile     {runtime.profile} · {runtime.provider} · {runtime.precision} · "
        f"adapters: {runtime.adapter_mode} · context {runtime.context_tokens} tokens",
        f"files       {len(manifest.files)}, {sum(f.bytes for f in manifest.files) / 1e6:.1f} MB",
        "",
        f"{'adapter':<22} {'subtask':<10} {'tool set':<14} {'tool':<20} "
        f"{'rank':>4} {'boundary':<11} {'MB':>6}",
    ]
    sizes = {f.path: f.bytes for f in manifest.files}
    rows.extend(
        f"{a.name:<22} {a.subtask:<10} {a.tool_set or '(any)':<14} {a.tool or '(any)':<20} "
        f"{a.rank:>4} {a.boundary:<11} {sizes.get(a.file or '', 0) / 1e6:>6.2f}"
        for a in manifest.adapters
    )
    if manifest.certificate is not None:
        rows += ["", "certificate against transformers + PEFT"]
        rows += [_parity("fp32", row) for row in manifest.certificate.fp32]
        rows += [_parity(runtime.precision, row) for row in manifest.certificate.bundle]
    return "\n".join(rows) + "\n"


def _parity(precision: str, row: ParityRow) -> str:
    return (
        f"  {precision:<6} {row.adapter:<22} {row.equal_tokens}/{row.tokens} greedy tokens equal, "
        f"max logit error {row.max_logit_error:.2g}"
    )
