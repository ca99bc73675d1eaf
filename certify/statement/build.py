"""CapacityStatement: the centre's claim, and the one function that computes it.

`build` is what ``certify`` calls to make a statement and what ``verify`` calls to recompute it: a statement is true to
its records if and only if both give the same bytes. Everything but `Issue` follows from the records and public data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from msgspec import Meta

from bench.record import (
    GRADES,
    RULES_VERSION,
    Campaign,
    Choice,
    Count,
    Document,
    ExpectedNode,
    Grade,
    Name,
    PoolClass,
    Positive,
    Ppm,
    Precision,
    Sha256,
    Text,
    UtcTime,
    Workload,
    digest,
)
from bench.record.closing import Closing
from bench.units import ratio_ppm
from certify.judge.aggregate import Scope, Standing, Sum, Tally
from certify.judge.ceilings import STEPS
from certify.policy.centre import Centre, Pool
from certify.policy.evidence import BaselineMatch, ClassEvidence, Evidence, Sums, Unrecorded
from certify.policy.policies import Policy
from certify.policy.pools import Places
from certify.policy.reasons import effect_of
from certify.policy.verdicts import Verdict, evaluate
from certify.statement.attendance import MISSING, check_absences, unrecorded_in


class Issue(Document, frozen=True, kw_only=True):
    """What the issuer decides: number, times, and the statements before this one."""

    sequence: Positive  # counts up for each centre and project
    previous_sha256: Sha256 | None  # payload digest of the statement before
    supersedes: tuple[Sha256, ...]
    issued_at: UtcTime
    valid_until: UtcTime


class PolicyRef(Document, frozen=True, kw_only=True):
    """A policy that the verdicts were computed with."""

    policy: Name
    sha256: Sha256


class Totals(Document, frozen=True, kw_only=True):
    """Sum over counted devices, MFLOP/s. `upper` is null where one device's bound is unbounded."""

    devices: Count
    certified_mflop_s: Count
    sustained_mflop_s: Count
    upper_mflop_s: Count | None
    nominal_mflop_s: Count
    devices_without_rating: Count
    on_accepted_hold_mflop_s: Count  # part of certified that rests on holds which the policy accepts
    never_scheduled_mflop_s: Count  # part of that which nothing known bounds: no platform schedules it


class StepLine(Document, frozen=True, kw_only=True):
    """The part of a sum that rests on one step of evidence (R12)."""

    step: Name  # measured, silicon, rating or none
    devices: Count
    certified_mflop_s: Count


class Untested(Document, frozen=True, kw_only=True):
    """Devices that count 0 (not measured, held or void) and what their vendors rate them at."""

    devices: Count
    nominal_mflop_s: Count
    devices_without_rating: Count


class PoolLine(Document, frozen=True, kw_only=True):
    """One pool in the precision that its class counts."""

    pool: Name
    pool_class: PoolClass
    precision: Precision
    choice: Choice
    accumulate: Precision
    nodes_recorded: Count
    devices_found: Count
    counted: Totals
    existing: Totals  # the part of `counted` that stands in the baseline inventory
    with_witness: Totals  # beside `counted`: what counts once a witness vouches for the statement
    steps: tuple[StepLine, ...]  # of `counted`
    untested: Untested


class ShownLine(Document, frozen=True, kw_only=True):
    """A workload that was measured and is shown, and counts nothing."""

    pool: Name
    precision: Precision
    choice: Choice
    shown: Totals


class ClassLine(Document, frozen=True, kw_only=True):
    """Capacity of one class: the sum over its pools."""

    pool_class: PoolClass
    precision: Precision
    choice: Choice
    counted: Totals
    existing: Totals
    with_witness: Totals
    steps: tuple[StepLine, ...]
    untested: Untested
    nodes_missing: Count  # left out, or without a record of a device in the class: what they have is unknown
    missing_at_most_mflop_s: Count | None  # what they could at most add; null: nobody knows


class Inventory(Document, frozen=True, kw_only=True):
    """How many devices of one model were found in a pool. Identities stand in the records only."""

    pool: Name
    vendor: Text
    model: Text
    count_unit: Text
    devices: Count


