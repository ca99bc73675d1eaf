"""From judged records to sums: a record is added to a `Tally`, tallies add up, nothing is extrapolated (policies.md).

Pure functions of values. What cannot belong to one statement (records of different campaigns, two records of one node,
one device twice) is refused as a whole; what merely fails a rule is listed and counts 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Literal, NamedTuple

from bench.errors import InputError, RefusedError
from bench.record import (
    RULES_VERSION,
    Campaign,
    Device,
    DeviceModel,
    Figure,
    Grade,
    NodeRecord,
    PoolClass,
    Profile,
    Workload,
)
from bench.record.closing import Closing
from bench.record.identities import DeviceKeys, device_keys
from certify.documents.kinds import spki_bytes
from certify.judge.case import Plan, Setting
from certify.judge.ceilings import NEVER_SCHEDULED, Limit, LimitName, Step, bound_of
from certify.judge.closing import r4_shape_settled, r10_clocks_compared
from certify.judge.figures import Judged, figures_of
from certify.judge.largest import NodeMost
from certify.judge.parts import Row, parenthood
from certify.judge.rules import identity, kind, whole_record
from certify.keys.signers import keyid
from certify.policy.centre import Centre, Pool
from certify.policy.policies import EACH_POLICY, Counting, Policy
from certify.policy.pools import Places
from certify.policy.ratings import Rating, Ratings
from certify.policy.reasons import effect_of


@dataclass(frozen=True)
class Scope:
    """What all records of one statement are judged against."""

    centre: Centre
    campaign: Campaign
    campaign_sha256: str
    starts_at: str  # T0, which every record names
    profile: Profile
    profile_sha256: str
    ratings: Ratings
    counting: dict[str, Counting]  # pool class -> counted precision
    accept: frozenset[str]  # hold codes that the policies accept
    accept_with_witness: frozenset[str]  # and those that they accept where a witness vouches for the statement
    existing: frozenset[str]  # identities in the baseline inventory, as `identities` gives them
    enrolled_only: bool = False  # a policy demands that every record is signed by its node's enrolled key
    closing: Closing | None = None  # of the campaign; None where nobody coordinated it

    @cached_property
    def plan(self) -> Plan:
        """How everything was measured."""
        return Plan(self.campaign, self.profile)

    @cached_property
    def places(self) -> Places:
        """Where devices count."""
        return Places(self.centre, self.campaign)

    @cached_property
    def expected(self) -> dict[str, str]:
        """The campaign's nodes and their pools."""
        return {node.node_id: node.pool for node in self.campaign.nodes}

    @cached_property
    def enrolled(self) -> dict[str, str]:
        """The keys that the campaign names for its nodes; what a node issues for itself afterwards names nobody."""
        if self.campaign.self_issued:
            return {}
        return {node.node_id: node.keyid for node in self.campaign.nodes if node.keyid is not None}

    def key_codes(self, record: NodeRecord) -> tuple[str, ...]:
        """Return what is wrong with the key that signed a record: it is the one that is enrolled for its node."""
        if (enrolled := self.enrolled.get(record.node_id)) is None:
            return ("node-key-not-enrolled",) if self.enrolled_only else ()
        return () if keyid(spki_bytes(record.signer_spki)) == enrolled else ("node-key-differs",)

    def clock_codes(self, record: NodeRecord) -> tuple[str, ...]:
        """Return what is wrong with a node's clock; one that issued its own campaign has none to differ from."""
        return () if self.campaign.self_issued else r10_clocks_compared(record, self.closing)


def counting_of(policies: Iterable[Policy], centre: Centre) -> dict[str, Counting]:
    """Return what each class of the centre's pools counts in, which all policies of one statement must agree on.

    Raises:
        InputError: two policies differ, or none counts a class of the centre.
    """
    counting: dict[str, Counting] = {}
    by: dict[str, str] = {}  # class -> the policy that counts it first
    for policy in policies:
        for name, entry in policy.counting.items():
            known, first = counting.setdefault(name, entry), by.setdefault(name, policy.policy)
            if (known.workload, known.accumulate) != (entry.workload, entry.accumulate):
                one, other = (f"{each.workload} with {each.accumulate} accumulation" for each in (known, entry))
                what = f"{first} counts {name} in {one}, and {policy.policy} in {other}"
                fix = "make a campaign and a statement for each, with one --policy at a time"
                raise InputError("policies-differ", what, where="--policy", fix=fix)
    for pool in centre.pools:
        if pool.pool_class not in counting:
            raise InputError(
                "class-not-counted",
                f"no policy counts {pool.pool_class}",
                where=pool.pool,
                fix=f"add one that does, and {EACH_POLICY}",
            )
    return counting


