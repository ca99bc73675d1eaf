"""A city's verdict where nodes or centres are missing, against every corner of what the missing could be."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import Connection

from certify.policy.policies import BASES, Policy, Share, Threshold, load_policy
from certify.registry.api.cities import City
from certify.registry.state.cache import reader_of
from certify.registry.state.city.evidence import Expected
from certify.registry.state.rollup import roll_up
from certify.registry.storage.store import Store
from tests.certify.registry import rows
from tests.certify.registry.rows import PFLOPS, T0, PoolOf, add_statement, after, open_store

EFLOPS = 1000 * PFLOPS
GUANGZHOU = load_policy("guangzhou-2027")
LATER = after(T0, 10 * 86_400)
UNBOUNDED = 10**30  # more than any threshold: what nothing bounds

Interval = dict[str, tuple[int, int]]  # by basis


@pytest.fixture
def store(database: str, tmp_path: Path) -> Iterator[Store]:
    opened = open_store(database, tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def connection(store: Store) -> Iterator[Connection]:
    with store.engine.connect() as connection:
        yield connection


def city(store: Store, connection: Connection, policy: Policy = GUANGZHOU, *expected: str, closed: Any = ()) -> City:
    latest = reader_of(store).present(connection, LATER, 300).latest_statements
    return roll_up(policy, latest, LATER, Expected(frozenset(expected), frozenset(closed)))


def verdict(one: City, name: str) -> tuple[str, str | None]:
    (found,) = (each.verdict for each in one.conditions if each.verdict.condition == name)
    return found.verdict, found.reason


def even(certified_mflop_s: int, pool_class: str = "intelligent", **more: Any) -> PoolOf:
    """Return a pool of one rate on every basis."""
    same = dict.fromkeys(("sustained_mflop_s", "upper_mflop_s", "nominal_mflop_s"), certified_mflop_s)
    return PoolOf(pool=pool_class, pool_class=pool_class, certified_mflop_s=certified_mflop_s, more=same, **more)


def test_6_7_of_100_is_not_met_though_nodes_and_a_centre_are_missing(connection: Connection, store: Store) -> None:
    add_statement(connection, "gz-1", [even(6_700 * PFLOPS, nodes_missing=3, missing_at_most_mflop_s=40 * EFLOPS)])
    add_statement(connection, "gz-2", [even(50 * EFLOPS)], valid_days=1)
    told = city(store, connection)
    assert verdict(told, "intelligent-scale") == ("not_met", None)
    (absent,) = told.absent
    assert (absent.centre_id, absent.code, absent.since) == ("gz-2", "expired", after(T0, 86_400))
    assert [(one.pool_class, one.at_most_mflop_s) for one in absent.could_add] == [("intelligent", 50 * EFLOPS)]
    scale = told.conditions[0]
    assert (scale.target, scale.target_unit, scale.absent_at_most_mflop_s) == (100, "EFLOPS", 50 * EFLOPS)
    assert {gap.basis: (gap.reached_ppm, gap.least_mflop_s, gap.most_mflop_s) for gap in scale.gaps} == dict.fromkeys(
        BASES, (67_000, 6_700 * PFLOPS, 96_700 * PFLOPS)
    )
    # 3.3 EFLOPS more, and the missing could turn it: at exactly 100 "above 100" still is out of reach
    add_statement(connection, "gz-3", [even(3_300 * PFLOPS)])
    assert verdict(city(store, connection), "intelligent-scale") == ("not_met", None)
    add_statement(connection, "gz-4", [even(1)])
    assert verdict(city(store, connection), "intelligent-scale") == ("insufficient_evidence", "centre-absent")


def test_a_share_of_97_per_cent_is_met_unless_the_missing_could_turn_it(connection: Connection, store: Store) -> None:
    add_statement(connection, "gz-1", [even(97 * EFLOPS, nodes_missing=1), even(3 * EFLOPS, "general")])
    assert verdict(city(store, connection), "intelligent-share") == ("met", None)  # unknown, and intelligent
    rest = 97 * EFLOPS * 35 // 65 - 3 * EFLOPS  # with so much of other classes it would be 65 %
    add_statement(connection, "gz-2", [even(rest, "edge")], valid_days=1)
    assert verdict(city(store, connection), "intelligent-share") == ("met", None)
    add_statement(connection, "gz-3", [even(1, "edge")], valid_days=1)
    told = city(store, connection)
    assert verdict(told, "intelligent-share")[0] == "insufficient_evidence"
    assert told.conditions[1].gaps[0].least_ppm == 649_999
    # who lists a centre as closed expects nothing of it
    assert verdict(city(store, connection, closed=["gz-3"]), "intelligent-share") == ("met", None)


def test_who_never_submitted_is_named_and_unbounded(connection: Connection, store: Store) -> None:
    add_statement(connection, "gz-1", [even(EFLOPS)])
    assert city(store, connection, GUANGZHOU, "gz-1").absent == ()
    told = city(store, connection, GUANGZHOU, "gz-1", "gz-2")
    assert verdict(told, "intelligent-scale") == ("insufficient_evidence", "centre-absent")
    (absent,) = told.absent
    assert (absent.centre_id, absent.code, absent.last_valid) == ("gz-2", "never-submitted", None)
    assert {one.at_most_mflop_s for one in absent.could_add} == {None}
    # what was simulated came from no machine: the centre itself has not submitted yet
    add_statement(connection, "gz-2", [even(EFLOPS)], simulated=True)
    (absent,) = city(store, connection, GUANGZHOU, "gz-1", "gz-2").absent
    assert (absent.centre_id, absent.code) == ("gz-2", "never-submitted")


def test_a_revoked_statement_bounds_nothing_and_the_one_before_it_does(connection: Connection, store: Store) -> None:
    add_statement(connection, "gz-1", [even(EFLOPS)])
    first = add_statement(connection, "gz-2", [even(2 * EFLOPS)])
    second = add_statement(connection, "gz-2", [even(200 * EFLOPS)])
    third = add_statement(connection, "gz-2", [even(EFLOPS)], simulated=True)
    (absent,) = city(store, connection).absent
    assert (absent.code, absent.last_valid) == ("superseded", second)
    rows.add_end(connection, third, at=T0, effective_at=T0)
    rows.add_end(connection, second, at=T0, effective_at=after(T0, 60))
    told = city(store, connection)
    (absent,) = told.absent
    assert (absent.code, absent.last_valid) == ("revoked", first)
    assert verdict(told, "intelligent-scale") == ("not_met", None)
    rows.add_end(connection, first, at=T0, effective_at=T0)
    told = city(store, connection)
    assert (told.absent[0].last_valid, verdict(told, "intelligent-scale")[1]) == (None, "centre-absent")


def test_what_was_managed_is_missing_there_until_it_comes_again(connection: Connection, store: Store) -> None:
    add_statement(connection, "gz-1", [even(EFLOPS)])
    add_statement(connection, "gz-2", [even(90 * EFLOPS)], valid_days=1)
    rows.manage(connection, "gz-1", "intelligent")
    told = city(store, connection, GUANGZHOU, "gz-3")  # who never came has nothing under management
    assert verdict(told, "under-management") == ("not_met", None)
    rows.manage(connection, "gz-2", "intelligent")
    told = city(store, connection, GUANGZHOU, "gz-3")
    assert verdict(told, "under-management") == ("insufficient_evidence", "centre-absent")


# --- random cities against the corners --------------------------------------------------------------------------------

CLASSES = ("intelligent", "supercomputing", "general", "edge")


class Drawn:
    """A city in the tables, and what each of its parts could be by class, written down as it is drawn."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.jurisdiction = f"CN-{110000 + 100 * (seed + 1)}"
        self.parts: dict[str, list[Interval]] = {name: [] for name in CLASSES}
        self.expected: list[str] = []
        self.counts = False

    def fill(self, connection: Connection) -> None:
        for number in range(self.draw.randint(1, 4)):
            self._centre(connection, f"{self.jurisdiction.lower()}-{number}")

    def _centre(self, connection: Connection, centre_id: str) -> None:
        kind = self.draw.choice(("counted", "counted", "counted", "declared", "expired", "revoked", "never"))
        if kind == "never":
            self.expected.append(centre_id)
            for name in CLASSES:
                self.parts[name].append(dict.fromkeys(BASES, (0, UNBOUNDED)))
            return
        kinds = self.draw.sample(CLASSES, self.draw.randint(1, 2))
        pools = [self._pool(name, kind) for name in kinds]
        where: dict[str, Any] = {"jurisdiction": self.jurisdiction}
        if kind == "revoked":
            add_statement(connection, centre_id, pools, **where)
            wrong = add_statement(connection, centre_id, [even(EFLOPS)], **where)
            rows.add_end(connection, wrong, at=T0, effective_at=T0)
            return
        level = "trusted" if kind == "declared" else "recomputed"
        self.counts |= kind == "counted"
        add_statement(connection, centre_id, pools, level=level, valid_days=1 if kind == "expired" else 366, **where)

    def _pool(self, name: str, kind: str) -> PoolOf:
        certified = self.draw.choice((0, 5, 33, 50, 65)) * PFLOPS
        sustained, upper = certified + self.draw.randint(0, 2), certified + self.draw.randint(2, 4)
        nominal = certified + self.draw.randint(0, 9) * PFLOPS
        untested = self.draw.choice((0, 0, 7 * PFLOPS))
        missing = self.draw.choice((None, 0, 0, 3 * PFLOPS))
        nodes = self.draw.choice((0, 0, 1))
        hold = kind == "counted" and certified > 0 and self.draw.random() < 0.2
        more = {"sustained_mflop_s": sustained, "upper_mflop_s": upper, "nominal_mflop_s": nominal}
        self._note(
            name,
            kind,
            {"certified": (certified, upper), "sustained": (sustained,) * 2, "nominal": (nominal,) * 2},
            hold,
        )
        for most in [untested] + [UNBOUNDED if missing is None else missing] * bool(nodes):
            self.parts[name].append(dict.fromkeys(BASES, (0, most)))
        return PoolOf(
            pool=name,
            pool_class=name,
            certified_mflop_s=certified,
            on_hold_mflop_s=int(hold),
            untested_devices=int(untested > 0),
            untested_nominal_mflop_s=untested,
            nodes_missing=nodes,
            missing_at_most_mflop_s=missing,
            more=more,
        )

    def _note(self, name: str, kind: str, ends: Interval, hold: bool) -> None:
        """Write down what the counted devices of a pool could be."""
        nominal, upper = ends["nominal"][1], ends["certified"][1]
        most = max(nominal, upper)
        if hold:
            ends = {basis: (0, max(high, nominal)) for basis, (_, high) in ends.items()}
        elif kind == "declared":  # once it counts: no more than its upper bound or its rating
            ends = dict.fromkeys(BASES, (0, most))
        elif kind in ("expired", "revoked"):
            ends = {"certified": (0, upper), "sustained": (0, upper), "nominal": (0, nominal)}
        self.parts[name].append(ends)

    def outcomes(self, basis: str, condition: Threshold | Share) -> set[bool]:
        """Return every outcome that some corner gives."""

        def corners(names: Any) -> set[int]:
            sums = {0}
            for part in (part for name in names for part in self.parts[name]):
                sums = {one + end for one in sums for end in part[basis]}
            return sums

        part = corners(condition.classes)
        if isinstance(condition, Threshold):
            return {_holds(one, condition.value_mflop_s, condition.operator) for one in part}
        rest = corners([name for name in condition.of if name not in condition.classes])
        return {
            _holds(a * 10**6, condition.value_ppm * (a + b), condition.operator)
            for a, b in itertools.product(part, rest)
        }


