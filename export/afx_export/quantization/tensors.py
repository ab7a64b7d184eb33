"""Initializers in a file of their own: read without copying, written in order."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from afx_export.errors import BuilderFailed

Array = npt.NDArray[Any]

# ONNX Runtime maps the file: large tensors begin at a page.
_PAGE = 4096
# Smaller tensors stay in the graph, where shape inference can read them.
_INLINE_BYTES = 1024


def read_tensors(graph: onnx.GraphProto, folder: Path) -> dict[str, Array]:
    """Return the graph's initializers by name. Those in external files are mapped, not read.

    Raises:
        BuilderFailed: an external tensor does not lie inside its file.
    """
    return {tensor.name: _read(tensor, folder) for tensor in graph.initializer}


def _read(tensor: onnx.TensorProto, folder: Path) -> Array:
    if tensor.data_location != TensorProto.EXTERNAL:
        return np.asarray(numpy_helper.to_array(tensor))
    place: Mapping[str, str] = {entry.key: entry.value for entry in tensor.external_data}
    try:
        return np.memmap(
            folder / Path(place["location"]).name,
            dtype=helper.tensor_dtype_to_np_dtype(tensor.data_type),
            mode="r",
            offset=int(place.get("offset", 0)),
            shape=tuple(tensor.dims),
        )
    except (KeyError, ValueError, OSError) as error:
        msg = f"the weights of {tensor.name} cannot be read: {error}"
        raise BuilderFailed(msg) from error


class TensorWriter:
    """Writes `model.onnx.data` and lists the initializers that belong to it."""

    def __init__(self, path: Path) -> None:
        """Create the file at `path`."""
        self._location = path.name
        self._stream = path.open("wb")
        self.initializers: list[onnx.TensorProto] = []

    def add(self, name: str, values: Array) -> None:
        """Append one tensor."""
        values = np.ascontiguousarray(values)
        if values.nbytes <= _INLINE_BYTES:
            self.initializers.append(numpy_helper.from_array(values, name))
            return
        self._stream.write(bytes(-self._stream.tell() % _PAGE))
        tensor = TensorProto(name=name, dims=values.shape, data_location=TensorProto.EXTERNAL)
        tensor.data_type = helper.np_dtype_to_tensor_dtype(values.dtype)
        place = {"offset": self._stream.tell(), "length": values.nbytes}
        for key, value in {"location": self._location, **place}.items():
            tensor.external_data.add(key=key, value=str(value))
        self._stream.write(values.data)
        self.initializers.append(tensor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stream.close()
