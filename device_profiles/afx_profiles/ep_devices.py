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

_PLUGIN_PREFIX = "onnxruntime-ep-"


def main() -> None:
    """Write one JSON object: devices, and an error or nothing."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    devices: list[dict[str, str]] = []
    error = ""
    try:
        runtime = importlib.import_module("onnxruntime")
        _register_plugins(runtime)
        devices = [_row(device) for device in runtime.get_ep_devices()]
    except ModuleNotFoundError:
        error = "onnxruntime is not installed"
    except (ImportError, AttributeError, RuntimeError, OSError) as failure:
        line = (str(failure).strip().splitlines() or [type(failure).__name__])[0]
        error = f"onnxruntime is broken: {line[:200]}"
    unique = [row for index, row in enumerate(devices) if row not in devices[:index]]
    sys.stdout.write(json.dumps({"devices": unique, "error": error}) + "\n")


def _register_plugins(runtime: ModuleType) -> None:
    """Make providers that come as wheels of their own known to the runtime."""
    for distribution in distributions():
        name = str(distribution.metadata["Name"] or "").lower().replace("_", "-")
        if not name.startswith(_PLUGIN_PREFIX):
            continue
        plugin = importlib.import_module(name.replace("-", "_"))
        runtime.register_execution_provider_library(name, plugin.get_library_path())


def _row(device: Any) -> dict[str, str]:  # noqa: ANN401 - onnxruntime ships no types
    kind = str(device.device.type).rpartition(".")[2]
    return {"provider": device.ep_name, "kind": kind, "vendor": device.device.vendor or ""}


if __name__ == "__main__":
    main()
