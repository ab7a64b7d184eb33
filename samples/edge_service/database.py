"""One SQLite file for keys, runs and events; a connection for each thread."""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from agentflux import AgentFluxError

FILE = "service.db"
SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE keys (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, tenant TEXT NOT NULL, secret_sha256 TEXT NOT NULL,
    created_at REAL NOT NULL, revoked_at REAL);
CREATE TABLE runs (
    id TEXT PRIMARY KEY, tenant TEXT NOT NULL, request TEXT NOT NULL, context TEXT NOT NULL,
    max_steps INTEGER NOT NULL, status TEXT NOT NULL, pending TEXT, cancelled INTEGER NOT NULL,
    answer TEXT, stopped TEXT, error TEXT,
    created_at REAL NOT NULL, started_at REAL, ended_at REAL);
CREATE INDEX runs_by_tenant ON runs (tenant, created_at);
CREATE TABLE events (
    run_id TEXT NOT NULL REFERENCES runs (id), seq INTEGER NOT NULL, type TEXT NOT NULL,
    data TEXT NOT NULL, at REAL NOT NULL, PRIMARY KEY (run_id, seq)) WITHOUT ROWID;
"""


class DatabaseError(AgentFluxError):
    """The service's database cannot be used."""


class Database:
    """Short transactions from any thread. Killed at any moment, what was committed stays."""

    def __init__(self, folder: Path) -> None:
        """Open or make the database; only its owner can read it, in whatever folder it lies.

        Raises:
            DatabaseError: the folder or the file cannot be used, or is of another version.
        """
        self.path = folder / FILE
        self._local = threading.local()
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            _only_for_its_owner(self.path)
            with self.write() as connection:
                (version,) = connection.execute("PRAGMA user_version").fetchone()
                if version == 0:
                    for statement in _SCHEMA.split(";"):
                        connection.execute(statement)
                    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        except (OSError, sqlite3.Error) as error:
            raise DatabaseError(f"{self.path}: cannot be used as a database: {error}") from error
        if version not in (0, SCHEMA_VERSION):
            text = f"{self.path}: has version {version}, this service reads {SCHEMA_VERSION}"
            raise DatabaseError(text)

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Hold the write lock; commit at the end, roll back on an error."""
        connection = self._connection()
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")

    def read(self, query: str, *values: object) -> list[sqlite3.Row]:
        """Return all rows of a query."""
        return self._connection().execute(query, values).fetchall()

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(self.path, timeout=10.0, isolation_level=None)
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            # What is deleted is overwritten: runs hold people's requests and tools' answers.
            connection.execute("PRAGMA secure_delete = ON")
            self._local.connection = connection
        return connection


def _only_for_its_owner(path: Path) -> None:
    """Make the file before SQLite does, which gives its mode of then to `-wal` and `-shm`."""
    with suppress(FileExistsError):
        # Only a file of our own making is closed: that drops SQLite's locks on it in this process.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    for file in (path, *path.parent.glob(f"{path.name}-*")):
        with suppress(FileNotFoundError):
            file.chmod(0o600)
