"""Sums over records against an oracle that knows nothing of rules: random fleets, none counted twice, none lost."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bench.errors import InputError, RefusedError
from bench.profile import load_profile
from bench.record import (
    Campaign,
    Device,
    DeviceModel,
    Failure,
    Figure,
    Measurement,
    NodeClock,
    NodeRecord,
    Precision,
    columns,
    digest,
    throughput_bounds,
)
from bench.record.identities import Uniqueness, device_keys, identities
from bench.units import gemm_mflop
from certify.documents.kinds import Baseline, BaselineDevice
from certify.documents.statement import CapacityStatement, Totals, Untested
from certify.judge.record import standing_of, tally_record
from certify.judge.scope import accepted_holds, counting_of
from certify.judge.tally import Standing, Tally, counted_sums
from certify.policy.capacity import Capacity, CapacitySum
from certify.policy.policies import Policy
from certify.statement.build import StatementInputs, build
from certify.statement.describe import warnings_of
from tests.certify import signed
from tests.certify.judged import ISSUE, ROOT, basis_of, centre_of, policy_of, statement_of
from tests.certify.measured import DAY, node_name, placed, test_campaign

S = 10**9
STANDARD = replace(load_profile("standard"), profile="one-path", kernels={})  # no second path, which would take part
CAMPAIGN = test_campaign(STANDARD, ("fp16", "bf16", "fp64"), 4)
CLASSES = ("intelligent", "supercomputing", "general", "edge")
SHAPE: dict[str, Any] = {"m": 8192, "n": 8192, "k": 8192}

# name -> (changes of the model, nominal MFLOP/s by precision: figures of the public table, copied by hand)
MODELS: dict[str, tuple[dict[str, Any], dict[str, int]]] = {
    "h100": (
        {"vendor": "NVIDIA", "model": "NVIDIA H100 80GB HBM3", "memory_bytes": 80 * 10**9, "units": 132},
        {"fp16": 989_400_000, "bf16": 989_400_000, "fp32": 66_900_000, "fp64": 66_900_000},
    ),
    "unrated": ({"vendor": "nobody", "model": "X1", "memory_bytes": 64 * 10**9, "units": 100}, {}),
    "cpu": ({"vendor": "intel", "model": "Xeon", "kind": "cpu", "cache_bytes": 2**20, "instruction_set": "avx512"}, {}),
    "fake": (
        {"vendor": "petaseal", "model": "Fake-1", "simulated": True, "units": 128, "max_clock_mhz": 1_800},
        {"fp16": 460_062_720, "bf16": 460_062_720, "fp32": 57_507_840, "fp64": 57_507_840},
    ),
}
KINDS = {"h100": "cuda", "unrated": "torch", "cpu": "cpu", "fake": "fake"}
# what happened to a figure -> (changes of the figure, whether it counts, whether that rests on a hold)
FATES: dict[str, tuple[dict[str, Any], bool, bool]] = {
    "clean": ({}, True, False),
    "throttled": ({"throttled_ppm": 5}, True, False),
    "unbounded": ({}, True, False),
    "held": ({"warmup_ns": 0}, False, False),
    "accepted": ({"power_counter_mw": 1}, True, True),
    "accepted and held": ({"power_counter_mw": 1, "warmup_ns": 0}, False, False),
    "void": ({"row_error_ppm": None}, False, False),
    "void and accepted": ({"row_error_ppm": None, "power_counter_mw": 1}, False, False),
    "below-profile": ({}, False, False),
}
POLICY = policy_of(accept=("energy-disagrees", "no-ceiling"))


@dataclass(frozen=True)
class One:
    """A device: its model, and what became of it in each precision (absent: not measured; "failed": no figure)."""

    model: str
    fates: dict[Precision, str]
    launches: int
    existing: bool


def figure(device: str, one: One, precision: Precision) -> Figure:
    """Return the figure of a device, whose numbers no two devices share."""
    fate = one.fates[precision]
    launches = one.launches if precision != "fp64" else one.launches // 20 // 30 * 30
    seconds = 30 if fate == "below-profile" else 62
    over = [7 * (i % 3) for i in range(30)]
    least = seconds * S // 30
    if fate == "unbounded":
        least, over = 1_000_000, [seconds * S if i == 7 else 0 for i in range(30)]
    elapsed = 30 * least + sum(over)
    bounds = throughput_bounds(gemm_mflop(**SHAPE, launches=launches), [least + x for x in over])
    assert (bounds.upper_mflop_s is None) == (fate == "unbounded")
    value = signed.figure(device)._replace(
        launches=launches,
        subwindow_min_ns=least,
        subwindow_over_ns=tuple(over),
        sustained_mflop_s=bounds.sustained_mflop_s,
        certified_mflop_s=bounds.certified_mflop_s,
        upper_mflop_s=bounds.upper_mflop_s,
        opened_ns=0,
        counted_until_ns=elapsed,
        covered_until_ns=max(elapsed, 66 * S),
        event_over_ns=0,
        samples=2_000,
        clock_max_mhz=1_755,
    )
    return value._replace(**FATES[fate][0])


def name_of(one: One, place: int) -> str:
    """Return the name of a device, whose kind is that of its model."""
    return f"{KINDS[one.model]}:{place}"


def names(*places: int) -> list[str]:
    """Return what the devices at some places of a node may be called."""
    return [f"{kind}:{place}" for place in places for kind in KINDS.values()]


def record_of(index: int, devices: list[One], campaign: Campaign = CAMPAIGN) -> NodeRecord:
    """Return the record of a node."""
    template = signed.record(signed.new_key())
    base = template.models[0]
    common: dict[str, Any] = {"simulated": False, "memory_bytes": None, "cache_bytes": 50 * 2**20}
    names = sorted({one.model for one in devices})
    models: list[DeviceModel] = [replace(base, **{**common, **MODELS[name][0]}) for name in names]
    found, failures = [], []
    rows: dict[Precision, list[Figure]] = {}
    for place, one in enumerate(devices):
        name = name_of(one, place)
        found.append(
            Device(
                device=name,
                model=names.index(one.model),
                **identity(index, place),
                pci_address=None,
                parent=None,
                numa_node=None,
            )
        )
        for precision, fate in one.fates.items():
            if fate == "failed":
                failures.append(
                    Failure(device=name, precision=precision, choice="fixed", code="device-hung", detail=None)
                )
            else:
                rows.setdefault(precision, []).append(figure(name, one, precision))
    measurements = tuple(
        Measurement(
            kernel="gemm-torch",
            precision=precision,
            choice="fixed",
            accumulate="fp64" if precision == "fp64" else "fp32",
            method="native",
            **SHAPE,
            operand_sets=8,
            operand_bytes=2**31,
            steal_ppm=None,
            other_load_ppm=None,
            throttle_reasons=(),
            **columns(figures),
        )
        for precision, figures in sorted(rows.items())
    )
    return replace(
        template,
        node_id=node_name(index),
        centre_id=campaign.centre_id,
        pool=next(node.pool for node in campaign.nodes if node.node_id == node_name(index)),
        campaign_id=campaign.campaign_id,
        starts_at=campaign.starts_from,
        started_at=f"{DAY}T07:50:00.000000Z",
        ready_at=f"{DAY}T07:55:00.000000Z",
        ended_at=f"{DAY}T08:20:00.000000Z",
        campaign_sha256=digest(campaign),
        challenge=campaign.challenge,
        profile=campaign.profile,
        profile_sha256=campaign.profile_sha256,
        clock=NodeClock(source="chrony", uncertainty_ns=1_000),
        models=tuple(models),
        devices=tuple(found),
        measurements=measurements,
        failures=tuple(failures),
    )


def identity(node: int, place: int) -> dict[str, str | None]:
    text = hashlib.sha256(f"{node}/{place}".encode()).hexdigest()
    return {"uuid": f"gpu-{text[:32]}", "serial": None if place % 2 else text[32:44], "die_id": None}


devices_strategy = st.builds(
    One,
    model=st.sampled_from(sorted(MODELS)),
    fates=st.dictionaries(st.sampled_from(["fp16", "bf16", "fp64"]), st.sampled_from([*FATES, "failed"]), max_size=3),
    launches=st.integers(90, 110).map(lambda x: 30 * x),
    existing=st.booleans(),
)
Fleet = dict[int, list[One]]
fleets = st.dictionaries(st.integers(0, 3), st.lists(devices_strategy, min_size=1, max_size=4), min_size=1)


@st.composite
def pools_strategy(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Draw pools that share no device: split by node, by device, or both; some devices may stand in none."""
    kind = st.sampled_from(CLASSES)
    how = draw(st.sampled_from(["one", "by node", "by device", "by both", "partial"]))
    nodes = [node_name(i) for i in range(4)]
    cut = draw(st.integers(1, 3))
    if how == "one":
        parts: list[tuple[Any, Any]] = [("all", "all")]
    elif how == "by node":
        parts = [(nodes[:cut], "all"), (nodes[cut:], "all")]
    elif how == "by device":
        parts = [("all", names(*range(cut))), ("all", names(*range(cut, 4)))]
    elif how == "by both":
        parts = [(nodes[:2], names(0)), (nodes[:2], names(1, 2, 3)), (nodes[2:], "all")]
    else:
        parts = [(nodes, names(0, 2))]
    return [
        {"pool": f"p{i}", "class": draw(kind), "nodes": where, "devices": which}
        for i, (where, which) in enumerate(parts)
    ]


