"""Training the network that reads requests beside the linear classifiers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from train.asked import ASKED, FILLERS, asked_corpus, write_model

from afx_train.intents import label, train_intents
from afx_train.textcnn import Asked, train_textcnn
from agentflux.contracts.intents import Intents, load_intents
from agentflux.contracts.textcnn import TextCnn


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model to whom the two words that ask for a tool are alike."""
    folder = tmp_path_factory.mktemp("alike")
    write_model(folder, alike=True)
    return folder


def best(network: TextCnn, request: str, calls: tuple[str, ...] = ()) -> str:
    told = network.log_probabilities(request, calls)
    return max(told, key=told.__getitem__)


def test_it_knows_words_that_training_never_saw_by_those_that_it_did_see(base: Path) -> None:
    words = [(f"{s}/{tool}", said) for s, tools in ASKED.items() for tool, said in tools.items()]
    rows = [
        Asked(f"{filler} {one} {FILLERS[n]}", (), name)
        for name, (one, _) in words
        for filler in FILLERS
        for n in range(4)
    ] * 4
    network = train_textcnn(rows, base, seed=0)
    assert network is not None
    found = [best(network, f"please {other} now") == name for name, (_, other) in words]
    assert sum(found) > 0.7 * len(words)
    again = train_textcnn(rows, base, seed=0)
    assert again is not None
    assert (again.vectors == network.vectors).all()
    assert np.isfinite(network.out).all()


def test_it_reads_what_was_called(base: Path) -> None:
    told = [("shine", "dark", "light", "dim"), ("buy", "money", "order", "refund")]
    rows = [
        Asked(f"{filler} {first} {FILLERS[n]} {second}", calls, right)
        for first, second, one, two in told
        for calls, right in (((), one), ((one,), two), ((one, two), "finish"))
        for filler in FILLERS
        for n in range(4)
    ] * 8
    network = train_textcnn(rows, base, seed=0)
    assert network is not None
    assert best(network, "please shine now dark") == "light"
    assert best(network, "please shine now dark", ("light",)) == "dim"
    assert best(network, "please buy today money", ("order", "refund")) == "finish"


def test_it_stays_where_the_dev_split_is_told_better_with_it(base: Path, tmp_path: Path) -> None:
    data = asked_corpus(tmp_path / "data", other=True)
    learned = train_intents(data, base, seed=0)
    assert learned.intents.reader is not None
    dev = [item for item in data.trajectories if item.split == "dev"]

    def right(intents: Intents) -> int:
        told = [intents.log_probabilities(item.request) for item in dev]
        return sum(max(t, key=t.__getitem__) == label(i) for t, i in zip(told, dev, strict=True))

    assert learned.right == right(learned.intents) > right(replace(learned.intents, reader=None))
    learned.intents.save(tmp_path / "intents.npz")
    again = load_intents(tmp_path / "intents.npz")
    told = learned.intents.log_probabilities("please shine")
    assert again.log_probabilities("please shine") == told
