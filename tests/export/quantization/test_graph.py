"""Quantized graphs computed by ONNX Runtime's own kernels."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from afx_export.quantization.affine import recover
from afx_export.quantization.blocks import FloatArray, in_blocks
from afx_export.quantization.graph import quantize_graph
from afx_profiles import Quantization

WIDTH, WIDE, VOCAB = 64, 96, 40


def _q4_1(matrix: FloatArray) -> FloatArray:
    """What a GGUF Q4_1 tensor dequantizes to."""
    blocks = in_blocks(matrix, 32)
    low, high = blocks.min(-1, keepdims=True), blocks.max(-1, keepdims=True)
    d = ((high - low) / 15).astype(np.float16).astype(np.float32)
    m = low.astype(np.float16).astype(np.float32)
    return (np.clip(np.rint((blocks - m) / d), 0, 15) * d + m).reshape(matrix.shape)


def _weights(rows: int, columns: int, seed: int) -> FloatArray:
    return np.random.default_rng(seed).normal(0, 0.1, (rows, columns)).astype(np.float32)


def _source(folder: Path) -> Path:
    """A graph as the builder makes it: tied embedding, two products that share x, one after."""
    matrices = {
        "lm_head.weight": _weights(VOCAB, WIDTH, 0).T,
        "up.weight": _q4_1(_weights(WIDE, WIDTH, 1)).T,
        "gate.weight": _q4_1(_weights(WIDE, WIDTH, 2)).T,
        "down.weight": _q4_1(_weights(WIDTH, WIDE, 3)).T,
    }
    layer = "/model/layers.0/mlp"
    nodes = [
        helper.make_node(
            "Transpose", ["lm_head.weight"], ["table"], name="/model/embed_tokens/Transpose"
        ),
        helper.make_node(
            "Gather", ["table", "input_ids"], ["x"], name="/model/embed_tokens/Gather"
        ),
        helper.make_node("MatMul", ["x", "up.weight"], ["u"], name=f"{layer}/up_proj/MatMul"),
        helper.make_node("MatMul", ["x", "gate.weight"], ["g"], name=f"{layer}/gate_proj/MatMul"),
        helper.make_node("Mul", ["u", "g"], ["h"], name=f"{layer}/Mul"),
        helper.make_node("MatMul", ["h", "down.weight"], ["y"], name=f"{layer}/down_proj/MatMul"),
        helper.make_node("MatMul", ["y", "lm_head.weight"], ["logits"], name="/lm_head/MatMul"),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["b", "t"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["b", "t", VOCAB])],
        [numpy_helper.from_array(np.ascontiguousarray(m), name) for name, m in matrices.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    folder.mkdir()
    onnx.save(
        model,
        folder / "model.onnx",
        save_as_external_data=True,
        location="model.onnx.data",
        size_threshold=0,
    )
    (folder / "genai_config.json").write_text("{}", encoding="utf-8")
    return folder


def _logits(folder: Path, tokens: int = 5) -> FloatArray:
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    ids = np.arange(tokens, dtype=np.int64)[None] * 7 % VOCAB
    return np.asarray(session.run(None, {"input_ids": ids})[0])


def _error(tmp_path: Path, settings: Quantization, bits: int) -> float:
    out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
    out.mkdir()
    source = tmp_path / "source"
    quantize_graph(source if source.exists() else _source(source), out, settings, bits=bits)
    wanted, found = _logits(source), _logits(out)
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def test_eight_bits_compute_almost_what_fp32_does(tmp_path: Path) -> None:
    assert _error(tmp_path, Quantization(block_size=32), bits=8) < 0.03


def test_columns_keep_what_whole_zeros_lose(tmp_path: Path) -> None:
    head = ("/lm_head/*",)
    plain = Quantization(block_size=32, accuracy_level=1, keep_int8=head)
    columns = plain.model_copy(update={"columns": True})
    whole = _error(tmp_path, plain, bits=4)
    assert whole > 0.05
    assert _error(tmp_path, columns, bits=4) < whole / 4


def test_products_of_one_input_share_its_means(tmp_path: Path) -> None:
    settings = Quantization(block_size=32, columns=True, keep_int8=("/lm_head/*",))
    _error(tmp_path, settings, bits=4)
    graph = onnx.load(tmp_path / "out0" / "model.onnx", load_external_data=False).graph
    kinds = [node.op_type for node in graph.node]
    # up and gate share x; down has its own input; the head is kept in 8 bits.
    assert (kinds.count("AveragePool"), kinds.count("MatMulNBits")) == (2, 4)
    bits = {n.name: {a.name: a.i for a in n.attribute}["bits"] for n in graph.node if n.domain}
    assert bits["/lm_head/MatMul_Q8"] == 8


def test_a_tied_embedding_stays_one_table(tmp_path: Path) -> None:
    _error(tmp_path, Quantization(block_size=32), bits=8)
    graph = onnx.load(tmp_path / "out0" / "model.onnx", load_external_data=False).graph
    assert sum(tensor.name.startswith("lm_head.weight_Q8") for tensor in graph.initializer) == 1
    assert "lm_head.weight" not in {tensor.name for tensor in graph.initializer}


def test_the_same_source_gives_the_same_bytes(tmp_path: Path) -> None:
    source = _source(tmp_path / "source")
    files = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        quantize_graph(source, tmp_path / name, Quantization(block_size=32), bits=4)
        files.append(
            [(tmp_path / name / f).read_bytes() for f in ("model.onnx", "model.onnx.data")]
        )
    assert files[0] == files[1]


@pytest.mark.parametrize("drop", [0, 5])
def test_a_grid_is_found_although_a_block_does_not_use_its_highest_codes(drop: int) -> None:
    codes = np.random.default_rng(0).integers(0, 16 - drop, (8, 2, 32))
    matrix = (codes * np.float32(0.013) - np.float32(0.0981)).astype(np.float32).reshape(8, 64)
    found = recover(matrix, block_size=32)
    assert found is not None
    assert found.columns == 64 + 2
    assert found.codes[:, :2].max() == 15 - drop


def test_weights_on_no_grid_are_left_to_the_search() -> None:
    assert recover(_weights(8, 64, 5), block_size=32) is None
