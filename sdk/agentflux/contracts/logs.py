"""Sums of probabilities that are given as logarithms."""

import math
from collections.abc import Collection, Mapping

NEVER = math.log(1e-9)


def log_total(logs: Collection[float]) -> float:
    """Return the logarithm of the sum; `NEVER` of nothing."""
    most = max(logs, default=NEVER)
    return most + math.log(sum(math.exp(log - most) for log in logs) or 1.0)


def normalized(logs: Mapping[str, float]) -> dict[str, float]:
    """Return log-probabilities whose probabilities add up to one."""
    total = log_total(logs.values())
    return {name: log - total for name, log in logs.items()}
