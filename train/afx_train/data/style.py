"""Style noise: how the same words look from a phone, in a hurry, or from a polite person.

Works on a request as pieces, so that slot values are never touched. It is no variety of wording
and does not count as such.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

CLEAN_SHARE = 0.55

OPENERS = (
    *(
        "please ",
        "Please ",
        "hi, ",
        "Hi! ",
        "hey, ",
        "Hello, ",
        "hello ",
        "ok, ",
        "Okay, ",
        "Hey there, ",
    ),
    *("quick one: ", "Good morning! ", "so ", "right, ", "um, ", "hey assistant, ", "one more: "),
    *(
        "sorry to bother you, ",
        "when you have a second: ",
        "next: ",
        "now ",
        "well, ",
        "Pls ",
        "pls ",
    ),
    *("Could you help? ", "I need your help. ", "for me please: ", "and now: ", "Good evening, "),
)
CLOSERS = (
    *(
        " please",
        ", please",
        " pls",
        " thanks",
        ", thanks",
        " thx",
        " Thank you!",
        " Thanks!",
        " :)",
    ),
    *(
        ", thank you",
        " please?",
        " asap",
        " cheers",
        " - thanks a lot",
        " ...",
        " if you can",
        " now",
    ),
    *(", would you?", ", if you don't mind", " for me", " Many thanks in advance."),
)
_CONTRACTIONS = (
    *(("what is", "what's"), ("What is", "What's"), ("do not", "don't"), ("I am", "I'm")),
    *(("I would", "I'd"), ("cannot", "can't"), ("is not", "isn't"), ("it is", "it's")),
    *(("I have", "I've"), ("you are", "you're"), ("that is", "that's"), ("I will", "I'll")),
    *(("What's", "What is"), ("what's", "what is"), ("don't", "do not"), ("I'd", "I would")),
    *(("I'm", "I am"), ("can't", "cannot"), ("don't", "dont"), ("what's", "whats")),
    *(("can't", "cant"), ("I'm", "im"), ("it's", "its"), ("you ", "u "), ("please", "pls")),
)
_NEIGHBOURS = {
    **{"a": "s", "b": "v", "c": "x", "d": "f", "e": "r", "f": "g", "g": "h", "h": "j", "i": "o"},
    **{"k": "l", "l": "k", "m": "n", "n": "m", "o": "p", "p": "o", "r": "t", "s": "d", "t": "y"},
    **{"u": "i", "v": "b", "w": "e", "y": "u"},
}


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a request. `open_end`: a free text value that a final mark would extend."""

    text: str
    is_value: bool = False
    open_end: bool = False


def restyle(pieces: Sequence[Piece], rng: Random) -> tuple[list[Piece], str]:
    """Return the pieces with one or no change of style, and the change's name ("" for none)."""
    if rng.random() < CLEAN_SHARE:
        return list(pieces), ""
    names = list(_WEIGHTS)
    name = rng.choices(names, [_WEIGHTS[n] for n in names])[0]
    changed = _STYLES[name](list(pieces), rng)
    return (changed, name) if changed != list(pieces) else (changed, "")


def _each(pieces: list[Piece], change: Callable[[str], str]) -> list[Piece]:
    return [p if p.is_value else Piece(change(p.text)) for p in pieces]


def _lower(pieces: list[Piece], rng: Random) -> list[Piece]:
    return _no_final_mark(_each(pieces, str.lower), rng)


def _upper(pieces: list[Piece], rng: Random) -> list[Piece]:
    return _each(pieces, str.upper)


def _no_final_mark(pieces: list[Piece], rng: Random) -> list[Piece]:
    if pieces and not pieces[-1].is_value:
        pieces[-1] = Piece(re.sub(r"[.!?]+$", "", pieces[-1].text))
    return pieces


def _no_marks(pieces: list[Piece], rng: Random) -> list[Piece]:
    return _each(
        pieces, lambda text: re.sub(r"(?<=\w)[,;!?](?=\s|$)|(?<=[a-z])\.(?=\s|$)", "", text)
    )


def _contraction(pieces: list[Piece], rng: Random) -> list[Piece]:
    pairs = list(_CONTRACTIONS)
    rng.shuffle(pairs)
    for old, new in pairs:
        for number, piece in enumerate(pieces):
            ends = "" if old.endswith(" ") else r"(?![\w'])"  # not the `it is` of `it isn't`
            pattern = rf"\b{re.escape(old)}{ends}"
            if not piece.is_value and re.search(pattern, piece.text):
                pieces[number] = Piece(re.sub(pattern, new, piece.text, count=1))
                return pieces
    return pieces


def _typo(pieces: list[Piece], rng: Random) -> list[Piece]:
    """One or two slips of the finger in words of four letters or more."""
    for _ in range(rng.choice((1, 1, 2))):
        spots = [
            (number, match)
            for number, piece in enumerate(pieces)
            if not piece.is_value
            for match in re.finditer(r"\b[a-z]{4,}\b", piece.text)
        ]
        if not spots:
            break
        number, match = rng.choice(spots)
        text = pieces[number].text
        word = _slip(match.group(), rng)
        pieces[number] = Piece(text[: match.start()] + word + text[match.end() :])
    return pieces


def _slip(word: str, rng: Random) -> str:
    at = rng.randrange(1, len(word) - 1)
    kind = rng.randrange(4)
    if kind == 0:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    if kind == 1:
        return word[:at] + word[at + 1 :]
    if kind == 2:
        return word[:at] + word[at] + word[at:]
    return word[:at] + _NEIGHBOURS.get(word[at], word[at]) + word[at + 1 :]


def _opener(pieces: list[Piece], rng: Random) -> list[Piece]:
    first = pieces[0]
    text = first.text
    if not first.is_value and re.match(r"[A-Z][a-z]+ ", text) and not text.startswith("I "):
        pieces[0] = Piece(text[0].lower() + text[1:])
    return [Piece(rng.choice(OPENERS)), *pieces]


def _closer(pieces: list[Piece], rng: Random) -> list[Piece]:
    """Append politeness, but never behind a value that it could be taken for a part of."""
    last = pieces[-1]
    if last.is_value and last.open_end:
        return pieces
    closer = rng.choice(CLOSERS)
    if last.is_value or last.text[-1:] not in ".!?":
        return [*pieces, Piece(closer)]
    if closer[1:2].isupper() or closer.strip() in (":)", "..."):
        return [*pieces, Piece(closer)]
    return [*pieces[:-1], Piece(last.text.rstrip(".!?") + closer)]


_STYLES: dict[str, Callable[[list[Piece], Random], list[Piece]]] = {
    "lower case": _lower,
    "upper case": _upper,
    "no final mark": _no_final_mark,
    "no marks": _no_marks,
    "contraction": _contraction,
    "typo": _typo,
    "opener": _opener,
    "closer": _closer,
}
_WEIGHTS = {
    "lower case": 22,
    "upper case": 2,
    "no final mark": 14,
    "no marks": 10,
    "contraction": 10,
    "typo": 16,
    "opener": 16,
    "closer": 14,
}
