"""A teacher behind an OpenAI-compatible endpoint: cached, retried, rate-limited, its cost counted.

Standard library only; `POST {url}/chat/completions` as OpenAI, vLLM, llama.cpp and Ollama speak it.
"""

import hashlib
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any

from afx_train.errors import TeacherFailed

_RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_LONGEST_WAIT_S = 60.0
_CHARS_PER_TOKEN = 4.0
Messages = Sequence[Mapping[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where the teacher is and what it costs.

    url: with its version, such as https://api.example.com/v1. prices: US dollars a million tokens.
    per_minute: requests at most; 0 is no limit.
    """

    url: str
    model: str
    key: str = field(default="", repr=False)
    per_minute: float = 60.0
    retries: int = 5
    timeout_s: float = 120.0
    temperature: float = 0.9
    price_in: float = 0.0
    price_out: float = 0.0


@dataclass(slots=True, kw_only=True)
class Spent:
    """What was asked for so far. Answers out of the cache cost nothing."""

    requests: int = 0
    cached: int = 0
    retries: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Teacher:
    """Asks the endpoint; the same question is asked once and then comes out of `cache`."""

    def __init__(
        self,
        endpoint: Endpoint,
        cache: Path,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not endpoint.url.startswith(("http://", "https://")):
            raise TeacherFailed(endpoint.url, "an address starts with http:// or https://")
        self.endpoint, self.spent = endpoint, Spent()
        self._cache, self._sleep, self._clock = cache, sleep, clock
        self._free_at = 0.0

    @property
    def cost(self) -> float:
        """US dollars so far."""
        return self._price(self.spent.prompt_tokens, self.spent.completion_tokens)

    def estimate(self, questions: Sequence[Messages], *, answer_chars: int) -> float:
        """US dollars that questions not in the cache would cost, at four characters a token."""
        new = [q for q in questions if not self._file(self._body(q)).is_file()]
        asked = sum(len(m["content"]) for q in new for m in q) / _CHARS_PER_TOKEN
        return self._price(asked, len(new) * answer_chars / _CHARS_PER_TOKEN)

    def ask(self, messages: Messages) -> str:
        """Return the answer's text.

        Raises:
            TeacherFailed: the endpoint refuses, answers nonsense, or fails more often than
                `retries` says.
        """
        body = self._body(messages)
        path = self._file(body)
        if path.is_file():
            self.spent.cached += 1
            return str(json.loads(path.read_text(encoding="utf-8"))["answer"])
        answer = self._answer(self._post(body))
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        partial.write_text(json.dumps({"asked": body, "answer": answer}), encoding="utf-8")
        partial.replace(path)
        return answer

    def _body(self, messages: Messages) -> dict[str, Any]:
        return {
            "model": self.endpoint.model,
            "messages": [dict(m) for m in messages],
            "temperature": self.endpoint.temperature,
        }

    def _file(self, body: Mapping[str, Any]) -> Path:
        text = json.dumps([self.endpoint.url, body], sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()
        return self._cache / digest[:2] / f"{digest}.json"

    def _price(self, prompt: float, completion: float) -> float:
        return (prompt * self.endpoint.price_in + completion * self.endpoint.price_out) / 1e6

    def _answer(self, document: object) -> str:
        try:
            usage: dict[str, Any] = document.get("usage") or {}  # type: ignore[attr-defined]
            answer = document["choices"][0]["message"]["content"]  # type: ignore[index]
        except (AttributeError, KeyError, IndexError, TypeError) as error:
            raise TeacherFailed(self.endpoint.url, "its answer is no chat completion") from error
        if not isinstance(answer, str):
            raise TeacherFailed(self.endpoint.url, "its answer has no text")
        self.spent.requests += 1
        self.spent.prompt_tokens += int(usage.get("prompt_tokens") or 0)
        self.spent.completion_tokens += int(usage.get("completion_tokens") or 0)
        return answer

    def _post(self, body: Mapping[str, Any]) -> object:
        reason = ""
        for attempt in range(self.endpoint.retries + 1):
            self._wait_for_turn()
            try:
                return self._once(body)
            except urllib.error.HTTPError as error:
                said = error.read().decode("utf-8", "replace")[:300].strip()
                reason, asked = f"{error.code} {error.reason}: {said}", error.headers["Retry-After"]
                if error.code not in _RETRIED:
                    raise TeacherFailed(self.endpoint.url, reason) from error
            except (OSError, HTTPException) as error:
                reason, asked = str(error), None
            if attempt < self.endpoint.retries:
                self.spent.retries += 1
                self._sleep(_pause(asked, attempt))
        raise TeacherFailed(
            self.endpoint.url, f"{reason} (tried {self.endpoint.retries + 1} times)"
        )

    def _once(self, body: Mapping[str, Any]) -> object:
        headers = {"Content-Type": "application/json"}
        if self.endpoint.key:
            headers["Authorization"] = f"Bearer {self.endpoint.key}"
        request = urllib.request.Request(
            f"{self.endpoint.url.rstrip('/')}/chat/completions",
            data=json.dumps(body).encode(),
            headers=headers,
        )
        with urllib.request.urlopen(request, timeout=self.endpoint.timeout_s) as response:
            text = response.read().decode("utf-8", "replace")
        try:
            return json.loads(text)
        except ValueError as error:
            raise TeacherFailed(
                self.endpoint.url, f"its answer is not JSON: {text[:80]}"
            ) from error

    def _wait_for_turn(self) -> None:
        if not self.endpoint.per_minute:
            return
        if (early := self._free_at - self._clock()) > 0:
            self._sleep(early)
        self._free_at = max(self._clock(), self._free_at) + 60.0 / self.endpoint.per_minute


def _pause(asked: str | None, attempt: int) -> float:
    """What the server asks for, else 1, 2, 4, … seconds."""
    try:
        wanted = float(asked) if asked else 2.0**attempt
    except ValueError:  # a date
        wanted = 2.0**attempt
    return min(max(wanted, 0.0), _LONGEST_WAIT_S)
