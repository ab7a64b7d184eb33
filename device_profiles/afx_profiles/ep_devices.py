"""Prints the devices of the installed runtime's providers as JSON. A program of its own.

`onnxruntime.get_ep_devices()` lists a provider only with a device that it found. The
`is_*_available` calls of onnxruntime-genai answer yes without one.
"""

import importlib
import json
import os
import sys
from importlib.metadata import distributions
from types import ModuleType
from typing import Any

_PLUGIN_PREFIXES = ("onnxruntime-ep-", "onnxruntime-qnn")


def main() -> None:
    """Write one JSON object: devices, and an error or nothing."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    devices: list[dict[str, str]] = []
    errors: list[str] = []
    try:
        runtime = importlib.import_module("onnxruntime")
        errors = _register_plugins(runtime)
        devices = [_row(device) for device in runtime.get_ep_devices()]
    except ModuleNotFoundError:
        errors.append("onnxruntime is not installed")
    except Exception as failure:  # noqa: BLE001 - whatever a broken runtime raises is the answer
        errors.append(f"onnxruntime is broken: {_line(failure)}")
    unique = [row for index, row in enumerate(devices) if row not in devices[:index]]
    sys.stdout.write(json.dumps({"devices": unique, "error": "; ".join(errors)}) + "\n")


def _register_plugins(runtime: ModuleType) -> list[str]:
    """Make providers that come as wheels of their own known; return what failed."""
    names = {str(d.metadata["Name"] or "").lower().replace("_", "-") for d in distributions()}
    errors: list[str] = []
    for name in sorted(name for name in names if name.startswith(_PLUGIN_PREFIXES)):
        try:
            plugin = importlib.import_module(name.replace("-", "_"))
            library = plugin.get_library_path()
            runtime.register_execution_provider_library(plugin.get_ep_name(), library)
        except Exception as failure:  # noqa: BLE001 - as above; the others are still asked
            errors.append(f"{name} cannot be registered: {_line(failure)}")
    return errors


def _line(failure: Exception) -> str:
    return (str(failure).strip().splitlines() or [type(failure).__name__])[0][:200]


def _row(device: Any) -> dict[str, str]:  # noqa: ANN401 - onnxruntime ships no types
    kind = str(device.device.type).rpartition(".")[2]
    return {"provider": device.ep_name, "kind": kind, "vendor": device.device.vendor or ""}


if __name__ == "__main__":
    main()
