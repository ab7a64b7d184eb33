"""Five small servers whose tools are asked for in other words than they have, and a model."""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from afx_train.corpus import Corpus, load_corpus
from afx_train.trajectory import Trajectory, TrajectoryStep, write_trajectories

# What is asked for in other words than the descriptions have.
ASKED = {
    "mail": {"send": ("write", "tell"), "fetch": ("inbox", "unread")},
    "lamp": {"light": ("bright", "shine"), "dim": ("dark", "night")},
    "shop": {"order": ("buy", "purchase"), "refund": ("money", "back")},
    "song": {"play": ("hear", "listen"), "pause": ("quiet", "silence")},
    "road": {"route": ("drive", "way"), "traffic": ("jam", "slow")},
}
FILLERS = ("please", "now", "again", "today", "could", "you")
WORDS = sorted(
    {w for tools in ASKED.values() for name, said in tools.items() for w in (name, *said)}
    | {*ASKED, *FILLERS, "loud"}
)


def write_model(folder: Path, *, alike: bool = False) -> None:
    """A model folder whose tokenizer has these words as one token each; random embeddings.

    alike: the two words that ask for a tool have nearly the same one.
    """
    vocabulary = {f"Ġ{word}": at for at, word in enumerate(WORDS)} | {"?": len(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=96,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    model = LlamaForCausalLM(config)
    table = model.get_input_embeddings().weight.data
    for one, other in (said for tools in ASKED.values() for said in tools.values() if alike):
        table[vocabulary[f"Ġ{other}"]] = table[vocabulary[f"Ġ{one}"]] * 0.9
    model.save_pretrained(folder)


def asked_corpus(
    folder: Path, *, sets: int = len(ASKED), loud: bool = False, other: bool = False
) -> Corpus:
    """Every tool asked for by two words, in different company; an eighth of them in dev.

    loud: tools have this optional parameter, and half of the requests say so. other: in train each
    tool is asked for by one of its words, in dev by the other one.
    """
    schema = {"type": "object", "properties": {"loud": {"type": "boolean"}}} if loud else {}
    (folder / "tools").mkdir(parents=True)
    items: list[Trajectory] = []
    for tool_set, tools in list(ASKED.items())[:sets]:
        listed = [{"name": name, "description": "", "inputSchema": schema} for name in tools]
        (folder / "tools" / f"{tool_set}.json").write_text(json.dumps(listed), encoding="utf-8")
        for name, said in tools.items():
            for number in range(24):
                word = said[number > 20] if other else said[number % 2]
                request = f"{FILLERS[number % 5]} {word} {FILLERS[number % 3 + 2]}"
                arguments = {"loud": True} if loud and number % 4 < 2 else {}
                request += " loud" * len(arguments)
                items.append(
                    Trajectory(
                        id=f"{name}{number}",
                        request=request,
                        steps=(TrajectoryStep(tool_set=tool_set, tool=name, arguments=arguments),),
                        phrasing=f"{name}{number}",
                        kind="single",
                        split="dev" if number > 20 else "train",
                    )
                )
    write_trajectories(folder / "train.jsonl", items)
    return load_corpus([folder])
