"""Sums of the life cycle and of cities, against sums made by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import Connection

from certify.policy.policies import Policy, Share, Threshold, load_policy
from certify.registry.api.cities import City, CityCondition
from certify.registry.api.common import Rates
from certify.registry.base.registry import RegistryFolder, Settings
from certify.registry.state.cache import lifecycle_of, reader_of
from certify.registry.state.city.present import city_policies
from certify.registry.state.rollup import roll_up
from certify.registry.storage.store import Store
from tests.certify.registry import rows
from tests.certify.registry.rows import PFLOPS, T0, PoolOf, add_statement, after, open_store

EFLOPS = 1000 * PFLOPS
GUANGZHOU = load_policy("guangzhou-2027")
WUHAN = load_policy("wuhan-2025")
STALE_S = 300


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store("sqlite", tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def connection(store: Store) -> Iterator[Connection]:
    """What is written to it is seen by `city` and `sums`, which read from the same transaction."""
    with store.engine.connect() as connection:
        yield connection


def city(connection: Connection, store: Store, policy: Policy = GUANGZHOU, at: str = T0) -> City:
    return roll_up(policy, reader_of(store).present(connection, at, STALE_S).latest_statements, at)


def condition(told: City, name: str) -> CityCondition:
    return next(one for one in told.conditions if one.verdict.condition == name)


def verdicts(one: CityCondition) -> dict[str, tuple[str, str | None]]:
    return {line.basis: (line.verdict, line.reason) for line in one.verdict.bases}


def gaps(one: CityCondition) -> dict[str, int | None]:
    return {gap.basis: gap.gap_mflop_s if one.verdict.threshold_mflop_s else gap.gap_ppm for gap in one.gaps}


def exactly(certified_mflop_s: int, pool_class: str = "intelligent", **more: Any) -> PoolOf:
    """Return a pool of one rate on every basis, so that all of them agree."""
    same = dict.fromkeys(("sustained_mflop_s", "upper_mflop_s", "nominal_mflop_s"), certified_mflop_s)
    return PoolOf(pool=pool_class, pool_class=pool_class, certified_mflop_s=certified_mflop_s, more=same, **more)


def test_exactly_a_hundred_is_not_above_a_hundred(connection: Connection, store: Store) -> None:
    add_statement(connection, "gz-1", [exactly(60 * EFLOPS)])
    add_statement(connection, "gz-2", [exactly(40 * EFLOPS)])
    one = condition(city(connection, store), "intelligent-scale")
    assert (one.verdict.verdict, one.verdict.document_status) == ("not_met", "draft")
    assert set(gaps(one).values()) == {1}
    add_statement(connection, "gz-3", [exactly(1)])
    one = condition(city(connection, store), "intelligent-scale")
    assert one.verdict.verdict == "met"
    assert set(gaps(one).values()) == {0}


def test_a_share_of_exactly_65_per_cent_is_met(connection: Connection, store: Store) -> None:
    add_statement(connection, "gz-1", [exactly(65 * EFLOPS)])
    add_statement(connection, "gz-2", [exactly(20 * EFLOPS, "supercomputing"), exactly(15 * EFLOPS, "general")])
    one = condition(city(connection, store), "intelligent-share")
    assert one.verdict.verdict == "met"
    assert set(gaps(one).values()) == {0}
    add_statement(connection, "gz-3", [exactly(1, "edge")])
    one = condition(city(connection, store), "intelligent-share")
    assert one.verdict.verdict == "not_met"
    assert [line.observed_ppm for line in one.verdict.bases] == [649_999] * 3
    assert set(gaps(one).values()) == {1}


def test_bases_that_differ_give_no_verdict(connection: Connection, store: Store) -> None:
    add_statement(connection, "gz-1", [PoolOf(certified_mflop_s=99_500 * PFLOPS)])
    one = condition(city(connection, store), "intelligent-scale")
    assert (one.verdict.verdict, one.verdict.reason) == ("insufficient_evidence", "basis-unstated")
    assert verdicts(one) == {
        "certified": ("insufficient_evidence", "within-bounds"),  # upper: 101.49 EFLOPS
        "sustained": ("met", None),  # 100.495 EFLOPS
        "nominal": ("met", None),  # 199 EFLOPS
    }
    assert gaps(one) == {"certified": 500 * PFLOPS + 1, "sustained": 0, "nominal": 0}


def test_what_is_under_management_is_the_platforms_to_say(connection: Connection, store: Store) -> None:
    add_statement(connection, "gz-1", [exactly(81 * EFLOPS)])
    add_statement(connection, "gz-2", [exactly(10 * EFLOPS)])
    rows.manage(connection, "gz-2", "intelligent")
    one = condition(city(connection, store), "under-management")
    assert one.verdict.verdict == "not_met"
    assert gaps(one)["certified"] == 70 * EFLOPS + 1
    rows.manage(connection, "gz-1", "intelligent")
    told = city(connection, store)
    assert condition(told, "under-management").verdict.verdict == "met"
    (component, *_) = told.components
    assert (component.centres, component.counted, component.managed) == (2, component.managed, component.counted)


def test_a_statement_leaves_the_sum_the_moment_it_expires(connection: Connection, store: Store) -> None:
    add_statement(connection, "gz-1", [exactly(101 * EFLOPS)], valid_days=1)
    add_statement(connection, "gz-2", [exactly(EFLOPS)])
    before, then = after(T0, 86_400 - 0.000001), after(T0, 86_400)
    assert condition(city(connection, store, at=before), "intelligent-scale").verdict.verdict == "met"
    told = city(connection, store, at=then)
    one = condition(told, "intelligent-scale")
    assert (one.verdict.verdict, one.verdict.reason) == ("insufficient_evidence", "centre-absent")
    (missing,) = told.missing
    assert (missing.code, missing.statements, missing.certified_mflop_s) == ("expired", 1, 101 * EFLOPS)
    assert missing.examples == ("gz-1",)


def test_what_does_not_count_is_listed_with_its_code(connection: Connection, store: Store) -> None:
    add_statement(connection, "counted", [exactly(PFLOPS)])
    add_statement(connection, "declared", [exactly(PFLOPS)], level="trusted")
    add_statement(connection, "short", [exactly(PFLOPS)], grade="standard")
    add_statement(connection, "nothing", [exactly(0)], grade=None)
    add_statement(connection, "fake", [exactly(PFLOPS)], simulated=True)
    revoked = add_statement(connection, "revoked", [exactly(PFLOPS)])
    rows.add_end(connection, revoked, at=T0, effective_at=T0)
    tuned = PoolOf(certified_mflop_s=PFLOPS, more={"choice": "tuned"})
    add_statement(connection, "tuned", [tuned])
    add_statement(connection, "elsewhere", [exactly(PFLOPS)], jurisdiction="CN-420100")
    add_statement(connection, "nowhere", [exactly(PFLOPS)], jurisdiction=None)
    told = city(connection, store)
    assert {one.code: one.examples for one in told.missing} == {
        "declared-only": ("declared",),
        "grade-too-low": ("short",),
        "nothing-counted": ("nothing",),
        "simulated": ("fake",),
        "revoked": ("revoked",),
        "precision-differs": ("tuned",),
    }
    assert told.components[0].counted == Rates(
        devices=8, certified_mflop_s=PFLOPS, sustained_mflop_s=PFLOPS, nominal_mflop_s=PFLOPS
    )


@pytest.mark.parametrize("columns", [{"level": "trusted"}, {"grade": "standard"}])
def test_what_was_not_verified_may_be_what_is_missing(connection: Connection, store: Store, columns: Any) -> None:
    add_statement(connection, "gz-1", [exactly(90 * EFLOPS)])
    assert condition(city(connection, store), "intelligent-scale").verdict.verdict == "not_met"
    add_statement(connection, "gz-2", [exactly(20 * EFLOPS)], **columns)
    one = condition(city(connection, store), "intelligent-scale")
    assert (one.verdict.verdict, one.verdict.reason) == ("insufficient_evidence", "untested-devices")
    assert gaps(one)["certified"] == 10 * EFLOPS + 1


def test_a_sum_that_rests_on_holds_is_not_met(connection: Connection, store: Store) -> None:
    add_statement(connection, "gz-1", [exactly(90 * EFLOPS)])
    add_statement(connection, "gz-2", [exactly(20 * EFLOPS, on_hold_mflop_s=1)])
    one = condition(city(connection, store), "intelligent-scale")
    assert (one.verdict.verdict, one.verdict.reason) == ("insufficient_evidence", "depends-on-flagged")
    assert one.verdict.on_hold_certified_mflop_s == 20 * EFLOPS


def test_what_needs_a_witness_counts_in_the_city_with_one(connection: Connection, store: Store) -> None:
    add_statement(connection, "gz-1", [exactly(90 * EFLOPS)])
    second = add_statement(connection, "gz-2", [exactly(5 * EFLOPS, with_witness_mflop_s=20 * EFLOPS)])
    one = condition(city(connection, store), "intelligent-scale")
    assert (one.verdict.reason, gaps(one)["certified"]) == ("untested-devices", 5 * EFLOPS + 1)
    assert one.verdict.untested_nominal_mflop_s == 20 * EFLOPS
    rows.add_witness(connection, second, at=T0)
    one = condition(told := city(connection, store), "intelligent-scale")
    assert (one.verdict.verdict, one.verdict.reason) == ("insufficient_evidence", "depends-on-flagged")
    assert (one.verdict.on_hold_certified_mflop_s, one.verdict.untested_nominal_mflop_s) == (20 * EFLOPS, 0)
    assert told.components[0].counted.certified_mflop_s == 115 * EFLOPS


def test_nothing_known_bounds_what_is_never_scheduled(connection: Connection, store: Store) -> None:
    """Of a pool's three nodes two are heard of; each holds 100, of which 10 on no evidence, and 4 need a witness."""
    pool = PoolOf(
        certified_mflop_s=300, nodes=3, never_scheduled_mflop_s=30, with_witness_mflop_s=12, on_hold_mflop_s=30
    )
    statement = add_statement(connection, "gz-1", [pool])
    rows.manage(connection, "gz-1")
    for node_id in rows.node_ids(pool)[:2]:
        rows.beat(connection, "gz-1", node_id, at=T0)

    def shown() -> tuple[Any, dict[str, int]]:
        snapshot = reader_of(store).present(connection, T0, STALE_S)
        sums = lifecycle_of(store, connection, snapshot, T0)
        return snapshot.pools[0], {line.state: line.own.certified_mflop_s for line in sums.lines}

    line, states = shown()
    assert (line.certified_mflop_s, line.never_scheduled_mflop_s, line.with_witness_mflop_s) == (300, 30, 12)
    assert [(s.step, s.devices, s.certified_mflop_s) for s in line.steps] == [("silicon", 21, 270), ("none", 3, 30)]
    assert (line.state, line.schedulable_mflop_s, line.witnessed) == ("schedulable", 180, False)
    assert {name: n for name, n in states.items() if n} == {"schedulable": 180, "managed": 120}
    rows.add_witness(connection, statement, at=T0)
    line, states = shown()
    assert (line.certified_mflop_s, line.schedulable_mflop_s, line.witnessed) == (300, 188, True)
    assert {name: n for name, n in states.items() if n} == {"schedulable": 188, "managed": 124}