def _holds(a: int, b: int, sign: str) -> bool:
    return a > b if sign == ">" else a >= b


@pytest.mark.parametrize("start", range(0, 75, 25))
def test_random_cities_agree_with_every_corner(connection: Connection, store: Store, start: int) -> None:
    seen = set()
    for seed in range(start, start + 25):
        drawn = Drawn(seed)
        drawn.fill(connection)
        target = drawn.draw.choice((40, 65, 100, 130))
        conditions = tuple(
            replace(one, value=target, unit="PFLOPS", operator=drawn.draw.choice((">", ">=")))
            if isinstance(one, Threshold)
            else one
            for one in GUANGZHOU.conditions
        )
        policy = replace(GUANGZHOU, jurisdiction=drawn.jurisdiction, conditions=conditions)
        told = city(store, connection, policy, *drawn.expected)
        for one, condition in zip(told.conditions, policy.judged, strict=True):
            if not isinstance(condition, Threshold | Share) or "managed" in getattr(condition, "requires", ()):
                continue
            for line in one.verdict.bases:
                could = drawn.outcomes(line.basis, condition)
                wanted = "insufficient_evidence"
                if drawn.counts and len(could) == 1:
                    wanted = "met" if could == {True} else "not_met"
                if line.reason == "nothing-counted":  # nothing to compare: no verdict, whatever could come
                    continue
                assert line.verdict == wanted, (seed, condition.condition, line, drawn.parts)
                seen.add((condition.condition, line.verdict))
    assert len(seen) >= 5
