"""One conformance suite for the three adapter modes: the same engine port, the same results."""

import itertools
import random
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from afx_export.adapter_modes import locate, read_adapters, read_base, write_adapters
from afx_export.adapters import read_adapter
from afx_export.hf import linear_shapes
from afx_export.lora_graph import find_sites, pack, sites_of
from afx_export.stage_prompts import CATALOG, Check, checks_of
from afx_export.verify import verify
from agentflux.contracts.bundle import Manifest, read_manifest
from agentflux.contracts.grammar import arguments_grammar
from agentflux.engines.ort import OrtEngine
from agentflux.errors import AdapterNotFound, EngineError, FileMismatch, ManifestInvalid
from agentflux.ports import Choosing, Generation, Segment

from .conftest import Exported

MODES = ("runtime", "stacked", "merged")
NAMES = ["read_text_file", "list_directory", "move_file", "none"]


@pytest.fixture(scope="module")
def engines(bundles: dict[str, Path]) -> Iterator[dict[str, OrtEngine]]:
    opened = {m: OrtEngine(path, read_manifest(path), threads=1) for m, path in bundles.items()}
    yield opened
    for engine in opened.values():
        engine.close()


def _segments(check: Check) -> list[Segment]:
    adapted = [Segment(text=text, adapter=check.adapter) for text in check.adapted]
    return [Segment(text=text, keep=True) for text in check.base] + adapted


def _checks(manifest: Manifest) -> list[Check]:
    """Every adapter's stage prompts, and the same prompts under the base alone, shuffled."""
    mine = [check for entry in manifest.adapters for check in checks_of(manifest.chat, entry)]
    checks = [*mine, *(replace(check, adapter=None) for check in mine[::3])]
    random.Random(5).shuffle(checks)
    return checks


@pytest.mark.parametrize("mode", ["runtime", "merged"])
def test_a_damaged_adapter_is_refused_when_it_is_first_used(
    bundles: dict[str, Path], mode: str, tmp_path: Path
) -> None:
    bundle = shutil.copytree(bundles[mode], tmp_path / "bundle")
    manifest = read_manifest(bundle)
    whole, damaged = manifest.adapters[0], manifest.adapters[1]
    path = bundle / str(damaged.file)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    engine = OrtEngine(bundle, manifest, threads=1)
    for name in (None, whole.name):
        engine.generate(Generation(segments=[Segment(text="a b", adapter=name)], max_tokens=2))
    with pytest.raises(FileMismatch, match=damaged.name):
        engine.generate(
            Generation(segments=[Segment(text="a b", adapter=damaged.name)], max_tokens=2)
        )
    engine.close()


def test_all_modes_decode_the_same_tokens_and_make_the_same_choices(
    engines: dict[str, OrtEngine], exported: Exported
) -> None:
    tool = CATALOG["filesystem"][0]
    for check in _checks(exported.manifest):
        segments = _segments(check)
        texts, choices, grammars = set(), set(), set()
        for engine in engines.values():
            texts.add(engine.generate(Generation(segments=segments, max_tokens=12)).text)
            scores = engine.choose(Choosing(segments=segments, candidates=NAMES))
            choices.add((scores.best, round(scores.probability, 3)))
            grammar = arguments_grammar(tool)
            bounded = Generation(segments=segments, max_tokens=24, grammar=grammar)
            grammars.add(engine.generate(bounded).text)
        assert (len(texts), len(choices), len(grammars)) == (1, 1, 1), check


def test_reuse_changes_no_result_in_any_mode(
    engines: dict[str, OrtEngine], bundles: dict[str, Path], exported: Exported
) -> None:
    for mode, engine in engines.items():
        fresh = OrtEngine(bundles[mode], read_manifest(bundles[mode]), threads=1)
        for check in _checks(exported.manifest)[:6]:
            warm = engine.logits(_segments(check))
            fresh.pool.clear()
            cold = fresh.logits(_segments(check))
            # int8 activations: another batch shape rounds otherwise.
            assert np.abs(warm - cold).max() < 0.2, (mode, check.adapter)
            assert warm.argmax() == cold.argmax()


def test_one_cache_serves_all_adapters_where_one_graph_does(
    bundles: dict[str, Path],
) -> None:
    reused = {}
    for mode, path in bundles.items():
        engine = OrtEngine(path, read_manifest(path), threads=1)
        static = Segment(text="<|im_start|>system\ntools and more tools<|im_end|>\n", keep=True)
        for adapter in ("router", "values"):
            tail = Segment(text="<|im_start|>assistant\nTool:\n", adapter=adapter)
            usage = engine.generate(Generation(segments=[static, tail], max_tokens=1)).usage
        reused[mode] = (usage.reused_tokens == len(engine.encode(static.text)), engine.pool.lines)
        engine.close()
    assert reused == {"runtime": (True, 1), "stacked": (True, 1), "merged": (False, 2)}


def test_an_unknown_adapter_is_named_in_every_mode(engines: dict[str, OrtEngine]) -> None:
    for engine in engines.values():
        with pytest.raises(AdapterNotFound, match="'nobody'.*'picker'"):
            engine.logits([Segment(text="x", adapter="nobody")])


def test_a_merged_bundle_refuses_two_adapters_in_one_request(
    engines: dict[str, OrtEngine],
) -> None:
    segments = [Segment(text="ab", adapter="router"), Segment(text="cd", adapter="values")]
    for mode in ("runtime", "stacked"):
        engines[mode].logits(segments)
    with pytest.raises(EngineError, match="router, values cannot share"):
        engines["merged"].logits(segments)