def test_a_pool_that_nothing_known_bounds_is_never_schedulable(connection: Connection, store: Store) -> None:
    pool = PoolOf(certified_mflop_s=8, devices=1, never_scheduled_mflop_s=8, on_hold_mflop_s=8)
    add_statement(connection, "gz-1", [pool])
    rows.manage(connection, "gz-1")
    rows.beat(connection, "gz-1", rows.node_ids(pool)[0], at=T0)
    (line,) = reader_of(store).present(connection, T0, STALE_S).pools
    assert (line.state, line.nodes_online, line.schedulable_mflop_s) == ("managed", 1, 0)


def test_missing_nodes_and_untested_devices_bound_nothing(connection: Connection, store: Store) -> None:
    add_statement(connection, "gz-1", [exactly(90 * EFLOPS, untested_devices=1, untested_nominal_mflop_s=11 * EFLOPS)])
    one = condition(city(connection, store), "intelligent-scale")
    assert one.verdict.reason == "untested-devices"
    add_statement(connection, "gz-2", [exactly(1, nodes_missing=1)])
    assert condition(city(connection, store), "intelligent-scale").verdict.reason == "nodes-missing"


def test_nothing_is_no_evidence(connection: Connection, store: Store) -> None:
    told = city(connection, store)
    for one in told.conditions:
        assert one.verdict.verdict == "insufficient_evidence"
    assert condition(told, "intelligent-scale").verdict.reason == "nothing-counted"
    assert condition(told, "intelligent-share").gaps[0].gap_ppm is None
    assert (told.operators, told.tiers, told.domestic_ppm) == (0, {}, None)


