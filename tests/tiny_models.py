# ruff: noqa: TID253 - builds models and graphs itself
"""Tiny random-weight models and adapters, with a byte-level tokenizer of their own."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

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
_IN = {"down_proj": WIDE}
_OUT = {
    "k_proj": HIDDEN * KV_HEADS // HEADS,
    "v_proj": HIDDEN * KV_HEADS // HEADS,
    "gate_proj": WIDE,
    "up_proj": WIDE,
}


def save_model(folder: Path, *, architecture: str = "llama", seed: int = 0) -> Path:
    """Write a two-layer model as a Hugging Face folder."""
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
    if architecture == "qwen2":
        model: Any = Qwen2ForCausalLM(Qwen2Config(**shape))
    else:
        model = LlamaForCausalLM(LlamaConfig(**shape))
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
    **config: object,
) -> Path:
    """Write a random PEFT LoRA folder; `config` overrides fields of adapter_config.json."""
    random = np.random.default_rng(seed)
    tensors: dict[str, np.ndarray[Any, np.dtype[np.float32]]] = {}
    for layer in range(LAYERS):
        for target in targets:
            block = "mlp" if target in ("gate_proj", "up_proj", "down_proj") else "self_attn"
            key = f"base_model.model.model.layers.{layer}.{block}.{target}"
            r = (ranks or {}).get(target, rank)
            a = random.normal(0, 0.3, (r, _IN.get(target, HIDDEN)))
            b = random.normal(0, 0.3, (_OUT.get(target, HIDDEN), r))
            tensors[f"{key}.lora_A.weight"] = a.astype(np.float32)
            tensors[f"{key}.lora_B.weight"] = b.astype(np.float32)
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
