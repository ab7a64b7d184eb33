"""Grammars whose strings are copied: values that are spans, or words, of the texts at hand.

A small model that writes a path or a name letter by letter drops letters, and invents values that
nobody gave. Where all training values of a parameter were copied from the request, the context or
an observation, decoding is held to such spans (llguidance's substring terminals). Where values are
put together of words from there (a folder and a file's name, a pattern, a statement of SQL), it
is held to these words, to those that belong to the parameter itself (`SELECT`), and to any marks.

A parameter is named by its path: `path`, `edits[].oldText`, `files[]`. A span begins and ends
between words and stays in one line. A word is a run of letters and digits: `_` parts two of them.
No value has a space before or behind it, or a line break in it.

Where a value has to be one of a few (a path that is shown), it can be held to these instead.

In a statement of SQL the words outside single quotes are names, and where the context lists tables
and columns, the request's own word for one (`UPDATE order`) is wrong. So of a worded parameter
whose training values bear it out, those words can be held to the names that are shown.
"""

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from difflib import SequenceMatcher, get_close_matches
from typing import Any

_ATOM = re.compile(r"\w+|\s|[^\w\s]")
_WORD = re.compile(r"[^\W_]+")
_NAME = re.compile(r"\w+")
_SPECIAL = re.compile(r"[\\.+*?()|\[\]{}^$/]")
QUOTED = re.compile(r"'[^']*'")


def _mark(*, but: str = "") -> str:
    """A character between words as it is spelled within JSON: none to escape, and none of `but`."""
    return rf"/[^\p{{L}}\p{{N}}{but}\x22\\\x00-\x1f]|\\[\x22\\]/"


_MARK, _MARK_IN_QUOTES, _MARK_OF_NAMES = _mark(), _mark(but="'"), _mark(but="_'")
_LINE = re.compile(r"\S([^\x00-\x1f]*\S)?")
# Without spaces around it: nobody asks for a file called " notes".
_TRIMMED, _TRIMMED_OR_EMPTY = r"/\S(.*\S)?/", r"/(\S(.*\S)?)?/"
ANY_NUMBER = "#"  # among a parameter's own words: every number is one of them
LEAST_SHOWN = 2  # names that a text has of observations, where these show names at all
EMPTY = ""  # among a parameter's own words: the value may be empty
# A slip has so much in common with what was meant; so many spans of texts so long are looked at.
_ALIKE, _MOST_ALIKE, _COMPARED = 0.75, 32, 1500
_STRING, _NULL = {"type": "string"}, {"type": "null"}
_OPEN = frozenset({"type", "default", "anyOf"})


