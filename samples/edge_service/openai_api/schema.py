"""The wire format of `/v1/chat/completions` and `/v1/models`.

Source: the API reference of OpenAI, "Create chat completion" and "List models". Parameters without
a meaning here are accepted where ignoring them is harmless, and refused where it is not.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_core import PydanticKnownError

_HALF_PAIR = re.compile("[\ud800-\udfff]")
FunctionName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,128}$")]


class _Wire(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TextPart(_Wire):
    """A piece of text. Images, sound and files have no meaning for this model."""

    type: Literal["text"]
    text: str


Content = str | list[TextPart]


class FunctionCall(_Wire):
    """A call as the model wrote it. arguments: JSON."""

    name: FunctionName
    arguments: str


class ToolCallItem(_Wire):
    """One call of an assistant's message."""

    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


class SystemMessage(_Wire):
    """What the application says."""

    role: Literal["system", "developer"]
    content: Content
    name: str | None = None


class UserMessage(_Wire):
    """What the person says."""

    role: Literal["user"]
    content: Content
    name: str | None = None


class AssistantMessage(BaseModel):
    """What the model said. Clients send answers back as they came, extra fields included."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    role: Literal["assistant"]
    content: Content | None = None
    tool_calls: list[ToolCallItem] | None = None


class ToolMessage(_Wire):
    """What a tool answered."""

    role: Literal["tool"]
    content: Content
    tool_call_id: str
    name: str | None = None


Message = Annotated[
    SystemMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")
]


class FunctionDefinition(_Wire):
    """A tool that the application can call. parameters: a JSON Schema of an object."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(_Wire):
    """A function; other kinds of tools run on OpenAI's side only."""

    type: Literal["function"]
    function: FunctionDefinition


class NamedFunction(_Wire):
    """The name of a function."""

    name: FunctionName


class NamedTool(_Wire):
    """Exactly this function."""

    type: Literal["function"]
    function: NamedFunction


class AllowedTools(_Wire):
    """Only these of the tools."""

    mode: Literal["auto", "required"]
    tools: list[NamedTool]


class AllowedToolsChoice(_Wire):
    """Only these of the tools."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


ToolChoice = Literal["none", "auto", "required"] | NamedTool | AllowedToolsChoice


class JsonSchemaFormat(_Wire):
    """A named schema. The text is always held to it, strict or not."""

    name: str = Field(min_length=1, max_length=64)
    description: str | None = None
    schema_: dict[str, Any] = Field(alias="schema", default_factory=dict[str, Any])
    strict: bool | None = None


class ResponseFormat(_Wire):
    """Text, any JSON object, or one of a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaFormat | None = None


class StreamOptions(_Wire):
    """include_usage: a last chunk with the counts."""

    include_usage: bool = False
    include_obfuscation: bool | None = None


class ChatRequest(_Wire):
    """A request for the next message."""

    model: str
    messages: list[Message] = Field(min_length=1, max_length=2000)
    tools: list[Tool] | None = Field(default=None, max_length=512)
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = Field(
        default=None, description="accepted; this service answers with one call at a time"
    )
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(default=None, ge=0, le=2, description="default 0: greedy")
    top_p: float | None = Field(default=None, ge=0, le=1, description="0: greedy")
    n: Literal[1] | None = None
    max_tokens: int | None = Field(default=None, ge=1, le=1_000_000)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=1_000_000)
    stop: str | list[str] | None = Field(default=None, max_length=256)
    seed: int | None = Field(default=None, ge=-(2**63), le=2**63 - 1)
    response_format: ResponseFormat | None = None
    logprobs: Literal[False] | None = None
    top_logprobs: Literal[0] | None = None
    presence_penalty: Literal[0, 0.0] | None = None  # type: ignore[valid-type]
    frequency_penalty: Literal[0, 0.0] | None = None  # type: ignore[valid-type]
    logit_bias: None = None
    modalities: list[Literal["text"]] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None
    service_tier: str | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None

    @field_validator("*", mode="before")
    @classmethod
    def _is_text(cls, value: object) -> object:
        """Refuse what no prompt can hold, as pydantic does where a text's length is limited."""
        if not encodable(value):
            raise PydanticKnownError("string_unicode")
        return value


def encodable(value: object) -> bool:
    """Tell whether UTF-8 can encode all text and all names in a JSON value.

    JSON can write half of a surrogate pair (`"\\ud83d"`). Not recursive: values come from outside.
    """
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str) and _HALF_PAIR.search(one):
            return False
        if isinstance(one, dict):
            waiting += [*one.keys(), *one.values()]
        elif isinstance(one, list):
            waiting += one
    return True


class PromptDetails(BaseModel):
    """cached_tokens: those whose KV cache was reused."""

    cached_tokens: int = 0


class UsageCounts(BaseModel):
    """Tokens of all stages together."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails


class StageInfo(BaseModel):
    """One stage of the answer (an addition to OpenAI's format)."""

    stage: str
    adapter: str | None
    choice: str | None = None
    probability: float | None = None
    alternatives: list[tuple[str, float]] | None = None
    ms: float
    prefill_tokens: int
    reused_tokens: int
    decoded_tokens: int


class OwnFields(BaseModel):
    """What this service tells beside OpenAI's fields."""

    stages: list[StageInfo]
    confidence: float | None = None


class AnswerMessage(BaseModel):
    """The message of an answer."""

    role: Literal["assistant"] = "assistant"
    content: str | None = None
    refusal: None = None
    tool_calls: list[ToolCallItem] | None = None


Finish = Literal["stop", "length", "tool_calls"]


class Choice(BaseModel):
    """The only choice."""

    index: Literal[0] = 0
    message: AnswerMessage
    logprobs: None = None
    finish_reason: Finish


class Completion(BaseModel):
    """The answer to a request that does not stream."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: UsageCounts
    system_fingerprint: str
    service_tier: str | None = None
    agentflux: OwnFields


class ToolCallDelta(BaseModel):
    """A piece of a call."""

    index: int
    id: str | None = None
    type: Literal["function"] | None = None
    function: dict[str, str]


class Delta(BaseModel):
    """What a chunk adds."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    tool_calls: list[ToolCallDelta] | None = None


class ChunkChoice(BaseModel):
    """The only choice of a chunk."""

    index: Literal[0] = 0
    delta: Delta
    logprobs: None = None
    finish_reason: Finish | None = None


class Chunk(BaseModel):
    """One event of a stream. usage: in the last one, where it was asked for."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: UsageCounts | None = None
    system_fingerprint: str
    agentflux: OwnFields | None = None


class Model(BaseModel):
    """The bundle, or one of its adapters (then `parent` names the bundle)."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    parent: str | None = None


class ModelList(BaseModel):
    """All models."""

    object: Literal["list"] = "list"
    data: list[Model]
