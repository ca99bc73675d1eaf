"""Measurements before there is a statement: challenges that open them, campaigns, and records that nodes post here.

A challenge is good for one campaign of one centre. What was opened and never submitted stays visible.
"""

from __future__ import annotations

import secrets
from typing import Any

from sqlalchemy import Connection, Row, func, select

from bench.errors import RefusedError
from bench.record import Campaign, digest
from bench.units import utc_ns, utc_text
from certify.documents.caps import CAPS
from certify.documents.dsse import parse_envelope
from certify.documents.kinds import Opened, open_document, open_record, parse_payload
from certify.registry.api import AttemptLine, Decided, Drawn
from certify.registry.intake.decisions import Submission, accepted, answer, check_token, decide
from certify.registry.service.registry import Registry
from certify.registry.service.tokens import Token
from certify.registry.storage.tables import campaign_records, campaigns, challenges, statements
from certify.trust.trusted_set import LAST_TIME, skewed

CHALLENGE_BYTES = 32


def draw_challenge(registry: Registry, centre_id: str, token: Token) -> Drawn:
    """Draw a challenge for a centre's next campaign.

    Raises:
        RefusedError: `token-scope`, `token-centre-differs`.
    """
    check_token(token, centre_id)
    now_ns = registry.clock_ns()
    at, until = utc_text(now_ns), utc_text(now_ns + registry.settings.challenge_s * 10**9)
    drawn = Drawn(challenge=secrets.token_hex(CHALLENGE_BYTES), centre_id=centre_id, issued_at=at, expires_at=until)
    with registry.store.writing() as connection:
        row = {
            "challenge": drawn.challenge,
            "centre_id": centre_id,
            "issued_at": at,
            "expires_at": until,
            "token_id": token.id,
        }
        connection.execute(challenges.insert(), row)
    return drawn


def challenge_fault(connection: Connection, campaign: Campaign, campaign_sha256: str) -> tuple[str, str] | None:
    """Return what is wrong with the challenge of a campaign, as code and sentence, or None.

    A challenge that a witness or the operator drew is none of the registry's, and only may not be used twice.
    """
    challenge = campaign.challenge
    query = select(campaigns.c.campaign_sha256).where(campaigns.c.challenge == challenge)
    other = connection.execute(query).scalar()
    if other is not None and other != campaign_sha256:
        return "challenge-reused", f"answers the challenge of another campaign, {other[:16]}…"
    row = connection.execute(select(challenges).where(challenges.c.challenge == challenge)).one_or_none()
    if row is None and campaign.challenge_source != "registry":
        return None
    if row is None or row.centre_id != campaign.centre_id:  # whatever it says of its source: nobody burns another's
        return "challenge-unknown", "answers a challenge that this registry did not draw for its centre"
    if not row.issued_at <= skewed(campaign.issued_at) or campaign.issued_at > row.expires_at:
        told = f"between {row.issued_at} and {row.expires_at}"
        return "challenge-expired", f"was opened at {campaign.issued_at}, and its challenge opens one {told}"
    return None


