"""Damage a folder of files in one random way, as disks, networks, editors and attackers do."""

import hashlib
import json
import os
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

Mutation = Callable[[Path, random.Random], str]

_STRANGE: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2.5, 10**9, 10**20, 10**400, -(10**18), 1e308, 1e-300),
    *("", "x", "../x", "/etc/passwd", "a\x00b", "\ud800", "…" * 300, "q" * 100_000, "9" * 40),
    *([], {}, [None], [[]], {"": {}}, [1, "a"], {"a": [{"b": {}}]}),
)


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and not p.is_symlink())


def _name(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix()


def truncate(folder: Path, random_: random.Random) -> str:
    """Cut a file short, or to nothing."""
    path = random_.choice(_files(folder))
    length = random_.choice((0, 1, 7, random_.randrange(path.stat().st_size + 1)))
    os.truncate(path, min(length, path.stat().st_size))
    return f"truncate {_name(folder, path)} to {length}"


def lengthen(folder: Path, random_: random.Random) -> str:
    """Append bytes."""
    path = random_.choice(_files(folder))
    with path.open("ab") as stream:
        stream.write(random_.randbytes(random_.randint(1, 64)))
    return f"lengthen {_name(folder, path)}"


def flip(folder: Path, random_: random.Random) -> str:
    """Flip one to eight bits of a file."""
    path = random_.choice([p for p in _files(folder) if p.stat().st_size])
    data = bytearray(path.read_bytes())
    for _ in range(random_.randint(1, 8)):
        # Headers decide more than bodies: half of the flips fall into the first 4 KiB.
        end = min(len(data), random_.choice((4096, len(data))))
        data[random_.randrange(end)] ^= 1 << random_.randrange(8)
    path.write_bytes(data)
    return f"flip bits of {_name(folder, path)}"


def swap(folder: Path, random_: random.Random) -> str:
    """Exchange the contents of two files."""
    one, two = random_.sample(_files(folder), 2)
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    return f"swap {_name(folder, one)} and {_name(folder, two)}"


def remove(folder: Path, random_: random.Random) -> str:
    """Remove a file."""
    path = random_.choice(_files(folder))
    path.unlink()
    return f"remove {_name(folder, path)}"


def replace_kind(folder: Path, random_: random.Random) -> str:
    """Put a link, a folder, a pipe or a socket-like thing where a file was."""
    path = random_.choice(_files(folder))
    outside = folder.parent / f"{folder.name}-outside"
    kind = random_.choice(("link", "loop", "dangling", "inside", "folder", "pipe", "up"))
    shutil.copyfile(path, outside)
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        others = _files(folder)
        targets = {
            "link": outside,
            "loop": path,
            "dangling": folder / "nowhere",
            "inside": random_.choice(others),
            "up": Path("../../../../../../etc/hostname"),
        }
        path.symlink_to(targets[kind])
    return f"replace {_name(folder, path)} by {kind}"


def edit_json(folder: Path, random_: random.Random) -> str:
    """Change one value, key or order in a JSON file. The manifest and cards are hit most."""
    documents = [p for p in _files(folder) if p.suffix == ".json" and p.stat().st_size < 200_000]
    first = [p for p in documents if p.name.startswith(("afx", "adapter_config"))]
    path = random_.choice(first if first and random_.random() < 0.8 else documents)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return flip(folder, random_)
    what, data = edit(data, random_)
    path.write_text(json.dumps(data), encoding="utf-8")
    return f"edit {_name(folder, path)}: {what}"


def edit_text(folder: Path, random_: random.Random) -> str:
    """Break a JSON file's syntax."""
    path = random_.choice([p for p in _files(folder) if p.suffix == ".json"])
    text = path.read_bytes()
    at = random_.randrange(len(text) + 1)
    junk = random_.choice(
        (b"[" * 100_000, b"NaN", b"-Infinity", b"\xff\xfe", b"}", b'"', b"9" * 5000)
    )
    path.write_bytes(text[:at] + junk + text[at:])
    return f"insert {junk[:8]!r} into {_name(folder, path)}"


def edit_tensors(folder: Path, random_: random.Random) -> str:
    """Change the header of a safetensors file and leave its data."""
    found = [p for p in _files(folder) if p.suffix == ".safetensors"]
    if not found:
        return edit_json(folder, random_)
    path = random_.choice(found)
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    what, header = edit(json.loads(data[8 : 8 + length]), random_)
    text = json.dumps(header).encode()
    said = random_.choice((len(text),) * 4 + (0, 1 << 40, 2**64 - 1))
    path.write_bytes(struct.pack("<Q", said) + text + data[8 + length :])
    return f"edit the header of {_name(folder, path)}: {what}, length {said}"


def add(folder: Path, random_: random.Random) -> str:
    """Add a file that does not belong there."""
    name = random_.choice(
        ("adapter_model.bin", "extra.json", ".DS_Store", "model.safetensors", "x")
    )
    (folder / name).write_bytes(random_.randbytes(100))
    return f"add {name}"


def edit(data: Any, random_: random.Random) -> tuple[str, Any]:
    """Change one place of a JSON value; return what was done and the new value."""
    places = list(_places(data))
    if not places:
        return "replace everything", random_.choice(_STRANGE)
    parent, key = random_.choice(places)
    kind = random_.choice(("strange", "strange", "strange", "delete", "number", "exchange", "deep"))
    if kind == "delete":
        del parent[key]
    elif kind == "number" and type(parent[key]) in (int, float):
        parent[key] = parent[key] * random_.choice((-1, 2, 1000, 10**12))
    elif kind == "exchange":
        other, name = random_.choice(places)
        parent[key], other[name] = other[name], parent[key]
    elif kind == "deep":
        for _ in range(random_.choice((3, 900))):
            parent[key] = [parent[key]]
    elif isinstance(parent, dict) and random_.random() < 0.2:
        parent[random_.choice(("surprise", "", "use_dora", "__class__"))] = random_.choice(_STRANGE)
    else:
        parent[key] = random_.choice(_STRANGE)
    return f"{kind} at {str(key)[:60]!r}", data


def _places(value: Any) -> Any:
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])


MUTATIONS: tuple[Mutation, ...] = (
    *(truncate, lengthen, flip, flip, swap, remove, replace_kind, replace_kind),
    *(edit_json, edit_json, edit_json, edit_json, edit_text, edit_tensors, edit_tensors, add),
)


def rehash(folder: Path) -> None:
    """Make a bundle's manifest agree with its damaged files, as a faulty producer would."""
    path = folder / "afx.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    for entry in data["files"]:
        file = folder / entry["path"]
        # Reading a pipe would wait for ever.
        content = file.read_bytes() if file.is_file() else b""
        entry["sha256"], entry["bytes"] = hashlib.sha256(content).hexdigest(), len(content)
    path.write_text(json.dumps(data), encoding="utf-8")


def mutate(folder: Path, seed: int) -> str:
    """Damage `folder` one to three times; return what was done.

    A third of the bundles get hashes that agree with the damage.
    """
    random_ = random.Random(seed)
    done: list[str] = []
    for _ in range(random_.choice((1, 1, 1, 2, 3))):
        try:
            done.append(random_.choice(MUTATIONS)(folder, random_))
        except (OSError, ValueError, IndexError, struct.error) as error:
            # Nothing left to damage, or damaged before.
            done.append(f"nothing ({type(error).__name__})")
    if (folder / "afx.json").is_file() and random_.random() < 1 / 3:
        try:
            rehash(folder)
            done.append("rehash")
        except (OSError, ValueError, LookupError, TypeError):
            pass
    return "; ".join(done)
