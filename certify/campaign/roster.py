"""Which nodes of a centre take part in a campaign, under which ids, in which pool, and who is left out. Pure."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

from bench.errors import InputError, one_line
from bench.record import PoolClass
from bench.record.folder import LeftOut, RosterNode, RosterPool
from certify.policy.centre import Pool

Counted = Mapping[PoolClass, str]


class EngineNode(Protocol):
    """A node as the engine knows it (`bench.launchers.base.EngineNode`)."""

    @property
    def name(self) -> str:
        """The engine's own name."""
        ...

    @property
    def partition(self) -> str | None:
        """The engine's partition."""
        ...

    @property
    def gres(self) -> str | None:
        """Its accelerators as the engine asks for them."""
        ...

    @property
    def group(self) -> str | None:
        """Switch or rack."""
        ...

    @property
    def problem(self) -> str | None:
        """Why it cannot take part."""
        ...


class Wishes(NamedTuple):
    """What the operator says of pools and nodes beside the centre file."""

    partitions: Mapping[str, str] = {}  # pool -> the engine's partition
    gres: Mapping[str, str] = {}  # pool -> accelerators of a node
    devices: Mapping[str, str] = {}  # pool -> as `petaseal run --device` takes it
    watts: Mapping[str, int] = {}  # pool -> rated power of one device
    exclude: Mapping[str, str] = {}  # engine's name or node id -> reason
    counts: Mapping[str, int] = {}  # pool -> devices of a node, where a file told them


class Enlisted(NamedTuple):
    """Who takes part."""

    nodes: tuple[RosterNode, ...]
    left_out: tuple[LeftOut, ...]
    pools: tuple[RosterPool, ...]
    shared: frozenset[tuple[str, str]] = frozenset()  # a pool, and a later one with devices on nodes of it


def enlist(
    pools: Sequence[Pool], found: Sequence[EngineNode] | None, wishes: Wishes, salt: str, counted: Counted
) -> Enlisted:
    """Return who takes part in a campaign, in which pool, and who is left out, and why.

    A pool that names its nodes takes them by these names, which the statement will show; any other takes what the
    engine has in its partition, under ids that nobody can guess a name from.

    Raises:
        InputError: a pool, node or partition is unknown, or nobody is left.
    """
    named = {pool.pool for pool in pools}
    of_pools: tuple[tuple[str, Iterable[str]], ...] = (
        ("--partition", wishes.partitions),
        ("--gres", wishes.gres),
        ("--device", wishes.devices),
        ("--device-watts", wishes.watts),
    )
    for option, wish in of_pools:
        for name in wish:
            if name not in named:
                fix = f"the centre has {', '.join(sorted(named))}"
                raise InputError("unknown-pool", f"the centre has no pool {name!r}", where=option, fix=fix)
    known = {node.name: node for node in found or ()}
    nodes: list[RosterNode] = []
    left_out: list[LeftOut] = []
    listed: list[RosterPool] = []
    shared: set[tuple[str, str]] = set()
    for pool in pools:
        members = _members(pool, found, known, wishes, salt)
        if not members:
            fix = "give its partition with --partition, or list its nodes in the centre file"
            raise InputError("no-nodes", "the engine has no node for it", where=f"pool {pool.pool}", fix=fix)
        device = wishes.devices.get(pool.pool) or ("all" if pool.devices == "all" else ",".join(pool.devices))
        shared |= {(node.pool, pool.pool) for node in nodes if node.name in set(members.values())}
        members = _not_shared(members, device, nodes, left_out)
        gres = wishes.gres.get(pool.pool) or _usual(known[name].gres for name in members.values() if name in known)
        for node_id, name in members.items():
            reason = _reason(node_id, name, known.get(name), wishes, None if pool.pool in wishes.gres else gres)
            if reason is None:
                group = known[name].group if name in known else None
                nodes.append(RosterNode(node_id, name, pool.pool, group))
            else:
                left_out.append(LeftOut(node_id, name, pool.pool, reason))
        watts = wishes.watts.get(pool.pool)
        listed.append(
            RosterPool(
                pool=pool.pool,
                pool_class=pool.pool_class,
                workload=counted[pool.pool_class],
                device=device,
                partition=wishes.partitions.get(pool.pool),
                gres=gres,
                devices_per_node=_devices(device, gres) or wishes.counts.get(pool.pool),
                power_mw=None if watts is None else watts * 1000,
            )
        )
    _check(nodes, left_out, wishes, known)
    return Enlisted(tuple(nodes), tuple(left_out), tuple(listed), frozenset(shared))


