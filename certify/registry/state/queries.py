"""Details of one statement, centre or device, and the list of decisions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import msgspec
from sqlalchemy import BindParameter, Connection, Row, and_, bindparam, case, func, or_, select, text

from bench.errors import RefusedError
from bench.record import identifier
from bench.record.fields import filled
from certify.documents.caps import CAPS
from certify.documents.dsse import parse_envelope
from certify.documents.statement import CeilingLine, EvidenceLine, Fabric
from certify.policy.tools import release_of
from certify.policy.verdicts import Verdict
from certify.registry.api.common import REACHED, Page, WhichReceipt
from certify.registry.api.views import (
    AttemptLine,
    CentreDetail,
    Decision,
    DeviceHistory,
    DeviceSighting,
    RecordTool,
    SharedKey,
    StatementDetail,
)
from certify.registry.state import attempts
from certify.registry.state.listing import (
    ROWS,
    WantedStatements,
    by_id_page,
    identifier_of,
    next_of,
    statements_page,
    summaries,
)
from certify.registry.state.model import Snapshot
from certify.registry.state.read import FACTS
from certify.registry.storage.node_tables import key_lines, tool_lines
from certify.registry.storage.store import Objects
from certify.registry.storage.tables import (
    decisions,
    external_ids,
    identities,
    signers,
    statements,
    verifications,
)
from certify.registry.storage.upkeep import dropped

MOST = 100  # decisions of a statement, statements of a centre
# Queries that many ask are built once: that takes longer than what the database does with them.
_IT: BindParameter[Any] = bindparam("it")
_MORE = (
    *("measured_from", "measured_until", "campaign_id", "challenge_source"),
    *("records", "records_root", "envelope_sha256"),
)
_DETAIL = ROWS.add_columns(
    *(statements.c[name] for name in _MORE), next_of("payload_sha256").label("superseded_by")
).where(statements.c.payload_sha256 == _IT)
_DROPPED = (
    select(func.max(dropped.c.at))
    .where(dropped.c.object_sha256 == decisions.c.object_sha256, dropped.c.decision_id >= decisions.c.id)
    .where(decisions.c.decision == "refused")
    .correlate(decisions)
    .scalar_subquery()
    .label("body_dropped_at")
)
_DECISION = (*(decisions.c[name] for name in Decision.__struct_fields__ if name in decisions.c), _DROPPED)
_DECIDED = select(*_DECISION).where(decisions.c.payload_sha256 == _IT).order_by(decisions.c.id.desc()).limit(MOST)
_SIGNERS = select(signers.c.keyid).where(signers.c.statement == _IT).order_by(signers.c.keyid)
_TOOLS = (
    select(tool_lines)
    .where(tool_lines.c.statement == _IT)
    .order_by(tool_lines.c.records.desc(), tool_lines.c.sha256, tool_lines.c.version)
)
_KEYS = select(key_lines).where(key_lines.c.statement == _IT).order_by(key_lines.c.nodes.desc(), key_lines.c.keyid)
_STATEMENT = select(statements).where(statements.c.payload_sha256 == _IT)
_IDS = select(external_ids).where(
    external_ids.c.centre_id == _IT,
    or_(external_ids.c.statement.is_(None), external_ids.c.statement.in_(bindparam("in_force", expanding=True))),
)


def statement_detail(
    connection: Connection, snapshot: Snapshot, objects: Objects, payload_sha256: str, sees: Callable[[str], bool]
) -> StatementDetail:
    """Return one statement, with what was decided of it.

    Args:
        sees: whether the sentences of a centre's decisions are the asker's to see: they may name devices.

    Raises:
        RefusedError: `statement-unknown`.
    """
    it = {"it": payload_sha256}
    row = connection.execute(_DETAIL, it).one_or_none()
    if row is None:
        raise unknown_statement()
    # sentences of decisions may name devices and nodes
    all_of_it = sees(row.centre_id)
    (summary,) = summaries(connection, snapshot, [row])
    place = f"/v1/statements/{payload_sha256}"
    links = {"envelope": f"{place}/envelope", "receipt": f"{place}/receipt", "page": f"/en/statements/{payload_sha256}"}
    links |= {f"receipt_{which}": f"{place}/receipt?which={which}" for which in get_args(WhichReceipt)}
    if all_of_it and summary.level == "recomputed":
        links |= {"records": f"{place}/records", "nodes": f"{place}/nodes"}
    said = said_of(objects, row.envelope_sha256)
    decided = connection.execute(_DECIDED, it).all()
    return filled(
        StatementDetail,
        row,
        summary=summary,
        signers=tuple(connection.scalars(_SIGNERS, it)),
        tools=tuple(_tool(one) for one in connection.execute(_TOOLS, it)),
        shared_keys=tuple(filled(SharedKey, one, note="node-key-shared") for one in connection.execute(_KEYS, it)),
        verdicts=said.verdicts,
        ceilings=said.ceilings,
        fabric=said.fabric,
        evidence=said.evidence,
        decisions=tuple(_decision(one, all_of_it) for one in decided),
        links=links,
    )


def _tool(row: Row[Any]) -> RecordTool:
    release = release_of(row.sha256)
    return filled(RecordTool, row, known=release is not None, release=release, note=None if release else "tool-unknown")


class Said(msgspec.Struct):
    """What a statement says that no row holds."""

    verdicts: tuple[Verdict, ...]
    ceilings: tuple[CeilingLine, ...]
    fabric: Fabric | None = None
    evidence: tuple[EvidenceLine, ...] = ()


class _Payload(msgspec.Struct):
    predicate: Said


KINDS = (_Payload,)


def said_of(objects: Objects, envelope_sha256: str) -> Said:
    """Return what a stored statement says, which was verified before it was stored."""
    envelope = parse_envelope(objects.read(envelope_sha256), CAPS.statement_bytes)
    return msgspec.json.decode(envelope.payload, type=_Payload).predicate


def unknown_statement() -> RefusedError:
    """Return what is said of a digest that no accepted statement has."""
    return RefusedError("statement-unknown", "there is no such statement here")


def statement_row(connection: Connection, payload_sha256: str) -> Row[Any]:
    """Return the row of a statement.

    Raises:
        RefusedError: `statement-unknown`.
    """
    row = connection.execute(_STATEMENT, {"it": payload_sha256}).one_or_none()
    if row is None:
        raise unknown_statement()
    return row


def receipt_of(connection: Connection, payload_sha256: str, which: WhichReceipt = "first") -> bytes:
    """Return a receipt that a statement was accepted.

    Args:
        connection: that reads.
        payload_sha256: of the statement.
        which: the first, which dates it best; or the first of the highest level that the registry reached with it.

    Raises:
        RefusedError: `statement-unknown`.
    """
    accepted = and_(decisions.c.payload_sha256 == payload_sha256, decisions.c.decision == "accepted")
    query = select(decisions.c.receipt).where(accepted, decisions.c.receipt.is_not(None))
    if which == "highest":
        query = query.order_by(case((decisions.c.level == "recomputed", 0), else_=1))
    # a later receipt of one level would make the statement younger than it is
    query = query.order_by(decisions.c.id)
    receipt = connection.scalar(query.limit(1))
    if receipt is None:
        raise unknown_statement()
    return bytes(receipt)


def records_of(connection: Connection, payload_sha256: str) -> str:
    """Return which object holds the records of a statement.

    Raises:
        RefusedError: `not-found`.
    """
    query = select(verifications.c.records_sha256).where(
        verifications.c.statement == payload_sha256, verifications.c.level == "recomputed"
    )
    object_sha256 = connection.scalar(query)
    if object_sha256 is None:
        raise RefusedError("not-found", "the records of this statement were not submitted")
    return str(object_sha256)


# --- centres ----------------------------------------------------------------------------------------------------------


def centre_detail(connection: Connection, snapshot: Snapshot, centre_id: str, at: str) -> CentreDetail:
    """Return one centre.

    Raises:
        RefusedError: `centre-unknown`.
    """
    if centre_id not in snapshot.centre_states:
        raise RefusedError("centre-unknown", "no statement of this centre was accepted here")
    part = snapshot.centre_states[centre_id]
    in_force = [latest.facts.payload_sha256 for latest in part.latest_statements]
    ids = connection.execute(_IDS, {"it": centre_id, "in_force": in_force}).all()
    return CentreDetail(
        summary=part.summary,
        pools=tuple(pool.shown for latest in part.latest_statements for pool in latest.pools),
        statements=statements_page(connection, snapshot, WantedStatements(centre=centre_id), MOST).items,
        attempts=attempts_of(connection, centre_id, at),
        external_ids=tuple(map(identifier_of, ids)),
    )


_OPENED = text(
    "SELECT EXISTS (SELECT 1 FROM challenges WHERE centre_id = :it)"
    " OR EXISTS (SELECT 1 FROM campaigns WHERE centre_id = :it)"
)


def attempts_of(connection: Connection, centre_id: str, at: str) -> tuple[AttemptLine, ...]:
    """Return the newest measurements that a centre opened."""
    opened = connection.execute(_OPENED, {"it": centre_id}).scalar_one()
    return tuple(attempts.list_attempts(connection, at, centre_id, MOST)) if opened else ()


# --- further lists ----------------------------------------------------------------------------------------------------


def decisions_page(
    connection: Connection,
    sees: Callable[[str], bool],
    limit: int,
    cursor: str | None = None,
    *,
    decision: str | None = None,
    centre: str | None = None,
    kind: str | None = None,
) -> Page[Decision]:
    """Return decisions, newest first.

    Args:
        sees: whether the sentences of a centre's decisions are the asker's to see: they may name devices.
    """
    query = select(*_DECISION)
    for column, value in (
        (decisions.c.decision, decision),
        (decisions.c.centre_id, centre),
        (decisions.c.kind, kind),
    ):
        if value is not None:
            query = query.where(column == value)
    return by_id_page(connection, query, decisions, lambda row: _decision(row, sees(row.centre_id)), limit, cursor)


def _decision(row: Row[Any], all_of_it: bool) -> Decision:
    submitted = row.object_sha256 if all_of_it else None
    return filled(Decision, row, detail=row.detail if all_of_it else None, object_sha256=submitted)


def device_history(connection: Connection, snapshot: Snapshot, device: str) -> DeviceHistory:
    """Return where a device was counted.

    Args:
        device: uuid, serial or die id as anybody spells it, with or without which of them it is.

    Raises:
        RefusedError: `device-unknown`.
    """
    field, _, rest = device.partition(":")
    # spelled as the records' identities were when they were stored
    known = identifier(rest if field in _FIELDS else device)
    shows_device = and_(identities.c.kind.in_(("device", "parent")), identities.c.value == known)
    columns = (identities.c.value, identities.c.place, identities.c.kind, identities.c.claimed)
    rows = connection.execute(
        select(*columns, *FACTS)
        .join(statements, statements.c.payload_sha256 == identities.c.statement)
        .where(shows_device)
    ).all()
    if known is None or not rows:
        raise RefusedError("device-unknown", "no record that was read here shows this device")
    sightings = [_sighting(snapshot, row) for row in rows]
    now = [one.statement for one in sightings if one.claimed and one.state in REACHED]
    return DeviceHistory(
        id=rows[0].value,
        counted_in=min(now, default=None),
        sightings=tuple(sorted(sightings, key=lambda one: (one.issued_at, one.statement, one.place), reverse=True)),
    )


_FIELDS = ("uuid", "serial", "die_id")


def _sighting(snapshot: Snapshot, row: Row[Any]) -> DeviceSighting:
    latest = snapshot.by_statement.get(row.payload_sha256)
    return filled(
        DeviceSighting,
        row,
        statement=row.payload_sha256,
        project_id=row.project_id or None,
        state="superseded" if latest is None else latest.state,
    )
