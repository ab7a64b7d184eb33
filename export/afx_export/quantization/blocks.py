"""A matrix as codes in blocks: `weight = (code - zero) * scale`, one scale and zero a block.

This is the arithmetic of ONNX Runtime's MatMulNBits and GatherBlockQuantized. Blocks lie along the
input axis.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]
Codes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """A quantized matrix of shape (rows, columns).

    codes: (rows, blocks, block_size), values below 2**bits. scales: (rows, blocks) in fp32.
    zeros: (rows, blocks), or None where every zero is the middle, 2**(bits - 1). The last block is
    padded with the zero's code where block_size does not divide `columns`.
    """

    codes: Codes
    scales: npt.NDArray[np.float32]
    zeros: Codes | None
    bits: int
    columns: int

    @property
    def block_size(self) -> int:
        """Weights that share a scale."""
        return int(self.codes.shape[2])

    def dequantized(self) -> npt.NDArray[np.float32]:
        """Return the matrix that the kernels compute with. Shape (rows, columns)."""
        zeros: Any = 2 ** (self.bits - 1) if self.zeros is None else self.zeros[..., None]
        values = (self.codes.astype(np.float32) - np.float32(zeros)) * self.scales[..., None]
        return values.reshape(len(values), -1)[:, : self.columns]

    def packed_codes(self) -> Codes:
        """Return the codes as MatMulNBits reads them: two of 4 bits a byte, the first one low."""
        return self.codes if self.bits == 8 else _pairs(self.codes)

    def packed_zeros(self) -> Codes | None:
        """Return the zeros as MatMulNBits reads them: (rows, bytes)."""
        if self.zeros is None or self.bits == 8:
            return self.zeros
        odd = self.zeros.shape[1] % 2
        return _pairs(np.pad(self.zeros, ((0, 0), (0, odd)), constant_values=8))


def in_blocks(matrix: FloatArray, block_size: int) -> npt.NDArray[np.float32]:
    """Cut (rows, columns) into (rows, blocks, block_size); a short last block is padded with 0."""
    rest = -matrix.shape[1] % block_size
    padded = np.pad(matrix, ((0, 0), (0, rest))) if rest else matrix
    return np.ascontiguousarray(padded, np.float32).reshape(len(matrix), -1, block_size)


def _pairs(values: Codes) -> Codes:
    packed: Codes = values[..., 0::2] | (values[..., 1::2] << np.uint8(4))
    return packed
