"""Arguments of trained tools that are right but for what the texts show beyond doubt.

A small model names a file without the folder that the context lists it in, drops the brackets of a
line that it copies or opens a quote before a word, writes three lines as one, takes a column's name
for its table's, or makes a primary key of which nobody spoke; it stops before the end of what is
said exactly, and takes away a link that there is not (`edges`). Where the texts leave one reading,
it is put in place; nothing is decoded again.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from agentflux.contracts.bundle import CatalogTool
from agentflux.contracts.edges import as_shown, edges_of
from agentflux.contracts.prompts import Situation, shown_texts, telling_texts
from agentflux.contracts.spans import is_span, string_leaves, with_leaves, words, words_in_place
from agentflux.contracts.tables import with_its_table, with_trimmed_literals, without_unasked_key

_REMOVES = re.compile(r"delete|remove|unlink|disconnect", re.IGNORECASE)
_EXACTLY = re.compile(
    r"\b(?:exactly|word for word|verbatim|(?:these|those|the exact) words)\b", re.IGNORECASE
)
_QUOTES = "'`\""
_SPACE = re.compile(r"\s+")
_BEFORE = r"[\w./\\~:-]*[/\\]"
_LINES = re.compile(
    r"\b(?P<count>two|three|four|five|six|[2-6])(?: \w+)? lines\b"
    r"|\b(?:one|each|every \w+) (?:per|a|in (?:a|its own)|on (?:a|its own)) line\b|\ba line each\b",
    re.IGNORECASE,
)
_NUMBERS = {"two": "2", "three": "3", "four": "4", "five": "5", "six": "6"}
_BETWEEN = re.compile(r",? and (?:then )?|,? then |, ")
_CLOSING = re.compile(r"""[)\]}"'!?]*""")


def mended(arguments: Mapping[str, Any], seen: CatalogTool, situation: Situation) -> dict[str, Any]:
    """Return the arguments with each string that has one reading in the texts as it is there."""
    texts, telling = shown_texts(situation), telling_texts(situation)
    given = {text for _, text in string_leaves(arguments)}

    def mend(path: str, text: str) -> str:
        if path in seen.inner:
            whole = whole_path(text, texts)
            moved = any(other != text and other.endswith(whole) for other in given)
            return text if moved else whole  # what is moved keeps its name
        text = from_its_start(text, situation.request)
        if path in seen.copied:
            return text
        if path not in seen.worded:
            text = to_the_end(in_lines(text, situation.request), situation.request)
        if (statement := with_its_table(text, telling)) is not None:
            return statement
        return as_said(with_trimmed_literals(without_unasked_key(text, situation.request)), texts)

    changed = {name: with_leaves(value, mend, name) for name, value in arguments.items()}
    removes = _REMOVES.search(seen.name)
    return with_shown_links(changed, situation.request, texts[1:]) if removes else changed


def with_shown_links(
    arguments: Mapping[str, Any], request: str, texts: Iterable[str]
) -> dict[str, Any]:
    """Return a call that takes links away with such as there are in the texts (`as_shown`).

    A link whose type the request spells is left as it is: it knows more than what is shown.
    """
    edges = edges_of(texts)

    def shown(link: object) -> object:
        if not isinstance(link, Mapping):
            return link
        spelled = any("_" in text and text in request for _, text in string_leaves(link))
        return link if spelled else as_shown(link, edges)

    return {
        name: [shown(item) for item in value] if isinstance(value, list) else shown(value)
        for name, value in arguments.items()
    }


def whole_path(name: str, texts: Sequence[str]) -> str:
    """Return the one relative path that ends in a file's name, where no text has the name alone.

    As it is spelled there, where no text has the name in its own letters. A request that says the
    name alone may mean a new file, and an absolute path says no more than the name in the folder to
    work in: both leave it as it is. Of a path that is written with folders only the file's letters
    may differ.
    """
    folder, base = _parted(name)
    if "." not in base or " " in base:
        return name
    if folder:
        return folder + _only(base, texts)
    only = _only(name, texts, before=rf"(?:{_BEFORE})?")
    return name if only.startswith("/") or ":" in only else only


