"""A conversation's memory: bounded, latest first to stay, and nothing before the first exchange."""

from agentflux import Step, ToolCall
from agentflux.contracts.lengths import tokens_at_most
from agentflux.orchestration.memory import Memory

READ = Step(
    call=ToolCall(tool_set="files", tool="read", arguments={"path": "a.txt"}), observation="hi"
)


def test_a_first_request_has_the_context_that_it_was_given() -> None:
    assert Memory(context_tokens=4096).after("Workspace root: /srv") == "Workspace root: /srv"


def test_an_exchange_is_told_with_its_calls_but_not_those_that_failed() -> None:
    memory = Memory(context_tokens=4096)
    failed = Step(call=ToolCall(tool_set="files", tool="list"), observation="no", is_error=True)
    memory.add("what is in\na.txt?", [failed, READ], "It says hi.")
    assert memory.after("Workspace root: /srv").splitlines() == [
        "Workspace root: /srv",
        "Earlier in this conversation:",
        "User: what is in a.txt?",
        'Called: files read {"path": "a.txt"}',
        "Assistant: It says hi.",
    ]


def test_the_oldest_exchanges_make_room_and_the_latest_stays() -> None:
    memory = Memory(context_tokens=2048)
    for number in range(40):
        memory.add(f"question {number}", (), f"answer {number} " + "word " * 20)
        assert len(memory.after("")) <= 2048 // 8 * 3 + 100
    told = memory.after("")
    assert "answer 39" in told
    assert "answer 3 " not in told


def test_a_text_that_takes_more_tokens_gets_less_room() -> None:
    memory = Memory(context_tokens=2048)
    for number in range(20):
        memory.add(
            "请告诉我文件里写了什么" * 9, (), "那个文件里写的是明天的会议" * 9 + f" {number}"
        )
        assert len(memory.after("").encode()) <= 2048 // 8 + 150
    assert "19" in memory.after("")
    memory.forget()
    memory.add("请告诉我文件里写了什么" * 60, (), "plain english " * 200)
    assert tokens_at_most(memory.after("")) <= 2048 // 8 // 2 + 20


def test_most_requests_only_append_to_what_the_model_has_read() -> None:
    memory = Memory(context_tokens=2048)
    appended, before = 0, ""
    for number in range(40):
        memory.add(f"question {number}", (), f"answer {number}")
        appended += memory.after("").startswith(before)
        before = memory.after("")
    assert appended >= 35


def test_one_endless_exchange_is_cut() -> None:
    memory = Memory(context_tokens=2048)
    memory.add("why? " * 5000, (), "because")
    assert len(memory.after("")) < 2048 // 8 * 3
    memory.forget()
    assert memory.after("") == ""
