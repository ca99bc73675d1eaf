"""A city's sums over time and who reached a value, against the roll-up at each step."""

from __future__ import annotations

import csv
import dataclasses
import io
import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import Connection, select

from bench.units import utc_ns, utc_text
from certify.policy.capacity import Capacity
from certify.policy.policies import Policy, load_policy
from certify.policy.thresholds import BaselineMatch, ClassEvidence, PolicyEvidence
from certify.policy.verdicts import evaluate
from certify.registry.api.reached import Reached, TrendPoint
from certify.registry.base.registry import Registry, RegistryFolder, Settings
from certify.registry.state.cache import reader_of
from certify.registry.state.city.listed_csv import reached_csv, trend_csv
from certify.registry.state.city.present import reached_of, sample_schedulable, trend_of
from certify.registry.state.city.trend import derive_trend, read_history
from certify.registry.state.rollup import roll_up
from certify.registry.storage.city_tables import schedulable_samples, verdict_lines
from certify.registry.storage.store import Store
from tests.certify.registry import rows
from tests.certify.registry.rows import PFLOPS, T0, PoolOf, add_statement, after, open_store

GUANGZHOU = load_policy("guangzhou-2027")
G2000P = load_policy("guangzhou-2000p")
DAY = 86_400
HOUR_NS = 3600 * 10**9


