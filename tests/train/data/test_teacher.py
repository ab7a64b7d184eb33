"""The teacher over real HTTP: cache, retries, rate, cost, and what of its answers is taken."""

import asyncio
import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from train.data.test_verify import Answering
from train.tiny import write_data

from afx_train.corpus import load_corpus
from afx_train.data.endpoint import Endpoint, Messages, Teacher
from afx_train.data.folder import TAUGHT
from afx_train.data.generate import drafts
from afx_train.data.grammar import load_phrasings
from afx_train.data.lessons import Lesson, estimated_cost, lesson_items, teach
from afx_train.data.teach import LEVELS, Known, composed, reworded
from afx_train.data.verify import Servers
from afx_train.data.worlds import World
from afx_train.errors import TeacherFailed

QUESTION: Messages = [{"role": "user", "content": "say something"}]


class Api(ThreadingHTTPServer):
    """`/v1/chat/completions`: each answer (status, text) in turn, the last for good."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[tuple[int, str]] = [(200, "hi")]
        self.asked: list[Mapping[str, Any]] = []
        self.keys: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: Api

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        self.server.asked.append(json.loads(self.rfile.read(length)))
        self.server.keys.append(self.headers["Authorization"])
        answers = self.server.answers
        status, text = answers.pop(0) if len(answers) > 1 else answers[0]
        assert self.path == "/v1/chat/completions"
        body = text
        if status == 200 and not text.startswith("<"):
            choice = {"index": 0, "message": {"role": "assistant", "content": text}}
            usage = {"prompt_tokens": 100, "completion_tokens": 10}
            body = json.dumps({"object": "chat.completion", "choices": [choice], "usage": usage})
        self.send_response(status)
        if status == 429:
            self.send_header("Retry-After", "7")
        self.send_header("Content-Length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        return None


@pytest.fixture
def api() -> Iterator[Api]:
    """The endpoint, served on loopback."""
    with Api() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class Asking:
    """A teacher on the endpoint, with a clock that its own waiting moves."""

    def __init__(self, api: Api, cache: Path, **settings: Any) -> None:
        self.now, self.waited = 0.0, list[float]()
        place = Endpoint(url=api.url, model="big", **{"per_minute": 0.0} | settings)
        self.teacher = Teacher(place, cache, sleep=self._sleep, clock=lambda: self.now)

    def _sleep(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.now += seconds


def test_an_answer_is_asked_for_once_and_its_cost_is_counted(api: Api, tmp_path: Path) -> None:
    asking = Asking(api, tmp_path, key="secret", price_in=2.0, price_out=10.0)
    teacher = asking.teacher
    assert teacher.estimate([QUESTION], answer_chars=400) == pytest.approx((3.25 * 2 + 1000) / 1e6)
    assert teacher.ask(QUESTION) == "hi"
    again = Asking(api, tmp_path).teacher
    assert again.ask(QUESTION) == "hi"
    assert again.estimate([QUESTION], answer_chars=400) == 0
    assert len(api.asked) == 1
    assert api.asked[0]["model"] == "big"
    assert api.asked[0]["messages"] == QUESTION
    assert api.keys == ["Bearer secret"]
    assert teacher.cost == pytest.approx((100 * 2 + 10 * 10) / 1e6)
    assert (again.spent.requests, again.spent.cached) == (0, 1)
    assert all("secret" not in path.read_text() for path in tmp_path.rglob("*.json"))


def test_a_busy_endpoint_is_asked_again_when_it_says(api: Api, tmp_path: Path) -> None:
    api.answers = [(429, "slow down"), (503, "later"), (200, "fine")]
    asking = Asking(api, tmp_path)
    assert asking.teacher.ask(QUESTION) == "fine"
    assert asking.waited == [7.0, 2.0]
    assert asking.teacher.spent.retries == 2


@pytest.mark.parametrize(
    ("answer", "said", "asked"),
    [
        ((401, "no such key"), "401 Unauthorized: no such key", 1),
        ((500, "broken"), "tried 3 times", 3),
        ((200, "<html>"), "is not JSON", 1),
    ],
)
def test_a_failing_endpoint_is_named_with_what_it_said(
    api: Api, tmp_path: Path, answer: tuple[int, str], said: str, asked: int
) -> None:
    api.answers = [answer]
    with pytest.raises(TeacherFailed, match=said) as raised:
        Asking(api, tmp_path, retries=2).teacher.ask(QUESTION)
    assert raised.value.url == api.url
    assert len(api.asked) == asked
    assert not list(tmp_path.iterdir())


def test_an_address_without_a_scheme_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TeacherFailed, match="starts with http"):
        Teacher(Endpoint(url="api.example.com/v1", model="m"), tmp_path)


def test_questions_keep_their_distance(api: Api, tmp_path: Path) -> None:
    asking = Asking(api, tmp_path, per_minute=30.0)
    for number in range(3):
        asking.teacher.ask([{"role": "user", "content": str(number)}])
    assert asking.waited == [2.0, 2.0]


def test_rewordings_keep_their_values_their_split_and_their_calls(api: Api, tmp_path: Path) -> None:
    write_data(tmp_path / "data")
    (item,) = [t for t in load_corpus([tmp_path / "data"]).trajectories if t.id == "read0"]
    item = item.model_copy(update={"request": "read a b.txt please"})
    texts = ["show me a b.txt", "Read: a b.txt, please!", "show me the file", "", "x" * 700]
    api.answers = [(200, f"Sure!\n```json\n{json.dumps(texts)}\n```"), (200, "no idea")]
    teacher = Asking(api, tmp_path / "cache").teacher
    taught = reworded([item], teacher, count=5, known=frozenset())
    (made,) = taught.trajectories
    assert made.request == "show me a b.txt"
    assert made.id.startswith("taught/")
    assert (made.steps, made.split, made.phrasing) == (item.steps, "train", item.phrasing)
    assert dict(taught.dropped) == {
        "repeats a known request": 1,
        "a value got lost": 1,
        "empty or too long": 2,
    }
    assert len(api.asked) == len(LEVELS)


def test_a_lesson_enlarges_the_data_folder_and_is_no_lesson_itself(
    api: Api, tmp_path: Path
) -> None:
    data = write_data(tmp_path / "data")
    items = lesson_items(data, limit=2, seed=1)
    teacher = Asking(api, tmp_path / "cache", price_out=1.0).teacher
    assert estimated_cost(teacher, items, count=1) > 0
    api.answers = [(200, json.dumps([f"a b.txt x UTC, way {number}"])) for number in range(6)]
    report, _ = teach(data, teacher, items, Lesson(count=1))
    assert not report.leaks
    assert (data / TAUGHT).read_text(encoding="utf-8").count("\n") == 6
    assert report.styles == {"taught": 6}
    assert lesson_items(data, limit=2, seed=1) == items


@pytest.mark.parametrize("split", ["dev", "test"])
def test_a_request_of_another_split_is_not_taught(api: Api, tmp_path: Path, split: str) -> None:
    data = write_data(tmp_path / "data")
    items = lesson_items(data, limit=0, seed=1)
    kept = next(t for t in load_corpus([data]).trajectories if t.split == split and t.steps)
    item = next(t for t in items if t.steps[0].tool == kept.steps[0].tool)
    api.answers = [(200, json.dumps([f"{kept.request.upper()}!"]))]
    report, taught = teach(data, Asking(api, tmp_path / "cache").teacher, [item], Lesson(count=1))
    assert taught.trajectories == []
    assert taught.dropped == {"repeats a known request": len(LEVELS)}
    assert not report.leaks


def test_new_requests_are_executed_before_they_count(
    api: Api, tmp_path: Path, grammars: Path, shelf: Mapping[str, World]
) -> None:
    phrasings = [p for p in load_phrasings(grammars) if not p.expect_error]
    made = list(drafts(phrasings, shelf, fills={(p.group, p.ask): 1 for p in phrasings}, seed=3))
    schema = {"type": "object", "properties": {"item": {"type": "string"}}, "required": ["item"]}
    tools = {"shelf": [{"name": "take", "description": "", "inputSchema": schema}]}
    good = {
        "request": "bring me the cup",
        "steps": [{"tool": "take", "arguments": {"item": "cup"}}],
    }
    unknown = good | {"steps": [{"tool": "fly", "arguments": {}}]}
    invented = good | {"steps": [{"tool": "take", "arguments": {"item": "violin"}}]}
    broken = good | {"steps": [{"tool": "take", "arguments": {"item": 3}}]}
    training = sum(d.trajectory.split == "train" for d in made)
    assert training >= 2
    every = Known.of(draft.trajectory for draft in made)

    def run(answer: object, client: Answering, known: Known = every) -> list[Any]:
        api.answers = [(200, answer if isinstance(answer, str) else json.dumps(answer))]
        teacher = Asking(api, tmp_path / f"cache{len(api.asked)}").teacher

        async def all_of_it() -> list[Any]:
            servers = Servers({"shelf": client})  # type: ignore[dict-item]
            return [found async for found in composed(made, tools, teacher, servers, known)]

        return asyncio.run(all_of_it())

    found = run(good, Answering("here is /real/cup"))
    assert found[1:] == ["repeats a known request"] * (training - 1)
    assert found[0].request == "bring me the cup"
    assert found[0].steps[0].observation == "here is /shown/cup"
    assert found[0].verified
    assert set(run(good, Answering("gone", is_error=True))) == {"rejected by the server"}
    assert set(run(unknown, Answering("ok"))) == {"unknown tool, or one kept from training"}
    assert set(run(invented, Answering("ok"))) == {"value stands nowhere"}
    assert set(run(broken, Answering("ok"))) == {"arguments break the schema"}
    assert set(run("I would rather not", Answering("ok"))) == {"answer is no JSON object"}
    assert set(run({"request": 1}, Answering("ok"))) == {"answer has another form"}
    kept = made[0].trajectory.model_copy(update={"request": "Bring me: the cup!"})
    asked_before = replace(every, requests=Known.of([kept]).requests)
    assert set(run(good, Answering("ok"), asked_before)) == {"repeats a known request"}


def test_a_tool_that_the_training_split_does_not_call_is_in_no_new_request(
    api: Api, tmp_path: Path, grammars: Path, shelf: Mapping[str, World]
) -> None:
    phrasings = [p for p in load_phrasings(grammars) if not p.expect_error]
    made = list(drafts(phrasings, shelf, fills={(p.group, p.ask): 1 for p in phrasings}, seed=3))
    tools = {"shelf": [{"name": n, "inputSchema": {"type": "object"}} for n in ("take", "drop")]}
    dropping = {"request": "let the cup go", "steps": [{"tool": "drop", "arguments": {}}]}
    api.answers = [(200, json.dumps(dropping))]
    teacher = Asking(api, tmp_path).teacher

    def run(known: Known) -> set[object]:
        async def all_of_it() -> set[object]:
            servers = Servers({"shelf": Answering("ok")})  # type: ignore[dict-item]
            return {found async for found in composed(made, tools, teacher, servers, known)}

        return asyncio.run(all_of_it())

    trained = Known.of(draft.trajectory for draft in made)
    assert run(trained) == {"unknown tool, or one kept from training"}
    assert '"drop"' not in json.dumps(api.asked[-1]["messages"]).replace("\\", "")
    asked = len(api.asked)
    test_split = [d.trajectory.model_copy(update={"split": "test"}) for d in made]
    assert run(Known.of(test_split)) == set()
    assert len(api.asked) == asked, "no draft is left to ask about"