def enrolled_only(policies: Iterable[Policy]) -> bool:
    """Return whether a policy demands that records are signed by their nodes' enrolled keys."""
    return any(policy.node_keys == "enrolled" for policy in policies)


def accepted_holds(policies: Iterable[Policy]) -> frozenset[str]:
    """Return the hold codes that every policy accepts: one statement has one set of sums."""
    accepts = [frozenset(policy.accept) for policy in policies]
    return frozenset.intersection(*accepts) if accepts else frozenset()


def accepted_with_witness(policies: Iterable[Policy]) -> frozenset[str]:
    """Return the hold codes that every policy accepts where a witness vouches for the statement."""
    accepts = [frozenset(policy.accepted_with_witness) for policy in policies]
    return frozenset.intersection(*accepts) if accepts else frozenset()


# Why a figure is in a sum: it has no hold; the policies accept its holds (`unbounded`: and nothing known bounds it); or
# they accept them in a statement that a witness vouches for, and nothing counts before (`witness`).
Standing = Literal["clean", "on_hold", "unbounded", "witness"]


@dataclass
class Sum:
    """Sum over devices; rates in MFLOP/s. A device whose upper bound is unbounded is counted in `unbounded`."""

    devices: int = 0
    certified_mflop_s: int = 0
    sustained_mflop_s: int = 0
    upper_mflop_s: int = 0
    unbounded: int = 0
    nominal_mflop_s: int = 0
    without_rating: int = 0

    def add_figure(self, figure: Figure, nominal_mflop_s: int | None) -> None:
        """Add one device's figure."""
        self.devices += 1
        self.certified_mflop_s += figure.certified_mflop_s
        self.sustained_mflop_s += figure.sustained_mflop_s
        self.upper_mflop_s += figure.upper_mflop_s or 0
        self.unbounded += figure.upper_mflop_s is None
        self.nominal_mflop_s += nominal_mflop_s or 0
        self.without_rating += nominal_mflop_s is None

    def add(self, other: Sum) -> None:
        """Add another sum to this one."""
        self.devices += other.devices
        self.certified_mflop_s += other.certified_mflop_s
        self.sustained_mflop_s += other.sustained_mflop_s
        self.upper_mflop_s += other.upper_mflop_s
        self.unbounded += other.unbounded
        self.nominal_mflop_s += other.nominal_mflop_s
        self.without_rating += other.without_rating


class Key(NamedTuple):
    """What sums are kept apart by."""

    pool: str
    workload: Workload
    existing: bool  # in the baseline inventory
    standing: Standing


class CeilingKey(NamedTuple):
    """What figures of one kind of device are told apart by when it comes to R12."""

    pool: str
    workload: Workload
    vendor: str
    model: str
    step: Step
    limit: LimitName | None  # the lowest that exists


@dataclass
class CeilingSum:
    """Figures under one limit of R12."""

    figures: int = 0
    counted: int = 0
    certified_mflop_s: int = 0  # of those counted
    least_mflop_s: int | None = None  # the lowest of their limits

    def add_figure(self, counts: bool, certified_mflop_s: int, limit_mflop_s: int | None) -> None:
        """Add one figure and the limit that binds it."""
        self.figures += 1
        if counts:
            self.counted += 1
            self.certified_mflop_s += certified_mflop_s
        if limit_mflop_s is not None and (self.least_mflop_s is None or limit_mflop_s < self.least_mflop_s):
            self.least_mflop_s = limit_mflop_s

    def add(self, other: CeilingSum) -> None:
        """Add other figures under the same limit."""
        self.figures += other.figures
        self.counted += other.counted
        self.certified_mflop_s += other.certified_mflop_s
        known = [limit for limit in (self.least_mflop_s, other.least_mflop_s) if limit is not None]
        self.least_mflop_s = min(known, default=None)


