import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tiny_models import save_adapter

from afx_export.adapters import find_adapters, read_adapter
from afx_export.errors import AdapterRefused
from afx_export.hf import linear_shapes
from agentflux.errors import ConfigError

Q0 = "model.layers.0.self_attn.q_proj"


@pytest.fixture(scope="module")
def shapes(model: Path) -> Any:
    return linear_shapes(model)


def _edit(folder: Path, **changes: Any) -> None:
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    for key, value in changes.items():
        tensors[key.replace("__", ".")] = value
    save_file(tensors, path)


def test_alpha_over_rank_is_folded_into_b(tmp_path: Path, shapes: Any) -> None:
    folder = save_adapter(tmp_path / "a", rank=4, lora_alpha=12)
    raw = load_file(folder / "adapter_model.safetensors")
    pair = read_adapter(folder, "a", shapes).pairs[Q0]
    np.testing.assert_allclose(pair.b, raw[f"base_model.model.{Q0}.lora_B.weight"] * 3, rtol=1e-6)


def test_rslora_scales_by_the_root_of_the_rank(tmp_path: Path, shapes: Any) -> None:
    folder = save_adapter(tmp_path / "a", rank=4, lora_alpha=12, use_rslora=True)
    raw = load_file(folder / "adapter_model.safetensors")
    pair = read_adapter(folder, "a", shapes).pairs[Q0]
    wanted = raw[f"base_model.model.{Q0}.lora_B.weight"] * (12 / math.sqrt(4))
    np.testing.assert_allclose(pair.b, wanted, rtol=1e-6)


def test_rank_and_alpha_patterns_match_the_end_of_a_path(tmp_path: Path, shapes: Any) -> None:
    folder = save_adapter(
        tmp_path / "a", ranks={"q_proj": 2}, alpha_pattern={r"layers\.0\.self_attn\.q_proj": 10}
    )
    raw = load_file(folder / "adapter_model.safetensors")
    adapter = read_adapter(folder, "a", shapes)
    first, second = adapter.pairs[Q0], adapter.pairs[Q0.replace("0", "1")]
    assert first.a.shape[0] == 2
    assert adapter.rank == 4
    raw_b = raw[f"base_model.model.{Q0}.lora_B.weight"]
    np.testing.assert_allclose(first.b, raw_b * 5, rtol=1e-6)
    raw_b = raw[f"base_model.model.{Q0.replace('0', '1')}.lora_B.weight"]
    np.testing.assert_allclose(second.b, raw_b * 4, rtol=1e-6)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"peft_type": "IA3"}, "'IA3'; only LORA"),
        ({"use_dora": True}, "DoRA"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"bias": "all"}, "bias is 'all'"),
        ({"lora_bias": True}, "lora_bias"),
        ({"use_qalora": True}, "QALoRA"),
        ({"trainable_token_indices": [1]}, "embedding"),
        ({"alora_invocation_tokens": ["x"]}, "must be a list of token ids"),
        ({"modules_to_save": ["lm_head"]}, "lm_head"),
        ({"use_rslora": "no"}, "use_rslora must be true or false"),
        ({"use_new_method": True}, "'use_new_method', which this version does not know"),
        ({"r": 4.5}, "r must be a whole number"),
        ({"r": 10**400}, "r must be a whole number"),
        ({"lora_alpha": 1e60}, "overflows when scaled"),
        ({"rank_pattern": {"q_proj": -1}}, "rank_pattern must map"),
        ({"rank_pattern": {"(a+)+x": 4}}, "repeats too much"),
        ({"rank_pattern": {".*.*.*.*x": 4}}, "repeats too much"),
        ({"init_lora_weights": "pissa"}, "'pissa', which changes the base"),
        ({"init_lora_weights": ["x"]}, "changes the base"),
        ({"r": 0}, "r must be a whole number"),
        ({"lora_alpha": "8"}, "lora_alpha must be a positive number"),
        ({"lora_alpha": math.inf}, "lora_alpha must be a positive number"),
        ({"rank_pattern": {"q_proj": None}}, "rank_pattern must map"),
        ({"rank_pattern": {"(": 4}}, "no regular expression"),
        ({"rank_pattern": {"q_proj": 3}}, r"lora_A is \(4, 64\), not \(3, 64\)"),
    ],
)
def test_what_lora_cannot_express_is_refused_by_name(
    tmp_path: Path, shapes: Any, config: dict[str, Any], reason: str
) -> None:
    folder = save_adapter(tmp_path / "a", **config)
    with pytest.raises(AdapterRefused, match=reason) as caught:
        read_adapter(folder, "a", shapes)
    assert caught.value.adapter == "a"


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_weight_that_is_not_finite_is_refused(tmp_path: Path, shapes: Any, bad: float) -> None:
    folder = save_adapter(tmp_path / "a")
    key = f"base_model.model.{Q0}.lora_A.weight"
    _edit(folder, **{key: np.full((4, 64), bad, np.float32)})
    with pytest.raises(AdapterRefused, match="NaN or infinity"):
        read_adapter(folder, "a", shapes)


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("base_model.model.model.layers.9.self_attn.q_proj.lora_A.weight", "layers.9"),
        ("base_model.model.model.layers.0.self_attn.z_proj.lora_A.weight", "z_proj"),
        (f"base_model.model.{Q0}.lora_magnitude_vector", "no LoRA matrix"),
        ("base_model.model.model.embed_tokens.lora_embedding_A", "no LoRA matrix"),
        ("base_model.model.lm_head.weight", "no LoRA matrix"),
    ],
)
def test_an_unknown_target_is_refused_by_name(
    tmp_path: Path, shapes: Any, key: str, reason: str
) -> None:
    folder = save_adapter(tmp_path / "a")
    _edit(folder, **{key: np.zeros((4, 64), np.float32)})
    with pytest.raises(AdapterRefused, match=reason):
        read_adapter(folder, "a", shapes)


