"""Copied strings: what is a span, and what the grammar lets through."""

import json
from typing import Any

import llguidance
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sdk.byte_tokens import bytes_tokenizer

from agentflux.contracts.grammar import arguments_grammar, copying_grammar
from agentflux.contracts.spans import (
    ANY_NUMBER,
    EMPTY,
    Held,
    is_span,
    names,
    spans_like,
    strange_names,
    string_leaves,
    words,
)
from agentflux.contracts.tools import ToolSpec

REQUEST = 'Move notes/Été 2024/plan v2.txt to "archive"; say hello\tworld'
TOOL = ToolSpec(
    tool_set="files",
    name="edit",
    description="",
    input_schema={
        "type": "object",
        "properties": {
            "path": {"type": "string"},
            "dry": {"type": "boolean"},
            "edits": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"old": {"type": "string"}, "new": {"type": "string"}},
                    "required": ["old", "new"],
                },
            },
            "tag": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
        },
        "required": ["path"],
    },
)


TOKENS = bytes_tokenizer()


def allows(grammar: str, value: object) -> bool:
    """Whether the grammar accepts the value, written compactly."""
    matcher = llguidance.LLMatcher(TOKENS, grammar)
    assert not matcher.get_error()
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    tokens = TOKENS.tokenize_bytes(text.encode())
    return matcher.try_consume_tokens(tokens) == len(tokens) and bool(matcher.is_accepting())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("notes/Été 2024/plan v2.txt", True),
        ("plan", True),
        ("archive", True),
        ('"archive"', True),
        ("lan", False),
        ("notes/Et", False),
        (" plan", False),
        ("", False),
        ("plan\nv2", False),
    ],
)
def test_a_span_begins_and_ends_between_words(text: str, expected: bool) -> None:
    assert is_span(text, ["other", REQUEST]) is expected


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        ({"path": "notes/Été 2024/plan v2.txt"}, True),
        ({"path": '"archive"'}, True),
        ({"path": "hello\tworld"}, True),
        ({"path": "notes/plan"}, False),
        ({"path": "rchive"}, False),
        ({"path": " say"}, False),
        ({"path": "say "}, False),
        ({"path": ""}, False),
        ({}, False),
        ({"path": "archive", "dry": True, "edits": [], "tag": None}, True),
        ({"path": "archive", "tag": "hello"}, True),
        ({"path": "archive", "tag": "goodbye"}, False),
        ({"path": "archive", "edits": [{"old": "say", "new": "anything at all"}]}, True),
        ({"path": "archive", "edits": [{"old": "anything", "new": "say"}]}, False),
        ({"path": "archive", "edits": [{"old": "say", "new": "a"}] * 2, "tag": "Move"}, True),
        ({"path": "archive", "more": 1}, False),
    ],
)
def test_the_grammar_lets_only_spans_through_where_they_are_asked_for(
    arguments: dict[str, Any], allowed: bool
) -> None:
    grammar = copying_grammar(TOOL, ("path", "edits[].old", "tag"), ["", REQUEST])
    assert allows(grammar, arguments) is allowed


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        ({"path": "archive/plan v2.txt"}, True),
        ({"path": "**/*plan*"}, True),
        ({"path": 'say_hello: "world"\\'}, True),
        ({"path": "SELECT plan FROM Été WHERE v2 >= 2024"}, True),
        ({"path": "plan LIMIT 7"}, False),
        ({"path": "plans"}, False),
        ({"path": "sayhello"}, False),
        ({"path": "pla"}, False),
        ({"path": " plan"}, False),
        ({"path": "plan "}, False),
        ({"path": "plan\\txt"}, True),
        ({"path": "plan\txt"}, False),
        ({"path": "plan\nv2"}, False),
        ({"path": ""}, False),
        ({"path": ".", "tag": "row 17"}, True),
        ({"path": ".", "tag": ""}, True),
        ({"path": ".", "tag": " row"}, False),
        ({"path": ".", "tag": None}, True),
        ({"path": ".", "tag": "row one"}, False),
        ({"path": ".", "dry": True, "edits": [{"old": "plan", "new": "any thing"}]}, True),
        ({"path": ".", "dry": 7}, False),
    ],
)
def test_the_grammar_lets_only_words_of_the_texts_and_a_parameters_own_through(
    arguments: dict[str, Any], allowed: bool
) -> None:
    own = {"path": ("SELECT", "FROM", "WHERE"), "tag": (ANY_NUMBER, EMPTY, "row"), "dry": ()}
    grammar = copying_grammar(TOOL, ("edits[].old",), [REQUEST], worded=own)
    assert allows(grammar, arguments) is allowed


SQL = ("SELECT", "COUNT", "FROM", "WHERE", "LIKE", "ORDER", "BY", ANY_NUMBER)


@pytest.mark.parametrize(
    ("statement", "allowed"),
    [
        ("SELECT order_no FROM orders WHERE status = 'the orders of say_hello'", True),
        ("SELECT COUNT(*) FROM orders WHERE order_no = 5107", True),
        ("SELECT \"order_no\" FROM orders WHERE status LIKE '%plan%' ORDER BY order_no", True),
        ("SELECT order_no FROM orders WHERE status = 'it''s plan'", False),  # nobody said it
        ("SELECT order_no FROM plan", False),
        ("SELECT order FROM orders", False),
        ("SELECT order_no FROM orders_no", False),
        ("SELECT status FROM orders WHERE status = 'invented'", False),
        ("SELECT status FROM orders WHERE status = plan", False),
        ("", False),
    ],
)
def test_words_outside_quotes_can_be_held_to_names(statement: str, allowed: bool) -> None:
    shown = names(["orders(order_no, status)"])
    texts = [f"{REQUEST}: the order's say_hello of 5107", "orders(order_no, status)"]
    grammar = copying_grammar(
        TOOL, (), texts, worded={"path": SQL}, held=Held(named={"path": shown})
    )
    assert allows(grammar, {"path": statement}) is allowed


