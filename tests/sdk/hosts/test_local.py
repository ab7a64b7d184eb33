"""Python functions as tools."""

import asyncio
import contextvars
import functools
import math
import time
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Literal, cast

import pytest
from pydantic import BaseModel, Field
from sdk.hosts.processes import call
from typing_extensions import TypedDict  # pydantic reads typing.TypedDict from Python 3.12 on

from agentflux.contracts.tools import ToolResult
from agentflux.errors import ConfigError
from agentflux.hosts.local import LocalTools, ToolFunction, tool


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Point:
    x: int
    y: int = 0


class Person(BaseModel):
    name: str
    age: int | None = None


class Window(TypedDict):
    start: str
    end: str


class Folder(BaseModel):
    name: str
    folders: list["Folder"] = Field(default_factory=list["Folder"])


def schema(function: ToolFunction) -> Any:
    (spec,) = LocalTools("t", [function]).list_tools()
    return spec.input_schema


def run(function: ToolFunction, **arguments: object) -> ToolResult:
    return LocalTools("t", [function]).call(call("t", function.__name__, **arguments), timeout_s=5)


def test_the_schema_follows_the_type_hints() -> None:
    def paint(
        what: str,
        layers: int,
        gloss: float,
        wet: bool,
        colour: Colour,
        finish: Literal["matt", "shiny"],
        tags: list[str],
        labels: dict[str, int],
    ) -> str: ...

    assert schema(paint) == {
        "type": "object",
        "additionalProperties": False,
        "required": ["what", "layers", "gloss", "wet", "colour", "finish", "tags", "labels"],
        "properties": {
            "what": {"type": "string"},
            "layers": {"type": "integer"},
            "gloss": {"type": "number"},
            "wet": {"type": "boolean"},
            "colour": {"type": "string", "enum": ["red", "blue"]},
            "finish": {"type": "string", "enum": ["matt", "shiny"]},
            "tags": {"type": "array", "items": {"type": "string"}},
            "labels": {"type": "object", "additionalProperties": {"type": "integer"}},
        },
    }


def test_a_default_makes_a_parameter_optional_and_null_is_not_offered() -> None:
    def search(query: str, limit: int = 10, folder: str | None = None) -> str: ...

    assert schema(search) == {
        "type": "object",
        "additionalProperties": False,
        "required": ["query"],
        "properties": {
            "query": {"type": "string"},
            "limit": {"type": "integer", "default": 10},
            "folder": {"type": "string"},
        },
    }


def test_records_of_three_kinds_are_written_in_place() -> None:
    def plan(at: Point, who: Person, when: Window) -> str: ...

    properties = schema(plan)["properties"]

    assert properties["at"]["properties"] == {
        "x": {"type": "integer"},
        "y": {"type": "integer", "default": 0},
    }
    assert properties["who"]["properties"]["age"] == {"type": "integer"}
    assert properties["when"]["required"] == ["start", "end"]
    assert "$defs" not in schema(plan)


def test_a_type_that_contains_itself_stays_a_definition() -> None:
    def create(root: Folder) -> str: ...

    written = schema(create)

    assert written["properties"]["root"] == {"$ref": "#/$defs/Folder"}
    assert written["$defs"]["Folder"]["properties"]["folders"]["items"] == {
        "$ref": "#/$defs/Folder"
    }


def test_descriptions_come_from_the_docstring() -> None:
    def remind(text: str, minutes: int = 5, *, loud: bool = False) -> str:
        """Set a reminder
        on this device.

        More that a model need not read.

        Args:
            text: what to say,
                in your words
            minutes (int): when
            loud: wake them up

        Returns:
            text: not a parameter
        """  # noqa: D205 - a summary of two lines
        ...

    (spec,) = LocalTools("t", [remind]).list_tools()

    assert spec.description == "Set a reminder on this device."
    described = {name: one["description"] for name, one in spec.input_schema["properties"].items()}
    assert described == {
        "text": "what to say, in your words",
        "minutes": "when",
        "loud": "wake them up",
    }


def test_a_limit_in_the_annotation_is_in_the_schema_and_checked() -> None:
    def dim(level: Annotated[int, Field(ge=0, le=100)]) -> str:
        return f"{level} %"

    assert schema(dim)["properties"]["level"] == {"type": "integer", "minimum": 0, "maximum": 100}
    assert run(dim, level=40).text == "40 %"
    assert run(dim, level=400).is_error


def test_a_parameter_may_have_a_name_that_pydantic_uses_itself() -> None:
    def store(copy: bool, json: str, model_config: str = "-", _hidden: int = 1) -> str:
        return f"{copy} {json} {model_config} {_hidden}"

    assert run(store, copy=True, json="{}").text == "True {} - 1"


def test_the_decorator_keeps_the_function_and_carries_the_details() -> None:
    @tool(name="wipe", description="Erase everything.", destructive=True, read_only=False)
    def erase_all(really: bool) -> str:
        return "erased" if really else "kept"

    @tool
    def look() -> str:
        """Look around."""
        return "nothing"

    wipe, look_spec = LocalTools("disk", [erase_all, look]).list_tools()

    assert erase_all(really=False) == "kept"
    assert (wipe.name, wipe.description, wipe.destructive, wipe.read_only) == (
        "wipe",
        "Erase everything.",
        True,
        False,
    )
    assert (look_spec.name, look_spec.description, look_spec.takes_arguments) == (
        "look",
        "Look around.",
        False,
    )


