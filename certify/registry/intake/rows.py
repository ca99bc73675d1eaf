"""A statement and its records as rows of the tables; the integrity check makes the same rows anew and compares them.

A statement is shown at level trusted from the moment it is accepted, and its records may come hours later. What follows
from the statement alone (its own sums, what the tables can hold) is checked here, so that no absurd figure stands in a
list meanwhile.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import structs
from sqlalchemy import Connection, Table, select

from bench.units import utc_text
from certify.documents.statement import CapacityStatement, ClassLine, PoolLine, Totals
from certify.policy.capacity import Capacity
from certify.registry.base.verifying import VerificationOutcome
from certify.registry.intake import facts
from certify.registry.intake.decisions import Submission
from certify.registry.storage import tables
from certify.registry.storage.columns import project_key
from certify.registry.storage.store import record_change
from certify.statement.claim import Claim, DeviceIndex

MAX_COUNT = 2**31 - 1  # what a column of counts holds (PostgreSQL INTEGER)
MAX_CLASS_MFLOP_S = 10**14  # of one class of one statement: 100 EFLOPS, what a whole city wants by 2027
# The parts of a line that add up, by their names in the document
_PARTS = {"counted": "counted", "existing": "in_baseline", "with_witness": "with_witness", "untested": "untested"}


def inconsistency(statement: CapacityStatement) -> str | None:
    """Return the first contradiction within a statement, as a sentence; None where there is none."""
    # first, as the sums below expect the pools of the centre
    if (what := _unstorable(statement)) is not None:
        return what
    for line in statement.classes:
        pools = [pool for pool in statement.pools if pool.pool_class == line.pool_class]
        for name, part in _PARTS.items():
            for field in ("devices", "certified_mflop_s", "sustained_mflop_s", "nominal_mflop_s"):
                whole = getattr(getattr(line, part), field, 0)
                if whole != sum(getattr(getattr(pool, part), field, 0) for pool in pools):
                    return f"the {name} {field} of {line.pool_class} is not the sum over its pools"
                # keeps every sum over centres within 64 bits, and an absurd figure out of the public list
                if field != "devices" and whole > MAX_CLASS_MFLOP_S:
                    return f"claims {whole} MFLOP/s of {line.pool_class}, more than {MAX_CLASS_MFLOP_S}"
    of_models = facts.model_steps(statement)
    for pool in statement.pools:
        vendors = [line for line in statement.vendors if line.pool == pool.pool]
        for field in ("devices", "certified_mflop_s", "sustained_mflop_s", "nominal_mflop_s"):
            if getattr(pool.counted, field) != sum(getattr(line, field) for line in vendors):
                return f"the counted {field} of {pool.pool} is not the sum over its vendors"
        by_step: Counter[str] = Counter()
        for (name, _, _, step), (devices, certified_mflop_s) in of_models.items():
            if name == pool.pool:
                by_step.update({step: certified_mflop_s, f"{step} devices": devices})
        for one in pool.steps:
            by_step.subtract({one.step: one.certified_mflop_s, f"{one.step} devices": one.devices})
        if any(by_step.values()):
            return f"the steps of evidence of {pool.pool} are not the sums over its models"
    if {line.pool_class for line in statement.classes} != {pool.pool_class for pool in statement.pools}:
        return "has pools of other classes than it adds up"
    return None


def _unstorable(statement: CapacityStatement) -> str | None:
    """Return which lines of a statement no table takes: those of another pool than the centre's, twice, or too many."""
    pools = [(pool.pool, pool.pool_class) for pool in statement.pools]
    if pools != [(pool.pool, pool.pool_class) for pool in statement.centre.pools]:
        return "has other pools than its centre"
    lines: dict[str, list[object]] = {
        "classes": [line.pool_class for line in statement.classes],
        "steps": [(pool.pool, line.step) for pool in statement.pools for line in pool.steps],
        "vendors": [(line.pool, line.vendor) for line in statement.vendors],
        "inventory": [(line.pool, line.vendor, line.model, line.count_unit) for line in statement.inventory],
    }
    for name, keys in lines.items():
        if len(set(keys)) != len(keys):
            return f"has two lines of its {name} for the same"
    named = {line.pool for line in statement.vendors} | {line.pool for line in statement.inventory}
    if not named <= {name for name, _ in pools}:
        return "has vendors or models in pools that it does not have"
    most = max(_counts(statement))
    return f"counts {most} of something, more than {MAX_COUNT}" if most > MAX_COUNT else None


