"""What a policy is evaluated on: sums, what the unrecorded could add, what that says of a threshold and of a share.

Pure, in exact integers. A condition is met only by what is proven, and not met only where nothing that is unknown
could meet it: the verdict does not depend on how far a measurement happened to get. Between the two stands a reason
code.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

from bench.record import Grade, PoolClass
from bench.units import MAX_INTEGER
from certify.policy.capacity import Capacity
from certify.policy.centre import Declaration
from certify.policy.policies import Basis, Operator, Share


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
        """Return what they could at most add on one basis, MFLOP/s; None where it is not known."""
        return None if basis == "nominal" and self.without_rating else self.at_most_mflop_s


class Absent(NamedTuple):
    """Centres of which no statement is in force, and what the last valid statement of each says that it could add."""

    chains: int = 0  # of statements: a centre has one for each project
    measured_at_most_mflop_s: int | None = 0  # on the bases `certified` and `sustained`; None: nobody knows
    nominal_at_most_mflop_s: int | None = 0

    def plus(self, other: Absent) -> Absent:
        """Return those of both."""

        def added(a: int | None, b: int | None) -> int | None:
            return None if a is None or b is None else a + b

        return Absent(
            self.chains + other.chains,
            added(self.measured_at_most_mflop_s, other.measured_at_most_mflop_s),
            added(self.nominal_at_most_mflop_s, other.nominal_at_most_mflop_s),
        )

    def at_most_on(self, basis: Basis) -> int | None:
        """Return what they could at most add on one basis, MFLOP/s; None where it is not known."""
        return self.nominal_at_most_mflop_s if basis == "nominal" else self.measured_at_most_mflop_s


def writable(mflop_s: int) -> int | None:
    """Return a bound, or None where a signed document cannot hold it: a smaller number would be no bound."""
    return mflop_s if mflop_s <= MAX_INTEGER else None


class Rmax(NamedTuple):
    """The highest passed HPL rate over nodes of a class, MFLOP/s; None: none is shown."""

    native_mflop_s: int | None = None  # that is surely of native FP64
    shown_mflop_s: int | None = None  # be it of native FP64 or not: at least the former


class ClassEvidence(NamedTuple):
    """The devices of one class in its counted precision, in three groups without common members."""

    clean: Capacity = Capacity()  # counted, on no hold
    on_hold: Capacity = Capacity()  # counted because the policy accepts their holds
    untested: Capacity = (
        Capacity()
    )  # counting 0 (not measured, held, void): only nominal_mflop_s and without_rating matter
    unrecorded: Unrecorded = Unrecorded()
    absent: Absent = Absent()  # over a city: one statement knows of no other centre
    rmax: Rmax = Rmax()  # of another tool: in no sum of classes, and never mixed with those above

    @property
    def counted(self) -> Capacity:
        """All counted devices."""
        return self.clean + self.on_hold

    def plus(self, other: ClassEvidence) -> ClassEvidence:
        """Return the evidence over both: a bookkeeping sum where the classes differ."""
        return ClassEvidence(
            clean=self.clean + other.clean,
            on_hold=self.on_hold + other.on_hold,
            untested=self.untested + other.untested,
            unrecorded=self.unrecorded.plus(other.unrecorded),
            absent=self.absent.plus(other.absent),
        )

    def by_rmax(self, basis: Basis) -> ClassEvidence:
        """Return the class as Rmax has it, in place of the sum of its nodes; a rating stays that of the devices.

        Another run could give more, at most the rating of all devices: that room stands in `untested`. What may be
        emulated stands in `on_hold`, so that nothing is met by it alone.
        """
        if basis == "nominal":
            return self
        native, shown = self.rmax.native_mflop_s or 0, self.rmax.shown_mflop_s or 0
        rated = self.counted + self.untested
        room = max(rated.nominal_mflop_s - max(native, shown), 0)
        return self._replace(
            clean=_rate(native),
            on_hold=_rate(max(shown - native, 0)),
            untested=Capacity(nominal_mflop_s=room, without_rating=rated.without_rating),
        )


def _rate(mflop_s: int) -> Capacity:
    """Return a rate of which only itself is known, as a sum."""
    return Capacity(
        certified_mflop_s=mflop_s, sustained_mflop_s=mflop_s, upper_mflop_s=mflop_s, nominal_mflop_s=mflop_s
    )


class BaselineMatch(NamedTuple):
    """A signed baseline inventory against the statement's devices."""

    devices: int  # in the inventory
    still_present: int  # of those, found now
    new_devices: int  # found now in the statement and absent from the inventory
    certified_mflop_s: int | None = None  # of the inventory, where a statement of its time gives it


class PolicyEvidence(NamedTuple):
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
    vendors: Mapping[PoolClass, Mapping[str, Capacity]] = MappingProxyType({})  # counted, by the devices' vendor


Outcome = Literal["met", "not_met", "declared", "insufficient_evidence"]
INSUFFICIENT: Outcome = "insufficient_evidence"
_HOLDS: dict[Operator, Callable[[int, int], bool]] = {">=": operator.ge, ">": operator.gt}


