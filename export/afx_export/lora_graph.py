"""Add LoRA branches to a base graph: matrices are graph inputs, so adapters are files.

For every projection that some adapter touches:

```
x ── MatMul / MatMulNBits ───────────────┐
 └── MatMul(lora_A) ── MatMul(lora_B) ── Add ── (the projection's old output)
```

lora_A is (in_features, r) and lora_B (r, out_features), r symbolic, in the float type of the
activations. Both have default values of rank 0, so a session without adapter computes the base.
A packed q/k/v projection gets one branch: A holds the three side by side, B is block-diagonal.
gate and up keep a branch each: sharing A would either pad both B with zeros (twice the bytes) or
add a Split for the MatMul it saves.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from afx_export.adapters import Adapter, FloatArray, LoraPair
from afx_export.errors import AdapterRefused, BuilderFailed, TargetNotFound
from afx_export.quantization.graph import WITH_MEANS
from agentflux.contracts.switching import ADAPTER_GATE, ADAPTER_ID

_SITE = re.compile(
    r"/model/layers\.(\d+)/(?:self_)?(attn|mlp)/(\w+_proj|fc[12])/MatMul((_matmul)?_Q[248])?"
)
_BLOCKS = {"attn": "self_attn", "mlp": "mlp"}
# Where a model's own name of a layer is not the builder's.
_OTHER_NAMES = {
    "o_proj": ("self_attn.dense", "self_attn.out_proj"),
    "gate_up_proj": ("shared_mlp.input_linear",),
    "down_proj": ("shared_mlp.output_linear",),
}
_PACKED = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}
_BASE = "/base"
FLOATS: dict[int, np.dtype[Any]] = {
    TensorProto.FLOAT: np.dtype(np.float32),
    TensorProto.FLOAT16: np.dtype(np.float16),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A projection of the graph. `modules` are its parts in output order, with their widths."""

    name: str
    node: str
    in_features: int
    out_features: int
    element_type: int
    modules: tuple[tuple[str, int], ...]

    @property
    def a_name(self) -> str:
        """Graph input of the fused A."""
        return f"{self.name}.lora_A.weight"

    @property
    def b_name(self) -> str:
        """Graph input of the fused B."""
        return f"{self.name}.lora_B.weight"


MakeBranch = Callable[[onnx.NodeProto, Site], list[onnx.NodeProto]]
Packed = Mapping[str, tuple[FloatArray, FloatArray]]
"""One adapter by site name: A (in_features, r) and B (r, out_features). Untouched sites lack."""


def find_sites(graph: onnx.GraphProto, shapes: Mapping[str, tuple[int, int]]) -> tuple[Site, ...]:
    """List the projections whose name, and whose width and depth, match linear layers.

    shapes: module path to (out_features, in_features), from the model's weights.

    Raises:
        BuilderFailed: a projection's shape contradicts the weights.
    """
    sizes = {init.name: tuple(init.dims) for init in graph.initializer}
    types = {info.name: info.type.tensor_type.elem_type for info in graph.value_info}
    types |= {info.name: info.type.tensor_type.elem_type for info in graph.output}
    found: list[Site] = []
    for node in graph.node:
        match = _SITE.fullmatch(node.name)
        if match is None or node.op_type not in ("MatMul", "MatMulNBits"):
            continue
        layer, block, projection = match[1], match[2], match[3]
        modules = _modules(f"model.layers.{layer}", _BLOCKS[block], projection, shapes)
        if not modules:
            continue
        site = Site(
            name=f"model.layers.{layer}.{block}.{projection}",
            node=node.name,
            in_features=shapes[modules[0][0]][1],
            out_features=sum(width for _, width in modules),
            element_type=types.get(node.output[0], TensorProto.FLOAT),
            modules=modules,
        )
        _check_shape(site, node, sizes)
        found.append(site)
    return tuple(found)


def _modules(
    layer: str, block: str, projection: str, shapes: Mapping[str, tuple[int, int]]
) -> tuple[tuple[str, int], ...]:
    """Return the model's own module, or the parts that the builder packed into one."""
    for name in (f"{block}.{projection}", *_OTHER_NAMES.get(projection, ())):
        if (whole := f"{layer}.{name}") in shapes:
            return ((whole, shapes[whole][0]),)
    parts = [f"{layer}.{block}.{part}" for part in _PACKED.get(projection, ())]
    if not parts or not all(part in shapes for part in parts):
        return ()
    return tuple((part, shapes[part][0]) for part in parts)


def _check_shape(site: Site, node: onnx.NodeProto, sizes: Mapping[str, tuple[int, ...]]) -> None:
    if node.op_type == "MatMulNBits":
        attributes = {a.name: a.i for a in node.attribute}
        # Quantization may append a column a block; see afx_export.quantization.affine.
        wide = node.input[0].endswith(WITH_MEANS)
        found = (site.in_features if wide else attributes.get("K"), attributes.get("N"))
    else:
        found = sizes.get(node.input[1], ())[:2]  # type: ignore[assignment]
    if found and found != (site.in_features, site.out_features):
        msg = f"{site.node} is {found}, the weights say {(site.in_features, site.out_features)}"
        raise BuilderFailed(msg)
    if site.element_type not in FLOATS:
        msg = f"{site.node} computes in type {TensorProto.DataType.Name(site.element_type)}; "
        raise BuilderFailed(msg + "LoRA branches are made for fp32 and fp16 graphs")


