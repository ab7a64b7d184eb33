from pathlib import Path

import pytest
from tiny_models import CHATML, save_model, save_tokenizer

from afx_export.chat import read_chat
from afx_export.errors import ChatTemplateRefused
from agentflux.contracts.prompts import ChatFormat

LLAMA3 = (
    "{{ '<|endoftext|>' }}{% for m in messages %}"
    "{{ '<|im_start|>' + m['role'] + '<filename>\n\n' + m['content'] + '<|im_end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant<filename>\n\n' }}"
    "{% endif %}"
)
# Gemma: no system turn, its text stands in the first user's turn; the assistant is called model.
GEMMA = (
    "{{ bos_token }}{% set first = '' %}{% if messages[0]['role'] == 'system' %}"
    "{% set first = messages[0]['content'] + '\n\n' %}{% set messages = messages[1:] %}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m['role'].replace('assistant', 'model') + '\n' }}"
    "{{ (first if loop.first else '') + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>model\n' }}{% endif %}"
)
# SmolLM3: a system turn always stands there, with the date before the text.
SMOLLM3 = (
    "{{ '<|im_start|>system\n## Metadata\n\nToday Date: ' + strftime_now('%d %B %Y') + '\n\n' }}"
    "{% if messages[0]['role'] == 'system' %}{{ '## Custom Instructions\n\n' }}"
    "{{ messages[0]['content'] + '\n\n' }}{% set messages = messages[1:] %}{% endif %}"
    "{{ '<|im_end|>\n' }}{% for m in messages %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def test_chatml_gives_the_default_format_without_the_injected_system_turn(model: Path) -> None:
    assert "Be kind" in CHATML
    chat, end_ids = read_chat(model)
    assert chat == ChatFormat()
    assert end_ids == (258,)


def test_a_start_token_and_headers_are_told_apart(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "m")
    save_tokenizer(folder, LLAMA3, bos="<|endoftext|>")
    chat, _ = read_chat(folder)
    assert chat.begin == "<|endoftext|>"
    assert chat.system_open == "<|im_start|>system<filename>\n\n"
    assert chat.assistant_open == "<|im_start|>assistant<filename>\n\n"
    assert (chat.close, chat.end_token) == ("<|im_end|>", "<|im_end|>")
    assert "<filename>" in chat.control_tokens


def test_without_a_system_turn_a_users_turn_serves_as_one(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "m")
    save_tokenizer(folder, GEMMA, bos="<|endoftext|>")
    chat, _ = read_chat(folder)
    assert chat.begin == "<|endoftext|>"
    assert chat.system_open == chat.user_open == "<|im_start|>user\n"
    assert (chat.assistant_open, chat.close) == ("<|im_start|>model\n", "<|im_end|>\n")


def test_a_date_in_the_system_turn_does_not_enter_the_markers(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "m")
    save_tokenizer(folder, SMOLLM3)
    assert read_chat(folder)[0] == ChatFormat()


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{% for m in messages %}{{ m['content'] }}\n{% endfor %}", "no control token ends a turn"),
        ("{{ raise_exception('System role not supported') }}", "System role not supported"),
        ("{{ '<|im_start|>' + messages[-1]['content'] }}", "drops or repeats"),
    ],
)
def test_a_template_that_is_no_sequence_of_turns_is_refused(
    tmp_path: Path, template: str, said: str
) -> None:
    folder = save_model(tmp_path / "m")
    save_tokenizer(folder, template)
    with pytest.raises(ChatTemplateRefused, match=said):
        read_chat(folder)
