"""Files and folders that the context shows, where a call names them by words of the request.

A small model asked what lies "in the inbox" writes `inbox`, whatever the context says of where that
is. What it means is shown: as a path whose last name that is (`/home/ana/Inbox`, `/tmp/inbox-42`),
behind that word (`Inbox: /srv/in`), or as a name that is spelled otherwise (`insurance_claims` of
"insurance claims"). Where there is one such thing it is put in place; what a call makes new is left
as it is. Asked for "the footage folder" it lists the folder that the context names, which that one
lies in; and of several files it names one twice.
"""

import re
from collections.abc import Mapping
from typing import Any, cast

from agentflux.contracts.paths import absolute_paths
from agentflux.contracts.prompts import Situation
from agentflux.contracts.spans import string_leaves, with_leaves

_PLACE = re.compile(r"(?:^|[._])(?:paths?|source|folder|directory|dir|files?)(?:\[\])*$", re.I)
_FOLDERS = frozenset({"path", "folder", "directory", "dir"})
_MAKES = re.compile(r"^(?:create|write|make|new|save)|_(?:create|write|save)\b", re.I)
_ABSOLUTE = re.compile(r"[A-Za-z]:[\\/]|[\\/~]")
_BEHIND = ".,:;!?"
_LABELLED = re.compile(
    r"(?P<label>[A-Za-z][\w'’ -]{1,40}?) ?(?::|=) ?(?P<path>(?:[A-Za-z]:[\\/]|/)[^\s\"'`,;|<>()]*)"
)
_NAME = re.compile(r"(?<![\w.-])[\w-]*[._-][\w.-]*\w")
_KIND = re.compile(r"^(?:the|our|my)\s+|\s+(?:folder|directory|dir|area|file)$", re.I)
_NUMBERED = re.compile(r"(?P<name>.*[^\W\d_])[-_.]?\w*\d\w*")
_FOLDER = re.compile(
    r"\b(?:the|my|our|your|its|their) [\"'`]?(?P<name>[\w.-]*\w)[\"'`]? (?:folder|directory)\b",
    re.I,
)
# What is said of a folder, and is no name of one.
_KINDS = frozenset(
    """
    whole same new root top main current working other project entire right old first home given
    parent temp temporary own correct empty only next last different work workspace complete base
    full largest biggest deepest size git local remote said single two second third
    """.split()
)
_LETTERS = re.compile(r"[\W_]+")
_LONGEST = 100  # letters of a name that may have a number behind it


def in_its_place(arguments: Mapping[str, Any], tool: str, situation: Situation) -> dict[str, Any]:
    """Return the arguments of a call of the tool with the places that the context shows."""
    context = situation.context
    if _MAKES.search(tool) or not context:
        return dict(arguments)
    inner = None if situation.steps else named_folder(situation)
    if inner and any(inner in text for _, text in string_leaves(arguments)):
        inner = None
    shown = absolute_paths([context])

    def placed(path: str, text: str) -> str:
        if not _PLACE.search(path):
            return text
        if inner and path in _FOLDERS and text in shown:
            return f"{text}{_mark_of(text)}{inner}"
        return place_of(text, context)

    return {name: with_leaves(value, placed, name) for name, value in arguments.items()}


def named_folder(situation: Situation) -> str | None:
    """Return the one name that the request calls a folder, if no path shown is called so."""
    found = {match["name"] for match in _FOLDER.finditer(situation.request)}
    name = found.pop() if len(found) == 1 else ""
    labels = " ".join(match["label"] for match in _LABELLED.finditer(situation.context))
    above = " ".join([labels, *absolute_paths([situation.context])]).casefold()
    return name if name and name.lower() not in _KINDS and name.casefold() not in above else None


def _mark_of(path: str) -> str:
    return "/" if "/" in path else "\\"


def place_of(written: str, context: str) -> str:
    """Return the one place in the context that what is written means, or itself."""
    shown = absolute_paths([context])
    if _ABSOLUTE.match(written):
        bare = written.rstrip(_BEHIND)
        return bare if bare in shown else written
    if "/" in written or "\\" in written:
        return written
    meant = _letters(_KIND.sub("", written))
    if not meant:
        return written
    by_name = {path for path in shown if _is_called(_last(path), meant)}
    if "." in written and written in {*map(_last, by_name)}:  # a file, in the folder to work in
        return written
    by_label = {
        match["path"].rstrip(_BEHIND)
        for match in _LABELLED.finditer(context)
        if _letters(match["label"]) == meant
    }
    spelled = {name for name in _NAME.findall(context) if _letters(name) == meant}
    return next((one.pop() for one in (by_name, by_label, spelled) if len(one) == 1), written)


def _is_called(name: str, meant: str) -> bool:
    """Whether a name is that, in any letters and with any marks, or with a number behind it."""
    numbered = _NUMBERED.fullmatch(name) if len(name) <= _LONGEST else None
    return meant in {_letters(name), _letters(numbered["name"]) if numbered else ""}


def _last(path: str) -> str:
    return re.split(r"[\\/]", path)[-1]


def _letters(text: str) -> str:
    return _LETTERS.sub("", text).casefold()


def without_repeats(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments with each place of a list once."""

    def once(name: str, value: object) -> object:
        if not isinstance(value, list) or not _PLACE.search(name):
            return value
        items = cast("list[object]", value)
        return [*dict.fromkeys(items)] if all(isinstance(item, str) for item in items) else items

    return {name: once(name, value) for name, value in arguments.items()}
