"""From judged records to sums: a record is added to a `Tally`, tallies add up, nothing is extrapolated (policies.md).

Pure functions of values. What cannot belong to one statement (records of different campaigns, two records of one node,
one device twice) is refused as a whole; what merely fails a rule is listed and counts 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import NamedTuple

from bench.errors import InputError, RefusedError
from bench.record import (
    RULES_VERSION,
    Campaign,
    Device,
    DeviceModel,
    Figure,
    Grade,
    NodeRecord,
    Precision,
    Profile,
    Workload,
    digest,
    identifier,
)
from certify.documents.kinds import Baseline, BaselineDevice, spki_bytes
from certify.judge.rules import Plan, Setting, Standing, identity, judge, kind, setting_of, standing_of
from certify.keys.signers import keyid
from certify.policy.centre import Centre, Pool
from certify.policy.policies import Counting, Policy
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
    existing: frozenset[str]  # identities in the baseline inventory, as `identities` gives them
    enrolled_only: bool = False  # a policy demands that every record is signed by its node's enrolled key

    @cached_property
    def plan(self) -> Plan:
        """How everything was measured."""
        return Plan(self.campaign, self.profile)

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


def counting_of(policies: Iterable[Policy], centre: Centre) -> dict[str, Counting]:
    """Return what each class of the centre's pools counts in, which all policies of one statement must agree on.

    Raises:
        InputError: two policies differ, or none counts a class of the centre.
    """
    counting: dict[str, Counting] = {}
    for policy in policies:
        for name, entry in policy.counting.items():
            known = counting.setdefault(name, entry)
            if (known.workload, known.accumulate) != (entry.workload, entry.accumulate):
                raise InputError(
                    "policies-differ", f"the policies count {name} differently", fix="make a statement for each"
                )
    for pool in centre.pools:
        if pool.pool_class not in counting:
            raise InputError(
                "class-not-counted",
                f"no policy counts {pool.pool_class}",
                where=pool.pool,
                fix="add a policy that does",
            )
    return counting


def enrolled_only(policies: Iterable[Policy]) -> bool:
    """Return whether a policy demands that records are signed by their nodes' enrolled keys."""
    return any(policy.node_keys == "enrolled" for policy in policies)


def accepted_holds(policies: Iterable[Policy]) -> frozenset[str]:
    """Return the hold codes that every policy accepts: one statement has one set of sums."""
    accepts = [frozenset(policy.accept) for policy in policies]
    return frozenset.intersection(*accepts) if accepts else frozenset()


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
    on_hold: bool  # counted only because the policies accept its holds


@dataclass
class Tally:
    """Everything that a statement needs of a set of records; `add` merges another one."""

    node_ids: set[str] = field(default_factory=set)
    nodes: Counter[str] = field(default_factory=Counter)  # pool -> records with a device in it
    found: Counter[str] = field(default_factory=Counter)  # pool -> devices
    inventory: Counter[tuple[str, str, str, str]] = field(default_factory=Counter)  # pool, vendor, model, count unit
    sums: dict[Key, Sum] = field(default_factory=dict)
    untested: dict[tuple[str, bool], Sum] = field(default_factory=dict)  # pool, in the baseline: what counts 0
    existing: int = 0  # devices found that the baseline lists
    findings: Counter[tuple[str, str]] = field(default_factory=Counter)  # code, workload
    not_counted: list[tuple[str, str, str, tuple[str, ...]]] = field(default_factory=list)  # node, device, workload
    grades: set[Grade] = field(default_factory=set)
    simulated: bool = False
    measured_from: str = "9999-12-31T23:59:59.999999Z"
    measured_until: str = "0001-01-01T00:00:00.000000Z"

    def add(self, other: Tally) -> None:
        """Merge another tally into this one."""
        self.node_ids |= other.node_ids
        self.nodes += other.nodes
        self.found += other.found
        self.inventory += other.inventory
        for key, value in other.sums.items():
            self.sums.setdefault(key, Sum()).add(value)
        for place, value in other.untested.items():
            self.untested.setdefault(place, Sum()).add(value)
        self.existing += other.existing
        self.findings += other.findings
        self.not_counted += other.not_counted
        self.grades |= other.grades
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
    ratings = [scope.ratings.match(m.vendor, m.model, m.memory_bytes, m.count_unit) for m in record.models]
    model_of = {device.device: device.model for device in record.devices}
    measured: dict[str, Measured] = {name: {} for name in model_of}
    for measurement in record.measurements:
        settings: dict[int, Setting] = {}
        workload = measurement.workload
        for figure in measurement.figures():
            index = model_of[figure.device]
            if index not in settings:
                settings[index] = setting_of(record, measurement, record.models[index], ratings[index], scope.plan)
            measured[figure.device].setdefault(workload, (settings[index], figure))
    beside = standing_of(record)
    failed = {(f.device, Workload(f.precision, f.choice)): f.code for f in record.failures}
    signed = scope.key_codes(record)
    pools, keys = set(), []
    for device in record.devices:
        own = identities(device)
        keys.append(_device_keys(record, device, own))
        tally.simulated |= record.models[device.model].simulated
        pool = scope.centre.pool_of(record.node_id, device.device)
        if pool is None:
            tally.findings["no-pool", "-"] += 1
            tally.not_counted.append((record.node_id, device.device, "-", ("no-pool",)))
            continue
        pools.add(pool.pool)
        _tally_device(
            Found(record, device, own, pool, ratings[device.model], signed),
            measured[device.device],
            beside,
            failed,
            scope,
            tally,
            explain,
        )
    for name in pools:
        tally.nodes[name] += 1
    return keys


