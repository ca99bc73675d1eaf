"""Who reduces with whom, how much, and through what: pure, from the list of ranks that all of them read alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from bench.record.network import FLOP_PER_TOKEN, ITEM_BYTES, NetworkRunName

# By torch's type of device, its back end that reduces in the device's memory; any other type reduces in the host's.
BACKENDS = {
    "cuda": "nccl",  # NVIDIA; vendors whose torch calls their devices so put their own library in its place
    "npu": "hccl",
    "mlu": "cncl",
    "musa": "mccl",
    "xpu": "xccl",
}
HOST_BACKEND = "gloo"
LEAST_BYTES = 1024


class Member(msgspec.Struct, frozen=True):
    """A device that takes part, as it reports itself to the ranks of its group."""

    node: int  # the node's place in the campaign
    place: int  # the device's place in its record
    node_id: str
    device: str
    backend: str
    launch_flop: int
    launches: int  # that it would compute between two reductions

    @property
    def name(self) -> str:
        """What messages call it, such as node-1 cuda:0."""
        return f"{self.node_id} {self.device}"

    @property
    def index(self) -> int:
        """Its index on the node, by which the devices of a rail are joined."""
        return int(self.device.partition(":")[2])


def backend_for(target: str) -> str:
    """Return what reduces in the memory of a device.

    Args:
        target: torch's name of it, such as "cuda:0"; of a device that torch does not know, any other.
    """
    return BACKENDS.get(target.partition(":")[0], HOST_BACKEND)


def in_order(members: Iterable[Member]) -> tuple[Member, ...]:
    """Return members by their ranks: nodes in the campaign's order, and the devices of each in its record's."""
    return tuple(sorted(members, key=lambda one: (one.node, one.place)))


def common_backend(members: Sequence[Member]) -> str:
    """Return what reduces for all members: their own where they have one in common, else the hosts' memory."""
    names = {one.backend for one in members}
    return names.pop() if len(names) == 1 else HOST_BACKEND


def agreed_launches(members: Sequence[Member], rank: int) -> int:
    """Return how many products a rank computes between two reductions: devices of equal products as many."""
    one = members[rank]
    return max(other.launches for other in members if other.launch_flop == one.launch_flop)


def together(members: Sequence[Member], rank: int, run: NetworkRunName, rails: bool) -> tuple[int, ...]:
    """Return the ranks that a rank reduces with in a run, itself among them."""
    one = members[rank]
    if run == "compute":
        return (rank,)
    if run == "node":
        return tuple(r for r, other in enumerate(members) if other.node == one.node)
    return tuple(r for r, other in enumerate(members) if not rails or other.index == one.index)


def reduced_bytes(members: Sequence[Member], tokens: int) -> int:
    """Return what each device contributes to a reduction: 2 bytes for each 6 T FLOP of a block, at least 1,024.

    Devices that compute blocks of different work reduce what the largest of them asks for: all contribute alike.
    """
    most = max(one.launches * one.launch_flop for one in members)
    items = -(-most // (FLOP_PER_TOKEN * tokens * ITEM_BYTES))
    return max(items * ITEM_BYTES, LEAST_BYTES)
