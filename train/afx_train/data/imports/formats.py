"""The formats by name, and writing what one of them gives as a data folder."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

from afx_train.data.check import DataReport, check
from afx_train.data.imports.functions import bfcl, seal_tools, toolace, xlam
from afx_train.data.imports.intents import clinc150, hwu64, snips
from afx_train.data.imports.rows import Row, imported
from afx_train.data.imports.servers import servers
from afx_train.errors import DataError
from afx_train.trajectory import write_trajectories

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
    (out / "tools").mkdir(parents=True, exist_ok=True)
    for name, tools in found.tools.items():
        text = json.dumps(tools, ensure_ascii=False, indent=1)
        (out / "tools" / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    for split in ("train", "dev", "test"):
        chosen = [t for t in found.trajectories if t.split == split]
        write_trajectories(out / f"{split}.jsonl", chosen)
    report = check(found.trajectories, found.tools).with_build(
        styles={}, rejected=dict(found.dropped), failures=(), repeated=0
    )
    text = json.dumps(report.as_json(), ensure_ascii=False, indent=2)
    (out / "report.json").write_text(text + "\n", encoding="utf-8")
    return report