COUNTED: dict[str, Precision] = {"intelligent": "fp16", "supercomputing": "fp64", "general": "fp32", "edge": "fp16"}


@dataclass
class Expected:
    """A sum that the oracle keeps: a plain list of figures."""

    rows: list[tuple[Figure, int | None, str]]  # figure, nominal, on which hold it counts ("": on none)

    def totals(self) -> Totals:
        uppers = [f.upper_mflop_s for f, _, _ in self.rows]
        return Totals(
            devices=len(self.rows),
            certified_mflop_s=sum(f.certified_mflop_s for f, _, _ in self.rows),
            sustained_mflop_s=sum(f.sustained_mflop_s for f, _, _ in self.rows),
            upper_mflop_s=None if None in uppers else sum(u for u in uppers if u is not None),
            nominal_mflop_s=sum(n or 0 for _, n, _ in self.rows),
            devices_without_rating=sum(n is None for _, n, _ in self.rows),
            on_accepted_hold_mflop_s=sum(f.certified_mflop_s for f, _, held in self.rows if held),
            never_scheduled_mflop_s=sum(f.certified_mflop_s for f, _, held in self.rows if held == "no-ceiling"),
        )


class Oracle:
    """What a statement must say of a fleet, by going through its devices one by one."""

    def __init__(self, fleet: Fleet, pools: list[dict[str, Any]], in_operation: bool) -> None:
        self.counted: dict[tuple[str, Precision, bool], list[tuple[Figure, int | None, str]]] = {}
        self.untested: dict[str, list[int | None]] = {}
        self.found: Counter[str] = Counter()
        self.recorded: Counter[str] = Counter()
        self.listed: Counter[tuple[str, str]] = Counter()
        self.grades: set[str] = set()
        self.simulated = False
        self.nodes: dict[str, list[list[tuple[int | None, int | None]]]] = {}  # pool -> nodes -> upper bound and rating
        self.inside: set[tuple[str, str]] = set()  # node, pool that its record shows a device of
        for node, devices in fleet.items():
            homes = set()
            parts: dict[str, list[tuple[int | None, int | None]]] = {}
            for place, one in enumerate(devices):
                name, where = name_of(one, place), node_name(node)
                homes_of = [
                    pool
                    for pool in pools
                    if pool["nodes"] in ("all",) or where in pool["nodes"]
                    if pool["devices"] in ("all",) or name in pool["devices"]
                ]
                self.simulated |= one.model == "fake"
                if not homes_of:
                    self.listed[where, name] += 1
                    continue
                (pool,) = homes_of
                homes.add(pool["pool"])
                self.found[pool["pool"]] += 1
                self._device(where, name, one, pool, in_operation)
                parts.setdefault(pool["pool"], []).append(bounds_of(name, one, pool, in_operation))
            self.recorded.update(homes)
            self.inside |= {(node_name(node), home) for home in homes}
            for home, part in parts.items():
                self.nodes.setdefault(home, []).append(part)

    def _device(self, node: str, name: str, one: One, pool: dict[str, Any], in_operation: bool) -> None:
        wanted, nominal = COUNTED[pool["class"]], MODELS[one.model][1]
        fallback = one.model == "cpu" and pool["class"] == "intelligent"
        counts = False
        for precision, fate in one.fates.items():
            if fate == "failed":
                continue
            _, good, held = FATES[fate]
            if good and in_operation and not fallback:
                hold = "no-ceiling" if one.model == "unrated" else "energy-disagrees" if held else ""
                row = figure(name, one, precision), nominal.get(precision), hold
                self.counted.setdefault((pool["pool"], precision, one.existing), []).append(row)
                counts |= precision == wanted
        if counts:
            self.grades.add("standard")
        else:
            self.untested.setdefault(pool["pool"], []).append(nominal.get(wanted))
            self.listed[node, name] += 1

    def totals(self, pools: Iterable[str], precision: Precision, *existing: bool) -> Totals:
        chosen = [self.counted.get((pool, precision, old), []) for pool in pools for old in existing or (False, True)]
        return Expected([row for rows in chosen for row in rows]).totals()

    def missing(self, pools: list[dict[str, Any]], kind: str) -> tuple[int, int | None]:
        """Return how many nodes of a class show no device of it in a record, and what they could at most add."""
        places = [
            (node, pool["pool"])
            for pool in pools
            for node in map(node_name, range(4))
            if pool["class"] == kind and (pool["nodes"] == "all" or node in pool["nodes"])
            if (node, pool["pool"]) not in self.inside
        ]
        sizes = {
            pool: [[max((x for x in device if x is not None), default=None) for device in node] for node in nodes]
            for pool, nodes in self.nodes.items()
        }
        nodes = len({node for node, _ in places})
        homes = [sizes.get(pool, [[None]]) for _, pool in places]
        if any(None in node for home in homes for node in home):
            return nodes, None
        return nodes, sum(max(sum(x or 0 for x in node) for node in home) for home in homes)

    def rest(self, pools: Iterable[str]) -> Untested:
        nominal = [value for pool in pools for value in self.untested.get(pool, [])]
        return Untested(
            devices=len(nominal),
            nominal_mflop_s=sum(value or 0 for value in nominal),
            devices_without_rating=nominal.count(None),
        )


