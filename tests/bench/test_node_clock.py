"""The bound on this node's clock: the kernel's, else chrony's."""

from __future__ import annotations

import errno
import shutil

import pytest

from bench import node_clock
from bench.record import NodeClock
from tests.bench.seccomp import filtered

# `chronyc -c tracking` as its manual describes it: offset -0.000002 s, root delay 0.0123 s, root dispersion 0.0009 s
TRACKING = (
    "A9FEA97B,169.254.169.123,4,1767225600.1,-0.000002,0.000001,0.000003,-7.5,0.001,0.02,0.0123,0.0009,64.3,Normal"
)


def test_the_kernels_clock_is_known_or_null() -> None:
    clock = node_clock.kernel_clock()
    assert clock.source == "kernel"
    assert clock.uncertainty_ns is None or clock.uncertainty_ns >= node_clock.GROWTH_US * 1000


def test_chronys_bound_is_offset_dispersion_and_half_the_delay() -> None:
    assert node_clock.chrony_bound_ns(TRACKING) == 2_000 + 900_000 + 6_150_000 + 1


@pytest.mark.parametrize(
    "tracking",
    [
        "",
        "506 Cannot talk to daemon",
        TRACKING.replace("Normal", "Not synchronised"),
        TRACKING.replace("0.0123", "nan"),
        TRACKING.replace("0.0123", "soon"),
        TRACKING + ",more",
    ],
)
def test_what_chrony_does_not_say_is_unknown(tracking: str) -> None:
    assert node_clock.chrony_bound_ns(tracking) is None


def test_chrony_is_asked_where_the_kernel_knows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = NodeClock(source="kernel", uncertainty_ns=None)
    monkeypatch.setattr(node_clock, "kernel_clock", lambda: unknown)
    monkeypatch.setattr(node_clock, "chrony_tracking", lambda: TRACKING)
    assert node_clock.node_clock().source == "chrony"
    monkeypatch.setattr(node_clock, "chrony_tracking", str)
    assert node_clock.node_clock() == unknown


# In a process to which a container's runtime refuses the calls: the real errors
READ = "from bench import node_clock as n; print(n.kernel_clock().uncertainty_ns, n.ask_kernel()[:2], n.why_unknown())"
INSIDE = "import bench.node_clock as n; n.in_container = lambda: {}\n"


@pytest.mark.parametrize(("error", "name"), [(errno.EPERM, "EPERM"), (errno.ENOSYS, "ENOSYS")])
def test_a_call_that_is_refused_is_told_from_a_clock_that_nothing_keeps(error: int, name: str) -> None:
    said = filtered("adjtimex,clock_adjtime", INSIDE.format(True) + READ, error)
    assert said.startswith(f"None (-1, {error}) ")
    assert f"(clock_adjtime and adjtimex: {name}," in said
    assert "containerd from 1.3.8 or 1.4.0 and Docker from 20.10 allow it" in said
    assert "seccomp=Unconfined" in said
    said = filtered("adjtimex,clock_adjtime", INSIDE.format(False) + READ, error)
    assert name in said
    assert "containerd" not in said


def test_the_older_call_is_tried_where_the_newer_is_refused() -> None:
    """As Docker 19.03 has it: its profile knows adjtimex, and not what glibc asks by."""
    allowed, refused = (filtered(calls, READ) for calls in ("", "clock_adjtime"))
    assert refused.partition(" (")[2] == allowed.partition(" (")[2]
    assert "EPERM" not in refused


def test_what_keeps_a_clock_is_asked_for_where_it_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    unsynchronised = (node_clock.TIME_ERROR, 0, node_clock._Timex())
    monkeypatch.setattr(node_clock, "ask_kernel", lambda: unsynchronised)
    monkeypatch.setattr(node_clock, "in_container", lambda: True)
    inside = node_clock.why_unknown()
    assert inside.endswith("let chrony run with rtcsync on the host, whose chronyd cannot be asked from a container")
    monkeypatch.setattr(node_clock, "in_container", lambda: None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "chronyc is not installed: start chrony (with rtcsync)" in node_clock.why_unknown()
