"""Checks of what a measurement needs beside its devices: clock, folder, environment and packages. Pure."""

from __future__ import annotations

from bench.doctor.outcomes import ABSENT, CheckCase, Outcome, findings, one_finding, unread
from bench.doctor.view import NodeView
from bench.units import SECOND_NS

FLAGGED_CLOCK_NS = SECOND_NS  # R10
FILE_CLOCK_NS = SECOND_NS  # file systems keep times by the second, or by two


def emulation_variable(view: NodeView) -> Outcome:
    """A variable of the environment switches on emulation or reduced precision (R1)."""
    return findings(CheckCase({"name": name, "effect": effect}) for name, effect in view.software.enabling)


def emulation_library(view: NodeView) -> Outcome:
    """A library that is known to emulate products is put into every process (R1)."""
    return one_finding(bool(view.software.emulation), names=", ".join(view.software.emulation))


def clock_unknown(view: NodeView) -> Outcome:
    """Nothing bounds the error of the node's clock."""
    return one_finding(view.clock.uncertainty_ns is None, why=view.clock_why or view.clock.source)


def clock_zero(view: NodeView) -> Outcome:
    """The node's clock claims to be without any error."""
    if view.clock.uncertainty_ns is None:
        return ABSENT
    return one_finding(view.clock.uncertainty_ns == 0, source=view.clock.source)


def clock_wide(view: NodeView) -> Outcome:
    """The node's clock is known to a second at best."""
    bound = view.clock.uncertainty_ns
    if bound is None:
        return ABSENT
    return one_finding(bound > FLAGGED_CLOCK_NS, bound=f"{bound / SECOND_NS:.3f}", source=view.clock.source)


def folder(view: NodeView) -> Outcome:
    """Nothing can be written where the record goes."""
    if view.folder is None:
        return ABSENT
    return one_finding(view.folder.refusal is not None, why=view.folder.refusal)


def disk(view: NodeView) -> Outcome:
    """There is no room for record and samples."""
    if view.folder is None:
        return ABSENT
    free, needed = view.folder.free_bytes, view.folder.needed_bytes
    if free is None:
        return unread("not-shown")
    return one_finding(free < needed, free=f"{free / 1e6:.1f}", needed=f"{needed / 1e6:.1f}")


def file_clock(view: NodeView) -> Outcome:
    """The folder's file stamps are of another time than the host's."""
    if view.folder is None:
        return ABSENT
    off = view.folder.clock_off_ns
    if off is None:
        return unread("not-shown")
    return one_finding(abs(off) > FILE_CLOCK_NS, seconds=f"{off / SECOND_NS:+.1f}")


def stack(view: NodeView) -> Outcome:
    """What computes on a kind of device is not in this environment."""
    kinds = {one.name.partition(":")[0] for one in view.devices if not one.is_cpu and not one.local.model.simulated}
    if not kinds:
        return ABSENT
    return findings(
        CheckCase({"what": view.software.lacking[kind]}, one.name)
        for kind in sorted(kinds & view.software.lacking.keys())
        for one in view.devices
        if one.name.startswith(f"{kind}:")
    )


def shadowed(view: NodeView) -> Outcome:
    """Other modules than the installed petaseal's are imported under its names."""
    return one_finding(bool(view.software.elsewhere), folders=", ".join(view.software.elsewhere))


def python_path(view: NodeView) -> Outcome:
    """The environment puts packages before those of the virtual environment."""
    return one_finding(bool(view.software.python_path), names=", ".join(view.software.python_path))


SETUP_CHECKS = (
    emulation_variable,
    emulation_library,
    clock_unknown,
    clock_zero,
    clock_wide,
    folder,
    disk,
    stack,
    file_clock,
    shadowed,
    python_path,
)
