"""The evidence as an SVG: for each row a bar a mark, with its 95 % interval."""

from collections.abc import Sequence
from typing import Any
from xml.sax.saxutils import escape

_SHOWN = {"tool": "right tool", "arguments": "arguments, given the tool", "call": "whole call"}
_WIDTH, _RIGHT, _BAR, _GAP, _LETTER = 430, 130, 15, 14, 7
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#222}.note{font-size:11px;fill:#555}"
    ".b0{fill:#2563ab}.b1{fill:#8a6fc0}.b2{fill:#2f855a}.l{stroke:#444;stroke-width:1.2}"
    "@media(prefers-color-scheme:dark){text{fill:#eee}.note{fill:#bbb}.l{stroke:#ddd}"
    ".b0{fill:#6aa9e8}.b1{fill:#b39ddb}.b2{fill:#6fbf8f}}"
)


def evidence_svg(rows: Sequence[dict[str, Any]], *, title: str) -> str:
    """Draw rows one below the other; bars in the order tool, arguments, whole call."""
    block = len(_SHOWN) * (_BAR + 3) + _GAP
    left = 21 + _LETTER * max(len(row["row"]) for row in rows)
    height, width = 64 + block * len(rows), left + _WIDTH + _RIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style>",
        f'<text x="10" y="20">{escape(title)}</text>',
    ]
    x = left
    for index, name in enumerate(_SHOWN.values()):
        parts += [
            f'<rect class="b{index}" x="{x}" y="30" width="10" height="10"/>',
            f'<text class="note" x="{x + 15}" y="39">{name}</text>',
        ]
        x += 30 + _LETTER * len(name)
    for number, row in enumerate(rows):
        top = 52 + number * block
        parts.append(f'<text x="10" y="{top + block / 2 - 4:.0f}">{escape(row["row"])}</text>')
        for index, mark in enumerate(_SHOWN):
            parts += _bar(left, top + index * (_BAR + 3), index, row[mark])
    return "\n".join([*parts, "</svg>"]) + "\n"


def _bar(left: int, top: int, index: int, mark: dict[str, Any]) -> list[str]:
    if not mark["count"]:
        return [f'<text class="note" x="{left}" y="{top + 11}">none to mark</text>']
    value = mark["right"] / mark["count"]
    low, high = (left + _WIDTH * mark[end] for end in ("low", "high"))
    middle = top + _BAR / 2
    return [
        f'<rect class="b{index}" x="{left}" y="{top}" width="{_WIDTH * value:.1f}" '
        f'height="{_BAR}"/>',
        f'<path class="l" d="M{low:.1f} {middle}H{high:.1f}M{low:.1f} {middle - 4}v8'
        f'M{high:.1f} {middle - 4}v8"/>',
        f'<text class="note" x="{max(high, left) + 6:.1f}" y="{top + 11}">{value:.0%} '
        f"(n = {mark['count']})</text>",
    ]