class CeilingLine(Document, frozen=True, kw_only=True):
    """The figures of one model under one limit of R12: how strong the evidence is that bounds them, and what binds."""

    pool: Name
    precision: Precision
    choice: Choice
    vendor: Text
    model: Text
    step: Name
    limit: Name | None  # the lowest that exists, `certify.judge.ceilings.LimitName`
    least_mflop_s: Count | None  # the lowest of these figures' limits
    figures: Count
    counted: Count
    certified_mflop_s: Count  # of those counted


class VendorLine(Document, frozen=True, kw_only=True):
    """The counted devices of one vendor in a pool, as the devices report it: sums, MFLOP/s."""

    pool: Name
    vendor: Text
    devices: Count
    certified_mflop_s: Count
    sustained_mflop_s: Count
    nominal_mflop_s: Count


class Finding(Document, frozen=True, kw_only=True):
    """How many figures carry one reason code."""

    code: Name
    effect: Name
    workload: Text
    devices: Count


class NotCounted(Document, frozen=True, kw_only=True):
    """A device that counts 0, or a node without a record, and why."""

    node_id: Name
    device: Text | None
    workload: Text | None
    codes: Annotated[tuple[Name, ...], Meta(min_length=1)]


class Bookkeeping(Document, frozen=True, kw_only=True):
    """The sum across classes mixes precisions: it is bookkeeping, not a rate that anything can run at."""

    certified_mflop_s: Count
    sustained_mflop_s: Count
    nominal_mflop_s: Count
    intelligent_share_ppm: Ppm | None


class CapacityStatement(Document, frozen=True, kw_only=True):
    """The centre's claim: the predicate of the document that the operator signs."""

    rules: Text
    issue: Issue
    centre: Centre
    centre_sha256: Sha256
    campaign: Campaign
    campaign_sha256: Sha256
    starts_at: UtcTime  # T0: all nodes started together
    closing: Closing | None  # the campaign's; null where nobody coordinated it
    profile: Name
    profile_sha256: Sha256
    ratings_sha256: Sha256
    policies: Annotated[tuple[PolicyRef, ...], Meta(min_length=1)]
    baseline_sha256: Sha256 | None
    records: Positive
    records_root: Sha256  # RFC 6962 Merkle root over the records' payload digests, ascending
    measured_from: UtcTime
    measured_until: UtcTime
    grade: Grade | None  # lowest of what counts, be it with a witness only; null where there is neither
    simulated: bool
    pools: Annotated[tuple[PoolLine, ...], Meta(min_length=1)]
    classes: Annotated[tuple[ClassLine, ...], Meta(min_length=1)]
    shown: tuple[ShownLine, ...]
    bookkeeping: Bookkeeping
    inventory: tuple[Inventory, ...]
    ceilings: tuple[CeilingLine, ...]
    vendors: tuple[VendorLine, ...]  # the pools' counted sums, split by vendor
    findings: tuple[Finding, ...]
    not_counted: tuple[NotCounted, ...]
    verdicts: Annotated[tuple[Verdict, ...], Meta(min_length=1)]

    @property
    def places(self) -> Places:
        """Where its devices count."""
        return Places(self.centre, self.campaign)


@dataclass(frozen=True)
class Basis:
    """What a statement is computed from besides its records: all of it is bound by digests, or is the issuer's word."""

    scope: Scope
    policies: tuple[Policy, ...]
    baseline_sha256: str | None = None
    baseline_devices: int = 0
    absent: Mapping[str, str] = field(default_factory=dict)  # node -> one of `attendance.ABSENCES`