def _not_shared(
    members: dict[str, str], device: str, nodes: list[RosterNode], left_out: Sequence[LeftOut]
) -> dict[str, str]:
    """Return the members that no pool before has; a node that one has measures the devices of both, all at once."""
    places = {node.name: place for place, node in enumerate(nodes)}
    for name in members.values():
        if (place := places.get(name)) is not None:
            node = nodes[place]
            nodes[place] = msgspec.structs.replace(node, also=device if node.also is None else f"{node.also},{device}")
    known = places.keys() | {node.name for node in left_out}
    return {node_id: name for node_id, name in members.items() if name not in known}


def _members(
    pool: Pool, found: Sequence[EngineNode] | None, known: Mapping[str, EngineNode], wishes: Wishes, salt: str
) -> dict[str, str]:
    """Return a pool's nodes, those that are left out among them: id -> the engine's name."""
    if pool.nodes != "all":
        if found is not None and (unknown := [n for n in pool.nodes if n not in known and n not in wishes.exclude]):
            what = f"names the node {unknown[0]}, which the engine does not have"
            raise InputError(
                "node-unknown", what, where=f"pool {pool.pool}", fix="mend the centre file, or --exclude it"
            )
        return {name: name for name in pool.nodes}
    if found is None:
        what = "takes all nodes, and nobody says which these are"
        fix = "say where they are known from, such as --nodes slurm, or list them in the centre file"
        raise InputError("nodes-unknown", what, where=f"pool {pool.pool}", fix=fix)
    partition = wishes.partitions.get(pool.pool)
    own = [node for node in found if partition in (None, node.partition)]
    return {
        node_id_of(node.name, salt): node.name
        for node in sorted(own, key=lambda node: (_natural(node.name), node.name))
    }


def node_id_of(name: str, salt: str) -> str:
    """Return the id under which a node stands in signed documents: the engine's name does not follow from it."""
    return "node-" + hashlib.sha256(f"petaseal/engine-node/v1\0{salt}\0{name}".encode()).hexdigest()[:16]


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]+)", name) if part]


def _usual(gres: Iterable[str | None]) -> str | None:
    counts = Counter(text for text in gres if text)
    return counts.most_common(1)[0][0] if counts else None


def _reason(node_id: str, name: str, node: EngineNode | None, wishes: Wishes, usual: str | None) -> str | None:
    """Return why a node is left out, None where it is not."""
    for key in (name, node_id):
        if key in wishes.exclude:
            return _signable(wishes.exclude[key])
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


def _check(
    nodes: Sequence[RosterNode], left_out: Sequence[LeftOut], wishes: Wishes, known: Mapping[str, EngineNode]
) -> None:
    ids = [node.node_id for node in nodes] + [node.node_id for node in left_out]
    names = {node.name for node in nodes} | {node.name for node in left_out} | set(ids)
    for excluded in wishes.exclude:
        if excluded not in names and excluded not in known:
            raise InputError("node-unknown", f"there is no node {excluded!r}", where="--exclude")
    if len(set(ids)) != len(ids):
        raise InputError(
            "node-twice", "two nodes of the centre have one id", where="campaign create", fix="create it again"
        )
    if not nodes:
        why = f": {left_out[0].name} {left_out[0].reason}" if left_out else ""
        raise InputError("no-nodes", f"no node is left to measure{why}", where="campaign create")
