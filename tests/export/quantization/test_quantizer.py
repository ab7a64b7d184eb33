import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afx_export.quantization.blocks import Blocks, FloatArray, in_blocks
from afx_export.quantization.quantizer import quantize


def _weights(rows: int = 48, columns: int = 96, seed: int = 0) -> FloatArray:
    return np.random.default_rng(seed).normal(0, 0.02, (rows, columns)).astype(np.float32)


def _q8_0(matrix: FloatArray) -> FloatArray:
    """What a GGUF Q8_0 tensor dequantizes to."""
    blocks = in_blocks(matrix, 32)
    d = (np.abs(blocks).max(-1, keepdims=True) / 127).astype(np.float16).astype(np.float32)
    return (np.rint(blocks / d) * d).reshape(matrix.shape)


def _q4_0(matrix: FloatArray) -> FloatArray:
    """What a GGUF Q4_0 tensor dequantizes to."""
    blocks = in_blocks(matrix, 32)
    extreme = np.take_along_axis(blocks, np.abs(blocks).argmax(-1)[..., None], -1)
    d = (extreme / -8).astype(np.float16).astype(np.float32)
    return ((np.clip(np.rint(blocks / d) + 8, 0, 15) - 8) * d).reshape(matrix.shape)


def _error(blocks: Blocks, matrix: FloatArray) -> float:
    return float(np.linalg.norm(blocks.dequantized() - matrix) / np.linalg.norm(matrix))


@pytest.mark.parametrize(("store", "bits"), [(_q8_0, 8), (_q4_0, 4)])
def test_weights_from_a_symmetric_gguf_format_keep_their_codes(store: object, bits: int) -> None:
    matrix = store(_weights())  # type: ignore[operator]
    blocks = quantize(matrix, bits=bits, block_size=32)
    assert blocks.zeros is None
    assert _error(blocks, matrix) < 1e-6


def test_searching_a_grid_beats_rounding_between_smallest_and_largest() -> None:
    matrix = _weights(seed=3)
    cut = in_blocks(matrix, 32)
    low, high = cut.min(-1, keepdims=True), cut.max(-1, keepdims=True)
    scale = (high - low) / 15
    zero = np.rint(-low / scale)
    plain = (np.clip(np.rint(cut / scale) + zero, 0, 15) - zero) * scale
    rounding = np.linalg.norm(plain - cut) / np.linalg.norm(cut)
    assert _error(quantize(matrix, bits=4, block_size=32), matrix) < 0.97 * rounding


@pytest.mark.parametrize("block_size", [16, 32, 64, 128])
def test_columns_that_no_block_fills_are_padded_and_cut_again(block_size: int) -> None:
    matrix = _weights(columns=100)
    blocks = quantize(matrix, bits=8, block_size=block_size)
    assert blocks.dequantized().shape == matrix.shape
    assert _error(blocks, matrix) < 0.01


def test_two_codes_share_a_byte_the_first_one_low() -> None:
    codes = np.array([[[1, 2, 3, 15]]], np.uint8)
    zeros = np.array([[7]], np.uint8)
    blocks = Blocks(codes=codes, scales=np.ones((1, 1), np.float32), zeros=zeros, bits=4, columns=4)
    assert blocks.packed_codes().tolist() == [[[0x21, 0xF3]]]
    packed = blocks.packed_zeros()
    assert packed is not None
    assert packed.tolist() == [[0x87]]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(-1e3, 1e3, width=32), min_size=32, max_size=32),
    st.sampled_from([4, 8]),
)
def test_no_weight_moves_by_more_than_a_step_of_its_block(values: list[float], bits: int) -> None:
    matrix = np.array([values], np.float32)
    blocks = quantize(matrix, bits=bits, block_size=32)
    low, high = min(matrix.min(), 0), max(matrix.max(), 0)
    step = 2 * max(-low, high) / (2**bits - 2)
    shrunk = (high - low) * 0.3 if bits == 4 else 0
    assert np.abs(blocks.dequantized() - matrix).max() <= step / 2 + shrunk + 1e-3
    assert np.isfinite(blocks.scales).all()
