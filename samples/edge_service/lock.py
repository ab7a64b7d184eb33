"""One service for each data folder: two would go on with each other's runs and call twice."""

import os
import sys
from pathlib import Path
from typing import BinaryIO

from agentflux import errors

FILE = "service.lock"


def claim(folder: Path) -> BinaryIO:
    """Lock the folder until what is returned is closed, or the process ends, in whatever way.

    Raises:
        ConfigError: another service holds the lock, or the folder cannot be written.
    """
    try:
        file = os.fdopen(os.open(folder / FILE, os.O_RDWR | os.O_CREAT, 0o600), "rb+")
    except OSError as error:
        raise _unusable(folder, error) from error
    try:
        _lock(file.fileno())
    except OSError as error:
        file.close()
        if not isinstance(error, BlockingIOError | PermissionError):
            raise _unusable(folder, error) from error
        text = "another afx-serve uses this data folder; give this one its own with --data"
        raise errors.ConfigError(text, where=str(folder)) from error
    return file


def _lock(descriptor: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _unusable(folder: Path, error: OSError) -> errors.ConfigError:
    return errors.ConfigError(f"{FILE} cannot be locked: {error.strerror}", where=str(folder))
