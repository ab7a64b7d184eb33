"""What an adapter's weights are before its first step: drawn, or another adapter's."""

import math
from collections.abc import Callable

import torch
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor

from afx_train.errors import RecipeError
from afx_train.model import AdaptedModel

Weights = dict[str, Tensor]
_A, _B = "lora_A", "lora_B"


def fresh_weights(model: AdaptedModel, *, seed: int) -> None:
    """Draw the adapter's A matrices anew from the seed; B starts at zero."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.peft.named_parameters():
        if _A in name:
            bound = 1 / math.sqrt(parameter.shape[1])  # as PEFT: Kaiming uniform with a = sqrt(5)
            drawn = torch.empty(parameter.shape).uniform_(-bound, bound, generator=generator)
            parameter.data.copy_(drawn)
        elif _B in name:
            parameter.data.zero_()


def own_weights(model: AdaptedModel, weights: Weights, *, name: str) -> None:
    """Put a trained adapter's own weights in.

    Raises:
        RecipeError: the recipe gives it other shapes or sites.
    """
    own = get_peft_model_state_dict(model.peft)
    if {k: v.shape for k, v in own.items()} != {k: v.shape for k, v in weights.items()}:
        raise RecipeError(f"adapter {name!r} was trained with another rank or other modules")
    set_peft_model_state_dict(model.peft, {k: v.float() for k, v in weights.items()})


def warm_weights(model: AdaptedModel, weights: Weights, *, origin: str, gain: float = 1.0) -> None:
    """Start from another adapter: what it adds to each layer, in this one's rank.

    A larger rank is cut to its strongest directions, the best approximation that there is; of a
    larger own rank the rest starts without effect. Call after `fresh_weights`.
    gain: the other's scale (alpha/rank) over this one's.

    Raises:
        RecipeError: it has other modules or layers.
    """
    own = get_peft_model_state_dict(model.peft)
    if own.keys() != weights.keys():
        raise RecipeError(f"warm_start: adapter {origin!r} has other modules or layers")
    for name in own:
        if _A not in name:
            continue
        other = name.replace(_A, _B)
        a, b = weights[name].float(), weights[other].float() * gain
        if (a.shape[1], b.shape[0]) != (own[name].shape[1], own[other].shape[0]):
            raise RecipeError(f"warm_start: adapter {origin!r} is of another base model")
        rank = min(len(a), len(own[name]))
        if rank < len(a):
            a, b = _strongest(a, b, rank)
        own[name][:rank], own[other][:, :rank] = a, b
    set_peft_model_state_dict(model.peft, own)


def _strongest(a: Tensor, b: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The best approximation of b @ a by a smaller rank: its largest singular values."""
    wide_b, small_b = torch.linalg.qr(b)
    wide_a, small_a = torch.linalg.qr(a.mT)
    left, values, right = torch.linalg.svd(small_b @ small_a.mT)
    root = values[:rank].sqrt()
    return (root[:, None] * right[:rank]) @ wide_a.mT, wide_b @ (left[:, :rank] * root)


def delta_weights(model: AdaptedModel, weights: Weights, *, origin: str, frozen: int) -> None:
    """Put another adapter's weights into the first `frozen` ranks and let only the rest learn.

    Call after `fresh_weights`. The new ranks start without effect (B is zero).

    Raises:
        RecipeError: the other adapter has another rank or other modules.
    """
    own = get_peft_model_state_dict(model.peft)
    for name, tensor in own.items():
        rows = _A in name
        part = tensor[:frozen] if rows else tensor[:, :frozen]
        if name not in weights or weights[name].shape != part.shape:
            raise RecipeError(f"delta_of: adapter {origin!r} has another rank or other modules")
        part.copy_(weights[name])
    set_peft_model_state_dict(model.peft, own)
    for name, parameter in model.peft.named_parameters():
        if parameter.requires_grad:
            hook = _without_first(frozen, rows=_A in name)
            parameter.register_hook(hook)  # type: ignore[no-untyped-call]


def _without_first(frozen: int, *, rows: bool) -> Callable[[Tensor], Tensor]:
    def clear(gradient: Tensor) -> Tensor:
        kept = gradient.clone()
        (kept[:frozen] if rows else kept[:, :frozen]).zero_()
        return kept

    return clear
