"""How often a client may ask."""

import threading
import time
from collections import OrderedDict

_MAX_CLIENTS = 10_000


class RateLimit:
    """A bucket of `per_minute` requests for each client, refilled all the time. Thread-safe."""

    def __init__(self, per_minute: int) -> None:
        self._size, self._per_second = float(per_minute), per_minute / 60
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, client: str) -> float:
        """Count a request; return 0, or the seconds until the next one is allowed."""
        now = time.monotonic()
        with self._lock:
            left, since = self._buckets.pop(client, (self._size, now))
            left = min(self._size, left + (now - since) * self._per_second)
            wait = 0.0 if left >= 1 else (1 - left) / self._per_second
            self._buckets[client] = (left - 1 if wait == 0 else left, now)
            while len(self._buckets) > _MAX_CLIENTS:
                self._buckets.popitem(last=False)
        return wait
