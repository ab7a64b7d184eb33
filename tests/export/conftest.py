"""One tiny model and one exported bundle for all export tests."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from tiny_models import save_adapter, save_card, save_model

from afx_export.build import Request, build
from agentflux.contracts.bundle import Manifest
from agentflux.contracts.cache import CACHE_VARIABLE, weights_sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A finished bundle with what it was made from. Tests copy what they change."""

    model: Path
    weights: str
    adapters: Path
    cache: Path
    bundle: Path
    manifest: Manifest


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama as a Hugging Face folder."""
    return save_model(tmp_path_factory.mktemp("llama") / "tiny")


@pytest.fixture(scope="session")
def exported(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A cpu-int4 bundle with three adapters of mixed ranks, targets, scales and boundaries."""
    root = tmp_path_factory.mktemp("exported")
    weights = weights_sha256(model)
    adapters = root / "adapters"
    save_card(save_adapter(adapters / "router"), weights)
    select = save_adapter(
        adapters / "picker",
        targets=("q_proj", "v_proj"),
        ranks={"q_proj": 2},
        seed=1,
        use_rslora=True,
    )
    place = {"subtask": "select", "tool_set": "fs", "boundary": "instruction"}
    save_card(select, weights, **place, calibration={"min_probability": 0.4})
    values = save_adapter(
        adapters / "values",
        targets=("down_proj", "k_proj"),
        seed=2,
        alpha_pattern={"layers.1.self_attn.k_proj": 3},
    )
    save_card(values, weights, subtask="arguments", tool_set="fs", tool="read")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(root / "cache"))
        manifest = build(
            Request(
                model=str(model),
                profile="cpu-int4",
                out=root / "bundle",
                adapters=(adapters,),
            )
        )
    return Exported(
        model=model,
        weights=weights,
        adapters=adapters,
        cache=root / "cache",
        bundle=root / "bundle",
        manifest=manifest,
    )


@pytest.fixture(scope="session")
def bundles(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The exported bundle in every mode, each built and certified on its own."""
    root = tmp_path_factory.mktemp("modes")
    found = {"runtime": exported.bundle}
    for mode in ("stacked", "merged"):
        profile = root / f"{mode}.toml"
        profile.write_text(
            f'extends = "cpu-int4"\nname = "cpu-{mode}"\ndescription = "d"\nverified = "v"\n'
            f'adapter_mode = "{mode}"\n',
            encoding="utf-8",
        )
        found[mode] = root / f"{mode}-bundle"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(CACHE_VARIABLE, str(exported.cache))
            build(
                Request(
                    model=str(exported.model),
                    profile=str(profile),
                    out=found[mode],
                    adapters=(exported.adapters,),
                )
            )
    return found


@pytest.fixture(autouse=True)
def _own_cache(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests on the exported bundle build into its cache folder, and only they."""
    if "exported" in request.fixturenames:
        exported: Exported = request.getfixturevalue("exported")
        monkeypatch.setenv(CACHE_VARIABLE, str(exported.cache))