def build(tally: Tally, records_root: str, basis: Basis, issue: Issue) -> CapacityStatement:
    """Compute the statement of a set of judged records (docs/policies.md)."""
    scope = basis.scope
    absent, left_out = _nodes_missing(tally, scope)
    unrecorded = unrecorded_in(scope.centre, absent + left_out, tally.largest, tally.lacking)
    pools = tuple(_pool_line(pool, tally, scope) for pool in scope.centre.pools)
    classes = tuple(_class_line(name, tally, scope, missing) for name, missing in unrecorded.items())
    grade = min(tally.grades | tally.with_witness_grades, key=GRADES.index, default=None)
    evidence = _evidence(tally, basis, unrecorded)
    return CapacityStatement(
        rules=RULES_VERSION,
        issue=issue,
        centre=scope.centre,
        centre_sha256=digest(scope.centre),
        campaign=scope.campaign,
        campaign_sha256=scope.campaign_sha256,
        starts_at=scope.starts_at,
        closing=scope.closing,
        profile=scope.profile.profile,
        profile_sha256=scope.profile_sha256,
        ratings_sha256=scope.ratings.digest,
        policies=tuple(PolicyRef(policy=policy.policy, sha256=digest(policy)) for policy in basis.policies),
        baseline_sha256=basis.baseline_sha256,
        records=len(tally.node_ids),
        records_root=records_root,
        measured_from=tally.measured_from,
        measured_until=tally.measured_until,
        grade=grade,
        simulated=tally.simulated,
        pools=pools,
        classes=classes,
        shown=_shown(tally, scope),
        bookkeeping=_bookkeeping(classes),
        inventory=tuple(
            Inventory(pool=pool, vendor=vendor, model=model, count_unit=unit, devices=count)
            for (pool, vendor, model, unit), count in sorted(tally.inventory.items())
        ),
        ceilings=_ceilings(tally),
        vendors=_vendors(tally),
        findings=tuple(
            Finding(code=code, effect=effect_of(code), workload=workload, devices=count)
            for (code, workload), count in sorted(tally.findings.items())
        ),
        not_counted=_not_counted(tally, basis, absent, left_out),
        verdicts=tuple(verdict for policy in basis.policies for verdict in evaluate(policy, evidence)),
    )


def evidence_of(tally: Tally, basis: Basis) -> Evidence:
    """Return what the verdicts of a statement are computed from."""
    absent, left_out = _nodes_missing(tally, basis.scope)
    return _evidence(tally, basis, unrecorded_in(basis.scope.centre, absent + left_out, tally.largest, tally.lacking))


def _nodes_missing(tally: Tally, scope: Scope) -> tuple[list[ExpectedNode], list[ExpectedNode]]:
    """Return the expected nodes without a record, and those that the campaign left out."""
    absent = [node for node in scope.campaign.nodes if node.node_id not in tally.node_ids]
    return absent, [ExpectedNode(node_id=node.node_id, pool=node.pool) for node in scope.campaign.left_out]


def _vendors(tally: Tally) -> tuple[VendorLine, ...]:
    return tuple(
        VendorLine(
            pool=pool,
            vendor=vendor,
            devices=value.devices,
            certified_mflop_s=value.certified_mflop_s,
            sustained_mflop_s=value.sustained_mflop_s,
            nominal_mflop_s=value.nominal_mflop_s,
        )
        for (pool, vendor), value in sorted(tally.vendors.items())
    )


def _not_counted(
    tally: Tally, basis: Basis, absent: list[ExpectedNode], left_out: list[ExpectedNode]
) -> tuple[NotCounted, ...]:
    """Return what counts 0: devices by their codes, then nodes without a record by why there is none."""
    devices = (
        NotCounted(node_id=node, device=device, workload=workload, codes=codes)
        for node, device, workload, codes in sorted(tally.not_counted)
    )
    nodes = (
        *((node.node_id, basis.absent.get(node.node_id, MISSING)) for node in absent),
        *((node.node_id, "node-left-out") for node in left_out),
    )
    return (
        *devices,
        *(NotCounted(node_id=node, device=None, workload=None, codes=(why,)) for node, why in nodes),
    )


def _pool_line(pool: Pool, tally: Tally, scope: Scope) -> PoolLine:
    counting = scope.counting[pool.pool_class]
    return PoolLine(
        pool=pool.pool,
        pool_class=pool.pool_class,
        precision=counting.precision,
        choice=counting.choice,
        accumulate=counting.accumulate,
        nodes_recorded=tally.nodes[pool.pool],
        devices_found=tally.found[pool.pool],
        counted=_totals(_select(tally, {pool.pool}, counting.workload)),
        existing=_totals(_select(tally, {pool.pool}, counting.workload, existing=True)),
        with_witness=_totals(_with_witness(tally, {pool.pool}, counting.workload)),
        steps=_steps(tally, {pool.pool}, counting.workload),
        untested=_untested(_select_untested(tally, {pool.pool})),
    )


