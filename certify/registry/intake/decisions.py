"""The list of decisions: each submission leaves one; for statements and records there is a signed receipt too."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace
from sqlalchemy import Connection, Row, select

from bench.errors import InputError, one_line
from bench.record.fields import filled
from certify.documents.caps import CAPS
from certify.documents.kinds import Level
from certify.registry.api.common import Decided
from certify.registry.base.registry import Registry
from certify.registry.base.tokens import Token
from certify.registry.storage.naming import is_refused_body
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
    # a client that repeats a refused submission in a loop must not fill the disk
    if code is not None and (before := _same(connection, submission, code)) is not None:
        return decided_of(before, repeated=True)
    # a refused body may have been dropped while the same bytes were verified again, as only this transaction shows
    if submission.object_sha256 is not None and not registry.store.objects.path(submission.object_sha256).is_file():
        raise InputError("object-missing", "was dropped while it was decided", fix="submit it again")
    receipt, payload, centre = None, submission.payload_sha256, submission.centre_id
    # no receipt without a document and a centre: it would speak of nothing that a verifier can find
    if payload is not None and centre is not None and submission.kind in RECEIPTED:
        reached: Level = level or "trusted"
        receipt = registry.receipt(payload, centre, submission.at, code, reached)
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
    stored = connection.execute(decisions.insert().returning(*decisions.c), row).one()
    return replace(decided_of(stored), notes=notes)


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


def supporting_decisions(connection: Connection, name: str, payload_sha256: str) -> list[Row[Any]]:
    """Return the accepted decisions on documents of a kind that are about a statement or baseline."""
    query = select(decisions).where(
        decisions.c.kind == name, decisions.c.decision == "accepted", decisions.c.payload_sha256 == payload_sha256
    )
    # no more than a package may hold: else a flood of documents makes each verification slower
    return list(connection.execute(query.order_by(decisions.c.id).limit(CAPS.package_witnesses)))


def decided_of(row: Row[Any], repeated: bool = False) -> Decided:
    """Return a stored decision as an answer."""
    return filled(
        Decided,
        row,
        receipt=None if row.receipt is None else base64.b64encode(row.receipt).decode(),
        repeated=repeated,
        notes=(),
    )


def _same(connection: Connection, submission: Submission, code: str) -> Row[Any] | None:
    query = (
        select(decisions)
        .where(decisions.c.kind == submission.kind, decisions.c.decision == "refused", decisions.c.code == code)
        .where(decisions.c.payload_sha256 == submission.payload_sha256)
        .where(decisions.c.object_sha256 == submission.object_sha256)
        .where(is_refused_body())  # one that was dropped came anew, and needs a row that names it
        .order_by(decisions.c.id.desc())
        .limit(1)
    )
    if submission.payload_sha256 is None or submission.object_sha256 is None:
        return None
    return connection.execute(query).one_or_none()
