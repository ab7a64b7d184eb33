"""Runs and their events in SQLite. An event is committed before anybody hears of it."""

import json
import secrets
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge_service.database import Database
from edge_service.runs.schema import (
    ENDED,
    EventType,
    PendingCall,
    Run,
    RunRequest,
    Status,
    StepView,
)

_LAST = "(SELECT max(seq) FROM events WHERE run_id = runs.id) AS last_event"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """One event of a run; `seq` counts from 1 without gaps."""

    seq: int
    type: str
    data: Mapping[str, Any]
    at: float

    def sse(self) -> str:
        """Write the event for a stream; its id is what a client resumes from."""
        body = json.dumps({**self.data, "at": self.at}, ensure_ascii=False)
        return f"id: {self.seq}\nevent: {self.type}\ndata: {body}\n\n"


class RunStore:
    """All runs. Thread-safe; every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, tenant: str, asked: RunRequest) -> str:
        """Store a new run and return its id."""
        run_id = f"run_{secrets.token_hex(12)}"
        now = time.time()
        row = (run_id, tenant, asked.request, asked.context, asked.max_steps, "queued", now)
        with self._database.write() as connection:
            connection.execute(
                "INSERT INTO runs (id, tenant, request, context, max_steps, status, cancelled,"
                " created_at) VALUES (?, ?, ?, ?, ?, ?, 0, ?)",
                row,
            )
            _append(connection, run_id, "run_created", {"request": asked.request}, now)
        return run_id

    def get(self, run_id: str, *, tenant: str | None) -> Run | None:
        """Return a run of the tenant; None as the tenant is the service itself."""
        query = f"SELECT *, {_LAST} FROM runs WHERE id = ?"  # noqa: S608 - a constant
        rows = self._database.read(query, run_id)
        if not rows or (tenant is not None and rows[0]["tenant"] != tenant):
            return None
        return self._view(rows[0])

    def newest(self, tenant: str, *, limit: int) -> list[Run]:
        """Return the tenant's newest runs."""
        query = (
            f"SELECT *, {_LAST} FROM runs WHERE tenant = ?"  # noqa: S608 - a constant
            " ORDER BY created_at DESC LIMIT ?"
        )
        return [self._view(row) for row in self._database.read(query, tenant, limit)]

    def unfinished(self) -> list[str]:
        """Return the runs that a stop of the process left open, oldest first."""
        rows = self._database.read(
            "SELECT id FROM runs WHERE status IN ('queued', 'running', 'waiting')"
            " ORDER BY created_at"
        )
        return [str(row["id"]) for row in rows]

    def events(self, run_id: str, *, after: int, limit: int = 500) -> list[StoredEvent]:
        """Return the events behind one of them, in order."""
        rows = self._database.read(
            "SELECT seq, type, data, at FROM events WHERE run_id = ? AND seq > ?"
            " ORDER BY seq LIMIT ?",
            *(run_id, after, limit),
        )
        return [
            StoredEvent(seq=r["seq"], type=r["type"], data=json.loads(r["data"]), at=r["at"])
            for r in rows
        ]

    def append(
        self,
        run_id: str,
        kind: EventType,
        data: Mapping[str, Any],
        *,
        status: Status | None = None,
        **columns: object,
    ) -> bool:
        """Add an event and change the run with it. An ended run takes nothing more.

        columns: of the run; `pending` is cleared where it is not given with a status.
        """
        now = time.time()
        with self._database.write() as connection:
            (current,) = connection.execute(
                "SELECT status FROM runs WHERE id = ?", (run_id,)
            ).fetchone()
            if current in ENDED:
                return False
            _append(connection, run_id, kind, data, now)
            if status is not None:
                changed = {"pending": None, **columns, "status": status}
                if status in ENDED:
                    changed["ended_at"] = now
                if status == "running":
                    connection.execute(
                        "UPDATE runs SET started_at = coalesce(started_at, ?) WHERE id = ?",
                        (now, run_id),
                    )
                names = ", ".join(f"{name} = ?" for name in changed)
                connection.execute(
                    f"UPDATE runs SET {names} WHERE id = ?",  # noqa: S608 - our own names
                    (*changed.values(), run_id),
                )
        return True

    def ask_to_cancel(self, run_id: str) -> None:
        """Remember that the run is to be cancelled, also over a restart."""
        with self._database.write() as connection:
            connection.execute("UPDATE runs SET cancelled = 1 WHERE id = ?", (run_id,))

    def cancel_asked(self, run_id: str) -> bool:
        """Tell whether a cancellation was asked for."""
        rows = self._database.read("SELECT cancelled FROM runs WHERE id = ?", run_id)
        return bool(rows and rows[0]["cancelled"])

    def forget(self, *, before: float, keep: int, at_most: int = 50) -> int:
        """Delete some runs that ended before a moment, or have `keep` newer ended ones.

        before: seconds since 1970. keep: for each tenant. Returns how many were deleted; `at_most`
        of them, so that writers wait for milliseconds only: call again until it is less.
        """
        ended = ", ".join(f"'{status}'" for status in sorted(ENDED))
        query = (
            "SELECT id FROM (SELECT id, ended_at, row_number() OVER"  # noqa: S608 - constants
            " (PARTITION BY tenant ORDER BY ended_at DESC) AS place"
            f" FROM runs WHERE status IN ({ended})) WHERE ended_at < ? OR place > ? LIMIT ?"
        )
        with self._database.write() as connection:
            found = [(r["id"],) for r in connection.execute(query, (before, keep, at_most))]
            connection.executemany("DELETE FROM events WHERE run_id = ?", found)
            connection.executemany("DELETE FROM runs WHERE id = ?", found)
        if found:  # or the log beside the file still has what was deleted
            self._database.read("PRAGMA wal_checkpoint(TRUNCATE)")
        return len(found)

    def _view(self, row: sqlite3.Row) -> Run:
        finished = self._database.read(
            "SELECT data FROM events WHERE run_id = ? AND type = 'call_finished' ORDER BY seq",
            row["id"],
        )
        pending = PendingCall.model_validate_json(row["pending"]) if row["pending"] else None
        return Run(
            id=row["id"],
            status=row["status"],
            request=row["request"],
            context=row["context"],
            max_steps=row["max_steps"],
            created_at=row["created_at"],
            started_at=row["started_at"],
            ended_at=row["ended_at"],
            steps=[StepView.model_validate_json(r["data"]) for r in finished],
            pending=pending,
            answer=row["answer"],
            stopped=row["stopped"],
            error=row["error"],
            last_event=row["last_event"],
        )


def _append(
    connection: sqlite3.Connection, run_id: str, kind: str, data: Mapping[str, Any], at: float
) -> None:
    connection.execute(
        "INSERT INTO events SELECT ?, coalesce(max(seq), 0) + 1, ?, ?, ? FROM events"
        " WHERE run_id = ?",
        (run_id, kind, json.dumps(data, ensure_ascii=False), at, run_id),
    )
