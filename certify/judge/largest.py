"""The largest node of a pool: what a node that left no record could at most add (docs/policies.md). Pure."""

from __future__ import annotations

from typing import NamedTuple


class NodeMost(NamedTuple):
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
        known = [bound for bound in (upper_mflop_s, nominal_mflop_s) if bound is not None]
        return cls(max(known, default=0), not known, nominal_mflop_s is None)

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
