"""Links between things as texts show them: `Ana -works_at-> Mill`, `(Ana, works_at, Mill)`."""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

FROM, TO = "from", "to"
_NAME, _TYPE = r"[^\n;,:|()\[\]<>]+?", r"[\w ]+?"
_ARROW = re.compile(
    rf"(?P<source>{_NAME})\s*[-\u2013\u2014]+\s*\[?(?P<type>{_TYPE})\]?\s*[-\u2013\u2014]+>\s*"
    rf"(?P<target>{_NAME})\s*(?=[;,|)\]]|\.?$)"
)
_TRIPLE = re.compile(rf"\((?P<source>{_NAME}), *(?P<type>{_TYPE}), *(?P<target>{_NAME})\)")


class Edge(NamedTuple):
    """A link that a text shows."""

    source: str
    type: str
    target: str


def edges_of(texts: Iterable[str]) -> tuple[Edge, ...]:
    """Return the links that texts show with arrows or as triples, each once."""
    found = (
        Edge(*(match[name].strip(" *-\u2022") for name in Edge._fields))
        for text in texts
        for line in text.splitlines()
        for notation in (_ARROW, _TRIPLE)
        for match in notation.finditer(line)
    )
    return tuple(dict.fromkeys(found))


def as_shown(link: Mapping[str, object], edges: Iterable[Edge]) -> dict[str, object]:
    """Return a link (`from`, `to` and one more string: its type) as it is shown.

    One that no text shows is turned round if that is shown, or gets the other end that is shown
    with its type and one of its ends, if there is one only.
    """
    same = dict(link)
    others = [key for key in link if key not in (FROM, TO)]
    ends = (link.get(FROM), link.get(TO))
    if len(others) != 1 or not all(isinstance(end, str) for end in ends):
        return same
    alike = [edge for edge in edges if edge.type == link[others[0]]]
    if any(_end(edge.source, ends[0]) and _end(edge.target, ends[1]) for edge in alike):
        return same
    if any((edge.target, edge.source) == ends for edge in alike):
        return same | {FROM: ends[1], TO: ends[0]}
    near = [edge for edge in alike if _end(edge.source, ends[0]) or edge.target == ends[1]]
    if len(near) != 1:
        return same
    kept = _end(near[0].source, ends[0])
    return same | ({TO: near[0].target} if kept else {FROM: near[0].source})


def _end(shown: str, written: object) -> bool:
    """Whether it is the written one, perhaps behind other words of its line."""
    return shown == written or shown.endswith(f" {written}")
