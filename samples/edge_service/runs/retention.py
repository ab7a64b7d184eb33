"""Deletes what is no longer to be kept: old runs with their events, and journals without a run."""

import asyncio
import logging
import sqlite3
import time
from pathlib import Path

from edge_service.runs.store import RunStore
from edge_service.settings import Settings

log = logging.getLogger("edge_service.runs")
EVERY_S = 600.0
_DAY_S = 86_400.0


def forget_old_runs(store: RunStore, settings: Settings) -> int:
    """Delete ended runs beyond `keep_days` and `keep_runs`; return how many. Blocks."""
    before, some = time.time() - settings.keep_days * _DAY_S, 50
    deleted, last = 0, some
    while last == some:
        last = store.forget(before=before, keep=settings.keep_runs, at_most=some)
        deleted += last
    return deleted


def remove_spent_journals(store: RunStore, folder: Path) -> None:
    """Remove the journals of ended runs: a kill between a run's end and this left them."""
    journals = list(folder.glob("run_*"))
    still_open = set(store.unfinished())  # read behind the folder: a new run is in it
    for journal in journals:
        if journal.name.partition(".")[0] not in still_open:
            journal.unlink(missing_ok=True)


async def keep_clean(store: RunStore, settings: Settings) -> None:
    """Forget old runs now and every ten minutes."""
    while True:
        try:
            if deleted := await asyncio.to_thread(forget_old_runs, store, settings):
                log.info("forgot %d old runs", deleted)
        except sqlite3.Error:
            log.exception("old runs were not forgotten; the next round tries again")
        await asyncio.sleep(EVERY_S)
