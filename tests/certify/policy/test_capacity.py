"""Sums over devices add up, and a part can be taken from them; what nothing bounds stays unbounded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from certify.policy.capacity import Capacity, CapacitySum

count = st.integers(0, 2**53)
gathered = st.builds(
    CapacitySum,
    devices=count,
    certified_mflop_s=count,
    sustained_mflop_s=count,
    upper_mflop_s=count,
    unbounded=st.integers(0, 2),
    nominal_mflop_s=count,
    without_rating=count,
)


@given(gathered, gathered, st.integers(1, 5))
def test_groups_add_up_and_come_apart(a: CapacitySum, b: CapacitySum, times: int) -> None:
    one, other = a.capacity, b.capacity
    assert (one.upper_mflop_s is None) == (a.unbounded > 0)
    both = one + other
    assert both == other + one
    assert one * times == sum([one] * times, Capacity())
    assert (both.upper_mflop_s is None) == (None in (one.upper_mflop_s, other.upper_mflop_s))
    if both.upper_mflop_s is not None:
        assert both - other == one
    a.add(b)
    assert a.capacity == both


def test_a_device_without_a_rating_is_counted_as_one() -> None:
    total = CapacitySum()
    total.add_rating(7)
    total.add_rating(None)
    assert total.capacity == Capacity(devices=2, nominal_mflop_s=7, without_rating=1)