@pytest.mark.parametrize(
    ("value", "allowed"),
    [
        (r"C:\Users\ana\my-app", True),
        (r"C:\Users\ana", False),
        ("/srv/a+b", True),
        ("/srv", False),
        ("plan.md", False),
    ],
)
def test_values_can_be_held_to_some(value: str, allowed: bool) -> None:
    paths = [r"C:\Users\ana\my-app", "/srv/a+b"]
    texts = ["commit plan.md", *paths]
    for how in ({"copied": ("path",)}, {"copied": (), "worded": {"path": ()}}, {"copied": ()}):
        grammar = copying_grammar(TOOL, texts=texts, held=Held(one_of={"path": paths}), **how)
        assert allows(grammar, {"path": value}) is allowed


@pytest.mark.parametrize("other", ['x"1.md', "a\\b/c+(d)", "[e]{f}^$|g?*.", "été & ~h #-i"])
def test_a_value_can_be_held_to_the_spans_without_a_text(other: str) -> None:
    grammar = copying_grammar(TOOL, (), [f"move {other} to j"], held=Held(spans={"path": other}))
    assert allows(grammar, {"path": "move"})
    assert allows(grammar, {"path": "to j"})
    for path in (other, f"{other} to j", f"move {other}", "moves"):
        assert not allows(grammar, {"path": path}), path


def test_the_spans_that_a_text_is_a_slip_of() -> None:
    said = [
        "the insurance asks for every vet payment",
        "run SHAFT-B.tap in Lisbon, local Europe/Kyiv",
    ]
    assert spans_like("vet payments", said)[0] == "vet payment"
    assert spans_like("SAFET-B.tap", said)[0] == "SHAFT-B.tap"
    for text in ("Africa/Lisbon", "Europe/Lisbon", "every Lisbon", "something else", "12:30", ""):
        assert spans_like(text, said) == [], text
    assert spans_like("vet payments", [*said, "x " * 2000]) == [], "too long to be compared"
    assert 0 < len(spans_like("vet payments", ["vet payment, " * 90])) <= 32


def test_a_name_is_strange_where_others_are_shown() -> None:
    shown = names(["orders(order_no, status)"])
    told = "UPDATE order SET status = 'new one' WHERE order_no = 7"
    assert strange_names(told, ("UPDATE", "SET", "WHERE"), shown) == {"order"}
    assert not strange_names(told, ("UPDATE", "SET", "WHERE"), names(["tables: orders, items"]))
    assert not strange_names("SELECT status FROM orders", ("SELECT", "FROM"), shown)


def test_one_name_that_the_context_lists_says_that_names_are_shown() -> None:
    told, own = "SELECT name FROM children WHERE pet = 'cat'", ("SELECT", "FROM", "WHERE")
    context = names(["pupils: id, name, pet_kind"])
    assert strange_names(told, own, context, context) == {"children", "pet"}
    assert not strange_names(told, own, context), "an observation may have a word by chance"
    assert not strange_names(told, (*own, "name"), context, context), "a word of its own shows none"


def test_texts_without_a_word_leave_marks() -> None:
    grammar = copying_grammar(TOOL, (), ["???"], worded={"path": ()})
    assert allows(grammar, {"path": "."})
    assert not allows(grammar, {"path": "a"})


@given(st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=3), st.data())
def test_what_is_made_of_words_of_any_text_is_let_through(
    texts: list[str], data: st.DataObject
) -> None:
    said = sorted({word for text in texts for word in words(text)})
    if not said:
        return
    drawn = data.draw(st.lists(st.sampled_from(said), min_size=1, max_size=4))
    mark = data.draw(st.sampled_from([" ", "/", "_", ' = "', "\\", "-", "\u0301", "\u200d", "Ⓐ"]))
    grammar = copying_grammar(TOOL, (), texts, worded={"path": ()})
    assert allows(grammar, {"path": mark.join(drawn)})
    assert not allows(grammar, {"path": mark.join([*drawn, max(said, key=len) + "x0"])})


@given(st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=3), st.data())
def test_every_span_of_any_text_is_let_through(texts: list[str], data: st.DataObject) -> None:
    line = data.draw(st.sampled_from(texts))
    start = data.draw(st.integers(0, len(line)))
    piece = line[start : data.draw(st.integers(start, len(line)))]
    grammar = copying_grammar(TOOL, ("path",), texts)
    if is_span(piece, texts):
        assert allows(grammar, {"path": piece})
    elif any(t.strip() for t in texts):
        assert not allows(grammar, {"path": "no such span 0123456789"})


@pytest.mark.parametrize(
    ("copied", "texts"), [((), [REQUEST]), (("path",), ["", " \n"]), (("path.deeper",), [REQUEST])]
)
def test_where_nothing_can_be_copied_the_plain_grammar_stands(
    copied: tuple[str, ...], texts: list[str]
) -> None:
    assert copying_grammar(TOOL, copied, texts) == arguments_grammar(TOOL)


def test_leaves_are_named_by_their_paths() -> None:
    value = {"path": "a", "edits": [{"old": "b", "n": 1}], "tags": ["c", "d"], "dry": True}
    expected = [("path", "a"), ("edits[].old", "b"), ("tags[]", "c"), ("tags[]", "d")]
    assert list(string_leaves(value)) == expected
