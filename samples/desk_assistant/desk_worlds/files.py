"""The filesystem world: a workspace of folders, texts, images and sounds."""

import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from afx_train.data.template import Value
from afx_train.data.worlds import Need, ServerCommand, UnknownSlot
from desk_worlds import contexts, texts, vocabulary
from desk_worlds.draws import base_of

_ABSOLUTE_SHARE = 0.1
_BACKSLASH_SHARE = 0.5  # of the workspaces on Windows drives: paths below the root have them, too
_LISTING_SHARE = 0.2
_LISTED = frozenset({"listed", "listeddir"})  # slots that only the context tells in full
_PATH_KEYS = ("path", "source", "destination")  # beside them, `paths` has several
_WORD = re.compile(r"[^\W\d_]{3,}|\d{4}")
_SUPERLATIVE = re.compile(r"\b(big|larg|small|tini|tiny|heav|light|most|least|fat|huge|long)", re.I)
_ORDER = re.compile(r"\b(sort|order|rank|first|top|descend|ascend|-\w*S|by size)", re.I)
# A minimal valid file of each kind: what is in them does not matter, that they are media does.
_MEDIA_BYTES = bytes.fromhex("89504e470d0a1a0a0000000d49484452") + bytes(range(48))


class FilesWorld:
    """Folders and files below one scratch folder, which is the server's only allowed directory."""

    tool_set = "filesystem"

    def __init__(self, folder: Path, command: ServerCommand) -> None:
        self.folder, self.server = folder, command
        folder.mkdir(parents=True, exist_ok=True)

    def draw_root(self, rng: Random) -> str:
        """Draw the workspace root that the context shows."""
        return vocabulary.root_path(rng)

    def needs_context(self, need: Need) -> bool:
        """Where a path stands in the context's listing only; others start at the one workspace."""
        return bool(_LISTED & set(map(base_of, need.slots)))

    def scene(self, rng: Random, need: Need) -> "FilesScene":
        """Draw a workspace, or make the one that was written: `files` and `folders`."""
        return FilesScene(self.folder, rng, need)


