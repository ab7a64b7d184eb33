"""Small charts as inline SVG. Colours come from the page: they follow its light and dark."""

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape

_CELL, _GAP, _LABEL, _AXIS = 15, 2, 78, 18


def stacked_bar(parts: Mapping[str, int], *, title: str) -> str:
    """Draw parts of a whole as one bar with its legend. parts: bytes by name, in drawing order."""
    total, width = sum(parts.values()) or 1, 720
    x, drawn, legend = 0.0, [], []
    for index, (name, size) in enumerate(parts.items()):
        span = width * size / total
        label = escape(f"{name}: {megabytes(size)} ({size / total:.0%})")
        drawn.append(
            f'<rect class="s{index}" x="{x:.1f}" y="0" width="{max(span, 1):.1f}" height="26">'
            f"<title>{label}</title></rect>"
        )
        legend.append(f'<li><i class="b{index}"></i>{label}</li>')
        x += span
    return (
        f'<svg viewBox="0 0 {width} 26" role="img" aria-label="{escape(title)}">'
        f'{"".join(drawn)}</svg><ul class="legend">{"".join(legend)}</ul>'
    )


def heatmap(
    rows: Sequence[str], columns: int, values: Mapping[tuple[str, int], float], *, title: str
) -> str:
    """Draw values by row name and column number, on a logarithmic scale; missing cells stay empty.

    The scale's ends are written below.
    """
    low, high = _range(values.values())
    width = _LABEL + columns * _CELL
    height = len(rows) * _CELL + _AXIS
    cells: list[str] = []
    for y, name in enumerate(rows):
        cells.append(
            f'<text x="{_LABEL - 6}" y="{y * _CELL + 11}" class="row">{escape(name)}</text>'
        )
        for column in range(columns):
            if (value := values.get((name, column))) is not None:
                cells.append(_cell(name, column, y, value, _position(value, low, high)))
    for column in range(0, columns, 5 if columns > 10 else 1):
        x = _LABEL + column * _CELL + _CELL / 2
        cells.append(f'<text x="{x:.1f}" y="{height - 5}" class="column">{column}</text>')
    return (
        f'<svg viewBox="0 0 {width} {height}" style="max-width:{width * 1.5:.0f}px" role="img" '
        f'aria-label="{escape(title)}">{"".join(cells)}</svg>'
        f'<p class="scale">{low:.2g}<i></i>{high:.2g}</p>'
    )


def _cell(name: str, column: int, row: int, value: float, position: float) -> str:
    size = _CELL - _GAP
    return (
        f'<rect class="heat" x="{_LABEL + column * _CELL}" y="{row * _CELL}" width="{size}" '
        f'height="{size}" rx="2" fill-opacity="{0.08 + 0.92 * position:.2f}">'
        f"<title>layer {column}, {escape(name)}: {value:.3g}</title></rect>"
    )


def _range(values: Iterable[float]) -> tuple[float, float]:
    positive = sorted(v for v in values if v > 0 and math.isfinite(v))
    if not positive:
        return 1e-9, 1.0
    return positive[0], max(positive[-1], positive[0] * 1.001)


def _position(value: float, low: float, high: float) -> float:
    """Return where a value stands between low (0) and high (1), by its logarithm."""
    if not value > low:  # NaN too
        return 0.0
    return min(math.log(value / low) / math.log(high / low), 1.0)


def megabytes(size: int) -> str:
    """Write a number of bytes for a person."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} B"
