"""A training job in a process that can be killed."""

from multiprocessing.connection import Connection
from pathlib import Path


def train_in_child(recipe: Path, name: str, out: Path, reports: Connection) -> None:
    """Go on with a job where it stands, with a checkpoint after every step."""
    import torch

    from afx_train.job import run_job

    torch.set_num_threads(1)
    run_job(
        recipe,
        name,
        out,
        resume=True,
        report=lambda progress: reports.send(progress.step),
        checkpoint_s=0.0,
    )
    reports.close()
