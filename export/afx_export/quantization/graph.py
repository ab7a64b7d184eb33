"""Turn a full-precision graph of the model builder into a quantized one.

Every product with a constant matrix becomes a MatMulNBits. Where embedding and head are one matrix,
they stay one: GatherBlockQuantized reads the codes that the head multiplies with.
"""

import shutil
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from afx_export.quantization.affine import recover
from afx_export.quantization.blocks import Blocks
from afx_export.quantization.quantizer import quantize
from afx_export.quantization.tensors import Array, TensorWriter, read_tensors
from afx_profiles import Quantization
from agentflux.contracts.switching import WEIGHTS

# Raise it with every change of the codes that a matrix gets: cached graphs are then made again.
QUANTIZER = 1

_DOMAIN = "com.microsoft"
_EMBEDDING = "/model/embed_tokens/"
WITH_MEANS = "/with_block_means"


def quantize_graph(source: Path, out: Path, settings: Quantization, *, bits: int) -> None:
    """Write the graph folder `source` (fp32) to the folder `out` with quantized weights.

    bits: of the matrices that `settings` does not keep in 8 bits.

    Raises:
        BuilderFailed: the weights' file does not fit the graph.
    """
    model = onnx.load(source / "model.onnx", load_external_data=False)
    tensors = read_tensors(model.graph, source)
    with TensorWriter(out / WEIGHTS) as writer:
        _Rewrite(model.graph, tensors, writer, settings, bits).run()
        del model.graph.initializer[:]
        model.graph.initializer.extend(writer.initializers)
    if not any(entry.domain == _DOMAIN for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid(_DOMAIN, 1))
    onnx.save(model, out / "model.onnx")
    for path in sorted(source.iterdir()):
        if path.is_file() and not path.name.startswith("model.onnx"):
            shutil.copyfile(path, out / path.name)


class _Rewrite:
    """One pass over a graph's nodes."""

    def __init__(
        self,
        graph: onnx.GraphProto,
        tensors: Mapping[str, Array],
        writer: TensorWriter,
        settings: Quantization,
        bits: int,
    ) -> None:
        self._graph, self._tensors, self._writer = graph, tensors, writer
        self._settings, self._bits = settings, bits
        self._blocks: dict[str, Blocks] = {}
        self._widened: set[str] = set()
        self._tied = ""

    def run(self) -> None:
        """Replace the nodes and write the initializers that are still used."""
        self._tied = tied = self._tied_embedding()
        nodes: list[onnx.NodeProto] = []
        for node in self._graph.node:
            if tied and node.name == f"{_EMBEDDING}Transpose":
                continue
            if tied and node.name == f"{_EMBEDDING}Gather":
                nodes += self._embedding(node, tied)
            elif node.op_type == "MatMul" and self._is_matrix(node.input[1]):
                nodes += self._product(node)
            else:
                nodes.append(node)
        held = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del self._graph.node[:]
        self._graph.node.extend(held)
        self._write_the_rest()

    def _is_matrix(self, name: str) -> bool:
        matrix = self._tensors.get(name)
        return matrix is not None and matrix.ndim == 2 and matrix.dtype == np.float32

    def _tied_embedding(self) -> str:
        """Return the matrix that the head and the embedding share, or ""."""
        for node in self._graph.node:
            if node.name == f"{_EMBEDDING}Transpose" and self._is_matrix(node.input[0]):
                columns = self._tensors[node.input[0]].shape[0]
                return "" if columns % self._settings.block_size else node.input[0]
        return ""

    def _quantized(self, name: str, node: str) -> Blocks:
        """Quantize the matrix `name`, (in_features, out_features), at its first use."""
        if name not in self._blocks:
            bits = 8 if any(fnmatchcase(node, p) for p in self._settings.keep_int8) else self._bits
            matrix = np.asarray(self._tensors[name]).T
            blocks = self._cut(name, matrix, bits)
            self._writer.add(f"{name}_Q{bits}", blocks.packed_codes())
            self._writer.add(f"{name}_scales", blocks.scales)
            if (zeros := blocks.packed_zeros()) is not None:
                self._writer.add(f"{name}_zp", zeros)
            self._blocks[name] = blocks
        return self._blocks[name]

    def _cut(self, name: str, matrix: Array, bits: int) -> Blocks:
        size = self._settings.block_size
        # An embedding looks rows up and has no x whose means it could use.
        may_widen = self._settings.columns and bits == 4 and name != self._tied
        exact = recover(matrix, block_size=size) if may_widen else None
        return exact or quantize(matrix, bits=bits, block_size=size)

    def _inputs(self, name: str, blocks: Blocks) -> list[str]:
        zeros = [] if blocks.zeros is None else [f"{name}_zp"]
        return [f"{name}_Q{blocks.bits}", f"{name}_scales", *zeros]

    def _product(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        x, name = node.input
        blocks = self._quantized(name, node.name)
        before: list[onnx.NodeProto] = []
        if blocks.columns > len(self._tensors[name]):
            before, x = self._with_means(x), f"{x}{WITH_MEANS}"
        product = helper.make_node(
            "MatMulNBits",
            [x, *self._inputs(name, blocks)],
            list(node.output),
            name=f"{node.name}_Q{blocks.bits}",
            domain=_DOMAIN,
            K=blocks.columns,
            N=len(blocks.codes),
            bits=blocks.bits,
            block_size=blocks.block_size,
            accuracy_level=self._settings.accuracy_level,
        )
        return [*before, product]

    def _with_means(self, x: str) -> list[onnx.NodeProto]:
        """Append the mean of each block of x, (batch, tokens, features), once for all its users."""
        if x in self._widened:
            return []
        self._widened.add(x)
        size, means, wide = self._settings.block_size, f"{x}/block_means", f"{x}{WITH_MEANS}"
        return [
            helper.make_node(
                "AveragePool", [x], [means], name=means, kernel_shape=[size], strides=[size]
            ),
            helper.make_node("Concat", [x, means], [wide], name=wide, axis=-1),
        ]

    def _embedding(self, node: onnx.NodeProto, name: str) -> list[onnx.NodeProto]:
        """Look rows up in the head's codes: (vocabulary, bytes a row)."""
        blocks = self._quantized(name, "/lm_head/MatMul")
        shape, rows = f"{_EMBEDDING}shape", f"{_EMBEDDING}rows"
        codes, scales, *zeros = self._inputs(name, blocks)
        bytes_a_row = blocks.columns * blocks.bits // 8
        flat = numpy_helper.from_array(np.array([len(blocks.codes), bytes_a_row], np.int64))
        return [
            helper.make_node("Constant", [], [shape], name=shape, value=flat),
            helper.make_node("Reshape", [codes, shape], [rows], name=f"{_EMBEDDING}Reshape"),
            helper.make_node(
                "GatherBlockQuantized",
                [rows, node.input[1], scales, *zeros],
                list(node.output),
                name=f"{_EMBEDDING}GatherBlockQuantized",
                domain=_DOMAIN,
                bits=blocks.bits,
                block_size=blocks.block_size,
                gather_axis=0,
                quantize_axis=1,
            ),
        ]

    def _write_the_rest(self) -> None:
        used = {name for node in self._graph.node for name in node.input}
        for name, values in self._tensors.items():
            if name in used:
                self._writer.add(name, values)
