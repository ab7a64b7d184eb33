"""How many tokens a text takes, guessed without a tokenizer."""

_CHARS = 3  # of English, of names and of JSON that make a token, at the least


def tokens_at_most(text: str) -> float:
    """Guess cautiously: a token for three ASCII characters, one for each byte of all others.

    The engine counts the real ones; this decides what a prompt is made of before it is asked.
    """
    size = len(text.encode("utf-8", "replace"))
    plain = len(text.encode("ascii", "ignore"))
    return plain / _CHARS + size - plain


def chars_within(text: str, tokens: float) -> int:
    """Return how many characters of such a text so many tokens hold."""
    needed = tokens_at_most(text)
    return len(text) if needed <= tokens else int(len(text) * tokens / needed)
