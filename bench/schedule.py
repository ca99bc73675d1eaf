"""When is what measured: the windows of a self-issued campaign, and a campaign's windows as one device sees them (R10).

Pure, with the time passed in.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench.errors import InputError, RefusedError
from bench.record import Campaign, ExpectedNode, Precision, Profile, Window, Workload, digest
from bench.record.plan import CompanionRole
from bench.session import UtcWindow
from bench.units import utc_ns, utc_text

LEAD_NS = 500_000_000  # from "all are ready" to the first load, and between the end of one load and the next
SELF_POOL = "self"
BEFORE_THE_NEXT_WINDOW: tuple[CompanionRole, ...] = ("path",)  # what else stands beside a figure runs last of all


def workloads(profile: Profile, precisions: Sequence[Precision]) -> tuple[Workload, ...]:
    """Return what is measured, in the order in which it is: each precision in all the profile's choices of shape."""
    return tuple(Workload(precision, choice) for precision in precisions for choice in profile.choices)


def windows(profile: Profile, precisions: Sequence[Precision], first_load_ns: int) -> tuple[Window, ...]:
    """Return one window for each workload, one after another.

    Args:
        profile: with the lengths.
        precisions: in the order in which they are measured.
        first_load_ns: T0 of the first, UTC ns.
    """
    found = []
    load_ns = first_load_ns
    for workload in workloads(profile, precisions):
        opens_ns = load_ns + profile.warmup_ns
        closes_ns = opens_ns + profile.window_ns
        found.append(
            Window(
                precision=workload.precision,
                choice=workload.choice,
                load_at=utc_text(load_ns),
                opens_at=utc_text(opens_ns),
                closes_at=utc_text(closes_ns),
            )
        )
        load_ns = closes_ns + profile.guard_ns + profile.accompanied_ns(workload, BEFORE_THE_NEXT_WINDOW) + LEAD_NS
    return tuple(found)


def self_issued(
    profile: Profile, precisions: Sequence[Precision], node_id: str, challenge: str, now_ns: int
) -> Campaign:
    """Return a campaign of this node alone, whose first load begins shortly after now.

    Args:
        profile: how to measure.
        precisions: to measure.
        node_id: this node's.
        challenge: drawn by this node, lower-case hex.
        now_ns: UTC, ns.
    """
    return Campaign(
        campaign_id=f"self-{challenge[:16]}",
        self_issued=True,
        centre_id=None,
        challenge=challenge,
        challenge_source="self",
        profile=profile.profile,
        profile_sha256=digest(profile),
        issued_at=utc_text(now_ns),
        windows=windows(profile, precisions, now_ns + LEAD_NS),
        nodes=(ExpectedNode(node_id=node_id, pool=SELF_POOL),),
    )


def utc_window(window: Window, profile: Profile, slot: int) -> UtcWindow:
    """Return a campaign's window with a device's ramp slot and the guard.

    Args:
        window: of the campaign.
        profile: with stagger and guard.
        slot: the device's place on its node, from 0.
    """
    closes_ns = utc_ns(window.closes_at)
    return UtcWindow(
        load_ns=utc_ns(window.load_at) + slot * profile.stagger_ns,
        opens_ns=utc_ns(window.opens_at),
        closes_ns=closes_ns,
        stops_ns=closes_ns + profile.guard_ns,
    )


def check_campaign(campaign: Campaign, profile: Profile, node_id: str, now_ns: int) -> None:
    """Refuse a campaign that this node cannot take part in.

    Raises:
        InputError: its profile is another, it does not expect this node, it has no room for the ramp, or it has begun.
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
    if now_ns >= utc_ns(campaign.windows[0].load_at):
        raise InputError(
            "campaign-window-passed",
            f"its first load was due at {campaign.windows[0].load_at}, which has passed",
            where=where,
            fix="take part in a rerun of the campaign",
        )
