"""What travels between an agent and its runtime's own process: JSON, one message a line.

```
→ {"id": 7, "do": "generate", "request": {…}}   → {"id": 7, "do": "cancel"}   (end of stdin: end)
← {"ready": true}   ← {"id": 7, "text": "…"}   ← {"id": 7, "done": {…}}   ← {"id": 7, "error": {…}}
```

JSON, not pickle: a process whose memory a fault has damaged must not run code in the other.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from agentflux import errors
from agentflux.ports import Choosing, Completion, Generation, Scores, Segment, Usage

Message = dict[str, Any]


def packed(message: Mapping[str, Any]) -> bytes:
    """Write a message as one line."""
    return json.dumps(message).encode() + b"\n"


def request_out(request: Generation | Choosing) -> Message:
    """Write a request."""
    return asdict(request)


def generation_in(body: Message) -> Generation:
    """Read a request to decode."""
    return Generation(**body | {"segments": _segments(body), "stop": tuple(body["stop"])})


def choosing_in(body: Message) -> Choosing:
    """Read a request to score."""
    return Choosing(
        segments=_segments(body),
        candidates=tuple(body["candidates"]),
        doubted=body["doubted"],
        rival=body["rival"],
        every=body["every"],
    )


def completion_in(body: Message) -> Completion:
    """Read what was decoded."""
    fields: dict[str, Any] = body | {"usage": Usage(**body["usage"])}
    return Completion(**fields)


def scores_in(body: Message) -> Scores:
    """Read what was scored."""
    alternatives = tuple((str(name), float(share)) for name, share in body["alternatives"])
    return Scores(**body | {"usage": Usage(**body["usage"]), "alternatives": alternatives})


def error_out(error: errors.AgentFluxError) -> Message:
    """Write one of our errors: its type, its text and the facts that callers read."""
    facts = {k: v for k, v in vars(error).items() if isinstance(v, (str, int, tuple))}
    return {"type": type(error).__name__, "message": str(error), "facts": facts}


def error_in(body: Message) -> errors.AgentFluxError:
    """Read an error: the same type, text and facts."""
    kind = vars(errors).get(body["type"])
    if not (isinstance(kind, type) and issubclass(kind, errors.AgentFluxError)):
        return errors.EngineError(str(body["message"]))
    error = kind.__new__(kind)
    Exception.__init__(error, body["message"])
    for name, value in body["facts"].items():
        setattr(error, name, tuple(value) if isinstance(value, list) else value)
    return error


def _segments(body: Message) -> tuple[Segment, ...]:
    return tuple(Segment(**segment) for segment in body["segments"])
