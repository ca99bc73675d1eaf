"""Attempts: every measurement that was opened, whether or not a statement came of it, and the records posted for it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, func, select

from bench.errors import RefusedError
from bench.record.fields import filled
from certify.documents.caps import CAPS
from certify.registry.api.views import AttemptLine
from certify.registry.storage.tables import campaign_records, campaigns, challenges, statements


def posted_records(connection: Connection, campaign_sha256: str) -> list[tuple[str, str]]:
    """Return (node id, object) of every record that was posted for a campaign.

    Raises:
        RefusedError: `campaign-unknown`.
    """
    campaign_row(connection, campaign_sha256)
    query = select(campaign_records.c.node_id, campaign_records.c.envelope_sha256).where(
        campaign_records.c.campaign_sha256 == campaign_sha256
    )
    return [
        (row.node_id, row.envelope_sha256) for row in connection.execute(query.order_by(campaign_records.c.node_id))
    ]


def centre_of_campaign(connection: Connection, campaign_sha256: str) -> str:
    """Return the centre of a campaign.

    Raises:
        RefusedError: `campaign-unknown`.
    """
    return str(campaign_row(connection, campaign_sha256).centre_id)


def campaign_row(connection: Connection, campaign_sha256: str) -> Row[Any]:
    """Return the row of a campaign.

    Raises:
        RefusedError: `campaign-unknown`.
    """
    row = connection.execute(select(campaigns).where(campaigns.c.campaign_sha256 == campaign_sha256)).one_or_none()
    if row is None:
        fix = "submit the campaign's own document first"
        raise RefusedError("campaign-unknown", f"there is no campaign {campaign_sha256}", fix=fix)
    return row


def list_attempts(
    connection: Connection, at: str, centre_id: str | None = None, limit: int = CAPS.records
) -> list[AttemptLine]:
    """Return every measurement that was opened, the newest first: by a challenge, by a campaign, or by a statement."""
    posted = (
        select(campaign_records.c.campaign_sha256, func.count().label("records"))
        .group_by(campaign_records.c.campaign_sha256)
        .subquery()
    )
    first = (
        # any one of them: a reissue answers the same challenge
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
    # a challenge without a campaign is an attempt already: what was drawn and not used stays visible
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
        # of witnesses and operators; the registry's own stand above
        .where(campaigns.c.challenge.not_in(select(challenges.c.challenge)))
    )
    lines: list[AttemptLine] = []
    for query, table, opened in (
        (drawn, challenges, challenges.c.issued_at),
        (shown, campaigns, campaigns.c.received_at),
    ):
        wanted = query if centre_id is None else query.where(table.c.centre_id == centre_id)
        wanted = wanted.order_by(opened.desc()).limit(limit)
        lines += [_attempt(row, at) for row in connection.execute(wanted)]
    return sorted(lines, key=lambda one: (one.opened_at, one.challenge), reverse=True)[:limit]


def _attempt(row: Any, at: str) -> AttemptLine:
    until = row.closes_at or row.expires_at
    return filled(
        AttemptLine,
        row,
        expires_at=until,
        records=row.records or 0,
        state="submitted" if row.statement else "open" if at < until else "not-submitted",
    )
