"""Training the bi-encoder on a few servers."""

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from afx_train.corpus import Corpus, load_corpus
from afx_train.errors import DataError
from afx_train.retriever import train_retriever
from afx_train.trajectory import Trajectory, TrajectoryStep, write_trajectories
from agentflux.contracts.intents import surely_given
from agentflux.contracts.tools import ToolSpec

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


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder whose tokenizer has these words as one token each; random embeddings."""
    folder = tmp_path_factory.mktemp("base")
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
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def corpus(folder: Path, *, sets: int = len(ASKED), loud: bool = False) -> Corpus:
    """Every tool asked for by two words, in different company; an eighth of them in dev.

    loud: tools have this optional parameter, and half of the requests say so.
    """
    schema = {"type": "object", "properties": {"loud": {"type": "boolean"}}} if loud else {}
    (folder / "tools").mkdir(parents=True)
    items: list[Trajectory] = []
    for tool_set, tools in list(ASKED.items())[:sets]:
        listed = [{"name": name, "description": "", "inputSchema": schema} for name in tools]
        (folder / "tools" / f"{tool_set}.json").write_text(json.dumps(listed), encoding="utf-8")
        for name, said in tools.items():
            for number in range(24):
                request = f"{FILLERS[number % 5]} {said[number % 2]} {FILLERS[number % 3 + 2]}"
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


def test_it_learns_what_other_words_ask_for(base: Path, tmp_path: Path) -> None:
    data = corpus(tmp_path / "data")
    learned = train_retriever(data, base, seed=1, one_catalog=2)
    assert learned.asked == 30
    assert learned.right > 0.8 * learned.asked
    encoder = learned.encoder
    lamp = [ToolSpec(tool_set="lamp", name=n, description="") for n in ("light", "dim")]
    light, dim = encoder.fits("please shine", [encoder.tool(tool) for tool in lamp])
    assert light > dim
    again = train_retriever(data, base, seed=1, one_catalog=2).encoder
    assert (again.vectors == encoder.vectors).all()


def test_too_few_servers_are_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="4 tool sets"):
        train_retriever(corpus(tmp_path / "data", sets=2), base, seed=1, one_catalog=1)


def test_it_learns_which_optional_parameters_requests_give(base: Path, tmp_path: Path) -> None:
    data = corpus(tmp_path / "data", loud=True)
    learned = train_retriever(data, base, seed=1, one_catalog=2)
    assert learned.given.examples == 30
    assert learned.given.right == learned.given.sure > 20
    tool = data.catalog["lamp"][0]
    odds = [learned.encoder.odds_given(tool, f"shine {said}")["loud"] for said in ("loud", "now")]
    assert [surely_given(found) for found in odds] == [True, False]
    without = corpus(tmp_path / "without")
    assert train_retriever(without, base, seed=1, one_catalog=2).encoder.given is None
