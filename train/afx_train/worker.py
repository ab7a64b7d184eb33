"""A job in a process: `python -m afx_train.worker RECIPE NAME OUT THREADS RESUME CONTROL`.

Writes one JSON object a line on stdout: {"progress": …}, then {"done": …} or {"failed": …}.
"""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, cast

from agentflux.errors import AgentFluxError

if TYPE_CHECKING:
    from afx_train.controls import Control

EXIT_FAILED = 4


def main(arguments: list[str]) -> int:
    """Run the job. Returns the exit code."""
    recipe, name, out, threads, resume, control = arguments
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import torch

    from afx_train.job import run_job

    torch.set_num_threads(int(threads))
    try:
        outcome = run_job(
            Path(recipe),
            name,
            Path(out),
            resume=resume == "resume",
            control=None if control == "as-is" else cast("Control", control),
            report=lambda progress: _say("progress", asdict(progress)),
        )
    except AgentFluxError as error:
        _say("failed", str(error))
        return EXIT_FAILED
    told = outcome.card.training
    lengths = [int(told.get(key, "0")) for key in ("too_long_examples", "train_examples")]
    scores = outcome.card.scores
    _say("done", {"skipped": outcome.skipped, "scores": scores, "too_long": lengths})
    return 0


def _say(kind: str, what: object) -> None:
    sys.stdout.write(json.dumps({kind: what}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
