"""The git world: a repository with branches, tags, some history and unfinished work.

Objects are computed here, so a commit's hash is known before the repository is written, and is
the same in every run.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, cast

from afx_train.data.template import Value
from afx_train.data.worlds import Need, ServerCommand, UnknownSlot
from desk_worlds import contexts, texts, vocabulary
from desk_worlds.draws import base_of, unused
from desk_worlds.gitpack import Objects

_START = 1_756_000_000  # 2025-08-24
_COMMITS = 22
_MEANT = 3  # as many of the newest commits are shown whole
_STATE_SHARE = 0.15
_REPO_EXTENSIONS = (
    "py",
    "md",
    "md",
    "txt",
    "csv",
    "json",
    "yaml",
    "js",
    "html",
    "tex",
    "css",
    "toml",
)
_TAG_STYLES = (
    "v{a}.{b}",
    "v{a}.{b}.{c}",
    "{a}.{b}.{c}",
    "release-{a}.{b}",
    "{y}-q{q}",
    "draft-{a}",
)
_REPO_FOLDERS = (
    "repo",
    "project",
    "code",
    "src",
    "notes",
    "thesis",
    "website",
    "book",
    "handbook",
    "app",
)
IDENTITY = {
    "GIT_AUTHOR_NAME": "Desk",
    "GIT_AUTHOR_EMAIL": "desk@localhost",
    "GIT_COMMITTER_NAME": "Desk",
    "GIT_COMMITTER_EMAIL": "desk@localhost",
    "GIT_AUTHOR_DATE": "2026-04-20T10:00:00+0000",
    "GIT_COMMITTER_DATE": "2026-04-20T10:00:00+0000",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
}


class RepoWorld:
    """One scratch repository, rewritten for each example."""

    tool_set = "git"

    def __init__(self, folder: Path, command: ServerCommand) -> None:
        self.folder, self.server = folder, command

    def needs_context(self, need: Need) -> bool:
        """Always: every tool takes the repository's path."""
        return True

    def scene(self, rng: Random, need: Need) -> "RepoScene":
        """Draw a repository."""
        return RepoScene(self.folder, rng, need)


