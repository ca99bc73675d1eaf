"""What newer tables hold of a statement, as rows: its models and verdicts, and who made and signed its records.

Each function takes the statement and what was read of its records. Intake calls them with what was verified a moment
ago, and the upgrade of an older database with what is stored (`certify.registry.maintenance.refill`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import msgspec
from sqlalchemy import Connection, Table

from certify.documents.statement import CapacityStatement
from certify.judge.identities import SignedNodes
from certify.judge.models import ModelKey, NodeModel, models_of, sum_models
from certify.keys.signers import spki_bytes
from certify.policy.released import ratings_of
from certify.policy.tools import ToolCount, count_tools
from certify.registry.base.stored import StoredStatement
from certify.registry.base.verifying import NodeModels
from certify.registry.storage import node_tables
from certify.registry.storage.city_tables import fabric_lines, missing_lines, verdict_lines
from certify.registry.storage.node_tables import key_lines, tool_lines

BATCH = 5_000  # rows of one INSERT


def insert_batches(connection: Connection, table: Table, rows: Iterator[dict[str, Any]]) -> None:
    """Insert rows, of which there may be hundreds of thousands, without having them all in memory."""
    while batch := list(islice(rows, BATCH)):
        connection.execute(table.insert(), batch)


def store_statement_facts(connection: Connection, statement: CapacityStatement, sha256: str) -> None:
    """Store what no figure says: models with their steps of evidence, bounds of missing nodes, verdicts and the fabric.

    Args:
        connection: the writer's.
        statement: that was accepted.
        sha256: its payload digest.
    """
    models = (
        {
            "number": number,
            "devices": line.devices,
            **_key(ModelKey(line.pool, line.vendor, line.model, line.count_unit)),
        }
        for number, line in enumerate(statement.inventory)
    )
    steps = (
        {"number": number, **dict(zip(_STEP, (*key, *sums), strict=True))}
        for number, (key, sums) in enumerate(sorted(model_steps(statement).items()))
    )
    missing = (
        {"pool_class": line.pool_class, "at_most_mflop_s": line.missing_at_most_mflop_s} for line in statement.classes
    )
    verdicts = (
        {
            "number": number,
            "policy": one.policy,
            "condition": one.condition,
            "verdict": one.verdict,
            "content": msgspec.json.encode(one).decode(),
        }
        for number, one in enumerate(statement.verdicts)
    )
    brought = (
        {"pool": one.pool, "number": number, "content": msgspec.json.encode(one).decode()}
        for number, one in enumerate(statement.evidence)
        if one.pool is not None
    )
    fabric = (
        {
            "state": one.state,
            "groups": len(one.groups),
            "network_loss_ppm": one.losses[0].network_loss_ppm if one.losses else None,
        }
        for one in (statement.fabric,)
        if one is not None
    )
    tables: tuple[tuple[Table, Iterator[dict[str, Any]]], ...] = (
        (node_tables.inventory_lines, models),
        (node_tables.model_step_lines, steps),
        (node_tables.evidence_lines, brought),
        (missing_lines, missing),
        (verdict_lines, verdicts),
        (fabric_lines, fabric),
    )
    for table, rows in tables:
        insert_batches(connection, table, ({"statement": sha256, **row} for row in rows))


_STEP = ("pool", "vendor", "model", "step", "devices", "certified_mflop_s")


def model_steps(statement: CapacityStatement) -> dict[tuple[str, str, str, str], tuple[int, int]]:
    """Return the devices and the rate that count in the counted workload, by pool, vendor, model and step."""
    workloads = {(pool.pool, pool.precision, pool.choice) for pool in statement.pools}
    steps: dict[tuple[str, str, str, str], tuple[int, int]] = {}
    for line in statement.ceilings:
        # what is only shown of a pool is no part of its sum
        if not line.counted or (line.pool, line.precision, line.choice) not in workloads:
            continue
        key = (line.pool, line.vendor, line.model, line.step)
        devices, certified_mflop_s = steps.get(key, (0, 0))
        steps[key] = (devices + line.counted, certified_mflop_s + line.certified_mflop_s)
    return steps


def store_record_facts(connection: Connection, sha256: str, nodes: Iterable[NodeModels]) -> None:
    """Store which devices the records of a statement show, of each node and as sums.

    Args:
        connection: the writer's.
        sha256: payload digest of the statement.
        nodes: in the order of the records.
    """
    shown: list[NodeModel] = []

    def lines() -> Iterator[dict[str, Any]]:
        for node in nodes:
            shown.extend(node.models)
            for number, one in enumerate(node.models):
                yield {"statement": sha256, "node_id": node.node_id, "number": number} | _row(one)

    insert_batches(connection, node_tables.node_models, lines())
    sums = ({"statement": sha256, "number": number} | _row(one) for number, one in enumerate(sum_models(shown)))
    insert_batches(connection, node_tables.model_lines, sums)


def store_makers(connection: Connection, sha256: str, tools: Iterable[ToolCount], signed: SignedNodes) -> None:
    """Store which petaseals made the records of a statement, and the keys that signed for several of its nodes.

    Args:
        connection: the writer's.
        sha256: of the statement's payload.
        tools: that made its records.
        signed: who signed them.
    """
    insert_batches(connection, tool_lines, ({"statement": sha256, **one._asdict()} for one in tools))
    shared = ({"statement": sha256, "keyid": key, "nodes": len(nodes)} for key, nodes in signed.shared.items())
    insert_batches(connection, key_lines, shared)


# --- of what is stored ------------------------------------------------------------------------------------------------


def refill_statement_facts(connection: Connection, stored: StoredStatement) -> None:
    """Store what `store_statement_facts` would have stored of a statement that came before there were such tables."""
    store_statement_facts(connection, stored.statement, stored.payload_sha256)


def refill_record_facts(connection: Connection, stored: StoredStatement) -> None:
    """Store what `store_record_facts` and `store_makers` would have stored, in one pass over the records.

    Ratings that are not known here leave gaps, and no guess.
    """
    statement, signed, tools = stored.statement, SignedNodes(), []
    places, ratings = statement.places, ratings_of(statement.ratings_sha256)
    precisions = {pool.pool: pool.precision for pool in statement.pools}

    def nodes() -> Iterator[NodeModels]:
        for opened in stored.records():
            record = opened.predicate
            tools.append((record.tool.version, record.tool.sha256))
            signed.see(hashlib.sha256(spki_bytes(record.signer_spki, record.node_id)).hexdigest(), record.node_id)
            yield NodeModels(record.node_id, models_of(record, places, precisions, ratings))

    store_record_facts(connection, stored.payload_sha256, nodes())
    store_makers(connection, stored.payload_sha256, count_tools(tools), signed)


def _row(line: Any) -> dict[str, Any]:
    return {**_key(line.key), **{name: value for name, value in line._asdict().items() if name != "key"}}


def _key(key: ModelKey) -> dict[str, Any]:
    return key._asdict()