def _counts(statement: CapacityStatement) -> Iterator[int]:
    """Yield every number of devices, nodes and records that a table holds."""
    yield statement.records
    for pool in statement.pools:
        yield pool.nodes_recorded
        yield from (one.devices for one in pool.steps)
    yield from (one.devices for one in statement.vendors)
    yield from (one.devices for one in statement.inventory)
    lines: tuple[PoolLine | ClassLine, ...] = (*statement.pools, *statement.classes)
    for line in lines:
        yield from (line.untested.devices, line.untested.devices_without_rating)
        for totals in (line.counted, line.with_witness):
            yield from (totals.devices, totals.devices_without_rating)
    yield from (one.nodes_missing for one in statement.classes)


RATES = ("devices", "certified_mflop_s", "sustained_mflop_s", "upper_mflop_s", "nominal_mflop_s")


def store_statement(connection: Connection, submission: Submission, claim: Claim, outcome: VerificationOutcome) -> None:
    """Store a statement that was accepted.

    Args:
        connection: the writer's.
        submission: that brought it.
        claim: the statement.
        outcome: of its verification.
    """
    statement, centre = claim.statement, claim.statement.centre
    project, sha256, at = project_key(centre.project_id), claim.payload_sha256, submission.at

    def insert(table: Table, rows: list[dict[str, Any]]) -> None:
        if rows:  # an INSERT without rows would be one of defaults
            connection.execute(table.insert(), [{"statement": sha256, **row} for row in rows])

    connection.execute(tables.statements.insert(), _statement_row(submission, claim))
    insert(tables.signers, [{"keyid": keyid} for keyid in outcome.signers])
    insert(tables.class_lines, [{**_line_row(line), "nodes_missing": line.nodes_missing} for line in statement.classes])
    insert(
        tables.pool_lines,
        [{**_line_row(line), **_fields(line, "pool", "accumulate", "nodes_recorded")} for line in statement.pools],
    )
    insert(
        tables.step_lines,
        [{"pool": line.pool, **msgspec.to_builtins(step)} for line in statement.pools for step in line.steps],
    )
    insert(tables.vendor_lines, [structs.asdict(line) for line in statement.vendors])
    facts.store_statement_facts(connection, statement, sha256)
    insert(tables.verifications, [{"level": "trusted", "at": at}])
    of_chain = {"at": at, "centre_id": centre.centre_id, "project_id": project, "pool": None}
    insert(
        tables.external_ids,
        [
            {"scheme": one.scheme, "value": one.value, "issued_by": one.issued_by, **of_chain}
            for one in centre.external_ids
            if one.value is not None
        ],
    )
    # last of the rows: until the chain points here, nobody reads any of them
    _move_chain(connection, claim, project)
    record_change(connection, at, "statement", centre.centre_id, project, sha256)


def _statement_row(submission: Submission, claim: Claim) -> dict[str, Any]:
    statement, issue, centre = claim.statement, claim.issue, claim.statement.centre
    return {
        **_fields(issue, "sequence", "previous_sha256", "issued_at", "valid_until"),
        **_fields(statement, "measured_from", "measured_until", "starts_at", "grade", "simulated"),
        **_fields(statement, "records", "records_root", "campaign_sha256"),
        **_fields(statement.campaign, "campaign_id", "challenge", "challenge_source"),
        **_fields(centre, "centre_id", "operator", "uscc", "jurisdiction", "district", "tier", "domestic"),
        "payload_sha256": claim.payload_sha256,
        "project_id": project_key(centre.project_id),
        "received_at": submission.at,
        "busy_from": utc_text(claim.window_ns[0]),
        "busy_until": utc_text(claim.window_ns[1]),
        "name_zh": centre.name.zh,
        "name_en": centre.name.en,
        "park": None if centre.park is None else centre.park.name,
        "facility": None if centre.facility is None else centre.facility.id,
        "envelope_sha256": submission.object_sha256,
    }