def counted_sums(tally: Tally, scope: Scope) -> tuple[tuple[str, Sum], ...]:
    """Return what a tally counts in each pool, in the workload of the pool's class."""
    sums: dict[str, Sum] = {pool: Sum() for pool in tally.nodes}
    classes = {pool.pool: pool.pool_class for pool in scope.centre.pools}
    for key, value in tally.sums.items():
        if key.workload == scope.counting[classes[key.pool]].workload:
            sums[key.pool].add(value)
    return tuple(sums.items())


DeviceKeys = tuple[str, list[str], str | None]  # name, identities, parent's uuid
Measured = dict[Workload, tuple[Setting, Figure]]


class Found(NamedTuple):
    """A device of a record, and where it stands."""

    record: NodeRecord
    device: Device
    keys: list[str]
    pool: Pool
    rating: Rating | None
    signed: tuple[str, ...]  # what is wrong with the record's key


def _tally_device(
    found: Found,
    measured: Measured,
    beside: Mapping[tuple[str, Precision], list[Standing]],
    failed: Mapping[tuple[str, Workload], str],
    scope: Scope,
    tally: Tally,
    explain: Explain | None,
) -> None:
    record, device, keys, pool, rating, signed = found
    model = record.models[device.model]
    tally.found[pool.pool] += 1
    tally.inventory[pool.pool, model.vendor, model.model, model.count_unit] += 1
    existing = bool(scope.existing) and not scope.existing.isdisjoint([*keys, *parent_keys(identifier(device.parent))])
    tally.existing += existing
    counting = scope.counting[pool.pool_class]
    counted = counting.workload
    standing = (*signed, *identity(keys, model), *_place_codes(model, device, rating, pool, scope.centre))
    counts = False
    rates: dict[str, dict[Precision, int]] = {}  # of one choice of shape: figures are compared like with like
    for (precision, choice), (_, figure) in measured.items():
        rates.setdefault(choice, {})[precision] = figure.sustained_mflop_s
    for workload, (setting, figure) in measured.items():
        precision, label = workload.precision, str(workload)
        codes, grade = judge(setting, figure, rates[workload.choice], beside.get((device.device, precision), ()))
        codes += standing
        if precision == "bf16" and pool.pool_class == "intelligent":
            codes.append("bf16-not-fp16")
        if workload == counted and setting.measurement.accumulate != counting.accumulate:
            codes.append("accumulation-not-counted")
        for code in codes:
            tally.findings[code, label] += 1
        holds, blocking = _sorted_out(tuple(codes), scope.accept)
        if not blocking:
            key = Key(pool.pool, workload, existing, bool(holds))
            nominal = rating.nominal_mflop_s(precision) if rating else None
            if (total := tally.sums.get(key)) is None:
                total = tally.sums[key] = Sum()
            total.add_figure(figure, nominal)
        if explain is not None:
            counts_here = workload == counted and not blocking
            explain(
                JudgedFigure(
                    record.node_id, pool.pool, setting, figure, workload == counted, tuple(codes), grade, counts_here
                )
            )
        if workload == counted:
            counts = not blocking
            if counts:
                tally.grades.add("smoke" if grade is None or "cpu-fallback" in codes else grade)
            else:
                tally.not_counted.append((record.node_id, device.device, label, blocking))
    for (name, failed_in), code in failed.items():
        if name == device.device:
            tally.findings[code, str(failed_in)] += 1
            if failed_in == counted:
                tally.not_counted.append((record.node_id, name, str(failed_in), (code,)))
    if counted not in measured and (device.device, counted) not in failed:
        tally.findings["untested", str(counted)] += 1
        tally.not_counted.append((record.node_id, device.device, str(counted), ("untested",)))
    if not counts:
        nominal = rating.nominal_mflop_s(counting.precision) if rating else None
        tally.untested.setdefault((pool.pool, existing), Sum()).add(
            Sum(devices=1, nominal_mflop_s=nominal or 0, without_rating=nominal is None)
        )


