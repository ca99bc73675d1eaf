"""One record into a tally: each of its devices is judged, and each figure is added to the sums that it counts in.

Pure functions of values. What merely fails a rule is listed with its codes and counts 0; a record of another campaign,
centre or profile is refused as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Literal, NamedTuple

import msgspec

from bench.record import Device, DeviceModel, Figure, Grade, NodeRecord, PoolClass, Workload
from bench.record.identities import DeviceKeys, device_keys, unshared_identities
from certify.judge.case import Setting
from certify.judge.ceilings import NEVER_SCHEDULED, RateLimit, Step, bound_of
from certify.judge.fabric.rows import add_network
from certify.judge.identities import identity_codes, r12_kind, record_codes
from certify.judge.nodes import means_of
from certify.judge.parts import RatedModel, parenthood
from certify.judge.products import r4_shape_settled
from certify.judge.rules import JudgedMeasurement, RecordFigures, figures_of
from certify.judge.scope import Scope, check_belongs
from certify.judge.tally import CeilingKey, CeilingSum, Key, Standing, Tally
from certify.policy.capacity import CapacitySum, NodeMost
from certify.policy.centre import Pool
from certify.policy.policies import Counting
from certify.policy.rating import Rating
from certify.policy.reasons import effect_of


class JudgedFigure(NamedTuple):
    """One figure with everything that the rules made of it."""

    node_id: str
    pool: str
    setting: Setting
    figure: Figure
    counted: bool  # the workload is the one that counts in its pool
    codes: tuple[str, ...]
    grade: Grade | None
    counts: bool
    step: Step
    limit: RateLimit | None  # the lowest of R12 that exists


Explain = Callable[[JudgedFigure], None]


def tally_record(record: NodeRecord, scope: Scope, tally: Tally) -> list[DeviceKeys]:
    """Judge one record, add it to `tally`, and return the device identities that `Uniqueness` compares.

    Raises:
        RefusedError: the record does not belong to the statement's campaign, centre or profile.
    """
    check_belongs(record, scope)
    return add_record(record, scope, tally)


class _Judging(NamedTuple):
    """One record with everything that its devices are judged by, and where the sums go."""

    record: NodeRecord
    scope: Scope
    figures: RecordFigures
    codes: tuple[str, ...]  # of the whole record: each of its figures carries them
    tally: Tally
    explain: Explain | None
    settled: dict[tuple[Workload, int], tuple[str, ...]]  # R4's codes of a workload and model, once for all devices


def add_record(record: NodeRecord, scope: Scope, tally: Tally, explain: Explain | None = None) -> list[DeviceKeys]:
    """Judge a record of an expected node, whether or not it belongs here (see `tally_record`).

    Args:
        record: of a node that the campaign names.
        scope: what it is judged against.
        tally: takes its sums.
        explain: called with each figure and what was made of it.
    """
    tally.node_ids.add(record.node_id)
    # of every record: what counts 0 was measured in this time as well
    tally.measured_from = min(tally.measured_from, record.started_at)
    tally.measured_until = max(tally.measured_until, record.ended_at)
    add_network(record, scope, tally.fabric)
    codes = (*scope.key_codes(record), *scope.clock_codes(record), *record_codes(record))
    figures = figures_of(record, scope.ratings, scope.plan)
    if record.node_id in scope.evidence_nodes:
        tally.means[record.node_id] = means_of(record, figures.rows)
    judging = _Judging(record, scope, figures, codes, tally, explain, {})
    in_pools: dict[str, NodeMost] = {}
    keys = []
    for device in record.devices:
        shown = unshared_identities(device)
        known = device_keys(device, shown)
        keys.append(known)
        tally.simulated |= record.models[device.model].simulated
        pool = scope.places.pool_of(record.node_id, device.device)
        if pool is None:
            # listed and not refused: a centre claims nothing by a device that it puts into no pool
            tally.findings["no-pool", "-"] += 1
            tally.not_counted.append((record.node_id, device.device, "-", ("no-pool",)))
            continue
        most = _tally_device(judging, _placed(judging, device, pool, shown, known))
        before = in_pools.get(pool.pool)
        in_pools[pool.pool] = most if before is None else before.plus(most)
    for name, most in in_pools.items():
        tally.nodes[name] += 1
        tally.largest[name] = most.or_other(tally.largest.get(name))
    # a self-issued campaign places no node, so that none can lack what was expected of it
    for name in () if scope.campaign.self_issued else scope.campaign.pools_of(record.node_id):
        if name not in in_pools:
            tally.lacking.setdefault(name, set()).add(record.node_id)
    return keys


class PlacedDevice(msgspec.Struct, frozen=True, gc=False):
    """A device of a record, the pool that it counts in, and what is said of it whatever its figures are."""

    device: Device
    model: DeviceModel
    row: RatedModel
    pool: Pool
    counting: Counting  # of the pool's class
    counted: Workload  # that of `counting`, once for all its figures
    in_baseline: bool
    codes: tuple[str, ...]  # of the whole record, the device and its place


def _placed(judging: _Judging, device: Device, pool: Pool, shown: Mapping[str, str], known: DeviceKeys) -> PlacedDevice:
    record, scope, figures = judging.record, judging.scope, judging.figures
    model, row = record.models[device.model], figures.rows[device.model]
    codes = (
        *judging.codes,
        *identity_codes(device, model, shown),
        *place_codes(model, device, row.rating, pool.pool_class, scope.centre.in_operation),
        *(("too-many-parts",) if device.device in figures.crowded else ()),
    )
    in_baseline = bool(scope.in_baseline) and not scope.in_baseline.isdisjoint(known.known)
    counting = scope.counting[pool.pool_class]
    return PlacedDevice(device, model, row, pool, counting, scope.counted[pool.pool_class], in_baseline, codes)


def _tally_device(judging: _Judging, placed: PlacedDevice) -> NodeMost:
    """Add a device with its figures, and return what one like it could at most add."""
    tally, node_id = judging.tally, judging.record.node_id
    name, pool, model = placed.device.device, placed.pool.pool, placed.model
    tally.devices[pool] += 1
    tally.inventory[pool, model.vendor, model.model, model.count_unit] += 1
    tally.in_baseline += placed.in_baseline
    counted = placed.counted
    counts, upper_mflop_s = False, None
    measured, failures = judging.figures.judged[name], judging.figures.failures.get(name, {})
    for workload, judged in measured.items():
        worth = _tally_figure(judging, placed, workload, judged)
        if workload == counted:
            counts = worth == "counts"
            # a figure on hold may be true, and then a node like this one may give as much; a void one says nothing
            upper_mflop_s = None if worth == "void" else judged.figure.upper_mflop_s
    for workload, code in failures.items():
        tally.findings[code, str(workload)] += 1
        if workload == counted:
            tally.not_counted.append((node_id, name, str(workload), (code,)))
    if counted not in measured and counted not in failures:
        tally.findings["untested", str(counted)] += 1
        tally.not_counted.append((node_id, name, str(counted), ("untested",)))
    nominal = placed.row.nominal_mflop_s(placed.counting.precision)
    if not counts:
        tally.untested.setdefault((pool, placed.in_baseline), CapacitySum()).add_rating(nominal)
    return NodeMost.of_device(upper_mflop_s, nominal)


def _tally_figure(
    judging: _Judging, placed: PlacedDevice, workload: Workload, judged: JudgedMeasurement
) -> Literal["counts", "held", "void"]:
    """Add one figure, and return what the rules make of it; only one in the counted workload counts."""
    scope, tally, node_id = judging.scope, judging.tally, judging.record.node_id
    figure, judgement = judged.figure, judged.judgement
    codes = _figure_codes(judging, placed, workload, judged)
    label, counted = str(workload), workload == placed.counted
    for code in codes:
        tally.findings[code, label] += 1
    holds, blocking = partition_codes(codes, scope.accept)
    standing = standing_of(holds, blocking, scope.accept_with_witness)
    if standing is not None:
        _add_capacity(tally, placed, workload, figure, standing)
    _add_ceiling(tally, placed, workload, judged, counts=not blocking)
    counts = counted and not blocking
    grade = judgement.grade
    if judging.explain is not None:
        pool, step, limit = placed.pool.pool, judgement.step, judgement.limit
        judging.explain(JudgedFigure(node_id, pool, judged.setting, figure, counted, codes, grade, counts, step, limit))
    if counted and standing is not None:
        grades = tally.with_witness_grades if standing == "witness" else tally.grades
        # a processor that fills an intelligent pool makes the whole sum no better than a smoke test
        grades.add("smoke" if grade is None or "cpu-fallback" in codes else grade)
    if counted and not counts:
        tally.not_counted.append((node_id, placed.device.device, label, blocking))
    if not blocking:
        return "counts"
    # "held": a policy that accepts these holds would count the figure
    return "held" if set(blocking) <= set(holds) else "void"


def _figure_codes(
    judging: _Judging, placed: PlacedDevice, workload: Workload, judged: JudgedMeasurement
) -> tuple[str, ...]:
    """Return all codes of one figure: its own, those of its device and record, and what its class counts instead."""
    measurement, counting = judged.setting.measurement, placed.counting
    like = workload, placed.device.model
    if (settled := judging.settled.get(like)) is None:
        settled = judging.settled[like] = r4_shape_settled(measurement, placed.model, judging.scope.closing)
    codes = (*judged.judgement.codes, *settled, *placed.codes)
    # public texts count intelligent compute in FP16; BF16 has fewer bits, and is shown beside it
    if workload.precision == "bf16" and placed.pool.pool_class == "intelligent":
        codes += ("bf16-not-fp16",)
    if workload == placed.counted and measurement.accumulate != counting.accumulate:
        codes += ("accumulation-not-counted",)
    return codes


def _add_capacity(tally: Tally, placed: PlacedDevice, workload: Workload, figure: Figure, standing: Standing) -> None:
    pool = placed.pool.pool
    key = Key(pool, workload, placed.in_baseline, standing)
    if (total := tally.sums.get(key)) is None:  # not setdefault, which makes a sum for every figure
        total = tally.sums[key] = CapacitySum()
    nominal = placed.row.nominal_mflop_s(workload.computed)
    total.add_figure(figure, nominal)
    if workload == placed.counted and standing != "witness":
        vendor = pool, placed.model.vendor
        if (of_vendor := tally.vendors.get(vendor)) is None:
            of_vendor = tally.vendors[vendor] = CapacitySum()
        of_vendor.add_figure(figure, nominal)


def _add_ceiling(
    tally: Tally, placed: PlacedDevice, workload: Workload, judged: JudgedMeasurement, *, counts: bool
) -> None:
    name, most_mflop_s = bound_of(judged.judgement.limit)
    model = placed.model
    key = CeilingKey(placed.pool.pool, workload, model.vendor, model.model, judged.judgement.step, name)
    if (under := tally.ceilings.get(key)) is None:
        under = tally.ceilings[key] = CeilingSum()
    under.add_figure(counts, judged.figure.certified_mflop_s, most_mflop_s)


def standing_of(
    holds: tuple[str, ...], blocking: tuple[str, ...], accept_with_witness: frozenset[str]
) -> Standing | None:
    """Return what a figure's holds make of it, given those that keep it from counting; None where it counts 0.

    A witness who answers for one hold makes nothing schedulable of what counts by another that nothing bounds.
    """
    if not holds and not blocking:
        return "clean"
    unbounded = NEVER_SCHEDULED.intersection(holds).difference(blocking)
    if blocking:
        return "witness" if accept_with_witness.issuperset(blocking) and not unbounded else None
    return "unbounded" if unbounded else "on_hold"


@lru_cache(maxsize=1024)  # most devices of a centre earn the same few codes
def partition_codes(codes: tuple[str, ...], accept: frozenset[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the holds among reason codes, and the codes that make a figure count 0 (voids and unaccepted holds)."""
    graver = [(code, effect) for code in codes if (effect := effect_of(code)) != "note"]
    holds = tuple(code for code, effect in graver if effect == "hold")
    return holds, tuple(code for code, effect in graver if effect != "hold" or code not in accept)


def place_codes(
    model: DeviceModel, device: Device, rating: Rating | None, pool_class: PoolClass, in_operation: bool
) -> list[str]:
    """Codes that depend on where a device stands: what is not in operation, a CPU as intelligent compute."""
    codes = list(r12_kind(device.device, model, rating))
    if not in_operation:
        codes.append("not-in-operation")
    codes += parenthood(model, device)
    if pool_class == "intelligent" and model.kind == "cpu":
        codes.append("cpu-fallback")
    if rating is None and model.kind != "cpu" and not model.simulated:
        codes.append("no-rating")
    return codes
