# ruff: noqa: TID253 - builds models and graphs itself
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tiny_models import HIDDEN, LAYERS

from afx_export.adapter_files import read_adapter_file, write_adapter
from afx_export.adapters import Adapter, LoraPair, read_adapter
from afx_export.errors import BuilderFailed, CorruptModel, TargetNotFound
from afx_export.hf import linear_shapes
from afx_export.lora_graph import (
    Site,
    add_branches,
    find_sites,
    pack,
    site_matrices,
    sites_of,
)

from .conftest import Exported


def _graph(folder: Path) -> onnx.GraphProto:
    return onnx.load(folder / "model.onnx", load_external_data=False).graph


def _site(modules: tuple[tuple[str, int], ...], element_type: int = TensorProto.FLOAT) -> Site:
    return Site(
        name="model.layers.0.attn.qkv_proj",
        node="n",
        in_features=3,
        out_features=sum(width for _, width in modules),
        element_type=element_type,
        modules=modules,
    )


def _adapter(**pairs: LoraPair) -> Adapter:
    return Adapter(name="x", folder=Path(), pairs=pairs, weights_sha256="0" * 64)


def _pair(random: np.random.Generator, rank: int, out: int) -> LoraPair:
    a = random.normal(size=(rank, 3)).astype(np.float32)
    return LoraPair(a=a, b=random.normal(size=(out, rank)).astype(np.float32))


def test_only_touched_projections_get_a_branch(exported: Exported) -> None:
    graph = _graph(exported.bundle)
    # router touches all linear layers: packed qkv, o, gate, up, down in each layer.
    branches = [n for n in graph.node if n.name.endswith("/lora_Add")]
    assert len(branches) == 5 * LAYERS
    names = {value.name for value in graph.input}
    assert "model.layers.0.attn.qkv_proj.lora_A.weight" in names
    assert "model.layers.1.mlp.down_proj.lora_B.weight" in names


def test_defaults_have_rank_0_and_the_rank_is_symbolic(exported: Exported) -> None:
    graph = _graph(exported.bundle)
    inputs = {value.name: value.type.tensor_type for value in graph.input}
    defaults = {init.name: tuple(init.dims) for init in graph.initializer}
    name = "model.layers.0.attn.qkv_proj.lora_A.weight"
    assert defaults[name] == (HIDDEN, 0)
    assert inputs[name].shape.dim[0].dim_value == HIDDEN
    assert inputs[name].shape.dim[1].dim_param
    assert inputs[name].elem_type == TensorProto.FLOAT


def test_no_value_of_the_edited_graph_is_written_twice(exported: Exported) -> None:
    nodes = _graph(exported.bundle).node
    written = [name for node in nodes for name in node.output if name]
    assert len(written) == len(set(written))


def test_sharing_an_input_fuses_a_and_makes_b_block_diagonal() -> None:
    random = np.random.default_rng(0)
    q, v = _pair(random, 2, 4), _pair(random, 1, 2)
    site = _site((("q", 4), ("k", 2), ("v", 2)))
    a, b = site_matrices(_adapter(q=q, v=v), site)
    assert (a.shape, b.shape) == ((3, 3), (3, 8))
    x = random.normal(size=(5, 3)).astype(np.float32)
    wanted = np.concatenate([x @ q.a.T @ q.b.T, np.zeros((5, 2)), x @ v.a.T @ v.b.T], axis=1)
    np.testing.assert_allclose(x @ a @ b, wanted, rtol=1e-5, atol=1e-6)


def test_an_untouched_site_and_the_null_adapter_have_rank_0() -> None:
    site = _site((("q", 4),))
    for adapter in (None, _adapter(other=_pair(np.random.default_rng(0), 2, 4))):
        a, b = site_matrices(adapter, site)
        assert (a.shape, b.shape) == ((3, 0), (0, 4))


def test_fp16_graphs_get_fp16_matrices_and_refuse_what_does_not_fit() -> None:
    from afx_export.errors import AdapterRefused

    site = _site((("q", 4),), TensorProto.FLOAT16)
    pair = _pair(np.random.default_rng(0), 2, 4)
    assert site_matrices(_adapter(q=pair), site)[0].dtype == np.float16
    with pytest.raises(AdapterRefused, match="does not fit fp16"):
        site_matrices(_adapter(q=LoraPair(a=pair.a, b=pair.b * 1e6)), site)


def test_a_target_without_projection_is_refused_by_name(exported: Exported) -> None:
    graph = _graph(exported.bundle)
    sites = find_sites(graph, linear_shapes(exported.model))
    with pytest.raises(TargetNotFound, match=r"'model\.layers\.7\.mlp\.router'") as caught:
        sites_of(sites, [_adapter(**{"model.layers.7.mlp.router": LoraPair(a=None, b=None)})])  # type: ignore[arg-type]
    assert "q_proj" in caught.value.available


def test_a_projection_whose_shape_contradicts_the_weights_is_refused(exported: Exported) -> None:
    shapes = dict(linear_shapes(exported.model))
    shapes["model.layers.0.mlp.up_proj"] = (7, HIDDEN)
    with pytest.raises(BuilderFailed, match="up_proj"):
        find_sites(_graph(exported.bundle), shapes)


def test_unpacked_projections_are_sites_of_their_own() -> None:
    weights = [helper.make_tensor("w", TensorProto.FLOAT, (3, 4), bytes(48), raw=True)]
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="/model/layers.0/attn/q_proj/MatMul")
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        weights,
    )
    sites = find_sites(graph, {"model.layers.0.self_attn.q_proj": (4, 3)})
    assert [site.modules for site in sites] == [(("model.layers.0.self_attn.q_proj", 4),)]
    add_branches(graph, sites)
    assert [n.op_type for n in graph.node] == ["MatMul", "MatMul", "MatMul", "Add"]
    assert graph.node[-1].output[0] == "y"


def test_equal_input_gives_equal_adapter_bytes(exported: Exported, tmp_path: Path) -> None:
    shapes = linear_shapes(exported.model)
    sites = find_sites(_graph(exported.bundle), shapes)
    adapter = read_adapter(exported.adapters / "router", "router", shapes)
    for name in ("1", "2"):
        write_adapter(tmp_path / name, pack(adapter, sites), sites)
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()
    assert (tmp_path / "1").read_bytes() == (
        exported.bundle / "adapters/router.onnx_adapter"
    ).read_bytes()


def test_every_adapter_file_names_every_site(exported: Exported) -> None:
    files = sorted((exported.bundle / "adapters").iterdir())
    names = {path.name: set(read_adapter_file(path)) for path in files}
    assert set(names) == {f"{n}.onnx_adapter" for n in ("base", "router", "picker", "values")}
    assert len({frozenset(found) for found in names.values()}) == 1


def test_a_file_that_is_no_adapter_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"no adapter" * 20)
    with pytest.raises(CorruptModel, match="onnx_adapter"):
        read_adapter_file(tmp_path / "x")
