"""Rows as ingest leaves them, without documents: statements, chains, nodes that are heard of, acts, alarms, changes.

What is written here is consistent: class lines are the sums of pool lines, pool lines those of their nodes, and
what alters a line of the feed leaves a change or an alarm.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, select, update

from bench.units import DAY_NS, utc_ns, utc_text
from certify.registry.storage import node_tables, tables
from certify.registry.storage.city_tables import missing_lines
from certify.registry.storage.store import Store
from certify.trust.trusted_set import skewed

T0 = "2026-03-01T08:00:00.000000Z"
PFLOPS = 10**9  # MFLOP/s
COUNTED = {
    "intelligent": ("fp16", "fp32"),
    "supercomputing": ("fp64", "fp64"),
    "general": ("fp32", "fp32"),
    "edge": ("fp16", "fp32"),
}


def after(at: str, seconds: float) -> str:
    """Return a later time."""
    return utc_text(utc_ns(at) + round(seconds * 10**6) * 1000)


def sha(*parts: object) -> str:
    """Return a digest of no document."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class PoolOf:
    """A pool: so many nodes of the same rate. Sustained is 1 % and upper 2 % more, nominal the double."""

    pool: str = "main"
    pool_class: str = "intelligent"
    certified_mflop_s: int = 2000 * PFLOPS
    nodes: int = 1
    devices: int = 8  # of a node
    vendor: str = "NVIDIA"
    model: str = "NVIDIA H20"
    memory_bytes: int | None = 96 * 2**30  # of a device
    on_hold_mflop_s: int = 0
    never_scheduled_mflop_s: int = 0  # part of what is certified, of one device of each node
    with_witness_mflop_s: int = 0  # beside it, likewise
    untested_devices: int = 0
    untested_nominal_mflop_s: int = 0
    nodes_missing: int = 0
    missing_at_most_mflop_s: int | None = None  # what they could add; None: nobody knows
    keyids: tuple[str, ...] = ()  # of the nodes' keys; made-up ones where it is empty
    more: dict[str, Any] = field(default_factory=dict)  # columns of the line


def node_rates(pool: PoolOf) -> list[dict[str, int]]:
    """Return the rates of a pool's nodes; the last one has the rest of the division."""
    share, rest = divmod(pool.certified_mflop_s, pool.nodes)
    return [_rates(share + (rest if i == pool.nodes - 1 else 0), pool.devices) for i in range(pool.nodes)]