def _class_line(name: PoolClass, tally: Tally, scope: Scope, missing: Unrecorded) -> ClassLine:
    pools = _pools_of(name, scope)
    counted = scope.counting[name].workload
    return ClassLine(
        pool_class=name,
        precision=counted.precision,
        choice=counted.choice,
        counted=_totals(_select(tally, pools, counted)),
        existing=_totals(_select(tally, pools, counted, existing=True)),
        with_witness=_totals(_with_witness(tally, pools, counted)),
        steps=_steps(tally, pools, counted),
        untested=_untested(_select_untested(tally, pools)),
        nodes_missing=missing.nodes,
        missing_at_most_mflop_s=missing.at_most_mflop_s,
    )


def _pools_of(name: PoolClass, scope: Scope) -> set[str]:
    return {pool.pool for pool in scope.centre.pools if pool.pool_class == name}


Parts = list[tuple[Standing, Sum]]


def _select(tally: Tally, pools: set[str], workload: Workload, existing: bool | None = None) -> Parts:
    """Return what counts of pools in one workload; `existing` restricts it to devices in (or not in) the baseline."""
    return [
        (key.standing, value)
        for key, value in tally.sums.items()
        if key.pool in pools and key.workload == workload and existing in (None, key.existing)
        if key.standing != "witness"
    ]


def _with_witness(tally: Tally, pools: set[str], workload: Workload) -> Parts:
    """Return what counts nothing as yet, and will once a witness vouches for the statement."""
    return [
        (key.standing, value)
        for key, value in tally.sums.items()
        if key.pool in pools and key.workload == workload and key.standing == "witness"
    ]


def _steps(tally: Tally, pools: set[str], workload: Workload) -> tuple[StepLine, ...]:
    """Return what counts of pools in one workload by the step of evidence that it rests on, the strongest first."""
    lines = []
    for step in STEPS:
        found = [
            one
            for key, one in tally.ceilings.items()
            if key.pool in pools and (key.workload, key.step) == (workload, step)
        ]
        if devices := sum(c.counted for c in found):
            certified = sum(c.certified_mflop_s for c in found)
            lines.append(StepLine(step=step, devices=devices, certified_mflop_s=certified))
    return tuple(lines)


def _ceilings(tally: Tally) -> tuple[CeilingLine, ...]:
    return tuple(
        CeilingLine(
            pool=key.pool,
            precision=key.workload.precision,
            choice=key.workload.choice,
            vendor=key.vendor,
            model=key.model,
            step=key.step,
            limit=key.limit,
            least_mflop_s=found.least_mflop_s,
            figures=found.figures,
            counted=found.counted,
            certified_mflop_s=found.certified_mflop_s,
        )
        for key, found in sorted(tally.ceilings.items(), key=lambda one: (*one[0][:-1], one[0].limit or ""))
    )


def _select_untested(tally: Tally, pools: set[str], existing: bool | None = None) -> Parts:
    return [
        ("clean", value)
        for (pool, in_baseline), value in tally.untested.items()
        if pool in pools and existing in (None, in_baseline)
    ]


def _added(parts: Parts, *standings: Standing) -> Sums:
    """Return the sum over parts, or over those that stand so."""
    whole = Sum()
    for standing, value in parts:
        if not standings or standing in standings:
            whole.add(value)
    return Sums(
        devices=whole.devices,
        certified_mflop_s=whole.certified_mflop_s,
        sustained_mflop_s=whole.sustained_mflop_s,
        upper_mflop_s=None if whole.unbounded else whole.upper_mflop_s,
        nominal_mflop_s=whole.nominal_mflop_s,
        without_rating=whole.without_rating,
    )


def _totals(parts: Parts) -> Totals:
    whole = _added(parts)
    return Totals(
        devices=whole.devices,
        certified_mflop_s=whole.certified_mflop_s,
        sustained_mflop_s=whole.sustained_mflop_s,
        upper_mflop_s=whole.upper_mflop_s,
        nominal_mflop_s=whole.nominal_mflop_s,
        devices_without_rating=whole.without_rating,
        on_accepted_hold_mflop_s=_added(parts, "on_hold", "unbounded").certified_mflop_s,
        never_scheduled_mflop_s=_added(parts, "unbounded").certified_mflop_s,
    )


