"""What every request passes before a route sees it, and every answer on its way out.

Host header, origin, key, rate, size and pace of the body. Everything asks for a key except the
paths in `PUBLIC`. Pure ASGI, so that it also stands before the MCP endpoint and streams.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge_service.problems import Problem
from edge_service.security.keys import Keys, Principal
from edge_service.security.limits import RateLimit
from edge_service.settings import Settings

log = logging.getLogger("edge_service.http")

PUBLIC = ("/", "/docs", "/openapi.json", "/favicon.ico", "/health", "/health/live", "/health/ready")
PUBLIC_FOLDER = "/web/"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
FAILED_KEYS_PER_MINUTE = 30

_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
Observe = Callable[[Scope, int, float], None]


class Gate:
    """Checks requests, then hands them to the application with `state["principal"]` set."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        settings: Settings,
        keys: Keys,
        observe: Observe,
        closing: asyncio.Event,
    ) -> None:
        """observe(scope, status, seconds): told after each answer. closing: refuse new work."""
        self._app, self._settings, self._keys = app, settings, keys
        self._observe, self._closing = observe, closing
        named = (*LOOPBACK, settings.host, *settings.allowed_hosts)
        self._hosts = frozenset(name.lower() for name in named)
        self._rates = RateLimit(settings.requests_per_minute)
        self._failures = RateLimit(FAILED_KEYS_PER_MINUTE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        started, request_id = time.perf_counter(), uuid.uuid4().hex[:12]
        status = 500
        begun = False

        async def answer(message: Message) -> None:
            nonlocal status, begun
            if message["type"] == "http.response.start":
                status, begun = message["status"], True
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            admitted = await self._admit(scope, receive)
            await self._app(scope, admitted, answer)
        except Problem as problem:
            await problem.response()(scope, receive, answer)
        except Exception:
            log.exception("request %s failed", request_id)
            if begun:
                raise
            said = f"the service failed; its log tells more under {request_id}"
            await Problem(500, said, "internal_error").response()(scope, receive, answer)
        finally:
            seconds = time.perf_counter() - started
            self._observe(scope, status, seconds)
            self._log(scope, request_id, status, seconds)

    async def _admit(self, scope: Scope, receive: Receive) -> Receive:
        headers = Headers(scope=scope)
        path = str(scope["path"])
        self._check_host(headers)
        self._check_origin(headers)
        if path not in PUBLIC and not path.startswith(PUBLIC_FOLDER):
            principal = self._check_key(headers, scope)
            scope.setdefault("state", {})["principal"] = principal
            if self._closing.is_set() and scope["method"] != "GET":
                text = "the service is stopping; it takes no new work"
                raise Problem(503, text, "stopping", headers={"Retry-After": "30"})
        return await self._whole_body(headers, receive)

    def _check_host(self, headers: Headers) -> None:
        """Refuse names that are not ours: a page elsewhere may have its DNS point to us."""
        host = _host_name(headers.get("host", ""))
        if host not in self._hosts:
            text = "the Host header names another host; add yours to allowed_hosts"
            raise Problem(421, text, "host_not_allowed")

    def _check_origin(self, headers: Headers) -> None:
        origin = headers.get("origin")
        if origin is None or origin in self._settings.allowed_origins:
            return
        try:
            parts = urlsplit(origin)
        except ValueError:  # "http://["
            parts = urlsplit("")
        if parts.scheme not in ("http", "https") or parts.netloc != headers.get("host"):
            text = "pages of other sites may not call this service; see allowed_origins"
            raise Problem(403, text, "origin_not_allowed")

    def _check_key(self, headers: Headers, scope: Scope) -> Principal:
        kind, _, presented = headers.get("authorization", "").partition(" ")
        principal = None
        if kind.lower() == "bearer":
            # One indexed read of an open file: shorter than the way to a thread and back.
            principal = self._keys.verify(presented.strip())
        if principal is None:
            client = str((scope.get("client") or ("unknown",))[0])
            if wait := self._failures.take(client):
                text = "too many requests without a valid key"
                said = {"Retry-After": str(round(wait + 0.5))}
                raise Problem(429, text, "too_many_failures", headers=said)
            text = "a valid key is needed: Authorization: Bearer <key>; see afx-serve keys --help"
            said = {"WWW-Authenticate": "Bearer"}
            raise Problem(401, text, "invalid_api_key", headers=said)
        if wait := self._rates.take(principal.key_id):
            said = {"Retry-After": str(round(wait + 0.5))}
            limit = self._settings.requests_per_minute
            text = f"more than {limit} requests a minute with this key"
            raise Problem(429, text, "rate_limit_exceeded", headers=said)
        return principal

    async def _whole_body(self, headers: Headers, receive: Receive) -> Receive:
        """Read the body under the limits of size and time; return a `receive` that plays it."""
        limit = self._settings.body_bytes
        too_large = Problem(413, f"the body may have {limit} bytes", "body_too_large")
        declared = headers.get("content-length", "0")
        if declared.isdigit() and int(declared) > limit:
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(self._settings.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        raise Problem(400, "the connection closed within the body", "incomplete")
                    body += message.get("body", b"")
                    if len(body) > limit:
                        raise too_large
                    if not message.get("more_body", False):
                        break
        except TimeoutError:
            text = f"the body did not arrive within {self._settings.body_seconds:g} s"
            raise Problem(408, text, "body_too_slow", headers={"Connection": "close"}) from None
        return _played(bytes(body), receive)

    def _log(self, scope: Scope, request_id: str, status: int, seconds: float) -> None:
        """One line; no query, no header and no body, which may hold secrets."""
        principal = scope.get("state", {}).get("principal")
        who = principal.key_id if principal else "-"
        path = str(scope["path"])[:200].encode("ascii", "backslashreplace").decode()
        path = "".join(c if c.isprintable() else "?" for c in path)
        log.info(
            "%s %s %d %.0f ms key=%s id=%s",
            *(scope["method"], path, status, seconds * 1e3, who, request_id),
        )


def _played(body: bytes, receive: Receive) -> Receive:
    given = False

    async def play() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return play


def _host_name(host: str) -> str:
    """Strip the port, and the brackets of an IPv6 address."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.rpartition(":")[0].lower() if ":" in host else host.lower()