def _only(name: str, texts: Sequence[str], *, before: str = "") -> str:
    """Return the one way in which the texts have a name, with what may stand before it.

    In whatever letters, where no text has it in its own; the name itself if they have several.
    """
    how = re.NOFLAG if any(name in text for text in texts) else re.IGNORECASE
    spot = re.compile(rf"{before}(?<![\w.-]){re.escape(name)}(?![\w/\\-])", how)
    found = {match.group() for text in texts for match in spot.finditer(text)}
    return found.pop() if len(found) == 1 else name


def to_the_end(text: str, request: str) -> str:
    """Return all that a request says exactly, where the text is its beginning.

    What is said exactly stands behind a colon and ends the request: `exactly this: It rains.`
    """
    said = request.strip()
    at = said.rfind(f": {text}") if text.strip() and _EXACTLY.search(said) else -1
    if at < 0 or "\n" in said[at:]:
        return text
    exact = said[at + 2 :]
    if exact[0] in "{[":  # what is behind the object is said about it
        with suppress(ValueError):
            return exact[: json.JSONDecoder().raw_decode(exact)[1]]
    return exact


def from_its_start(text: str, request: str) -> str:
    """Return a text with the word and colon that it begins with where it is said: `fix: typos`.

    It begins with them if another colon stands before: `Message: fix: typos`.
    """
    if not text or f": {text}" not in request:
        return text
    said = re.search(rf": ([a-z][\w()/.-]*: {re.escape(text)})", request)
    return said[1] if said else text


def _parted(path: str) -> tuple[str, str]:
    """Split a path behind its last mark."""
    at = max(path.rfind("/"), path.rfind("\\")) + 1
    return path[:at], path[at:]


def in_lines(text: str, request: str) -> str:
    """Return items that the request wants in so many lines, or in one line each, in lines."""
    asked = _LINES.search(request)
    items = [item for item in _BETWEEN.split(text) if item]
    if asked is None or "\n" in text.strip() or len(items) < 2:  # noqa: PLR2004 - one line is one
        return text
    count = asked["count"]
    wanted = _NUMBERS.get(count.lower(), count) if count else str(len(items))
    return "\n".join(items) if wanted == str(len(items)) else text


def as_said(text: str, texts: Iterable[str]) -> str:
    """Return a copied line with the marks that it lost: `print "hi"` of `print("hi")`.

    Or without a quote at an end, where only the rest is said: `.git` of `'.git`.
    """
    said, lines = text.strip(), [line for told in texts for line in told.splitlines()]
    if "\n" in said or is_span(said, lines):
        return text
    bare = said.strip(_QUOTES)
    if bare != said and is_span(bare, lines):
        return text.replace(said, bare)
    own = words(said)
    if len(own) < 2:  # noqa: PLR2004 - one word has no marks within
        return text
    found = {span for line in lines for span in _spans_of(own, line) if _lost_marks(said, span)}
    return text.replace(said, found.pop()) if len(found) == 1 else text


def _spans_of(own: Sequence[str], line: str) -> Iterable[str]:
    """Yield what stands between the first and the last of the words, and what closes it."""
    told = words_in_place(line)
    for at in range(len(told) - len(own) + 1):
        some = told[at : at + len(own)]
        if [match.group() for match in some] == [*own]:
            start, end = some[0].start(), some[-1].end()
            behind = _CLOSING.match(line, end)
            stops = range(end, behind.end() + 1 if behind else end)
            yield next((line[start:stop] for stop in stops if _closed(line[start:stop])), "")


def _closed(span: str) -> bool:
    """Whether each bracket and each quote of a span is closed in it."""
    pairs = all(span.count(pair[0]) == span.count(pair[1]) for pair in ("()", "[]", "{}"))
    return pairs and not span.count('"') % 2


def _lost_marks(text: str, span: str) -> bool:
    """Whether the text is the span without some marks, spaces apart."""
    rest = iter(_SPACE.sub("", span))
    return all(letter in rest for letter in _SPACE.sub("", text))
