"""When each workload is measured: a self-issued campaign's windows, and a campaign's as one device sees them (R10).

Pure, with the time passed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import msgspec

from bench.collective.orders import Rendezvous
from bench.errors import InputError, RefusedError
from bench.record import Campaign, ExpectedNode, ExpectedPool, Profile, Window, Workload, digest
from bench.record.campaign import LEAD_NS, windows
from bench.record.shapes import ChosenShape, SettledShape
from bench.units import utc_ns, utc_text

SELF_POOL = "self"


class UtcWindow(msgspec.Struct, frozen=True):
    """A campaign's window of one workload as one device sees it: its own ramp slot included. UTC, ns."""

    load_ns: int
    opens_ns: int
    closes_ns: int
    stops_ns: int
    preheats_ns: int | None = None  # when it may load already before its ramp slot


class CampaignStart(Protocol):
    """What all nodes of a campaign agree on: one shape for each model, and T0 once all are ready."""

    def known_ns(self) -> int | None:
        """Return T0, UTC ns, where it is agreed already."""

    def settle(self, chosen: tuple[ChosenShape, ...]) -> tuple[SettledShape, ...]:
        """Report which shapes this node's devices chose, wait, and return those that are settled."""

    def wait_ns(self, devices: int) -> int:
        """Report that so many devices of this node are ready, wait, and return T0, UTC ns."""

    def meet(self, group: str | None, offered: Rendezvous | None) -> Rendezvous | None:
        """Return where the ranks of a group meet: what this node offers, where none has offered before; or None."""


class FixedStart(NamedTuple):
    """A T0 that was agreed before the workers are ready."""

    at_ns: int

    def known_ns(self) -> int | None:
        return self.at_ns

    def settle(self, chosen: tuple[ChosenShape, ...]) -> tuple[SettledShape, ...]:
        return ()  # there is no coordinator: devices keep their own choice

    def wait_ns(self, devices: int) -> int:
        return self.at_ns

    def meet(self, group: str | None, offered: Rendezvous | None) -> Rendezvous | None:
        return offered  # there is no other node


def self_issued(profile: Profile, workloads: Sequence[Workload], node_id: str, challenge: str, now_ns: int) -> Campaign:
    """Return a campaign of this node alone, whose T0 is shortly after now.

    Args:
        profile: how to measure.
        workloads: to measure.
        node_id: this node's.
        challenge: drawn by this node, lower-case hex.
        now_ns: UTC, ns.
    """
    campaign_id = f"self-{challenge[:16]}"
    starts_at = utc_text(now_ns + LEAD_NS)  # for the orders to reach the workers
    return Campaign(
        campaign_id=campaign_id,
        self_issued=True,
        purpose="capacity",
        centre_id=None,
        centre_sha256=None,
        challenge=challenge,
        challenge_source="self",
        profile=profile.profile,
        profile_sha256=digest(profile),
        policies={},
        issued_at=utc_text(now_ns),
        starts_from=starts_at,
        starts_until=starts_at,
        ramp_ns=0,
        windows=windows(profile, workloads),
        pools=(ExpectedPool(pool=SELF_POOL, workloads=tuple(map(str, workloads))),),
        nodes=(ExpectedNode(node_id=node_id, pool=SELF_POOL),),
        left_out=(),
        series=campaign_id,
        earlier=(),
    )


def preheats_ns(window: UtcWindow, campaign: Campaign, profile: Profile, place: int, now_ns: int) -> int | None:
    """Return when a ready device may begin to load before its own ramp slot (R6), UTC ns; None where it may not.

    Nothing else is going on by then: it is asked once the node's devices are prepared and T0 is agreed, and between
    two windows once all devices have ended the cross-checks of the one before. A campaign with a ramp has none: its
    power shall rise in the slots. The devices of a node begin one after another here too.

    Args:
        window: of the campaign, as the device sees it.
        campaign: with the ramp.
        profile: with the stagger.
        place: the device's place on its node, from 0.
        now_ns: UTC, ns.
    """
    if campaign.ramp_ns or not profile.preheat_ns:
        return None
    # Devices of a node begin one after another: a step of a whole node's power trips supplies.
    begins = max(now_ns + place * profile.stagger_ns, window.load_ns - profile.preheat_ns)
    return begins if begins < window.load_ns else None


def utc_window(window: Window, profile: Profile, starts_ns: int, slot_ns: int = 0, place: int = 0) -> UtcWindow:
    """Return a campaign's window with a device's ramp slot and the guard.

    Args:
        window: of the campaign.
        profile: with stagger and guard.
        starts_ns: T0, UTC ns.
        slot_ns: the node's ramp slot.
        place: the device's place on its node, from 0.
    """
    # Only the load is staggered: the core window is the same for all nodes, or it would not be a common one (R10).
    closes_ns = starts_ns + window.closes_ns
    return UtcWindow(
        load_ns=starts_ns + window.load_ns + slot_ns + place * profile.stagger_ns,
        opens_ns=starts_ns + window.opens_ns,
        closes_ns=closes_ns,
        stops_ns=closes_ns + profile.guard_ns,
    )


def check_campaign(campaign: Campaign, profile: Profile, node_id: str, now_ns: int) -> None:
    """Refuse a campaign that this node cannot take part in.

    Raises:
        InputError: its profile is another, it does not expect this node, or its time has passed.
        RefusedError: `window-invalid`.
    """
    # Before anything is prepared: an hour of trials for a campaign that will refuse the record helps no centre.
    where = campaign.campaign_id
    if (problem := campaign.windows_problem()) is not None:
        raise RefusedError("window-invalid", problem, where=where)
    if campaign.profile_sha256 != digest(profile):
        raise InputError(
            "campaign-profile-differs",
            f"was opened for another profile {campaign.profile!r} than the one here",
            where=where,
            fix="give the campaign's own profile file with --profile",
        )
    if node_id not in {node.node_id for node in campaign.nodes}:
        raise InputError(
            "node-not-expected",
            f"does not expect this node, {node_id}",
            where=where,
            fix="have the campaign opened with this node in it",
        )
    if now_ns >= utc_ns(campaign.starts_until) + campaign.closes_ns:
        raise InputError(
            "campaign-window-passed",
            f"was to start until {campaign.starts_until}, and its windows have passed",
            where=where,
            fix="take part in a rerun of the campaign",
        )


def check_start(campaign: Campaign, starts_ns: int) -> None:
    """Refuse a T0 outside the campaign's time.

    Raises:
        RefusedError: `window-invalid`.
    """
    if (problem := campaign.start_problem(utc_text(starts_ns))) is not None:
        raise RefusedError("window-invalid", problem, where=campaign.campaign_id)
