"""The roster of a campaign: its nodes by the names that its engine knows, its pools and what they are asked for.

It stays in the centre's folder and is never signed: names of machines go into no published document.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple

import msgspec

from bench.errors import InputError
from bench.record.fields import PoolClass


class EngineNode(NamedTuple):
    """A node as the centre's engine knows it."""

    name: str  # the engine's own name: it stays at the centre and never stands in a signed document
    partition: str | None
    gres: str | None  # its accelerators as the engine asks for them, such as "gpu:8"
    group: str | None  # switch or rack, where the engine knows it
    problem: str | None  # why it cannot take part, such as "drained: bad DIMM" or "down"; None where it can
    reservation: str | None = None  # the reservation through which alone it can be used at present, if it is reserved


class RosterNode(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An expected node, and the engine's name for it, which stands in no signed document."""

    node_id: str
    name: str
    pool: str
    group: str | None  # switch or rack, where the engine knows it
    also: tuple[str, ...] = ()  # other pools with devices on it, where a machine is split by device

    @property
    def pools(self) -> tuple[str, ...]:
        """All pools with devices on it, its own first."""
        return (self.pool, *self.also)


class LeftOut(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A node that the campaign leaves out, and why."""

    node_id: str
    name: str
    pool: str
    reason: str


class RosterPool(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A pool as the engine needs it, and what counts in it."""

    pool: str
    pool_class: PoolClass
    workload: str  # that counts, such as fp16
    device: str  # as `petaseal run --device` takes it
    partition: str | None
    gres: str | None
    # What the ratings say of one node's accelerators, for estimates; null where they cannot be known beforehand.
    devices_per_node: int | None
    power_mw: int | None  # of one device


class ThresholdTarget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A threshold that the campaign's sum is shown against."""

    name: str  # policy/condition
    classes: tuple[PoolClass, ...]
    value_mflop_s: int


def _known(joined: Callable[[list[int]], int], values: Collection[int | None]) -> int | None:
    """Return what values give together, where all are known."""
    known = [value for value in values if value is not None]
    return joined(known) if len(known) == len(values) else None


class Roster(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the centre keeps to itself about a campaign: its nodes' names, and how its engine is asked for them."""

    campaign_sha256: str
    salt: str  # node ids are drawn with it, so that names cannot be guessed from them
    nodes: tuple[RosterNode, ...]
    left_out: tuple[LeftOut, ...]
    pools: tuple[RosterPool, ...]
    targets: tuple[ThresholdTarget, ...]
    heartbeat_ns: int  # from one sign of life to the next
    engine: str | None = None  # that the nodes were taken from, and that launches where nothing else is said

    def pool_of(self, node: RosterNode) -> RosterPool:
        """Return a node's pool; of a mixed node with the devices of its other pools, since it measures all at once."""
        pools = {pool.pool: pool for pool in self.pools}
        parts: dict[str, RosterPool] = {}
        for name in node.pools:
            parts.setdefault(pools[name].device, pools[name])
        counts, powers = [part.devices_per_node for part in parts.values()], [part.power_mw for part in parts.values()]
        return msgspec.structs.replace(
            pools[node.pool], device=",".join(parts), devices_per_node=_known(sum, counts), power_mw=_known(max, powers)
        )

    def node_named(self, name: str) -> RosterNode:
        """Return a node by the engine's name for it, or by its id.

        Raises:
            InputError: `node-not-expected`.
        """
        for wanted in (name, name.lower()):  # a node whose centre file spells it otherwise than its engine
            for node in self.nodes:
                if wanted in (node.name, node.node_id):
                    return node
        known = f"knows {len(self.nodes)} nodes, such as {self.nodes[0].name}" if self.nodes else "knows no node"
        raise InputError(
            "node-not-expected", f"there is no node {name!r} in the campaign, which {known}", where="--node"
        )