def sites_of(sites: Sequence[Site], adapters: Sequence[Adapter]) -> tuple[Site, ...]:
    """Keep the sites that some adapter touches.

    Raises:
        TargetNotFound: an adapter's module belongs to no site.
    """
    wanted = {module for adapter in adapters for module in adapter.pairs}
    carried = {module for site in sites for module, _ in site.modules}
    if missing := sorted(wanted - carried):
        raise TargetNotFound(missing, available=sorted({m.rpartition(".")[2] for m in carried}))
    return tuple(s for s in sites if any(module in wanted for module, _ in s.modules))


def add_branches(graph: onnx.GraphProto, sites: Sequence[Site]) -> None:
    """Insert the branches with matrices as graph inputs, in place."""
    insert(graph, sites, branch)
    for site in sites:
        _declare(graph, site)


def insert(graph: onnx.GraphProto, sites: Sequence[Site], make: MakeBranch) -> None:
    """Put a branch after every site's projection, in place."""
    by_node = {site.node: site for site in sites}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        nodes.append(node)
        if site := by_node.get(node.name):
            nodes += make(node, site)
    replace_nodes(graph, nodes)


def replace_nodes(graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto]) -> None:
    """Give the graph these nodes, some of which may be its own."""
    # extend() copies, so the graph's own nodes must be held before the list is emptied.
    held = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(held)


def branch(node: onnx.NodeProto, site: Site) -> list[onnx.NodeProto]:
    """Turn a projection's output into its sum with `x @ A @ B`; every name has a `/lora_` part."""
    x, out = node.input[0].removesuffix(WITH_MEANS), node.output[0]
    base, low, delta = f"{out}{_BASE}", f"{out}/lora_A", f"{out}/lora_B"
    node.output[0] = base
    return [
        helper.make_node("MatMul", [x, site.a_name], [low], name=f"{node.name}/lora_A"),
        helper.make_node("MatMul", [low, site.b_name], [delta], name=f"{node.name}/lora_B"),
        helper.make_node("Add", [base, delta], [out], name=f"{node.name}/lora_Add"),
    ]


def strip_branches(graph: onnx.GraphProto) -> None:
    """Take every branch out again, in place: the base graph as the builder made it."""
    kept = [node for node in graph.node if "/lora_" not in node.name]
    for node in kept:
        if node.output and node.output[0].endswith(_BASE):
            node.output[0] = node.output[0].removesuffix(_BASE)
    replace_nodes(graph, kept)
    for value in [value for value in graph.input if is_lora_name(value.name)]:
        graph.input.remove(value)
    for tensor in [tensor for tensor in graph.initializer if is_lora_name(tensor.name)]:
        graph.initializer.remove(tensor)


def is_lora_name(name: str) -> bool:
    """Whether a graph input or initializer belongs to the branches."""
    return ".lora_" in name or name in (ADAPTER_ID, ADAPTER_GATE)


def _declare(graph: onnx.GraphProto, site: Site) -> None:
    rank = f"{site.name}.rank"
    inputs: tuple[tuple[str, list[str | int | None], tuple[int, int]], ...] = (
        (site.a_name, [site.in_features, rank], (site.in_features, 0)),
        (site.b_name, [rank, site.out_features], (0, site.out_features)),
    )
    for name, symbolic, empty in inputs:
        graph.input.append(helper.make_tensor_value_info(name, site.element_type, symbolic))
        default = np.zeros(empty, FLOATS[site.element_type])
        graph.initializer.append(numpy_helper.from_array(default, name))


def pack(adapter: Adapter, sites: Sequence[Site]) -> Packed:
    """Pack an adapter's matrices for every site that it touches, each when it is asked for.

    A packed q/k/v adapter is mostly the zeros of its block-diagonal B: forty of them at once would
    take as much memory as the model.

    Raises:
        AdapterRefused: on access: a weight does not fit the graph's float type.
    """
    return _Packing(adapter, sites)


class _Packing(Mapping[str, tuple[FloatArray, FloatArray]]):
    """An adapter by site name; nothing is kept."""

    def __init__(self, adapter: Adapter, sites: Sequence[Site]) -> None:
        self._adapter = adapter
        self._sites = {site.name: site for site in sites if touches(adapter, site)}

    def __getitem__(self, name: str) -> tuple[FloatArray, FloatArray]:
        return site_matrices(self._adapter, self._sites[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._sites)

    def __len__(self) -> int:
        return len(self._sites)

    def __contains__(self, name: object) -> bool:
        return name in self._sites


def touches(adapter: Adapter, site: Site) -> bool:
    """Whether the adapter changes any part of the projection."""
    return any(module in adapter.pairs for module, _ in site.modules)


def site_matrices(adapter: Adapter | None, site: Site) -> tuple[FloatArray, FloatArray]:
    """Pack an adapter's matrices for a site; None and untouched sites give rank 0.

    Returns A (in_features, r) and B (r, out_features), r the sum of the parts' ranks.
    """
    pairs: Mapping[str, LoraPair] = adapter.pairs if adapter else {}
    ranks = [pairs[m].a.shape[0] if m in pairs else 0 for m, _ in site.modules]
    dtype = FLOATS[site.element_type]
    a: FloatArray = np.zeros((site.in_features, sum(ranks)), dtype)
    b: FloatArray = np.zeros((sum(ranks), site.out_features), dtype)
    row = column = 0
    with np.errstate(over="ignore"):
        for (module, width), rank in zip(site.modules, ranks, strict=True):
            if rank:
                a[:, row : row + rank] = pairs[module].a.T
                b[row : row + rank, column : column + width] = pairs[module].b.T
            row, column = row + rank, column + width
    if adapter and not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise AdapterRefused(adapter.name, f"{site.name}: a weight does not fit fp16")
    return a, b
