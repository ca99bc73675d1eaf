"""Which nodes of a centre take part in a campaign, under which ids, in which pool, and who is left out. Pure."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import combinations
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from bench.errors import InputError, one_line
from bench.record import PoolClass
from bench.record.roster import EngineNode, LeftOut, RosterNode, RosterPool
from bench.units import shortened_list
from certify.policy.centre import Pool, devices_meet
from certify.policy.hostlists import natural_key

Counted = Mapping[PoolClass, str]
Members = dict[str, str]  # node id -> the engine's name, of nodes that are left out too


class RosterOptions(NamedTuple):
    """What the operator's options say of pools and nodes, in addition to the centre file."""

    partitions: Mapping[str, str] = {}  # pool -> the engine's partition
    gres: Mapping[str, str] = {}  # pool -> accelerators of a node
    devices: Mapping[str, str] = {}  # pool -> as `petaseal run --device` takes it
    watts: Mapping[str, int] = {}  # pool -> rated power of one device
    exclude: Mapping[str, str] = {}  # engine's name or node id -> reason
    counts: Mapping[str, int] = {}  # pool -> devices of a node, where a file told them


class RosterEntries(NamedTuple):
    """The nodes that take part in a campaign, those that are left out, and the pools of both."""

    nodes: tuple[RosterNode, ...]
    left_out: tuple[LeftOut, ...]
    pools: tuple[RosterPool, ...]


def partitions_of(pools: Iterable[Pool], options: RosterOptions) -> dict[str, str | None]:
    """Return the engine's partition of each pool: the centre file's, else the operator's; None: any.

    Raises:
        InputError: `partition-differs`: the operator contradicts the centre file.
    """
    partitions = {}
    for pool in pools:
        wished = options.partitions.get(pool.pool)
        if pool.partition is not None and wished not in (None, pool.partition):
            what = f"says {wished} for the pool {pool.pool}, and the centre file {pool.partition}"
            raise InputError(
                "partition-differs", what, where="--partition", fix="leave it out, or mend the centre file"
            )
        partitions[pool.pool] = pool.partition or wished
    return partitions


def discovered(
    discover: Callable[[str, Sequence[str]], Sequence[EngineNode]],
    engine: str,
    pools: Iterable[Pool],
    options: RosterOptions,
) -> list[EngineNode]:
    """Return the engine's nodes of each partition that a pool takes its own from, and all where a pool names none.

    The engine returns each node once, so that it is asked for one partition after the other: a node that is in two is
    seen in both.

    Raises:
        InputError: the engine has no such partition or does not answer, or a code of `partitions_of`.
    """
    partitions = dict.fromkeys(partitions_of(pools, options).values())
    return [node for one in partitions for node in discover(engine, [] if one is None else [one])]


def compile_roster(
    pools: Sequence[Pool],
    engine_nodes: Sequence[EngineNode] | None,
    options: RosterOptions,
    salt: str,
    counted: Counted,
    spelled: Mapping[str, str] = MappingProxyType({}),
) -> RosterEntries:
    """Return who takes part in a campaign, in which pools, and who is left out, and why.

    A pool that names its nodes takes them by these names, which the statement will show; any other takes what the
    engine has in its partition, under ids from which no name can be guessed.

    Args:
        pools: of the centre file.
        engine_nodes: the engine's nodes, one in several partitions once for each; None where the centre file names all.
        options: the operator's.
        salt: that ids are drawn with.
        counted: what counts in each class.
        spelled: the names of listed nodes as the centre file spells them, by their ids.

    Raises:
        InputError: a pool, node or partition is unknown, a node is in two pools, or nobody is left.
    """
    _check_pools(pools, options)
    options = options._replace(exclude={name.lower(): reason for name, reason in options.exclude.items()})
    partitions = partitions_of(pools, options)
    nodes: dict[str, RosterNode] = {}  # by the engine's name
    left_out: dict[str, LeftOut] = {}
    of_pools: list[RosterPool] = []
    listed = {node_id for pool in pools if pool.nodes != "all" for node_id in pool.nodes}
    for pool in pools:
        seen = _in_partition(engine_nodes, partitions[pool.pool])
        members = _all(pool, seen, listed, salt) if pool.nodes == "all" else _listed(pool, seen, options, spelled)
        known = seen or {}
        taken = (name for node_id, name in members.items() if _excluded(node_id, name, options) is None)
        of_nodes = (known[name].gres for name in taken if name in known)
        entry = _pool(pool, partitions[pool.pool], of_nodes, options, counted)
        of_pools.append(entry)
        usual = None if pool.pool in options.gres else entry.gres
        for node_id, name in members.items():
            if name in nodes:  # it measures the devices of all its pools at once
                nodes[name] = msgspec.structs.replace(nodes[name], also=(*nodes[name].also, pool.pool))
            elif name not in left_out:
                node = known.get(name)
                if (reason := _reason(node_id, name, node, options, usual)) is None:
                    nodes[name] = RosterNode(node_id, name, pool.pool, node.group if node else None)
                else:
                    left_out[name] = LeftOut(node_id, name, pool.pool, reason)
    _check_split(pools, nodes.values(), partitions)
    entries = RosterEntries(tuple(nodes.values()), tuple(left_out.values()), tuple(of_pools))
    _check(entries, options, engine_nodes)
    return entries