def sort_out(codes: Iterable[str], accept: frozenset[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the holds among reason codes, and the codes that make a figure count 0 (voids and unaccepted holds)."""
    return _sorted_out(tuple(codes), accept)


@lru_cache(maxsize=1024)  # most devices of a centre earn the same few codes
def _sorted_out(codes: tuple[str, ...], accept: frozenset[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    graver = [(code, effect) for code in codes if (effect := effect_of(code)) != "note"]
    holds = tuple(code for code, effect in graver if effect == "hold")
    return holds, tuple(code for code, effect in graver if effect != "hold" or code not in accept)


def _place_codes(model: DeviceModel, device: Device, rating: Rating | None, pool: Pool, centre: Centre) -> list[str]:
    """Codes that depend on where a device stands: what is not in operation, a CPU as intelligent compute."""
    codes = list(kind(device.device, model, rating))
    if not centre.in_operation:
        codes.append("not-in-operation")
    if (model.count_unit in ("slice", "die")) != (device.parent is not None):
        codes.append("no-parent" if device.parent is None else "whole-with-parent")
    if pool.pool_class == "intelligent" and model.kind == "cpu":
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


def identities(device: Device | BaselineDevice) -> list[str]:
    """Return the comparable identities of a device, each with the name of its field; empty where it has none."""
    pairs = (("uuid", device.uuid), ("serial", device.serial), ("die_id", device.die_id))
    return [f"{name}:{text}" for name, value in pairs if (text := identifier(value)) is not None]


def identities_of(baseline: Baseline) -> frozenset[str]:
    """Return every identity in a baseline inventory."""
    return frozenset(key for device in baseline.devices for key in identities(device))


def parent_keys(parent: str | None) -> list[str]:
    """Return the identities that the device which a slice or die belongs to may go by."""
    return [] if parent is None else [f"{name}:{parent}" for name in ("uuid", "serial", "die_id")]


def _place_key(record: NodeRecord, device: Device) -> list[str]:
    """Return where a whole device sits: no two of one node sit in one place, whatever they are called."""
    place = _place(device.pci_address) if device.parent is None else None
    return [] if place is None else [f"pci_address:{record.node_id}/{place}"]


_place = lru_cache(maxsize=1024)(identifier)  # all nodes have their devices in the same few places


def device_keys(record: NodeRecord, device: Device) -> DeviceKeys:
    """Return what `Uniqueness` looks at of one device."""
    return _device_keys(record, device, identities(device))


def _device_keys(record: NodeRecord, device: Device, own: list[str]) -> DeviceKeys:
    return device.device, own + _place_key(record, device), identifier(device.parent)


def devices_digest(keys: Iterable[str]) -> str:
    """Return the digest of a node's devices: of all that they are known by, sorted, without where they sit."""
    return digest(sorted({key for key in keys if not key.startswith("pci_address:")}))


class Uniqueness:
    """Sees every device of a record set once; refuses the second sight of a node or of any identity."""

    def __init__(self) -> None:
        self._nodes: set[str] = set()
        self._seen: dict[str, str] = {}
        self._parents: dict[str, str] = {}

    def see(self, node_id: str, devices: Iterable[DeviceKeys]) -> None:
        """Add one record's devices as (name, identities, parent's uuid).

        Raises:
            RefusedError: the node has another record, or a device was seen before.
        """
        if node_id in self._nodes:
            raise RefusedError("node-twice", "there are two records of this node", where=node_id, fix="keep one")
        self._nodes.add(node_id)
        for name, found, parent in devices:
            place = f"{node_id}/{name}"
            for key in found:
                if (other := self._seen.setdefault(key, place)) != place:
                    raise RefusedError(
                        "duplicate-device", f"is the same device as {other} ({key.partition(':')[0]})", where=place
                    )
            for key in parent_keys(parent):
                self._parents[key] = place

    def check_parents(self) -> None:
        """Refuse a slice or die that is counted beside the device it belongs to."""
        for key, place in self._parents.items():
            if key in self._seen:
                raise RefusedError("parent-and-slice", f"is a part of {self._seen[key]}", where=place)
