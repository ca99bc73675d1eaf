"""What stands in a campaign's folder, read and checked once, and the engine and the plan that follow from it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from bench.errors import InputError, PetasealError, denied
from bench.record import Campaign, PoolClass, Profile, SharedFile, config_names, digest
from bench.record.configs import read_yaml
from bench.record.folder import Folder, check_belongs
from bench.record.roster import LeftOut, Roster, RosterNode, RosterPool

if TYPE_CHECKING:
    from bench.campaign.estimate import Kind


ReadCampaign = Callable[[Path], Campaign]  # reads a campaign that others may write to; nobody checks its signature here


NO_ENGINE = "none"  # the engine where somebody else starts the nodes


@dataclass(frozen=True)
class OpenCampaign:
    """A campaign's folder with everything in it that a command needs, read once and found to belong together.

    Args:
        folder: of the campaign.
        campaign: signed, from the folder.
        profile: that it names.
        roster: its nodes and pools.
        withheld: why nodes are named by their ids, where the roster may not be read; else None.
    """

    folder: Folder
    campaign: Campaign
    profile: Profile
    roster: Roster
    withheld: str | None = None

    @classmethod
    def at(cls, root: Path, read_campaign: ReadCampaign, public: bool = False) -> OpenCampaign:
        """Return the campaign of a folder.

        Args:
            root: the folder.
            read_campaign: reads the signed campaign.
            public: go on without the roster, which only its owner may read: nodes are then named by their ids.

        Raises:
            InputError: it is not the folder of a campaign, or something in it is damaged or cannot be read.
        """
        from bench.profile import load_profile

        folder, withheld = Folder(root.absolute()), None
        try:
            roster = folder.roster()
            campaign = read_campaign(folder.campaign)
        except OSError as error:  # the folder itself may not be entered
            what = f"cannot be read ({denied(folder.root, error)})"
            raise InputError("file-unreadable", what, where=folder.root) from None
        except InputError as error:
            if not public or error.code != "file-unreadable" or error.where != str(folder.roster_file):
                raise
            withheld = f"nodes are named by their ids: {error.what}"
            campaign = read_campaign(folder.campaign)
            roster = public_roster(folder, campaign)
        check_belongs(folder, roster, campaign)
        known = campaign.profile in config_names("profiles")
        profile = load_profile(campaign.profile if known else SharedFile(folder.profile))
        return cls(folder, campaign, profile, roster, withheld)


class _Pool(msgspec.Struct, frozen=True):
    pool: str
    pool_class: PoolClass = msgspec.field(name="class")


class _Centre(msgspec.Struct, frozen=True):
    """What a centre file says of its pools."""

    pools: tuple[_Pool, ...]


def public_roster(folder: Folder, campaign: Campaign) -> Roster:
    """Return the roster of a campaign as far as it follows from its public files."""
    centre = read_yaml(folder.centre, _Centre)
    classes = {pool.pool: pool.pool_class for pool in centre.pools}
    return Roster(
        campaign_sha256=digest(campaign),
        salt="",
        nodes=tuple(RosterNode(node.node_id, node.node_id, node.pool, None, node.also) for node in campaign.nodes),
        left_out=tuple(LeftOut(node.node_id, node.node_id, node.pool, node.reason) for node in campaign.left_out),
        pools=tuple(
            RosterPool(pool.pool, classes.get(pool.pool, "general"), pool.workloads[0], "", None, None, None, None)
            for pool in campaign.pools
        ),
        targets=(),
        heartbeat_ns=5 * 10**9,
    )


def kinds_here(roster: Roster) -> dict[str, Kind]:
    """Return what the devices of each pool are, of a campaign whose nodes are this machine."""
    from bench.campaign.estimate import kind_of
    from bench.devices import DeviceSurvey, survey_devices

    kinds, survey = {}, DeviceSurvey()
    for pool in roster.pools:
        with contextlib.suppress(PetasealError):  # what is wrong with them the launch says
            if devices := survey_devices(pool.device, survey)[0]:
                kinds[pool.pool] = kind_of(",".join(one.device.device for one in devices))
    return kinds
