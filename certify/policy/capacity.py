"""Sums over devices, in MFLOP/s: one value for all that is added up, and what gathers it (docs/policies.md).

Rates are integers, so that a sum depends on no order and a verifier's is the signer's to the last digit.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from bench.record import Figure


class Capacity(msgspec.Struct, frozen=True):
    """The capacity of a group of devices: sums over their figures and ratings; every rate is in MFLOP/s.

    Groups without common members add up with ``+``, and a part of a group is taken from it with ``-``.
    """

    devices: int = 0
    certified_mflop_s: int = 0  # lower bounds of the figures
    sustained_mflop_s: int = 0
    upper_mflop_s: int | None = 0  # upper bounds; None: that of one device is unbounded, or is not known here
    nominal_mflop_s: int = 0
    without_rating: int = 0  # devices that `nominal_mflop_s` says nothing about

    def __add__(self, other: Capacity) -> Capacity:
        return self._plus(other, 1)

    def __sub__(self, part: Capacity) -> Capacity:
        return self._plus(part, -1)

    def __mul__(self, times: int) -> Capacity:
        return Capacity()._plus(self, times)

    def _plus(self, other: Capacity, times: int) -> Capacity:
        bounded = self.upper_mflop_s is not None and other.upper_mflop_s is not None
        return Capacity(
            devices=self.devices + times * other.devices,
            certified_mflop_s=self.certified_mflop_s + times * other.certified_mflop_s,
            sustained_mflop_s=self.sustained_mflop_s + times * other.sustained_mflop_s,
            upper_mflop_s=(self.upper_mflop_s or 0) + times * (other.upper_mflop_s or 0) if bounded else None,
            nominal_mflop_s=self.nominal_mflop_s + times * other.nominal_mflop_s,
            without_rating=self.without_rating + times * other.without_rating,
        )


@dataclass
class CapacitySum:
    """Adds up the capacity of devices one by one; a tally takes millions of figures, and a value each is too slow."""

    devices: int = 0
    certified_mflop_s: int = 0
    sustained_mflop_s: int = 0
    upper_mflop_s: int = 0  # of those that are bounded
    unbounded: int = 0  # devices without an upper bound
    nominal_mflop_s: int = 0
    without_rating: int = 0

    @property
    def capacity(self) -> Capacity:
        """The sum over the devices added so far."""
        return Capacity(
            devices=self.devices,
            certified_mflop_s=self.certified_mflop_s,
            sustained_mflop_s=self.sustained_mflop_s,
            upper_mflop_s=None if self.unbounded else self.upper_mflop_s,
            nominal_mflop_s=self.nominal_mflop_s,
            without_rating=self.without_rating,
        )

    def add_figure(self, figure: Figure, nominal_mflop_s: int | None) -> None:
        """Add a device that counts.

        Args:
            figure: of the device.
            nominal_mflop_s: its rating in the figure's precision; None where the table has none.
        """
        self.certified_mflop_s += figure.certified_mflop_s
        self.sustained_mflop_s += figure.sustained_mflop_s
        self.upper_mflop_s += figure.upper_mflop_s or 0
        self.unbounded += figure.upper_mflop_s is None
        self.add_rating(nominal_mflop_s)

    def add_rating(self, nominal_mflop_s: int | None) -> None:
        """Add a device of which only the rating is known."""
        self.devices += 1
        self.nominal_mflop_s += nominal_mflop_s or 0
        self.without_rating += nominal_mflop_s is None

    def add(self, other: CapacitySum) -> None:
        """Add the devices of another sum."""
        self.devices += other.devices
        self.certified_mflop_s += other.certified_mflop_s
        self.sustained_mflop_s += other.sustained_mflop_s
        self.upper_mflop_s += other.upper_mflop_s
        self.unbounded += other.unbounded
        self.nominal_mflop_s += other.nominal_mflop_s
        self.without_rating += other.without_rating


class NodeMost(msgspec.Struct, frozen=True, gc=False):
    """What the devices of one node in one pool could at most give in the pool's counted precision, MFLOP/s.

    It is a bound for a node without a record as far as that node is no larger than the largest that was measured: the
    pool is one kind of machine by the centre's own declaration. Each device gives the greater of two numbers: the upper
    bound of its figure, which such a node may reach however the certified figure turned out, and its rating, which is
    what a device that was not tested is taken for everywhere else. A void figure says nothing, and a figure on hold
    may be true.
    """

    mflop_s: int = 0
    unbounded: bool = False  # a device has neither: nobody knows
    without_rating: bool = False  # a device has no rating: on the basis `nominal` nobody knows

    @classmethod
    def of_device(cls, upper_mflop_s: int | None, nominal_mflop_s: int | None) -> NodeMost:
        """Return what one device could at most give.

        Args:
            upper_mflop_s: of its figure; None where there is none, where it is void, and where nothing bounds it.
            nominal_mflop_s: its rating; None where the table has none.
        """
        if upper_mflop_s is None:
            return cls(nominal_mflop_s or 0, nominal_mflop_s is None, nominal_mflop_s is None)
        return cls(max(upper_mflop_s, nominal_mflop_s or 0), False, nominal_mflop_s is None)

    def plus(self, other: NodeMost) -> NodeMost:
        """Return the sum over devices of one node."""
        return NodeMost(
            self.mflop_s + other.mflop_s, self.unbounded or other.unbounded, self.without_rating or other.without_rating
        )

    def or_other(self, other: NodeMost | None) -> NodeMost:
        """Return what neither of two nodes exceeds."""
        if other is None:
            return self
        return NodeMost(
            max(self.mflop_s, other.mflop_s),
            self.unbounded or other.unbounded,
            self.without_rating or other.without_rating,
        )
