"""Conflicts of a new statement with stored ones, and the alarms that they raise (`certify.statement.conflicts`).

Of a stored statement only the identities are read that it shares with the new one: conflicts arise from no others.
Whoever was received first stands (ADR 15): what contradicts it is refused, and the alarm names both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from msgspec.structs import replace
from sqlalchemy import Connection, Row, and_, func, or_, select

from bench.units import utc_ns
from certify.documents.caps import CAPS
from certify.documents.dsse import parse_envelope
from certify.documents.kinds import OpenedDocument, parse_payload
from certify.documents.statement import CapacityStatement
from certify.policy.reasons import effect_of
from certify.registry.storage.store import Store
from certify.registry.storage.tables import alarms, identities, revocations, statements
from certify.statement.claim import Claim, DeviceIndex
from certify.statement.conflicts import conflicts

HISTORY = frozenset({"superseded"})  # no fault here: an older number of a chain is taken in as history


class RaisedAlarm(NamedTuple):
    """What is raised about two statements."""

    code: str
    other_sha256: str
    other_centre_id: str
    devices: int  # that both name
    what: str

    @property
    def refuses(self) -> bool:
        """Whether the new statement is refused because of the other one."""
        return effect_of(self.code) == "refuse"


def find_alarms(store: Store, connection: Connection, claim: Claim, at: str) -> list[RaisedAlarm]:
    """Return the alarms about a statement and the stored ones, those that refuse it first.

    Args:
        store: whose objects hold the other statements.
        connection: the writer's; the identities of `claim` are in the table already where its devices are known.
        claim: the new one.
        at: the present.
    """
    raised = []
    # both sides are held against one clock, or a centre whose clock is ahead would overlap with nothing
    claim = _in_registry_time(claim, at)
    stored = [_in_registry_time(other, at) for other in _claims_in_conflict(store, connection, claim)]
    known = {other.payload_sha256: other for other in stored}
    for other in stored:
        shared = 0
        if claim.device_index is not None and other.device_index is not None:
            shared = len({*other.device_index.devices.values(), *other.device_index.parents.values()})
        for code, what in conflicts(claim, other, at, known):
            # a late submission of an older number completes the history, and contradicts nothing
            if code not in HISTORY:
                raised.append(RaisedAlarm(code, other.payload_sha256, other.chain[0], shared, what))
    raised += _related(connection, claim, stored)
    # a caller refuses with the first one
    return sorted(raised, key=lambda alarm: not alarm.refuses)


def _in_registry_time(claim: Claim, at: str) -> Claim:
    """Return a claim whose validity begins now at the latest: the centre's clock may be ahead a little."""
    issue = claim.issue
    if issue.issued_at <= at:
        return claim
    statement = replace(claim.statement, issue=replace(issue, issued_at=at))
    return Claim(claim.where, statement, claim.payload_sha256, claim.device_index)


def store_alarms(connection: Connection, claim: Claim, raised: list[RaisedAlarm], at: str) -> None:
    """Store alarms, each once."""
    known = {
        (row.code, row.other_sha256)
        for row in connection.execute(
            select(alarms.c.code, alarms.c.other_sha256).where(alarms.c.payload_sha256 == claim.payload_sha256)
        )
    }
    for alarm in raised:
        if (alarm.code, alarm.other_sha256) not in known:
            # who submits a refused statement a hundred times raises one alarm
            known.add((alarm.code, alarm.other_sha256))
            row = {
                "at": at,
                "code": alarm.code,
                "payload_sha256": claim.payload_sha256,
                "other_sha256": alarm.other_sha256,
                "centre_id": claim.chain[0],
                "other_centre_id": alarm.other_centre_id,
                "devices": alarm.devices,
                "what": alarm.what,
            }
            connection.execute(alarms.insert(), row)


def _claims_in_conflict(store: Store, connection: Connection, claim: Claim) -> Iterator[Claim]:
    """Yield every stored statement that a claim can conflict with."""
    centre_id, project_id = claim.chain
    same_chain = and_(statements.c.centre_id == centre_id, statements.c.project_id == (project_id or ""))
    number, campaign = claim.issue.sequence, claim.statement.campaign
    related = or_(
        and_(same_chain, statements.c.sequence.between(number - 1, number + 1)),
        statements.c.payload_sha256.in_([one for one in (claim.issue.previous_sha256,) if one is not None]),
        statements.c.previous_sha256 == claim.payload_sha256,
        # a challenge opens one campaign: a second one that answers it is a second try
        statements.c.challenge == campaign.challenge,
        and_(statements.c.centre_id == centre_id, statements.c.campaign_id == campaign.campaign_id),
    )
    wanted = select(statements).where(related, statements.c.payload_sha256 != claim.payload_sha256)
    rows = {row.payload_sha256: row for row in connection.execute(wanted)}
    parts: dict[str, list[Any]] = {}
    if claim.device_index is not None:
        for part in _shared(connection, claim.payload_sha256):
            parts.setdefault(part.statement, []).append(part)
        for row in connection.execute(select(statements).where(statements.c.payload_sha256.in_(parts))):
            same = (row.centre_id, row.project_id) == (centre_id, project_id or "")
            if row.simulated != claim.statement.simulated:
                continue  # a simulated device is no device
            if not same or _overlap(row, claim):  # of its own chain a later number simply replaces an earlier one
                rows[row.payload_sha256] = row
    for row in rows.values():
        yield _claim(store, connection, row, parts.get(row.payload_sha256, []), claim.device_index is not None)


