"""Finished answers to what anybody may ask, kept for as long as nothing changed of what they tell.

An answer stands on the part of the present state that it was made of (a centre's, or all of it), and, where it tells
more than that, on numbers which every such writing raises, and on the time. Before it is given again it is seen, in one
snapshot, that all of them are the same. What depends on who asks is never kept.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Mapping
from typing import NamedTuple

from anyio import to_thread
from sqlalchemy import Connection, TextClause, text
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from certify.registry.service.registry import Registry
from certify.registry.state.model import Part, View
from certify.registry.state.snapshot import viewer

MOST = 8192  # answers
MOST_BYTES = 128 * 2**20  # of all of them
LARGEST_BYTES = 2**20  # of one
DECIDED = text("SELECT max(id) FROM decisions WHERE payload_sha256 = :it")
# A campaign and each of its records leave a decision of their centre; a challenge leaves none.
OPENED = text(
    "SELECT (SELECT max(id) FROM decisions WHERE centre_id = :it),"
    " (SELECT count(*) FROM challenges WHERE centre_id = :it)"
)


class Numbers(NamedTuple):
    """What was written of one thing, as numbers that only grow."""

    query: TextClause  # `DECIDED` or `OPENED`
    of: str  # a statement's payload digest, or a centre
    found: tuple[int | None, ...]

    def again(self, connection: Connection) -> Numbers:
        """Return them as a snapshot has them."""
        return numbers_of(connection, self.query, self.of)


def numbers_of(connection: Connection, query: TextClause, of: str) -> Numbers:
    """Return what was written of a thing, as a snapshot has it."""
    return Numbers(query, of, tuple(connection.execute(query, {"it": of}).one()))


class Basis(NamedTuple):
    """What an answer stands on."""

    part: weakref.ref[View | Part]  # no past state stays in memory for an answer
    centre_id: str | None  # whose part it is; None: it is all of the present state
    numbers: Numbers | None = None
    since: str = ""  # when it was made, where time alone changes it
    until: str | None = None  # the moment at which it does

    def holds(self, connection: Connection, view: View, at: str) -> bool:
        """Return whether nothing of it changed."""
        part = view if self.centre_id is None else view.parts.get(self.centre_id)
        return (
            part is not None
            and self.part() is part
            and self.since <= at
            and (self.until is None or at < self.until)
            and (self.numbers is None or self.numbers.again(connection) == self.numbers)
        )


def stands_on(
    view: View, centre_id: str | None = None, numbers: Numbers | None = None, since: str = "", until: str | None = None
) -> Basis | None:
    """Return what an answer stands on; None where the centre is not known."""
    part = view if centre_id is None else view.parts.get(centre_id)
    return None if part is None else Basis(weakref.ref(part), centre_id, numbers, since, until)


class _Kept(NamedTuple):
    content: bytes
    headers: Mapping[str, str]
    basis: Basis


Key = tuple[str, bytes]  # path and query, as they were asked


class Answers:
    """The answers of one registry that anybody may have, those that were not asked for longest forgotten first."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._public = registry.settings.public_read
        self._lock = threading.Lock()
        self._kept: OrderedDict[Key, _Kept] = OrderedDict()
        self._bytes = 0

    def may_have(self, scope: Scope) -> Key | None:
        """Return under what a request's answer is kept; None where it is answered to this asker alone."""
        if not self._public or scope["method"] != "GET" or scope["state"]["token"] is not None:
            return None
        return scope["path"], scope["query_string"]

    def keep(self, request: Request, content: bytes, headers: Mapping[str, str], basis: Basis | None) -> None:
        """Keep an answer of 200, JSON, if anybody may have it."""
        key = self.may_have(request.scope)
        if key is None or basis is None or len(content) > LARGEST_BYTES:
            return
        with self._lock:
            self._forget(key)
            self._kept[key] = _Kept(content, headers, basis)
            self._bytes += len(content)
            while len(self._kept) > MOST or self._bytes > MOST_BYTES:
                self._forget(next(iter(self._kept)))

    def has(self, key: Key) -> bool:
        """Return whether there is an answer, that may hold no longer."""
        return key in self._kept

    def find(self, key: Key) -> tuple[bytes, dict[str, str]] | None:
        """Return an answer and its headers if it still holds."""
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                return None
            self._kept.move_to_end(key)
        at, settings = self._registry.now, self._registry.settings
        with self._registry.store.reading() as connection:
            view = viewer(self._registry.store).present(connection, at, settings.stale_after_s)
            holds = found.basis.holds(connection, view, at)
        if holds:
            return found.content, dict(found.headers)
        with self._lock:
            if self._kept.get(key) is found:
                self._forget(key)
        return None

    def _forget(self, key: Key) -> None:
        before = self._kept.pop(key, None)
        if before is not None:
            self._bytes -= len(before.content)


class Keeping:
    """ASGI middleware within the rim, that answers what was answered before."""

    def __init__(self, app: ASGIApp, answers: Answers) -> None:
        self.app = app
        self.answers = answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = self.answers.may_have(scope) if scope["type"] == "http" else None
        if key is not None and self.answers.has(key):
            found = await to_thread.run_sync(self.answers.find, key)
            if found is not None:
                content, headers = found
                answer = had(Request(scope), headers) or Response(content, 200, headers, "application/json")
                await answer(scope, receive, send)
                return
        await self.app(scope, receive, send)


def had(request: Request, headers: dict[str, str]) -> Response | None:
    """Return 304 where the asker names the ETag that is in `headers`."""
    asked = [one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(",")]
    had = "*" in asked or headers["ETag"].removeprefix("W/") in asked
    return Response(status_code=304, headers=headers) if had else None
