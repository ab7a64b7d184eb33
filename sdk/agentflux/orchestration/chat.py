"""Plain conversation with the base model: no tools, no stages."""

from collections.abc import Sequence
from dataclasses import dataclass

from agentflux.contracts.grammar import arguments_grammar
from agentflux.contracts.prompts import ChatFormat, Turn, chat_pieces
from agentflux.contracts.tools import JsonSchema, ToolSpec
from agentflux.errors import ConfigError, SchemaNotSupported
from agentflux.orchestration.stages import ANSWER_REPETITION_PENALTY
from agentflux.ports import Generation, Segment


@dataclass(frozen=True, slots=True, kw_only=True)
class TextOptions:
    """How to decode. json_schema: the text is one JSON object of this schema.

    temperature: 0 is greedy; `top_p` and `seed` are only read above it. stop: texts that end the
    turn and are left out.
    """

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    json_schema: JsonSchema | None = None


def chat_request(chat: ChatFormat, turns: Sequence[Turn], options: TextOptions) -> Generation:
    """Turn a conversation into a request to the engine.

    Raises:
        ConfigError: there is no turn. SchemaNotSupported: the schema cannot become a grammar.
    """
    if not turns:
        raise ConfigError("a conversation needs at least one turn")
    grammar, penalty = None, ANSWER_REPETITION_PENALTY
    if options.json_schema is not None:
        # Keys and quotes repeat by right, so the penalty would push the model out of the schema.
        try:
            shape = ToolSpec(tool_set="text", name="response", input_schema=options.json_schema)
        except ConfigError as error:
            raise SchemaNotSupported("response", reason=str(error)) from error
        grammar, penalty = arguments_grammar(shape), 1.0
    return Generation(
        segments=tuple(Segment(text=piece) for piece in chat_pieces(chat, turns)),
        max_tokens=options.max_tokens,
        grammar=grammar,
        temperature=options.temperature,
        top_p=options.top_p,
        seed=options.seed,
        stop=options.stop,
        repetition_penalty=penalty,
    )
