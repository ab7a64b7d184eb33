"""Read and write `.onnx_adapter` files."""

import os
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np

from afx_export.adapters import FloatArray
from afx_export.errors import CorruptModel
from afx_export.lora_graph import Packed, Site, site_matrices

SUFFIX = ".onnx_adapter"
ADAPTER_VERSION = 1
MODEL_VERSION = 1


def write_adapter(path: Path, packed: Packed, sites: Sequence[Site]) -> None:
    """Write every site's matrices; nothing packed writes the null adapter, all of rank 0.

    Every site is always present: the runtime binds what a file names and leaves the rest as the
    previous adapter had it. Equal input gives equal bytes: parameters go in sorted by name.
    """
    runtime = _onnxruntime()
    arrays: dict[str, FloatArray] = {}
    for site in sites:
        arrays[site.a_name], arrays[site.b_name] = packed.get(site.name) or site_matrices(
            None, site
        )
    values = {
        name: runtime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))
        for name, array in sorted(arrays.items())
    }
    file = runtime.AdapterFormat()
    file.set_adapter_version(ADAPTER_VERSION)
    file.set_model_version(MODEL_VERSION)
    file.set_parameters(values)
    file.export_adapter(str(path))


def read_adapter_file(path: Path) -> Mapping[str, FloatArray]:
    """Return the matrices of a file by input name.

    Raises:
        CorruptModel: the file is not an adapter file.
    """
    try:
        file = _onnxruntime().AdapterFormat.read_adapter(str(path))
        # The values point into the file's mapping, which goes with `file`: copy while it lives.
        return {name: np.array(value.numpy()) for name, value in file.get_parameters().items()}
    except (RuntimeError, OSError, ValueError) as error:
        raise CorruptModel(str(path), "is not an .onnx_adapter file") from error


def _onnxruntime() -> ModuleType:
    # Set before the import: telemetry starts when the library loads.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    return import_module("onnxruntime")
