"""Where a device counts: in the pool that the signed campaign placed it in, which the centre file must allow.

The one place that says so (ADR 26). Where the two disagree about a device of a record, the record is refused.
"""

from __future__ import annotations

from typing import NamedTuple

from bench.record import Campaign
from certify.policy.centre import Centre, Pool


class Places(NamedTuple):
    """The pools of a centre's devices, as its campaign placed its nodes."""

    centre: Centre
    campaign: Campaign

    def pool_of(self, node_id: str, device: str) -> Pool | None:
        """Return the one pool that a device counts in, or None; by the centre file where the node made the campaign."""
        # a node's own campaign may name any pool: the centre file alone says where the node counts
        if self.campaign.self_issued:
            return next(iter(self.centre.pools_for(node_id, device)), None)
        return self.centre.by_name.get(self.campaign.pool_of(node_id, device) or "")

    def problem(self, node_id: str, device: str) -> tuple[str, str] | None:
        """Return the code and what a record does where campaign and centre file do not agree on a device, or None."""
        allowed = self.centre.pools_for(node_id, device)
        if self.campaign.self_issued:
            if len(allowed) < 2:
                return None
            names = " and ".join(pool.pool for pool in allowed)
            what = f"holds {device}, which the pools {names} of the centre file both take: list their nodes there"
            return "node-in-two-pools", what
        pool = self.campaign.pool_of(node_id, device)
        for one in allowed:  # not any(): this is asked of every device of a centre
            if one.pool == pool:
                return None
        if pool is None and all(one.partition for one in allowed):
            return None  # what is in no partition that a pool takes counts in none
        named = "no pool" if pool is None else f"the pool {pool}"
        other = f"the pool {allowed[0].pool}" if allowed else "no pool"
        return "pool-differs", f"holds {device}, which the campaign has in {named}, and the centre file in {other}"


def split_problem(campaign: Campaign, centre: Centre) -> str | None:
    """Return where a campaign's pools and nodes are not those of the centre file, or None."""
    for given in campaign.pools:
        pool = centre.by_name.get(given.pool)
        if pool is None:
            return f"the campaign names the pool {given.pool}, which the centre has not"
        if given.devices != pool.devices:
            named, wanted = (
                text if isinstance(text, str) else ", ".join(text) for text in (given.devices, pool.devices)
            )
            return f"the campaign has the devices {named} in the pool {given.pool}, and the centre file {wanted}"
    for node in campaign.nodes:
        taking = {pool.pool: pool for pool in centre.pools_of(node.node_id)}
        for name in node.pools:
            if name not in taking:
                other = f"in {', '.join(taking)}" if taking else "in no pool"
                return f"the campaign has the node {node.node_id} in the pool {name}, and the centre file {other}"
    return None
