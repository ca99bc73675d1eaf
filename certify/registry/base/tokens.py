"""Bearer tokens: who may submit, act and read. Only the SHA-256 of a secret is stored; the secret is shown once.

A secret is 256 random bits, so nothing slower than one hash is needed, and to find one costs the same whether it is
known, expired, revoked or made up: one hash and one look into an index of hashes.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, Row, select, update

from bench.errors import InputError
from bench.units import DAY_NS, utc_ns, utc_text
from certify.registry.api.common import Scope
from certify.registry.storage import tables

PREFIX = "ptr_"  # so that a scanner of logs and repositories knows a secret when it sees one
SECRET_BYTES = 32
MAX_SECRET = 64  # characters; a longer text is no secret of ours and is not hashed
MAX_DAYS = 3660


@dataclass(frozen=True)
class Token:
    """An access token that is neither expired nor revoked, with its scope."""

    id: int
    name: str
    scope: Scope
    centre_id: str | None  # of an operator
    expires_at: str


class TokenLine(NamedTuple):
    """A line of the list of tokens, good or not."""

    token: Token
    created_at: str
    revoked_at: str | None


def create_token(
    connection: Connection, name: str, scope: Scope, centre_id: str | None, now: str, days: int
) -> tuple[Token, str]:
    """Make a token and return it with its secret, which is stored nowhere.

    Args:
        connection: of a writer.
        name: of the token's holder, which lists show.
        scope: what it is good for.
        centre_id: the one centre of an operator; None for every other scope.
        now: the present.
        days: until it expires.

    Raises:
        InputError: `token-centre` an operator without a centre, or a centre with another scope; `time-invalid`.
    """
    if (centre_id is None) == (scope == "operator"):
        what = "needs a centre" if centre_id is None else f"of scope {scope} is of no centre"
        raise InputError("token-centre", f"the token {what}", where=name)
    if not 1 <= days <= MAX_DAYS:
        raise InputError("time-invalid", f"a token lives from 1 to {MAX_DAYS} days, not {days}", where=name)
    secret = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    expires_at = utc_text(utc_ns(now) + days * DAY_NS)
    row = {
        "name": name,
        "secret_sha256": _digest(secret),
        "scope": scope,
        "centre_id": centre_id,
        "created_at": now,
        "expires_at": expires_at,
        "revoked_at": None,
    }
    inserted = connection.execute(tables.tokens.insert(), row).inserted_primary_key
    assert inserted is not None
    return Token(inserted[0], name, scope, centre_id, expires_at), secret


def find_token(connection: Connection, secret: str, now: str) -> Token | None:
    """Return the token of a secret; None where there is none that is good now."""
    # before anything is hashed: a header of a megabyte costs nothing
    if not secret.startswith(PREFIX) or len(secret) > MAX_SECRET:
        return None
    # no comparison in constant time is needed: what is compared is a hash that the asker cannot steer
    wanted = tables.tokens.c.secret_sha256 == _digest(secret)
    row = connection.execute(select(tables.tokens).where(wanted)).one_or_none()
    if row is None or row.revoked_at is not None or row.expires_at <= now:
        return None
    return _token(row)


def revoke_token(connection: Connection, token_id: int, now: str) -> None:
    """End a token at once; one that was revoked before stays so.

    Raises:
        InputError: `token-unknown`.
    """
    _known(connection, token_id)
    table = tables.tokens
    connection.execute(update(table).where(table.c.id == token_id, table.c.revoked_at.is_(None)).values(revoked_at=now))


def rotate_token(connection: Connection, token_id: int, now: str, days: int) -> tuple[Token, str]:
    """Revoke a token at once and return a new one of the same name, scope and centre, with its secret.

    Raises:
        InputError: `token-unknown`, or `token-revoked`: what was ended is not brought back to life this way.
    """
    old = _known(connection, token_id)
    if old.revoked_at is not None:
        raise InputError("token-revoked", "was revoked", where=f"token {token_id}", fix="make a new one")
    # in the same transaction: at no moment are both good, or neither
    revoke_token(connection, token_id, now)
    return create_token(connection, old.name, old.scope, old.centre_id, now, days)


def list_tokens(connection: Connection) -> list[TokenLine]:
    """Return all tokens there ever were, oldest first."""
    rows = connection.execute(select(tables.tokens).order_by(tables.tokens.c.id))
    return [TokenLine(_token(row), row.created_at, row.revoked_at) for row in rows]


def _known(connection: Connection, token_id: int) -> Row[tuple[object, ...]]:
    row = connection.execute(select(tables.tokens).where(tables.tokens.c.id == token_id)).one_or_none()
    if row is None:
        raise InputError(
            "token-unknown", f"there is no token {token_id}", fix="list them with: petaseal registry token list DIR"
        )
    return row


def _token(row: Row[tuple[object, ...]]) -> Token:
    return Token(row.id, row.name, row.scope, row.centre_id, row.expires_at)


def _digest(secret: str) -> str:
    # a header may hold any bytes, and those that are no UTF-8 are no error but an unknown token
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
