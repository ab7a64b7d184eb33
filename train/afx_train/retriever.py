"""Train the bi-encoder that finds tools which no adapter was trained for.

See `agentflux.contracts.retriever` for what it is. Its words are those that the base model's
tokenizer has as one token; their vectors start as the model's own embeddings, projected. Two losses
a batch: the right tool among all tools of the batch's servers (in-batch negatives), and the right
one or `none` among a few servers, as a device would offer them. Vectors and weights learn from the
cosines alone: with what single words find they learn the training servers' words, and know other
servers less well. Both together are what the scale and `none` are settled on afterwards.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from afx_train.corpus import Corpus
from afx_train.errors import DataError
from afx_train.optional import GivenReport, train_given
from agentflux.contracts.retriever import BiEncoder, Described, described, known_words
from agentflux.progress import progress

SIZE = 64
EPOCHS = 6
BATCH = 64
SETTLING = 100  # batches
OFFERED = 4
# Of a data folder whose tools adapters know by heart, so many requests; it is for the others.
MOST_OF_ONE_CATALOG = 3000
_WORD = re.compile(r"[Ġ▁]([a-z]{2,})")
_DROPPED = 0.2  # of a request's words, at each sight; of a description's half as many


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """A bi-encoder, and of how many dev requests it finds the tool within its set."""

    encoder: BiEncoder
    learned: int
    right: int
    asked: int
    given: GivenReport


@dataclass(frozen=True, slots=True)
class _Row:
    """A request's words, the number of the tool it asks for (None: of none), and its server."""

    words: list[int]
    tool: int | None
    tool_set: str


def train_retriever(corpus: Corpus, base: Path, *, seed: int, one_catalog: int) -> Learned:
    """Train on the first calls of the training split and on what no tool serves.

    base: the folder of the model whose tokenizer and embeddings it starts from. one_catalog: data
    folders of so many tool sets or fewer count as one catalog, whose adapters know it by heart.

    Raises:
        DataError: the training split has requests for less than 4 tool sets.
    """
    vocabulary, start = word_embeddings(base)
    index = {word: at for at, word in enumerate(vocabulary)}
    tools = [tool for found in corpus.catalog.values() for tool in found]
    number = {(tool.tool_set, tool.name): at for at, tool in enumerate(tools)}
    train, dev = (
        _rows(corpus, split, number, index, seed, one_catalog) for split in ("train", "dev")
    )
    members: dict[str, list[int]] = {}
    for at, tool in enumerate(tools):
        members.setdefault(tool.tool_set, []).append(at)
    if len({row.tool_set for row in train if row.tool is not None}) < OFFERED:
        msg = f"the train split needs requests for {OFFERED} tool sets, so that others stand beside"
        raise DataError(msg)
    texts = [known_words(described(tool), index) or [0] for tool in tools]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        towers = _Towers(start, texts)
        _train(towers, train, texts, members, Random(seed))
    encoder = towers.encoder(vocabulary)
    right, asked = _right(encoder, dev, [encoder.tool(tool) for tool in tools], members)
    given, of_given = train_given(corpus, encoder, seed=seed, one_catalog=one_catalog)
    card = {
        "data_sha256": corpus.sha256,
        "learned": str(len(train)),
        "dev": f"{right} of {asked}",
        "dev, optional parameters": f"{of_given.right} of {of_given.sure} sure",
    }
    return Learned(
        encoder=replace(encoder, card=card, given=given),
        learned=len(train),
        right=right,
        asked=asked,
        given=of_given,
    )


