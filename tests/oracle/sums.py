"""The sums of an audit against those of the statement: pools, classes, findings, grade, the tree of records."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from msgspec import structs

from bench.record import GRADES, digest
from certify.documents.merkle import record_root
from certify.documents.statement import Totals
from certify.policy.centre import CLASSES, Pool
from tests.oracle.ground import GROUND_CODES, Added, Ground, Group, Part
from tests.oracle.judging import CODES

FAILED = frozenset({"no-pool", "untested"})  # and the codes of failures, which the records name


def added(part: Part, wanted: Callable[[Group], bool]) -> Added:
    """Return the sum over the groups that are wanted."""
    whole = Added()
    for group, value in part.sums.items():
        if wanted(group):
            whole.add(value)
    return whole


def holds_not_split(ground: Ground) -> list[str]:
    """Return the accepted holds that a statement has and an audit does not recompute."""
    found = {finding.code for finding in ground.statement.findings}
    return sorted(code for code in ground.accept - CODES if code in found)


def binding(ground: Ground) -> Iterator[tuple[str, str, str]]:
    """Yield (code, where, what) of a campaign or centre that is not the bound one, and of keys that nodes share."""
    s = ground.statement
    if digest(s.campaign) != s.campaign_sha256 or digest(s.centre) != s.centre_sha256:
        yield "campaign-differs", "the statement", "binds another campaign or centre than it holds"
    shared: dict[str, list[str]] = {}
    for node in s.campaign.nodes:
        if node.keyid is not None:
            shared.setdefault(node.keyid, []).append(node.node_id)
    for keyid, nodes in shared.items():
        if len(nodes) > 1:
            what = f"the campaign enrols key {keyid[:16]}… for {len(nodes)} nodes, {nodes[1]} among them"
            yield "campaign-invalid", nodes[0], what


def compare(part: Part, ground: Ground) -> Iterator[tuple[str, str, str]]:
    """Yield (code, where, what) of everything in which a statement differs from the sums of its records."""
    s = ground.statement
    digests = sorted(part.digests)
    if len(digests) != s.records:
        yield "records-count", "the records", f"the statement counts {s.records}, and there are {len(digests)}"
    elif len(set(digests)) < len(digests) or record_root(digests) != s.records_root:
        yield "records-root", "the records", "the statement binds others: the Merkle root differs"
    for pool in s.pools:
        where = f"pool {pool.pool}"
        facts = (pool.nodes_recorded, pool.devices_found, pool.untested.devices, pool.untested.nominal_mflop_s)
        rest = added(part, lambda g, name=pool.pool: g.pool == name and not g.counted)  # type: ignore[misc]
        made = (part.nodes_in[pool.pool], part.found[pool.pool], rest.devices, rest.nominal_mflop_s)
        for name, told, mine in zip(
            ("nodes", "devices", "untested devices", "their nominal"), facts, made, strict=True
        ):
            if told != mine:
                yield "sums-differ", where, f"{name}: the statement says {told:,}, its records give {mine:,}"
        yield from _totals(where, pool.counted, pool.in_baseline, part, ground, {pool.pool})
    for line in s.classes:
        names = {pool.pool for pool in s.centre.pools if pool.pool_class == line.pool_class}
        yield from _totals(f"class {line.pool_class}", line.counted, line.in_baseline, part, ground, names)
        told_missing = line.nodes_missing, line.missing_at_most_mflop_s
        made_missing = len(nodes_missing(ground, part, names)), missing_most(ground, part, names)
        if told_missing != made_missing:
            what = f"the statement says {told_missing}, its records give {made_missing}"
            yield "sums-differ", f"class {line.pool_class}", f"nodes missing, and what they could add: {what}"
    if [line.pool_class for line in s.classes] != [
        name for name in CLASSES if any(pool.pool_class == name for pool in s.centre.pools)
    ] or [pool.pool for pool in s.pools] != [pool.pool for pool in s.centre.pools]:
        yield "sums-differ", "the classes", "are not those of the centre's pools"
    told_of = {(v.pool, v.vendor): [*structs.asdict(v).values()][2:] for v in s.vendors}
    made_of = {
        key: [one.devices, one.certified_mflop_s, one.sustained_mflop_s, one.nominal_mflop_s]
        for key, one in part.vendors.items()
    }
    if told_of != made_of:
        yield "sums-differ", "the vendors", f"the statement says {told_of}, its records add up to {made_of}"
    yield from _bookkeeping(part, ground)
    yield from _findings(part, ground)


def _totals(
    where: str, counted: Totals, existing: Totals, part: Part, ground: Ground, pools: set[str]
) -> Iterator[tuple[str, str, str]]:
    whole = added(part, lambda g: g.pool in pools and g.counted)
    held = added(part, lambda g: g.pool in pools and g.counted and g.on_hold)
    old = added(part, lambda g: g.pool in pools and g.counted and g.existing)
    told = [(name, getattr(counted, name), value) for name, value in totals(whole).items()]
    if not holds_not_split(ground):
        told.append(("on accepted holds", counted.on_accepted_hold_mflop_s, held.certified_mflop_s))
    if ground.existing is not None:
        told += [(f"existing {name}", getattr(existing, name), value) for name, value in totals(old).items()]
    for name, stated, made in told:
        if stated != made:
            yield "sums-differ", where, f"{name}: the statement says {stated}, its records add up to {made}"


def totals(whole: Added) -> dict[str, int | None]:
    """Return a sum under the names that a statement gives it."""
    return {
        "devices": whole.devices,
        "certified_mflop_s": whole.certified_mflop_s,
        "sustained_mflop_s": whole.sustained_mflop_s,
        "upper_mflop_s": None if whole.unbounded else whole.upper_mflop_s,
        "nominal_mflop_s": whole.nominal_mflop_s,
        "devices_without_rating": whole.without_rating,
    }


def _bookkeeping(part: Part, ground: Ground) -> Iterator[tuple[str, str, str]]:
    s = ground.statement
    whole = added(part, lambda g: g.counted)
    names = {pool.pool for pool in s.centre.pools if pool.pool_class == "intelligent"}
    part_of = added(part, lambda g: g.counted and g.pool in names).certified_mflop_s
    share = part_of * 10**6 // whole.certified_mflop_s if whole.certified_mflop_s else None
    grade = min(part.grades, key=GRADES.index, default=None)
    for name, told, made in (
        ("certified", s.bookkeeping.certified_mflop_s, whole.certified_mflop_s),
        ("sustained", s.bookkeeping.sustained_mflop_s, whole.sustained_mflop_s),
        ("nominal", s.bookkeeping.nominal_mflop_s, whole.nominal_mflop_s),
        ("share of intelligent", s.bookkeeping.intelligent_share_ppm, share),
        ("grade", s.grade, grade),
        ("simulated", s.simulated, part.simulated),
    ):
        if told != made:
            yield "sums-differ", "the whole", f"{name}: the statement says {told}, its records give {made}"


def _findings(part: Part, ground: Ground) -> Iterator[tuple[str, str, str]]:
    told = {(f.code, f.workload): f.devices for f in ground.statement.findings}
    failed = {code for code, _ in part.findings} | FAILED
    for code, workload in sorted({key for key in told if key[0] in CODES | GROUND_CODES | failed} | set(part.findings)):
        stated, made = told.get((code, workload), 0), part.findings[code, workload]
        if stated != made:
            what = f"the statement finds {code} on {stated} device(s), and its records on {made}"
            yield "findings-differ", f"workload {workload}", what


def nodes_missing(ground: Ground, part: Part, pools: set[str]) -> set[str]:
    """Return the expected nodes without a record of a device in some pools, or left out, that may have some there."""
    bare = {node for pool in pools for node in part.bare.get(pool, ())}
    return bare | _without_record(ground, part, pools)


def _without_record(ground: Ground, part: Part, pools: set[str]) -> set[str]:
    s = ground.statement
    there = set(part.nodes)
    missing = {node.node_id: {node.pool, *node.also} for node in s.campaign.nodes if node.node_id not in there}
    missing |= {node.node_id: {node.pool} for node in s.campaign.left_out}
    return {node for node, placed in missing.items() if pools & _possible(node, placed, s.centre.pools)}


def _possible(node: str, placed: set[str], pools: tuple[Pool, ...]) -> set[str]:
    """Return the pools that may have devices on a node that a campaign placed in some of them."""
    taking = {p.pool: p.devices for p in pools if isinstance(p.nodes, str) or node in p.nodes}
    home = placed & taking.keys()
    if not home:
        return set(taking) or {p.pool for p in pools}
    claimed = [taking[name] for name in home]
    free = {
        name
        for name, devices in taking.items()
        if not isinstance(devices, str) and all(not isinstance(c, str) and not {*c} & {*devices} for c in claimed)
    }
    return home | free


def missing_most(ground: Ground, part: Part, pools: set[str], basis: str | None = None) -> int | None:
    """Return what those nodes could at most add, each as much as the largest node of its pool; None: nobody knows."""
    whole = 0
    for pool in pools:
        if not (nodes := nodes_missing(ground, part, {pool})):
            continue
        machines = part.machines.get(pool, [])
        devices = [device for machine in machines for device in machine]
        if not devices or (None, None) in devices or (basis == "nominal" and any(n is None for _, n in devices)):
            return None
        largest = max(sum(max(upper or 0, nominal or 0) for upper, nominal in machine) for machine in machines)
        whole += len(nodes) * largest
    return whole if whole < 2**53 else None
