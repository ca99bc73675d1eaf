"""Which campaign a process takes part in, and for which of its nodes."""

from __future__ import annotations

import os

import msgspec

from bench.errors import InputError
from bench.record import Campaign, Profile
from bench.record.folder import Folder, check_belongs
from bench.record.roster import Roster, RosterNode


class NodeTask(msgspec.Struct, frozen=True):
    """A node's part in a campaign: the signed plan, its profile, and its entry of the roster."""

    folder: Folder
    roster: Roster
    node: RosterNode
    campaign: Campaign
    profile: Profile


def part_of(folder: Folder, campaign: Campaign, profile: Profile, name: str | None) -> NodeTask:
    """Return this node's part in a campaign.

    Args:
        folder: of the campaign.
        campaign: signed, from the folder.
        profile: that it names.
        name: the engine's name of this node, or its id; None to take it from what the engine set.

    Raises:
        InputError: this node's name is not known, or the campaign does not expect it.
        RefusedError: the folder holds files of two campaigns.
    """
    roster = folder.roster()
    check_belongs(folder, roster, campaign)
    node_name = name or os.environ.get("PETASEAL_NODE") or os.environ.get("SLURMD_NODENAME")
    if not node_name:
        raise InputError(
            "node-unknown", "which node this is cannot be told", where="campaign join", fix="give it with --node"
        )
    return NodeTask(folder, roster, roster.node_named(node_name), campaign, profile)
