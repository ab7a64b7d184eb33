"""Tools that a request names: "use read_file", "with the git_log tool".

People who know their tools say which one they mean, and then neither a model nor a classifier has
to guess. English only; in other languages nothing is found and the choice stays as it was.
"""

import re
from collections.abc import Iterable

from agentflux.contracts.tools import ToolSpec

_USE = r"\b(?:use|using|call|calling|run|running|invoke|with|via|through)\s+(?:\w+,?\s+){0,3}"
_NOT = r"(?:n['’]t|\b(?:not|never|instead\s+of|rather\s+than|without|except))\s+(?:\w+\s+){0,3}"
_LATER = re.compile(r"\b(?:then|after(?:wards)?|next|finally)\b", re.IGNORECASE)
_IDENTIFIER = re.compile(r"[a-z][A-Z]|[_\d-]")  # looks like no word of a sentence


def named_tools(tools: Iterable[ToolSpec], request: str) -> list[ToolSpec]:
    """Return the tools that the request says to use first.

    A name that is a word of the language, too ("search"), counts where "tool" stands behind it.
    """
    return [tool for tool in tools if _is_named(tool.name, request)]


def _is_named(name: str, request: str) -> bool:
    if name not in request:
        return False
    itself = rf"[`'\"“‘]?(?<!\w){re.escape(name)}(?!\w)"
    if re.search(_NOT + itself, request, re.IGNORECASE):
        return False
    way = rf"{itself}[`'\"”’]?\s+(?:tool|function)\b"
    if _IDENTIFIER.search(name):
        way += f"|{_USE}{itself}"
    found = re.search(way, request, re.IGNORECASE)
    return found is not None and _LATER.search(request, 0, found.start()) is None