def test_wuhan_judges_text_and_annex_apart(connection: Connection, store: Store) -> None:
    pools = [
        exactly(4100 * PFLOPS),
        exactly(400 * PFLOPS, "supercomputing"),
        exactly(300 * PFLOPS, "general"),
        exactly(200 * PFLOPS, "edge"),
    ]
    add_statement(connection, "wh-1", pools, jurisdiction="CN-420111")
    told = city(connection, store, WUHAN)
    found = {one.verdict.condition: one.verdict.verdict for one in told.conditions if one.gaps}
    assert found == {
        "intelligent-annex": "met",  # >= 4100
        "intelligent-text": "not_met",  # > 4.1 EFLOPS
        "supercomputing-annex": "met",
        "high-performance-text": "not_met",  # > 4.5 EFLOPS
        "total-annex": "met",  # >= 5000
    }
    assert gaps(condition(told, "high-performance-text")) == dict.fromkeys(("certified", "sustained", "nominal"), 1)
    assert [(one.pool_class, one.precision, one.counted.certified_mflop_s) for one in told.components] == [
        ("intelligent", "fp16", 4100 * PFLOPS),
        ("supercomputing", "fp64", 400 * PFLOPS),
        ("general", "fp32", 300 * PFLOPS),
        ("edge", "fp16", 200 * PFLOPS),
    ]
    whole = 5000 * PFLOPS
    assert told.bookkeeping == Rates(
        devices=4 * 8, certified_mflop_s=whole, sustained_mflop_s=whole, nominal_mflop_s=whole
    )
    total = condition(told, "total-annex").verdict
    assert total.classes == ("intelligent", "supercomputing", "general", "edge")
    assert {line.observed_mflop_s for line in total.bases} == {whole}
    add_statement(connection, "wh-2", [exactly(PFLOPS)], jurisdiction="CN-440100")  # of another city
    add_statement(connection, "wh-3", [exactly(PFLOPS, "general")], jurisdiction="CN-420100", grade="smoke")
    assert city(connection, store, WUHAN).bookkeeping == told.bookkeeping


