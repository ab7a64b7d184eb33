"""A tokenizer whose tokens are the bytes, for grammars without a model."""

import llguidance
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

END = 256


def bytes_tokenizer() -> llguidance.LLTokenizer:
    """Token `n` of the alphabet's order is a byte; 256 ends."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate(alphabet)} | {"<end>": 256}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<end>"])
    return llguidance.LLTokenizer(tokenizer.to_str(), eos_token=256)
