"""What a person sees while a command works: stderr only, bars on terminals only."""

from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

stderr = Console(stderr=True, highlight=False, soft_wrap=True)

Advance = Callable[[int, int], None]
"""Called with (bytes done, bytes in total; 0 when unknown)."""


def say(text: str) -> None:
    """Print one line of progress."""
    stderr.print(text, style="dim", markup=False)


def warn(text: str) -> None:
    """Print one line that a person should read."""
    stderr.print(f"warning: {text}", style="yellow", markup=False)


@contextmanager
def byte_bar(title: str) -> Generator[Advance]:
    """Show a progress bar of bytes on a terminal, one plain line elsewhere."""
    if not stderr.is_terminal:
        say(title)
        yield lambda _done, _total: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=stderr, transient=True) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total or None)
