"""When is what measured: the windows of a self-issued campaign, and a campaign's windows as one device sees them (R10).

Pure, with the time passed in.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench.engine.session import UtcWindow
from bench.errors import InputError, RefusedError
from bench.record import Campaign, ExpectedNode, ExpectedPool, Profile, Window, Workload, digest
from bench.record.windows import LEAD_NS, windows
from bench.units import utc_ns, utc_text

SELF_POOL = "self"


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
    starts_at = utc_text(now_ns + LEAD_NS)
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


def preheats_ns(own: UtcWindow, campaign: Campaign, profile: Profile, place: int, now_ns: int) -> int | None:
    """Return when a ready device may begin to load before its own ramp slot (R6), UTC ns; None where it may not.

    Nothing else is going on by then: it is asked once the node's devices are prepared and T0 is agreed, and between
    two windows once all devices have ended what stands beside the one before. A campaign with a ramp has none: its
    power shall rise in the slots. The devices of a node begin one after another here too.

    Args:
        own: the device's window.
        campaign: with the ramp.
        profile: with the stagger.
        place: the device's place on its node, from 0.
        now_ns: UTC, ns.
    """
    if campaign.ramp_ns or not profile.preheat_ns:
        return None
    begins = max(now_ns + place * profile.stagger_ns, own.load_ns - profile.preheat_ns)
    return begins if begins < own.load_ns else None


def utc_window(window: Window, profile: Profile, starts_ns: int, slot_ns: int = 0, place: int = 0) -> UtcWindow:
    """Return a campaign's window with a device's ramp slot and the guard.

    Args:
        window: of the campaign.
        profile: with stagger and guard.
        starts_ns: T0, UTC ns.
        slot_ns: the node's ramp slot.
        place: the device's place on its node, from 0.
    """
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
