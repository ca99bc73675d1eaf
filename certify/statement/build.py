"""The one function that computes a `CapacityStatement`.

`build` is what ``certify`` calls to make a statement and what ``verify`` calls to recompute it: a statement is true to
its records if and only if both give the same bytes. Everything but `Issue` follows from the records and public data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from bench.record import GRADES, RULES_VERSION, ExpectedNode, PoolClass, Profile, digest
from bench.units import ratio_ppm
from certify.documents.kinds import Baseline, OpenedDocument
from certify.documents.statement import (
    Bookkeeping,
    CapacityStatement,
    ClassLine,
    EvidenceLine,
    Fabric,
    Finding,
    Inventory,
    Issue,
    NotCounted,
    PolicyRef,
)
from certify.judge.fabric import fabric_of
from certify.judge.scope import Scope
from certify.judge.tally import Tally
from certify.policy.capacity import Capacity
from certify.policy.policies import Policy
from certify.policy.ratings import Ratings
from certify.policy.reasons import effect_of
from certify.policy.thresholds import BaselineMatch, ClassEvidence, PolicyEvidence, Unrecorded
from certify.policy.verdicts import evaluate
from certify.statement import lines
from certify.statement.attendance import MISSING, absences_of, unrecorded_in
from certify.statement.baseline import baseline_facts
from certify.statement.brought.lines import evidence_lines, rmax_of
from certify.statement.brought.opening import Brought


@dataclass(frozen=True)
class StatementInputs:
    """What a statement is computed from besides its records: all of it is bound by digests, or is the issuer's word."""

    scope: Scope
    policies: tuple[Policy, ...]
    baseline_sha256: str | None = None
    baseline_devices: int = 0
    absent: Mapping[str, str] = field(default_factory=dict)  # node -> one of `attendance.ABSENCES`
    brought: tuple[Brought, ...] | None = None  # evidence documents; None: they are not at hand, only what is stated
    stated: tuple[EvidenceLine, ...] = ()  # what a signed statement says of them

    @classmethod
    def of_statement(
        cls,
        statement: CapacityStatement,
        policies: tuple[Policy, ...],
        profile: Profile,
        ratings: Ratings,
        baseline: OpenedDocument[Baseline] | None,
    ) -> StatementInputs:
        """Return what a signed statement says that it was computed from, with the tables and baseline that it binds.

        Raises:
            RefusedError: `policies-differ`, `class-not-counted`, `absence-unknown`.
        """
        inventory = baseline.predicate if baseline else None
        scope = Scope.of_statement(statement, policies, profile, ratings, inventory)
        return cls(scope, policies, *baseline_facts(baseline), absences_of(statement), stated=statement.evidence)

    def bringing(self, brought: tuple[Brought, ...]) -> StatementInputs:
        """Return the same with evidence documents, of whose nodes the records are then asked."""
        nodes = frozenset(node for one in brought for node in one.document.nodes)
        return replace(self, brought=brought, scope=replace(self.scope, evidence_nodes=nodes))

    def evidence(self, tally: Tally, fabric: Fabric | None) -> tuple[EvidenceLine, ...]:
        """Return what a statement says of the evidence: recomputed where the documents are at hand."""
        return self.stated if self.brought is None else evidence_lines(self.brought, tally, self.scope, fabric)


def build(tally: Tally, records_root: str, basis: StatementInputs, issue: Issue) -> CapacityStatement:
    """Compute the statement of a set of judged records (docs/policies.md)."""
    scope = basis.scope
    # a node left out may have devices as well as one whose record is missing: neither is known to have none
    absent, left_out = _nodes_missing(tally, scope)
    unrecorded = unrecorded_in(scope.centre, absent + left_out, tally.largest, tally.lacking)
    pools = tuple(lines.pool_line(pool, tally, scope) for pool in scope.centre.pools)
    classes = tuple(lines.class_line(name, tally, scope, missing) for name, missing in unrecorded.items())
    # the lowest of all that may ever count by this statement, with a witness or without
    grade = min(tally.grades | tally.with_witness_grades, key=GRADES.index, default=None)
    fabric = fabric_of(tally.fabric, scope, tally.node_ids)
    brought = basis.evidence(tally, fabric)
    evidence = _evidence(tally, basis, unrecorded, brought)
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
        shown=lines.shown_lines(tally, scope),
        bookkeeping=_bookkeeping(classes),
        inventory=tuple(
            Inventory(pool=pool, vendor=vendor, model=model, count_unit=unit, devices=count)
            for (pool, vendor, model, unit), count in sorted(tally.inventory.items())
        ),
        ceilings=lines.ceiling_lines(tally),
        vendors=lines.vendor_lines(tally),
        findings=tuple(
            Finding(code=code, effect=effect_of(code), workload=workload, devices=count)
            for (code, workload), count in sorted(tally.findings.items())
        ),
        not_counted=_not_counted(tally, basis, absent, left_out),
        verdicts=tuple(verdict for policy in basis.policies for verdict in evaluate(policy, evidence)),
        fabric=fabric,
        evidence=brought,
    )


