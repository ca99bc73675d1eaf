"""The outermost layer of the service: what is true of every request, its rate limit included, whichever route it takes.

It gives each request an id, looks its token up, counts it, answers what failed, sets the headers that protect readers,
and writes one line to the log: never a token, never a body. What is counted
here is lost when the service ends, which costs nothing: a limit is for load, not for rights.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
import logging
import math
import re
import time
import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from anyio import CapacityLimiter, to_thread
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bench.errors import RefusedError
from certify.registry.base import tokens
from certify.registry.base.failures import LimitedError, failure_of
from certify.registry.base.registry import Limits, Registry
from certify.registry.base.tokens import Token
from certify.registry.service.openapi import OPEN, problem
from certify.registry.state.traffic import Traffic

MOST_CLIENTS = 65_536  # that are remembered; the one not heard of for longest is forgotten, which fills its bucket
TURNS = 4  # submissions of one token at once: a statement is held as a whole, and others want their turn
REHEARSAL_HEADER, PROVES_NOTHING = "Petaseal-Rehearsal", "proves nothing"
THREADS = 16  # that submissions may block; reads have threads of their own


class Buckets:
    """A bucket for each client: `burst` requests at once, and `per_s` in the long run."""

    def __init__(self, per_s: float, burst: int, most: int = MOST_CLIENTS) -> None:
        self.per_s, self.burst, self.most = per_s, burst, most
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # client -> (requests left, at second)

    def take(self, client: str, now_s: float, count: int = 1) -> None:
        """Take a request out of a client's bucket, or one that counts as several.

        Raises:
            LimitedError: it is empty.
        """
        left, at_s = self._left.get(client, (float(self.burst), now_s))
        left = min(float(self.burst), left + max(0.0, now_s - at_s) * self.per_s)
        enough = left >= count
        self._left[client] = (left - count if enough else left, now_s)
        # most recently seen last: an attacker with many addresses pushes out others' only after 65,536 of them
        self._left.move_to_end(client)
        if len(self._left) > self.most:
            self._left.popitem(last=False)
        if not enough:
            raise LimitedError("too many requests", math.ceil((count - left) / self.per_s))


def client_of(address: str | None) -> str:
    """Return whose requests are counted together: an IPv4 address, or the network of an IPv6 address."""
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return f"address {address}"
    if parsed.version == 6:  # a host has 2^64 addresses of its own
        return f"network {ipaddress.ip_network((parsed, 64), strict=False).network_address}"
    return f"address {parsed}"


@dataclass
class Gate:
    """All limits of one running service."""

    limits: Limits
    clock_s: Callable[[], float]
    threads: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(THREADS))
    writers: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(THREADS))  # of bodies onto the disk
    _turns: dict[int, CapacityLimiter] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.requests = Buckets(self.limits.requests_per_minute / 60, self.limits.burst)
        self.submissions = Buckets(self.limits.submissions_per_hour / 3600, self.limits.submissions_per_hour)

    def request(self, token: Token | None, address: str | None, count: int = 1) -> None:
        """Count a request on its token, or without one on its address; a batch counts as what it consists of.

        Raises:
            LimitedError: there were too many.
        """
        self.requests.take(client_of(address) if token is None else f"token {token.id}", self.clock_s(), count)

    @asynccontextmanager
    async def turn(self, token: Token, *, counted: bool = True) -> AsyncIterator[None]:
        """Wait for a turn of this token; `counted` submissions cost a verification and have their own budget.

        Raises:
            LimitedError: there were too many.
        """
        if counted:
            self.submissions.take(f"token {token.id}", self.clock_s())
        async with self._turns.setdefault(token.id, CapacityLimiter(TURNS)):
            yield


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
READERS = 4  # threads: reading is work of this process, and more of them would only hinder each other
MAX_PATH = 300  # characters of a path in the log
_SECRET = re.compile(rf"{tokens.PREFIX}[\w-]+")


class RequestMiddleware:
    """ASGI middleware around the whole application.

    Args:
        app: what is inside.
        registry: whose tokens are known.
        gate: the limits.
        max_requests: number of requests served at once; further ones are answered with status 503.
        traffic: counts every request.
    """

    def __init__(self, app: ASGIApp, registry: Registry, gate: Gate, max_requests: int, traffic: Traffic) -> None:
        self.app = app
        self.traffic = traffic
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
        # RFC 9110, section 9.3.2: the same headers as GET, and no body
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
            # once headers are sent the status cannot change any more: the connection is cut off instead
            if answer.status is None:
                await problem(failure, Request(inner))(inner, receive, answer)
        finally:
            self.running -= 1
            took_s = time.perf_counter() - begun
            self.traffic.answered(scope["method"], route_of(inner), answer.status, took_s)
            _log(scope, answer.status, took_s, logged)

    async def _admit(self, scope: Scope) -> None:
        """Find whose request it is, and count it.

        Raises:
            RefusedError: `rate-limited`, `unavailable`.
        """
        path = scope["path"]
        if path == UNCOUNTED:
            return
        # refused at once: a queue would make every answer late instead of some missing
        if self.running > self.max_requests:
            raise RefusedError("unavailable", "too many requests are being answered")
        address = scope["client"][0] if scope.get("client") else None
        secret = None if path in OPEN else secret_of(scope)
        if secret is None:
            self.gate.request(None, address)
            return
        token = await to_thread.run_sync(self._look_up, secret)
        scope["state"]["token"] = token
        self.gate.request(token if isinstance(token, Token) else None, address)

    def _look_up(self, secret: str) -> Token | Exception:
        """Return the token of a secret, or the error that a route which needs a token will raise."""
        try:
            with self.registry.store.reading() as connection:
                token = tokens.find_token(connection, secret, self.registry.now)
        except Exception as error:  # the database is gone; what needs no token may still be answered
            return error
        return token or RefusedError("token-invalid", "the token is not known, has expired or was revoked")


def route_of(scope: Scope) -> str | None:
    """Return the template of a request's path as its route declares it; None where no route has that path."""
    routed = scope.get("route")
    # an answer out of the response cache comes from no route, and a page's route leaves no trace in the scope
    routes = [routed] if routed is not None else scope["app"].router.routes
    for route in routes:
        if routed is not None or route.matches(scope)[0] is not Match.NONE:
            path: str | None = getattr(route, "path", None)
            return path
    return None


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
        # on every answer, errors too: a page of an error is a page
        headers.update(PROTECTING)
        if self.scope["scheme"] == "https":
            headers["Strict-Transport-Security"] = HSTS
        # a shared cache must not hand one holder's answer to another, nor an error of yesterday to anybody
        if self.private or (self.status or 0) >= 400:
            headers["Cache-Control"] = "no-store"
        else:
            headers.setdefault("Cache-Control", "no-cache")
        # RFC 9110, section 12.5.5: with a token the same address answers more
        headers.add_vary_header("Authorization")


def _log(scope: Scope, status: int | None, took_s: float, logged: dict[str, Any]) -> None:
    state = scope["state"]
    token = state["token"]
    fields = {
        "method": scope["method"][:16],
        # a secret that somebody pasted into an address must not stand in a log
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


class RehearsalMiddleware:
    """ASGI middleware that marks every answer, whichever route gives it and whatever its form."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers[REHEARSAL_HEADER] = PROVES_NOTHING
                # a file that was downloaded has lost its headers, and keeps its name
                if 'filename="' in (disposition := headers.get("content-disposition", "")):
                    headers["Content-Disposition"] = disposition.replace('filename="', 'filename="rehearsal-', 1)
            await send(message)

        await self.app(scope, receive, marked if scope["type"] == "http" else send)
