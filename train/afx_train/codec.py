"""From texts to token ids, as the device does it: each piece of a prompt apart."""

import json
from collections.abc import Iterable
from pathlib import Path

from llguidance import LLTokenizer
from tokenizers import Tokenizer

from afx_train.errors import DataError, RecipeError
from agentflux.contracts import grammar
from agentflux.contracts.prompts import ChatFormat, target_text
from agentflux.contracts.tools import Arguments, ToolSpec

Tokens = tuple[int, ...]


class Codec:
    """The tokenizer of one base model, and its view for constrained decoding."""

    def __init__(self, folder: Path, chat: ChatFormat) -> None:
        """Read tokenizer.json and the vocabulary's size.

        Raises:
            RecipeError: a file is missing, or the chat format's end token is unknown.
        """
        path = folder / "tokenizer.json"
        try:
            self._text = path.read_text(encoding="utf-8")
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RecipeError(f"is not a model folder: {error}", where=str(folder)) from error
        self._tokenizer = Tokenizer.from_str(self._text)
        end = self._tokenizer.token_to_id(chat.end_token)
        if end is None:
            raise RecipeError(
                f"chat.end_token {chat.end_token!r} is not in the tokenizer", where=str(path)
            )
        self.end_token: int = end
        self.vocab_size = int(config.get("text_config", config)["vocab_size"])
        self._grammars: dict[str, str] = {}

    def encode(self, pieces: Iterable[str]) -> Tokens:
        """Tokenize each piece apart and join."""
        return tuple(i for piece in pieces for i in self._ids(piece))

    def label(self, text: str) -> Tokens:
        """Tokens of a name, end token included."""
        return (*self._ids(text), self.end_token)

    def text(self, tokens: Iterable[int]) -> str:
        """Decode, control tokens left out."""
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=True))

    def arguments(self, tool: ToolSpec, arguments: Arguments) -> Tokens:
        """Tokens of a call's arguments, split as a decoder under the tool's grammar splits them.

        Raises:
            DataError: the arguments do not match the tool's schema.
        """
        text = target_text(arguments, tool.input_schema)
        try:
            split = grammar.forced_split(
                self.constrained, self.grammar(tool), text, end_token=self.end_token
            )
        except ValueError as error:
            raise DataError(f"arguments of {tool.name!r}: {error}") from error
        return tuple(split)

    def grammar(self, tool: ToolSpec) -> str:
        """The grammar of a tool's arguments, compiled once."""
        if tool.sha256 not in self._grammars:
            self._grammars[tool.sha256] = grammar.arguments_grammar(tool)
        return self._grammars[tool.sha256]

    @property
    def constrained(self) -> LLTokenizer:
        """llguidance's view of the tokenizer."""
        return grammar.tokenizer(self._text, self.vocab_size, self.end_token)

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)