def evidence_of(tally: Tally, basis: StatementInputs) -> PolicyEvidence:
    """Return what the verdicts of a statement are computed from."""
    absent, left_out = _nodes_missing(tally, basis.scope)
    unrecorded = unrecorded_in(basis.scope.centre, absent + left_out, tally.largest, tally.lacking)
    brought = basis.evidence(tally, fabric_of(tally.fabric, basis.scope, tally.node_ids))
    return _evidence(tally, basis, unrecorded, brought)


def _nodes_missing(tally: Tally, scope: Scope) -> tuple[list[ExpectedNode], list[ExpectedNode]]:
    """Return the expected nodes without a record, and those that the campaign left out."""
    absent = [node for node in scope.campaign.nodes if node.node_id not in tally.node_ids]
    return absent, [ExpectedNode(node_id=node.node_id, pool=node.pool) for node in scope.campaign.left_out]


def _not_counted(
    tally: Tally, basis: StatementInputs, absent: list[ExpectedNode], left_out: list[ExpectedNode]
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


def _bookkeeping(classes: tuple[ClassLine, ...]) -> Bookkeeping:
    certified = {line.pool_class: line.counted.certified_mflop_s for line in classes}
    return Bookkeeping(
        certified_mflop_s=sum(certified.values()),
        sustained_mflop_s=sum(line.counted.sustained_mflop_s for line in classes),
        nominal_mflop_s=sum(line.counted.nominal_mflop_s for line in classes),
        intelligent_share_ppm=ratio_ppm(certified.get("intelligent", 0), sum(certified.values())),
    )


def _evidence(
    tally: Tally,
    basis: StatementInputs,
    unrecorded: Mapping[PoolClass, Unrecorded],
    brought: tuple[EvidenceLine, ...],
) -> PolicyEvidence:
    scope = basis.scope
    devices = sum(tally.devices.values())
    classes = _class_evidence(tally, scope, unrecorded)
    return PolicyEvidence(
        classes={name: one._replace(rmax=rmax_of(brought, name)) for name, one in classes.items()},
        grade=min(tally.grades, key=GRADES.index, default=None),  # no witness is known to the verdicts
        simulated=tally.simulated,
        jurisdiction=scope.centre.jurisdiction,
        declarations=scope.centre.declarations,
        baseline=None
        if basis.baseline_sha256 is None
        else BaselineMatch(
            devices=basis.baseline_devices,
            still_present=tally.in_baseline,
            new_devices=devices - tally.in_baseline,
            certified_mflop_s=None if basis.baseline_devices else 0,  # what then was nobody has measured
        ),
        newly_added=_class_evidence(tally, scope, unrecorded, in_baseline=False),
        papers=frozenset(scope.centre.evidence),
        guide_year=scope.centre.guide_year,
        vendors=_by_vendor(tally, scope),
    )


def _by_vendor(tally: Tally, scope: Scope) -> dict[PoolClass, dict[str, Capacity]]:
    """Return what counts of each vendor in each class."""
    by_class: dict[PoolClass, dict[str, Capacity]] = {}
    classes = {pool.pool: pool.pool_class for pool in scope.centre.pools}
    for (pool, vendor), value in tally.vendors.items():
        of_class = by_class.setdefault(classes[pool], {})
        of_class[vendor] = of_class.get(vendor, Capacity()) + value.capacity
    return by_class


def _class_evidence(
    tally: Tally, scope: Scope, unrecorded: Mapping[PoolClass, Unrecorded], in_baseline: bool | None = None
) -> dict[PoolClass, ClassEvidence]:
    """Return what is known of each class. Nodes without a record may be new and may not: they could add to either."""
    result = {}
    for name, missing in unrecorded.items():
        pools = lines.pools_of(name, scope)
        parts = lines.counted_parts(tally, pools, scope.counting[name].workload, in_baseline)
        result[name] = ClassEvidence(
            clean=lines.capacity_of(parts, "clean"),
            on_hold=lines.capacity_of(parts, "on_hold", "unbounded"),
            untested=lines.capacity_of(lines.untested_parts(tally, pools, in_baseline)),
            unrecorded=missing,
        )
    return result
