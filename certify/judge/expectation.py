"""What can be said of a device's figure before it is measured: what will bound it, and whether it can count at all.

Pure functions of what a device reports of itself, a table of ratings and what a policy demands. They are the rules of
a measured figure, as far as these need no measurement: an operator does not learn after an hour under load that nothing
could have counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from bench.record import Device, DeviceModel, Grade, PoolClass, Precision
from bench.record.node import Method
from certify.judge.ceilings import WHOLE, CeilingFacts, Ceilings, RateLimit, Step, ceilings, cpu_ceilings, notes
from certify.judge.identities import identity_codes
from certify.judge.parts import RatedModel
from certify.judge.plausibility import row_of
from certify.judge.record import partition_codes, place_codes
from certify.judge.telemetry import r13_beforehand
from certify.policy.policies import Policy
from certify.policy.ratings import Ratings


class Demand(NamedTuple):
    """What counts in one class of one policy, or of several that make one statement."""

    policies: tuple[str, ...]
    pool_class: PoolClass
    precision: Precision
    grade: Grade  # at which it is measured
    accept: frozenset[str]  # hold codes that count all the same
    in_operation: bool = True
    measured: bool = True  # a campaign may have no window for what counts in a pool


class Prospect(NamedTuple):
    """Whether a device's figure can count where a policy demands it."""

    demand: Demand
    against: tuple[str, ...]  # codes that will keep it from counting

    @property
    def can_count(self) -> bool:
        """Return whether nothing that is known beforehand keeps the figure from counting."""
        return not self.against


class Expectation(NamedTuple):
    """What the rules will make of a device's figure in one precision, as far as it is known beforehand."""

    precision: Precision
    step: Step
    limit: RateLimit | None  # the lowest that exists before anything was observed: L1, L4 to L7
    nominal_mflop_s: int | None  # of the device's share of its row
    notes: tuple[str, ...]  # codes that count
    prospects: tuple[Prospect, ...]


def demands_of(policy: Policy) -> tuple[Demand, ...]:
    """Return what a policy by itself demands of each class that it counts, at the grade that it wants at least."""
    accept = frozenset(policy.accept)
    return tuple(
        Demand((policy.policy,), pool_class, counting.precision, policy.minimum_grade, accept)
        for pool_class, counting in policy.counting.items()
    )


def expectations(
    model: DeviceModel, device: Device, ratings: Ratings, demands: Iterable[Demand]
) -> tuple[Expectation, ...]:
    """Return what a device's figures can be expected to meet, one for each precision that is demanded.

    Args:
        model: what the device reports of itself.
        device: its identity.
        ratings: to judge with.
        demands: where it might count.
    """
    row = row_of(model, ratings)
    wanted: dict[Precision, list[Demand]] = {}
    for demand in demands:
        wanted.setdefault(demand.precision, []).append(demand)
    return tuple(
        _expectation(model, device, ratings, row, precision, counting) for precision, counting in wanted.items()
    )


def _expectation(
    model: DeviceModel,
    device: Device,
    ratings: Ratings,
    row: RatedModel,
    precision: Precision,
    demands: Sequence[Demand],
) -> Expectation:
    bounds, noted = _bounds(model, ratings, row, precision)
    common = (*row.codes, *identity_codes(device, model), *noted)
    prospects, remarks = [], dict.fromkeys(common)
    for demand in demands:
        place = place_codes(model, device, row.rating, demand.pool_class, demand.in_operation)
        codes = (*common, *place, *r13_beforehand(device.device, model, demand.grade))
        if not demand.measured:
            codes += ("untested",)
        remarks |= dict.fromkeys(codes)
        _, against = partition_codes(codes, demand.accept)
        prospects.append(Prospect(demand, tuple(dict.fromkeys(against))))
    _, graver = partition_codes(tuple(remarks), frozenset())
    remaining = tuple(code for code in remarks if code not in graver)
    nominal = row.nominal_mflop_s(precision)
    return Expectation(precision, bounds.step, bounds.binding, nominal, remaining, tuple(prospects))


def _bounds(
    model: DeviceModel, ratings: Ratings, row: RatedModel, precision: Precision
) -> tuple[Ceilings, tuple[str, ...]]:
    """Return the limits of R12 that exist before anything was observed, and the codes of what they rest on."""
    if model.kind == "cpu":
        method: Method = "native" if precision in ("fp32", "fp64") else "upcast"
        return cpu_ceilings(precision, method, model.instruction_set, model.units, model.max_clock_mhz), ()
    facts = CeilingFacts(precision, 0, model.units, model.max_clock_mhz, None, None, 0)
    share = row.share or WHOLE
    bounds = ceilings(facts, row.rating, ratings.highest_mflop_s(precision), share)
    return bounds, notes(facts, row.rating, bounds, share)