class FilesScene:
    """One workspace. Paths are relative, except where a request spells them out in full."""

    def __init__(self, folder: Path, rng: Random, need: Need) -> None:
        self._folder, self._rng, self._need = folder, rng, need
        self._drawn: dict[str, Value] = {}
        self.contents: dict[str, str] = {}
        if need.own is None:
            self.folders, self.files = _draw_tree(rng)
        else:
            self.contents |= need.own["files"]
            self.files = [*self.contents]
            self.folders = _folders_of(self.files, need.own.get("folders", ()))
        self._absolute = need.shown and rng.random() < _ABSOLUTE_SHARE
        windows = need.shown and "\\" in need.root
        self._joint = (
            "\\" if windows and (self._absolute or rng.random() < _BACKSLASH_SHARE) else "/"
        )
        self._dir = self._main_folder() if self.folders else ""

    @property
    def paths(self) -> Mapping[str, str]:
        """The root as shown → the scratch folder, and what the server cannot read as it is said."""
        said = [str(v) for v in self._drawn.values() if "\\" in str(v)]
        relative = {path: str(self._folder / self._relative(path)) for path in said}
        return {**relative, self._need.root: str(self._folder)}

    def slot(self, name: str) -> Value:
        """Return a slot of the README's table."""
        if name not in self._drawn:
            self._drawn[name] = self._draw(base_of(name), name)
        return self._drawn[name]

    def context(self, rng: Random) -> str:
        """Word the workspace root, sometimes with some of what is below it."""
        root = contexts.root_line(self._need.root, rng)
        listed = self._listing(rng)
        joint = " " if "\n" not in listed and rng.random() < 0.3 else "\n"
        return joint.join(filter(None, (root, listed)))

    def _listing(self, rng: Random) -> str:
        must = [self._relative(str(v)) for k, v in self._drawn.items() if k.startswith("listed")]
        if not must and rng.random() > _LISTING_SHARE:
            return ""
        if not must and rng.random() < 0.3:
            tops = [f for f in self.folders if "/" not in f]
            return contexts.folders_listing(rng.sample(tops, min(4, len(tops))), rng)
        others = [f for f in self.files if f not in must]
        shown = [*must, *rng.sample(others, min(rng.randint(1, 5), len(others)))]
        rng.shuffle(shown)
        return contexts.listing([path.replace("/", self._joint) for path in shown], rng)

    def refuses(self, tool: str, arguments: Mapping[str, Any]) -> str:
        """Refuse moves onto themselves, into themselves or onto something that is there."""
        if self._joint == "\\" and _mixed(arguments):
            return "both kinds of slashes in a path"
        if tool != "move_file":
            return ""
        source, target = (self._relative(arguments[key]) for key in ("source", "destination"))
        taken = {*self.files, *self.folders}
        if source == target or target.startswith(source + "/") or target in taken:
            return f"{source} cannot be moved to {target}"
        return ""

    def accept(self, tool: str, arguments: Mapping[str, Any], request: str) -> list[dict[str, Any]]:
        """Accept relative for absolute paths and the other way round, and each tool's own forms."""
        forms = [dict(arguments), *self._same_by_path(arguments)]
        out = forms[1:]
        for form in forms:
            out += _same_by_tool(tool, form, request)
        return [form for n, form in enumerate(out) if form != arguments and form not in out[:n]]

    def build(self) -> None:
        """Write the workspace. A file that was written without a text and is none holds bytes."""
        for entry in self._folder.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        for folder in self.folders:
            (self._folder / folder).mkdir(parents=True, exist_ok=True)
        for path in self.files:
            self._write(path)

    def observed(self, tool: str, text: str) -> str:
        """Date files back: all were written a moment ago."""
        if tool != "get_file_info":
            return text
        rng = Random(f"{self._need.root}/{self.files[0]}")
        created = datetime(2025, 1, 1, tzinfo=UTC) + timedelta(minutes=rng.randint(0, 600_000))
        modified = created + timedelta(minutes=rng.choice((0, 3, 90, rng.randint(1, 200_000))))
        for name, moment in (("created", created), ("modified", modified), ("accessed", modified)):
            shown = f"{moment:%a %b %d %Y %H:%M:%S} GMT+0000 (Coordinated Universal Time)"
            text = re.sub(rf"(?m)^{name}: .*$", f"{name}: {shown}", text)
        return text

    def _write(self, path: str) -> None:
        target = self._folder / path
        if self.contents.get(path) or _extension(path) in vocabulary.TEXT_EXTENSIONS:
            target.write_text(self._content(path), encoding="utf-8")
        else:
            target.write_bytes(_MEDIA_BYTES)

    def _content(self, path: str) -> str:
        """Draw a file's text once, from its path, so that the order of asking does not matter."""
        if path not in self.contents:
            rng = Random(f"{self._need.root}/{path}")
            lines = [texts.note(rng) for _ in range(rng.randint(2, 14))]
            self.contents[path] = "\n".join(lines) + "\n"
        return self.contents[path]

    def _main_folder(self) -> str:
        """Choose {dir}: with three texts or more where an observation has to tell one of them."""
        if self._need.slots & {"biggest", "smallest", "found"}:
            folder = self._rng.choice(self.folders)
            media = {*self.files} - {*self._texts()}
            self.files = [f for f in self.files if f not in media or _parent(f) != folder]
            for _ in range(6):
                if sum(_parent(f) == folder for f in self._texts()) >= 3:
                    break
                self.files.append(_new_name(self._rng, folder, self.files, vocabulary.NAME_WORDS))
            return folder
        full = [f for f in self.folders if any(_parent(file) == f for file in self.files)]
        return self._rng.choice(full or self.folders)

    def _draw(self, base: str, name: str) -> Value:
        simple = {
            "file": self._texts,
            "image": lambda: self._of(vocabulary.IMAGE_EXTENSIONS),
            "audio": lambda: self._of(vocabulary.AUDIO_EXTENSIONS),
        }
        if base in simple:
            return self._said(self._unused(base, name, simple[base]()))
        if base == "dir":
            others = [f for f in self.folders if f != self._dir]
            return self._said(self._dir if name == "dir" else self._unused(base, name, others))
        if base in _LISTED:
            return self._only_listed(base, name)
        if base in ("newfile", "newdir", "missing"):
            return self._said(self._new_path(base))
        if base in ("biggest", "smallest", "found", "word"):
            return self._told_by_observation(base)
        return self._draw_plain(base)

    def _only_listed(self, base: str, name: str) -> str:
        """A path below a folder whose last component no other path has."""
        self.files.append(_new_name(self._rng, self._dir, self.files, vocabulary.NAME_WORDS))
        self.folders.append(_new_folder(self._rng, self._dir, self.folders))
        choices = self._texts() if base == "listed" else self.folders
        ends = [_name(path).lower() for path in (*self.files, *self.folders)]
        fitting = [p for p in choices if "/" in p and ends.count(_name(p).lower()) == 1]
        return self._unused(base, name, fitting).replace("/", self._joint)

    def _draw_plain(self, base: str) -> Value:
        if base == "root":
            return self._need.root if self._need.shown else "."
        if base == "n":
            return self._rng.randint(2, 40)
        if base == "text":
            return texts.note(self._rng)
        if base == "ext":
            here = [_extension(f) for f in self.files]
            return self._rng.choice(
                here if self._rng.random() < 0.8 else vocabulary.TEXT_EXTENSIONS
            )
        if base in ("old", "new"):
            return self._replacement()[base]
        raise UnknownSlot(base)

    def _replacement(self) -> dict[str, str]:
        """Put the old snippet into {file} and remember what it becomes."""
        old, new = texts.replacement(self._rng)
        path = self._relative(str(self.slot("file")))
        lines = self._content(path).splitlines()
        lead, tail = self._rng.choice((("", ""), ("note: ", ""), ("", " (see below)"), ("- ", "")))
        lines.insert(self._rng.randint(0, len(lines)), f"{lead}{old}{tail}")
        self.contents[path] = "\n".join(lines) + "\n"
        self._drawn |= {"old": old, "new": new}
        return {"old": old, "new": new}

    def _told_by_observation(self, base: str) -> str:
        here = [f for f in self._texts() if _parent(f) == self._dir]
        if base in ("word", "found"):
            return self._word_and_found(here)[base]
        biggest, smallest = self._by_size(here)
        self._drawn |= {"biggest": self._said(biggest), "smallest": self._said(smallest)}
        return str(self._drawn[base])

    def _by_size(self, here: list[str]) -> tuple[str, str]:
        """Make the texts of a folder so different in size that a listing tells the extremes."""
        order = self._rng.sample(here, len(here))
        largest = 0
        for path in order:
            text = self._content(path)
            while len(text.encode()) < 1.2 * largest:
                text += f"{texts.note(self._rng)}\n"
            self.contents[path], largest = text, len(text.encode())
        return order[-1], order[0]

    def _word_and_found(self, here: list[str]) -> dict[str, str]:
        """A word that stands in the name of one file below {dir} only, where a step needs that."""
        if "found" not in self._need.slots:
            names = [_stem(path) for path in (*self.files, *self.folders)]
            words = [w for n in names for w in _WORD.findall(n)] or ["draft"]
            spare = [*_WORD.findall(" ".join(vocabulary.NAME_WORDS))]
            word = self._rng.choice(words if self._rng.random() < 0.8 else spare)
            return {"word": word, "found": ""}
        below = [p for p in (*self.files, *self.folders) if p.startswith(self._dir + "/")]
        pairs = [(word, file) for file in here for word in _WORD.findall(_stem(file))]
        only = [(w, f) for w, f in pairs if sum(w in _name(p) for p in below) == 1]
        word, file = self._rng.choice(only or [(_stem(here[0]), here[0])])
        root = self._need.root
        found = f"{root}/{file}" if self._need.shown and "\\" not in root else file
        self._drawn |= {"word": word, "found": found}
        return {"word": word, "found": found}

    def _new_path(self, base: str) -> str:
        """A path that is free, in a folder that exists. Renames stay or go into a named folder."""
        rng = self._rng
        folder = rng.choice(["", "", *self.folders])
        if "move_file" in self._need.tools:
            moved = self._moved_from()
            folder = moved if moved and rng.random() < 0.55 else rng.choice(self.folders)
            if not moved and rng.random() < 0.6:
                folder = ""
        if base == "newdir":
            return _new_folder(rng, folder, self.folders)
        return _new_name(rng, folder, self.files, vocabulary.NAME_WORDS)

    def _moved_from(self) -> str:
        """The folder of what is going to be moved."""
        if self._need.slots & {"biggest", "smallest", "found"}:
            return self._dir
        for name in ("file", "listed", "image", "audio", "dir"):
            if name in self._need.told:
                return _parent(self._relative(str(self.slot(name))))
        return self._dir

    def _unused(self, base: str, name: str, choices: Iterable[str]) -> str:
        used = {self._relative(str(v)) for k, v in self._drawn.items() if k.startswith(base)}
        if base == "dir":
            used.add(self._dir)
        free = [choice for choice in choices if choice not in used]
        if not free:
            raise UnknownSlot(name)
        return self._rng.choice(free)

    def _texts(self) -> list[str]:
        return self._of(vocabulary.TEXT_EXTENSIONS)

    def _of(self, extensions: Iterable[str]) -> list[str]:
        return [f for f in self.files if _extension(f) in extensions]

    def _said(self, path: str) -> str:
        whole = f"{self._need.root}/{path}" if self._absolute else path
        return whole.replace("/", "\\") if self._joint == "\\" else whole

    def _relative(self, path: str) -> str:
        if not path.startswith(self._need.root + self._joint):
            return path.replace("\\", "/")
        return path[len(self._need.root) + 1 :].replace("\\", "/")

    def _same_by_path(self, arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The same call with every path relative, and with every path in full."""
        root = self._need.root
        if not self._need.shown:
            return []
        relative = _map_paths(arguments, lambda p: "." if p == root else self._relative(p))
        joined = _map_paths(
            arguments, lambda p: root if p in (root, ".") else f"{root}/{self._relative(p)}"
        )
        forms = [relative, joined]
        if "\\" in root:
            forms = [relative, *(_map_paths(f, lambda p: p.replace("/", "\\")) for f in forms)]
        return [form for form in forms if form != arguments]


def _folders_of(files: Iterable[str], empty: Iterable[str]) -> list[str]:
    """The folders that the files lie in, each below its own, and the empty ones."""
    found = dict.fromkeys(empty)
    for path in files:
        parts = path.split("/")[:-1]
        found |= dict.fromkeys("/".join(parts[: n + 1]) for n in range(len(parts)))
    return list(found)


def _mixed(arguments: Mapping[str, Any]) -> bool:
    """Whether a path has both kinds of slashes."""
    paths = [*arguments.get("paths", ()), *(arguments[k] for k in _PATH_KEYS if k in arguments)]
    return any("/" in path and "\\" in path for path in paths)


def _map_paths(arguments: Mapping[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    out = dict(arguments)
    for key in _PATH_KEYS:
        if key in out:
            out[key] = change(out[key])
    if "paths" in out:
        out["paths"] = [change(path) for path in out["paths"]]
    return out


def _same_by_tool(tool: str, arguments: Mapping[str, Any], request: str) -> list[dict[str, Any]]:
    if tool == "search_files":
        pattern = str(arguments["pattern"])
        return [{**arguments, "pattern": pattern.removeprefix("**/")}, *_excludes(arguments)]
    if tool == "directory_tree":
        return _excludes(arguments)
    if tool == "list_directory_with_sizes" and _SUPERLATIVE.search(request):
        if "sortBy" not in arguments:
            return [{**arguments, "sortBy": "size"}]
        if not _ORDER.search(request):
            return [{key: value for key, value in arguments.items() if key != "sortBy"}]
    return []


def _excludes(arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
    if not (skipped := arguments.get("excludePatterns")):
        return []
    bare = [str(pattern).removeprefix("**/") for pattern in skipped]
    forms = (
        bare,
        [f"**/{b}" for b in bare],
        [f"**/{b}/**" for b in bare],
        [f"{b}/**" for b in bare],
    )
    return [{**arguments, "excludePatterns": form} for form in forms]


def _draw_tree(rng: Random) -> tuple[list[str], list[str]]:
    """Draw four to seven folders, up to four deep, and the files in them."""
    folders: list[str] = []
    for _ in range(rng.randint(4, 7)):
        shallow = [f for f in folders if f.count("/") < 3]
        parent = rng.choice(shallow) if shallow and rng.random() < 0.5 else ""
        folders.append(_new_folder(rng, parent, folders))
    files: list[str] = []
    for _ in range(rng.randint(6, 10)):
        folder = "" if rng.random() < 0.28 else rng.choice(folders)
        files.append(_new_name(rng, folder, files, vocabulary.NAME_WORDS))
    media = (
        (vocabulary.IMAGE_WORDS, vocabulary.IMAGE_EXTENSIONS),
        (vocabulary.AUDIO_WORDS, vocabulary.AUDIO_EXTENSIONS),
    )
    for words, extensions in media:
        for _ in range(3):
            folder = "" if rng.random() < 0.3 else rng.choice(folders)
            files.append(_new_name(rng, folder, files, words, extensions))
    return folders, files


def _new_folder(rng: Random, parent: str, taken: Iterable[str]) -> str:
    while True:
        words = rng.sample(vocabulary.DIR_WORDS, rng.choices((1, 2), (70, 30))[0])
        name = vocabulary.styled(words, rng)
        if rng.random() < 0.12:
            name += rng.choice(("-", "_", " ")) + vocabulary.date_mark(rng)
        path = f"{parent}/{name}" if parent else name
        if path.lower() not in {t.lower() for t in taken}:
            return path


def _new_name(
    rng: Random,
    folder: str,
    taken: Iterable[str],
    words: Sequence[str],
    extensions: tuple[str, ...] = (),
) -> str:
    while True:
        stem = vocabulary.styled(rng.sample(words, rng.choices((1, 2, 3), (45, 42, 13))[0]), rng)
        if rng.random() < 0.35:
            joint = " " if " " in stem else rng.choice("-__-")
            mark = vocabulary.date_mark(rng)
            stem = f"{mark}{joint}{stem}" if rng.random() < 0.3 else f"{stem}{joint}{mark}"
        if extensions:
            extension = rng.choice(extensions)
        else:
            weights = vocabulary.EXTENSION_WEIGHTS
            extension = rng.choices(vocabulary.TEXT_EXTENSIONS, weights)[0]
        path = f"{folder}/{stem}.{extension}" if folder else f"{stem}.{extension}"
        if path.lower() not in {t.lower() for t in taken}:
            return path


def _extension(path: str) -> str:
    return path.rsplit(".", 1)[-1]


def _parent(path: str) -> str:
    return path.rsplit("/", 1)[0] if "/" in path else ""


def _name(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def _stem(path: str) -> str:
    return _name(path).rsplit(".", 1)[0]