def _check_pools(pools: Iterable[Pool], options: RosterOptions) -> None:
    """Refuse options of pools that the centre has not."""
    named = {pool.pool for pool in pools}
    of_pools: tuple[tuple[str, Iterable[str]], ...] = (
        ("--partition", options.partitions),
        ("--gres", options.gres),
        ("--device", options.devices),
        ("--device-watts", options.watts),
    )
    for option, pools_named in of_pools:
        for name in pools_named:
            if name not in named:
                fix = f"the centre has {', '.join(sorted(named))}"
                raise InputError("unknown-pool", f"the centre has no pool {name!r}", where=option, fix=fix)


def _in_partition(engine_nodes: Sequence[EngineNode] | None, partition: str | None) -> dict[str, EngineNode] | None:
    """Return the engine's nodes in a partition by their names, of any partition the first; None where nobody asked."""
    if engine_nodes is None:
        return None
    in_partition: dict[str, EngineNode] = {}
    for node in engine_nodes:
        if partition in (None, node.partition):
            in_partition.setdefault(node.name, node)
    return in_partition


def _listed(
    pool: Pool, known: Mapping[str, EngineNode] | None, options: RosterOptions, spelled: Mapping[str, str]
) -> Members:
    """Return the nodes that a pool lists. Their names and the engine's are the same in whatever case."""
    names: dict[str, str] = {}
    for name in known or ():
        if (other := names.setdefault(name.lower(), name)) != name:
            what = f"the engine has the nodes {other} and {name}, which differ in case only"
            raise InputError("node-twice", what, where=f"pool {pool.pool}", fix="take all nodes of a partition instead")
    missing = [] if known is None else [n for n in pool.nodes if n not in names and n not in options.exclude]
    if missing:
        what = f"names the node {spelled.get(missing[0], missing[0])}, which the engine does not have"
        fix = "mend the centre file, or --exclude it"
        raise InputError("node-unknown", what, where=f"pool {pool.pool}", fix=fix)
    return {node_id: names.get(node_id, spelled.get(node_id, node_id)) for node_id in pool.nodes}


def _all(pool: Pool, known: Mapping[str, EngineNode] | None, listed: Collection[str], salt: str) -> Members:
    """Return the nodes of a pool of all nodes, in their natural order; one that another pool lists has its id there."""
    if known is None:
        what = "takes all nodes, and nobody says which these are"
        fix = "say where they are known from, such as --nodes slurm, or list them in the centre file"
        raise InputError("nodes-unknown", what, where=f"pool {pool.pool}", fix=fix)
    if not known:
        fix = "give its partition with --partition, or list its nodes in the centre file"
        raise InputError("no-nodes", "the engine has no node for it", where=f"pool {pool.pool}", fix=fix)
    return {
        name.lower() if name.lower() in listed else node_id_of(name, salt): name
        for name in sorted(known, key=lambda name: (natural_key(name), name))
    }