class CapacityBounds(NamedTuple):
    """What is known of a sum on one basis, MFLOP/s. None: no bound can be named, and `why` says why."""

    proven: int  # at least this, resting on no hold
    observed: int  # over all counted devices
    counted_most: int | None = None  # at most this over counted devices
    recorded_most: int | None = None  # and with the nominal rate of untested devices
    nodes_most: int | None = None  # and with what nodes without a record could add
    most: int | None = None  # and with what absent centres could add
    most_wary: int | None = None  # and should devices on accepted holds give their nominal rate
    why: str | None = None


def evidence_bounds(evidence: ClassEvidence, basis: Basis) -> CapacityBounds:
    """Return what the evidence proves of a sum on one basis, and what it could be at most."""
    clean, on_hold, untested = evidence.clean, evidence.on_hold, evidence.untested
    proven, high_clean = interval_of(clean, basis)
    held, high_held = interval_of(on_hold, basis)
    bounds = CapacityBounds(proven, proven + held)
    if high_clean is None or high_held is None:
        return bounds._replace(why="upper-unbounded" if basis == "certified" else "rating-missing")
    counted = high_clean + high_held
    missing, absent = evidence.unrecorded.at_most_on(basis), evidence.absent.at_most_on(basis)
    if missing is None or untested.without_rating:
        unknown = evidence.unrecorded.at_most_mflop_s is None
        return bounds._replace(counted_most=counted, why="nodes-missing" if unknown else "rating-missing")
    recorded = counted + untested.nominal_mflop_s
    if absent is None:
        return bounds._replace(
            counted_most=counted, recorded_most=recorded, nodes_most=recorded + missing, why="centre-absent"
        )
    most = recorded + missing + absent
    # a figure on an accepted hold may be wrong either way: "not met" has to stand where the device gives its rating
    wary = most - high_held + max(high_held, on_hold.nominal_mflop_s)
    return bounds._replace(
        counted_most=counted,
        recorded_most=recorded,
        nodes_most=recorded + missing,
        most=most,
        most_wary=None if on_hold.without_rating else wary,
    )


def interval_of(sums: Capacity, basis: Basis) -> tuple[int, int | None]:
    """Return the least and the most that a group of counted devices gives on one basis."""
    if basis == "certified":
        return sums.certified_mflop_s, sums.upper_mflop_s
    if basis == "sustained":
        return sums.sustained_mflop_s, sums.sustained_mflop_s
    return sums.nominal_mflop_s, None if sums.without_rating else sums.nominal_mflop_s


def against_threshold(
    bounds: CapacityBounds, sign: Operator, value: int, ineligible: str | None
) -> tuple[Outcome, str | None]:
    """Return the verdict of a sum on one basis against a threshold, with its reason.

    Args:
        bounds: what is known of the sum.
        sign: how the policy's text compares.
        value: the threshold, MFLOP/s.
        ineligible: why no device is known to be one that the condition counts; None where all are.
    """
    holds = _HOLDS[sign]
    if ineligible is None and holds(bounds.proven, value):
        return "met", None
    if ineligible is None and holds(bounds.observed, value):
        return INSUFFICIENT, "depends-on-flagged"
    if bounds.most is None or holds(bounds.most, value):
        doubts = (
            ("within-bounds", bounds.counted_most),
            ("untested-devices", bounds.recorded_most),
            ("nodes-missing", bounds.nodes_most),
            ("centre-absent", bounds.most),
        )
        # the doubt that settles it: the least that must be known before the value is out of reach
        first = next((code for code, most in doubts if most is not None and holds(most, value)), None)
        return INSUFFICIENT, ineligible or bounds.why or first
    if bounds.most_wary is None or holds(bounds.most_wary, value):
        return INSUFFICIENT, "depends-on-flagged"
    return "not_met", None


def against_share(part: CapacityBounds, rest: CapacityBounds, condition: Share) -> tuple[Outcome, str | None]:
    """Return the verdict of part/(part + rest): the least share has the least part and the most rest.

    Each end needs one upper bound only: what is unknown of the part can but raise the share, and of the rest lower it.
    """

    def holds(a: int, b: int) -> bool:
        return _HOLDS[condition.operator](a * 10**6, condition.value_ppm * (a + b))

    if part.observed + rest.observed == 0:
        return INSUFFICIENT, "nothing-counted"
    if rest.most_wary is not None and holds(part.proven, rest.most_wary):
        return "met", None
    if part.most_wary is not None and not holds(part.most_wary, rest.proven):
        return "not_met", None
    if part.most is None or rest.most is None:
        return INSUFFICIENT, part.why or rest.why
    if holds(part.observed, rest.most) or not holds(part.most, rest.observed):
        return INSUFFICIENT, "depends-on-flagged"
    if (part.most, rest.most) != (part.nodes_most, rest.nodes_most):
        return INSUFFICIENT, "centre-absent"
    if (part.nodes_most, rest.nodes_most) != (part.recorded_most, rest.recorded_most):
        return INSUFFICIENT, "nodes-missing"
    untested = (part.most, rest.most) != (part.counted_most, rest.counted_most)
    return INSUFFICIENT, "untested-devices" if untested else "within-bounds"
