"""What a new statement says against those that are stored, and the alarms it raises (`certify.statement.conflicts`).

Of the others only that part is read which the new one shares with them: `others.conflicts` looks at nothing else.
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
from certify.documents.kinds import Opened, parse_payload
from certify.policy.reasons import effect_of
from certify.registry.storage.store import Store
from certify.registry.storage.tables import alarms, endings, identities, statements
from certify.statement.build import CapacityStatement
from certify.statement.claim import Claim, Holdings
from certify.statement.conflicts import conflicts

HISTORY = frozenset({"superseded"})  # no fault here: an older number of a chain is taken in as history


class Alarm(NamedTuple):
    """What is raised about two statements."""

    code: str
    other_sha256: str
    other_centre_id: str
    devices: int  # that both name
    what: str

    @property
    def refuses(self) -> bool:
        """Whether the new statement cannot be accepted beside the other one."""
        return effect_of(self.code) == "refuse"


def raised(store: Store, connection: Connection, mine: Claim, at: str) -> list[Alarm]:
    """Return what a statement and those that are stored say against each other, the gravest first.

    Args:
        store: whose objects hold the other statements.
        connection: the writer's; the identities of `mine` are in the table already where it has holdings.
        mine: the new one.
        at: the present.
    """
    found = []
    mine = _in_registry_time(mine, at)
    others = [_in_registry_time(other, at) for other in _others(store, connection, mine)]
    known = {other.payload_sha256: other for other in others}
    for other in others:
        shared = 0
        if mine.holdings is not None and other.holdings is not None:
            shared = len({*other.holdings.devices.values(), *other.holdings.parents.values()})
        for code, what in conflicts(mine, other, at, known):
            if code not in HISTORY:
                found.append(Alarm(code, other.payload_sha256, other.chain[0], shared, what))
    found += _related(connection, mine, others)
    return sorted(found, key=lambda alarm: not alarm.refuses)


def _in_registry_time(claim: Claim, at: str) -> Claim:
    """Return a claim that holds from now at the latest: it does here, though its own clock may be ahead a little."""
    issue = claim.issue
    if issue.issued_at <= at:
        return claim
    statement = replace(claim.statement, issue=replace(issue, issued_at=at))
    return Claim(claim.where, statement, claim.payload_sha256, claim.holdings)


def keep(connection: Connection, mine: Claim, found: list[Alarm], at: str) -> None:
    """Store alarms, each once."""
    known = {
        (row.code, row.other_sha256)
        for row in connection.execute(
            select(alarms.c.code, alarms.c.other_sha256).where(alarms.c.payload_sha256 == mine.payload_sha256)
        )
    }
    for alarm in found:
        if (alarm.code, alarm.other_sha256) not in known:
            known.add((alarm.code, alarm.other_sha256))
            row = {
                "at": at,
                "code": alarm.code,
                "payload_sha256": mine.payload_sha256,
                "other_sha256": alarm.other_sha256,
                "centre_id": mine.chain[0],
                "other_centre_id": alarm.other_centre_id,
                "devices": alarm.devices,
                "what": alarm.what,
            }
            connection.execute(alarms.insert(), row)


def _others(store: Store, connection: Connection, mine: Claim) -> Iterator[Claim]:
    """Yield every stored statement that can have something to say about `mine`."""
    centre_id, project_id = mine.chain
    own_chain = and_(statements.c.centre_id == centre_id, statements.c.project_id == (project_id or ""))
    number, campaign = mine.issue.sequence, mine.statement.campaign
    beside = or_(
        and_(own_chain, statements.c.sequence.between(number - 1, number + 1)),
        statements.c.payload_sha256.in_([one for one in (mine.issue.previous_sha256,) if one is not None]),
        statements.c.previous_sha256 == mine.payload_sha256,
        statements.c.challenge == campaign.challenge,
        and_(statements.c.centre_id == centre_id, statements.c.campaign_id == campaign.campaign_id),
    )
    wanted = select(statements).where(beside, statements.c.payload_sha256 != mine.payload_sha256)
    rows = {row.payload_sha256: row for row in connection.execute(wanted)}
    parts: dict[str, list[Any]] = {}
    if mine.holdings is not None:
        for part in _shared(connection, mine.payload_sha256):
            parts.setdefault(part.statement, []).append(part)
        for row in connection.execute(select(statements).where(statements.c.payload_sha256.in_(parts))):
            same = (row.centre_id, row.project_id) == (centre_id, project_id or "")
            if row.simulated != mine.statement.simulated:
                continue  # a simulated device is no device
            if not same or _overlap(row, mine):  # of its own chain a later number simply replaces an earlier one
                rows[row.payload_sha256] = row
    for row in rows.values():
        yield _claim(store, connection, row, parts.get(row.payload_sha256, []), mine.holdings is not None)


def _shared(connection: Connection, payload_sha256: str) -> Iterator[Any]:
    """Yield the identities of other statements that one shares, parts beside their wholes."""
    own, other = identities.alias("own"), identities.alias("other")
    cards = ("device", "parent")
    kinds = or_(own.c.kind == other.c.kind, and_(own.c.kind.in_(cards), other.c.kind.in_(cards)))
    found = (
        select(other.c.statement, other.c.kind, other.c.value, other.c.place, other.c.claimed)
        .distinct()
        .select_from(own.join(other, own.c.value == other.c.value))
        .where(own.c.statement == payload_sha256, other.c.statement != payload_sha256, kinds)
    )
    yield from connection.execute(found)


def _overlap(row: Row[Any], mine: Claim) -> bool:
    """Return whether a stored statement of another measurement was measured while `mine` was."""
    begins_ns, ends_ns = mine.window_ns
    other_measurement = (row.campaign_sha256, row.starts_at) != mine.measurement
    return other_measurement and utc_ns(row.busy_from) < ends_ns and begins_ns < utc_ns(row.busy_until)


def _claim(store: Store, connection: Connection, row: Row[Any], parts: list[Any], with_holdings: bool) -> Claim:
    """Return a stored statement as a claim that ends when it was superseded or revoked."""
    content = store.objects.read(row.envelope_sha256)
    envelope = parse_envelope(content, CAPS.statement_bytes)
    opened: Opened[CapacityStatement] = parse_payload("capacity-statement", envelope.payload)
    statement = opened.predicate
    later = select(func.min(statements.c.received_at)).where(
        statements.c.centre_id == row.centre_id,
        statements.c.project_id == row.project_id,
        statements.c.sequence > row.sequence,
    )
    revoked = select(func.min(endings.c.effective_at)).where(endings.c.statement == row.payload_sha256)
    ends = [connection.execute(query).scalar() for query in (later, revoked)]
    until = min([row.valid_until, *(end for end in ends if end is not None)])
    statement = replace(statement, issue=replace(statement.issue, valid_until=max(until, row.issued_at)))
    held = _holdings(statement, parts) if with_holdings else None
    name = f"{row.payload_sha256[:16]}… of {row.centre_id}"
    return Claim(name, statement, row.payload_sha256, held)


def _holdings(statement: CapacityStatement, parts: list[Any]) -> Holdings:
    by_kind: dict[str, dict[str, str]] = {"device": {}, "parent": {}, "machine": {}}
    samples: dict[str, set[str]] = {}
    for part in parts:
        if part.kind == "samples":
            samples.setdefault(part.value, set()).add(part.place)
        else:
            by_kind[part.kind][part.value] = part.place
    claimed = {part.place for part in parts if part.claimed}
    return Holdings.of(statement.places, by_kind["device"], by_kind["parent"], claimed, by_kind["machine"], samples)


def _related(connection: Connection, mine: Claim, others: list[Claim]) -> Iterator[Alarm]:
    """Yield what an official should look at: claims on one threshold that share devices or a facility.

    The same devices under several projects: split, to stay below a review, or merged, to reach a threshold.
    """
    chains: dict[tuple[str, str | None], list[Claim]] = {}
    for other in others:
        if other.holdings is not None and other.chain != mine.chain and other.holdings.claimed:
            chains.setdefault(other.chain, []).append(other)
    elsewhere = _seen_in(connection, mine, chains)
    for chain, claims in chains.items():
        last = max(claims, key=lambda claim: claim.issue.sequence)
        assert last.holdings is not None
        code = "claims-related"
        if len(chains) > 1:
            code = "projects-merged"
        elif elsewhere.get(chain, 0):
            code = "project-split"
        what = f"{len(last.holdings.claimed)} of its devices were claimed by {last.name}"
        yield Alarm(code, last.payload_sha256, chain[0], len(last.holdings.claimed), what)
    facility = mine.statement.centre.facility
    if facility is None:
        return
    found = (
        select(statements)
        .where(statements.c.facility == facility.id, statements.c.operator == mine.statement.centre.operator)
        .order_by(statements.c.received_at.desc())
    )
    told: set[tuple[str, str]] = {(mine.chain[0], mine.chain[1] or "")}
    for row in connection.execute(found):
        if (row.centre_id, row.project_id) not in told:
            told.add((row.centre_id, row.project_id))
            what = f"declares the facility {facility.id}, as {row.payload_sha256[:16]}… of {row.centre_id} does"
            yield Alarm("facility-shared", row.payload_sha256, row.centre_id, 0, what)


def _seen_in(
    connection: Connection, mine: Claim, chains: Mapping[tuple[str, str | None], list[Claim]]
) -> dict[tuple[str, str | None], int]:
    """Return in how many further chains, beside this one's, the devices of each chain were claimed since."""
    found: dict[tuple[str, str | None], int] = {}
    own, other = identities.alias("own"), identities.alias("other")
    for chain, claims in chains.items():
        mates = (
            select(statements.c.centre_id, statements.c.project_id)
            .distinct()
            .select_from(own.join(other, own.c.value == other.c.value))
            .join(statements, statements.c.payload_sha256 == other.c.statement)
            .where(
                own.c.statement.in_([claim.payload_sha256 for claim in claims]),
                own.c.kind == "device",
                other.c.kind == "device",
                other.c.claimed,
            )
        )
        told = {(row.centre_id, row.project_id or None) for row in connection.execute(mates)}
        found[chain] = len(told - {chain, mine.chain})
    return found
