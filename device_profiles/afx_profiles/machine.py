"""What this machine has: runtime packages and their conflicts, memory, devices of providers.

Nothing here believes a library about itself: packages are read from their metadata, and providers
are asked for devices in a process of their own, where a broken installation can do no harm.
"""

import ctypes
import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

_PROBE_SECONDS = 60

# Packages that own the same import name: with two of a row in one environment, whichever was
# installed last has overwritten files of the other.
FAMILIES: dict[str, tuple[str, ...]] = {
    "onnxruntime_genai": (
        "onnxruntime-genai",
        "onnxruntime-genai-cuda",
        "onnxruntime-genai-directml",
        "onnxruntime-genai-winml",
    ),
    "onnxruntime": (
        "onnxruntime",
        "onnxruntime-gpu",
        "onnxruntime-directml",
        "onnxruntime-openvino",
        "onnxruntime-rocm",
        "onnxruntime-training",
    ),
}
# Providers in wheels of their own, beside any of these.
PLUGIN_PREFIXES = ("onnxruntime-ep-", "onnxruntime-qnn")


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """An installed package of ONNX Runtime."""

    name: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A device that a provider of the installed runtime can use. kind: CPU, GPU or NPU."""

    provider: str
    kind: str
    vendor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The facts. `devices_error` says why the providers could not be asked."""

    system: str
    python: str
    cores: int
    memory_bytes: int
    available_bytes: int
    nvidia: bool
    packages: tuple[Package, ...]
    conflicts: tuple[tuple[str, ...], ...]
    devices: tuple[Device, ...]
    devices_error: str = ""


def read_machine() -> Machine:
    """Look at this machine and this Python's environment."""
    packages = installed_packages()
    total, available = memory()
    devices, error = provider_devices()
    return Machine(
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        cores=os.cpu_count() or 1,
        memory_bytes=total,
        available_bytes=available,
        nvidia=has_nvidia(),
        packages=packages,
        conflicts=conflicts(packages),
        devices=devices,
        devices_error=error,
    )


def installed_packages() -> tuple[Package, ...]:
    """List the installed packages of ONNX Runtime, by name."""
    known = {name for family in FAMILIES.values() for name in family}
    found: dict[str, Package] = {}
    for distribution in distributions():
        # Leftovers of a broken installation have no name.
        name = str(distribution.metadata["Name"] or "").lower().replace("_", "-")
        if name in known or name.startswith(PLUGIN_PREFIXES):
            found.setdefault(name, Package(name=name, version=distribution.version))
    return tuple(found[name] for name in sorted(found))


def conflicts(packages: tuple[Package, ...]) -> tuple[tuple[str, ...], ...]:
    """Return the groups of installed packages that overwrite each other's files."""
    names = {package.name for package in packages}
    groups = (tuple(n for n in family if n in names) for family in FAMILIES.values())
    return tuple(group for group in groups if len(group) > 1)


def provider_devices() -> tuple[tuple[Device, ...], str]:
    """Ask the installed runtime for its providers' devices; return them, or why it cannot tell."""
    command = [sys.executable, "-P", "-m", "afx_profiles.ep_devices"]
    environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "1", "PYTHONIOENCODING": "utf-8"}
    try:
        done = subprocess.run(
            command,
            env=environment,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_PROBE_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return (), f"onnxruntime did not answer within {_PROBE_SECONDS} s"
    try:
        answer = json.loads(done.stdout.strip().splitlines()[-1])
        return tuple(Device(**row) for row in answer["devices"]), str(answer["error"])
    except (ValueError, IndexError, KeyError, TypeError):
        return (), f"onnxruntime ended with status {done.returncode} when asked for its devices"


def has_nvidia() -> bool:
    """Whether an NVIDIA driver is loaded, whatever Python packages are installed."""
    if sys.platform == "win32":
        root = os.environ.get("SystemRoot", r"C:\Windows")
        return (Path(root) / "System32" / "nvcuda.dll").is_file()
    return Path("/proc/driver/nvidia/version").is_file() or Path("/dev/nvidiactl").exists()


def memory() -> tuple[int, int]:
    """Return bytes of memory in total and free for programs; a container's limit counts."""
    if sys.platform == "win32":
        return _windows_memory()
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    available = total
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
        available = sizes.get("MemAvailable", total)
    except (OSError, ValueError, IndexError):
        pass
    limit = _number(Path("/sys/fs/cgroup/memory.max"))
    if limit is None or limit >= total:
        return total, available
    used = _number(Path("/sys/fs/cgroup/memory.current")) or 0
    return limit, min(available, max(0, limit - used))


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _windows_memory() -> tuple[int, int]:
    class Status(ctypes.Structure):
        _fields_ = [  # noqa: RUF012 - the form that ctypes asks for
            ("length", ctypes.c_ulong),
            ("load", ctypes.c_ulong),
            *((name, ctypes.c_ulonglong) for name in ("total", "free", "a", "b", "c", "d", "e")),
        ]

    status = Status(length=ctypes.sizeof(Status))
    ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))  # type: ignore[attr-defined]
    return int(status.total), int(status.free)
