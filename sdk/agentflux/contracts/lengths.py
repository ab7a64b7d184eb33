"""How many tokens a text takes, guessed without a tokenizer."""

from agentflux.contracts.prompts import cut

_CHARS = 3  # of English, of names and of JSON that make a token, at the least


def tokens_at_most(text: str) -> float:
    """Guess cautiously: a token for three ASCII characters, one for each byte of all others.

    The engine counts the real ones; this decides what a prompt is made of before it is asked.
    """
    size = len(text.encode("utf-8", "replace"))
    plain = len(text.encode("ascii", "ignore"))
    return plain / _CHARS + size - plain


def cut_to(text: str, tokens: float) -> str:
    """Keep the beginning and the end of a text that takes more, as `cut` does."""
    kept, limit = text, len(text)
    while tokens_at_most(kept) > tokens and limit > 0:
        limit = min(limit - 1, int(limit * tokens / tokens_at_most(kept)))
        kept = cut(text, limit)
    return kept
