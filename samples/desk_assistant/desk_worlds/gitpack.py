"""Git objects and a pack of them, without git: one file where loose objects are hundreds."""

import hashlib
import struct
import zlib
from bisect import bisect_right
from collections.abc import Mapping
from pathlib import Path

_TYPES = {"commit": 1, "tree": 2, "blob": 3}
Tree = dict[str, "str | Tree"]


class Objects:
    """Blobs, trees and commits by hash."""

    def __init__(self) -> None:
        self._all: dict[str, tuple[str, bytes]] = {}

    def add(self, kind: str, body: bytes) -> str:
        """Keep an object and return its hash."""
        head = f"{kind} {len(body)}\0".encode()
        digest = hashlib.sha1(head + body, usedforsecurity=False).hexdigest()
        self._all[digest] = (kind, body)
        return digest

    def tree(self, files: Mapping[str, str]) -> str:
        """Keep a tree of texts by path and return its hash."""
        nested: Tree = {}
        for path, text in files.items():
            node = nested
            *folders, name = path.split("/")
            for folder in folders:
                below = node.setdefault(folder, {})
                if isinstance(below, str):
                    message = f"{path} needs a folder where a file stands"
                    raise ValueError(message)
                node = below
            node[name] = text
        return self._tree(nested)

    def write(self, folder: Path) -> None:
        """Write all objects as one pack with its index into `objects/pack`."""
        folder.mkdir(parents=True, exist_ok=True)
        pack = bytearray(b"PACK" + struct.pack(">II", 2, len(self._all)))
        entries: dict[str, tuple[int, int]] = {}
        for digest, (kind, body) in self._all.items():
            entry = _header(_TYPES[kind], len(body)) + zlib.compress(body, 1)
            entries[digest] = (zlib.crc32(entry), len(pack))
            pack += entry
        checksum = hashlib.sha1(pack, usedforsecurity=False)
        name = f"pack-{checksum.hexdigest()}"
        (folder / f"{name}.pack").write_bytes(bytes(pack) + checksum.digest())
        (folder / f"{name}.idx").write_bytes(_index(entries, checksum.digest()))

    def _tree(self, nested: Tree) -> str:
        entries: list[tuple[bytes, bytes]] = []
        for name, node in nested.items():
            if isinstance(node, str):
                mode, digest, key = b"100644", self.add("blob", node.encode()), name.encode()
            else:
                mode, digest, key = b"40000", self._tree(node), name.encode() + b"/"
            entries.append((key, mode + b" " + name.encode() + b"\0" + bytes.fromhex(digest)))
        return self.add("tree", b"".join(entry for _, entry in sorted(entries)))


def _header(kind: int, size: int) -> bytes:
    """Type and size of a pack entry: 4 bits of size in the first byte, 7 in each further one."""
    first, size = (kind << 4) | (size & 15), size >> 4
    out = bytearray()
    while size:
        out.append(first | 0x80)
        first, size = size & 0x7F, size >> 7
    out.append(first)
    return bytes(out)


def _index(entries: Mapping[str, tuple[int, int]], pack_checksum: bytes) -> bytes:
    """Pack index, version 2. Source: git's gitformat-pack documentation."""
    digests = sorted(entries)
    firsts = [int(digest[:2], 16) for digest in digests]
    fanout = [bisect_right(firsts, first) for first in range(256)]
    body = b"\xfftOc" + struct.pack(">I", 2) + struct.pack(">256I", *fanout)
    body += b"".join(bytes.fromhex(d) for d in digests)
    body += b"".join(struct.pack(">I", entries[d][0]) for d in digests)
    body += b"".join(struct.pack(">I", entries[d][1]) for d in digests)
    body += pack_checksum
    return body + hashlib.sha1(body, usedforsecurity=False).digest()