def test_the_certificate_holds_in_every_mode(bundles: dict[str, Path], exported: Exported) -> None:
    for mode, path in bundles.items():
        manifest = read_manifest(path)
        assert manifest.runtime.adapter_mode == mode
        certificate = manifest.certificate
        assert certificate is not None
        assert [row.equal_tokens for row in certificate.fp32] == [36] * 4
    again = verify(bundles["stacked"], model=str(exported.model)).certificate
    assert again is not None
    assert [row.equal_tokens for row in again.fp32] == [36] * 4


def test_the_matrices_come_back_bit_for_bit_in_every_mode(
    bundles: dict[str, Path], exported: Exported
) -> None:
    shapes = linear_shapes(exported.model)
    graph = read_base(exported.bundle).graph
    for path in bundles.values():
        manifest = read_manifest(path)
        found = read_adapters(path, manifest.adapters, manifest.runtime.adapter_mode)
        for entry in manifest.adapters:
            adapter = read_adapter(exported.adapters / entry.name, entry.name, shapes)
            wanted = pack(adapter, sites_of(find_sites(graph, shapes), [adapter]))
            assert set(found[entry.name]) == set(wanted)
            for site, matrices in wanted.items():
                for mine, theirs in zip(found[entry.name][site], matrices, strict=True):
                    np.testing.assert_array_equal(mine, theirs)


def test_stripping_the_branches_gives_the_same_base_graph_in_every_mode(
    bundles: dict[str, Path],
) -> None:
    graphs = [read_base(path).SerializeToString() for path in bundles.values()]
    graphs.append(
        onnx.load(bundles["merged"] / "model.onnx", load_external_data=False).SerializeToString()
    )
    assert all(one == other for one, other in itertools.pairwise(graphs))


def test_a_sparse_site_stacks_only_the_adapters_that_touch_it(bundles: dict[str, Path]) -> None:
    graph = onnx.load(bundles["stacked"] / "model.onnx", load_external_data=False).graph
    stacks = {init.name: tuple(init.dims) for init in graph.initializer if ".stack" in init.name}
    rows = {name.split(".lora_A")[0]: dims[0] for name, dims in stacks.items() if "lora_A" in name}
    # router touches all, picker q and v, values k and down.
    assert rows["model.layers.0.attn.qkv_proj"] == 4
    assert rows["model.layers.0.mlp.down_proj"] == 3
    assert rows["model.layers.0.attn.o_proj"] == 2
    # The packed ranks are 12, 6 and 4: padded to the largest, not to their sum.
    assert stacks["model.layers.0.attn.qkv_proj.lora_A.weight.stack"][2] == 12


def test_merged_graphs_share_the_weights_file(bundles: dict[str, Path]) -> None:
    folder = bundles["merged"]
    weights = (folder / "model.onnx.data").stat().st_size
    graphs = sorted(folder.glob("adapter.*.onnx"))
    assert [path.name for path in graphs] == [
        "adapter.picker.onnx",
        "adapter.router.onnx",
        "adapter.values.onnx",
    ]
    assert all(path.stat().st_size < weights for path in graphs)
    locations = {
        entry.value
        for path in graphs
        for init in onnx.load(path, load_external_data=False).graph.initializer
        for entry in init.external_data
        if entry.key == "location"
    }
    assert locations == {"model.onnx.data"}


def test_rows_that_do_not_count_from_one_are_refused(
    bundles: dict[str, Path], tmp_path: Path
) -> None:
    text = (bundles["stacked"] / "afx.json").read_text(encoding="utf-8")
    (tmp_path / "afx.json").write_text(text.replace('"index": 3', '"index": 7'), encoding="utf-8")
    with pytest.raises(ManifestInvalid, match="rows must be 1 to 3"):
        read_manifest(tmp_path)


@pytest.mark.model
def test_the_sample_s_bundle_decodes_the_same_in_every_mode(
    desk_bundle: Path, tmp_path: Path
) -> None:
    manifest = read_manifest(desk_bundle)
    chosen = [manifest.adapter_for("route"), manifest.adapter_for("select", "filesystem")]
    assert None not in chosen
    packed = read_adapters(desk_bundle, chosen, "runtime")
    checks = [check for entry in chosen for check in checks_of(manifest.chat, entry)[:2]]
    texts: dict[str, list[str]] = {}
    for mode in MODES:
        engine = _converted(desk_bundle, tmp_path / mode, manifest, packed, mode)
        requests = [Generation(segments=_segments(c), max_tokens=8) for c in checks]
        texts[mode] = [engine.generate(request).text for request in requests]
        engine.close()
    assert texts["runtime"] == texts["stacked"] == texts["merged"]


def _converted(bundle, out, manifest, packed, mode) -> OrtEngine:
    """Write a bundle's adapters again in another mode, without a certificate."""
    from afx_export.bundle import list_files
    from afx_export.files import link_or_copy

    out.mkdir()
    base = read_base(bundle)
    touched = {name for one in packed.values() for name in one}
    from agentflux.contracts.cache import model_folder

    shapes = linear_shapes(model_folder(manifest.base_model.id))
    sites = [site for site in find_sites(base.graph, shapes) if site.name in touched]
    write_adapters(base, out, sites, packed, mode)
    for path in bundle.iterdir():
        if path.is_file() and not (out / path.name).exists() and path.name != "afx.json":
            link_or_copy(path, out / path.name)
    entries = locate([entry for entry in manifest.adapters if entry.name in packed], mode)
    runtime = manifest.runtime.model_copy(update={"adapter_mode": mode})
    changed = manifest.model_copy(
        update={"adapters": entries, "runtime": runtime, "files": list_files(out)}
    )
    return OrtEngine(out, changed, threads=2)