def bounds_of(name: str, one: One, pool: dict[str, Any], in_operation: bool) -> tuple[int | None, int | None]:
    """Return the upper bound of a device's figure in its pool's precision, unless it is void, and its rating."""
    wanted = COUNTED[pool["class"]]
    fate = one.fates.get(wanted, "failed")
    void = not in_operation or fate in ("failed", "void", "void and accepted", "below-profile")
    return None if void else figure(name, one, wanted).upper_mflop_s, MODELS[one.model][1].get(wanted)


def baseline_of(fleet: Fleet) -> Baseline | None:
    """Return the inventory of what stood there before; each device by one of its identities only."""
    old = [
        identity(node, place) for node, devices in fleet.items() for place, one in enumerate(devices) if one.existing
    ]
    listed = [BaselineDevice(uuid=None if i["serial"] else i["uuid"], serial=i["serial"], die_id=None) for i in old]
    return Baseline(centre_id="gz-test", taken_at="2026-01-01T00:00:00.000000Z", devices=tuple(listed)) if old else None


def basis(fleet: Fleet, pools: list[dict[str, Any]], lifecycle: str = "in_operation") -> StatementInputs:
    centre = centre_of(pools=pools, lifecycle=lifecycle)
    return basis_of(placed(CAMPAIGN, centre), STANDARD, centre, (POLICY,), baseline_of(fleet))


