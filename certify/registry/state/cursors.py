"""Cursors: where a reader goes on, as a text that is nobody's to read.

They are no secret and no right: a cursor that was made up shows what its maker could have asked for anyway.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple, TypeVar

import msgspec
from sqlalchemy import Connection, Row, Select, Table

from bench.errors import InputError
from bench.record import Count
from certify.registry.api import Page

T = TypeVar("T")
Plain = Annotated[str, msgspec.Meta(max_length=256, pattern=r"^[^\x00]*$(?!\n)")]  # PostgreSQL knows no NUL in a text


def wrap(place: object) -> str:
    """Return a place, a tuple of texts and numbers, as a cursor."""
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode().rstrip("=")


def unwrap(cursor: str, kind: type[T]) -> T:
    """Return the place that a cursor names.

    Raises:
        InputError: `cursor-invalid`, it is none that was given for this list.
    """
    try:
        content = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        return msgspec.json.decode(content, type=kind)
    except (binascii.Error, ValueError, msgspec.DecodeError):
        raise InputError("cursor-invalid", "is no cursor of this list", where="cursor", fix="ask without it") from None


class ByTwo(NamedTuple):
    """Where a list that is ordered by two texts goes on."""

    first: Plain
    second: Plain


class ByOne(NamedTuple):
    """Where a list that is ordered by a text goes on."""

    key: Plain


class ById(NamedTuple):
    """Where a list that is ordered by a number goes on."""

    id: Count


KINDS = (ByTwo, ByOne, ById)


def by_id_page(
    connection: Connection,
    query: Select[Any],
    table: Table,
    shown: Callable[[Row[Any]], T],
    limit: int,
    cursor: str | None,
) -> Page[T]:
    if cursor is not None:
        query = query.where(table.c.id < unwrap(cursor, ById).id)
    rows = connection.execute(query.order_by(table.c.id.desc()).limit(limit + 1)).all()
    items = tuple(map(shown, rows[:limit]))
    return Page(items=items, next=wrap(ById(rows[limit - 1].id)) if len(rows) > limit else None)


def page_of(items: tuple[T, ...], more: bool, place: Callable[[T], NamedTuple]) -> Page[T]:
    return Page(items=items, next=wrap(place(items[-1])) if more else None)
