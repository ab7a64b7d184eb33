"""Small pieces of self-contained HTML: tables and plots as inline SVG, no script, no other host."""

from collections.abc import Mapping, Sequence
from html import escape

Point = tuple[float, float]

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2430; --soft: #667085; --line: #d5dae3; --paper: #fff;
  --a: #2563eb; --b: #c2410c; --cell: 37, 99, 235; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --soft: #98a2b3; --line: #3a4251;
  --paper: #14181f; --a: #7aa7ff; --b: #fb923c; --cell: 122, 167, 255; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
p.note { color: var(--soft); max-width: 46rem; }
table { border-collapse: collapse; margin: .6rem 0; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .2rem .7rem; border-bottom: 1px solid var(--line);
  vertical-align: top; }
th { color: var(--soft); font-weight: 600; }
td.n { text-align: right; } code { font-size: .9em; overflow-wrap: anywhere; }
.wide { overflow-x: auto; } figure { display: inline-block; margin: .5rem 1.5rem .5rem 0; }
figcaption { color: var(--soft); } svg text { fill: var(--soft); font: 11px system-ui, sans-serif; }
.matrix td, .matrix th { padding: .15rem .35rem; text-align: center; }
.matrix th[scope=row] { text-align: right; }
.matrix thead th { writing-mode: vertical-rl; transform: rotate(180deg); text-align: left; }
"""
_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 330, 200, 44, 26


def page(title: str, sections: Sequence[str]) -> str:
    """A whole document."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n<title>{escape(title)}'
        '</title>\n<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{_STYLE}</style></head>\n<body>\n<h1>{escape(title)}</h1>\n"
        + "\n".join(sections)
        + "\n</body></html>\n"
    )


def section(title: str, *parts: str, note: str = "") -> str:
    """A heading with its content; `note` says how to read it."""
    said = f'<p class="note">{escape(note)}</p>' if note else ""
    return f"<h2>{escape(title)}</h2>\n{said}" + "\n".join(parts)


