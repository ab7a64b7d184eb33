"""The data model: one agent trajectory a line (JSONL), from which all examples derive."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from afx_train.errors import DataError

Split = Literal["train", "dev", "test"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TrajectoryStep(_Model):
    """One gold call and, where the trajectory is verified, what the real server answered.

    accept: other arguments that are right as well (evaluation counts them, training does not).
    """

    tool_set: str
    tool: str
    arguments: dict[str, Any] = Field(default_factory=dict)
    accept: tuple[dict[str, Any], ...] = ()
    observation: str = ""
    is_error: bool = False


class Trajectory(_Model):
    """A request, the gold calls in order (none: no tool serves it), and where it comes from.

    phrasing: identity of the wording before slots were filled; splits are by phrasing.
    kind: "single", "scenario", or "none/<category>".
    verified: whether the calls were executed on the real servers. Of what was not (imports), only
    the request and its first call are learned.
    """

    id: str
    request: str
    context: str = ""
    steps: tuple[TrajectoryStep, ...] = ()
    phrasing: str
    kind: str
    split: Split
    verified: bool = True


def first_call_of(trajectory: Trajectory) -> Trajectory:
    """Keep the first call only: later ones would follow on results that nobody has seen."""
    return trajectory.model_copy(update={"steps": trajectory.steps[:1]})


def read_trajectories(path: Path) -> list[Trajectory]:
    """Read a JSONL file.

    Raises:
        DataError: with file and line, where a line is not a trajectory.
    """
    return list(_lines(path))


def write_trajectories(path: Path, items: Iterable[Trajectory]) -> None:
    """Write a JSONL file, by a temporary name."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as stream:
        for item in items:
            line = item.model_dump(mode="json", exclude={"verified"} if item.verified else None)
            stream.write(json.dumps(line, ensure_ascii=False) + "\n")
    partial.replace(path)


def schema_text() -> str:
    """The JSON Schema of one line, as it is published in docs/trajectory.schema.json."""
    schema = Trajectory.model_json_schema()
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return json.dumps(head | schema, ensure_ascii=False, indent=2) + "\n"


def lines_of(text: str) -> Iterator[tuple[int, str]]:
    """Number the lines of a JSONL text. A line feed alone ends one: JSON may hold U+2028."""
    return enumerate(text.removesuffix("\n").split("\n"), start=1) if text else iter(())


def _lines(path: Path) -> Iterator[Trajectory]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read: {error}", where=str(path)) from error
    for number, line in lines_of(text):
        try:
            yield Trajectory.model_validate_json(line)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            raise DataError(f"{field}: {first['msg']}", where=f"{path}:{number}") from error