@dataclass
class Tally:
    """Everything that a statement needs of a set of records; `add` merges another one."""

    node_ids: set[str] = field(default_factory=set)
    nodes: Counter[str] = field(default_factory=Counter)  # pool -> records with a device in it
    found: Counter[str] = field(default_factory=Counter)  # pool -> devices
    largest: dict[str, NodeMost] = field(default_factory=dict)  # pool -> what no node of it exceeds
    lacking: dict[str, set[str]] = field(default_factory=dict)  # pool -> its nodes whose record has no device of it
    inventory: Counter[tuple[str, str, str, str]] = field(default_factory=Counter)  # pool, vendor, model, count unit
    sums: dict[Key, Sum] = field(default_factory=dict)
    untested: dict[tuple[str, bool], Sum] = field(default_factory=dict)  # pool, in the baseline: what counts 0
    ceilings: dict[CeilingKey, CeilingSum] = field(default_factory=dict)
    vendors: dict[tuple[str, str], Sum] = field(default_factory=dict)  # pool, vendor: what counts there
    existing: int = 0  # devices found that the baseline lists
    findings: Counter[tuple[str, str]] = field(default_factory=Counter)  # code, workload
    not_counted: list[tuple[str, str, str, tuple[str, ...]]] = field(default_factory=list)  # node, device, workload
    grades: set[Grade] = field(default_factory=set)  # of what counts
    with_witness_grades: set[Grade] = field(default_factory=set)  # of what counts once a witness vouches
    simulated: bool = False
    measured_from: str = "9999-12-31T23:59:59.999999Z"
    measured_until: str = "0001-01-01T00:00:00.000000Z"

    def add(self, other: Tally) -> None:
        """Merge another tally into this one."""
        self.node_ids |= other.node_ids
        self.nodes += other.nodes
        self.found += other.found
        for name, most in other.largest.items():
            self.largest[name] = most.or_other(self.largest.get(name))
        for name, nodes in other.lacking.items():
            self.lacking.setdefault(name, set()).update(nodes)
        self.inventory += other.inventory
        for key, value in other.sums.items():
            self.sums.setdefault(key, Sum()).add(value)
        for place, value in other.untested.items():
            self.untested.setdefault(place, Sum()).add(value)
        for kind_of, under in other.ceilings.items():
            self.ceilings.setdefault(kind_of, CeilingSum()).add(under)
        for of_vendor, value in other.vendors.items():
            self.vendors.setdefault(of_vendor, Sum()).add(value)
        self.existing += other.existing
        self.findings += other.findings
        self.not_counted += other.not_counted
        self.grades |= other.grades
        self.with_witness_grades |= other.with_witness_grades
        self.simulated |= other.simulated
        self.measured_from = min(self.measured_from, other.measured_from)
        self.measured_until = max(self.measured_until, other.measured_until)


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
    limit: Limit | None  # the lowest of R12 that exists


Explain = Callable[[JudgedFigure], None]


def tally_record(record: NodeRecord, scope: Scope, tally: Tally) -> list[DeviceKeys]:
    """Judge one record, add it to `tally`, and return what `Uniqueness` looks at.

    Raises:
        RefusedError: the record does not belong to the statement's campaign, centre or profile.
    """
    check_belongs(record, scope)
    return add_record(record, scope, tally)


def add_record(record: NodeRecord, scope: Scope, tally: Tally, explain: Explain | None = None) -> list[DeviceKeys]:
    """Judge a record of an expected node, whether or not it belongs here (see `tally_record`).

    Args:
        record: of a node that the campaign names.
        scope: what it is judged against.
        tally: takes its sums.
        explain: called with each figure and what was made of it.
    """
    tally.node_ids.add(record.node_id)
    tally.measured_from = min(tally.measured_from, record.started_at)
    tally.measured_until = max(tally.measured_until, record.ended_at)
    judged = figures_of(record, scope.ratings, scope.plan)
    failed = {(f.device, Workload(f.precision, f.choice)): f.code for f in record.failures}
    signed = (*scope.key_codes(record), *scope.clock_codes(record), *whole_record(record))
    in_pools: dict[str, NodeMost] = {}
    keys = []
    for device in record.devices:
        own = device_keys(device)
        keys.append(own)
        tally.simulated |= record.models[device.model].simulated
        pool = scope.places.pool_of(record.node_id, device.device)
        if pool is None:
            tally.findings["no-pool", "-"] += 1
            tally.not_counted.append((record.node_id, device.device, "-", ("no-pool",)))
            continue
        model, row = record.models[device.model], judged.rows[device.model]
        existing = bool(scope.existing) and not scope.existing.isdisjoint(own.known)
        place = place_codes(model, device, row.rating, pool.pool_class, scope.centre.in_operation)
        crowded = ("too-many-parts",) if device.device in judged.crowded else ()
        codes = (*signed, *identity(device, model), *place, *crowded)
        found = Found(record, device, pool, row, existing, codes)
        most = _tally_device(found, judged.judged[device.device], failed, scope, tally, explain)
        in_pools[pool.pool] = in_pools.get(pool.pool, NodeMost()).plus(most)
    for name, most in in_pools.items():
        tally.nodes[name] += 1
        tally.largest[name] = most.or_other(tally.largest.get(name))
    for name in () if scope.campaign.self_issued else scope.campaign.pools_of(record.node_id):
        if name not in in_pools:
            tally.lacking.setdefault(name, set()).add(record.node_id)
    return keys