def _pool(
    pool: Pool, partition: str | None, gres_of_nodes: Iterable[str | None], options: RosterOptions, counted: Counted
) -> RosterPool:
    """Return a pool as the engine needs it."""
    device = options.devices.get(pool.pool) or ("all" if pool.devices == "all" else ",".join(pool.devices))
    gres = options.gres.get(pool.pool) or _usual(gres_of_nodes)
    watts = options.watts.get(pool.pool)
    return RosterPool(
        pool=pool.pool,
        pool_class=pool.pool_class,
        workload=counted[pool.pool_class],
        device=device,
        partition=partition,
        gres=gres,
        devices_per_node=_devices(device, gres) or options.counts.get(pool.pool),
        power_mw=None if watts is None else watts * 1000,
    )


def _check_split(pools: Iterable[Pool], nodes: Iterable[RosterNode], partitions: Mapping[str, str | None]) -> None:
    """Refuse nodes in two pools that share devices: partitions were to tell these pools apart."""
    by_name = {pool.pool: pool for pool in pools}
    twice: dict[tuple[str, str], list[str]] = {}
    for node in nodes:
        for pair in combinations((node.pool, *node.also), 2):
            twice.setdefault(pair, []).append(node.name)
    for (one, two), names in twice.items():
        # A node may be in two pools as long as each counts other devices of it.
        if devices_meet(by_name[one], by_name[two]):
            both = f"the partitions {partitions[one]} and {partitions[two]}"
            what = f"{shortened_list(names)} in {both} would count in both pools"
            fix = "leave such nodes out with --exclude, or list the nodes of the pools in the centre file"
            raise InputError("node-in-two-pools", what, where=f"pools {one} and {two}", fix=fix)


def node_id_of(name: str, salt: str) -> str:
    """Return the id under which a node stands in signed documents: the engine's name does not follow from it."""
    return "node-" + hashlib.sha256(f"petaseal/engine-node/v1\0{salt}\0{name}".encode()).hexdigest()[:16]


def _usual(gres: Iterable[str | None]) -> str | None:
    """Return what most nodes of a pool have, None where most have none: one odd node must not leave out the others."""
    # Of two that are as frequent the one with accelerators is meant: a node without any is the odd one.
    counts = Counter(gres)
    return max(counts, key=lambda text: (counts[text], text is not None), default=None)


def _excluded(node_id: str, name: str, options: RosterOptions) -> str | None:
    return options.exclude.get(name.lower(), options.exclude.get(node_id))


def _reason(node_id: str, name: str, node: EngineNode | None, options: RosterOptions, usual: str | None) -> str | None:
    """Return why a node is left out, None where it is not."""
    if (excluded := _excluded(node_id, name, options)) is not None:
        return _signable(excluded)
    if node is None:
        return None
    if node.problem is not None:
        return _signable(node.problem)
    if usual is not None and node.gres != usual:
        return _signable(f"has {node.gres or 'no accelerators'}, and most of its pool {usual}")
    return None


def _signable(text: str) -> str:
    """Return what somebody typed into an engine as the text of a document: one line, printable and short."""
    return unicodedata.normalize("NFC", one_line(text, 200)) or "without a reason"


def _devices(device: str, gres: str | None) -> int | None:
    """Return how many devices a node of a pool has, where that is known beforehand."""
    if device == "all":
        count = (gres or "").rpartition(":")[2]
        return int(count) if count.isdigit() else None
    parts = [part.strip() for part in device.split(",")]
    if len(parts) == 1 and parts[0].startswith("fake"):
        count = parts[0].partition(":")[2]
        return int(count) if count.isdigit() else 1
    return len(parts)


def _check(entries: RosterEntries, options: RosterOptions, engine_nodes: Sequence[EngineNode] | None) -> None:
    everybody = [(n.node_id, n.name) for n in entries.nodes] + [(n.node_id, n.name) for n in entries.left_out]
    ids = [node_id for node_id, _ in everybody]
    known = {*ids, *(name.lower() for _, name in everybody), *(node.name.lower() for node in engine_nodes or ())}
    for excluded in options.exclude:
        if excluded not in known:
            raise InputError("node-unknown", f"there is no node {excluded!r}", where="--exclude")
    if len(set(ids)) != len(ids):
        raise InputError(
            "node-twice", "two nodes of the centre have one id", where="campaign create", fix="create it again"
        )
    if not entries.nodes:
        why = "".join(f": {node.name} {node.reason}" for node in entries.left_out[:1])
        raise InputError("no-nodes", f"no node is left to measure{why}", where="campaign create")
