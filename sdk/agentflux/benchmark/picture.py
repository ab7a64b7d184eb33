"""A bundle's costs as an SVG: a bar a stage, the median solid and the way to p95 pale."""

from xml.sax.saxutils import escape

from agentflux.benchmark.measure import BundleCost

_WIDTH, _LEFT, _ROW = 640, 110, 34
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#222}.note{font-size:11px;fill:#555}"
    ".median{fill:#2563ab}.p95{fill:#a9c8ea}"
    "@media(prefers-color-scheme:dark){text{fill:#eee}.note{fill:#bbb}.p95{fill:#35506e}"
    ".median{fill:#6aa9e8}}"
)


def cost_svg(cost: BundleCost) -> str:
    """Draw the latency of each stage and of the whole call, with tokens beside the bars."""
    bars = [
        (s.stage, s.median_ms, s.p95_ms, _tokens(s.prefill_tokens, s.reused_tokens))
        for s in cost.stages
    ]
    bars.append(("whole call", cost.call_median_ms, cost.call_p95_ms, ""))
    longest = max(p95 for _, _, p95, _ in bars) or 1.0
    height = 62 + _ROW * len(bars)
    title = f"{cost.model}, {cost.profile}: milliseconds a call, n = {cost.calls}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style>",
        f'<text x="10" y="20">{escape(title)}</text>',
        f'<text x="10" y="{height - 10}" class="note">solid: median; pale: up to p95; '
        f"{escape(cost.machine)}</text>",
    ]
    for index, (label, median, p95, note) in enumerate(bars):
        parts += _bar(36 + index * _ROW, label, (median, p95), longest, note)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _bar(top: int, label: str, times: tuple[float, float], longest: float, note: str) -> list[str]:
    median, p95 = times
    scale = (_WIDTH - _LEFT - 190) / longest
    end = _LEFT + p95 * scale
    return [
        f'<text x="10" y="{top + 16}">{escape(label)}</text>',
        f'<rect class="p95" x="{_LEFT}" y="{top}" width="{p95 * scale:.1f}" height="22"/>',
        f'<rect class="median" x="{_LEFT}" y="{top}" width="{median * scale:.1f}" height="22"/>',
        f'<text x="{end + 6:.1f}" y="{top + 11}">{median:.0f} ms (p95 {p95:.0f})</text>',
        f'<text x="{end + 6:.1f}" y="{top + 23}" class="note">{escape(note)}</text>',
    ]


def _tokens(prefill: float, reused: float) -> str:
    return f"{prefill:.0f} tokens computed, {reused:.0f} reused"