class PoolSums(NamedTuple):
    """What counts of a pool, what of that nothing known bounds, and what counts beside it with a witness only."""

    counted: Sum
    never_scheduled: Sum
    with_witness: Sum


def counted_sums(tally: Tally, scope: Scope) -> tuple[tuple[str, PoolSums], ...]:
    """Return what a tally counts in each pool, in the workload of the pool's class."""
    sums = {pool: PoolSums(Sum(), Sum(), Sum()) for pool in tally.nodes}
    classes = {pool.pool: pool.pool_class for pool in scope.centre.pools}
    for key, value in tally.sums.items():
        if key.workload != scope.counting[classes[key.pool]].workload:
            continue
        of_pool = sums[key.pool]
        (of_pool.with_witness if key.standing == "witness" else of_pool.counted).add(value)
        if key.standing == "unbounded":
            of_pool.never_scheduled.add(value)
    return tuple(sums.items())


class Found(NamedTuple):
    """A device of a record, and where it stands."""

    record: NodeRecord
    device: Device
    pool: Pool
    row: Row
    existing: bool  # in the baseline inventory
    codes: tuple[str, ...]  # of the whole record, the device and its place

    @property
    def model(self) -> DeviceModel:
        """What the device tells of itself."""
        return self.record.models[self.device.model]


def _tally_device(
    found: Found,
    measured: Mapping[Workload, Judged],
    failed: Mapping[tuple[str, Workload], str],
    scope: Scope,
    tally: Tally,
    explain: Explain | None,
) -> NodeMost:
    """Add a device with its figures, and return what one like it could at most add."""
    record, device, pool, row, existing, _ = found
    tally.found[pool.pool] += 1
    tally.inventory[pool.pool, found.model.vendor, found.model.model, found.model.count_unit] += 1
    tally.existing += existing
    counting = scope.counting[pool.pool_class]
    counted = counting.workload
    counts, upper_mflop_s = False, None
    for workload, judged in measured.items():
        standing = _tally_figure(found, workload, judged, scope, tally, explain)
        if workload == counted:
            counts = standing == "counts"
            upper_mflop_s = None if standing == "void" else judged.figure.upper_mflop_s
    for (name, failed_in), code in failed.items():
        if name == device.device:
            tally.findings[code, str(failed_in)] += 1
            if failed_in == counted:
                tally.not_counted.append((record.node_id, name, str(failed_in), (code,)))
    if counted not in measured and (device.device, counted) not in failed:
        tally.findings["untested", str(counted)] += 1
        tally.not_counted.append((record.node_id, device.device, str(counted), ("untested",)))
    nominal = row.nominal_mflop_s(counting.precision)
    if not counts:
        tally.untested.setdefault((pool.pool, existing), Sum()).add(
            Sum(devices=1, nominal_mflop_s=nominal or 0, without_rating=nominal is None)
        )
    return NodeMost.of_device(upper_mflop_s, nominal)


