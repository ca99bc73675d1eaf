"""How a route that reads answers: the present state, weak ETags of what is shown, and what is not modified."""

from __future__ import annotations

import contextlib
import hashlib
from codecs import BOM_UTF8
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import msgspec
from fastapi import Request
from sqlalchemy import Connection
from starlette.responses import Response

from certify.registry.api.common import Page
from certify.registry.base.registry import Registry
from certify.registry.state import cache
from certify.registry.state.feeds.sheets import csv_of
from certify.registry.state.model import Snapshot

CSV = "text/csv"


def present(registry: Registry) -> Snapshot:
    """Return the present state, for an answer that reads nothing else."""
    return cache.current_snapshot(registry.store, registry.now, registry.settings)


@contextlib.contextmanager
def snapshot_at(registry: Registry, at: str) -> Iterator[tuple[Connection, Snapshot]]:
    """Yield a connection and the present state of what it sees."""
    with registry.store.reading() as connection:
        yield connection, cache.reader_of(registry.store).present(connection, at, registry.settings.stale_after_s)


def answer(
    request: Request, value: object, tagged: object = None, basis: cache.ResponseBasis | None = None
) -> Response:
    """Return a value as JSON, or 304 where the client's copy is current.

    Args:
        request: that is answered.
        value: of the answer.
        tagged: what its ETag is of, where the value itself bears the present time.
        basis: what the answer rests on; None where it is not stored in the response cache.
    """
    content = msgspec.json.encode(value)
    # of what does not change with the clock: else no poll would ever be answered by 304
    tag = hashlib.sha256(content if tagged is None else msgspec.json.encode(tagged)).hexdigest()[:32]
    headers = {"ETag": f'W/"{tag}"', "Cache-Control": "no-cache", "Vary": "Accept"}
    if basis is not None:
        request.app.state.answers.keep(request, content, headers, basis)
    return cache.not_modified(request, headers) or Response(content, 200, headers, "application/json")


def page_answer(
    request: Request,
    page: Page[Any],
    kind: type[msgspec.Struct],
    format: str | None,
    basis: cache.ResponseBasis | None = None,
) -> Response:
    """Return a page of a list as JSON, or as CSV where the client asks for that.

    Args:
        request: that is answered.
        page: of the list.
        kind: type of its items.
        format: the parameter, see `wants_csv`.
        basis: as for `answer`.
    """
    if not wants_csv(request, format):
        return answer(request, page, basis=basis)
    name = request.url.path.rpartition("/")[2]
    # a spreadsheet takes a file without the mark for one of the system's own character set
    made = csv_answer(BOM_UTF8 + csv_of(kind, page.items), f"{name}.csv")
    if page.next is not None:  # a table of rows has no other place for it
        made.headers["Link"] = next_link(request, cursor=page.next)
    return made


def csv_answer(content: bytes, name: str) -> Response:
    """Return a CSV file."""
    headers = {"Cache-Control": "no-cache", "Vary": "Accept", "Content-Disposition": f'attachment; filename="{name}"'}
    return Response(content, 200, headers, f"{CSV}; charset=utf-8; header=present")


def next_link(request: Request, **changes: str) -> str:
    """Return the header Link (RFC 8288) to what follows a request's answer: its address with other parameters."""
    path = f"{request.app.state.root_path}{quote(request.scope['path'])}"
    following = request.url.include_query_params(**changes)
    return f'<{path}?{following.query}>; rel="next"'


def wants_csv(request: Request, format: str | None) -> bool:
    """Return whether a client asks for CSV, by its parameter or else by its Accept header."""
    return format == "csv" or (format is None and CSV in request.headers.get("accept", ""))