@settings(deadline=None, max_examples=150)
@given(fleets, pools_strategy(), st.sampled_from(["in_operation"] * 4 + ["planned"]))
def test_a_statement_says_what_a_list_of_the_devices_says(
    fleet: Fleet, pools: list[dict[str, Any]], lifecycle: str
) -> None:
    oracle = Oracle(fleet, pools, lifecycle == "in_operation")
    base = basis(fleet, pools, lifecycle)
    statement = statement_of([record_of(n, d, base.scope.campaign) for n, d in fleet.items()], base)
    for line, pool in zip(statement.pools, pools, strict=True):
        name, precision = pool["pool"], COUNTED[pool["class"]]
        assert (line.pool, line.pool_class, line.precision) == (name, pool["class"], precision)
        assert line.counted == oracle.totals([name], precision)
        assert line.in_baseline == oracle.totals([name], precision, True)
        assert line.untested == oracle.rest([name])
        assert (line.nodes_recorded, line.devices_found) == (oracle.recorded[name], oracle.found[name])
        assert line.counted.devices + line.untested.devices == line.devices_found
    check_classes(statement, oracle, pools)
    shown = {(x.pool, x.precision): x.shown for x in statement.shown}
    beside = {
        (pool, precision)
        for pool, precision, _ in oracle.counted
        if precision != COUNTED[next(p["class"] for p in pools if p["pool"] == pool)]
    }
    assert shown == {(pool, precision): oracle.totals([pool], precision) for pool, precision in beside}
    assert statement.grade == ("standard" if oracle.grades else None)
    assert statement.simulated == oracle.simulated
    assert statement.records == len(fleet)
    assert sum(i.devices for i in statement.inventory) == sum(oracle.found.values())
    check_not_counted(statement, oracle, fleet)


