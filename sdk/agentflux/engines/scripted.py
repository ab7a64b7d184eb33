"""A deterministic engine that ships: for tests of applications, and of the loop itself."""

from collections.abc import Callable, Iterable, Sequence

from agentflux.engines.stop_text import StopText
from agentflux.errors import EngineError
from agentflux.ports import (
    CancelToken,
    Choosing,
    Completion,
    Generation,
    Scores,
    Usage,
    check_cancelled,
)

Request = Generation | Choosing
Entry = str | tuple[str, float] | Scores


class ScriptedEngine:
    """Answers requests from a script and records them.

    A `Choosing` request takes the next entry as the chosen candidate; an entry may be a pair
    (candidate, probability) or whole scores. A `Generation` request takes it as the decoded text.
    """

    def __init__(self, script: Iterable[Entry]) -> None:
        self._script = list(script)
        self.requests: list[Request] = []

    def generate(
        self,
        request: Generation,
        *,
        on_text: Callable[[str], None] | None = None,
        cancel: CancelToken | None = None,
    ) -> Completion:
        """Return the next entry of the script as text."""
        check_cancelled(cancel)
        said = self._next(request).best
        text = StopText(request.stop).push(said, last=True)
        if on_text is not None:
            on_text(text)
        words = len(text.split())
        return Completion(text=text, finish="stop", usage=Usage(decoded_tokens=words))

    def choose(self, request: Choosing, *, cancel: CancelToken | None = None) -> Scores:
        """Return the next entry of the script as the choice.

        Raises:
            EngineError: the scripted choice is not among the candidates.
        """
        check_cancelled(cancel)
        scores = self._next(request)
        _require(scores.best, request.candidates)
        return scores

    def close(self) -> None:
        """Do nothing."""

    def _next(self, request: Request) -> Scores:
        self.requests.append(request)
        if not self._script:
            raise EngineError("the script has no entry left for this request")
        entry = self._script.pop(0)
        if isinstance(entry, Scores):
            return entry
        best, probability = entry if isinstance(entry, tuple) else (entry, 1.0)
        return Scores(best=best, probability=probability, margin=probability, usage=Usage())


def _require(best: str, candidates: Sequence[str]) -> None:
    if best not in candidates:
        raise EngineError(f"the script chose {best!r}, the candidates are {list(candidates)}")