def test_who_and_where(connection: Connection, store: Store) -> None:
    # what a centre says of itself (the old field `domestic`) decides nothing: the vendor of its devices does
    huawei = exactly(3 * PFLOPS, vendor="HUAWEI")
    add_statement(connection, "gz-1", [huawei], tier="node", domestic=False, uscc="A" * 18)
    add_statement(connection, "gz-2", [exactly(PFLOPS)], domestic=True, uscc="A" * 18)
    add_statement(connection, "gz-2", [exactly(PFLOPS)], project_id="p2", operator="Another")
    claimed = add_statement(connection, "gz-3", [exactly(PFLOPS)], tier="edge", operator="Another")
    for number in range(3):  # one tries three times, another once
        rows.add_alarm(connection, rows.sha(number), claimed, "thief", "gz-3", devices=number)
    rows.add_alarm(connection, rows.sha("other"), claimed, "other", "gz-3", devices=3)
    rows.add_alarm(connection, rows.sha("related"), claimed, "far", "gz-3", devices=8, code="claims-related")
    told = city(connection, store)
    assert told.tiers == {"city_dc": 1, "edge": 1, "node": 1}
    assert told.operators == 2
    assert told.domestic_ppm == 500_000
    shown = condition(told, "domestic")
    assert (shown.verdict.verdict, shown.verdict.reason, shown.gaps) == ("insufficient_evidence", "no-number", ())
    assert {line.observed_ppm for line in shown.verdict.bases} == {500_000}
    assert told.devices_contested == 5


def test_the_domestic_share_is_of_intelligent_compute(connection: Connection, store: Store) -> None:
    """A policy may ask for that of other classes before."""
    add_statement(connection, "gz-1", [exactly(3 * PFLOPS, vendor="HUAWEI"), exactly(PFLOPS, "supercomputing")])
    asked = next(one for one in GUANGZHOU.conditions if one.condition == "domestic")
    before = replace(asked, condition="domestic-hpc", classes=("supercomputing",))
    both = replace(GUANGZHOU, conditions=(before, *GUANGZHOU.conditions))
    assert city(connection, store, both).domestic_ppm == 1_000_000