def _fields(source: Any, *names: str) -> dict[str, Any]:
    """Return the fields of a value that a table has under the same names."""
    return {name: getattr(source, name) for name in names}


def _move_chain(connection: Connection, claim: Claim, project: str) -> None:
    """Make a statement the latest of its chain where its sequence number is the highest."""
    chains, statements = tables.chains, tables.statements
    this = (chains.c.centre_id == claim.chain[0]) & (chains.c.project_id == project)
    latest = connection.execute(
        select(statements.c.sequence).join(chains, chains.c.statement == statements.c.payload_sha256).where(this)
    ).scalar()
    if latest is None:
        row = {"centre_id": claim.chain[0], "project_id": project, "statement": claim.payload_sha256}
        connection.execute(chains.insert(), row)
    elif latest < claim.issue.sequence:
        connection.execute(chains.update().where(this).values(statement=claim.payload_sha256))


def _part_row(name: str, part: Totals | Capacity) -> dict[str, Any]:
    return {
        f"{name}_devices": part.devices,
        f"{name}_mflop_s": part.certified_mflop_s,
        f"{name}_sustained_mflop_s": part.sustained_mflop_s,
        f"{name}_nominal_mflop_s": part.nominal_mflop_s,
    }


def _line_row(line: ClassLine | PoolLine) -> dict[str, Any]:
    return {
        **_fields(line, "pool_class", "precision", "choice"),
        **structs.asdict(line.counted),
        **_part_row("with_witness", line.with_witness),
        "with_witness_upper_mflop_s": line.with_witness.upper_mflop_s,
        "with_witness_without_rating": line.with_witness.devices_without_rating,
        "untested_devices": line.untested.devices,
        "untested_nominal_mflop_s": line.untested.nominal_mflop_s,
        "untested_without_rating": line.untested.devices_without_rating,
    }


def store_records(connection: Connection, submission: Submission, outcome: VerificationOutcome, size: int) -> None:
    """Store what the records of a statement gave.

    Args:
        connection: the writer's.
        submission: that brought them, its object ``records.jsonl``.
        outcome: of their verification.
        size: bytes of the object.
    """
    sha256 = submission.payload_sha256
    assert sha256 is not None
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
            **_fields(node, "pool", "node_id", "keyid", "devices_sha256"),
            **_fields(node.sums.counted, *RATES),
            "devices_without_rating": node.sums.counted.without_rating,
            **_part_row("never_scheduled", node.sums.never_scheduled),
            **_part_row("with_witness", node.sums.with_witness),
        }
        for node in outcome.nodes
    )
    facts.insert_batches(connection, tables.node_lines, nodes)
    facts.store_record_facts(connection, sha256, outcome.models)
    facts.insert_batches(
        connection, tables.record_lines, ({"statement": sha256, **line._asdict()} for line in outcome.lines)
    )
    assert outcome.device_index is not None
    held = ({"statement": sha256, **one} for one in identity_rows(outcome.device_index))
    facts.insert_batches(connection, tables.identities, held)
    facts.store_makers(connection, sha256, outcome.tools, outcome.device_index.signed)


def identity_rows(device_index: DeviceIndex) -> Iterator[dict[str, Any]]:
    """Yield what the records of a statement show, as rows of the table `identities` but for the statement."""

    def one(kind: str, value: str, place: str, claimed: bool) -> dict[str, Any]:
        return {"kind": kind, "value": value, "place": place, "claimed": claimed}

    for value, place in device_index.devices.items():
        yield one("device", value, place, place in device_index.claimed)
    for value, place in device_index.parents.items():
        yield one("parent", value, place, place in device_index.claimed)
    for value, place in device_index.machines.items():
        yield one("machine", value, place, False)
    for value, payloads in device_index.samples.items():
        for payload_sha256 in sorted(payloads):
            yield one("samples", value, payload_sha256, False)
