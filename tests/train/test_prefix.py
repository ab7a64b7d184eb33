"""The pass that shares prefixes against a plain one over the whole prompt."""

from pathlib import Path

import pytest
import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from afx_train.model import AdaptedModel, Rows, load_model
from afx_train.recipe import Lora
from afx_train.starts import fresh_weights

STATIC = tuple(range(5, 25))
BEFORE = ((30, 31, 32), (), tuple(range(40, 51)))
TOKENS = ((60, 61, 62, 63), tuple(range(70, 81)), (90, 91))


TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@pytest.fixture(params=[0, 1])
def model(workspace: Path, request: pytest.FixtureRequest) -> AdaptedModel:
    """The tiny base with an adapter that does something on every site from a layer on."""
    lora = Lora(rank=4, alpha=8, target_modules=TARGETS, first_layer=request.param)
    made = load_model(workspace / "base", lora)
    fresh_weights(made, seed=1)
    generator = torch.Generator().manual_seed(2)
    for parameter in made.trained:
        parameter.data.add_(torch.empty_like(parameter).normal_(0, 0.2, generator=generator))
    return made


@pytest.mark.parametrize("led", [False, True])
def test_hidden_states_and_gradients_equal_a_plain_pass_over_the_whole_prompt(
    model: AdaptedModel, *, led: bool
) -> None:
    """led: the adapter computes the shared prefix, too, and its gradients are all rows'."""
    static, befores = ((), [()] * len(TOKENS)) if led else (STATIC, BEFORE)
    lead = STATIC if led else ()
    hidden = model.hidden(static, Rows(lead=lead, before=befores, tokens=TOKENS))
    weights = torch.randn(hidden.shape, generator=torch.Generator().manual_seed(4))
    (hidden * weights).sum().backward()
    cached = [p.grad for p in model.trained]
    for parameter in model.trained:
        parameter.grad = None
    plain = torch.cat(
        [
            _plain(model, static + b, lead + t)[len(lead) :]
            for b, t in zip(befores, TOKENS, strict=True)
        ]
    )
    (plain * weights).sum().backward()
    assert _relative(hidden, plain) < 1e-4
    for ours, parameter in zip(cached, model.trained, strict=True):
        assert ours is not None
        assert parameter.grad is not None
        assert _relative(ours, parameter.grad) < 1e-4


