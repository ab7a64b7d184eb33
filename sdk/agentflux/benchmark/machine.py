"""What the machine tells about itself: processor, memory, energy."""

import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

_POWERCAP = Path("/sys/class/powercap")


def processor() -> str:
    """Return the processor's name and the cores that this process may use."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model na"))
    except (OSError, StopIteration):
        pass
    return f"{name}, {allowed_cpus()} CPUs"


def allowed_cpus() -> int:
    """Return the logical processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def resident_bytes() -> int:
    """Return the memory that this process holds now; its peak where the system tells no more."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError, AttributeError):
        return peak_bytes()


def peak_bytes() -> int:
    """Return the most memory that this process has held; 0 where the system does not tell."""
    if resource is None:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@dataclass(frozen=True, slots=True)
class _Counter:
    """A processor package's energy counter, in microjoules, and where it wraps."""

    file: Path
    limit: int


class EnergyMeter:
    """Joules of the processor packages by RAPL, all programs on the machine together."""

    def __init__(self, folder: Path = _POWERCAP) -> None:
        """Find the counters under `folder`, Linux's powercap tree."""
        self._counters = tuple(_counters(folder))
        self._started = self._read()

    @property
    def available(self) -> bool:
        """Whether the machine tells its energy to this user."""
        return bool(self._counters)

    def joules(self) -> float | None:
        """Return the energy since the meter was made; None where it is not available."""
        if not self._counters:
            return None
        total = 0
        for counter, then, now in zip(self._counters, self._started, self._read(), strict=True):
            total += now - then if now >= then else now - then + counter.limit
        return total / 1e6

    def _read(self) -> tuple[int, ...]:
        return tuple(_number(counter.file) or 0 for counter in self._counters)


def _counters(folder: Path) -> list[_Counter]:
    """Packages only (`intel-rapl:0`): their parts (`intel-rapl:0:0`) are counted in them."""
    found = []
    for package in sorted(folder.glob("*-rapl:*")):
        if package.name.count(":") == 1 and _number(package / "energy_uj") is not None:
            limit = _number(package / "max_energy_range_uj") or 0
            found.append(_Counter(package / "energy_uj", limit))
    return found


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
