"""A statement and its records as rows of the tables; what is written here is what `backup.check` compares."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import msgspec
from msgspec import structs
from sqlalchemy import Connection, Table, select

from bench.units import utc_text
from certify.judge.aggregate import Sum
from certify.registry.intake.decisions import Submission
from certify.registry.intake.verifying import Outcome
from certify.registry.service.registry import project_key, record_change
from certify.registry.storage import tables
from certify.statement.build import ClassLine, PoolLine, Totals
from certify.statement.claim import Claim, Holdings

BATCH = 5_000  # rows of one INSERT


def store_statement(connection: Connection, submission: Submission, claim: Claim, outcome: Outcome) -> None:
    """Store a statement that was accepted.

    Args:
        connection: the writer's.
        submission: that brought it.
        claim: the statement.
        outcome: of its verification.
    """
    statement, issue, centre = claim.statement, claim.issue, claim.statement.centre
    project, sha256, at = project_key(centre.project_id), claim.payload_sha256, submission.at
    row = {
        "payload_sha256": sha256,
        "centre_id": centre.centre_id,
        "project_id": project,
        "sequence": issue.sequence,
        "previous_sha256": issue.previous_sha256,
        "issued_at": issue.issued_at,
        "valid_until": issue.valid_until,
        "received_at": at,
        "measured_from": statement.measured_from,
        "measured_until": statement.measured_until,
        "busy_from": utc_text(claim.window_ns[0]),
        "busy_until": utc_text(claim.window_ns[1]),
        "grade": statement.grade,
        "simulated": statement.simulated,
        "records": statement.records,
        "records_root": statement.records_root,
        "campaign_id": statement.campaign.campaign_id,
        "campaign_sha256": statement.campaign_sha256,
        "starts_at": statement.starts_at,
        "challenge": statement.campaign.challenge,
        "challenge_source": statement.campaign.challenge_source,
        "name_zh": centre.name.zh,
        "name_en": centre.name.en,
        "operator": centre.operator,
        "uscc": centre.uscc,
        "jurisdiction": centre.jurisdiction,
        "district": centre.district,
        "tier": centre.tier,
        "domestic": centre.domestic,
        "park": None if centre.park is None else centre.park.name,
        "facility": None if centre.facility is None else centre.facility.id,
        "envelope_sha256": submission.object_sha256,
    }
    connection.execute(tables.statements.insert(), row)
    signed = [{"statement": sha256, "keyid": keyid} for keyid in outcome.signers]
    connection.execute(tables.signers.insert(), signed)
    lines = [{"statement": sha256, **_class_row(line)} for line in statement.classes]
    connection.execute(tables.class_lines.insert(), lines)
    connection.execute(tables.pool_lines.insert(), [{"statement": sha256, **_pool_row(p)} for p in statement.pools])
    steps = [
        {"statement": sha256, "pool": p.pool, **msgspec.to_builtins(one)} for p in statement.pools for one in p.steps
    ]
    if steps:
        connection.execute(tables.step_lines.insert(), steps)
    vendors = [{"statement": sha256, **structs.asdict(line)} for line in statement.vendors]
    if vendors:
        connection.execute(tables.vendor_lines.insert(), vendors)
    connection.execute(tables.verifications.insert(), {"statement": sha256, "level": "trusted", "at": at})
    told = [
        {
            "at": at,
            "scheme": one.scheme,
            "value": one.value,
            "issued_by": one.issued_by,
            "centre_id": centre.centre_id,
            "project_id": project,
            "pool": None,
            "statement": sha256,
        }
        for one in centre.external_ids
        if one.value is not None
    ]
    if told:
        connection.execute(tables.external_ids.insert(), told)
    _move_head(connection, claim, project)
    record_change(connection, at, "statement", centre.centre_id, project, sha256)


def _move_head(connection: Connection, claim: Claim, project: str) -> None:
    """Make a statement the head of its chain where its number is the highest."""
    chains, statements = tables.chains, tables.statements
    this = (chains.c.centre_id == claim.chain[0]) & (chains.c.project_id == project)
    head = connection.execute(
        select(statements.c.sequence).join(chains, chains.c.statement == statements.c.payload_sha256).where(this)
    ).scalar()
    if head is None:
        row = {"centre_id": claim.chain[0], "project_id": project, "statement": claim.payload_sha256}
        connection.execute(chains.insert(), row)
    elif head < claim.issue.sequence:
        connection.execute(chains.update().where(this).values(statement=claim.payload_sha256))


def _rates_row(totals: Totals) -> dict[str, Any]:
    return {
        "devices": totals.devices,
        "certified_mflop_s": totals.certified_mflop_s,
        "sustained_mflop_s": totals.sustained_mflop_s,
        "upper_mflop_s": totals.upper_mflop_s,
        "nominal_mflop_s": totals.nominal_mflop_s,
        "devices_without_rating": totals.devices_without_rating,
        "on_accepted_hold_mflop_s": totals.on_accepted_hold_mflop_s,
        "never_scheduled_mflop_s": totals.never_scheduled_mflop_s,
    }


def _part_row(name: str, part: Totals | Sum) -> dict[str, Any]:
    return {
        f"{name}_devices": part.devices,
        f"{name}_mflop_s": part.certified_mflop_s,
        f"{name}_sustained_mflop_s": part.sustained_mflop_s,
        f"{name}_nominal_mflop_s": part.nominal_mflop_s,
    }


def _line_row(line: ClassLine | PoolLine) -> dict[str, Any]:
    return {
        "pool_class": line.pool_class,
        "precision": line.precision,
        "choice": line.choice,
        **_rates_row(line.counted),
        **_part_row("with_witness", line.with_witness),
        "with_witness_upper_mflop_s": line.with_witness.upper_mflop_s,
        "with_witness_without_rating": line.with_witness.devices_without_rating,
        "untested_devices": line.untested.devices,
        "untested_nominal_mflop_s": line.untested.nominal_mflop_s,
        "untested_without_rating": line.untested.devices_without_rating,
    }


def _class_row(line: ClassLine) -> dict[str, Any]:
    return {**_line_row(line), "nodes_missing": line.nodes_missing}


def _pool_row(line: PoolLine) -> dict[str, Any]:
    return {
        **_line_row(line),
        "pool": line.pool,
        "accumulate": line.accumulate,
        "nodes_recorded": line.nodes_recorded,
    }


def store_records(connection: Connection, submission: Submission, outcome: Outcome, size: int) -> None:
    """Store what the records of a statement gave.

    Args:
        connection: the writer's.
        submission: that brought them, its object ``records.jsonl``.
        outcome: of their verification.
        size: bytes of the object.
    """
    sha256 = submission.payload_sha256
    row = {
        "statement": sha256,
        "level": "recomputed",
        "at": submission.at,
        "records_sha256": submission.object_sha256,
        "records_bytes": size,
    }
    connection.execute(tables.verifications.insert(), row)
    nodes = (
        {
            "statement": sha256,
            "pool": node.pool,
            "node_id": node.node_id,
            "keyid": node.keyid,
            "devices": node.sums.counted.devices,
            "certified_mflop_s": node.sums.counted.certified_mflop_s,
            "sustained_mflop_s": node.sums.counted.sustained_mflop_s,
            "upper_mflop_s": None if node.sums.counted.unbounded else node.sums.counted.upper_mflop_s,
            "nominal_mflop_s": node.sums.counted.nominal_mflop_s,
            "devices_without_rating": node.sums.counted.without_rating,
            **_part_row("never_scheduled", node.sums.never_scheduled),
            **_part_row("with_witness", node.sums.with_witness),
            "devices_sha256": node.devices_sha256,
        }
        for node in outcome.nodes
    )
    _insert(connection, tables.node_lines, nodes)
    _insert(connection, tables.record_lines, ({"statement": sha256, **line._asdict()} for line in outcome.lines))
    assert outcome.holdings is not None
    held = ({"statement": sha256, **one} for one in identity_rows(outcome.holdings))
    _insert(connection, tables.identities, held)


def identity_rows(holdings: Holdings) -> Iterator[dict[str, Any]]:
    """Yield what the records of a statement show, as rows of the table `identities` but for the statement."""

    def one(kind: str, value: str, place: str, claimed: bool) -> dict[str, Any]:
        return {"kind": kind, "value": value, "place": place, "claimed": claimed}

    for value, place in holdings.devices.items():
        yield one("device", value, place, place in holdings.claimed)
    for value, place in holdings.parents.items():
        yield one("parent", value, place, place in holdings.claimed)
    for value, place in holdings.machines.items():
        yield one("machine", value, place, False)
    for value, payloads in holdings.samples.items():
        for payload_sha256 in sorted(payloads):
            yield one("samples", value, payload_sha256, False)


def _insert(connection: Connection, table: Table, rows: Iterator[dict[str, Any]]) -> None:
    while batch := list(islice(rows, BATCH)):
        connection.execute(table.insert(), batch)