def submit_campaign(registry: Registry, content: bytes, token: Token) -> Decided:
    """Take a campaign in that its operator signed: from now on its attempt is visible, and nodes can post records.

    Raises:
        RefusedError: `token-scope` or `token-centre-differs`: nothing is stored.
    """
    at = registry.now
    check_token(token, token.centre_id)
    sha256 = registry.store.objects.put(content)
    submission = Submission("campaign", at, sha256, token, None, token.centre_id)
    try:
        opened: Opened[Campaign] = open_document("campaign", content, registry.trust().trusted, at)
    except RefusedError as error:
        with registry.store.writing() as connection:
            return decide(registry, connection, submission, code=error.code, detail=error.what)
    campaign, campaign_sha256 = opened.predicate, digest(opened.predicate)
    check_token(token, campaign.centre_id)
    submission = Submission("campaign", at, sha256, token, opened.payload_sha256, campaign.centre_id)
    with registry.store.writing() as connection:
        if (before := accepted(connection, "campaign", opened.payload_sha256)) is not None:
            return answer(before, repeated=True)
        fault = challenge_fault(connection, campaign, campaign_sha256)
        if fault is None and (what := campaign.windows_problem()) is not None:
            fault = ("campaign-invalid", what)
        if fault is None and campaign.self_issued:
            fault = ("self-issued-combined", "is a node's own campaign: its record stands alone")
        if fault is not None:
            return decide(registry, connection, submission, code=fault[0], detail=fault[1])
        row = {
            "campaign_sha256": campaign_sha256,
            "campaign_id": campaign.campaign_id,
            "centre_id": campaign.centre_id,
            "series": campaign.series,
            "challenge": campaign.challenge,
            "challenge_source": campaign.challenge_source,
            "issued_at": campaign.issued_at,
            "received_at": at,
            "expires_at": _closes_at(campaign),
            "nodes": len(campaign.nodes),
            "envelope_sha256": sha256,
        }
        connection.execute(campaigns.insert(), row)
        return decide(registry, connection, submission, level="trusted", notes=(f"campaign_sha256 {campaign_sha256}",))


def _closes_at(campaign: Campaign) -> str:
    """Return the last moment at which a campaign's windows can close; the end of all time where it is later."""
    closes_ns = utc_ns(campaign.starts_until) + campaign.windows[-1].closes_ns
    return utc_text(min(closes_ns, utc_ns(LAST_TIME)))


def submit_record(registry: Registry, campaign_sha256: str, content: bytes, token: Token) -> Decided:
    """Take one node's record of a campaign in, from a centre without a shared directory.

    The record is opened by its own seal and must be of this campaign and of one of its nodes; what it is worth is
    judged with the statement.

    Raises:
        RefusedError: `campaign-unknown`, `token-scope` or `token-centre-differs`: nothing is stored.
    """
    at = registry.now
    with registry.store.reading() as connection:
        row = _campaign(connection, campaign_sha256)
    check_token(token, row.centre_id)
    sha256 = registry.store.objects.put(content)
    submission = Submission("record", at, sha256, token, None, row.centre_id)
    trust = registry.trust().trusted
    envelope = parse_envelope(registry.store.objects.read(row.envelope_sha256), CAPS.campaign_bytes)
    campaign: Campaign = parse_payload("campaign", envelope.payload).predicate  # it was verified when it came
    try:
        opened = open_record(content, trust, at)
        _check_record(opened.predicate, campaign, campaign_sha256)
    except RefusedError as error:
        with registry.store.writing() as connection:
            return decide(registry, connection, submission, code=error.code, detail=error.what)
    record = opened.predicate
    submission = Submission("record", at, sha256, token, opened.payload_sha256, row.centre_id)
    with registry.store.writing() as connection:
        if (before := accepted(connection, "record", opened.payload_sha256)) is not None:
            return answer(before, repeated=True)
        of_node = (campaign_records.c.campaign_sha256 == campaign_sha256) & (
            campaign_records.c.node_id == record.node_id
        )
        if connection.execute(select(campaign_records.c.node_id).where(of_node)).one_or_none() is not None:
            what = f"there is another record of {record.node_id} in this campaign"
            return decide(registry, connection, submission, code="node-twice", detail=what)
        stored = {
            "campaign_sha256": campaign_sha256,
            "node_id": record.node_id,
            "payload_sha256": opened.payload_sha256,
            "envelope_sha256": sha256,
            "received_at": at,
        }
        connection.execute(campaign_records.insert(), stored)
        return decide(registry, connection, submission, level="signature")


def _check_record(record: Any, campaign: Campaign, campaign_sha256: str) -> None:
    expected = {node.node_id: node.pool for node in campaign.nodes}
    if record.campaign_sha256 != campaign_sha256 or record.centre_id != campaign.centre_id:
        raise RefusedError("campaign-differs", "is of another campaign or centre")
    if record.challenge != campaign.challenge:
        raise RefusedError("challenge-differs", "answers another challenge")
    if expected.get(record.node_id) != record.pool:
        raise RefusedError("node-not-expected", f"is of {record.node_id}, which the campaign does not expect there")