def _tally_figure(
    found: Found, workload: Workload, judged: Judged, scope: Scope, tally: Tally, explain: Explain | None
) -> Literal["counts", "held", "void"]:
    """Add one figure, and return what the rules make of it; only one in the counted workload counts."""
    (setting, figure, judgement), pool, model, label = judged, found.pool, found.model, str(workload)
    counting = scope.counting[pool.pool_class]
    counted = workload == counting.workload
    codes = (*judgement.codes, *r4_shape_settled(setting.measurement, model, scope.closing), *found.codes)
    if workload.precision == "bf16" and pool.pool_class == "intelligent":
        codes += ("bf16-not-fp16",)
    if counted and setting.measurement.accumulate != counting.accumulate:
        codes += ("accumulation-not-counted",)
    for code in codes:
        tally.findings[code, label] += 1
    holds, blocking = partition_codes(codes, scope.accept)
    if (standing := standing_of(holds, blocking, scope.accept_with_witness)) is not None:
        key = Key(pool.pool, workload, found.existing, standing)
        if (total := tally.sums.get(key)) is None:
            total = tally.sums[key] = Sum()
        nominal = found.row.nominal_mflop_s(workload.precision)
        total.add_figure(figure, nominal)
        if counted and standing != "witness":
            tally.vendors.setdefault((pool.pool, model.vendor), Sum()).add_figure(figure, nominal)
    grade, step, limit = judgement.grade, judgement.step, judgement.limit
    name, most = bound_of(limit)
    kind_key = CeilingKey(pool.pool, workload, model.vendor, model.model, step, name)
    if (under := tally.ceilings.get(kind_key)) is None:
        under = tally.ceilings[kind_key] = CeilingSum()
    under.add_figure(not blocking, figure.certified_mflop_s, most)
    counts = counted and not blocking
    if explain is not None:
        node_id = found.record.node_id
        explain(JudgedFigure(node_id, pool.pool, setting, figure, counted, codes, grade, counts, step, limit))
    if counted and standing is not None:
        grades = tally.with_witness_grades if standing == "witness" else tally.grades
        grades.add("smoke" if grade is None or "cpu-fallback" in codes else grade)
    if counted and not counts:
        tally.not_counted.append((found.record.node_id, found.device.device, label, blocking))
    if set(blocking) <= set(holds):
        return "held" if blocking else "counts"
    return "void"


def standing_of(
    holds: tuple[str, ...], blocking: tuple[str, ...], accept_with_witness: frozenset[str]
) -> Standing | None:
    """Return what a figure's holds make of it, given those that keep it from counting; None where it counts 0.

    A witness who answers for one hold makes nothing schedulable of what counts by another that nothing bounds.
    """
    unbounded = NEVER_SCHEDULED.intersection(holds).difference(blocking)
    if blocking:
        return "witness" if accept_with_witness.issuperset(blocking) and not unbounded else None
    if not holds:
        return "clean"
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
    codes = list(kind(device.device, model, rating))
    if not in_operation:
        codes.append("not-in-operation")
    codes += parenthood(model, device)
    if pool_class == "intelligent" and model.kind == "cpu":
        codes.append("cpu-fallback")
    if rating is None and model.kind != "cpu" and not model.simulated:
        codes.append("no-rating")
    return codes


def check_belongs(record: NodeRecord, scope: Scope) -> None:
    """Refuse a record that another campaign, centre, profile or version of the rules made."""
    if (fact := next(foreign_facts(record, scope), None)) is not None:
        raise RefusedError(fact[0], f"the record {fact[1]}", where=record.node_id)


def foreign_facts(record: NodeRecord, scope: Scope) -> Iterator[tuple[str, str]]:
    """Yield (code, what) of everything that shows that a record belongs elsewhere."""
    expected = scope.expected
    self_issued = scope.campaign.self_issued
    checks = (
        ("rules-differ", record.rules == RULES_VERSION, f"follows the rules {record.rules}, not {RULES_VERSION}"),
        ("campaign-differs", record.campaign_sha256 == scope.campaign_sha256, "is of another campaign"),
        ("start-differs", record.starts_at == scope.starts_at, f"started at {record.starts_at}, not {scope.starts_at}"),
        ("challenge-differs", record.challenge == scope.campaign.challenge, "answers another challenge"),
        ("centre-differs", record.centre_id == scope.campaign.centre_id, f"is of the centre {record.centre_id}"),
        (
            "centre-differs",
            self_issued or record.centre_id == scope.centre.centre_id,
            f"is of the centre {record.centre_id}, not {scope.centre.centre_id}",
        ),
        ("profile-differs", record.profile_sha256 == scope.profile_sha256, f"used another profile ({record.profile})"),
        ("node-not-expected", record.node_id in expected, "is of a node that the campaign does not name"),
        ("pool-differs", record.pool == expected.get(record.node_id), f"names the pool {record.pool}"),
        ("campaign-differs", record.campaign_id == scope.campaign.campaign_id, f"names {record.campaign_id}"),
        ("profile-differs", record.profile == scope.campaign.profile, f"names the profile {record.profile}"),
        (
            "campaign-differs",
            (record.campaign is not None) == self_issued,
            "holds a campaign, or none, against its kind",
        ),
        (
            "times-reversed",
            record.started_at <= record.ready_at <= record.ended_at,  # one form of time: its text order is its order
            f"arrives at {record.started_at}, is ready at {record.ready_at} and ends at {record.ended_at}",
        ),
    )
    yield from ((code, what) for code, holds, what in checks if not holds)
    if record.node_id in expected:
        problems = (scope.places.problem(record.node_id, device.device) for device in record.devices)
        yield from filter(None, problems)
