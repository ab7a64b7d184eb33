import pytest

from agentflux.errors import EngineError


@pytest.mark.parametrize(
    ("native", "shown"),
    [
        ("no such file", "no such file"),
        (
            "Exception during initialization: /onnxruntime_src/onnxruntime/core/frame.cc:74 "
            "onnxruntime::Info::Info(const std::vector<(int)>&, bool) const [ShapeError] too short",
            "Exception during initialization: [ShapeError] too short",
        ),
        ("failed: /src/a.cc:12 ns::f(int", "failed:"),
        (
            "1 : FAIL : tensor.cc:18 Get Outside of the file given (7)",
            "1 : FAIL : Outside of the file given (7)",
        ),
        ("first\nsecond", "first"),
        ("", None),
    ],
)
def test_a_native_message_is_shown_without_its_source_location(
    native: str, shown: str | None
) -> None:
    error = EngineError("cannot load", native=native)
    assert str(error) == (
        "cannot load" if shown is None else f"cannot load (runtime said: {shown})"
    )
    assert error.native == native
