"""The list of decisions: every submission leaves one, and of a statement and its records a signed receipt."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select

from bench.errors import RefusedError, one_line
from certify.documents.caps import CAPS
from certify.documents.kinds import Level
from certify.registry.api import Decided
from certify.registry.service.registry import Registry
from certify.registry.service.tokens import Token
from certify.registry.storage.tables import decisions

RECEIPTED = ("statement", "records")  # a receipt speaks of a statement, and of nothing else


@dataclass(frozen=True)
class Submission:
    """What was submitted, by whom, and when."""

    kind: str
    at: str
    object_sha256: str | None
    token: Token
    payload_sha256: str | None = None
    centre_id: str | None = None  # that it names, or that its token is bound to


def decide(
    registry: Registry,
    connection: Connection,
    submission: Submission,
    *,
    code: str | None = None,
    detail: str | None = None,
    level: Level | None = None,
    notes: tuple[str, ...] = (),
) -> Decided:
    """Store a decision and return the answer to it. A refusal that was given before for the same bytes is not stored
    again.

    Args:
        registry: that decides.
        connection: the writer's.
        submission: what it is about.
        code: reason code of a refusal; None where it is accepted.
        detail: the refusal's sentence.
        level: that was reached with what is accepted.
        notes: for the answer.
    """
    detail = None if detail is None else one_line(detail)
    if code is not None and (before := _same(connection, submission, code)) is not None:
        return answer(before, repeated=True)
    receipt, payload, centre = None, submission.payload_sha256, submission.centre_id
    if payload is not None and centre is not None and submission.kind in RECEIPTED:
        told: Level = level or "trusted"
        receipt = registry.receipt(payload, centre, submission.at, code, told)
    row = {
        "at": submission.at,
        "kind": submission.kind,
        "decision": "accepted" if code is None else "refused",
        "code": code,
        "detail": detail,
        "level": level if code is None else None,
        "payload_sha256": payload,
        "object_sha256": submission.object_sha256,
        "centre_id": centre,
        "token_id": submission.token.id,
        "receipt": receipt,
    }
    connection.execute(decisions.insert(), row)
    return Decided(
        decision="accepted" if code is None else "refused",
        at=submission.at,
        code=code,
        detail=detail,
        level=level if code is None else None,
        payload_sha256=payload,
        receipt=None if receipt is None else base64.b64encode(receipt).decode(),
        notes=notes,
    )


def accepted(connection: Connection, kind: str, payload_sha256: str) -> Row[Any] | None:
    """Return the first decision that accepted a document as a kind of submission."""
    query = (
        select(decisions)
        .where(
            decisions.c.payload_sha256 == payload_sha256,
            decisions.c.kind == kind,
            decisions.c.decision == "accepted",
        )
        .order_by(decisions.c.id)
        .limit(1)
    )
    return connection.execute(query).one_or_none()


def beside(connection: Connection, name: str, payload_sha256: str) -> list[Row[Any]]:
    """Return the accepted decisions on documents of a kind that are about a statement or baseline."""
    query = select(decisions).where(
        decisions.c.kind == name, decisions.c.decision == "accepted", decisions.c.payload_sha256 == payload_sha256
    )
    return list(connection.execute(query.order_by(decisions.c.id).limit(CAPS.package_witnesses)))


def answer(row: Row[Any], repeated: bool = False) -> Decided:
    """Return a stored decision as an answer."""
    return Decided(
        decision=row.decision,
        at=row.at,
        code=row.code,
        detail=row.detail,
        level=row.level,
        payload_sha256=row.payload_sha256,
        receipt=None if row.receipt is None else base64.b64encode(row.receipt).decode(),
        repeated=repeated,
    )


def check_token(token: Token, centre_id: str | None) -> None:
    """Refuse what a token may not speak for; nothing is then stored.

    Raises:
        RefusedError: `token-scope` or `token-centre-differs`.
    """
    if token.scope not in ("operator", "platform"):
        raise RefusedError("token-scope", f"a token of the scope {token.scope} submits nothing")
    if token.scope == "operator" and centre_id is not None and centre_id != token.centre_id:
        what = f"the token is of the centre {token.centre_id}, and what it submits of {centre_id}"
        raise RefusedError("token-centre-differs", what)


def _same(connection: Connection, submission: Submission, code: str) -> Row[Any] | None:
    query = (
        select(decisions)
        .where(decisions.c.kind == submission.kind, decisions.c.decision == "refused", decisions.c.code == code)
        .where(decisions.c.payload_sha256 == submission.payload_sha256)
        .where(decisions.c.object_sha256 == submission.object_sha256)
        .order_by(decisions.c.id.desc())
        .limit(1)
    )
    if submission.payload_sha256 is None or submission.object_sha256 is None:
        return None
    return connection.execute(query).one_or_none()
