"""A scratch desk for the demonstration: files, a git repository and a database."""

import sqlite3
import struct
import subprocess
import zlib
from pathlib import Path

FILES = {
    "docs/plan.md": "# Plan\n\n1. Paint the fence\n2. Fix the gate\n3. Plant the beans\n",
    "docs/rent contract.txt": "Rent: 780 euro a month, due on the third.\n",
    "notes/shopping.txt": "oat milk\nrye bread\nsix eggs\n",
    "notes/old ideas.txt": "a boat on wheels\n",
    "drafts/letter.txt": "Dear Ms Okafor,\n\nthank you for the seeds.\n",
    "budget.csv": "month,amount\nJanuary,420\nFebruary,385\n",
}
ORDERS = [
    (1, "Anna", 30.5, "2026-01-12"),
    (2, "Nguyen", 12.0, "2026-02-03"),
    (3, "Anna", 99.9, "2026-02-20"),
    (4, "Óscar", 45.0, "2026-03-08"),
]


def make_workspace(root: Path) -> str:
    """Fill an empty folder and return the context that an application would show the model."""
    for name, text in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (root / "images").mkdir()
    (root / "images" / "logo.png").write_bytes(_png())
    _repository(root / "site")
    _database(root / "data" / "desk.db")
    return (
        f"Workspace root: {root}\n"
        f"Git repository: {root / 'site'}\n"
        "Tables: orders(id, customer, total, placed_on)\n"
        "Local time zone: Europe/Berlin"
    )


def git(repository: Path, *command: str) -> str:
    """Run git as the demonstration's author and return what it printed."""
    identity = ("-c", "user.name=Desk", "-c", "user.email=desk@example.org")
    done = subprocess.run(
        ["git", *identity, *command], cwd=repository, check=True, capture_output=True, text=True
    )
    return done.stdout


def _repository(folder: Path) -> None:
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    git(folder, "config", "user.name", "Desk")
    git(folder, "config", "user.email", "desk@example.org")
    (folder / "index.html").write_text("<h1>Garden shop</h1>\n", encoding="utf-8")
    (folder / "hours.txt").write_text("Mon-Fri 9-17\n", encoding="utf-8")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "First version of the site")
    (folder / "hours.txt").write_text("Mon-Fri 9-17\nSat 10-14\n", encoding="utf-8")
    git(folder, "add", "hours.txt")
    (folder / "index.html").write_text("<h1>Garden shop, open daily</h1>\n", encoding="utf-8")


def _database(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(path) as connection:
        connection.execute(
            "CREATE TABLE orders "
            "(id INTEGER PRIMARY KEY, customer TEXT, total REAL, placed_on DATE)"
        )
        connection.executemany("INSERT INTO orders VALUES (?, ?, ?, ?)", ORDERS)
    connection.close()


def _png() -> bytes:
    """A picture of one grey pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\x00\x80"))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")
