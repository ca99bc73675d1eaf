"""What a policy is evaluated on: sums over devices, and what devices that nobody recorded could add. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

from bench.record import Grade, PoolClass
from bench.units import MAX_INTEGER
from certify.policy.centre import Declaration
from certify.policy.policies import Basis


class Sums(NamedTuple):
    """Sum over a group of devices, MFLOP/s. `upper` is None where the bound of one of them is unbounded."""

    devices: int = 0
    certified_mflop_s: int = 0
    sustained_mflop_s: int = 0
    upper_mflop_s: int | None = 0
    nominal_mflop_s: int = 0
    without_rating: int = 0  # devices that `nominal_mflop_s` says nothing about

    def plus(self, other: Sums) -> Sums:
        """Return the sum over both groups."""
        bounded = self.upper_mflop_s is not None and other.upper_mflop_s is not None
        return Sums(
            devices=self.devices + other.devices,
            certified_mflop_s=self.certified_mflop_s + other.certified_mflop_s,
            sustained_mflop_s=self.sustained_mflop_s + other.sustained_mflop_s,
            upper_mflop_s=(self.upper_mflop_s or 0) + (other.upper_mflop_s or 0) if bounded else None,
            nominal_mflop_s=self.nominal_mflop_s + other.nominal_mflop_s,
            without_rating=self.without_rating + other.without_rating,
        )


class Unrecorded(NamedTuple):
    """The expected nodes without a record, and the nodes left out, that may have devices in some classes."""

    named: frozenset[str] = frozenset()
    unnamed: int = 0  # beside those: nodes that are only counted
    at_most_mflop_s: int | None = 0  # what all of them could at most add on any basis; None: nobody knows
    without_rating: bool = False  # they may be like devices without a rating, so that on `nominal` nobody knows
    each: int = 1  # how many nodes each of `named` stands for, in a rehearsal

    @property
    def nodes(self) -> int:
        """How many they are."""
        return len(self.named) * self.each + self.unnamed

    def plus(self, other: Unrecorded) -> Unrecorded:
        """Return those of both: a node that may have devices on both sides is one node, and may add to both."""
        at_most = None
        if self.at_most_mflop_s is not None and other.at_most_mflop_s is not None:
            at_most = writable(self.at_most_mflop_s + other.at_most_mflop_s)
        return Unrecorded(
            named=self.named | other.named,
            unnamed=self.unnamed + other.unnamed,
            at_most_mflop_s=at_most,
            without_rating=self.without_rating or other.without_rating,
            each=max(self.each, other.each),
        )

    def at_most_on(self, basis: Basis) -> int | None:
        """Return what they could at most add on one basis, MFLOP/s; None where nobody knows."""
        return None if basis == "nominal" and self.without_rating else self.at_most_mflop_s


def writable(mflop_s: int) -> int | None:
    """Return a bound, or None where a signed document cannot hold it: a smaller number would be no bound."""
    return mflop_s if mflop_s <= MAX_INTEGER else None


class ClassEvidence(NamedTuple):
    """The devices of one class in its counted precision, in three groups without common members."""

    clean: Sums = Sums()  # counted, on no hold
    on_hold: Sums = Sums()  # counted because the policy accepts their holds
    untested: Sums = Sums()  # counting 0 (not measured, held, void): only nominal_mflop_s and without_rating matter
    unrecorded: Unrecorded = Unrecorded()

    @property
    def counted(self) -> Sums:
        """All counted devices."""
        return self.clean.plus(self.on_hold)

    def plus(self, other: ClassEvidence) -> ClassEvidence:
        """Return the evidence over both: a bookkeeping sum where the classes differ."""
        return ClassEvidence(
            clean=self.clean.plus(other.clean),
            on_hold=self.on_hold.plus(other.on_hold),
            untested=self.untested.plus(other.untested),
            unrecorded=self.unrecorded.plus(other.unrecorded),
        )


class BaselineMatch(NamedTuple):
    """A signed baseline inventory against the statement's devices."""

    devices: int  # in the inventory
    still_present: int  # of those, found now
    new_devices: int  # found now in the statement and absent from the inventory
    certified_mflop_s: int | None = None  # of the inventory, where a statement of its time gives it


class Evidence(NamedTuple):
    """Everything that a policy is evaluated on."""

    classes: Mapping[PoolClass, ClassEvidence]
    grade: Grade | None  # None: nothing is counted
    simulated: bool
    jurisdiction: str | None
    declarations: frozenset[Declaration]
    baseline: BaselineMatch | None  # None: there is no signed baseline
    newly_added: Mapping[PoolClass, ClassEvidence]  # `classes` without the devices that the baseline lists
    scope: Literal["centre", "city"] = "centre"
    papers: frozenset[str] = frozenset()  # what the centre names papers for, under `evidence` of its file
    guide_year: int | None = None  # the year of the guide that the centre applies under
    vendors: Mapping[PoolClass, Mapping[str, Sums]] = MappingProxyType({})  # counted, by the devices' vendor
