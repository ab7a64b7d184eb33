"""The pass that shares prefixes against a plain one over the whole prompt."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft.tuners.lora import Linear as LoraLinear
from tiny_models import ARCHITECTURES, save_model
from torch import Tensor
from train.tiny import RECIPE
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from afx_train.codec import Codec
from afx_train.corpus import Corpus
from afx_train.errors import RecipeError
from afx_train.job import run_job
from afx_train.model import AdaptedModel, Rows, load_model
from afx_train.recipe import Lora, Recipe
from afx_train.starts import fresh_weights
from afx_train.task import make_task

STATIC = tuple(range(5, 25))
BEFORE = ((30, 31, 32), (), tuple(range(40, 51)))
TOKENS = ((60, 61, 62, 63), tuple(range(70, 81)), (90, 91))


TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
SITES = sorted(TARGETS)


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


@pytest.mark.parametrize("width", [20, 0])
def test_what_is_kept_of_rows_fits_one_budget(workspace: Path, width: int) -> None:
    """width: tokens of a row that are kept for themselves, beside what left the lower layers."""
    model = load_model(workspace / "base", Lora(rank=4, first_layer=1))
    model.recall_bytes = 100_000
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _ in range(40):
            drawn = torch.randint(3, 200, (2, width + 20), generator=generator).tolist()
            before, tokens = (
                [tuple(row[a:b]) for row in drawn] for a, b in ((0, width), (width, None))
            )
            model.hidden(STATIC, Rows(before=before, tokens=tokens))
    assert 0.8 * model.recall_bytes < model.kept_bytes <= model.recall_bytes


@pytest.mark.parametrize("name", ["v_prjo", "embed_tokens", "lm_head", "self_attn"])
@pytest.mark.parametrize("first_layer", [0, 1])
def test_a_target_that_no_adapted_layer_has_is_refused(
    workspace: Path, name: str, first_layer: int
) -> None:
    lora = Lora(rank=4, target_modules=("q_proj", name, "o_proj"), first_layer=first_layer)
    with pytest.raises(RecipeError, match=f"'{name}' is no linear layer.*have {', '.join(SITES)}"):
        load_model(workspace / "base", lora)


def test_a_base_model_that_was_cut_off_is_refused(workspace: Path, tmp_path: Path) -> None:
    base = shutil.copytree(workspace / "base", tmp_path / "base")
    weights = base / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(RecipeError, match="cannot be loaded as a model") as raised:
        load_model(base, Lora(rank=4))
    assert raised.value.where == str(base)


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


OUT = Lora(rank=2, target_modules=("o_proj",))
_SHAPE = {
    "vocab_size": 128,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "initializer_range": 0.2,
}
_MAMBA = {
    "layer_types": ["mamba", "attention"],
    "num_local_experts": 0,
    "shared_intermediate_size": 48,
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "mamba_d_state": 8,
    "mamba_expand": 2,
}


def _logits(model: AdaptedModel) -> Tensor:
    rows = Rows(before=[()] * len(TOKENS), tokens=TOKENS)
    return model.logits(model.hidden(STATIC, rows))


def _logits_of_transformers(folder: Path) -> Tensor:
    plain = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    rows = [plain(torch.tensor([STATIC + t])).logits[0, len(STATIC) :] for t in TOKENS]
    return torch.cat(rows)


def _saved(folder: Path, kind: str, **own: Any) -> Path:
    """A tiny model of an architecture, with random weights."""
    torch.manual_seed(3)
    config = AutoConfig.for_model(kind, **_SHAPE | own)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("architecture", [*ARCHITECTURES, "gemma2"])
def test_logits_are_those_of_transformers_on_every_architecture_that_is_trained(
    tmp_path: Path, architecture: str
) -> None:
    if architecture == "gemma2":
        own = {"attn_logit_softcapping": None, "final_logit_softcapping": 2.0}
        folder = _saved(tmp_path, architecture, **own)
    else:
        folder = save_model(tmp_path, architecture=architecture)
    ours = load_model(folder, OUT)
    fresh_weights(ours, seed=1)
    assert _relative(_logits(ours), _logits_of_transformers(folder)) < 1e-4


@pytest.mark.parametrize(
    ("kind", "own", "said"),
    [
        ("mistral", {"sliding_window": 64}, "sliding window of 64 tokens, shorter than prompts of"),
        ("gemma2", {"attn_logit_softcapping": 50.0}, "attention softcap 50"),
        ("granitemoehybrid", _MAMBA, "1 layers (of 2) that are no attention"),
        ("gpt2", {"n_embd": 32, "n_layer": 2, "n_head": 4}, "no decoder layers"),
        ("stablelm", {}, "attention, which is not understood"),
        ("cohere", {"logit_scale": 0.5}, "attention or output head is not understood"),
    ],
)
def test_a_model_that_training_would_compute_otherwise_is_refused_when_it_is_loaded(
    tmp_path: Path, kind: str, own: dict[str, Any], said: str
) -> None:
    with pytest.raises(RecipeError) as raised:
        load_model(_saved(tmp_path, kind, **own), OUT, longest=65)
    assert said in str(raised.value)
    assert "train its adapters with PEFT" in str(raised.value)


def test_a_window_that_no_prompt_exceeds_changes_nothing_and_a_longer_prompt_is_refused(
    tmp_path: Path,
) -> None:
    longest = len(STATIC) + max(map(len, TOKENS))
    folder = _saved(tmp_path, "mistral", sliding_window=longest)
    model = load_model(folder, OUT, longest=longest)
    assert _relative(_logits(model), _logits_of_transformers(folder)) < 1e-4
    with pytest.raises(RecipeError, match=f"prompts of {longest + len(TOKENS[0])}"):
        model.hidden(STATIC, Rows(before=BEFORE, tokens=TOKENS[:1] * 3))


def test_a_job_is_refused_before_it_trains_where_one_of_its_prompts_exceeds_the_window(
    workspace: Path, tmp_path: Path, recipe: Recipe, corpus: Corpus, codec: Codec
) -> None:
    longest = make_task(recipe, recipe.named("args.files"), corpus, codec).longest
    shutil.copytree(workspace / "base", tmp_path / "base")
    (tmp_path / "data").symlink_to(workspace / "data")
    path, trained = tmp_path / "recipe.toml", list[object]()
    path.write_text(RECIPE.replace("epochs = 3", "epochs = 1"), encoding="utf-8")

    def run(window: int) -> None:
        config = json.loads((workspace / "base" / "config.json").read_text(encoding="utf-8"))
        config |= {"model_type": "mistral", "sliding_window": window}
        config["architectures"] = ["MistralForCausalLM"]
        (tmp_path / "base" / "config.json").write_text(json.dumps(config), encoding="utf-8")
        run_job(path, "args.files", tmp_path / "out", resume=False, report=trained.append)

    with pytest.raises(RecipeError, match=f"window of {longest - 1} .* prompts of {longest}"):
        run(longest - 1)
    assert not trained
    run(longest)
    assert trained