def _shared(connection: Connection, payload_sha256: str) -> Iterator[Any]:
    """Yield the identities of stored statements that also stand in one statement; a part matches its whole device."""
    this, other = identities.alias("own"), identities.alias("other")
    cards = ("device", "parent")
    kinds = or_(this.c.kind == other.c.kind, and_(this.c.kind.in_(cards), other.c.kind.in_(cards)))
    query = (
        select(other.c.statement, other.c.kind, other.c.value, other.c.place, other.c.claimed)
        .distinct()
        .select_from(this.join(other, this.c.value == other.c.value))
        .where(this.c.statement == payload_sha256, other.c.statement != payload_sha256, kinds)
    )
    yield from connection.execute(query)


def _overlap(row: Row[Any], claim: Claim) -> bool:
    """Return whether a stored statement of another measurement was measured while `claim` was."""
    begins_ns, ends_ns = claim.window_ns
    other_measurement = (row.campaign_sha256, row.starts_at) != claim.measurement
    return other_measurement and utc_ns(row.busy_from) < ends_ns and begins_ns < utc_ns(row.busy_until)


def _claim(store: Store, connection: Connection, row: Row[Any], parts: list[Any], indexed: bool) -> Claim:
    """Return a stored statement as a claim that ends when it was superseded or revoked."""
    content = store.objects.read(row.envelope_sha256)
    envelope = parse_envelope(content, CAPS.statement_bytes)
    opened: OpenedDocument[CapacityStatement] = parse_payload("capacity-statement", envelope.payload)
    statement = opened.predicate
    later = select(func.min(statements.c.received_at)).where(
        statements.c.centre_id == row.centre_id,
        statements.c.project_id == row.project_id,
        statements.c.sequence > row.sequence,
    )
    revoked = select(func.min(revocations.c.effective_at)).where(revocations.c.statement == row.payload_sha256)
    ends = [connection.execute(query).scalar() for query in (later, revoked)]
    # devices are free again from the moment at which their statement ended, and may be claimed elsewhere
    until = min([row.valid_until, *(end for end in ends if end is not None)])
    statement = replace(statement, issue=replace(statement.issue, valid_until=max(until, row.issued_at)))
    device_index = _device_index(statement, parts) if indexed else None
    name = f"{row.payload_sha256[:16]}… of {row.centre_id}"
    return Claim(name, statement, row.payload_sha256, device_index)


def _device_index(statement: CapacityStatement, parts: list[Any]) -> DeviceIndex:
    by_kind: dict[str, dict[str, str]] = {"device": {}, "parent": {}, "machine": {}}
    samples: dict[str, set[str]] = {}
    for part in parts:
        if part.kind == "samples":
            samples.setdefault(part.value, set()).add(part.place)
        else:
            by_kind[part.kind][part.value] = part.place
    claimed = {part.place for part in parts if part.claimed}
    return DeviceIndex.of(statement.places, by_kind["device"], by_kind["parent"], claimed, by_kind["machine"], samples)


def _related(connection: Connection, claim: Claim, stored: list[Claim]) -> Iterator[RaisedAlarm]:
    """Yield what an official should look at: claims on one threshold that share devices or a facility.

    The same devices under several projects: split, to stay below a review, or merged, to reach a threshold.
    """
    chains: dict[tuple[str, str | None], list[Claim]] = {}
    for other in stored:
        if other.device_index is not None and other.chain != claim.chain and other.device_index.claimed:
            chains.setdefault(other.chain, []).append(other)
    elsewhere = _seen_in(connection, claim, chains)
    for chain, claims in chains.items():
        last = max(claims, key=lambda one: one.issue.sequence)
        assert last.device_index is not None
        code = "claims-related"
        # devices of several others in one claim: merged to reach a threshold
        if len(chains) > 1:
            code = "projects-merged"
        # devices of one claim that are now in several: split to stay below a review
        elif elsewhere.get(chain, 0):
            code = "project-split"
        what = f"{len(last.device_index.claimed)} of its devices were claimed by {last.name}"
        yield RaisedAlarm(code, last.payload_sha256, chain[0], len(last.device_index.claimed), what)
    facility = claim.statement.centre.facility
    if facility is None:
        return
    query = (
        select(statements)
        .where(statements.c.facility == facility.id, statements.c.operator == claim.statement.centre.operator)
        .order_by(statements.c.received_at.desc())
    )
    named: set[tuple[str, str]] = {(claim.chain[0], claim.chain[1] or "")}
    for row in connection.execute(query):
        # the newest of each chain says it; its history would only repeat it
        if (row.centre_id, row.project_id) not in named:
            named.add((row.centre_id, row.project_id))
            what = f"declares the facility {facility.id}, as {row.payload_sha256[:16]}… of {row.centre_id} does"
            yield RaisedAlarm("facility-shared", row.payload_sha256, row.centre_id, 0, what)


def _seen_in(
    connection: Connection, claim: Claim, chains: Mapping[tuple[str, str | None], list[Claim]]
) -> dict[tuple[str, str | None], int]:
    """Return for each chain in how many third chains its devices are claimed too."""
    counts: dict[tuple[str, str | None], int] = {}
    this, other = identities.alias("own"), identities.alias("other")
    for chain, claims in chains.items():
        mates = (
            select(statements.c.centre_id, statements.c.project_id)
            .distinct()
            .select_from(this.join(other, this.c.value == other.c.value))
            .join(statements, statements.c.payload_sha256 == other.c.statement)
            .where(
                this.c.statement.in_([one.payload_sha256 for one in claims]),
                this.c.kind == "device",
                other.c.kind == "device",
                other.c.claimed,
            )
        )
        chains_seen = {(row.centre_id, row.project_id or None) for row in connection.execute(mates)}
        counts[chain] = len(chains_seen - {chain, claim.chain})
    return counts