def string_leaves(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield (path, text) of each string in an argument object."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from string_leaves(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, Sequence):
        for inner in value:
            yield from string_leaves(inner, f"{path}[]")


def with_leaves(value: object, change: Callable[[str, str], str], path: str = "") -> object:
    """Return an argument object with each string changed. change: of (path, text) to the text."""
    if isinstance(value, str):
        return change(path, value)
    if isinstance(value, Mapping):
        return {k: with_leaves(v, change, f"{path}.{k}" if path else k) for k, v in value.items()}
    if isinstance(value, list):
        return [with_leaves(inner, change, f"{path}[]") for inner in value]
    return value


def is_span(text: str, texts: Iterable[str]) -> bool:
    """Whether the text stands in a line of one of the texts, between words."""
    atoms = _ATOM.findall(text)
    if not atoms or atoms[0].isspace() or atoms[-1].isspace() or "\n" in text:
        return False
    return any(_stands_in(atoms, _ATOM.findall(line)) for t in texts for line in t.splitlines())


def spans_like(text: str, texts: Iterable[str]) -> list[str]:
    """Return the spans of the texts of which the text is a slip, the likeliest first.

    It is one where each word that the texts do not have is nearly one of theirs (by `difflib`'s
    ratio): SAFET-B of SHAFT-B, but Europe/Lisbon is none of Lisbon. Nor has any a number (3 may be
    three), or any in texts that are too long to be compared with.
    """
    lines = [line for told in texts for line in told.splitlines()]
    if sum(map(len, lines)) > _COMPARED or not any(letter.isalpha() for letter in text):
        return []
    said = {word.lower() for line in lines for word in words(line)}
    strange = [word for word in words(text.lower()) if word not in said]
    if not strange or not all(get_close_matches(word, said, 1, _ALIKE) for word in strange):
        return []
    matcher, found = SequenceMatcher(b=text.lower(), autojunk=False), dict[str, float]()
    for line in lines:
        for span in _spans_of(_ATOM.findall(line), shortest=len(text) // 2, longest=2 * len(text)):
            matcher.set_seq1(span.lower())
            if matcher.real_quick_ratio() >= _ALIKE and matcher.quick_ratio() >= _ALIKE:
                found[span] = matcher.ratio()
    alike = [span for span, ratio in found.items() if ratio >= _ALIKE]
    return sorted(alike, key=lambda span: -found[span])[:_MOST_ALIKE]


def _spans_of(atoms: Sequence[str], *, shortest: int, longest: int) -> Iterator[str]:
    """Yield the spans of so many letters, none of them with a space at an end."""
    for start, first in enumerate(atoms):
        if first.isspace():
            continue
        span = ""
        for atom in atoms[start:]:
            span += atom
            if len(span) > longest:
                break
            if len(span) >= shortest and not atom.isspace():
                yield span


def is_one_line(text: str) -> bool:
    """Whether a value made of words may be the text: no space around it, no control character."""
    return _LINE.fullmatch(text) is not None


def words(text: str) -> list[str]:
    """Return the runs of letters and digits."""
    return _WORD.findall(text)


def words_in_place(text: str) -> list[re.Match[str]]:
    """Return the same runs with where they stand."""
    return [*_WORD.finditer(text)]


def names(texts: Iterable[str]) -> frozenset[str]:
    """Return the runs of letters, digits and `_`."""
    return frozenset(name for text in texts for name in _NAME.findall(text))


def strange_names(
    text: str, own: Collection[str], shown: Set[str], listed: Set[str] = frozenset()
) -> frozenset[str]:
    """Return the names outside single quotes that are not shown, where names are shown at all."""
    if not are_shown(text, own, shown, listed):
        return frozenset()
    return bare_names(text) - shown - {*own}


def are_shown(
    text: str, own: Collection[str], shown: Set[str], listed: Set[str] = frozenset()
) -> bool:
    """Whether the names of a text stand somewhere to be read.

    They do where the context lists one of them, or where anything shows two and no fewer than it
    does not. own: the parameter's words, which need not be shown. listed: those of the shown names
    that stand in the context.
    """
    bare = bare_names(text) - {*own}
    known = bare & shown
    return bool(bare & listed) or len(known) >= max(LEAST_SHOWN, len(bare - known))


def bare_names(text: str) -> frozenset[str]:
    """Return the names outside single quotes that are not numbers."""
    found = names([QUOTED.sub(" ", text)])
    return frozenset(name for name in found if not name.isdecimal())


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What strings at some paths of arguments are held to besides.

    named: words outside single quotes are such names, or the parameter's own. one_of: they are one
    of these. spans: they are spans of the texts in which this one is not.
    """

    named: Mapping[str, Collection[str]] = field(default_factory=dict[str, Collection[str]])
    one_of: Mapping[str, Collection[str]] = field(default_factory=dict[str, Collection[str]])
    spans: Mapping[str, str] = field(default_factory=dict[str, str])

    def __bool__(self) -> bool:
        """Whether anything is held."""
        return bool(self.named or self.one_of or self.spans)


FREE = Held()


def copying_rules(
    schema: Mapping[str, Any],
    copied: Collection[str],
    texts: Sequence[str],
    worded: Mapping[str, Collection[str]],
    held: Held = FREE,
) -> str:
    """Write a Lark grammar of a closed object schema whose strings are copied.

    Those at `copied` are spans of the texts, those at `worded` made of words from there and of the
    words that `worded` gives; beside it they obey `held`. Properties come in the schema's order,
    compact. What holds no copied string stays JSON schema.

    Raises:
        ValueError: a path leads to no value of the schema, or the texts are empty, or the schema
            has references (a part of it would not find them).
    """
    if '"$ref"' in json.dumps(schema):
        msg = "the schema has references"
        raise ValueError(msg)
    return _Rules(frozenset(copied), texts, worded, held).start(schema)


def _spelled(text: str) -> str:
    """Return a text as it is spelled within a JSON string."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _stands_in(atoms: list[str], line: list[str]) -> bool:
    ends = len(line) - len(atoms) + 1
    return any(line[at : at + len(atoms)] == atoms for at in range(ends))


class _Rules:
    def __init__(
        self,
        copied: frozenset[str],
        texts: Sequence[str],
        worded: Mapping[str, Collection[str]],
        held: Held,
    ) -> None:
        spans = copied | held.spans.keys()
        self._copied = spans | worded.keys() | held.one_of.keys()
        self._rules = list[str]()
        self._worded, self._said = worded, frozenset(w for text in texts for w in words(text))
        self._held = held
        stripped = (line.strip() for text in texts for line in text.splitlines())
        lines = [line for line in dict.fromkeys(stripped) if line]
        if not lines or not self._copied:
            msg = "there is nothing to copy"
            raise ValueError(msg)
        if spans:
            self._spans(lines)
        if worded:
            self._rules.append(f"MARK: {_MARK}")
        if held.named:
            self._rules += [f"INNER: {_MARK_IN_QUOTES}", f"OUTER: {_MARK_OF_NAMES}"]

    def start(self, schema: Mapping[str, Any]) -> str:
        return "\n".join([f"start: {self._value(schema, '')}", *self._rules])

    def _spans(self, lines: Sequence[str]) -> None:
        spans: list[str] = []
        for line in lines:
            chunks = [*map(_spelled, _ATOM.findall(line))]
            listed = json.dumps({"substring_chunks": chunks}, ensure_ascii=False)
            spans.append(f"SPAN{len(spans)}")
            self._rules.append(f"{spans[-1]}: %regex {listed}")
        self._rules.append(f"SPAN: ({' | '.join(spans)}) & {_TRIMMED}")

    def _rule(self, body: str) -> str:
        name = f"r{len(self._rules)}"
        self._rules.append(f"{name}: {body}")
        return name

    def _value(self, schema: Mapping[str, Any], path: str) -> str:
        if path in self._copied:
            return self._copy(schema, path)
        below = [c for c in self._copied if not path or c.startswith((f"{path}.", f"{path}["))]
        if not below:
            return self._rule(f"%json {json.dumps(schema)}")
        if schema.get("type") == "array" and isinstance(items := schema.get("items"), Mapping):
            item = self._value(items, f"{path}[]")
            some = f'{item} ("," {item})*'
            return self._rule(f'"[" {some} "]"' if schema.get("minItems") else f'"[" ({some})? "]"')
        if isinstance(properties := schema.get("properties"), Mapping):
            return self._object(properties, frozenset(schema.get("required") or ()), path)
        msg = f"{below[0]!r} does not lead to a string"
        raise ValueError(msg)

    def _copy(self, schema: Mapping[str, Any], path: str) -> str:
        kinds = schema.get("anyOf", [{"type": schema.get("type")}])
        if set(schema) - _OPEN or kinds not in ([_STRING], [_STRING, _NULL]):
            return self._rule(f"%json {json.dumps(schema)}")  # an enum, a number: has its own rule
        value = self._rule(f'"\\"" {self._terminal(path)} "\\""')
        return value if len(kinds) == 1 else self._rule(f'{value} | "null"')

    def _terminal(self, path: str) -> str:
        """Return the name of the terminal that the strings at a path match."""
        if path in self._held.one_of:
            spelled = map(_spelled, self._held.one_of[path])
            either = " | ".join(json.dumps(text, ensure_ascii=False) for text in sorted(spelled))
            self._rules.append(f"ONE{len(self._rules)}: {either}")
            return f"ONE{len(self._rules) - 1}"
        if path in self._held.spans:
            other = _SPECIAL.sub(r"\\\g<0>", _spelled(self._held.spans[path]))
            self._rules.append(f"OTHER{len(self._rules)}: SPAN & ~/.*{other}.*/")
            return f"OTHER{len(self._rules) - 1}"
        if path in self._held.named:
            return self._of_names(self._held.named[path], self._worded.get(path, ()))
        return self._of_words(self._worded[path]) if path in self._worded else "SPAN"

    def _of_words(self, own: Collection[str]) -> str:
        listed = sorted(self._said.union(own) - {ANY_NUMBER, EMPTY})
        either = [*listed, "[0-9]+"] if ANY_NUMBER in own else listed
        number = len(self._rules)
        word, value, body = f"WORD{number}", f"WORDS{number}", "MARK*"
        if either:
            self._rules.append(f"{word}: /{'|'.join(either)}/")
            body = f"MARK* ({word} MARK+)* {word}?"
        some = _TRIMMED_OR_EMPTY if EMPTY in own else _TRIMMED
        self._rules.append(f"{value}: ({body}) & {some}")
        return value

    def _of_names(self, shown: Collection[str], own: Collection[str]) -> str:
        number = len(self._rules)
        name, word, value = f"NAME{number}", f"WORD{number}", f"NAMES{number}"
        listed = sorted({*shown, *own} - {ANY_NUMBER, EMPTY})
        self._rules.append(f"{name}: /{'|'.join([*listed, '[0-9]+'])}/")
        self._rules.append(f"{word}: /{'|'.join([*sorted(self._said), '[0-9]+'])}/")
        quoted = f'"\'" INNER* ({word} INNER+)* {word}? "\'"'
        between = f"(OUTER | {quoted})"
        body = f"{between}* ({name} {between}+)* {name}?"
        self._rules.append(f"{value}: ({body}) & {_TRIMMED}")
        return value

    def _object(self, properties: Mapping[str, Any], required: frozenset[str], path: str) -> str:
        first, rest = '""', '""'  # what may follow before any property was written, and after one
        for name, schema in reversed(list(properties.items())):
            value = self._value(schema, f"{path}.{name}" if path else name)
            pair = f"{json.dumps(json.dumps(name) + ':')} {value} {rest}"
            optional = name not in required
            later = self._rule(f'"," {pair}' + (f" | {rest}" if optional else ""))
            first = self._rule(pair + (f" | {first}" if optional else ""))
            rest = later
        return self._rule(f'"{{" {first} "}}"')
