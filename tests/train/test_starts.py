"""What an adapter starts from: another one's effect, in its own rank and at its own scale."""

from pathlib import Path

import pytest
import torch
from peft import get_peft_model_state_dict
from torch import Tensor

from afx_train.errors import RecipeError
from afx_train.model import AdaptedModel, load_model
from afx_train.recipe import Lora
from afx_train.starts import Weights, fresh_weights, own_weights, warm_weights


def _model(workspace: Path, lora: Lora) -> AdaptedModel:
    model = load_model(workspace / "base", lora)
    fresh_weights(model, seed=1)
    return model


def _trained(workspace: Path, lora: Lora) -> Weights:
    """Weights as after a training: B is not zero."""
    weights = get_peft_model_state_dict(_model(workspace, lora).peft)
    generator = torch.Generator().manual_seed(4)
    return {
        name: torch.randn(tensor.shape, generator=generator) if "lora_B" in name else tensor.clone()
        for name, tensor in weights.items()
    }


def _added(weights: Weights, scale: float) -> dict[str, Tensor]:
    """What each layer's weight gains."""
    return {
        name: scale * weights[name.replace("lora_A", "lora_B")] @ tensor
        for name, tensor in weights.items()
        if "lora_A" in name
    }


@pytest.mark.parametrize("rank", [4, 6])
def test_a_warm_start_adds_what_its_origin_added(workspace: Path, rank: int) -> None:
    origin, own = Lora(rank=4, alpha=8.0), Lora(rank=rank, alpha=3.0)
    weights, model = _trained(workspace, origin), _model(workspace, own)
    warm_weights(model, weights, origin="first", gain=origin.scale / own.scale)
    started = _added(get_peft_model_state_dict(model.peft), own.scale)
    for name, gained in _added(weights, origin.scale).items():
        torch.testing.assert_close(started[name], gained, rtol=1e-4, atol=1e-5)


def test_a_larger_rank_is_cut_to_its_strongest_directions(workspace: Path) -> None:
    origin, own = Lora(rank=4, alpha=8.0), Lora(rank=2, alpha=4.0)
    weights, model = _trained(workspace, origin), _model(workspace, own)
    warm_weights(model, weights, origin="first")
    started = _added(get_peft_model_state_dict(model.peft), own.scale)
    for name, gained in _added(weights, origin.scale).items():
        left, values, right = torch.linalg.svd(gained, full_matrices=False)
        best = (left[:, :2] * values[:2]) @ right[:2]
        torch.testing.assert_close(started[name], best, rtol=1e-4, atol=1e-5)


def test_other_sites_are_refused(workspace: Path) -> None:
    weights = _trained(workspace, Lora(rank=4, target_modules=("q_proj",)))
    with pytest.raises(RecipeError, match="'first' has other modules or layers"):
        warm_weights(_model(workspace, Lora(rank=4)), weights, origin="first")


def test_an_adapters_own_weights_are_never_cut(workspace: Path) -> None:
    model = _model(workspace, Lora(rank=2))
    with pytest.raises(RecipeError, match="'select' was trained with another rank"):
        own_weights(model, _trained(workspace, Lora(rank=4)), name="select")