def test_arguments_are_converted_to_the_hinted_types() -> None:
    def kinds(at: Point, who: Person, colour: Colour, when: Window) -> str:
        return " ".join(type(one).__name__ for one in (at, who, colour, when))

    result = run(
        kinds, at={"x": 1}, who={"name": "Ada"}, colour="red", when={"start": "a", "end": "b"}
    )

    assert result.text == "Point Person Colour dict"


def test_every_wrong_argument_is_named_and_the_function_is_not_called() -> None:
    called: list[str] = []

    def send(to: str, count: int) -> None:
        called.append(to)

    result = run(send, to="Ada", count="many", bcc="Eve")

    assert result.is_error
    assert result.text.startswith("wrong arguments for 'send': ")
    assert "count: " in result.text
    assert "bcc: " in result.text
    assert called == []


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is", "as it is"),
        (None, "done"),
        (3, "3"),
        ({"ä": [1, 2.5]}, '{"ä":[1,2.5]}'),
        ([Point(1, 2)], '[{"x":1,"y":2}]'),
        (Person(name="Ada"), '{"name":"Ada","age":null}'),
        (ToolResult(text="no", is_error=True), "no"),
    ],
)
def test_what_a_function_returns_becomes_text(value: object, text: str) -> None:
    def give() -> object:
        return value

    assert run(give).text == text


def test_an_exception_becomes_a_result_with_its_type_and_message() -> None:
    def divide(by: int) -> float:
        return 1 / by

    result = run(divide, by=0)

    assert (result.is_error, result.text) == (True, "ZeroDivisionError: division by zero")


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, asyncio.CancelledError])
def test_a_function_can_end_neither_the_program_nor_its_own_thread(
    error: type[BaseException],
) -> None:
    def leave() -> None:
        raise error("4")

    async def leave_later() -> None:
        await asyncio.sleep(0)
        raise error("4")

    for function in (leave, leave_later):
        result = run(function)
        assert (result.is_error, result.text) == (True, f"{error.__name__}: 4")


def test_a_function_may_run_an_event_loop_of_its_own() -> None:
    async def inner() -> str:
        await asyncio.sleep(0)
        return "ran"

    def outer() -> str:
        return asyncio.run(inner())

    assert run(outer).text == "ran"


def test_an_async_function_is_cancelled_at_the_limit() -> None:
    ended: list[str] = []

    async def wait() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("cancelled")

    result = LocalTools("t", [wait]).call(call("t", "wait"), timeout_s=0.05)

    assert result.text == "tool 'wait' of 't' gave no answer within 0.05 s"
    assert ended == ["cancelled"]


def test_a_blocking_function_does_not_hold_the_caller() -> None:
    def block() -> None:
        time.sleep(3)

    started = time.monotonic()
    result = LocalTools("t", [block]).call(call("t", "block"), timeout_s=0.05)

    assert result.is_error
    assert time.monotonic() - started < 1


def test_an_infinite_limit_is_no_limit() -> None:
    def look() -> str:
        return "seen"

    async def look_later() -> str:
        await asyncio.sleep(0)
        return "seen"

    host = LocalTools("t", [look, look_later])
    for name in ("look", "look_later"):
        assert host.call(call("t", name), timeout_s=math.inf).text == "seen"


def test_a_function_sees_the_callers_context_variables() -> None:
    user = contextvars.ContextVar("user", default="nobody")
    user.set("ana")

    def who() -> str:
        return user.get()

    assert run(who).text == "ana"


def untyped(a) -> None: ...  # type: ignore  # noqa: ANN001, PGH003
def variadic(*names: str) -> None: ...
def positional(a: int, /) -> None: ...
def unresolved(a: "Nowhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821
def unspeakable(a: asyncio.Lock) -> None: ...


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (cast("ToolFunction", untyped), "parameter 'a' needs a type hint"),
        (variadic, "parameter 'names' must be one that can be passed by name"),
        (positional, "parameter 'a' must be one that can be passed by name"),
        (cast("ToolFunction", unresolved), "a type hint cannot be resolved"),
        (unspeakable, "a type hint has no JSON Schema"),
    ],
)
def test_a_signature_that_cannot_be_a_tools_is_refused_at_once(
    function: ToolFunction, message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        tool(function)

    assert function.__name__ in caught.value.where


class Adder:
    def __call__(self, a: int) -> int:
        return a


def add(a: int, b: int) -> int:
    return a + b


@pytest.mark.parametrize("thing", [functools.partial(add, 1), Adder(), "add", math])
def test_what_is_not_a_function_is_refused_at_once(thing: ToolFunction) -> None:
    with pytest.raises(ConfigError, match="is not a function; wrap it in one") as caught:
        LocalTools("sums", [thing])

    assert repr(thing) in caught.value.where


def test_a_callable_that_only_borrows_a_name_is_refused() -> None:
    borrowed = functools.partial(add, 1)
    borrowed.__name__ = "add_one"  # type: ignore[attr-defined]

    with pytest.raises(ConfigError, match="'add_one'"):
        LocalTools("sums", [borrowed])


def test_two_functions_of_one_name_are_refused() -> None:
    def look() -> None: ...

    with pytest.raises(ConfigError, match="two functions are called 'look'"):
        LocalTools("eyes", [look, look])
