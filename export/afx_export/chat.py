"""The model's turn markers, read off its chat template by rendering it."""

import re
from collections.abc import Sequence
from os.path import commonprefix
from pathlib import Path
from typing import TYPE_CHECKING

from afx_export.errors import ChatTemplateRefused
from afx_export.hf import read_json
from afx_export.quiet import quiet
from agentflux.contracts.prompts import ChatFormat
from agentflux.errors import MissingExtra

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SYSTEM, _USER, _REPLY, _AGAIN = "SENTINELsystem", "SENTINELuser", "SENTINELreply", "SENTINELagain"
_TALK = (
    {"role": "system", "content": _SYSTEM},
    {"role": "user", "content": _USER},
    {"role": "assistant", "content": _REPLY},
    {"role": "user", "content": _AGAIN},
)


def read_chat(folder: Path) -> tuple[ChatFormat, tuple[int, ...]]:
    """Derive the turn markers and the ids of the tokens that end a turn.

    They are read off a talk without system turn, where no template's own system message (SmolLM2
    has one, SmolLM3's holds today's date) can enter them.

    Raises:
        ChatTemplateRefused: the model has no template, or it is not one marker pair a turn.
    """
    tokenizer = _tokenizer(folder)
    if not tokenizer.chat_template:
        raise ChatTemplateRefused(f"{folder}: the tokenizer has no chat template")
    specials = _special_tokens(folder)
    talk = _render(tokenizer, _TALK[1:], generate=True)
    before, after_user, after_reply, tail = _between(talk)
    end = _render(tokenizer, _TALK[1:3], generate=False).rpartition(_REPLY)[2]
    close = _common([end, after_user, after_reply, tail], specials)
    bos, user_open = str(tokenizer.bos_token or ""), after_reply.removeprefix(close)
    begin = bos if before.startswith(bos) and not user_open.startswith(bos) else ""
    chat = ChatFormat(
        begin=begin,
        system_open=_system_open(tokenizer, begin, user_open, close),
        user_open=user_open,
        assistant_open=tail.removeprefix(close),
        close=close,
        end_token=_first_special(close, specials, folder),
        control_tokens=_control_tokens(talk + end, tokenizer, specials),
    )
    if not before.endswith(user_open) or not user_open or not chat.assistant_open:
        raise ChatTemplateRefused(f"{folder}: turns of the chat template are not alike")
    return chat, _end_ids(folder, chat, specials)


def _system_open(
    tokenizer: "PreTrainedTokenizerBase", begin: str, user_open: str, close: str
) -> str:
    """Return what opens a system turn.

    Where the template puts more around the text (SmolLM3), the opening that a user's turn has,
    with the role exchanged. Where it has no such turn (Gemma), a user's turn serves as one.
    """
    try:
        talk = _render(tokenizer, _TALK, generate=True)
    except ChatTemplateRefused:
        return user_open
    before, _, after = talk.partition(_SYSTEM)
    opening = before.removeprefix(begin)
    if after.startswith(f"{close}{user_open}{_USER}") and opening:
        return opening
    exchanged = user_open.replace("user", "system", 1)
    return exchanged if exchanged != user_open and opening.startswith(exchanged) else user_open


def _tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise MissingExtra("transformers", extra="export") from error
    with quiet():
        return AutoTokenizer.from_pretrained(folder)


def _render(
    tokenizer: "PreTrainedTokenizerBase", talk: Sequence[dict[str, str]], *, generate: bool
) -> str:
    from jinja2 import TemplateError

    try:
        text = tokenizer.apply_chat_template(
            list(talk), tokenize=False, add_generation_prompt=generate
        )
    except (TemplateError, ValueError, TypeError) as error:
        msg = f"the chat template does not take a user and an assistant turn: {error}"
        raise ChatTemplateRefused(msg) from error
    return str(text)


def _between(talk: str) -> tuple[str, str, str, str]:
    parts = re.split("|".join((_USER, _REPLY, _AGAIN)), talk)
    if len(parts) != 4:
        msg = "the chat template drops or repeats a message"
        raise ChatTemplateRefused(msg)
    return parts[0], parts[1], parts[2], parts[3]


def _special_tokens(folder: Path) -> dict[str, int]:
    data = read_json(folder / "tokenizer.json")
    return {t["content"]: t["id"] for t in data.get("added_tokens", ()) if t.get("special")}


def _split(text: str, specials: dict[str, int]) -> list[str]:
    """Cut a text before and after each special token."""
    if not specials:
        return [text]
    pattern = "|".join(re.escape(t) for t in sorted(specials, key=len, reverse=True))
    return [piece for piece in re.split(f"({pattern})", text) if piece]


def _common(texts: Sequence[str], specials: dict[str, int]) -> str:
    """Return the longest common start in whole special tokens and whole texts between them.

    By characters it would run into the next turn's opening, whose first letters agree.
    """
    return "".join(commonprefix([_split(text, specials) for text in texts]))


def _first_special(close: str, specials: dict[str, int], folder: Path) -> str:
    for piece in _split(close, specials):
        if piece in specials:
            return piece
    raise ChatTemplateRefused(f"{folder}: no control token ends a turn, so decoding cannot stop")


def _control_tokens(
    talk: str, tokenizer: "PreTrainedTokenizerBase", specials: dict[str, int]
) -> tuple[str, ...]:
    """Special tokens that the template or generation gives a meaning, in order of appearance.

    Markers of pretraining data (`<filename>`) open no turn, and users write such text.
    """
    named = (tokenizer.bos_token, tokenizer.eos_token, tokenizer.unk_token, tokenizer.pad_token)
    used = [piece for piece in _split(talk, specials) if piece in specials]
    return tuple(dict.fromkeys([*used, *(t for t in named if t in specials)]))


def _end_ids(folder: Path, chat: ChatFormat, specials: dict[str, int]) -> tuple[int, ...]:
    ids = [specials[chat.end_token]]
    path = folder / "generation_config.json"
    for config in (read_json(folder / "config.json"), read_json(path) if path.exists() else {}):
        more = config.get("eos_token_id")
        ids += more if isinstance(more, list) else [more] if isinstance(more, int) else []
    return tuple(dict.fromkeys(ids))
