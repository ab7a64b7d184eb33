"""Train the convolutional network that reads requests beside the linear classifiers.

See `agentflux.contracts.textcnn` for what it is. Its words are those that the base model's
tokenizer has as one token; their vectors start as the model's own embeddings on their principal
axes, and learn.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from torch import Tensor, nn
from torch.nn import functional

from afx_train.retriever import word_embeddings
from agentflux.contracts.prompts import FINISH
from agentflux.contracts.textcnn import SIGNS, START, Pieces, TextCnn
from agentflux.progress import progress

# Found on the sample's dev split.
SIZE, FILTERS, WIDTHS = 64, 128, (1, 2, 3, 4)
EPOCHS, BATCH = 8, 64
LEARNING_RATE, WEIGHT_DECAY = 2e-3, 1e-2
WORDS_DROPPED, FOUND_DROPPED, SMOOTHING = 0.15, 0.5, 0.05
_SIMILAR = 50  # batches whose rows are sorted by length together


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, the calls made so far (`tool_set/tool`), and what is right then."""

    request: str
    calls: Sequence[str]
    right: str


def train_textcnn(rows: Sequence[Asked], base: Path, *, seed: int) -> TextCnn | None:
    """Train on first and later decisions. base: the folder of the model that the words are of.

    Equal rows and seed give equal weights on one machine. None where the model's tokenizer has no
    word as one token.
    """
    vocabulary, start = word_embeddings(base)
    if not vocabulary:
        return None
    axes = torch.linalg.eigh(start.T @ start).eigenvectors[:, -SIZE:]
    vectors = functional.normalize(start @ axes, dim=1)
    labels = sorted({row.right for row in rows} | {FINISH})
    calls = sorted({call for row in rows for call in row.calls})
    pieces, at = Pieces(vocabulary, calls), {label: n for n, label in enumerate(labels)}
    read = [(pieces.of(row.request, row.calls), at[row.right]) for row in rows]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _Network(vectors, pieces, len(labels))
        _train(network, read, Random(seed))
    return network.exported(vocabulary, calls, labels)


class _Network(nn.Module):
    """Vectors of words and marks, filters, and what they weigh for each label."""

    def __init__(self, vectors: Tensor, pieces: Pieces, labels: int) -> None:
        super().__init__()
        size, marks = vectors.shape[1], pieces.count - len(vectors)
        self.words = nn.Parameter(vectors)
        self.marks = nn.Parameter(0.1 * torch.randn(marks, size))
        layers = [nn.Conv1d(size, FILTERS, width) for width in WIDTHS]
        self.weights = nn.ParameterList(layer.weight for layer in layers)
        self.biases = nn.ParameterList(layer.bias for layer in layers)
        self.out = nn.Linear(FILTERS * len(WIDTHS), labels)
        self._nothing = pieces.count  # stands where a shorter row has ended
        self._kept_from = len(vectors) + SIGNS.index(START)  # the start and calls are never dropped

    def forward(self, rows: Tensor) -> Tensor:
        """Return logits [rows, labels] of padded numbers [rows, most pieces]."""
        nothing = torch.zeros(1, self.marks.shape[1])
        seen = functional.embedding(rows, torch.cat([self.words, self.marks, nothing]))
        dropped = torch.rand(rows.shape) < (WORDS_DROPPED if self.training else 0.0)
        seen = seen.masked_fill((dropped & (rows < self._kept_from))[..., None], 0.0)
        filters = zip(self.weights, self.biases, strict=True)
        found = [functional.conv1d(seen.transpose(1, 2), *f).amax(2).relu() for f in filters]
        kept = functional.dropout(torch.cat(found, 1), FOUND_DROPPED, self.training)
        return functional.linear(kept, self.out.weight, self.out.bias)

    def padded(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Rows of one length, with nothing before and behind, as wide as the widest filter."""
        edge = [self._nothing] * max(WIDTHS)
        most = max(map(len, rows))
        longer = ([*row, *[self._nothing] * (most - len(row))] for row in rows)
        return torch.tensor([[*edge, *row, *edge] for row in longer])

    @torch.no_grad()
    def exported(
        self, vocabulary: Sequence[str], calls: Sequence[str], labels: Sequence[str]
    ) -> TextCnn:
        """Return it as it is exported: a word's vector in eight bits, of its own scale."""
        scales = self.words.abs().amax(dim=1) / 127
        out = torch.cat([self.out.weight.T, self.out.bias[None]])
        return TextCnn(
            labels=tuple(labels),
            vocabulary=tuple(vocabulary),
            calls=tuple(calls),
            vectors=torch.round(self.words / scales[:, None]).to(torch.int8).numpy(),
            scales=scales.half().numpy(),
            marks=self.marks.half().numpy(),
            out=out.half().numpy(),
            filters={
                width: (w.permute(2, 1, 0).reshape(-1, FILTERS).half().numpy(), b.half().numpy())
                for width, w, b in zip(WIDTHS, self.weights, self.biases, strict=True)
            },
        )


def _train(network: _Network, rows: Sequence[tuple[list[int], int]], rng: Random) -> None:
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=WEIGHT_DECAY)
    steps = EPOCHS * -(-len(rows) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps + 1)
    with progress("batches", steps) as advance:
        for batch in (b for _ in range(EPOCHS) for b in _batches(rows, rng)):
            logits = network(network.padded([row for row, _ in batch]))
            right = torch.tensor([label for _, label in batch])
            loss = functional.cross_entropy(logits, right, label_smoothing=SMOOTHING)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            advance()


def _batches(
    rows: Sequence[tuple[list[int], int]], rng: Random
) -> Iterator[Sequence[tuple[list[int], int]]]:
    """Draw every row once, those of about one length together."""
    order = rng.sample(range(len(rows)), len(rows))
    many = BATCH * _SIMILAR
    batches = list[list[int]]()
    for first in range(0, len(order), many):
        alike = sorted(order[first : first + many], key=lambda at: len(rows[at][0]))
        batches += [alike[at : at + BATCH] for at in range(0, len(alike), BATCH)]
    rng.shuffle(batches)
    return ([rows[at] for at in batch] for batch in batches)
