"""Costs as tables for people."""

from collections.abc import Sequence

from agentflux.benchmark.measure import BundleCost


def cost_table(cost: BundleCost) -> str:
    """Render one bundle's costs."""
    rows = [
        f"bundle      {cost.bundle}",
        f"profile     {cost.profile} · {cost.model}",
        f"machine     {cost.machine} · {cost.threads} threads",
        f"open        {cost.open_s:.2f} s; static prefixes {cost.warm_up_tokens} tokens in "
        f"{cost.warm_up_s:.2f} s",
        f"speed       prefill {cost.prefill_tokens_per_s:.0f} tokens/s, "
        f"decode {cost.decode_tokens_per_s:.0f} tokens/s (base, no adapter)",
        f"memory      {cost.resident_bytes / 1e6:.0f} MB resident, {cost.peak_bytes / 1e6:.0f} MB "
        f"at most; KV cache {cost.kv_bytes / 1e6:.0f} MB reserved; "
        f"files {cost.file_bytes / 1e6:.0f} MB",
        f"energy      {_energy(cost.joules_per_call)}",
        "",
        f"{'stage':<11}{'n':>4}{'median ms':>11}{'p95 ms':>9}{'prefill':>9}{'reused':>8}"
        f"{'decoded':>9}{'forced':>8}",
    ]
    rows += [
        f"{s.stage:<11}{s.calls:>4}{s.median_ms:>11.1f}{s.p95_ms:>9.1f}{s.prefill_tokens:>9.0f}"
        f"{s.reused_tokens:>8.0f}{s.decoded_tokens:>9.0f}{s.forced_tokens:>8.0f}"
        for s in cost.stages
    ]
    rows.append(
        f"{'whole call':<11}{cost.calls:>4}{cost.call_median_ms:>11.1f}{cost.call_p95_ms:>9.1f}"
    )
    return "\n".join(rows) + "\n"


def comparison_table(costs: Sequence[BundleCost]) -> str:
    """Render variants side by side; the first one is what the others are compared with."""
    first = costs[0]
    rows = [
        f"{'bundle':<34}{'threads':>8}{'spin':>6}{'call ms':>9}{'':>7}{'decode/s':>10}{'':>7}"
        f"{'prefill/s':>11}{'MB':>7}{'equal to fp32':>15}"
    ]
    for cost in costs:
        equal = "-" if cost.bundle_equal is None else f"{cost.bundle_equal:.1%}"
        spin = "-" if cost.spinning is None else "yes" if cost.spinning else "no"
        rows.append(
            f"{_short(cost.bundle):<34}{cost.threads:>8}{spin:>6}{cost.call_median_ms:>9.1f}"
            f"{_change(cost.call_median_ms, first.call_median_ms):>7}"
            f"{cost.decode_tokens_per_s:>10.0f}"
            f"{_change(cost.decode_tokens_per_s, first.decode_tokens_per_s):>7}"
            f"{cost.prefill_tokens_per_s:>11.0f}{cost.file_bytes / 1e6:>7.0f}{equal:>15}"
        )
    return "\n".join(rows) + "\n"


def _energy(joules: float | None) -> str:
    if joules is None:
        return "not available: this machine does not tell it (RAPL) to this user"
    return f"{joules:.2f} J a call, the whole processor (RAPL)"


def _change(value: float, first: float) -> str:
    return f"{value / first - 1:+.0%}" if first else ""


def _short(path: str) -> str:
    name = path.rstrip("/").rpartition("/")[2] or path
    return name if len(name) <= 32 else f"{name[:31]}…"
