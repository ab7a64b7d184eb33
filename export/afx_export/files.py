"""Folders that appear whole or not at all, and disks that fill up."""

import errno
import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from afx_export.errors import DiskFull
from agentflux.errors import ConfigError

_FULL = {errno.ENOSPC, errno.EDQUOT}


@contextmanager
def new_folder(target: Path) -> Generator[Path]:
    """Yield a temporary sibling of `target` that takes its place when the block succeeds.

    What stood at `target` is replaced only then; on any error it is untouched and the temporary
    folder is gone. Where `target` is a link, it stays, and what it leads to is replaced.

    Raises:
        DiskFull: writing failed for want of space.
    """
    target = target.resolve()
    with disk_errors(target.name, target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.partial-", dir=target.parent))
        try:
            temporary.chmod(0o755)
            yield temporary
            _swap(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _swap(new: Path, target: Path) -> None:
    """Rename `new` to `target`. A folder that stood there is set aside first, then removed."""
    if not target.exists():
        new.rename(target)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.old-", dir=target.parent))
    old = target.rename(aside / "old")
    try:
        new.rename(target)
    except OSError:
        old.rename(target)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def disk_errors(what: str, folder: Path) -> Generator[None]:
    """Turn "no space left" into DiskFull; other errors pass."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFull(what, folder=str(folder)) from error
        raise


def require_space(what: str, folder: Path, needed: int) -> None:
    """Check before a long download or conversion that its result will fit.

    Raises:
        DiskFull: fewer than `needed` bytes are free.
        ConfigError: the folder's drive does not exist.
    """
    existing = folder
    while not existing.exists():
        if existing == existing.parent:  # Z:\ of Windows
            raise ConfigError("its drive does not exist; name another folder", where=str(folder))
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise DiskFull(what, folder=str(folder), needed=needed, free=free)


def link_or_copy(source: Path, target: Path) -> None:
    """Hard-link a file that nobody will change; copy where the file system cannot."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def write_text(path: Path, text: str) -> None:
    """Write a text file under a temporary name and rename it."""
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
