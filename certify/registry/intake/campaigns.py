"""Measurements before there is a statement: challenges that open them, campaigns, and records that nodes post here.

A challenge is good for one campaign of one centre. What was opened and never submitted stays visible.
"""

from __future__ import annotations

import secrets
from typing import Any

from sqlalchemy import Connection, select

from bench.errors import RefusedError
from bench.record import Campaign, digest
from bench.units import utc_ns, utc_text
from certify.documents.caps import CAPS
from certify.documents.dsse import parse_envelope
from certify.documents.kinds import OpenedDocument, parse_payload
from certify.registry.api.common import Decided, Drawn
from certify.registry.base.access import check_token
from certify.registry.base.registry import Registry
from certify.registry.base.tokens import Token
from certify.registry.intake.decisions import Submission, accepted, decide, decided_of
from certify.registry.state.attempts import campaign_row
from certify.registry.storage.tables import campaign_records, campaigns, challenges
from certify.trust.opening import Verifier
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
    # random and unknown before, so that no measurement from before can answer it
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
    # else the better of two campaigns could be chosen afterwards
    if other is not None and other != campaign_sha256:
        return "challenge-reused", f"answers the challenge of another campaign, {other[:16]}…"
    row = connection.execute(select(challenges).where(challenges.c.challenge == challenge)).one_or_none()
    if row is None and campaign.challenge_source != "registry":
        return None
    if row is None or row.centre_id != campaign.centre_id:  # whatever it says of its source: nobody burns another's
        return "challenge-unknown", "answers a challenge that this registry did not draw for its centre"
    if not row.issued_at <= skewed(campaign.issued_at) or campaign.issued_at > row.expires_at:
        period = f"between {row.issued_at} and {row.expires_at}"
        return "challenge-expired", f"was opened at {campaign.issued_at}, and its challenge opens one {period}"
    return None


def submit_campaign(registry: Registry, content: bytes, token: Token) -> Decided:
    """Decide on a signed campaign: once accepted, its attempt is visible, and its nodes can post records.

    Raises:
        RefusedError: `token-scope` or `token-centre-differs`: nothing is stored.
    """
    at = registry.now
    check_token(token, token.centre_id)
    trust = registry.trust().trusted
    sha256 = registry.store.objects.put(content)
    submission = Submission("campaign", at, sha256, token, None, token.centre_id)
    try:
        opened: OpenedDocument[Campaign] = Verifier(trust, at).open("campaign", content)
    except RefusedError as error:
        with registry.store.writing() as connection:
            return decide(registry, connection, submission, code=error.code, detail=error.what)
    campaign, campaign_sha256 = opened.predicate, digest(opened.predicate)
    # again, and of the document this time: until it was opened only the token named a centre
    check_token(token, campaign.centre_id)
    submission = Submission("campaign", at, sha256, token, opened.payload_sha256, campaign.centre_id)
    with registry.store.writing() as connection:
        if (before := accepted(connection, "campaign", opened.payload_sha256)) is not None:
            return decided_of(before, repeated=True)
        fault = challenge_fault(connection, campaign, campaign_sha256)
        if fault is None and (what := campaign.windows_problem()) is not None:
            fault = ("campaign-invalid", what)
        # nobody but the node itself was bound by it, so that it cannot open a statement of many nodes
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
    """Decide on one node's record of a campaign, which a centre without a shared directory posts here.

    The record is opened by its own seal and must be of this campaign and of one of its nodes; what it is worth is
    judged with the statement.

    Raises:
        RefusedError: `campaign-unknown`, `token-scope` or `token-centre-differs`: nothing is stored.
    """
    at = registry.now
    with registry.store.reading() as connection:
        row = campaign_row(connection, campaign_sha256)
    check_token(token, row.centre_id)
    trust = registry.trust().trusted
    sha256 = registry.store.objects.put(content)
    submission = Submission("record", at, sha256, token, None, row.centre_id)
    envelope = parse_envelope(registry.store.objects.read(row.envelope_sha256), CAPS.campaign_bytes)
    campaign: Campaign = parse_payload("campaign", envelope.payload).predicate  # it was verified when it came
    try:
        opened = Verifier(trust, at).record(content)
        _check_record(opened.predicate, campaign, campaign_sha256)
    except RefusedError as error:
        with registry.store.writing() as connection:
            return decide(registry, connection, submission, code=error.code, detail=error.what)
    record = opened.predicate
    submission = Submission("record", at, sha256, token, opened.payload_sha256, row.centre_id)
    with registry.store.writing() as connection:
        if (before := accepted(connection, "record", opened.payload_sha256)) is not None:
            return decided_of(before, repeated=True)
        of_node = (campaign_records.c.campaign_sha256 == campaign_sha256) & (
            campaign_records.c.node_id == record.node_id
        )
        # a node measures once in a campaign: a second record would be the better of two
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
