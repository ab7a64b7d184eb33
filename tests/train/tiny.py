"""A tiny model with a byte tokenizer, and a small data folder, for the trainer's tests."""

import json
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM

from afx_train.trajectory import Split, Trajectory, TrajectoryStep, write_trajectories

CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]

FILES = [
    {
        "name": "read_file",
        "description": "Read a file. DEPRECATED: use read_text_file.",
        "inputSchema": {"type": "object", "properties": {"path": {"type": "string"}}},
    },
    {
        "name": "read_text_file",
        "description": "Read a text file.",
        "inputSchema": {
            "type": "object",
            "properties": {"path": {"type": "string"}, "head": {"type": "integer"}},
            "required": ["path"],
        },
    },
    {
        "name": "list_directory",
        "description": "List a folder.",
        "inputSchema": {
            "type": "object",
            "properties": {"path": {"type": "string"}},
            "required": ["path"],
        },
    },
    {
        "name": "list_allowed",
        "description": "List allowed folders.",
        "inputSchema": {"type": "object", "properties": {}},
    },
]
CLOCK = [
    {
        "name": "get_time",
        "description": "Tell the time.",
        "inputSchema": {
            "type": "object",
            "properties": {"zone": {"type": "string"}},
            "required": ["zone"],
        },
    }
]


def write_base(folder: Path) -> Path:
    """A two-layer Llama with random weights and grouped heads."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*CONTROL, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in CONTROL])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.2,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def write_data(folder: Path, *, each: int = 3) -> Path:
    """Single calls of each tool, two-step scenarios and requests that no tool serves."""
    (folder / "tools").mkdir(parents=True)
    (folder / "tools" / "files.json").write_text(json.dumps(FILES), encoding="utf-8")
    (folder / "tools" / "clock.json").write_text(json.dumps(CLOCK), encoding="utf-8")
    splits: tuple[Split, ...] = ("train", "train", "dev", "test")
    for split in ("train", "dev", "test"):
        items = [t for t, s in zip(_trajectories(each), cycle(splits), strict=False) if s == split]
        chosen = [t.model_copy(update={"split": split}) for t in items]
        write_trajectories(folder / f"{split}.jsonl", chosen)
    return folder


def _trajectories(each: int) -> Iterator[Trajectory]:
    read = TrajectoryStep(
        tool_set="files",
        tool="read_text_file",
        arguments={"head": 3, "path": "a b.txt"},
        accept=({"path": "a b.txt"},),
        observation="é text",
    )
    show = TrajectoryStep(
        tool_set="files", tool="list_directory", arguments={"path": "x"}, observation="a"
    )
    where = TrajectoryStep(tool_set="files", tool="list_allowed", observation="/w")
    now = TrajectoryStep(
        tool_set="clock", tool="get_time", arguments={"zone": "UTC"}, observation="12:00"
    )
    plans = {
        "read": (read,),
        "show": (show,),
        "where": (where,),
        "now": (now,),
        "both": (read, now),
        "joke": (),
    }
    for name, steps in plans.items():
        for number in range(4 * each):
            yield Trajectory(
                id=f"{name}{number}",
                request=f"{name} please {number}",
                context="Root: /w" if number % 2 else "",
                steps=steps,
                phrasing=f"{name}{number}",
                kind="single" if len(steps) == 1 else "scenario" if steps else "none/joke",
                split="train",
            )


RECIPE = """
base_model = "base"
data = ["data"]
seed = 5

[lora]
rank = 4
alpha = 8.0

[training]
learning_rate = 5e-3
epochs = 3
batch_tokens = 400
easy_loss = 0.5

[[adapters]]
name = "route"
subtask = "route"

[[adapters]]
name = "select.files"
subtask = "select"
tool_set = "files"

[[adapters]]
name = "args.files"
subtask = "arguments"
tool_set = "files"
"""
