"""The lines of a statement: what a tally sums up of each pool, class, vendor and limit, in the form of the document.

Here alone a `Capacity` becomes `Totals`; what is judged of the lines is `certify.statement.build`'s to put together.
"""

from __future__ import annotations

from bench.record import PoolClass, Workload
from bench.record.fields import filled
from certify.documents.statement import (
    CeilingLine,
    ClassLine,
    PoolLine,
    ShownLine,
    StepLine,
    Totals,
    Untested,
    VendorLine,
)
from certify.judge.ceilings import STEPS
from certify.judge.scope import Scope
from certify.judge.tally import Standing, Tally
from certify.policy.capacity import Capacity
from certify.policy.centre import Pool
from certify.policy.thresholds import Unrecorded


def vendor_lines(tally: Tally) -> tuple[VendorLine, ...]:
    """Return what counts of each vendor's devices in each pool."""
    return tuple(
        filled(VendorLine, value, pool=pool, vendor=vendor) for (pool, vendor), value in sorted(tally.vendors.items())
    )


def pool_line(pool: Pool, tally: Tally, scope: Scope) -> PoolLine:
    """Return one pool in the workload that its class counts."""
    counting = scope.counting[pool.pool_class]
    return PoolLine(
        pool=pool.pool,
        pool_class=pool.pool_class,
        precision=counting.precision,
        choice=counting.choice,
        accumulate=counting.accumulate,
        nodes_recorded=tally.nodes[pool.pool],
        devices_found=tally.devices[pool.pool],
        counted=_totals(counted_parts(tally, {pool.pool}, counting.workload)),
        in_baseline=_totals(counted_parts(tally, {pool.pool}, counting.workload, in_baseline=True)),
        with_witness=_totals(witness_parts(tally, {pool.pool}, counting.workload)),
        steps=_steps(tally, {pool.pool}, counting.workload),
        untested=_untested(untested_parts(tally, {pool.pool})),
    )


def class_line(name: PoolClass, tally: Tally, scope: Scope, missing: Unrecorded) -> ClassLine:
    """Return one class: the sums over its pools, and the nodes without a record that may have devices in it."""
    pools = pools_of(name, scope)
    counted = scope.counting[name].workload
    return ClassLine(
        pool_class=name,
        precision=counted.precision,
        choice=counted.choice,
        counted=_totals(counted_parts(tally, pools, counted)),
        in_baseline=_totals(counted_parts(tally, pools, counted, in_baseline=True)),
        with_witness=_totals(witness_parts(tally, pools, counted)),
        steps=_steps(tally, pools, counted),
        untested=_untested(untested_parts(tally, pools)),
        nodes_missing=missing.nodes,
        missing_at_most_mflop_s=missing.at_most_mflop_s,
    )


def pools_of(name: PoolClass, scope: Scope) -> set[str]:
    """Return the names of a class's pools."""
    return {pool.pool for pool in scope.centre.pools if pool.pool_class == name}


Parts = list[tuple[Standing, Capacity]]  # sums without common devices, and why each counts


def counted_parts(tally: Tally, pools: set[str], workload: Workload, in_baseline: bool | None = None) -> Parts:
    """Return what counts of some pools in one workload.

    Args:
        tally: of all records.
        pools: the names of the pools.
        workload: the precision and choice of shape.
        in_baseline: True for the devices that the baseline inventory lists alone, False for the others; None: all.
    """
    return [
        (key.standing, value.capacity)
        for key, value in tally.sums.items()
        if key.pool in pools and key.workload == workload and in_baseline in (None, key.in_baseline)
        if key.standing != "witness"
    ]


def witness_parts(tally: Tally, pools: set[str], workload: Workload) -> Parts:
    """Return what counts 0 until a witness vouches for the statement, and then counts."""
    return [
        (key.standing, value.capacity)
        for key, value in tally.sums.items()
        if key.pool in pools and key.workload == workload and key.standing == "witness"
    ]


def _steps(tally: Tally, pools: set[str], workload: Workload) -> tuple[StepLine, ...]:
    """Return what counts of pools in one workload by the step of evidence that it rests on, the strongest first."""
    lines = []
    for step in STEPS:
        sums = [
            one
            for key, one in tally.ceilings.items()
            if key.pool in pools and (key.workload, key.step) == (workload, step)
        ]
        if devices := sum(c.counted for c in sums):
            certified = sum(c.certified_mflop_s for c in sums)
            lines.append(StepLine(step=step, devices=devices, certified_mflop_s=certified))
    return tuple(lines)


def ceiling_lines(tally: Tally) -> tuple[CeilingLine, ...]:
    """Return under which limits of R12 the figures of each model stand."""
    return tuple(
        filled(
            CeilingLine,
            under,
            pool=key.pool,
            precision=key.workload.precision,
            choice=key.workload.choice,
            vendor=key.vendor,
            model=key.model,
            step=key.step,
            limit=key.limit,
        )
        for key, under in sorted(tally.ceilings.items(), key=lambda one: (*one[0][:-1], one[0].limit or ""))
    )


def untested_parts(tally: Tally, pools: set[str], in_baseline: bool | None = None) -> Parts:
    """Return the devices of some pools that count 0, of which only the rating is added up (see `counted_parts`)."""
    return [
        ("clean", value.capacity)
        for (pool, was_there), value in tally.untested.items()
        if pool in pools and in_baseline in (None, was_there)
    ]


def capacity_of(parts: Parts, *standings: Standing) -> Capacity:
    """Return the sum over parts, or over those that count for these reasons."""
    return sum((value for standing, value in parts if not standings or standing in standings), Capacity())


def _totals(parts: Parts) -> Totals:
    whole = capacity_of(parts)
    return filled(
        Totals,
        whole,
        devices_without_rating=whole.without_rating,
        # what nothing bounds counts by an accepted hold too: it is part of both
        on_accepted_hold_mflop_s=capacity_of(parts, "on_hold", "unbounded").certified_mflop_s,
        never_scheduled_mflop_s=capacity_of(parts, "unbounded").certified_mflop_s,
    )


def _untested(parts: Parts) -> Untested:
    whole = capacity_of(parts)
    return Untested(
        devices=whole.devices, nominal_mflop_s=whole.nominal_mflop_s, devices_without_rating=whole.without_rating
    )


def shown_lines(tally: Tally, scope: Scope) -> tuple[ShownLine, ...]:
    """Return the workloads that were measured and are not the counted one: they are shown, and count nothing."""
    counted = {pool.pool: scope.counting[pool.pool_class].workload for pool in scope.centre.pools}
    pairs = sorted(
        {(k.pool, k.workload) for k in tally.sums if k.workload != counted[k.pool] and k.standing != "witness"}
    )
    return tuple(
        ShownLine(
            pool=pool,
            precision=workload.precision,
            choice=workload.choice,
            shown=_totals(counted_parts(tally, {pool}, workload)),
        )
        for pool, workload in pairs
    )