def node_parts(pool: PoolOf) -> list[dict[str, int]]:
    """Return what of each node is never scheduled, and what of it counts with a witness only."""
    parts = (("never_scheduled", pool.never_scheduled_mflop_s), ("with_witness", pool.with_witness_mflop_s))
    return [
        {k: v for name, whole in parts for k, v in _part(name, whole // pool.nodes, int(whole > 0)).items()}
        for _ in range(pool.nodes)
    ]


def _part(name: str, certified_mflop_s: int, devices: int) -> dict[str, int]:
    """Return the sum over some devices of a node: sustained and nominal are alike."""
    rates = dict.fromkeys(
        (f"{name}_mflop_s", f"{name}_sustained_mflop_s", f"{name}_nominal_mflop_s"), certified_mflop_s
    )
    return {f"{name}_devices": devices, **rates}


def _rates(certified_mflop_s: int, devices: int) -> dict[str, int]:
    return {
        "devices": devices,
        "certified_mflop_s": certified_mflop_s,
        "sustained_mflop_s": certified_mflop_s * 101 // 100,
        "upper_mflop_s": certified_mflop_s * 102 // 100,
        "nominal_mflop_s": certified_mflop_s * 2,
        "devices_without_rating": 0,
    }


def add_statement(
    connection: Connection,
    centre_id: str,
    pools: Sequence[PoolOf] = (PoolOf(),),
    *,
    at: str = T0,
    project_id: str = "",
    valid_days: float = 366,
    level: str = "recomputed",
    change: bool = True,
    **columns: Any,
) -> str:
    """Store the next statement of a centre and project; return its payload digest."""
    chain = (tables.chains.c.centre_id == centre_id) & (tables.chains.c.project_id == project_id)
    before = connection.scalar(select(tables.chains.c.statement).where(chain))
    known = tables.statements.c
    number = connection.scalar(select(known.sequence).where(known.payload_sha256 == before)) or 0
    statement = sha(centre_id, project_id, number + 1)
    row = {
        "payload_sha256": statement,
        "centre_id": centre_id,
        "project_id": project_id,
        "sequence": number + 1,
        "previous_sha256": before,
        "issued_at": at,
        "valid_until": utc_text(utc_ns(at) + round(valid_days * DAY_NS)),
        "received_at": at,
        "measured_from": at,
        "measured_until": at,
        "busy_from": at,
        "busy_until": at,
        "grade": "certification",
        "simulated": False,
        "records": 1,
        "records_root": sha(statement, "root"),
        "campaign_id": f"campaign-{number + 1}",
        "campaign_sha256": sha(statement, "campaign"),
        "starts_at": at,
        "challenge": sha(statement, "challenge"),
        "challenge_source": "registry",
        "name_zh": f"中心 {centre_id}",
        "name_en": f"Centre {centre_id}",
        "operator": f"Operator of {centre_id}",
        "uscc": None,
        "jurisdiction": "CN-440100",
        "district": "Nansha",
        "tier": "city_dc",
        "domestic": None,
        "park": None,
        "facility": None,
        "envelope_sha256": sha(statement, "envelope"),
    }
    connection.execute(tables.statements.insert(), row | columns)
    connection.execute(tables.pool_lines.insert(), [_pool_line(statement, pool, level) for pool in pools])
    if steps := [line for pool in pools for line in _steps(statement, pool)]:
        connection.execute(tables.step_lines.insert(), steps)
        models = {pool.pool: {"vendor": pool.vendor, "model": pool.model} for pool in pools}
        lines = [{**line, **models[line["pool"]], "number": number} for number, line in enumerate(steps)]
        connection.execute(node_tables.model_step_lines.insert(), lines)
    inventory = [
        {"statement": statement, "number": number, "devices": pool.nodes * pool.devices, **_model(pool)}
        for number, pool in enumerate(pools)
    ]
    connection.execute(node_tables.inventory_lines.insert(), inventory)
    connection.execute(tables.vendor_lines.insert(), [_vendor_line(statement, pool) for pool in pools])
    connection.execute(tables.class_lines.insert(), _class_lines(statement, pools))
    connection.execute(missing_lines.insert(), _missing_lines(statement, pools))
    if level == "recomputed":
        recompute(connection, statement, pools, at=at, change=False)
    verified = {"statement": statement, "level": "trusted", "at": at, "records_sha256": None, "records_bytes": None}
    connection.execute(tables.verifications.insert(), verified)
    if before is None:
        new = {"centre_id": centre_id, "project_id": project_id, "statement": statement}
        connection.execute(tables.chains.insert(), new)
    else:
        connection.execute(update(tables.chains).where(chain).values(statement=statement))
    if change:
        add_change(connection, "statement", centre_id, project_id, statement, at=at)
    return statement


def _vendor_line(statement: str, pool: PoolOf) -> dict[str, Any]:
    names = ("devices", "certified_mflop_s", "sustained_mflop_s", "nominal_mflop_s")
    sums = {name: value for name, value in {**_sums(pool), **pool.more}.items() if name in names}
    return {"statement": statement, "pool": pool.pool, "vendor": pool.vendor, **sums}


def _sums(pool: PoolOf) -> dict[str, int]:
    whole: Counter[str] = Counter()
    for rates in node_rates(pool):
        whole.update(rates)
    return {name: whole[name] for name in _rates(0, 0)}


def _untested(pool: PoolOf) -> dict[str, int]:
    return {
        "on_accepted_hold_mflop_s": pool.on_hold_mflop_s,
        "never_scheduled_mflop_s": sum(rates["never_scheduled_mflop_s"] for rates in node_parts(pool)),
        **{name: sum(rates[name] for rates in node_parts(pool)) for name in _part("with_witness", 0, 0)},
        "with_witness_upper_mflop_s": sum(rates["with_witness_mflop_s"] for rates in node_parts(pool)),
        "with_witness_without_rating": 0,
        "untested_devices": pool.untested_devices + sum(r["with_witness_devices"] for r in node_parts(pool)),
        "untested_nominal_mflop_s": pool.untested_nominal_mflop_s
        + sum(r["with_witness_nominal_mflop_s"] for r in node_parts(pool)),
        "untested_without_rating": 0,
    }


def _pool_line(statement: str, pool: PoolOf, level: str) -> dict[str, Any]:
    precision, accumulate = COUNTED[pool.pool_class]
    return {
        "statement": statement,
        "pool": pool.pool,
        "pool_class": pool.pool_class,
        "precision": precision,
        "choice": "fixed",
        "accumulate": accumulate,
        "nodes_recorded": pool.nodes,
        **_sums(pool),
        **_untested(pool),
        **pool.more,
    }


def _class_lines(statement: str, pools: Sequence[PoolOf]) -> list[dict[str, Any]]:
    found: dict[str, Counter[str]] = {}
    for pool in pools:
        line = {**_sums(pool), **_untested(pool), "nodes_missing": pool.nodes_missing}
        found.setdefault(pool.pool_class, Counter()).update(line)
    names = (*_rates(0, 0), *_untested(PoolOf()), "nodes_missing")
    return [
        {"statement": statement, "pool_class": name, "precision": COUNTED[name][0], "choice": "fixed"}
        | {column: line[column] for column in names}
        for name, line in found.items()
    ]


def _missing_lines(statement: str, pools: Sequence[PoolOf]) -> list[dict[str, Any]]:
    """Return what missing nodes could add to each class: the sum over its pools, unless one is not known."""
    at_most: dict[str, int | None] = {}
    for pool in pools:
        before = at_most.get(pool.pool_class, 0)
        more = pool.missing_at_most_mflop_s if pool.nodes_missing else 0
        at_most[pool.pool_class] = None if before is None or more is None else before + more
    return [{"statement": statement, "pool_class": name, "at_most_mflop_s": most} for name, most in at_most.items()]


def recompute(
    connection: Connection,
    statement: str,
    pools: Sequence[PoolOf],
    *,
    at: str = T0,
    change: bool = True,
    records_sha256: str | None = None,
) -> None:
    """Store that the registry recomputed a statement, with what each node contributes."""
    known = tables.statements.c
    chain = select(known.centre_id, known.project_id).where(known.payload_sha256 == statement)
    centre_id, project_id = connection.execute(chain).one()
    row = {"statement": statement, "level": "recomputed", "at": at, "records_bytes": 1}
    connection.execute(
        tables.verifications.insert(), row | {"records_sha256": records_sha256 or sha(statement, "records")}
    )
    nodes = [
        {"statement": statement, "pool": pool.pool, "node_id": node_id, **rates}
        | {"keyid": of_node, "devices_sha256": devices(centre_id, node_id)}
        for pool in pools
        for node_id, of_node, rates in zip(
            node_ids(pool), _keyids(centre_id, pool), map(_merged, node_rates(pool), node_parts(pool)), strict=True
        )
    ]
    connection.execute(tables.node_lines.insert(), nodes)
    of_nodes = [
        {"statement": statement, "node_id": node_id, "number": 0, "devices": pool.devices, **_model(pool)}
        | _memory(pool, 1)
        for pool in pools
        for node_id in node_ids(pool)
    ]
    connection.execute(node_tables.node_models.insert(), of_nodes)
    per_node = ("devices_per_node", "devices_per_node_most")
    sums = [
        {"statement": statement, "number": number, "nodes": pool.nodes, "devices": pool.nodes * pool.devices}
        | {**dict.fromkeys(per_node, pool.devices), **_model(pool), **_memory(pool, pool.nodes)}
        for number, pool in enumerate(pools)
    ]
    connection.execute(node_tables.model_lines.insert(), sums)
    if change:
        add_change(connection, "verification", centre_id, project_id, statement, at=at)


def _model(pool: PoolOf) -> dict[str, Any]:
    return {"pool": pool.pool, "vendor": pool.vendor, "model": pool.model, "count_unit": "card"}


def _memory(pool: PoolOf, nodes: int) -> dict[str, Any]:
    unrated = pool.more.get("devices_without_rating", 0) // pool.nodes * nodes
    memory = dict.fromkeys(("memory_bytes", "memory_bytes_most"), pool.memory_bytes)
    return {**memory, "devices_without_rating": unrated}


def _keyids(centre_id: str, pool: PoolOf) -> Sequence[str]:
    return pool.keyids or [keyid(centre_id, node_id) for node_id in node_ids(pool)]


def _merged(rates: dict[str, int], parts: dict[str, int]) -> dict[str, int]:
    return {**rates, **parts}


def _steps(statement: str, pool: PoolOf) -> list[dict[str, Any]]:
    """Return the step lines of a pool: what is never scheduled stands on none, the rest on silicon."""
    never = sum(rates["never_scheduled_mflop_s"] for rates in node_parts(pool))
    devices = sum(rates["never_scheduled_devices"] for rates in node_parts(pool))
    found = {"silicon": (pool.nodes * pool.devices - devices, pool.certified_mflop_s - never), "none": (devices, never)}
    return [
        {"statement": statement, "pool": pool.pool, "step": step, "devices": count, "certified_mflop_s": certified}
        for step, (count, certified) in found.items()
        if count
    ]


def node_ids(pool: PoolOf) -> list[str]:
    """Return the names of a pool's nodes."""
    return [f"{pool.pool}-{i:04d}" for i in range(pool.nodes)]


def keyid(centre_id: str, node_id: str) -> str:
    """Return the id of a node's key."""
    return sha(centre_id, node_id, "key")


def devices(centre_id: str, node_id: str) -> str:
    """Return the digest of a node's devices."""
    return sha(centre_id, node_id, "devices")


def add_change(
    connection: Connection,
    kind: str,
    centre_id: str,
    project_id: str = "",
    statement: str | None = None,
    *,
    at: str,
    nodes: Sequence[str] = (),
) -> None:
    """Store that something of a chain changed, or of these nodes of it."""
    row = {"at": at, "kind": kind, "centre_id": centre_id, "project_id": project_id, "statement": statement}
    key = connection.execute(tables.changes.insert(), row).inserted_primary_key
    assert key is not None
    if nodes:
        connection.execute(
            node_tables.node_changes.insert(), [{"change": key[0], "node_id": node_id} for node_id in nodes]
        )


def add_act(
    connection: Connection, act: str, centre_id: str, pool: str = "main", *, project_id: str = "", at: str = T0
) -> None:
    """Store what the platform did with a pool."""
    row = {"at": at, "act": act, "centre_id": centre_id, "project_id": project_id, "pool": pool}
    connection.execute(tables.pool_transitions.insert(), row | {"reason": "as agreed", "token_id": 1})
    add_change(connection, "act", centre_id, project_id, at=at)


def manage(connection: Connection, centre_id: str, pool: str = "main", *, project_id: str = "", at: str = T0) -> None:
    """Register a pool and put it under management."""
    for act in ("register", "manage"):
        add_act(connection, act, centre_id, pool, project_id=project_id, at=at)


def add_witness(connection: Connection, statement: str, *, at: str, name: str = "witness") -> None:
    """Store that a witness vouches for a statement."""
    row = {"statement": statement, "keyid": sha(statement, name), "witnessed_at": at, "at": at}
    connection.execute(tables.witnesses.insert(), row)
    known = tables.statements.c
    chain = select(known.centre_id, known.project_id).where(known.payload_sha256 == statement)
    add_change(connection, "witness", *connection.execute(chain).one(), statement, at=at)


def add_end(connection: Connection, statement: str, *, at: str, effective_at: str) -> None:
    """Revoke a statement."""
    known = tables.statements.c
    chain = select(known.centre_id, known.project_id).where(known.payload_sha256 == statement)
    centre_id, project_id = connection.execute(chain).one()
    row = {"statement": statement, "at": at, "effective_at": effective_at, "code": "statement-revoked"}
    connection.execute(tables.revocations.insert(), row | {"reason": "withdrawn"})
    add_change(connection, "ending", centre_id, project_id, statement, at=at)


def beat(
    connection: Connection, centre_id: str, node_id: str, *, at: str, stale_after_s: int = 300, same: bool = True
) -> None:
    """Store that a node was heard of; a change is left where it goes on-line or off-line with that.

    Args:
        same: whether it has the devices that were certified.
    """
    found = tables.presence.c
    key = (found.centre_id == centre_id) & (found.node_id == node_id)
    before = connection.execute(select(found.seen_at, found.devices_sha256).where(key)).one_or_none()
    heard = before.seen_at if before is not None and (before.seen_at or at) <= skewed(at) else None
    # a clock that is set back a little makes nobody silent earlier; what lies further ahead is taken back
    seen_at = max(at, heard or at)
    # some reader, whose clock was ahead, may have told already that the node is silent
    nearly_silent = after(at, -0.9 * stale_after_s)
    row = {"nonce": "00", "seen_at": seen_at, "beats": 1, "heartbeat_sha256": None, "keyid": keyid(centre_id, node_id)}
    row["devices_sha256"] = devices(centre_id, node_id) if same else sha(node_id, "others")
    if before is None:
        connection.execute(tables.presence.insert(), row | {"centre_id": centre_id, "node_id": node_id})
    else:
        connection.execute(update(tables.presence).where(key).values(**row))
    if before is None or heard is None or heard <= nearly_silent or before.devices_sha256 != row["devices_sha256"]:
        add_change(connection, "presence", centre_id, at=at, nodes=[node_id])


def add_alarm(
    connection: Connection,
    statement: str,
    other: str | None,
    centre_id: str,
    other_centre_id: str | None,
    *,
    devices: int = 8,
    code: str = "device-claimed-twice",
    at: str = T0,
) -> None:
    """Store an alarm. It is no change: its own number tells followers of it."""
    row = {"at": at, "code": code, "payload_sha256": statement, "other_sha256": other, "devices": devices}
    row |= {"centre_id": centre_id, "other_centre_id": other_centre_id, "what": "names the same devices"}
    connection.execute(tables.alarms.insert(), row)


def add_external_id(
    connection: Connection,
    centre_id: str,
    value: str,
    *,
    project_id: str = "",
    pool: str | None = None,
    statement: str | None = None,
    at: str = T0,
) -> None:
    """Store an identifier that somebody else issued."""
    row = {"at": at, "scheme": "csmc", "value": value, "issued_by": "somebody", "centre_id": centre_id}
    connection.execute(
        tables.external_ids.insert(), row | {"project_id": project_id, "pool": pool, "statement": statement}
    )
    add_change(connection, "identifier", centre_id, project_id, at=at)


def open_store(url: str, folder: Any) -> Store:
    """Return a store with all tables."""
    from certify.registry.storage.migrations import migrate

    store = Store(f"sqlite:///{folder / 'registry.db'}" if url == "sqlite" else url, folder / "objects")
    migrate(store)
    return store
