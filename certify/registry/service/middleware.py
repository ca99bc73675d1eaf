"""The outermost layer of the service: what is true of every request, whichever route it takes.

It gives each request an id, looks its token up, counts it, answers what failed, sets the headers that protect readers,
and writes one line to the log: never a token, never a body.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import re
import time
import uuid
from typing import Any

from anyio import to_thread
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bench.errors import RefusedError
from certify.registry.service import tokens
from certify.registry.service.limits import Gate
from certify.registry.service.problems import failure_of, problem
from certify.registry.service.registry import Registry
from certify.registry.service.tokens import Token

log = logging.getLogger("petaseal.registry")
PROTECTING = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "font-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
HSTS = "max-age=31536000"
UNCOUNTED = "/healthz"  # asked by what watches the process
WITHOUT_TOKEN = (UNCOUNTED, "/readyz", "/v1/heartbeats")
READERS = 4  # threads: reading is work of this process, and more of them would only hinder each other
MAX_PATH = 300  # characters of a path in the log
_SECRET = re.compile(rf"{tokens.PREFIX}[\w-]+")


class Rim:
    """ASGI middleware around the whole application.

    Args:
        app: what is inside.
        registry: whose tokens are known.
        gate: the limits.
        max_requests: at once; more are told to come again.
    """

    def __init__(self, app: ASGIApp, registry: Registry, gate: Gate, max_requests: int) -> None:
        self.app = app
        self.registry = registry
        self.gate = gate
        self.max_requests = max_requests
        self.running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = time.perf_counter()
        scope.setdefault("state", {}).update(request_id=str(uuid.uuid4()), token=None, code=None)
        answer = _Answer(scope, send, self.registry.settings.public_read)
        inner = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
        logged: dict[str, Any] = {}
        self.running += 1
        to_thread.current_default_thread_limiter().total_tokens = READERS  # the event loop's own: it is there by now
        try:
            await self._admit(scope)
            await self.app(inner, receive, answer)
        except Exception as error:  # the one place that sees them all
            failure = failure_of(error)
            logged = dict(failure.logged)
            if answer.status is None:
                await problem(failure, Request(inner))(inner, receive, answer)
        finally:
            self.running -= 1
            _log(scope, answer.status, time.perf_counter() - begun, logged)

    async def _admit(self, scope: Scope) -> None:
        """Find whose request it is, and count it.

        Raises:
            RefusedError: `rate-limited`, `unavailable`.
        """
        path = scope["path"]
        if path == UNCOUNTED:
            return
        if self.running > self.max_requests:
            raise RefusedError("unavailable", "too many requests are being answered")
        address = scope["client"][0] if scope.get("client") else None
        secret = None if path in WITHOUT_TOKEN else secret_of(scope)
        if secret is None:
            self.gate.request(None, address)
            return
        found = await to_thread.run_sync(self._look_up, secret)
        scope["state"]["token"] = found
        self.gate.request(found if isinstance(found, Token) else None, address)

    def _look_up(self, secret: str) -> Token | Exception:
        """Return a token, or why there is none: it is told by the route that wants one."""
        try:
            with self.registry.store.reading() as connection:
                token = tokens.find(connection, secret, self.registry.now)
        except Exception as error:  # the database is gone; what needs no token may still be answered
            return error
        return token or RefusedError("token-invalid", "the token is not known, has expired or was revoked")


def secret_of(scope: Scope) -> str | None:
    """Return the secret that a request bears, as Bearer, or as the password of Basic where it only reads.

    A browser sends a password along with what another site makes it send, and so never as a right to write.
    """
    given = Headers(scope=scope).get("authorization")
    if given is None:
        return None
    scheme, _, value = given.strip().partition(" ")
    if scheme.lower() == "basic" and scope["method"] in ("GET", "HEAD"):
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return value.strip() if scheme.lower() == "bearer" else ""


class _Answer:
    """What the application sends, with the headers that every answer has."""

    def __init__(self, scope: Scope, send: Send, public: bool) -> None:
        self.scope = scope
        self.send = send
        self.private = not public or "authorization" in Headers(scope=scope)
        self.status: int | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message.setdefault("headers", [])
            self._headers(MutableHeaders(scope=message))
        elif self.scope["method"] == "HEAD":
            message = {**message, "body": b""}
        await self.send(message)

    def _headers(self, headers: MutableHeaders) -> None:
        headers["X-Request-Id"] = self.scope["state"]["request_id"]
        headers.update(PROTECTING)
        if self.scope["scheme"] == "https":
            headers["Strict-Transport-Security"] = HSTS
        if self.private or (self.status or 0) >= 400:
            headers["Cache-Control"] = "no-store"
        else:
            headers.setdefault("Cache-Control", "no-cache")
        headers.add_vary_header("Authorization")


def _log(scope: Scope, status: int | None, took_s: float, logged: dict[str, Any]) -> None:
    state = scope["state"]
    token = state["token"]
    fields = {
        "method": scope["method"][:16],
        "path": _SECRET.sub(f"{tokens.PREFIX}…", scope["path"])[:MAX_PATH],
        "status": status,  # null: the client went away before there was one
        "code": state["code"],
        "ms": round(took_s * 1000, 1),
        "token": token.id if isinstance(token, Token) else None,
        "request_id": state["request_id"],
        "address": scope["client"][0] if scope.get("client") else None,
        **logged,
    }
    log.log(logging.ERROR if status in (500, 507) else logging.INFO, "request", extra={"fields": fields})


class JsonLines(logging.Formatter):
    """One JSON object a line, for whatever logs. Of an exception its type: its text could quote a document."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as a line."""
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{record.msecs:03.0f}Z"
        line: dict[str, Any] = {"at": at, "level": record.levelname.lower(), "logger": record.name}
        line["message"] = _SECRET.sub(f"{tokens.PREFIX}…", record.getMessage())
        if record.exc_info and record.exc_info[0]:
            line["error"] = record.exc_info[0].__name__
        return json.dumps(line | getattr(record, "fields", {}))