def check_classes(statement: CapacityStatement, oracle: Oracle, pools: list[dict[str, Any]]) -> None:
    """Compare the sums over classes and across them."""
    by_class = {kind: [p for p in pools if p["class"] == kind] for kind in CLASSES}
    wanted = {kind: found for kind, found in by_class.items() if found}
    assert [line.pool_class for line in statement.classes] == list(wanted)
    for line in statement.classes:
        names = [pool["pool"] for pool in wanted[line.pool_class]]
        precision = COUNTED[line.pool_class]
        assert line.counted == oracle.totals(names, precision)
        assert line.in_baseline == oracle.totals(names, precision, True)
        assert line.untested == oracle.rest(names)
        assert (line.nodes_missing, line.missing_at_most_mflop_s) == oracle.missing(pools, line.pool_class)
    sums = {line.pool_class: line.counted.certified_mflop_s for line in statement.classes}
    whole, book = sum(sums.values()), statement.bookkeeping
    assert book.certified_mflop_s == whole
    assert book.intelligent_share_ppm == (sums.get("intelligent", 0) * 10**6 // whole if whole else None)
    assert book.sustained_mflop_s == sum(line.counted.sustained_mflop_s for line in statement.classes)
    assert book.nominal_mflop_s == sum(line.counted.nominal_mflop_s for line in statement.classes)


def check_not_counted(statement: CapacityStatement, oracle: Oracle, fleet: Fleet) -> None:
    """Every device that counts 0 is listed once with a reason, every other never, and so is each missing node."""
    listed = Counter((e.node_id, e.device) for e in statement.not_counted if e.device is not None)
    assert listed == oracle.listed
    assert all(entry.codes for entry in statement.not_counted)
    missing = [entry.node_id for entry in statement.not_counted if entry.device is None]
    assert missing == [node_name(i) for i in range(4) if i not in fleet]


@settings(deadline=None, max_examples=50)
@given(fleets, pools_strategy(), st.data())
def test_the_order_and_the_shares_of_the_records_do_not_matter(
    fleet: Fleet, pools: list[dict[str, Any]], data: st.DataObject
) -> None:
    base = basis(fleet, pools)
    records = [record_of(node, devices, base.scope.campaign) for node, devices in fleet.items()]
    whole, parts = Tally(), [Tally(), Tally(), Tally()]
    for record in data.draw(st.permutations(records)):
        tally_record(record, base.scope, parts[data.draw(st.integers(0, 2))])
    for part in data.draw(st.permutations(parts)):
        whole.add(part)
    assert build(whole, ROOT, base, ISSUE) == statement_of(records, base)


@settings(deadline=None, max_examples=50)
@given(fleets, pools_strategy(), st.sampled_from(["in_operation"] * 4 + ["planned"]))
def test_what_the_nodes_count_adds_up_to_the_pools(fleet: Fleet, pools: list[dict[str, Any]], lifecycle: str) -> None:
    """Each node's own sums, of the counted workload only, whatever is void, held, accepted or stood there before."""
    base = basis(fleet, pools, lifecycle)
    whole: dict[str, Capacity] = {}
    recorded: Counter[str] = Counter()
    records = [record_of(node, devices, base.scope.campaign) for node, devices in fleet.items()]
    for record in records:
        tally = Tally()
        tally_record(record, base.scope, tally)
        for pool, value in counted_sums(tally, base.scope):
            whole[pool] = whole.get(pool, Capacity()) + value.counted
            recorded[pool] += 1
    for line in statement_of(records, base).pools:
        total, counted = whole.get(line.pool, Capacity()), line.counted
        assert recorded[line.pool] == line.nodes_recorded
        assert (total.devices, total.without_rating) == (counted.devices, counted.devices_without_rating)
        for name in ("certified_mflop_s", "sustained_mflop_s", "upper_mflop_s", "nominal_mflop_s"):
            assert getattr(total, name) == getattr(counted, name)


@pytest.mark.parametrize(
    ("holds", "blocking", "expected"),
    [
        ("", "", "clean"),
        ("not-steady", "", "on_hold"),
        ("not-steady no-ceiling", "", "unbounded"),
        ("above-best-known", "above-best-known", "witness"),
        ("above-best-known not-steady", "above-best-known", "witness"),
        ("above-best-known not-steady", "above-best-known not-steady", None),
        ("above-best-known no-ceiling", "above-best-known", None),  # accepted plainly: never scheduled, by no witness
        ("", "wrong-product", None),
    ],
)
def test_what_holds_make_of_a_figure(holds: str, blocking: str, expected: Standing | None) -> None:
    found = standing_of(tuple(holds.split()), tuple(blocking.split()), frozenset({"above-best-known"}))
    assert found == expected


def test_an_unbounded_device_leaves_every_sum_over_it_unbounded() -> None:
    clean, wild = (One("h100", {"fp16": fate}, 3_000, False) for fate in ("clean", "unbounded"))
    listed = [node_name(0)], [node_name(i) for i in (1, 2, 3)]
    pools = [{"pool": f"p{i}", "class": "intelligent", "nodes": listed[i], "devices": "all"} for i in range(2)]
    fleet = {0: [clean], 1: [clean, wild]}
    base = basis(fleet, pools)
    statement = statement_of([record_of(n, d, base.scope.campaign) for n, d in fleet.items()], base)
    first, second = (line.counted for line in statement.pools)
    assert first.upper_mflop_s is not None
    assert second.upper_mflop_s is None
    assert statement.classes[0].counted.upper_mflop_s is None
    assert statement.classes[0].counted.certified_mflop_s == first.certified_mflop_s + second.certified_mflop_s


ONE_POOL = [{"pool": "main", "class": "intelligent", "nodes": "all", "devices": "all"}]
GOOD = One("h100", {"fp16": "clean"}, 3_000, False)


def line_of(one: One, pool_class: str = "intelligent", policy: Policy = POLICY, **centre: Any) -> CapacityStatement:
    """Return the statement of one device."""
    pools = [{"pool": "main", "class": pool_class, "nodes": "all", "devices": "all"}]
    campaign = test_campaign(STANDARD, ("fp16", "bf16", "fp64"), 1)
    record = record_of(0, [one], campaign)
    return statement_of([record], basis_of(campaign, STANDARD, centre_of(pools=pools, **centre), (policy,)))


def test_a_cpu_in_an_intelligent_pool_is_a_fallback_and_smoke_at_most() -> None:
    cpu = One("cpu", {"fp16": "clean"}, 3_000, False)
    held = line_of(cpu)
    assert held.not_counted[0].codes == ("cpu-fallback",)
    assert (held.classes[0].counted.devices, held.grade) == (0, None)
    accepted = line_of(cpu, policy=policy_of(accept=("cpu-fallback",)))
    assert (accepted.classes[0].counted.devices, accepted.grade) == (1, "smoke")
    assert accepted.classes[0].counted.on_accepted_hold_mflop_s == accepted.classes[0].counted.certified_mflop_s
    elsewhere = line_of(One("cpu", {"fp64": "clean"}, 3_000, False), "supercomputing")
    assert (elsewhere.classes[0].counted.devices, elsewhere.grade) == (1, "standard")


def test_bf16_is_shown_and_counts_0() -> None:
    statement = line_of(One("h100", {"bf16": "clean"}, 3_000, False))
    assert statement.classes[0].counted.certified_mflop_s == 0
    assert [entry.codes for entry in statement.not_counted] == [("untested",)]
    (shown,) = statement.shown
    assert (shown.precision, shown.shown.devices) == ("bf16", 1)
    assert shown.shown.certified_mflop_s > 0
    assert ("bf16-not-fp16", "note") in [(f.code, f.effect) for f in statement.findings]
    assert statement.bookkeeping.certified_mflop_s == 0


@pytest.mark.parametrize("lifecycle", ["planned", "under_construction", "retired"])
def test_what_is_not_in_operation_counts_0(lifecycle: str) -> None:
    statement = line_of(GOOD, lifecycle=lifecycle)
    assert [entry.codes for entry in statement.not_counted] == [("not-in-operation",)]
    assert statement.bookkeeping.certified_mflop_s == 0


def test_an_unrated_device_counts_and_says_so() -> None:
    statement = line_of(One("unrated", {"fp16": "clean"}, 3_000, False))
    counted = statement.classes[0].counted
    assert (counted.devices, counted.nominal_mflop_s, counted.devices_without_rating) == (1, 0, 1)
    assert "no-rating" in [f.code for f in statement.findings]


def test_the_grade_is_the_lowest_among_what_counts() -> None:
    tally = Tally(grades={"certification", "smoke", "standard"}, node_ids={node_name(0)})
    assert build(tally, ROOT, basis({}, ONE_POOL), ISSUE).grade == "smoke"
    tally.grades = {"certification", "standard"}
    assert build(tally, ROOT, basis({}, ONE_POOL), ISSUE).grade == "standard"


def test_what_a_witness_makes_count_has_a_grade_too() -> None:
    """A registry counts it by this grade, and no verdict knows of it."""
    tally = Tally(grades={"certification"}, with_witness_grades={"standard"}, node_ids={node_name(0)})
    statement = build(tally, ROOT, basis({}, ONE_POOL), ISSUE)
    assert (statement.grade, Tally().with_witness_grades) == ("standard", set())
    alone = Tally(with_witness_grades={"certification"}, node_ids={node_name(0)})
    statement = build(alone, ROOT, basis({}, ONE_POOL), ISSUE)
    assert (statement.grade, warnings_of(statement)) == ("certification", ["nothing"])  # nothing counts as yet
    other = Tally()
    other.add(tally)
    assert other.with_witness_grades == {"standard"}


BELONGS: dict[str, dict[str, Any]] = {
    "campaign-differs by name": {"campaign_id": "other"},
    "profile-differs by name": {"profile": "smoke"},
    "rules-differ": {"rules": "petaseal-rules/9.9"},
    "campaign-differs": {"campaign_sha256": "0" * 64},
    "start-differs": {"starts_at": f"{DAY}T08:00:59.999999Z"},
    "challenge-differs": {"challenge": "ee" * 16},
    "centre-differs": {"centre_id": "other"},
    "profile-differs": {"profile_sha256": "0" * 64},
    "node-not-expected": {"node_id": "stranger"},
    "pool-differs": {"pool": "other"},
    "times-reversed": {"ended_at": f"{DAY}T07:54:00.000000Z"},
}


@pytest.mark.parametrize("how", BELONGS)
def test_a_record_that_does_not_belong_is_refused_whole(how: str) -> None:
    record = record_of(0, [GOOD])
    with pytest.raises(RefusedError) as refused:
        statement_of([record_of(1, [GOOD]), replace(record, **BELONGS[how])], basis({}, ONE_POOL))
    assert refused.value.code == how.split()[0]
    assert node_name(0) in str(refused.value) or how == "node-not-expected"


def seen(*records: NodeRecord) -> str | None:
    """Return the code that a set of records is refused with, if it is."""
    unique, base = Uniqueness(), basis({}, ONE_POOL)
    try:
        for record in records:
            unique.see(record.node_id, tally_record(record, base.scope, Tally()))
        unique.check_parents()
    except RefusedError as error:
        return error.code
    return None


def with_device(index: int, **changes: Any) -> NodeRecord:
    record = record_of(index, [GOOD])
    return replace(record, devices=(replace(record.devices[0], **changes),))


@pytest.mark.parametrize("field", ["uuid", "serial", "die_id"])
def test_one_equal_identity_is_the_same_device(field: str) -> None:
    one = with_device(0, uuid="a-1", serial="s-1", die_id="d-1")
    for text in (f"{field[0]}-x", f" {field[0].upper()}-X\n"):
        other = with_device(1, uuid="a-2", serial="s-2", die_id="d-2")
        assert seen(one, other) is None
        first = replace(one, devices=(replace(one.devices[0], **{field: f"{field[0]}-x"}),))
        again = replace(other, devices=(replace(other.devices[0], **{field: text}),))
        assert seen(first, again) == "duplicate-device"


def test_unknown_identities_are_never_equal() -> None:
    placeholders: list[str | None] = [None, "N/A", "0", "Unknown", "[N/A]", "0x0"]
    for text in placeholders:
        assert seen(*(with_device(i, uuid=text, serial=text, die_id=f"die-{i}") for i in range(3))) is None


@pytest.mark.parametrize(("a", "b"), list(itertools.permutations(["uuid", "serial", "die_id"], 2)))
def test_one_device_s_identity_in_another_field_is_the_same_device(a: str, b: str) -> None:
    none: dict[str, str | None] = {"uuid": None, "serial": None, "die_id": None}
    one, other = (with_device(i, **{**none, field: "GPU-abc1"}) for i, field in enumerate((a, b)))
    assert seen(one, other) == "duplicate-device"
    assert seen(with_device(0, **{**none, a: "abc1", b: "ABC-1"})) is None


@pytest.mark.parametrize("spelling", ["gpugpu-{}", "GPU-UUID-0x{}", "MIG-GPU-00{}", "npu:0x0x{}", "uuid: {}"])
def test_a_prefix_does_not_make_two_devices_of_one(spelling: str) -> None:
    one, other = (with_device(i, uuid=text, serial=None) for i, text in enumerate(("GPU-1a2b3c", "{}")))
    other = replace(other, devices=(replace(other.devices[0], uuid=spelling.format("1a2b3c")),))
    assert seen(one, other) == "duplicate-device"


def test_two_devices_of_one_record_may_not_be_one() -> None:
    record = record_of(0, [GOOD, GOOD])
    twice = replace(record, devices=tuple(replace(d, serial="s-1") for d in record.devices))
    assert seen(twice) == "duplicate-device"


def test_a_node_has_one_record() -> None:
    assert seen(with_device(0, uuid="a"), with_device(0, uuid="b")) == "node-twice"


@pytest.mark.parametrize("order", [1, -1])
def test_a_slice_beside_its_device_is_refused_in_either_order(order: int) -> None:
    records = [with_device(0, uuid="GPU-1A2B3C"), with_device(1, uuid="mig-1x2y", parent=" gpu-1a2b3c ")]
    assert seen(*records[::order]) == "parent-and-slice"
    records = [with_device(0, uuid="mig-1x2y", parent="board-7"), with_device(1, uuid=None, serial="Board 7")]
    assert seen(*records[::order]) == "parent-and-slice"


def with_parts(index: int, *parts: dict[str, str | None]) -> NodeRecord:
    record = record_of(index, [GOOD] * len(parts))
    none: dict[str, str | None] = {"uuid": None, "serial": None, "die_id": None, "pci_address": None}
    pairs = zip(record.devices, parts, strict=True)
    return replace(record, devices=tuple(replace(device, **{**none, **part}) for device, part in pairs))


def dies(*names: str, **more: str | None) -> list[dict[str, str | None]]:
    return [{"die_id": name, "parent": "board-7", **more} for name in names]


PARTS: dict[str, tuple[tuple[list[dict[str, str | None]], ...], str | None]] = {
    "dies of one board, with its serial number": ((dies("d-1", "d-2", serial="Board 7"),), None),
    "dies of one board, which goes by a chip of it": ((dies("d-1", "d-2", "board-7"),), None),
    "one die twice": ((dies("d-1", "d-1", serial="Board 7"),), "duplicate-device"),
    "one die twice, in two fields": (
        (dies("d-1") + dies("d-2", uuid="d-1"),),
        "duplicate-device",
    ),
    "a card whose parts stand on two nodes": ((dies("d-1"), dies("d-2")), "parent-on-two-nodes"),
    "the same under two parents, by the board's serial number": (
        (dies("d-1", serial="s-1"), dies("d-2", serial="s-1", parent="board-8")),
        "parent-on-two-nodes",
    ),
    "two boards on two nodes": ((dies("d-1"), dies("d-2", parent="board-8")), None),
    "slices of two dies of one board": (
        (dies("d-1", parent="die-1", serial="s-1") + dies("d-2", parent="die-2", serial="s-1"),),
        None,
    ),
    "a die and a slice of it": ((dies("d-1") + dies("s-1", parent="d-1"),), "parent-and-slice"),
    "a board beside its die": (([*dies("d-1", serial="s-1"), {"serial": "s-1"}],), "parent-and-slice"),
    "a placeholder is no parent": (
        (dies("d-1", serial="s-1", parent="N/A"), dies("d-2", serial="s-1", parent="0")),
        "duplicate-device",
    ),
}


@pytest.mark.parametrize("case", PARTS.values(), ids=PARTS.keys())
def test_parts_share_what_their_whole_goes_by_and_nothing_else(
    case: tuple[tuple[list[dict[str, str | None]], ...], str | None],
) -> None:
    nodes, code = case
    for order in (1, -1):
        assert seen(*[with_parts(i, *parts) for i, parts in enumerate(nodes)][::order]) == code


def test_identities_are_compared_without_the_name_of_their_field() -> None:
    device = with_device(0, uuid=" A ", serial="N/A", die_id="d").devices[0]
    assert identities(device) == {"uuid": "a", "die_id": "d"}
    assert device_keys(device).known == ("a", "d")
    assert device_keys(replace(device, serial="s", parent="p")).known == ("a", "d", "p", "s")


def test_policies_of_one_statement_agree_on_what_counts() -> None:
    one = policy_of()
    intelligent = one.counting["intelligent"]
    other = replace(
        one, policy="other", counting={**one.counting, "intelligent": replace(intelligent, precision="bf16")}
    )
    with pytest.raises(InputError) as refused:
        counting_of((one, other), centre_of())
    assert refused.value.code == "policies-differ"
    assert "counts intelligent in fp16 with fp32 accumulation, and other in bf16" in str(refused.value)
    assert "one --policy at a time" in str(refused.value)
    with pytest.raises(InputError) as refused:
        counting_of((replace(one, counting={"edge": one.counting["edge"]}),), centre_of())
    assert refused.value.code == "class-not-counted"


def test_a_hold_is_accepted_only_if_every_policy_accepts_it() -> None:
    a, b = policy_of(accept=("not-steady", "energy-disagrees")), policy_of(accept=("not-steady",))
    assert accepted_holds((a, b)) == {"not-steady"}
    assert accepted_holds((a,)) == {"not-steady", "energy-disagrees"}
    assert accepted_holds(()) == frozenset()


def test_sums_are_exact_beyond_any_float() -> None:
    total = CapacitySum()
    value = figure("cuda:0", GOOD, "fp16")._replace(certified_mflop_s=2**53 - 1, sustained_mflop_s=2**53 - 1)
    for _ in range(3):
        total.add_figure(value, 2**53 - 1)
    assert (total.certified_mflop_s, total.nominal_mflop_s) == (3 * (2**53 - 1),) * 2
