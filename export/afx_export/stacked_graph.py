"""Stacked mode: all adapters' matrices in the graph, and one graph input that picks a row.

```
adapter_id ── Gather(stack of A) ─┐
x ──────────────────────────── MatMul ── MatMul ── Add ── (the projection's old output)
adapter_id ── Gather(stack of B) ──────────┘
```

A stack of A is (rows, in_features, r), of B (rows, r, out_features); row 0 is the base, all zeros;
r is the site's largest rank, smaller adapters are padded with zeros. Where only some adapters touch
a site, only they have rows there: a small table turns `adapter_id` into the site's row. The stacks
are a file of their own, so the weights' file stays as it is when an adapter is added.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import load_external_data_for_tensor, set_external_data

from afx_export.adapters import FloatArray
from afx_export.lora_graph import FLOATS, Packed, Site, branch, insert, replace_nodes
from agentflux.contracts.switching import ADAPTER_ID

STACKS = "adapters.data"
# Memory pages, so that the runtime can map the file.
_ALIGNMENT = 4096


def add_stacks(
    graph: onnx.GraphProto, sites: Sequence[Site], adapters: Sequence[Packed], out: Path
) -> None:
    """Add the branches in place, and write the stacks beside the graph, into `out`.

    The first adapter becomes `adapter_id` 1.
    """
    rows = {site.name: _rows(site, adapters) for site in sites}
    tables = {table: f"site_rows.lora_{i}" for i, table in enumerate(dict.fromkeys(rows.values()))}
    identity = tuple(range(len(adapters) + 1))

    def gathered(node: onnx.NodeProto, site: Site) -> list[onnx.NodeProto]:
        table = rows[site.name]
        index = ADAPTER_ID if table == identity else f"{tables[table]}.row"
        gathers = [
            helper.make_node("Gather", [_stack(name), index], [name], name=f"{node.name}/lora_{i}")
            for i, name in enumerate((site.a_name, site.b_name))
        ]
        return [*gathers, *branch(node, site)]

    insert(graph, sites, gathered)
    _declare_tables(graph, {t: name for t, name in tables.items() if t != identity})
    # No default value: ONNX Runtime GenAI binds an input only if the graph requires it.
    graph.input.append(helper.make_tensor_value_info(ADAPTER_ID, TensorProto.INT64, [1]))
    with (out / STACKS).open("wb") as stream:
        for site in sites:
            for name, stack in zip(
                (site.a_name, site.b_name), _stacks(site, rows[site.name], adapters), strict=True
            ):
                graph.initializer.append(_stored(_stack(name), stack, site.element_type, stream))


def read_stacks(
    graph: onnx.GraphProto, folder: Path, adapters: int
) -> tuple[dict[str, tuple[FloatArray, FloatArray]], ...]:
    """Return every adapter's matrices by site name, without the padding."""
    found = {init.name: init for init in graph.initializer}
    tables = {
        f"{name}.row": numpy_helper.to_array(init)
        for name, init in found.items()
        if name.startswith("site_rows.lora_")
    }
    packed: tuple[dict[str, tuple[FloatArray, FloatArray]], ...]
    packed = tuple({} for _ in range(adapters))
    for node in graph.node:
        if node.op_type != "Gather" or not node.name.endswith("/lora_0"):
            continue
        site = node.output[0].removesuffix(".lora_A.weight")
        a = _load(found[node.input[0]], folder)
        b = _load(found[_stack(f"{site}.lora_B.weight")], folder)
        table = tables.get(node.input[1], np.arange(adapters + 1))
        for adapter in range(adapters):
            if row := int(table[adapter + 1]):
                rank = _rank(a[row], b[row])
                packed[adapter][site] = (a[row][:, :rank].copy(), b[row][:rank].copy())
    return packed


def _rows(site: Site, adapters: Sequence[Packed]) -> tuple[int, ...]:
    """Return the row of this site's stacks for every `adapter_id`; 0 where it is not touched."""
    table, used = [0], 0
    for packed in adapters:
        used += site.name in packed
        table.append(used if site.name in packed else 0)
    return tuple(table)


def _declare_tables(graph: onnx.GraphProto, tables: dict[tuple[int, ...], str]) -> None:
    lookups: list[onnx.NodeProto] = []
    for table, name in tables.items():
        graph.initializer.append(numpy_helper.from_array(np.array(table, np.int64), name))
        lookup = helper.make_node("Gather", [name, ADAPTER_ID], [f"{name}.row"])
        lookup.name = f"/lora_{name}"
        lookups.append(lookup)
    replace_nodes(graph, [*lookups, *graph.node])


def _stacks(
    site: Site, table: Sequence[int], adapters: Sequence[Packed]
) -> tuple[FloatArray, FloatArray]:
    mine = [packed[site.name] for packed in adapters if site.name in packed]
    rank = max(a.shape[1] for a, _ in mine)
    dtype = FLOATS[site.element_type]
    a: FloatArray = np.zeros((max(table) + 1, site.in_features, rank), dtype)
    b: FloatArray = np.zeros((max(table) + 1, rank, site.out_features), dtype)
    for row, (low, high) in enumerate(mine, start=1):
        a[row, :, : low.shape[1]] = low
        b[row, : high.shape[0]] = high
    return a, b


def _stored(name: str, array: FloatArray, element_type: int, stream: BinaryIO) -> onnx.TensorProto:
    """Append an array to the stacks' file and return the tensor that points to it."""
    stream.write(b"\0" * (-stream.tell() % _ALIGNMENT))
    tensor = TensorProto(name=name, data_type=element_type, dims=array.shape, raw_data=b"")
    set_external_data(tensor, STACKS, offset=stream.tell(), length=array.nbytes)
    tensor.ClearField("raw_data")
    stream.write(array.tobytes())
    return tensor


def _load(tensor: onnx.TensorProto, folder: Path) -> FloatArray:
    loaded = onnx.TensorProto.FromString(tensor.SerializeToString())
    load_external_data_for_tensor(loaded, str(folder))
    return numpy_helper.to_array(loaded)


def _rank(a: FloatArray, b: FloatArray) -> int:
    """Count the columns of A and rows of B up to the last that is not padding."""
    used = np.flatnonzero(np.any(a != 0, axis=0) | np.any(b != 0, axis=1))
    return int(used[-1]) + 1 if used.size else 0


def _stack(name: str) -> str:
    return f"{name}.stack"
