# ruff: noqa: TID253 - reads graphs itself
"""Is a bundle's graph well formed, and does it have one sound branch at every projection?"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
from onnx import TensorProto, defs

from afx_export.adapter_modes import read_base
from afx_export.lora_graph import Site, find_sites
from afx_export.quantization.graph import WITH_MEANS
from afx_profiles import AdapterMode
from agentflux.contracts.switching import ADAPTER_GATE, ADAPTER_ID

_FLOATS = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}

# Operators that this module has told the checker of; registered once in a process.
_KNOWN_HERE: set[str] = set()


def check_graph(path: Path) -> onnx.ModelProto:
    """Run the ONNX checker and strict shape inference; return the graph with inferred shapes."""
    model = onnx.load(path, load_external_data=False)
    _know_runtime_operators(model)
    onnx.checker.check_model(str(path))
    _forget_declared_shapes(model.graph)
    return onnx.shape_inference.infer_shapes(
        model, check_type=True, strict_mode=True, data_prop=True
    )


def _forget_declared_shapes(graph: onnx.GraphProto) -> None:
    """Keep declared shapes only of operators that ONNX cannot infer.

    The builder declares some wrong: constants as scalars, ReduceMean with its input's width. ONNX
    Runtime infers them itself, too.
    """
    inferable = {
        node.output[0]
        for node in graph.node
        if node.domain in ("", "ai.onnx")
        and node.op_type not in _KNOWN_HERE
        # A branch's sum has the declared shape of the projection, perhaps a MatMulNBits.
        and "/lora_" not in node.name
    }
    for value in [value for value in graph.value_info if value.name in inferable]:
        graph.value_info.remove(value)


def _know_runtime_operators(model: onnx.ModelProto) -> None:
    """Tell the checker of operators that ONNX Runtime keeps in ONNX's own domain.

    The builder writes SimplifiedLayerNormalization there; the ONNX specification has no such
    operator, so the checker refuses the graph of every model that has one.
    """
    version = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    for name in {node.op_type for node in model.graph.node if node.domain in ("", "ai.onnx")}:
        if not defs.has(name, version):
            defs.register_schema(_schema(name))
            _KNOWN_HERE.add(name)


def _schema(name: str) -> defs.OpSchema:
    many = defs.OpSchema.FormalParameterOption.Variadic
    parameter = defs.OpSchema.FormalParameter
    return defs.OpSchema(
        name,
        "",
        1,
        inputs=[parameter("inputs", "T", param_option=many)],
        outputs=[parameter("outputs", "T", param_option=many)],
        type_constraints=[("T", ["tensor(float)", "tensor(float16)"], "floats")],
        attributes=[
            defs.OpSchema.Attribute(a, defs.OpSchema.AttrType(t))
            for a, t in (("axis", 2), ("epsilon", 1), ("stash_type", 2))
        ],
    )


def check_sites(
    bundle: Path,
    files: Sequence[str],
    shapes: Mapping[str, tuple[int, int]],
    *,
    mode: AdapterMode,
    kind: str,
) -> int:
    """Check that every linear layer of the model is covered, and every branch.

    files: the graphs that have branches. kind: their float type. Returns how many branches the
    fullest graph has.
    """
    sites = {site.node: site for site in find_sites(read_base(bundle).graph, shapes)}
    covered = {module for site in sites.values() for module, _ in site.modules}
    assert covered == {name for name in shapes if ".layers." in name}
    found = 0
    for file in files:
        model = onnx.load(bundle / file, load_external_data=False)
        inferred = check_graph(bundle / file)
        nodes = {node.name: node for node in model.graph.node}
        branched = [name for name in sites if f"{name}/lora_Add" in nodes]
        for name in branched:
            _check_branch(sites[name], nodes, inferred.graph, _FLOATS[kind])
        _check_inputs(model.graph, [sites[name] for name in branched], mode)
        found = max(found, len(branched))
    return found


def _check_branch(
    site: Site,
    nodes: Mapping[str, onnx.NodeProto],
    inferred: onnx.GraphProto,
    wanted: int,
) -> None:
    projection = nodes[site.node]
    down, up, add = (nodes[f"{site.node}/lora_{part}"] for part in ("A", "B", "Add"))
    assert down.input[0] == projection.input[0].removesuffix(WITH_MEANS)
    assert set(add.input) == {projection.output[0], up.output[0]}
    readers = [n for n in nodes.values() if add.output[0] in n.input]
    assert readers, f"nothing reads {add.output[0]}"
    assert not any(projection.output[0] in n.input for n in nodes.values() if n.name != add.name)
    assert site.element_type == wanted
    known = {v.name: v.type.tensor_type for v in (*inferred.value_info, *inferred.output)}
    for output, width in ((down.output[0], None), (up.output[0], site.out_features)):
        assert known[output].elem_type == wanted
        dims = known[output].shape.dim
        assert len(dims) == 3
        assert width is None or dims[2].dim_value == width


def _check_inputs(graph: onnx.GraphProto, sites: list[Site], mode: str) -> None:
    names = {value.name for value in graph.input}
    matrices = {name for site in sites for name in (site.a_name, site.b_name)}
    defaults = {init.name for init in graph.initializer}
    extra = {"runtime": matrices, "stacked": {ADAPTER_ID}, "merged": {ADAPTER_GATE}}[mode]
    assert extra <= names
    # Matrices have defaults of rank 0; the runtime binds the others only if they are required.
    assert extra & defaults == (extra if mode == "runtime" else set())
    others = (matrices | {ADAPTER_ID, ADAPTER_GATE}) - extra
    assert not others & names
