import json
import re
import tomllib
from pathlib import Path

import pytest

from afx_profiles import ProfileError, describe_profiles, list_profiles, load_profile


@pytest.mark.parametrize("name", list_profiles())
def test_every_shipped_profile_is_valid_and_named_as_its_file(name: str) -> None:
    profile = load_profile(name)
    assert profile.name == name
    assert profile.verified


@pytest.mark.parametrize("name", list_profiles())
def test_every_profile_s_extra_installs_its_packages(name: str, repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))
    profile = load_profile(name)
    wanted = project["project"]["optional-dependencies"][profile.extra]
    assert [re.split(r"[<>=;\s]", one)[0] for one in wanted] == list(profile.packages)


@pytest.mark.parametrize("name", list_profiles())
def test_every_profile_says_how_far_it_was_verified(name: str) -> None:
    profile = load_profile(name)
    known = ("verified on CPU", "graph verified, not run on hardware", "not verified")
    assert profile.verified.partition(":")[0] in known
    assert profile.verified.startswith("verified on CPU") == (profile.provider == "cpu")


def test_all_devices_of_the_design_have_a_profile() -> None:
    assert list_profiles() == (
        "cpu-fp32",
        "cpu-int4",
        "cpu-int8",
        "cuda-fp16",
        "cuda-int4",
        "directml-fp16",
        "directml-int4",
        "openvino-int4",
        "qnn-int4",
        "trt-rtx-fp16",
        "webgpu-int4",
    )


def test_the_list_shows_every_profile_and_one_is_shown_in_full(tmp_path: Path) -> None:
    lines = describe_profiles().splitlines()
    assert [line.split()[0] for line in lines] == ["name", *list_profiles()]
    own = tmp_path / "npu.toml"
    own.write_text(
        'extends = "openvino-int4"\nname = "npu"\ndescription = "d"\nverified = "not verified"\n'
        '[provider_options]\ndevice_type = "NPU"\n',
        encoding="utf-8",
    )
    shown = dict(line.split(maxsplit=1) for line in describe_profiles([str(own)]).splitlines())
    assert shown["provider_options.device_type"] == "NPU"
    assert shown["builder.extra_options.block_size"] == "128"
    assert shown["plugin"] == "onnxruntime_ep_openvino"
    every = json.loads(describe_profiles(as_json=True))
    assert [one["name"] for one in every] == list(list_profiles())


def test_the_cpu_default_leaves_the_thread_count_to_the_device() -> None:
    profile = load_profile("cpu-int4")
    assert profile.session.intra_op_num_threads is None
    assert profile.context_tokens == 4096
    assert profile.kv_budget_bytes == 1 << 30
    assert profile.builder.arguments() == {"prune_lm_head": "true", "shared_embeddings": "true"}
    assert profile.quantization is not None
    assert (profile.quantization.block_size, profile.quantization.accuracy_level) == (32, 4)


def test_an_own_profile_inherits_and_overrides_key_by_key(tmp_path: Path) -> None:
    own = tmp_path / "kiosk.toml"
    own.write_text(
        'extends = "cpu-int4"\nname = "kiosk"\ndescription = "d"\nverified = "v"\n'
        "context_tokens = 1024\n[quantization]\nblock_size = 64\n",
        encoding="utf-8",
    )
    profile = load_profile(str(own))
    assert (profile.precision, profile.context_tokens) == ("int4", 1024)
    assert profile.quantization is not None
    assert (profile.quantization.block_size, profile.quantization.columns) == (64, True)
    assert profile.builder.arguments()["prune_lm_head"] == "true"


def test_a_child_must_state_what_was_verified_itself(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text('extends = "cpu-int4"\nname = "own"\ndescription = "d"\n', encoding="utf-8")
    with pytest.raises(ProfileError, match="verified"):
        load_profile(str(own))


def test_a_relative_parent_is_found_beside_its_child(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(
        'extends = "cpu-fp32"\nname = "a"\ndescription = "d"\nverified = "v"\n', encoding="utf-8"
    )
    child = tmp_path / "b.toml"
    child.write_text(
        'extends = "a.toml"\nname = "b"\ndescription = "d"\nverified = "v"\n', encoding="utf-8"
    )
    assert load_profile(str(child)).precision == "fp32"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name = ", "not valid TOML"),
        ('extends = "self.toml"', "extends itself"),
        ('extends = "nowhere"', "no profile 'nowhere'; shipped: cpu-fp32"),
        ("extends = 3", "extends must be text"),
        ('extends = "cpu-int4"\nname = "x"\ndescription="d"\nverified="v"\nspeed = 9', "speed"),
    ],
)
def test_a_wrong_profile_is_refused_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "self.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ProfileError, match=said):
        load_profile(str(path))


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ProfileError, match="cpu-int4, cpu-int8, cuda-fp16"):
        load_profile("tpu")
