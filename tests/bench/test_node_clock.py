"""The bound on this node's clock: the kernel's, else chrony's."""

from __future__ import annotations

import pytest

from bench import node_clock
from bench.record import NodeClock

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