def test_thresholds_stand_in_policies_only(connection: Connection, store: Store) -> None:
    add_statement(connection, "gz-1", [exactly(2 * PFLOPS)])
    lower = replace(
        GUANGZHOU,
        conditions=tuple(
            replace(one, value=1, unit="PFLOPS")
            if isinstance(one, Threshold)
            else replace(one, value_ppm=10**6)
            if isinstance(one, Share)
            else one
            for one in GUANGZHOU.conditions
        ),
    )
    told = city(connection, store, lower)
    assert condition(told, "intelligent-scale").verdict.verdict == "met"
    assert condition(told, "intelligent-share").verdict.verdict == "met"


def test_the_policies_of_a_registry(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    text = (Path(__file__).parents[4] / "configs/policies/wuhan-2025.yaml").read_text()
    file.write_text(text.replace("policy: wuhan-2025", "policy: mine"))
    settings = Settings(
        name={"zh": "登记处", "en": "Registry"},  # type: ignore[arg-type]
        trust="trust-root.json",
        key="registry.pem",
        policies=("mine.yaml",),
        cities=("mine", "guangzhou-2027"),
    )
    found = city_policies(RegistryFolder(tmp_path, settings))
    assert [(name, policy.policy) for name, policy in found.items()] == [("mine", "mine"), ("guangzhou-2027",) * 2]


# --- the life cycle ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("again", [False, True])
def test_each_state_has_its_own_sum(database: str, tmp_path: Path, again: bool) -> None:
    opened = open_store(database, tmp_path)

    def sums(at: str) -> dict[tuple[str, str], tuple[int, int, int]]:
        with opened.reading() as connection:
            snapshot = reader_of(opened).present(connection, at, STALE_S)
            told = lifecycle_of(opened, connection, snapshot, at)
        assert all(line.precision == {"intelligent": "fp16", "general": "fp32"}[line.pool_class] for line in told.lines)
        return {
            (line.state, line.pool_class): (line.pools, line.own.certified_mflop_s, line.reached.certified_mflop_s)
            for line in told.lines
        }

    if again:
        assert sums(T0) == {}  # what is added later is added to what was summed up before
    with opened.writing() as connection:
        for number in range(3):
            add_statement(connection, "old", [PoolOf(certified_mflop_s=10**number)], at=after(T0, number))
        add_statement(connection, "declared", [PoolOf(certified_mflop_s=1000)], level="trusted")
        add_statement(connection, "registered", [PoolOf(certified_mflop_s=2000)])
        rows.add_act(connection, "register", "registered")
        add_statement(connection, "managed", [PoolOf(certified_mflop_s=3000)])
        rows.manage(connection, "managed")
        add_statement(connection, "running", [PoolOf(certified_mflop_s=4001, nodes=2)])
        rows.manage(connection, "running")
        rows.beat(connection, "running", "main-0001", at=T0)
        add_statement(connection, "expired", [PoolOf(certified_mflop_s=5000)], at=after(T0, -172_800), valid_days=1)
        revoked = add_statement(connection, "revoked", [PoolOf(certified_mflop_s=6000)])
        rows.add_end(connection, revoked, at=T0, effective_at=T0)
        add_statement(connection, "fake", [PoolOf(certified_mflop_s=7000)], simulated=True)
        add_statement(connection, "fake", [PoolOf(certified_mflop_s=7000)], simulated=True)
        add_statement(connection, "general", [PoolOf(pool_class="general", certified_mflop_s=8000)])
    mine = "intelligent"
    expected = {
        ("declared", mine): (1, 1000, 1000 + 100 + 2000 + 3000 + 4001),
        ("certified", mine): (1, 100, 100 + 2000 + 3000 + 4001),
        ("registered", mine): (1, 2000, 2000 + 3000 + 4001),
        ("managed", mine): (1, 3000 + 2000, 3000 + 4001),  # a node of `running` is silent
        ("schedulable", mine): (1, 2001, 2001),
        ("expired", mine): (1, 5000, 5000),
        ("superseded", mine): (2, 11, 11),
        ("revoked", mine): (1, 6000, 6000),
        ("declared", "general"): (0, 0, 8000),
        ("certified", "general"): (1, 8000, 8000),
    }
    assert sums(T0) == expected
    stale = expected | {("managed", mine): (2, 3000 + 4001, 3000 + 4001)}
    del stale["schedulable", mine]
    assert sums(after(T0, STALE_S)) == stale
    opened.close()