def _untested(parts: Parts) -> Untested:
    whole = _added(parts)
    return Untested(
        devices=whole.devices, nominal_mflop_s=whole.nominal_mflop_s, devices_without_rating=whole.without_rating
    )


def _shown(tally: Tally, scope: Scope) -> tuple[ShownLine, ...]:
    """Return the workloads that were measured beside the counted one."""
    counted = {pool.pool: scope.counting[pool.pool_class].workload for pool in scope.centre.pools}
    pairs = sorted(
        {(k.pool, k.workload) for k in tally.sums if k.workload != counted[k.pool] and k.standing != "witness"}
    )
    return tuple(
        ShownLine(
            pool=pool,
            precision=workload.precision,
            choice=workload.choice,
            shown=_totals(_select(tally, {pool}, workload)),
        )
        for pool, workload in pairs
    )


def _bookkeeping(classes: tuple[ClassLine, ...]) -> Bookkeeping:
    certified = {line.pool_class: line.counted.certified_mflop_s for line in classes}
    return Bookkeeping(
        certified_mflop_s=sum(certified.values()),
        sustained_mflop_s=sum(line.counted.sustained_mflop_s for line in classes),
        nominal_mflop_s=sum(line.counted.nominal_mflop_s for line in classes),
        intelligent_share_ppm=ratio_ppm(certified.get("intelligent", 0), sum(certified.values())),
    )


def _evidence(tally: Tally, basis: Basis, unrecorded: Mapping[PoolClass, Unrecorded]) -> Evidence:
    scope = basis.scope
    found = sum(tally.found.values())
    return Evidence(
        classes=_class_evidence(tally, scope, unrecorded),
        grade=min(tally.grades, key=GRADES.index, default=None),  # no witness is known to the verdicts
        simulated=tally.simulated,
        jurisdiction=scope.centre.jurisdiction,
        declarations=scope.centre.declarations,
        baseline=None
        if basis.baseline_sha256 is None
        else BaselineMatch(
            devices=basis.baseline_devices,
            still_present=tally.existing,
            new_devices=found - tally.existing,
            certified_mflop_s=None if basis.baseline_devices else 0,  # what then was nobody has measured
        ),
        newly_added=_class_evidence(tally, scope, unrecorded, existing=False),
        papers=frozenset(scope.centre.evidence),
        guide_year=scope.centre.guide_year,
        vendors=_by_vendor(tally, scope),
    )


def _by_vendor(tally: Tally, scope: Scope) -> dict[PoolClass, dict[str, Sums]]:
    """Return what counts of each vendor in each class."""
    found: dict[PoolClass, dict[str, Sums]] = {}
    classes = {pool.pool: pool.pool_class for pool in scope.centre.pools}
    for (pool, vendor), value in tally.vendors.items():
        of_class = found.setdefault(classes[pool], {})
        of_class[vendor] = of_class.get(vendor, Sums()).plus(_added([("clean", value)]))
    return found


def _class_evidence(
    tally: Tally, scope: Scope, unrecorded: Mapping[PoolClass, Unrecorded], existing: bool | None = None
) -> dict[PoolClass, ClassEvidence]:
    """Return what is known of each class. Nodes without a record may be new and may not: they could add to either."""
    result = {}
    for name, missing in unrecorded.items():
        pools = _pools_of(name, scope)
        parts = _select(tally, pools, scope.counting[name].workload, existing)
        result[name] = ClassEvidence(
            clean=_added(parts, "clean"),
            on_hold=_added(parts, "on_hold", "unbounded"),
            untested=_added(_select_untested(tally, pools, existing)),
            unrecorded=missing,
        )
    return result


def absences_of(statement: CapacityStatement) -> dict[str, str]:
    """Return why nodes have no record, as a statement says it.

    Raises:
        RefusedError: `absence-unknown`.
    """
    left_out = {node.node_id for node in statement.campaign.left_out}
    nodes = (entry for entry in statement.not_counted if entry.device is None and entry.node_id not in left_out)
    found = {entry.node_id: entry.codes[0] for entry in nodes}
    check_absences(found)
    return found
