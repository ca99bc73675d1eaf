"""The windows that a profile asks for, one after another. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from bench.errors import InputError
from bench.record.campaign import Window
from bench.record.fields import Choice, Precision, Workload
from bench.record.plan import CompanionRole, Profile

LEAD_NS = 500_000_000  # from "all are ready" to the first load, and between the end of one load and the next
BEFORE_THE_NEXT_WINDOW: tuple[CompanionRole, ...] = ("path",)  # what else stands beside a figure runs last of all


def named_workloads(profile: Profile, names: Sequence[str]) -> tuple[Workload, ...]:
    """Return the workloads that were asked for by their texts, such as fp16 or fp16-tuned, in that order.

    Raises:
        InputError: the profile has no shapes for one, or one is named twice.
    """
    both = (Workload(p, c) for p in get_args(Precision) for c in get_args(Choice))
    known = {str(workload): workload for workload in both if profile.registered(workload)}
    for name in names:
        if name not in known:
            raise InputError(
                "unknown-precision",
                f"there is no precision {name!r} in profile {profile.profile}",
                fix=f"choose from {', '.join(sorted(known))}",
            )
        if names.count(name) > 1:
            raise InputError("unknown-precision", f"the precision {name} is named twice", fix="name each once")
    return tuple(known[name] for name in names)


def windows(profile: Profile, workloads: Sequence[Workload], ramp_ns: int = 0) -> tuple[Window, ...]:
    """Return one window for each workload, one after another, relative to T0.

    Args:
        profile: with the lengths.
        workloads: in the order in which they are measured.
        ramp_ns: from the first node's load to the last one's, which still has its whole warm-up.
    """
    found = []
    load_ns = 0
    for workload in workloads:
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