@pytest.fixture
def store(database: str, tmp_path: Path) -> Iterator[Store]:
    opened = open_store(database, tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def connection(store: Store) -> Iterator[Connection]:
    with store.engine.connect() as connection:
        yield connection


def shown(store: Store, connection: Connection, at: str) -> dict[str, tuple[int, int]]:
    """Return the certified and managed sums of the roll-up, by class."""
    snapshot = reader_of(store).present(connection, at, 300)
    city = roll_up(GUANGZHOU, snapshot.latest_statements, at)
    return {one.pool_class: (one.counted.certified_mflop_s, one.managed.certified_mflop_s) for one in city.components}


def of_points(points: tuple[TrendPoint, ...], at: str) -> dict[str, tuple[int, int]]:
    """Return what the points tell of a time: a sum stays until the next day on which it changed."""
    before: dict[str, tuple[int, int]] = {
        one.pool_class: (one.certified_mflop_s, one.managed_mflop_s) for one in points if one.at <= at
    }
    return before or dict.fromkeys(("intelligent", "supercomputing", "general", "edge"), (0, 0))


@pytest.mark.parametrize("seed", range(3))
def test_a_trend_is_what_the_roll_up_showed_on_each_day(store: Store, connection: Connection, seed: int) -> None:
    draw = random.Random(seed)
    told, stated = {}, []
    for day in range(12):
        at = after(T0, day * DAY)
        centre_id = f"gz-{draw.randrange(3)}"
        pools = [
            PoolOf(pool=name, pool_class=name, certified_mflop_s=draw.randint(1, 99) * PFLOPS)
            for name in draw.sample(("intelligent", "supercomputing", "edge"), 2)
        ]
        columns: dict[str, Any] = draw.choice(
            ({}, {}, {}, {"level": "trusted"}, {"grade": "smoke"}, {"simulated": True}, {"jurisdiction": "CN-420100"})
        )
        statement = add_statement(connection, centre_id, pools, at=at, valid_days=draw.choice((2.5, 366)), **columns)
        stated.append(statement)
        if columns == {} and draw.random() < 0.5:
            rows.manage(connection, centre_id, "intelligent", at=at)
        if draw.random() < 0.2:
            rows.add_act(connection, "release", centre_id, "intelligent", at=at)
        if draw.random() < 0.2:
            rows.add_end(connection, draw.choice(stated), at=at, effective_at=at)
        if draw.random() < 0.2:
            rows.add_witness(connection, statement, at=at)
        told[day] = shown(store, connection, after(at, DAY - 0.000001 - 8 * 3600))
    last = after(T0, 20 * DAY)
    trend = derive_trend(GUANGZHOU, read_history(connection), {}, last)
    for day, sums in told.items():
        end_of_day = f"{after(T0, day * DAY)[:10]}T23:59:59.999999Z"
        assert of_points(trend.points, end_of_day) == sums, (seed, day)
    assert of_points(trend.points, last) == shown(store, connection, last)


def test_what_was_schedulable_is_as_it_was_sampled(store: Store, connection: Connection) -> None:
    add_statement(connection, "gz-1")
    for hours, rate in ((1, 5), (2, 7), (30, 6)):
        row = {"at": after(T0, hours * 3600), "policy": "guangzhou-2027", "pool_class": "intelligent"}
        connection.execute(schedulable_samples.insert(), row | {"schedulable_mflop_s": rate})
    at = after(T0, 3 * DAY)
    trend = trend_of(store, connection, GUANGZHOU, reader_of(store).present(connection, at, 300), at)
    found = [one.schedulable_mflop_s for one in trend.points if one.pool_class == "intelligent"]
    assert found == [7, 6, None]
    lines = list(csv.DictReader(io.StringIO(trend_csv(trend).decode())))
    assert [line["schedulable_mflop_s"] for line in lines if line["pool_class"] == "intelligent"] == ["7", "6", ""]


def test_nothing_has_no_trend(store: Store, connection: Connection) -> None:
    assert derive_trend(GUANGZHOU, read_history(connection), {}, T0).points == ()


# --- who reached 2000P ------------------------------------------------------------------------------------------------


def state_verdicts(connection: Connection, statement: str, certified_mflop_s: int, policy: Policy = G2000P) -> None:
    """Store the verdicts of a statement whose devices all are new, in the park, in one facility."""
    classes = {"intelligent": ClassEvidence(clean=Capacity(8, *[certified_mflop_s] * 4))}
    evidence = PolicyEvidence(
        classes=classes,  # type: ignore[arg-type]
        grade="certification",
        simulated=False,
        jurisdiction="CN-440115",
        declarations=frozenset({"project", "park", "facility"}),
        baseline=BaselineMatch(0, 0, 8),
        newly_added=classes,  # type: ignore[arg-type]
    )
    for number, one in enumerate(evaluate(policy, evidence)):
        row = {"statement": statement, "number": number, "policy": one.policy, "condition": one.condition}
        row |= {"verdict": one.verdict, "content": msgspec.json.encode(one).decode()}
        connection.execute(verdict_lines.insert(), row)


def test_who_reached_2000p_by_their_own_verdicts(store: Store, connection: Connection, tmp_path: Path) -> None:
    for centre_id, rate, columns in (
        ("gz-1", 2_000 * PFLOPS, {}),
        ("gz-2", 2_310 * PFLOPS, {"project_id": "p2"}),
        ("gz-3", 2_000 * PFLOPS - 1, {}),
        ("gz-4", 5_000 * PFLOPS, {"level": "trusted"}),
        ("gz-5", 9_000 * PFLOPS, {"simulated": True}),
        ("gz-6", 9_000 * PFLOPS, {"valid_days": 1}),
    ):
        statement = add_statement(connection, centre_id, **columns)
        state_verdicts(connection, statement, rate)
    add_statement(connection, "gz-7")  # binds another policy
    at = after(T0, 2 * DAY)
    settings = msgspec.convert({"name": {"zh": "市", "en": "City"}, "trust": "t", "key": "k"}, Settings)
    snapshot = reader_of(store).present(connection, at, 300)
    (one,) = reached_of(connection, RegistryFolder(tmp_path, settings), snapshot, at)
    assert isinstance(one, Reached)
    assert (one.policy, one.condition, one.target, one.target_unit) == (
        "guangzhou-2000p",
        "scale-2000p",
        2000,
        "PFLOPS",
    )
    assert [(line.centre_id, line.project_id, line.reached_ppm) for line in one.met] == [
        ("gz-2", "p2", 1_155_000),
        ("gz-1", None, 1_000_000),
    ]
    assert [line.centre_id for line in one.declared_only] == ["gz-4"]
    assert [(line.centre_id, line.reached_ppm) for line in one.below] == [("gz-3", 999_999)]
    assert (one.below_count, one.not_judged) == (1, 1)
    others = {each.condition: (each.verdict, each.reason) for each in one.met[0].conditions}
    assert others["park"] == ("declared", None)
    assert others["guide"] == ("insufficient_evidence", "guide-not-issued")
    lines = list(csv.DictReader(io.StringIO(reached_csv([one]).decode())))
    assert {(line["list"], line["centre_id"], line["basis"]) for line in lines} >= {
        ("met", "gz-1", "certified"),
        ("declared-only", "gz-4", "nominal"),
        ("below", "gz-3", "sustained"),
    }


def test_what_is_schedulable_is_sampled_once_an_hour(registry: Registry) -> None:
    with registry.store.writing() as connection:
        add_statement(connection, "gz-1", [PoolOf(certified_mflop_s=300, nodes=3)], at=registry.now)
        rows.manage(connection, "gz-1", at=registry.now)
        rows.beat(connection, "gz-1", "main-0000", at=registry.now)
    base = utc_ns(registry.now) // HOUR_NS * HOUR_NS
    for seconds in (3_600, 3_700, 7_100, 7_200):
        sample_schedulable(dataclasses.replace(registry, clock_ns=partial(int, base + seconds * 10**9)))
    with registry.store.reading() as connection:
        found = connection.execute(select(schedulable_samples.c.at, schedulable_samples.c.policy)).all()
    assert [(row.at[11:], row.policy) for row in found] == [
        (f"{utc_text(base + hours * HOUR_NS)[11:]}", "guangzhou-2027") for hours in (1, 2)
    ]
