"""Arguments that contradict what the texts show, and what they are held to instead.

A small model takes a table's name from the request where the context has another one, cuts a
repository's path off, or names the folder to work in where a file is asked for. Where training data
says that a parameter never does so (`CatalogTool.named`, `folders`, `inner`), the arguments are
written once more under a grammar that knows what is shown.

Of a tool that nobody trained for, strings are mostly copied from the request, too: in the data of
`samples/general` 18,780 of 18,798 that are no dates or times (`tests/bench/unknown_tools.py`). So
one that stands nowhere, in upper or lower case, but is a slip of some spans by its spelling, is
written once more as one of these; and where two required strings have the same text, which is said
once, the first is written as another span.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from agentflux.contracts.bundle import CatalogTool
from agentflux.contracts.paths import absolute_paths, bare, files, folders, is_shown
from agentflux.contracts.prompts import Situation, shown_texts, telling_texts
from agentflux.contracts.spans import (
    FREE,
    Held,
    is_span,
    names,
    spans_like,
    strange_names,
    string_leaves,
)
from agentflux.contracts.tools import ToolSpec


def held_to_what_is_shown(
    arguments: Mapping[str, Any] | None, seen: CatalogTool, situation: Situation
) -> Held:
    """Return what the strings that went astray are held to; nothing where none did.

    arguments: None where none could be read.
    """
    if arguments is None or not (seen.named or seen.folders or seen.inner):
        return FREE
    leaves = [*string_leaves(arguments)]
    shown, listed = names(telling_texts(situation)), names([situation.context])
    named = {
        path
        for path, text in leaves
        if path in seen.named and strange_names(text, seen.worded.get(path, ()), shown, listed)
    }
    told, paths = absolute_paths([situation.context]), absolute_paths(shown_texts(situation))
    strays = {p for p, text in leaves if told and p in seen.folders and not is_shown(text, paths)}
    asked, tops = files(situation.request), folders(told)
    outer = {p for p, text in leaves if asked and p in seen.inner and bare(text) in tops}
    return Held(
        named=dict.fromkeys(named, shown),
        one_of={**dict.fromkeys(strays, paths), **dict.fromkeys(outer, asked)},
    )


def held_to_texts(
    arguments: Mapping[str, Any] | None, tool: ToolSpec, texts: Sequence[str]
) -> Held:
    """Return what the strings of a tool that nobody trained for are held to, if they went astray.

    arguments: None where none could be read.
    """
    if arguments is None:
        return FREE
    lower = [text.lower() for text in texts]
    strange = {p: t for p, t in string_leaves(arguments) if not is_span(t.lower(), lower)}
    meant = {path: like for path, t in strange.items() if (like := spans_like(t, texts))}
    required = tool.input_schema.get("required") or ()
    told = [(n, t) for n in required if isinstance(t := arguments.get(n), str) and t]
    twice = {n: t for (n, t), (_, other) in combinations(told, 2) if t == other}
    once = {n: t for n, t in twice.items() if sum(text.count(t) for text in texts) == 1}
    return Held(one_of=meant, spans=once)