def table(head: Sequence[str], rows: Sequence[Sequence[object]], *, code: int = -1) -> str:
    """A table. code: the first column that is shown as code."""
    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "\n".join(
        "<tr>"
        + "".join(
            f"<td><code>{escape(str(cell))}</code></td>"
            if 0 <= code <= at
            else f"<td>{escape(str(cell))}</td>"
            for at, cell in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    whole = f"<table><thead><tr>{top}</tr></thead>\n<tbody>{body}</tbody></table>"
    return f'<div class="wide">{whole}</div>'


def matrix(
    counts: Mapping[tuple[str, str], int], rows: Sequence[str], columns: Sequence[str]
) -> str:
    """A table of counts, shaded by the share of its row; the diagonal stands out by its border."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns)
    lines = []
    for row in rows:
        total = sum(counts.get((row, column), 0) for column in columns) or 1
        cells = "".join(
            _cell(row, column, counts.get((row, column), 0), total) for column in columns
        )
        lines.append(f'<tr><th scope="row">{escape(row)}</th>{cells}</tr>')
    return (
        '<div class="wide"><table class="matrix"><thead><tr><td></td>'
        f"{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _cell(row: str, column: str, count: int, total: int) -> str:
    if not count:
        return "<td></td>"
    border = ";outline:1px solid var(--soft)" if row == column else ""
    shade = f"background:rgba(var(--cell),{0.12 + 0.6 * count / total:.2f}){border}"
    return f'<td style="{shade}" title="{escape(row)} → {escape(column)}">{count}</td>'


def lines(
    title: str,
    curves: Mapping[str, Sequence[Point]],
    *,
    x: str,
    unit: bool = False,
) -> str:
    """A figure of at most two curves over a common axis; few points are dots as well.

    unit: both axes go from 0 to 1, with a diagonal.
    """
    points = [point for curve in curves.values() for point in curve]
    if not points:
        return ""
    high_x, high_y = (max(p[axis] for p in points) or 1.0 for axis in (0, 1))
    frame = _Frame(0.0, 1.0 if unit else high_x, 0.0, 1.0 if unit else high_y)
    drawn = [frame.axes(x)]
    if unit:
        drawn.append(frame.path([(0.0, 0.0), (1.0, 1.0)], "var(--line)", dash=True))
    for color, curve in zip(("var(--a)", "var(--b)"), curves.values(), strict=False):
        drawn += [
            frame.path(curve, color),
            *(frame.dot(p, color) for p in curve if len(curve) < 25),
        ]
    named = ", ".join(
        f'<span style="color:{color}">{escape(name)}</span>'
        for color, name in zip(("var(--a)", "var(--b)"), curves, strict=False)
    )
    caption = f"<figcaption>{escape(title)}: {named}</figcaption>"
    return f"<figure>{_svg(drawn, title)}{caption}</figure>"


def bars(title: str, counts: Sequence[tuple[float, int]], *, x: str) -> str:
    """A figure of a histogram: (lower bound of a bin of constant width, count)."""
    if not counts:
        return ""
    width = counts[1][0] - counts[0][0] if len(counts) > 1 else 1.0
    frame = _Frame(counts[0][0], counts[-1][0] + width, 0.0, float(max(n for _, n in counts)))
    drawn = [frame.axes(x), *(frame.bar(at, width, count) for at, count in counts)]
    return f"<figure>{_svg(drawn, title)}<figcaption>{escape(title)}</figcaption></figure>"


def _svg(drawn: Sequence[str], title: str) -> str:
    size = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}"'
    return f'<svg role="img" aria-label="{escape(title)}" {size}>{"".join(drawn)}</svg>'


class _Frame:
    """Maps values to the plot's area."""

    def __init__(self, low_x: float, high_x: float, low_y: float, high_y: float) -> None:
        self.low_x, self.high_x, self.low_y, self.high_y = low_x, high_x, low_y, high_y

    def place(self, point: Point) -> Point:
        across = (point[0] - self.low_x) / (self.high_x - self.low_x)
        up = (point[1] - self.low_y) / ((self.high_y - self.low_y) or 1.0)
        return _LEFT + across * (_WIDTH - _LEFT - 12), (_HEIGHT - _BOTTOM) - up * (
            _HEIGHT - _BOTTOM - 12
        )

    def path(self, curve: Sequence[Point], color: str, *, dash: bool = False) -> str:
        joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(self.place, curve))
        dashed = ' stroke-dasharray="4 4"' if dash else ""
        return (
            f'<polyline points="{joined}" fill="none" stroke="{color}" stroke-width="1.6"{dashed}/>'
        )

    def dot(self, point: Point, color: str) -> str:
        x, y = self.place(point)
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" fill="{color}"/>'

    def bar(self, at: float, width: float, count: int) -> str:
        left, top = self.place((at, float(count)))
        right, bottom = self.place((at + width, 0.0))
        return (
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{max(1.0, right - left - 1):.1f}" '
            f'height="{bottom - top:.1f}" fill="var(--a)"/>'
        )

    def axes(self, x: str) -> str:
        left, bottom = self.place((self.low_x, self.low_y))
        right, top = self.place((self.high_x, self.high_y))
        line = 'stroke="var(--line)" stroke-width="1"'
        middle = f'x="{(left + right) / 2}" y="{bottom + 15}" text-anchor="middle"'
        return (
            f'<line x1="{left}" y1="{bottom}" x2="{right}" y2="{bottom}" {line}/>'
            f'<line x1="{left}" y1="{bottom}" x2="{left}" y2="{top}" {line}/>'
            f'<text x="{left - 5}" y="{bottom}" text-anchor="end">{_short(self.low_y)}</text>'
            f'<text x="{left - 5}" y="{top + 8}" text-anchor="end">{_short(self.high_y)}</text>'
            f'<text x="{left}" y="{bottom + 15}">{_short(self.low_x)}</text>'
            f'<text x="{right}" y="{bottom + 15}" text-anchor="end">{_short(self.high_x)}</text>'
            f"<text {middle}>{escape(x)}</text>"
        )


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.2g}"
