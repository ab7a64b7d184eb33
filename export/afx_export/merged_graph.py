"""Merged mode: one graph an adapter, its matrices as constants over the shared weights' file.

```
x ── MatMul(A) ── Mul(adapter_gate) ── MatMul(B) ── Add ── (the projection's old output)
```

The last resort, for providers that take neither matrices nor a row number as graph input. The gate
keeps one thing: what stands before an adapter's activation boundary is computed by the same graph
with the gate at 0, since no cache can move from one graph to another.
"""

import numpy as np
import onnx
from onnx import helper, numpy_helper

from afx_export.adapters import FloatArray
from afx_export.lora_graph import FLOATS, Packed, Site, branch, insert
from agentflux.contracts.switching import ADAPTER_GATE


def add_constants(graph: onnx.GraphProto, sites: tuple[Site, ...], packed: Packed) -> None:
    """Add one adapter's branches in place. Sites that it does not touch stay as they are."""
    mine = [site for site in sites if site.name in packed]
    insert(graph, mine, _gated)
    kind = mine[0].element_type
    # No default value: ONNX Runtime GenAI binds an input only if the graph requires it.
    graph.input.append(helper.make_tensor_value_info(ADAPTER_GATE, kind, [1]))
    for site in mine:
        for name, matrix in zip((site.a_name, site.b_name), packed[site.name], strict=True):
            constant = np.ascontiguousarray(matrix, FLOATS[site.element_type])
            graph.initializer.append(numpy_helper.from_array(constant, name))


def read_constants(graph: onnx.GraphProto) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Return the adapter's matrices by site name."""
    found = {init.name: init for init in graph.initializer}
    return {
        (site := name.removesuffix(".lora_A.weight")): (
            numpy_helper.to_array(init),
            numpy_helper.to_array(found[f"{site}.lora_B.weight"]),
        )
        for name, init in found.items()
        if name.endswith(".lora_A.weight")
    }


def _gated(node: onnx.NodeProto, site: Site) -> list[onnx.NodeProto]:
    down, up, add = branch(node, site)
    gated = f"{down.output[0]}/on"
    gate = helper.make_node("Mul", [down.output[0], ADAPTER_GATE], [gated])
    gate.name = f"{node.name}/lora_gate"
    up.input[0] = gated
    return [down, gate, up, add]