def test_a_b_that_is_missing_is_refused(tmp_path: Path, shapes: Any) -> None:
    folder = save_adapter(tmp_path / "a")
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    del tensors[f"base_model.model.{Q0}.lora_B.weight"]
    save_file(tensors, path)
    with pytest.raises(AdapterRefused, match="lora_B is None"):
        read_adapter(folder, "a", shapes)


def test_a_matrix_of_the_wrong_shape_is_refused(tmp_path: Path, shapes: Any) -> None:
    folder = save_adapter(tmp_path / "a")
    _edit(folder, **{f"base_model.model.{Q0}.lora_A.weight": np.zeros((4, 63), np.float32)})
    with pytest.raises(AdapterRefused, match=r"lora_A is \(4, 63\), not \(4, 64\)"):
        read_adapter(folder, "a", shapes)


def test_a_pickle_is_refused_without_opening_it(tmp_path: Path, shapes: Any) -> None:
    folder = save_adapter(tmp_path / "a")
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(AdapterRefused, match="pickle"):
        read_adapter(folder, "a", shapes)


def test_the_tokens_of_an_activated_lora_are_kept(tmp_path: Path, shapes: Any) -> None:
    folder = save_adapter(tmp_path / "a", alora_invocation_tokens=[257, 3])
    assert read_adapter(folder, "a", shapes).invocation_tokens == (257, 3)


def test_a_truncated_file_is_refused(tmp_path: Path, shapes: Any) -> None:
    folder = save_adapter(tmp_path / "a")
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(AdapterRefused, match="unreadable"):
        read_adapter(folder, "a", shapes)


@pytest.mark.parametrize("text", ["{", "[]", '"x"'])
def test_a_config_that_is_no_object_is_refused(tmp_path: Path, shapes: Any, text: str) -> None:
    folder = save_adapter(tmp_path / "a")
    (folder / "adapter_config.json").write_text(text, encoding="utf-8")
    with pytest.raises(AdapterRefused, match=r"adapter_config\.json"):
        read_adapter(folder, "a", shapes)


def test_half_precision_weights_are_read_as_fp32(tmp_path: Path, shapes: Any) -> None:
    import torch
    from safetensors.torch import load_file as load_torch
    from safetensors.torch import save_file as save_torch

    folder = save_adapter(tmp_path / "a")
    path = folder / "adapter_model.safetensors"
    for dtype in (torch.float16, torch.bfloat16):
        save_torch({k: v.to(dtype) for k, v in load_torch(path).items()}, path)
        assert read_adapter(folder, "a", shapes).pairs[Q0].a.dtype == np.float32


def test_folders_of_adapters_and_single_adapters_are_found(tmp_path: Path) -> None:
    one = save_adapter(tmp_path / "set" / "one")
    two = save_adapter(tmp_path / "set" / "two")
    assert find_adapters((tmp_path / "set", two)) == (one, two)
    with pytest.raises(ConfigError, match="holds none"):
        find_adapters((tmp_path / "nothing",))


def test_the_config_of_a_fixture_is_what_peft_writes(tmp_path: Path) -> None:
    from peft import LoraConfig

    folder = save_adapter(tmp_path / "a")
    name = "adapter_config.json"
    ours = json.loads((folder / name).read_text(encoding="utf-8"))
    LoraConfig.from_pretrained(str(folder)).save_pretrained(str(tmp_path / "b"))
    theirs = json.loads((tmp_path / "b" / name).read_text(encoding="utf-8"))
    assert ours.keys() <= theirs.keys()
    for config in (ours, theirs):
        config["target_modules"] = sorted(config["target_modules"])  # PEFT keeps a set
    assert {key: theirs[key] for key in ours} == ours
