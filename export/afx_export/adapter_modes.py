"""Put adapters into a bundle in the profile's adapter mode, and read them back."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx

from afx_export.adapter_files import SUFFIX, read_adapter_file, write_adapter
from afx_export.lora_graph import Packed, Site, add_branches, strip_branches
from afx_export.merged_graph import add_constants, read_constants
from afx_export.stacked_graph import STACKS, add_stacks, read_stacks
from afx_profiles import AdapterMode
from agentflux.contracts.bundle import NULL_ADAPTER_FILE, AdapterEntry
from agentflux.contracts.switching import GRAPH

_FOLDER = "adapters"


def locate(entries: Sequence[AdapterEntry], mode: AdapterMode) -> tuple[AdapterEntry, ...]:
    """Say where this mode keeps each adapter: its matrices, its graph, or its row in the graph."""
    files = {"runtime": f"{_FOLDER}/{{}}{SUFFIX}", "merged": _merged_file("{}")}
    file = files.get(mode)
    return tuple(
        entry.model_copy(
            update={
                "file": file.format(entry.name) if file else None,
                "index": row if mode == "stacked" else None,
            }
        )
        for row, entry in enumerate(entries, start=1)
    )


def is_adapter_part(path: str) -> bool:
    """Whether a bundle's file holds adapters or branches; all others are the base model's."""
    merged = path.startswith("adapter.") and path.endswith(".onnx")
    return path in (GRAPH, STACKS) or path.startswith(f"{_FOLDER}/") or merged


def write_adapters(
    base: onnx.ModelProto,
    out: Path,
    sites: Sequence[Site],
    adapters: Mapping[str, Packed],
    mode: AdapterMode,
) -> None:
    """Write the graph, or graphs, and all matrices into `out`. `base` is changed.

    Stacked rows follow the order of `adapters`. Without adapters the base graph is written.
    """
    if not adapters:
        onnx.save(base, out / GRAPH)
    elif mode == "runtime":
        _write_runtime(base, out, sites, adapters)
    elif mode == "stacked":
        add_stacks(base.graph, sites, tuple(adapters.values()), out)
        onnx.save(base, out / GRAPH)
    else:
        onnx.save(base, out / GRAPH)
        for name, packed in adapters.items():
            model = onnx.ModelProto.FromString(base.SerializeToString())
            add_constants(model.graph, tuple(sites), packed)
            onnx.save(model, out / _merged_file(name))


def _write_runtime(
    base: onnx.ModelProto, out: Path, sites: Sequence[Site], adapters: Mapping[str, Packed]
) -> None:
    add_branches(base.graph, sites)
    onnx.save(base, out / GRAPH)
    (out / _FOLDER).mkdir()
    write_adapter(out / NULL_ADAPTER_FILE, {}, sites)
    for name, packed in adapters.items():
        write_adapter(out / _FOLDER / f"{name}{SUFFIX}", packed, sites)


def _merged_file(name: str) -> str:
    return f"adapter.{name}.onnx"


def read_base(folder: Path) -> onnx.ModelProto:
    """Return a bundle's graph without its branches: the base graph. Weights stay in their file."""
    model = _load(folder / GRAPH)
    strip_branches(model.graph)
    return model


def read_adapters(
    folder: Path, entries: Sequence[AdapterEntry], mode: AdapterMode
) -> dict[str, Packed]:
    """Return the matrices of a bundle's adapters, bit for bit as they were packed.

    Raises:
        CorruptModel: an adapter file is not one.
    """
    if mode == "stacked":
        rows = read_stacks(_load(folder / GRAPH).graph, folder, len(entries))
        return {entry.name: rows[(entry.index or 1) - 1] for entry in entries}
    if mode == "merged":
        return {
            entry.name: read_constants(_load(folder / str(entry.file)).graph) for entry in entries
        }
    return {entry.name: _read_file(folder / str(entry.file)) for entry in entries}


def sites_in(folder: Path, entries: Sequence[AdapterEntry], mode: AdapterMode) -> tuple[Site, ...]:
    """Return the sites that a bundle's graphs have branches at, in the graph's order.

    They say where a branch is and how wide; which modules of the model it packs is not known here.
    """
    base = read_base(folder).graph
    types = {info.name: info.type.tensor_type.elem_type for info in base.value_info}
    place = {node.name: (i, node.output[0]) for i, node in enumerate(base.node) if node.output}
    widths = {
        name: (a.shape[0], b.shape[1])
        for packed in read_adapters(folder, entries, mode).values()
        for name, (a, b) in packed.items()
    }
    files = [str(entry.file) for entry in entries] if mode == "merged" else [GRAPH]
    nodes = {
        node.input[1].removesuffix(".lora_A.weight"): node.name.removesuffix("/lora_A")
        for file in files
        for node in _load(folder / file).graph.node
        if node.name.endswith("/lora_A")
    }
    found = [
        Site(
            name=name,
            node=nodes[name],
            in_features=widths[name][0],
            out_features=widths[name][1],
            element_type=types.get(place[nodes[name]][1], onnx.TensorProto.FLOAT),
            modules=(),
        )
        for name in nodes
        if name in widths
    ]
    return tuple(sorted(found, key=lambda site: place[site.node][0]))


def _read_file(path: Path) -> Packed:
    arrays = read_adapter_file(path)
    sites = (name.removesuffix(".lora_A.weight") for name in arrays if ".lora_A" in name)
    return {
        site: (arrays[f"{site}.lora_A.weight"], arrays[f"{site}.lora_B.weight"])
        for site in sites
        if arrays[f"{site}.lora_A.weight"].shape[1]
    }


def _load(path: Path) -> onnx.ModelProto:
    return onnx.load(path, load_external_data=False)
