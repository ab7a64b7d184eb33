# ruff: noqa: TID253 - builds models and graphs itself
"""Tiny random-weight models and adapters, with a byte-level tokenizer of their own."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from agentflux.contracts.cards import AdapterCard, write_card

HIDDEN, HEADS, KV_HEADS, LAYERS, WIDE = 64, 4, 2, 2, 96
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<filename>")
CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_KV = HIDDEN * KV_HEADS // HEADS
_LINEAR = {
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.k_proj": (_KV, HIDDEN),
    "self_attn.v_proj": (_KV, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.gate_proj": (WIDE, HIDDEN),
    "mlp.up_proj": (WIDE, HIDDEN),
    "mlp.down_proj": (HIDDEN, WIDE),
}


def llama_shapes() -> dict[str, tuple[int, int]]:
    """Return (out_features, in_features) of the tiny Llama's linear layers."""
    layers = range(LAYERS)
    return {f"model.layers.{i}.{name}": size for i in layers for name, size in _LINEAR.items()}


_GRANITE = {
    "embedding_multiplier": 2.0,
    "residual_multiplier": 0.5,
    "attention_multiplier": 0.2,
    "logits_scaling": 2.0,
}
# Windows and head widths that differ from what the hidden size gives, so that a mix-up shows.
_WINDOW = {"sliding_window": 32, "query_pre_attn_scalar": 24, "head_dim": 32}
# Name: the classes' common start, how the configuration's name goes on, and its own fields.
ARCHITECTURES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("Llama", "Config", {}),
    "qwen2": ("Qwen2", "Config", {}),
    "qwen3": ("Qwen3", "Config", {"head_dim": 32}),
    "gemma3": (
        "Gemma3",
        "TextConfig",
        {**_WINDOW, "layer_types": ["sliding_attention", "full_attention"]},
    ),
    "phi3": (
        "Phi3",
        "Config",
        {"original_max_position_embeddings": 2048, "tie_word_embeddings": False},
    ),
    "smollm3": ("SmolLM3", "Config", {"no_rope_layers": [1, 0]}),
    "granite": ("Granite", "Config", _GRANITE),
    "granite4": (
        "GraniteMoeHybrid",
        "Config",
        {
            **_GRANITE,
            "layer_types": ["attention"] * LAYERS,
            "shared_intermediate_size": WIDE,
            "num_local_experts": 0,
            "num_experts_per_tok": 0,
            "position_embedding_type": "rope",
        },
    ),
}
# Not made by the model builder.
_OTHERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "stablelm": ("StableLm", "Config", {"use_qkv_bias": True, "tie_word_embeddings": False})
}


def save_model(folder: Path, *, architecture: str = "llama", seed: int = 0) -> Path:
    """Write a two-layer model as a Hugging Face folder. Biases are random, too."""
    torch.manual_seed(seed)
    shape: dict[str, Any] = {
        "hidden_size": HIDDEN,
        "intermediate_size": WIDE,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "vocab_size": 256 + len(SPECIALS),
        "max_position_embeddings": 2048,
        "bos_token_id": 257,
        "eos_token_id": 258,
        "pad_token_id": 258,
        "tie_word_embeddings": True,
        "initializer_range": 0.2,
    }
    start, end, own = {**ARCHITECTURES, **_OTHERS}[architecture]
    config = getattr(transformers, start + end)(**{**shape, **own})
    model: Any = getattr(transformers, f"{start}ForCausalLM")(config)
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(weight, std=0.2)
    model.save_pretrained(folder)
    save_tokenizer(folder)
    return folder


def save_tokenizer(folder: Path, template: str = CHATML, bos: str = "<|im_start|>") -> None:
    """Write a byte-level tokenizer without merges."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(letters)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIALS))
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": bos,
        "eos_token": "<|im_end|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "<|im_end|>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")


def save_adapter(
    folder: Path,
    *,
    targets: tuple[str, ...] = ALL,
    ranks: dict[str, int] | None = None,
    rank: int = 4,
    seed: int = 0,
    shapes: Mapping[str, tuple[int, int]] | None = None,
    **config: object,
) -> Path:
    """Write a random PEFT LoRA folder; `config` overrides fields of adapter_config.json.

    shapes: module path to (out_features, in_features); by default the tiny Llama's.
    """
    random = np.random.default_rng(seed)
    tensors: dict[str, np.ndarray[Any, np.dtype[np.float32]]] = {}
    for module, (out_features, in_features) in (shapes or llama_shapes()).items():
        target = module.rpartition(".")[2]
        if target in targets:
            r = (ranks or {}).get(target, rank)
            a = random.normal(0, 0.3, (r, in_features))
            b = random.normal(0, 0.3, (out_features, r))
            tensors[f"base_model.model.{module}.lora_A.weight"] = a.astype(np.float32)
            tensors[f"base_model.model.{module}.lora_B.weight"] = b.astype(np.float32)
    full = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "tiny",
        "bias": "none",
        "r": rank,
        "lora_alpha": 8,
        "target_modules": list(targets),
        "rank_pattern": ranks or {},
        "alpha_pattern": {},
        "inference_mode": True,
        **config,
    }
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps(full), encoding="utf-8")
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def save_card(folder: Path, weights: str, **fields: object) -> Path:
    """Write a card beside an adapter."""
    card: dict[str, object] = {
        "name": folder.name,
        "subtask": "route",
        "boundary": "request",
        "base_model": "tiny",
        "base_weights_sha256": weights,
        **fields,
    }
    write_card(folder, AdapterCard.model_validate(card))
    return folder
