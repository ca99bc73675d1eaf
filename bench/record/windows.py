"""The windows that a profile asks for, one after another. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from bench.record.campaign import Window
from bench.record.fields import Precision, Workload
from bench.record.plan import CompanionRole, Profile

LEAD_NS = 500_000_000  # from "all are ready" to the first load, and between the end of one load and the next
BEFORE_THE_NEXT_WINDOW: tuple[CompanionRole, ...] = ("path",)  # what else stands beside a figure runs last of all


def workloads(profile: Profile, precisions: Sequence[Precision]) -> tuple[Workload, ...]:
    """Return what is measured, in the order in which it is: each precision in all the profile's choices of shape."""
    return tuple(Workload(precision, choice) for precision in precisions for choice in profile.choices)


def windows(profile: Profile, precisions: Sequence[Precision], ramp_ns: int = 0) -> tuple[Window, ...]:
    """Return one window for each workload, one after another, relative to T0.

    Args:
        profile: with the lengths.
        precisions: in the order in which they are measured.
        ramp_ns: from the first node's load to the last one's, which still has its whole warm-up.
    """
    found = []
    load_ns = 0
    for workload in workloads(profile, precisions):
        opens_ns = load_ns + ramp_ns + profile.warmup_ns
        closes_ns = opens_ns + profile.window_ns
        found.append(
            Window(
                precision=workload.precision,
                choice=workload.choice,
                load_ns=load_ns,
                opens_ns=opens_ns,
                closes_ns=closes_ns,
            )
        )
        load_ns = closes_ns + profile.guard_ns + profile.accompanied_ns(workload, BEFORE_THE_NEXT_WINDOW) + LEAD_NS
    return tuple(found)
