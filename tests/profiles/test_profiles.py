from pathlib import Path

import pytest

from afx_profiles import ProfileError, list_profiles, load_profile


@pytest.mark.parametrize("name", list_profiles())
def test_every_shipped_profile_is_valid_and_named_as_its_file(name: str) -> None:
    profile = load_profile(name)
    assert profile.name == name
    assert profile.verified


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
