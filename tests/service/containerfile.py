"""Reads the service's container file, so that tests can take its steps without a container."""

import json
import re
import shutil
from pathlib import Path

FILE = Path("samples/edge_service/deploy/Containerfile")


def instructions(repository: Path) -> list[tuple[str, str]]:
    """Return (name, rest) of each instruction."""
    text = (repository / FILE).read_text(encoding="utf-8")
    text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    pairs = (line.partition(" ") for line in text.splitlines() if line.strip())
    return [(name, rest.strip()) for name, _, rest in pairs]


def instruction(repository: Path, wanted: str) -> str:
    """Return the rest of the only instruction of that name."""
    (found,) = [rest for name, rest in instructions(repository) if name == wanted]
    return found


def copied(repository: Path) -> list[tuple[Path, str]]:
    """Return what is copied, and where to: a folder's name below /src."""
    pairs = []
    for rest in (rest for name, rest in instructions(repository) if name == "COPY"):
        *sources, target = rest.split()
        below = Path(target).relative_to("/src")
        for source in sources:
            inside = below / Path(source).name if target.endswith("/") else below
            pairs.append((Path(source), str(inside)))
    return pairs


def copy_as_the_container_does(repository: Path, target: Path) -> None:
    """Take the COPY steps; /src is `target`."""
    for source, inside in copied(repository):
        there = target / inside
        there.parent.mkdir(parents=True, exist_ok=True)
        if (repository / source).is_dir():
            shutil.copytree(
                repository / source, there, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy(repository / source, there)


def health_check(repository: Path, port: str) -> list[str]:
    """Return the health check's arguments behind `python`, for a service on another port."""
    command = json.loads(instruction(repository, "HEALTHCHECK").partition("CMD ")[2])
    assert command[0] == "python"
    return [argument.replace(":8765", f":{port}") for argument in command[1:]]
