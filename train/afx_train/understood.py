"""Whether training's own pass computes what the base model does: asked once, before training."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from afx_train.attention import ATTENTION, UNTRAINABLE
from afx_train.errors import RecipeError

if TYPE_CHECKING:
    from afx_train.codec import Tokens
    from afx_train.model import AdaptedModel

_PREFIX, _ROW = 9, 8  # tokens; in fp32 both passes agree to 1e-5
_TOLERANCE = 1e-3
# What another architecture's code raises where it is called in a way that it does not expect.
_FOREIGN = (RuntimeError, LookupError, TypeError, AttributeError, ValueError)


def refuse_misunderstood(model: "AdaptedModel") -> None:
    """Compare the logits of a few tokens with those of transformers' eager attention.

    model: with a fresh adapter, which adds nothing.

    Raises:
        RecipeError: they differ, or the model has layers that are no attention, or asks for an
            attention that training does not have.
    """
    tokens = tuple(number % model.vocab_size for number in range(_PREFIX + _ROW))
    try:
        with torch.no_grad():
            ours = _packed(model, tokens)
            theirs = _eager(model, tokens)
    except _FOREIGN as error:
        told = f"the base model's attention is not understood ({type(error).__name__}: {error})"
        raise RecipeError(f"{told}; {UNTRAINABLE}") from error
    difference = float((ours - theirs).norm() / theirs.norm())
    if not difference < _TOLERANCE:
        raise RecipeError(
            "the base model's attention or output head is not understood: logits differ from "
            f"those of transformers by {difference:.2g} of their size; {UNTRAINABLE}"
        )


def _packed(model: "AdaptedModel", tokens: "Tokens") -> Tensor:
    """Logits of the row by training's pass, behind a shared prefix."""
    static, row = tokens[:_PREFIX], tokens[_PREFIX:]
    attentions = len(model.static_kv(static) or ())
    if attentions != model.layers:
        raise RecipeError(
            f"the base model has {model.layers - attentions} layers (of {model.layers}) that are "
            f"no attention; {UNTRAINABLE}"
        )
    return model.logits(model.extended(static, [()], [row]))


def _eager(model: "AdaptedModel", tokens: "Tokens") -> Tensor:
    causal: Any = model.peft.get_base_model()
    causal.set_attn_implementation("eager")
    ids = torch.tensor([tokens], device=model.device)
    logits: Tensor = causal(input_ids=ids, use_cache=False).logits[0, _PREFIX:]
    causal.set_attn_implementation(ATTENTION)
    return logits
