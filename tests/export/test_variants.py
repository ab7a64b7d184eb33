from pathlib import Path

import pytest

from afx_export.variants import write_variants
from afx_profiles import load_profile


def test_every_variant_is_a_profile_that_differs_in_one_option(tmp_path: Path) -> None:
    own = load_profile("cpu-int4")
    found = {n: load_profile(str(p)) for n, p in write_variants(own, "cpu-int4", tmp_path).items()}
    assert own.quantization is not None
    for name, profile in found.items():
        assert profile.name == f"cpu-int4-{name}"
        assert profile.quantization is not None
        same = (
            profile.precision == own.precision,
            profile.builder == own.builder,
            profile.quantization == own.quantization,
        )
        assert same.count(False) == 1, name
    assert found["block64"].quantization == own.quantization.model_copy(update={"block_size": 64})


@pytest.mark.parametrize("name", ["cpu-fp32", "cpu-int8", "cuda-int4"])
def test_a_profile_gets_only_variants_that_change_it(name: str, tmp_path: Path) -> None:
    own = load_profile(name)
    for path in write_variants(own, name, tmp_path).values():
        profile = load_profile(str(path))
        changed = (profile.precision, profile.builder, profile.quantization)
        assert changed != (own.precision, own.builder, own.quantization)


def test_a_variant_that_is_the_profile_itself_is_not_written(tmp_path: Path) -> None:
    profile = tmp_path / 'own "64".toml'
    lines = ['extends = "cpu-int4"', 'name = "own"', 'description = "d"', 'verified = "no"']
    lines += ["[quantization]", "block_size = 64"]
    profile.write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "variants").mkdir()
    found = write_variants(load_profile(str(profile)), str(profile), tmp_path / "variants")
    assert "block64" not in found
    assert sorted(p.stem for p in (tmp_path / "variants").iterdir()) == sorted(found)
    assert all(load_profile(str(path)).quantization for path in found.values())
