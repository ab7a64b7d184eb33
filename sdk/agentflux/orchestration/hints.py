"""What the request's own words say, where a stage meets tools that no adapter was trained for.

A small model that never saw a list of tools chooses from it hardly better than by chance, while a
request and a description often share words. So both have a say there, as a product of experts
(Hinton 2002, doi:10.1162/089976602760128018), c being a name's BM25 score:

    P(name) ∝ P_model(name) ^ MODEL · exp(WORDS · c)

`none` has no words and so the score 0. The two numbers were found on servers of `samples/general`
that no adapter was trained on, by `tests/bench/hints.py`.
"""

import math
from collections.abc import Mapping
from dataclasses import replace

from agentflux.ports import Scores

MODEL = 0.7
WORDS = 2.0
_FLOOR = 1e-9


def with_words(
    scores: Scores,
    matches: Mapping[str, float],
    *,
    model: float = MODEL,
    words: float = WORDS,
) -> Scores:
    """Choose again, the words of the names taken into account.

    matches: BM25 score of each name; what is not among them is `none`. Names whose probability the
    engine did not tell are no candidates; where it told one only, that one stays.
    """
    if not scores.alternatives:
        return scores
    told = [(scores.best, scores.probability), *scores.alternatives]
    merits = {
        name: model * math.log(max(p, _FLOOR)) + words * matches.get(name, 0.0) for name, p in told
    }
    most = max(merits.values())
    shares = {name: math.exp(merit - most) for name, merit in merits.items()}
    total = sum(shares.values())
    (best, top), *others = sorted(
        ((name, share / total) for name, share in shares.items()), key=lambda pair: -pair[1]
    )
    return replace(
        scores,
        best=best,
        probability=top,
        margin=top - (others[0][1] if others else 0.0),
        entropy=-sum(p * math.log(p) for _, p in [(best, top), *others] if p > 0),
        alternatives=tuple(others),
    )