def test_a_prefix_that_was_dropped_comes_back_the_same(
    model: AdaptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = Rows(before=BEFORE, tokens=TOKENS)
    kept, prefix = model.hidden(STATIC, rows), model.static_kv(STATIC)
    monkeypatch.setattr("afx_train.model._STATIC_BYTES", 0)
    model.hidden(STATIC[1:], rows)
    assert model.static_kv(STATIC) is not prefix
    assert torch.equal(model.hidden(STATIC, rows), kept)


def test_the_base_is_untouched_before_the_boundary(model: AdaptedModel) -> None:
    before = [layer.keys.clone() for layer in model.static_kv(STATIC)]
    for parameter in model.trained:
        parameter.data.mul_(3)
    fresh = load_again(model).static_kv(STATIC)
    assert all(torch.equal(a, b.keys) for a, b in zip(before, fresh, strict=True))


def test_rows_do_not_see_each_other(model: AdaptedModel) -> None:
    together = model.hidden(STATIC, Rows(before=BEFORE, tokens=TOKENS))
    apart = torch.cat(
        [
            model.hidden(STATIC, Rows(before=[b], tokens=[t]))
            for b, t in zip(BEFORE, TOKENS, strict=True)
        ]
    )
    assert _relative(together, apart) < 1e-5


@pytest.mark.parametrize("kept", [2**20, 0])
def test_layers_below_the_first_adapted_one_run_once_a_row(workspace: Path, kept: int) -> None:
    model = load_model(workspace / "base", Lora(rank=4, target_modules=TARGETS, first_layer=1))
    model.recall_bytes = kept
    calls = [0, 0]
    for at, layer in enumerate(model.peft.get_base_model().model.layers):
        layer.self_attn.register_forward_hook(lambda *_, at=at: _count(calls, at))
    rows, alone = Rows(before=[()] * 3, tokens=TOKENS), Rows(before=[()], tokens=TOKENS[:1])
    first = model.hidden(STATIC, rows)
    lower, upper = calls
    mixed = model.hidden(STATIC, alone)
    again = model.hidden(STATIC, rows)
    assert torch.equal(first, again), "rows that were seen together are computed together"
    assert _relative(first[: len(mixed)], mixed) < 1e-5
    assert (calls[0] == lower) == (kept > 0)
    assert calls[1] == upper + 2


def _count(calls: list[int], at: int) -> None:
    calls[at] += 1


def test_tokens_after_a_kept_past_get_what_one_pass_gives(model: AdaptedModel) -> None:
    _, pasts = model.prefill(STATIC, Rows(before=BEFORE, tokens=TOKENS))
    more = ((100, 101), (102,), (103, 104, 105))
    later = model.extended(STATIC, pasts, more)
    whole = [
        model.hidden(STATIC, Rows(before=[b], tokens=[t + m]))[len(t) :]
        for b, t, m in zip(BEFORE, TOKENS, more, strict=True)
    ]
    assert _relative(later, torch.cat(whole)) < 1e-5


def test_tokens_after_a_kept_lead_get_what_one_pass_gives(model: AdaptedModel) -> None:
    none, more = [()] * len(TOKENS), ((100, 101), (102,), (103, 104, 105))
    _, pasts = model.prefill((), Rows(lead=STATIC, before=none, tokens=TOKENS))
    later = model.extended((), pasts, more)
    whole = [
        model.hidden((), Rows(lead=STATIC, before=[()], tokens=[t + m]))[len(t) :]
        for t, m in zip(TOKENS, more, strict=True)
    ]
    assert _relative(later, torch.cat(whole)) < 1e-5


def load_again(model: AdaptedModel) -> AdaptedModel:
    """The same weights with nothing kept."""
    return AdaptedModel(model.peft)


def _relative(ours: Tensor, reference: Tensor) -> float:
    return float(((ours - reference).norm() / reference.norm()).detach())


def _plain(model: AdaptedModel, base: tuple[int, ...], adapted: tuple[int, ...]) -> Tensor:
    """Llama's forward over the whole prompt, the adapter's branches weighted 0 on the base's part.

    Written out on its own: no cache, no shared prefix, no fused layer, no padding.
    """
    llama = model.peft.get_base_model().model
    ids = torch.tensor([base + adapted])
    on = torch.tensor([0.0] * len(base) + [1.0] * len(adapted)).view(1, -1, 1)
    x = llama.embed_tokens(ids)
    cos, sin = llama.rotary_emb(x, torch.arange(ids.shape[1])[None])
    mask = torch.full((ids.shape[1], ids.shape[1]), -torch.inf).triu(1)
    for layer in llama.layers:
        attention, mlp = layer.self_attn, layer.mlp
        h = layer.input_layernorm(x)
        q, k, v = (
            _lora(site, h, on).view(1, ids.shape[1], -1, attention.head_dim).transpose(1, 2)
            for site in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        q, k = apply_rotary_pos_emb(q, k, cos, sin)
        k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], dim=1) for t in (k, v))
        probs = (q @ k.mT * attention.scaling + mask).softmax(-1)
        mixed = (probs @ v).transpose(1, 2).reshape(1, ids.shape[1], -1)
        x = x + _lora(attention.o_proj, mixed, on)
        h = layer.post_attention_layernorm(x)
        gated = mlp.act_fn(_lora(mlp.gate_proj, h, on)) * _lora(mlp.up_proj, h, on)
        x = x + _lora(mlp.down_proj, gated, on)
    return llama.norm(x)[0, len(base) :]


def _lora(site: torch.nn.Module, x: Tensor, on: Tensor) -> Tensor:
    if not isinstance(site, LoraLinear):
        return site(x)
    a, b = site.lora_A["default"].weight, site.lora_B["default"].weight
    return site.base_layer(x) + on * (x @ a.T @ b.T) * site.scaling["default"]


def test_bf16_products_point_the_gradients_the_same_way(workspace: Path) -> None:
    lora = Lora(rank=4, alpha=8, target_modules=TARGETS)
    gradients: dict[str, Tensor] = {}
    for precision in ("fp32", "bf16"):
        made = load_model(workspace / "base", lora, precision=precision)
        fresh_weights(made, seed=1)
        hidden = made.hidden(STATIC, Rows(before=BEFORE, tokens=TOKENS))
        weights = torch.randn(hidden.shape, generator=torch.Generator().manual_seed(4))
        (hidden * weights).sum().backward()
        found = [p.grad.flatten() for p in made.trained if p.grad is not None]
        gradients[precision] = torch.cat(found)
    assert not torch.equal(*gradients.values())
    assert torch.cosine_similarity(*gradients.values(), dim=0) > 0.999
