"""Training the bi-encoder on a few servers."""

from pathlib import Path

import pytest
from train.asked import asked_corpus

from afx_train.errors import DataError
from afx_train.retriever import train_retriever
from agentflux.contracts.intents import surely_given
from agentflux.contracts.tools import ToolSpec


def test_it_learns_what_other_words_ask_for(words_base: Path, tmp_path: Path) -> None:
    data = asked_corpus(tmp_path / "data")
    learned = train_retriever(data, words_base, seed=1, one_catalog=2)
    assert learned.asked == 30
    assert learned.right > 0.8 * learned.asked
    encoder = learned.encoder
    lamp = [ToolSpec(tool_set="lamp", name=n, description="") for n in ("light", "dim")]
    light, dim = encoder.fits("please shine", [encoder.tool(tool) for tool in lamp])
    assert light > dim
    again = train_retriever(data, words_base, seed=1, one_catalog=2).encoder
    assert (again.vectors == encoder.vectors).all()


def test_too_few_servers_are_refused(words_base: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="4 tool sets"):
        train_retriever(asked_corpus(tmp_path / "data", sets=2), words_base, seed=1, one_catalog=1)


def test_it_learns_which_optional_parameters_requests_give(
    words_base: Path, tmp_path: Path
) -> None:
    data = asked_corpus(tmp_path / "data", loud=True)
    learned = train_retriever(data, words_base, seed=1, one_catalog=2)
    assert learned.given.examples == 30
    assert learned.given.right == learned.given.sure > 20
    tool = data.catalog["lamp"][0]
    odds = [learned.encoder.odds_given(tool, f"shine {said}")["loud"] for said in ("loud", "now")]
    assert [surely_given(found) for found in odds] == [True, False]
    without = asked_corpus(tmp_path / "without")
    assert train_retriever(without, words_base, seed=1, one_catalog=2).encoder.given is None
