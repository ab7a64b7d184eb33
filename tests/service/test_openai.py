"""The official client, unchanged, against the real process with the sample's bundle."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import BaseModel
from service.support import ASK_TIME, PATIENCE_S, Service

pytestmark = pytest.mark.model

TEXT = {"type": "string"}
HELLO = [{"role": "user", "content": "Say hello."}]


def function(name: str, description: str, **properties: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": schema},
    }


CLOCK = [
    function("get_current_time", "Get current time in a specific timezone.", timezone=TEXT),
    function(
        "convert_time",
        "Convert time between timezones.",
        source_timezone=TEXT,
        time=TEXT,
        target_timezone=TEXT,
    ),
]
UNSEEN = [
    function("book_table", "Book a table.", place=TEXT, people={"type": "integer", "maximum": 20}),
    function("weather", "Get the weather.", city=TEXT, unit={"enum": ["celsius", "fahrenheit"]}),
]
WEATHER = [{"role": "user", "content": "What is the weather in Oslo?"}]
_CALLED = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{bad"}}
BROKEN = [
    *WEATHER,
    {"role": "assistant", "content": None, "tool_calls": [_CALLED]},
    {"role": "tool", "content": "x", "tool_call_id": "c1"},
]


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{service.url}/v1", api_key=service.key, timeout=PATIENCE_S, max_retries=0
    ) as made:
        yield made


@pytest.fixture(scope="module")
def model(client: openai.OpenAI) -> str:
    return client.models.list().data[0].id


def ask(client: openai.OpenAI, model: str, messages: Any, **options: Any) -> Any:
    return client.chat.completions.create(model=model, messages=messages, **options)


def test_the_models_are_the_bundle_and_its_adapters(client: openai.OpenAI) -> None:
    bundle, *adapters = client.models.list().data
    assert {"route", "select.git", "args.time"} <= {adapter.id for adapter in adapters}
    assert {adapter.model_extra["parent"] for adapter in adapters} == {bundle.id}
    assert client.models.retrieve("route").id == "route"


def test_a_stream_says_what_the_whole_answer_says(client: openai.OpenAI, model: str) -> None:
    whole = ask(client, model, HELLO, max_tokens=10)
    stream = ask(
        client, model, HELLO, max_tokens=10, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    said = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert said.strip() == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == (
        whole.choices[0].finish_reason
    )
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens


def test_a_known_tool_is_called_by_its_own_adapters(client: openai.OpenAI, model: str) -> None:
    asked: list[Any] = [{"role": "user", "content": ASK_TIME}]
    first = ask(client, model, asked, tools=CLOCK, tool_choice="required")
    message = first.choices[0].message
    assert first.choices[0].finish_reason == "tool_calls"
    (call,) = message.tool_calls
    (chosen,) = [t for t in CLOCK if t["function"]["name"] == call.function.name]
    jsonschema.validate(json.loads(call.function.arguments), chosen["function"]["parameters"])
    adapters = [stage["adapter"] for stage in first.model_extra["agentflux"]["stages"]]
    assert [name.partition(".")[0] for name in adapters] == ["select", "args"]

    asked += [message, {"role": "tool", "tool_call_id": call.id, "content": "09:30"}]
    second = ask(client, model, asked, tools=CLOCK, tool_choice="none", max_tokens=16)
    assert second.choices[0].message.content
    assert second.choices[0].message.tool_calls is None


def test_tools_of_two_known_sets_are_routed_first(client: openai.OpenAI, model: str) -> None:
    files = [function("read_text_file", "Read a file as text.", path=TEXT)]
    done = ask(
        client,
        model,
        [{"role": "user", "content": ASK_TIME}],
        tools=CLOCK + files,
        tool_choice="required",
    )
    stages = done.model_extra["agentflux"]["stages"]
    assert stages[0]["stage"] == "route"
    assert stages[0]["choice"] in ("time", "filesystem")
    assert 0 < stages[0]["probability"] <= 1


def test_a_tool_never_seen_is_called_in_a_stream(client: openai.OpenAI, model: str) -> None:
    with client.chat.completions.stream(
        model=model, messages=WEATHER, tools=UNSEEN, tool_choice="required"
    ) as stream:
        final = stream.get_final_completion()
    (call,) = final.choices[0].message.tool_calls
    (chosen,) = [t for t in UNSEEN if t["function"]["name"] == call.function.name]
    jsonschema.validate(json.loads(call.function.arguments), chosen["function"]["parameters"])


def test_a_named_tool_is_called_whatever_the_model_prefers(
    client: openai.OpenAI, model: str
) -> None:
    for name in ("book_table", "weather"):
        named = {"type": "function", "function": {"name": name}}
        done = ask(client, model, WEATHER, tools=UNSEEN, tool_choice=named)
        assert done.choices[0].message.tool_calls[0].function.name == name


def test_allowed_tools_leave_the_others_out(client: openai.OpenAI, model: str) -> None:
    allowed = [{"type": "function", "function": {"name": "book_table"}}]
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": allowed}}
    done = ask(client, model, WEATHER, tools=UNSEEN, tool_choice=choice)
    assert done.choices[0].message.tool_calls[0].function.name == "book_table"


def test_a_response_format_is_parsed_into_the_callers_class(
    client: openai.OpenAI, model: str
) -> None:
    class Place(BaseModel):
        sunny: bool
        degrees: int

    parsed = client.chat.completions.parse(model=model, messages=WEATHER, response_format=Place)
    assert isinstance(parsed.choices[0].message.parsed, Place)


def test_arguments_are_parsed_into_the_callers_class(client: openai.OpenAI, model: str) -> None:
    class Weather(BaseModel):
        """Get the weather."""

        city: str
        days: int

    done = client.chat.completions.parse(
        model=model,
        messages=WEATHER,
        tools=[openai.pydantic_function_tool(Weather, name="weather")],
        tool_choice="required",
        parallel_tool_calls=False,
    )
    (call,) = done.choices[0].message.tool_calls
    assert isinstance(call.function.parsed_arguments, Weather)


def test_an_agent_of_the_asynchronous_client_calls_streams_and_answers(
    service: Service, model: str
) -> None:
    """The usual loop: collect the deltas of a call, run it, give the result, stream the answer."""

    async def talk() -> tuple[str, str]:
        base = f"{service.url}/v1"
        options: Any = {"model": model, "tools": CLOCK, "stream": True, "max_tokens": 24}
        said: list[Any] = [{"role": "user", "content": ASK_TIME}]
        async with openai.AsyncOpenAI(
            base_url=base, api_key=service.key, timeout=PATIENCE_S, max_retries=0
        ) as client:
            called: dict[int, dict[str, Any]] = {}
            async for chunk in await client.chat.completions.create(messages=said, **options):
                for delta in chunk.choices[0].delta.tool_calls or ():
                    call = called.setdefault(delta.index, {"id": delta.id, "name": "", "text": ""})
                    call["name"] += delta.function.name or ""
                    call["text"] += delta.function.arguments or ""
            (call,) = called.values()
            function = {"name": call["name"], "arguments": call["text"]}
            tool_calls = [{"id": call["id"], "type": "function", "function": function}]
            said.append({"role": "assistant", "tool_calls": tool_calls})
            said.append({"role": "tool", "tool_call_id": call["id"], "content": "09:30"})
            options["tool_choice"] = "none"
            answer = ""
            async for chunk in await client.chat.completions.create(messages=said, **options):
                answer += chunk.choices[0].delta.content or ""
            return call["name"], answer

    name, answer = asyncio.run(talk())
    assert name == "get_current_time"
    assert answer.strip()


def test_an_answer_tells_its_place_in_the_line(client: openai.OpenAI, model: str) -> None:
    for stream in (False, True):
        asked: Any = {"model": model, "messages": HELLO, "max_tokens": 1, "stream": stream}
        raw = client.chat.completions.with_raw_response.create(**asked)
        assert int(raw.headers["X-Queue-Position"]) >= 1
        raw.http_response.close()


def test_stop_and_length_end_a_text(client: openai.OpenAI, model: str) -> None:
    long = ask(client, model, HELLO, max_tokens=6).choices[0]
    assert long.finish_reason in ("length", "stop")
    letter = next(c for c in long.message.content[1:] if c.isalpha())
    cut = ask(client, model, HELLO, max_tokens=6, stop=[letter]).choices[0]
    assert cut.finish_reason == "stop"
    assert letter not in cut.message.content
    assert long.message.content.startswith(cut.message.content.strip())


def test_a_seed_repeats_a_sampled_text(client: openai.OpenAI, model: str) -> None:
    hot = {"temperature": 1.8, "max_tokens": 8}
    first, again, other = (
        ask(client, model, HELLO, seed=seed, **hot).choices[0].message.content for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages"),
        ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "y"}]}, "messages.0"),
        ({"messages": BROKEN, "tools": UNSEEN}, "messages"),
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"temperature": 3}, "temperature"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"messages": [{"role": "user", "content": "word " * 9000}]}, "messages"),
        ({"extra_body": {"no_such_parameter": 1}}, "no_such_parameter"),
        ({"tools": [UNSEEN[0], UNSEEN[0]]}, "tools"),
        ({"model": "route"}, "model"),
    ],
)
def test_bad_requests_are_errors_in_openais_form(
    client: openai.OpenAI, model: str, change: dict[str, Any], param: str
) -> None:
    request = {"model": model, "messages": HELLO, **change}
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(**request)
    body = refused.value.body
    assert isinstance(body, dict)
    assert set(body) == {"message", "type", "param", "code"}
    assert body["type"] == "invalid_request_error"
    assert body["param"].startswith(param)


def test_an_unknown_model_and_a_wrong_key_have_their_own_errors(
    client: openai.OpenAI, service: Service
) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        ask(client, "gpt-none", HELLO)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError) as elsewhere:
        client.embeddings.create(model="x", input="y")
    assert elsewhere.value.code == "not_found"
    stranger = openai.OpenAI(base_url=f"{service.url}/v1", api_key="afx-00-x", max_retries=0)
    with stranger, pytest.raises(openai.AuthenticationError) as refused:
        stranger.models.list()
    assert refused.value.code == "invalid_api_key"


def test_the_documented_shapes_are_served(service: Service, model: str) -> None:
    """Requests as the API reference shows them; the answers validate as the client's own types."""
    file = Path(__file__).parent / "documented_requests.json"
    with service.client() as http:
        for request in json.loads(file.read_text(encoding="utf-8")):
            body = {**request, "model": model, "max_tokens": 8}
            answer = http.post("/v1/chat/completions", json=body)
            assert answer.status_code == 200, (request, answer.text)
            if not request.get("stream"):
                ChatCompletion.model_validate(answer.json(), strict=True)
                continue
            lines = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
            assert lines.pop() == "[DONE]"
            for line in lines:
                ChatCompletionChunk.model_validate(json.loads(line), strict=True)
