r"""Absolute paths and names of files, as texts show them.

An application tells a model where it may work: `root: /home/ana/notes`, `C:\Users\ana\notes is the
repository`. Which parameters are always such a path (a repository), and which never are that path
itself (a file to be read), is learned from training data; see `agentflux.contracts.bundle`.
"""

import re
from collections.abc import Collection, Iterable

_SEPARATORS = "/\\"
# A path with a space is found up to there, which is a beginning of it.
_ABSOLUTE = re.compile(r"""(?<![\w.~/\\$-])(?:[A-Za-z]:[\\/]|/)(?=[\w.])[^\s"'`,;|<>()\[\]{}]*""")
_BEHIND = ".,:;!?" + _SEPARATORS
_FILE = re.compile(r"(?<![\w.@/\\-])(?:[\w.-]+[\\/])*[\w.-]*\.[A-Za-z]\w{0,11}(?![\w@\\/-]|\.\w)")


def absolute_paths(texts: Iterable[str]) -> frozenset[str]:
    """Return the absolute paths, of POSIX or Windows, without separators at their ends."""
    found = (match.rstrip(_BEHIND) for text in texts for match in _ABSOLUTE.findall(text))
    return frozenset(path for path in found if path.strip(_SEPARATORS))


def folders(paths: Iterable[str]) -> frozenset[str]:
    """Return those that can be folders to work in: no ending, and not below another one."""
    every = {*paths}
    tops = {p for p in every if not any(is_below(p, other) for other in every)}
    return frozenset(path for path in tops if "." not in re.split(r"[\\/]", path)[-1])


def is_below(path: str, folder: str) -> bool:
    """Whether the path is in the folder or in one of its folders."""
    return path.startswith(folder) and path[len(folder) : len(folder) + 1] in {*_SEPARATORS}


def bare(path: str) -> str:
    """Return a path without separators at its end."""
    return path.rstrip(_SEPARATORS)


def files(text: str) -> frozenset[str]:
    """Return the words with an ending, with the folders before them: `notes.md`, `src/.env`."""
    return frozenset(_FILE.findall(text))


def is_shown(value: str, shown: Collection[str]) -> bool:
    """Whether a value is one of the absolute paths shown, or begins with one (it has a space)."""
    return any(value.startswith(path) for path in shown)
