"""Find the codes of a matrix without calibration data.

A block's grid is chosen among candidates by its squared error. The grids of GGUF's symmetric
formats are among them, so weights that were stored in such a format get their own codes back and
lose nothing:

- Q8_0: scale = largest magnitude / 127, zero in the middle;
- Q4_0: scale = -(value of largest magnitude) / 8, zero in the middle.

The others are the grid from the smallest to the largest weight, as the builder uses, and narrower
ones: clipping a block's outliers makes all other weights finer. A candidate's scale is fitted once
more to its codes by least squares. What each step is worth: docs/QUANTIZATION.md.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from afx_export.quantization.blocks import Blocks, FloatArray, in_blocks

_Array = npt.NDArray[np.float32]
_SHRINK = (1.0, 0.9)
# Rows done at once: bounds the memory of the candidates.
_ROWS = 4096


def quantize(matrix: FloatArray, *, bits: int, block_size: int) -> Blocks:
    """Quantize a matrix of shape (rows, columns), blocks along the columns."""
    parts = [
        _quantize_rows(in_blocks(matrix[start : start + _ROWS], block_size), bits)
        for start in range(0, len(matrix), _ROWS)
    ]
    zeros = np.concatenate([part.zeros for part in parts])
    middle = 2 ** (bits - 1)
    return Blocks(
        codes=np.concatenate([part.codes for part in parts]).astype(np.uint8),
        scales=np.concatenate([part.scales for part in parts]),
        zeros=None if (zeros == middle).all() else zeros.astype(np.uint8),
        bits=bits,
        columns=matrix.shape[1],
    )


@dataclass(slots=True)
class _Fit:
    """The best grid so far: codes (rows, blocks, size), the rest (rows, blocks)."""

    codes: _Array
    scales: _Array
    zeros: _Array
    errors: _Array

    def improve(self, other: "_Fit") -> None:
        better = other.errors < self.errors
        self.codes = np.where(better[..., None], other.codes, self.codes)
        self.scales = np.where(better, other.scales, self.scales)
        self.zeros = np.where(better, other.zeros, self.zeros)
        self.errors = np.where(better, other.errors, self.errors)


def _quantize_rows(blocks: _Array, bits: int) -> _Fit:
    grids = _grids(blocks, bits)
    best = _fit(blocks, *next(grids), bits=bits)
    for scales, zeros in grids:
        if not best.errors.any():
            break
        best.improve(_fit(blocks, scales, zeros, bits=bits))
        best.improve(_fit(blocks, _least_squares(blocks, best), best.zeros, bits=bits))
    return best


def _grids(blocks: _Array, bits: int) -> Iterator[tuple[_Array, _Array]]:
    """Yield candidates as (scales, zeros), each (rows, blocks)."""
    top, middle = 2**bits - 1, 2 ** (bits - 1)
    extreme = np.take_along_axis(blocks, np.abs(blocks).argmax(-1)[..., None], -1)[..., 0]
    symmetric = np.abs(extreme) / 127 if bits == 8 else -extreme / middle
    yield _usable(symmetric), np.full_like(extreme, middle)
    if bits == 8:
        return
    low, high = np.minimum(blocks.min(-1), 0), np.maximum(blocks.max(-1), 0)
    for shrink in _SHRINK:
        scales = _usable((high - low) * (shrink / top))
        yield scales, np.clip(np.rint(-low * shrink / scales), 0, top)


def _fit(blocks: _Array, scales: _Array, zeros: _Array, *, bits: int) -> _Fit:
    codes = np.clip(np.rint(blocks / scales[..., None]) + zeros[..., None], 0, 2**bits - 1)
    wrong = (codes - zeros[..., None]) * scales[..., None] - blocks
    # fp32 rounding of a block that lies on its grid is no error.
    noise = np.float32(1e-6) * np.abs(blocks).max(-1, keepdims=True)
    errors = np.square(np.where(np.abs(wrong) <= noise, 0, wrong)).sum(-1)
    return _Fit(codes, scales, zeros, errors)


def _least_squares(blocks: _Array, fit: _Fit) -> _Array:
    """Return the scales that suit the codes best."""
    centred = fit.codes - fit.zeros[..., None]
    norm = np.square(centred).sum(-1)
    fitted = (centred * blocks).sum(-1) / np.where(norm == 0, 1, norm)
    return np.where(fitted == 0, fit.scales, fitted)


def _usable(scales: FloatArray) -> _Array:
    """A block of zeros has no scale of its own: give it 1."""
    return np.where(scales == 0, 1, scales).astype(np.float32)