class RepoScene:
    """A repository of 22 commits on its main branch, with work that is not committed."""

    def __init__(self, folder: Path, rng: Random, need: Need) -> None:
        self._folder, self._rng, self._need = folder, rng, need
        self._drawn: dict[str, Value] = {}
        self._path = _repo_path(rng, need.root)
        self._names = _Names(rng)
        self._history: _History | None = None

    @property
    def paths(self) -> Mapping[str, str]:
        """The repository as shown → the scratch repository."""
        return {self._path: str(self._folder)}

    def slot(self, name: str) -> Value:
        """Return a slot of the README's table."""
        if name not in self._drawn:
            self._drawn[name] = self._draw(base_of(name), name)
        return self._drawn[name]

    def context(self, rng: Random) -> str:
        """Word the repository's path, sometimes with branches or unfinished work."""
        names = self._names
        lines = [contexts.repo_line(self._path, names.current, rng)]
        if rng.random() < _STATE_SHARE:
            some = rng.sample(names.branches, rng.randint(2, 4))
            said = [v for k, v in self._drawn.items() if k.startswith("branch") and v not in some]
            lines.append(contexts.branches_line([*some, *map(str, said)], rng))
        if rng.random() < _STATE_SHARE:
            kinds = {
                "modified": names.changed,
                "staged": names.staged,
                "untracked": names.untracked,
            }
            for kind in rng.sample(sorted(kinds), rng.randint(1, 2)):
                lines.append(contexts.state_line(kind, kinds[kind], rng))
        return "\n".join(lines)

    def refuses(self, tool: str, arguments: Mapping[str, Any]) -> str:
        """Refuse a new branch that exists."""
        if tool == "git_create_branch" and arguments["branch_name"] in self._names.branches:
            return f"branch {arguments['branch_name']} exists"
        return ""

    def accept(self, tool: str, arguments: Mapping[str, Any], request: str) -> list[dict[str, Any]]:
        """Accept full hashes for short ones, and a said default left out or put in."""
        out: list[dict[str, Any]] = []
        for key in ("target", "revision", "contains", "not_contains"):
            value = str(arguments.get(key, ""))
            for full in self._history.hashes if self._history and value else ():
                short, _, rest = value.partition(":")
                if full.startswith(short) and len(short) >= 7 and full != short:
                    out.append({**arguments, key: full + (f":{rest}" if rest else "")})
        for key, default in (("max_count", 10), ("context_lines", 3)):
            if arguments.get(key) == default:
                out.append({k: v for k, v in arguments.items() if k != key})
        files = cast("list[str]", arguments.get("files", []))
        if len(files) == 2:
            out.append({**arguments, "files": files[::-1]})
        return out

    def build(self) -> None:
        """Write the repository: objects, refs, index, working tree."""
        history, names = self._made(), self._names
        shutil.rmtree(self._folder, ignore_errors=True)
        history.write(self._folder / ".git")
        _git(self._folder, "reset", "--hard", "-q")
        for path in (*names.staged, *names.changed):
            with (self._folder / path).open("a", encoding="utf-8") as stream:
                stream.write(f"{texts.note(Random(path))}\n")
        _git(self._folder, "add", "--", *names.staged)
        for path in names.untracked:
            (self._folder / path).parent.mkdir(parents=True, exist_ok=True)
            (self._folder / path).write_text(f"{texts.note(Random(path))}\n", encoding="utf-8")

    def observed(self, tool: str, text: str) -> str:
        """Nothing here differs from run to run."""
        return text

    def _made(self) -> "_History":
        if self._history is None:
            self._history = _History(self._names, Random(self._path + self._names.current))
        return self._history

    def _draw(self, base: str, name: str) -> Value:
        rng, names = self._rng, self._names
        lists: dict[str, Sequence[str]] = {
            "branch": [b for b in names.branches if b != names.current],
            "changed": names.changed,
            "untracked": names.untracked,
            "tracked": names.tracked,
            "tag": names.tags,
        }
        if base in lists:
            return self._unused(base, lists[base])
        match base:
            case "repo":
                return self._path
            case "current":
                return names.current
            case "newbranch":
                return _new_branch(rng, names.branches)
            case "message":
                return texts.commit_message(rng)
            case "n":
                return rng.randint(2, 20)
            case "date":
                return f"{rng.choice((2025, 2026))}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"
            case "commit":
                return self._commit(name)
            case "rev":
                return self._revision()
            case _:
                return self._told(base)

    def _told(self, base: str) -> Value:
        """What only an observation tells, and how a request calls it."""
        if base == "meant":
            return self._made().meant(self._rng)
        if base == "work":
            branch = self._unused(
                base, [b for b in self._names.branches if b != self._names.current]
            )
            return {"branch": branch, "about": _words_of(branch)}
        if base == "modified":
            return dict(zip("abc", sorted(self._names.changed), strict=True))
        raise UnknownSlot(base)

    def _commit(self, name: str) -> str:
        """A short hash; the newest commit's where only an observation can tell it."""
        hashes = self._made().hashes
        told = name in self._need.told
        full = self._rng.choice(hashes) if told else hashes[-1]
        return full[: self._rng.choices((7, 8, 10, 40), (72, 12, 8, 8))[0]] if told else full[:7]

    def _revision(self) -> str:
        rng = self._rng
        forms = [f"HEAD~{rng.randint(1, 9)}", "HEAD^", rng.choice(self._made().hashes)[:7]]
        forms += [rng.choice(self._names.tags), rng.choice(self._names.branches)]
        return rng.choice(forms)

    def _unused(self, base: str, choices: Sequence[str]) -> str:
        return unused(self._drawn, base, choices, self._rng)


class _Names:
    """The names of a repository: branches, tags, and files by the state they are in."""

    def __init__(self, rng: Random) -> None:
        self.main = rng.choice(("main", "main", "main", "master", "trunk", "develop"))
        self.branches = [self.main]
        while len(self.branches) < 6:
            self.branches.append(_new_branch(rng, self.branches))
        self.current = self.main if rng.random() < 0.7 else rng.choice(self.branches[1:])
        self.tags = sorted({_tag(rng) for _ in range(3)} - {*self.branches})
        paths = _paths(rng, 13)
        self.tracked, self.untracked = paths[:11], paths[11:]
        # Branches differ in other files than these, so that a checkout is never in the way of work.
        self.changed, self.staged, self.stable = paths[:3], paths[3:5], paths[5:11]


