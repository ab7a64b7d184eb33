"""The process: opens the bundle, listens, and stops in order."""

import asyncio
import atexit
import logging
import signal
import socket
import sys

import uvicorn
from fastapi import FastAPI

from agentflux import Agent, errors, open_bundle
from edge_service.app import create_app
from edge_service.database import Database
from edge_service.lock import claim
from edge_service.security.connections import patient
from edge_service.security.keys import Keys
from edge_service.settings import Settings

log = logging.getLogger("edge_service")
FIRST_KEY = "first-key"
_BACKLOG = 128
_MAX_CONNECTIONS = 512
_KEEP_ALIVE_S = 30
_MAX_HEADER_BYTES = 32_768
_GRACE_S = 10


def run_server(settings: Settings) -> None:
    """Serve until a signal.

    Raises:
        AgentFluxError: the bundle, a tool server, the data folder or the address cannot be used.
    """
    database = Database(settings.data)
    # At the very end: Python waits for the threads of runs after this function.
    atexit.register(claim(settings.data).close)
    _make_first_key(settings, Keys(database))
    listener = _listen(settings)
    with listener, _open(settings) as agent:
        app = create_app(settings, agent, database)
        config = uvicorn.Config(
            app,
            http=patient(settings.header_seconds),
            log_config=None,
            access_log=False,
            server_header=False,
            limit_concurrency=_MAX_CONNECTIONS,
            timeout_keep_alive=_KEEP_ALIVE_S,
            h11_max_incomplete_event_size=_MAX_HEADER_BYTES,
            timeout_graceful_shutdown=int(settings.drain_seconds) + _GRACE_S,
        )
        # uvicorn raises the signal again when it has stopped: the agent is to be closed first.
        for stop in (signal.SIGTERM, signal.SIGINT):
            signal.signal(stop, lambda number, frame: None)
        Server(config, app, _address(listener)).run(sockets=[listener])


class Server(uvicorn.Server):
    """Drains before it waits for open connections, since event streams end with their runs."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, address: str) -> None:
        super().__init__(config)
        self._app, self._address = app, address
        self._stopping: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say where."""
        await super().startup(sockets)
        if self.started:
            sys.stdout.write(self._address + "\n")
            sys.stdout.flush()
            log.info("listening on %s", self._address)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain while connections are still served."""
        self._stopping = asyncio.create_task(self._app.state.stop())
        await super().shutdown(sockets)
        await self._stopping


def _open(settings: Settings) -> Agent:
    return open_bundle(
        settings.bundle,
        mcp=settings.mcp,
        policy=settings.policy,
        pins=settings.data / "pins.json",
        threads=settings.threads,
        isolation=settings.isolation,
        trust=settings.trust,
    )


def _make_first_key(settings: Settings, keys: Keys) -> None:
    """Leave a key in a file that only its owner reads, so that it stands in no log."""
    if keys.all():
        return
    path = settings.data / FIRST_KEY
    path.touch(mode=0o600)
    path.write_text(keys.create("first") + "\n", encoding="utf-8")
    log.info("the first key is in %s", path)


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        raise errors.ConfigError(f"cannot listen: {error.strerror}", where=where) from error


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
