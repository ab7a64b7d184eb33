"""Stop texts are found however the stream is cut into pieces, and nothing else is lost."""

from hypothesis import given
from hypothesis import strategies as st

from agentflux.engines.stop_text import StopText


def test_text_that_may_begin_a_stop_is_held_back() -> None:
    stops = StopText(["\nUser:"])
    assert stops.push("hello\nUs") == "hello"
    assert stops.push("ually") == "\nUsually"
    assert not stops.found


def test_what_was_held_back_comes_at_the_end() -> None:
    stops = StopText(["###"])
    assert stops.push("a##") == "a"
    assert stops.push("", last=True) == "##"


@given(
    text=st.text(alphabet="ab#", max_size=30),
    stops=st.lists(st.text(alphabet="ab#", min_size=1, max_size=4), max_size=3),
    cuts=st.lists(st.integers(1, 5), min_size=1, max_size=30),
)
def test_cutting_does_not_change_the_result(text: str, stops: list[str], cuts: list[int]) -> None:
    stream, out, at = StopText(stops), "", 0
    for size in cuts:
        out += stream.push(text[at : at + size])
        at += size
    out += stream.push(text[at:]) + stream.push("", last=True)
    found = [text.find(stop) for stop in stops if stop in text]
    if found:
        assert stream.found
        assert not any(stop in out for stop in stops)
        assert text.startswith(out)
    else:
        assert out == text