def records(connection: Connection, campaign_sha256: str) -> list[tuple[str, str]]:
    """Return (node id, object) of every record that was posted for a campaign.

    Raises:
        RefusedError: `campaign-unknown`.
    """
    _campaign(connection, campaign_sha256)
    query = select(campaign_records.c.node_id, campaign_records.c.envelope_sha256).where(
        campaign_records.c.campaign_sha256 == campaign_sha256
    )
    return [
        (row.node_id, row.envelope_sha256) for row in connection.execute(query.order_by(campaign_records.c.node_id))
    ]


def centre_of(connection: Connection, campaign_sha256: str) -> str:
    """Return the centre of a campaign.

    Raises:
        RefusedError: `campaign-unknown`.
    """
    return str(_campaign(connection, campaign_sha256).centre_id)


def _campaign(connection: Connection, campaign_sha256: str) -> Row[Any]:
    row = connection.execute(select(campaigns).where(campaigns.c.campaign_sha256 == campaign_sha256)).one_or_none()
    if row is None:
        fix = "submit the campaign's own document first"
        raise RefusedError("campaign-unknown", f"there is no campaign {campaign_sha256}", fix=fix)
    return row


def attempts(
    connection: Connection, at: str, centre_id: str | None = None, limit: int = CAPS.records
) -> list[AttemptLine]:
    """Return every measurement that was opened, the newest first: by a challenge, by a campaign, or by a statement."""
    posted = (
        select(campaign_records.c.campaign_sha256, func.count().label("records"))
        .group_by(campaign_records.c.campaign_sha256)
        .subquery()
    )
    first = (
        select(statements.c.challenge, func.min(statements.c.payload_sha256).label("statement"))
        .group_by(statements.c.challenge)
        .subquery()
    )
    about = (
        campaigns.c.campaign_id,
        campaigns.c.campaign_sha256,
        campaigns.c.expires_at.label("closes_at"),
        posted.c.records,
        first.c.statement,
    )
    drawn = (
        select(
            challenges.c.challenge,
            challenges.c.centre_id,
            challenges.c.issued_at.label("opened_at"),
            challenges.c.expires_at,
            *about,
        )
        .outerjoin(campaigns, campaigns.c.challenge == challenges.c.challenge)
        .outerjoin(posted, posted.c.campaign_sha256 == campaigns.c.campaign_sha256)
        .outerjoin(first, first.c.challenge == challenges.c.challenge)
    )
    shown = (
        select(
            campaigns.c.challenge,
            campaigns.c.centre_id,
            campaigns.c.received_at.label("opened_at"),
            campaigns.c.expires_at,
            *about,
        )
        .outerjoin(posted, posted.c.campaign_sha256 == campaigns.c.campaign_sha256)
        .outerjoin(first, first.c.challenge == campaigns.c.challenge)
        .where(campaigns.c.challenge.not_in(select(challenges.c.challenge)))
    )
    found: list[AttemptLine] = []
    for query, table, opened in (
        (drawn, challenges, challenges.c.issued_at),
        (shown, campaigns, campaigns.c.received_at),
    ):
        wanted = query if centre_id is None else query.where(table.c.centre_id == centre_id)
        wanted = wanted.order_by(opened.desc()).limit(limit)
        found += [_attempt(row, at) for row in connection.execute(wanted)]
    return sorted(found, key=lambda one: (one.opened_at, one.challenge), reverse=True)[:limit]


def _attempt(row: Any, at: str) -> AttemptLine:
    until = row.closes_at or row.expires_at
    return AttemptLine(
        centre_id=row.centre_id,
        challenge=row.challenge,
        opened_at=row.opened_at,
        expires_at=until,
        campaign_id=row.campaign_id,
        campaign_sha256=row.campaign_sha256,
        records=row.records or 0,
        statement=row.statement,
        state="submitted" if row.statement else "open" if at < until else "not-submitted",
    )