class _Towers(nn.Module):
    """A projection and a shift a word, shared by both towers; two weights a word; two numbers."""

    def __init__(self, start: Tensor, texts: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.register_buffer("start", start)
        axes = torch.linalg.eigh(start.T @ start).eigenvectors[:, -SIZE:]  # the principal ones
        self.projection = nn.Parameter(axes.contiguous())
        self.shift = nn.Parameter(torch.zeros(len(start), axes.shape[1]))
        having = torch.ones(len(start))
        for words in texts:
            having[sorted(set(words))] += 1
        rarity = 0.3 * torch.log(len(texts) / having)
        self.request_weights = nn.Parameter(rarity.clone())
        self.tool_weights = nn.Parameter(rarity.clone())
        self.scale = nn.Parameter(torch.tensor(10.0))
        self.none = nn.Parameter(torch.tensor(3.0))
        self.read = [torch.tensor(list(dict.fromkeys(words))) for words in texts]

    def texts(self, rows: Sequence[Sequence[int]], weights: Tensor, *, dropped: float) -> Tensor:
        """Return the unit vectors [rows, size] of texts given by their words."""
        flat, of = _flat(rows), _of(rows)
        kept = functional.softplus(weights[flat]) * (torch.rand(len(flat)) >= dropped)
        total = torch.zeros(len(rows), self.shift.shape[1]).index_add(
            0, of, self.vectors(flat) * kept[:, None]
        )
        return functional.normalize(total, dim=1)

    def at_best(
        self, rows: Sequence[Sequence[int]], pool: Sequence[int], *, dropped: float
    ) -> Tensor:
        """Return what requests [rows] find on average in the descriptions of tools [pool].

        See `agentflux.contracts.retriever`.
        """
        words, place = torch.unique(_flat(rows), return_inverse=True)
        read = nn.utils.rnn.pad_sequence([self.read[tool] for tool in pool], padding_value=-1)
        lacking = (read < 0) | (torch.rand(read.shape) < dropped / 2)
        lacking[0] = False  # a description of no word at all
        said, where = torch.unique(read.clamp(min=0), return_inverse=True)
        weights = functional.softplus(self.tool_weights[said])
        gates = weights / (weights + 1)
        alike = (self.vectors(said) @ self.vectors(words).T).relu().square() * gates[:, None]
        found = alike[where].masked_fill(lacking[:, :, None], 0.0).amax(dim=0)  # [pool, words]
        asked = functional.softplus(self.request_weights[_flat(rows)])
        kept = asked * (torch.rand(len(asked)) >= dropped)
        share = torch.zeros(len(rows), len(words))
        share = share.index_put((_of(rows), place), kept, accumulate=True)
        return (share / (share.sum(dim=1, keepdim=True) + _TINY)) @ found.T

    def vectors(self, words: Tensor) -> Tensor:
        """Return the unit vectors [words, size]."""
        made = self.get_buffer("start")[words] @ self.projection + self.shift[words]
        return functional.normalize(made, dim=1)

    def groups(self) -> list[dict[str, object]]:
        """Parameters and their learning rates, found on the general adapters' dev servers."""
        return [
            {"params": [self.projection], "lr": 1e-3},
            {"params": [self.request_weights, self.tool_weights], "lr": 5e-3},
            {"params": [self.shift], "lr": 3e-4},
            {"params": [self.scale, self.none], "lr": 1e-2},
        ]

    @torch.no_grad()
    def encoder(self, vocabulary: Sequence[str]) -> BiEncoder:
        """Return it as it is exported: eight bits a number, each word's vector of its own scale."""
        vectors = self.vectors(torch.arange(len(vocabulary)))
        steps = vectors.abs().amax(dim=1, keepdim=True) / 127
        weights = (self.request_weights, self.tool_weights)
        request, tool = (functional.softplus(w).numpy().astype(np.float16) for w in weights)
        return BiEncoder(
            vocabulary=tuple(vocabulary),
            vectors=torch.round(vectors / steps).to(torch.int8).numpy(),
            request_weights=request,
            tool_weights=tool,
            scale=float(self.scale),
            none=float(self.none),
        )


_TINY = 1e-6


def _flat(rows: Sequence[Sequence[int]]) -> Tensor:
    return torch.tensor([word for row in rows for word in row])


def _of(rows: Sequence[Sequence[int]]) -> Tensor:
    """The row of each word of `_flat`."""
    return torch.repeat_interleave(torch.arange(len(rows)), torch.tensor([len(r) for r in rows]))


def _train(
    towers: _Towers,
    rows: list[_Row],
    texts: Sequence[Sequence[int]],
    members: dict[str, list[int]],
    rng: Random,
) -> None:
    offers = _Offers(texts, members, rng)
    optimizer = torch.optim.Adam(towers.groups())
    starts = range(0, max(1, len(rows) - BATCH + 1), BATCH)  # a rest waits for the next epoch
    settling = min(SETTLING, len(starts))
    with progress("batches", EPOCHS * len(starts) + settling) as advance:
        for _ in range(EPOCHS):
            rng.shuffle(rows)
            for first in starts:
                advance()
                _step(optimizer, offers.loss(towers, rows[first : first + BATCH]))
        both = torch.optim.Adam([towers.scale, towers.none], lr=0.05)
        for first in starts[:settling]:
            advance()
            _step(both, offers.loss(towers, rows[first : first + BATCH], settling=True))


def _step(optimizer: torch.optim.Optimizer, loss: Tensor | None) -> None:
    if loss is not None:
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


class _Offers:
    """What a batch of requests chooses from."""

    def __init__(
        self, texts: Sequence[Sequence[int]], members: dict[str, list[int]], rng: Random
    ) -> None:
        self._texts, self._members, self._rng = texts, members, rng

    def loss(
        self, towers: _Towers, rows: Sequence[_Row], *, settling: bool = False
    ) -> Tensor | None:
        """Return both losses, or None where there is nothing to choose from.

        settling: of the scale and of `none`, all else being as it is.
        """
        sets = sorted({row.tool_set for row in rows if row.tool is not None})
        if not sets:
            return None
        pool = [tool for name in sets for tool in self._members[name]]
        column = {tool: at for at, tool in enumerate(pool)}
        said, listed = [row.words for row in rows], [self._texts[tool] for tool in pool]
        with torch.set_grad_enabled(not settling):
            requests = towers.texts(said, towers.request_weights, dropped=_DROPPED)
            alike = requests @ towers.texts(listed, towers.tool_weights, dropped=_DROPPED / 2).T
            if settling:
                alike = alike + towers.at_best(said, pool, dropped=_DROPPED)
        fits = towers.scale * alike
        right = torch.tensor([len(pool) if row.tool is None else column[row.tool] for row in rows])
        served = right < len(pool)
        none = towers.none.expand(len(rows), 1)
        offered = torch.full((len(rows), len(pool)), -torch.inf)
        for line, row in enumerate(rows):
            beside = self._rng.sample(sets, min(OFFERED, len(sets)))
            for name in {*beside, row.tool_set} & {*sets}:
                offered[line, [column[tool] for tool in self._members[name]]] = 0.0
        chosen = functional.cross_entropy(torch.cat([fits + offered, none], dim=1), right)
        return chosen + functional.cross_entropy(fits[served], right[served])


def word_embeddings(base: Path) -> tuple[list[str], Tensor]:
    """Return the whole words of the tokenizer, in order, and their centred embeddings."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokens: dict[str, int] = AutoTokenizer.from_pretrained(base).get_vocab()
    words = {match[1]: at for token, at in tokens.items() if (match := _WORD.fullmatch(token))}
    vocabulary = sorted(words)
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    table: Tensor = model.get_input_embeddings().weight.detach()
    return vocabulary, table[[words[word] for word in vocabulary]] - table.mean(dim=0)


def _rows(
    corpus: Corpus,
    split: str,
    number: dict[tuple[str, str], int],
    index: dict[str, int],
    seed: int,
    one_catalog: int,
) -> list[_Row]:
    found: list[_Row] = []
    for world in corpus.worlds:
        items = [item for item in world.trajectories if item.split == split]
        if len(world.catalog) <= one_catalog:
            if split == "dev":
                continue
            items = Random(seed).sample(items, min(MOST_OF_ONE_CATALOG, len(items)))
        for item in items:
            step = item.steps[0] if item.steps else None
            tool = number[step.tool_set, step.tool] if step else None
            words = known_words(item.request, index) or [0]
            found.append(_Row(words, tool, step.tool_set if step else ""))
    return found


def _right(
    encoder: BiEncoder,
    rows: Sequence[_Row],
    tools: Sequence[Described],
    members: dict[str, list[int]],
) -> tuple[int, int]:
    asked = [row for row in rows if row.tool is not None]
    right = 0
    for row in asked:
        within = members[row.tool_set]
        fits = encoder.fits_of(row.words, [tools[at] for at in within])
        right += within[fits.index(max(fits))] == row.tool
    return right, len(asked)
