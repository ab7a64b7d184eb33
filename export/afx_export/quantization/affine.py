"""Weights that came from 4-bit blocks with a minimum (GGUF Q4_1, Q4_K): get their codes back.

Such a block is `scale * code + minimum`: its zero, `-minimum / scale`, is a fraction. MatMulNBits
takes fractions only in a slow kernel that unpacks the whole matrix at every call, and rounding
them to whole numbers costs as much as quantizing a second time. Instead the matrix gets a column a
block:

    sum(scale * (code - zero) * x) = sum(scale * (code - whole) * x) + column * mean(x of the block)

with `column = -scale * fraction * block_size`. The graph appends the means to x. A column is about
as large as a weight and is quantized as one, but its error counts once a block instead of
`block_size` times: a fifteenth of the rounding is left.
"""

import numpy as np
import numpy.typing as npt

from afx_export.quantization.blocks import Blocks, FloatArray, in_blocks
from afx_export.quantization.quantizer import quantize

_Array = npt.NDArray[np.float32]
# How far from a whole code a weight may lie: fp32 rounding of scale * code + minimum.
_TOLERANCE = 2e-3
_TOP = 15


def recover(matrix: FloatArray, *, block_size: int) -> Blocks | None:
    """Return the matrix with a column a block appended; None where it is not on 4-bit grids.

    matrix: (rows, columns). The result has columns + columns / block_size columns, unless all
    zeros are whole numbers.
    """
    if matrix.shape[1] % block_size:
        return None
    blocks = in_blocks(matrix, block_size)
    scales = _steps(blocks)
    low = blocks.min(-1)
    codes = (blocks - low[..., None]) / scales[..., None]
    whole = np.rint(codes)
    if (np.abs(codes - whole) > _TOLERANCE).any() or whole.max(initial=0) > _TOP:
        return None
    # Shift a block that does not use the lowest codes so that its zero fits into 4 bits.
    zeros = -low / scales
    rounded = np.clip(np.rint(zeros), 0, _TOP)
    exact = Blocks(
        codes=whole.astype(np.uint8),
        scales=scales,
        zeros=rounded.astype(np.uint8),
        bits=4,
        columns=matrix.shape[1],
    )
    columns = -scales * (zeros - rounded) * block_size
    if np.abs(zeros - rounded).max(initial=0) < _TOLERANCE:
        return exact
    return _appended(exact, quantize(columns, bits=4, block_size=block_size))


def _steps(blocks: _Array) -> _Array:
    """Return each block's grid step: a fifteenth of its range, or its smallest gap."""
    spread = blocks.max(-1) - blocks.min(-1)
    step = spread / _TOP
    offsets = (blocks - blocks.min(-1, keepdims=True)) / np.where(step == 0, 1, step)[..., None]
    odd = (np.abs(offsets - np.rint(offsets)) > _TOLERANCE).any(-1)
    if odd.any():
        gaps = np.diff(np.sort(blocks[odd], axis=-1), axis=-1)
        floor = spread[odd][:, None] * 1e-3
        smallest = np.where(gaps > floor, gaps, np.inf).min(-1)
        step[odd] = spread[odd] / np.maximum(np.rint(spread[odd] / smallest), 1)
    return np.where(step == 0, 1, step).astype(np.float32)


def _appended(left: Blocks, right: Blocks) -> Blocks:
    def zeros(blocks: Blocks) -> npt.NDArray[np.uint8]:
        shape = blocks.scales.shape
        return np.full(shape, 8, np.uint8) if blocks.zeros is None else blocks.zeros

    return Blocks(
        codes=np.concatenate([left.codes, right.codes], axis=1),
        scales=np.concatenate([left.scales, right.scales], axis=1),
        zeros=np.concatenate([zeros(left), zeros(right)], axis=1),
        bits=4,
        columns=left.columns + right.columns,
    )
