"""The types of a capacity statement: the centre's claim, as the operator signs it (docs/formats.md).

What a statement says is computed by `certify.statement.build` alone; here stand its fields and nothing else.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from bench.record import (
    Campaign,
    Choice,
    Count,
    Document,
    Grade,
    Name,
    PoolClass,
    Positive,
    Ppm,
    Precision,
    Sha256,
    Signed,
    Text,
    UtcTime,
)
from bench.record.closing import Closing
from certify.documents.evidence import EvidenceKind
from certify.policy.centre import Centre
from certify.policy.pools import Places
from certify.policy.verdicts import Verdict


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
    in_baseline: Totals = field(name="existing")  # the part of `counted` that the baseline inventory lists
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
    in_baseline: Totals = field(name="existing")
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


class FabricGroup(Document, frozen=True, kw_only=True):
    """Devices whose reduced vector shows that they reduced together in run C."""

    group: Name | None  # as the campaign names it; null: all nodes were one
    nodes: Positive
    devices: Positive


class NetworkLine(Document, frozen=True, kw_only=True):
    """What the network costs: the rates of runs A, B and C over the devices of all whole groups, for one T."""

    tokens: Positive
    devices: Positive
    compute_mflop_s: Count  # A
    node_mflop_s: Count  # B
    fabric_mflop_s: Count  # C
    contention_ppm: Signed  # 1 - B / A
    network_loss_ppm: Signed  # 1 - C / B
    retained_ppm: Count  # C / A


class BandwidthLine(Document, frozen=True, kw_only=True):
    """All-reduces of one size without products; the slowest group's."""

    size_bytes: Positive
    ranks: Positive
    algorithm_mb_s: Count  # 10^6 byte/s
    bus_mb_s: Count


class Fabric(Document, frozen=True, kw_only=True):
    """What the network's runs show: whether the devices of the statement are connected, and what it costs."""

    state: Literal["connected", "partly", "not-shown"]
    devices: Count  # in the groups
    of_devices: Count  # in the records
    groups: tuple[FabricGroup, ...]  # by size, the largest first
    codes: tuple[Name, ...]  # why it is not wholly shown
    losses: tuple[NetworkLine, ...]
    bandwidths: tuple[BandwidthLine, ...]


class BusLine(Document, frozen=True, kw_only=True):
    """A bus bandwidth that another tool printed, and the one that this harness measured of the same size."""

    collective: Name
    size_bytes: Positive
    ranks: Positive | None
    bus_mb_s: Count  # 10^6 byte/s
    measured_mb_s: Count | None  # by the sweep of all-reduces; null: of that size there is none
    difference_ppm: Signed | None  # the tool's over the measured one, less one


WITHOUT_RECORD = "evidence-node-without-record"  # of evidence: of a node that it names the statement has none


class EvidenceLine(Document, frozen=True, kw_only=True):
    """Another tool's result that an operator or a witness signed. It is never mixed with the sum of the nodes."""

    evidence_sha256: Sha256  # payload digest of its document
    kind: EvidenceKind
    by: Literal["operator", "witness"]
    tool: Text
    file_sha256: Sha256
    pool: Name | None  # whose devices computed; null: of several
    pool_class: PoolClass | None  # of these pools; null: of several
    nodes: Positive
    runs: Count  # that count as evidence
    failed: Count  # that do not
    n: Positive | None  # of the fastest run
    rate_mflop_s: Count | None  # the highest of its runs; of HPL: Rmax
    native_mflop_s: Count | None  # of HPL: the highest that is surely no emulation; null: none is
    codes: tuple[Name, ...]  # of the file, and of what counts as evidence
    failed_codes: tuple[Name, ...]  # of what does not
    buses: Annotated[tuple[BusLine, ...], Meta(max_length=64)]

    @property
    def is_rmax(self) -> bool:
        """Whether its rate is an Rmax of its nodes: HPL's, and held against the record of each of them."""
        return self.kind == "hpl" and self.rate_mflop_s is not None and WITHOUT_RECORD not in self.codes


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
    fabric: Fabric | None = None  # null: the campaign has no run of the network
    evidence: Annotated[tuple[EvidenceLine, ...], Meta(max_length=32)] = ()  # by digest of the document

    @property
    def places(self) -> Places:
        """Where its devices count."""
        return Places(self.centre, self.campaign)
