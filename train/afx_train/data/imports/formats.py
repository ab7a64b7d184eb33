"""The formats by name, and writing what one of them gives as a data folder."""

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

from afx_train.data.check import DataReport
from afx_train.data.folder import write_folder
from afx_train.data.imports.functions import bfcl, seal_tools, toolace, xlam
from afx_train.data.imports.intents import clinc150, hwu64, snips
from afx_train.data.imports.rows import Row, imported
from afx_train.data.imports.servers import servers
from afx_train.errors import DataError

Converter = Callable[[Path, Path | None], Iterator[Row]]

FORMATS: dict[str, Converter] = {
    "servers": servers,
    "xlam": xlam,
    "bfcl": bfcl,
    "seal-tools": seal_tools,
    "toolace": toolace,
    "hwu64": hwu64,
    "clinc150": clinc150,
    "snips": snips,
}


def import_folder(
    form: str, source: Path, out: Path, *, answers: Path | None = None, limit: int = 0
) -> DataReport:
    """Convert a source and write tools, trajectories and report.json into `out`.

    answers: BFCL's file of accepted answers. limit: at most so many rows, drawn at random (always
    the same ones); 0 for all.

    Raises:
        DataError: an unknown format, or the source is not in it; says where.
    """
    if form not in FORMATS:
        raise DataError(f"no format {form!r}; there are {', '.join(FORMATS)}")
    try:
        rows = list(FORMATS[form](source, answers))
        drawn = Random(form).sample(rows, min(limit or len(rows), len(rows)))
        found = imported(form.replace("-", "_"), drawn)
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"is not in format {form!r}: {error!r}", where=str(source)) from error
    if not found.trajectories:
        raise DataError(f"gave no usable row; dropped: {dict(found.dropped)}", where=str(source))
    return write_folder(out, found.trajectories, found.tools, dropped=found.dropped)