class _History:
    """Commits as git objects: `main`, one more commit on each branch, tags, a remote."""

    def __init__(self, names: _Names, rng: Random) -> None:
        self._objects = Objects()
        self._names, self._rng = names, rng
        self._people = [vocabulary.person(rng) for _ in range(3)]
        files = {path: f"{texts.note(rng)}\n{texts.note(rng)}\n" for path in names.tracked}
        self.refs: dict[str, str] = {}
        self._told: dict[str, dict[str, str]] = {}
        main: list[str] = []
        for number in range(_COMMITS):
            if number:
                files[rng.choice(names.stable)] += f"{texts.note(rng)}\n"
            main.append(self._commit(files, main[-1:], number))
        self.refs[f"refs/heads/{names.main}"] = main[-1]
        for number, branch in enumerate(names.branches[1:]):
            changed = dict(files)
            changed[rng.choice(names.stable)] += f"{texts.note(rng)}\n"
            tip = self._commit(changed, main[-1:], _COMMITS + number)
            self.refs[f"refs/heads/{branch}"] = tip
            if number < 2:
                self.refs[f"refs/remotes/origin/{branch}"] = tip
        self.refs[f"refs/remotes/origin/{names.main}"] = main[-2]
        for number, tag in enumerate(names.tags):
            self.refs[f"refs/tags/{tag}"] = main[4 + 6 * number]
        tip = self.refs[f"refs/heads/{names.current}"]
        self.hashes = main if names.current == names.main else [*main, tip]

    def meant(self, rng: Random) -> dict[str, Value]:
        """One of the newest commits that its author and its subject each tell from the others."""
        newest = self.hashes[-_MEANT:]
        alone = [c for c in newest if not any(self._alike(c, o) for o in newest if o != c)]
        if not alone:
            raise UnknownSlot("lonely commit")  # drawn again
        commit = rng.choice(alone)
        return {**self._told[commit], "commit": commit}

    def _alike(self, commit: str, other: str) -> bool:
        mine, its = self._told[commit], self._told[other]
        return mine["author"] == its["author"] or mine["about"] in its["message"]

    def write(self, folder: Path) -> None:
        """Write the repository's own folder."""
        for name in ("refs/heads", "refs/tags"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "HEAD").write_text(f"ref: refs/heads/{self._names.current}\n", encoding="utf-8")
        identity = "[user]\n\tname = Desk\n\temail = desk@localhost\n"
        remote = '[remote "origin"]\n\turl = https://example.org/desk.git\n'
        core = "[core]\n\trepositoryformatversion = 0\n\tbare = false\n\tquotePath = false\n"
        config = core + identity + remote
        (folder / "config").write_text(config, encoding="utf-8")
        packed = "".join(f"{digest} {ref}\n" for ref, digest in sorted(self.refs.items()))
        (folder / "packed-refs").write_text(
            f"# pack-refs with: peeled fully-peeled sorted \n{packed}", encoding="utf-8"
        )
        self._objects.write(folder / "objects" / "pack")

    def _commit(self, files: Mapping[str, str], parents: Sequence[str], number: int) -> str:
        tree = self._objects.tree(files)
        who = self._people[number % len(self._people)]
        mail = who.lower().replace(" ", ".") + "@example.org"
        stamp = f"{who} <{mail}> {_START + number * 777_600 + number * 5_147} +0000"
        lines = [f"tree {tree}", *(f"parent {parent}" for parent in parents)]
        message, subject = texts.commit_about(self._rng)
        lines += [f"author {stamp}", f"committer {stamp}", "", message, ""]
        commit = self._objects.add("commit", "\n".join(lines).encode())
        self._told[commit] = {"author": who.split()[0], "about": subject, "message": message}
        return commit


def _repo_path(rng: Random, root: str) -> str:
    joint = "\\" if "\\" in root else "/"
    if root and rng.random() < 0.55:
        return root + joint + rng.choice((*_REPO_FOLDERS, rng.choice(vocabulary.DIR_WORDS)))
    return vocabulary.root_path(rng)


def _paths(rng: Random, count: int) -> list[str]:
    folders = [rng.choice(vocabulary.DIR_WORDS) for _ in range(3)]
    folders.append(f"{folders[0]}/{rng.choice(vocabulary.DIR_WORDS)}")
    found: dict[str, str] = {}
    while len(found) < count:
        words = rng.sample(vocabulary.NAME_WORDS, rng.choices((1, 2), (60, 40))[0])
        name = f"{vocabulary.styled(words, rng)}.{rng.choice(_REPO_EXTENSIONS)}"
        path = name if rng.random() < 0.4 else f"{rng.choice(folders)}/{name}"
        found.setdefault(path.lower(), path)
    return list(found.values())


def _new_branch(rng: Random, taken: Sequence[str]) -> str:
    """A name that neither exists nor is a folder of one that does."""
    while True:
        name = texts.branch_name(rng)
        clash = any(
            name == t or name.startswith(t + "/") or t.startswith(name + "/") for t in taken
        )
        if not clash:
            return name


def _words_of(branch: str) -> str:
    """What people say of a branch: `feat/pollen-calendar` is the one for the pollen calendar."""
    return re.sub(r"[-_]+", " ", branch.rpartition("/")[2])


def _tag(rng: Random) -> str:
    numbers = {key: rng.randint(0, 9) for key in "abc"}
    return rng.choice(_TAG_STYLES).format(**numbers, y=rng.randint(2023, 2026), q=rng.randint(1, 4))


def _git(folder: Path, *arguments: str) -> None:
    subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env={**os.environ, **IDENTITY},
        check=True,
        capture_output=True,
    )
