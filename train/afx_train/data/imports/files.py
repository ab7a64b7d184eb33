"""Reading sources as they are published: JSON, JSONL, CSV, each plain, gzipped or in a tar."""

import csv
import gzip
import io
import json
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from afx_train.errors import DataError
from afx_train.trajectory import lines_of


def read_text(path: Path) -> str:
    """Text of a file, gunzipped where its name ends in .gz; UTF-8, else Latin-1.

    Raises:
        DataError: it cannot be read.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot be read: {error}", where=str(path)) from error
    return _decoded(data)


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def read_json(path: Path) -> Any:  # noqa: ANN401 - whatever the file holds
    """A JSON document.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return json.loads(read_text(path))
    except ValueError as error:
        raise DataError(f"is not JSON: {error}", where=str(path)) from error


def documents(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a JSONL file or of a JSON list, each with where it stands.

    Raises:
        DataError: with the line, where something is no object.
    """
    text = read_text(path)
    if text.lstrip().startswith("["):
        whole = read_json(path)
        items = [(f"{path}[{number}]", item) for number, item in enumerate(whole)]
    else:
        items = []
        for number, line in lines_of(text):
            if line.strip():
                try:
                    items.append((f"{path}:{number}", json.loads(line)))
                except ValueError as error:
                    raise DataError(f"is not JSON: {error}", where=f"{path}:{number}") from error
    for where, item in items:
        if not isinstance(item, dict):
            raise DataError("is no object", where=where)
        yield where, cast("dict[str, Any]", item)


def files_of(folder: Path, *stems: str) -> list[Path]:
    """Those of `<stem>.jsonl` and `<stem>.jsonl.gz` that are in the folder."""
    named = [folder / f"{stem}.jsonl{end}" for stem in stems for end in ("", ".gz")]
    return [path for path in named if path.is_file()]


def tables(source: Path, *, delimiter: str) -> Iterator[dict[str, str]]:
    """The rows of a CSV file, of all in a folder, or of all in a tar; equal files once.

    Raises:
        DataError: it cannot be read.
    """
    seen: set[str] = set()
    for text in _csv_texts(source):
        if text not in seen:
            seen.add(text)
            yield from csv.DictReader(io.StringIO(text), delimiter=delimiter)


def _csv_texts(source: Path) -> Iterator[str]:
    if source.is_dir():
        for path in sorted(source.rglob("*.csv")):
            yield read_text(path)
    elif ".tar" in source.name:
        try:
            with tarfile.open(source) as archive:
                for member in archive:
                    stream = archive.extractfile(member) if member.name.endswith(".csv") else None
                    if stream is not None:
                        yield _decoded(stream.read())
        except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
            raise DataError(f"cannot be read: {error}", where=str(source)) from error
    else:
        yield read_text(source)
