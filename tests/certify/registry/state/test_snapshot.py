"""The present state, and the feed that a follower applies, on both databases."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import Connection

from bench.errors import InputError
from certify.registry.api.views import CapacityFeed, PoolCapacity
from certify.registry.state.cache import SnapshotReader, reader_of
from certify.registry.state.feed import PoolFilter, feed
from certify.registry.state.model import Snapshot, pflops
from certify.registry.storage.store import Store
from tests.certify.registry import rows
from tests.certify.registry.postgres import SERVER_IS_LONG
from tests.certify.registry.rows import PFLOPS, T0, PoolOf, add_statement, after, open_store

STALE_S = 300
Write = Callable[[Connection], object]


@pytest.fixture
def store(database: str, tmp_path: Path) -> Iterator[Store]:
    opened = open_store(database, tmp_path)
    yield opened
    opened.close()


def seen(store: Store, at: str = T0) -> Snapshot:
    return reader_of(store).now(at, STALE_S)


def fed(store: Store, at: str, since: str | None = None, wanted: PoolFilter | None = None) -> CapacityFeed:
    return msgspec.json.decode(feed(store, at, STALE_S, wanted or PoolFilter(), since).json(), type=CapacityFeed)


def one(store: Store, at: str = T0) -> PoolCapacity:
    (pool,) = seen(store, at).pools
    return pool


@pytest.mark.parametrize(
    ("rate_mflop_s", "text"),
    [(0, "0.000000"), (999, "0.000000"), (1_999_960_000_000, "1999.960000"), (1_999_999_999_999, "1999.999999")],
)
def test_a_rate_never_rounds_up(rate_mflop_s: int, text: str) -> None:
    assert pflops(rate_mflop_s) == text


def test_an_empty_registry_has_an_empty_feed(store: Store) -> None:
    answer = fed(store, T0)
    assert answer.items == ()
    assert fed(store, after(T0, 1), answer.next).changed == ()


def test_a_pool_goes_from_declared_to_schedulable_and_back(store: Store) -> None:
    pools = [PoolOf(nodes=2)]
    states = []

    def step(write: Write, at: str = T0) -> None:
        with store.writing() as connection:
            write(connection)
        states.append(one(store, at).state)

    written = []
    step(lambda c: written.append(add_statement(c, "gz-1", pools, level="trusted")))
    step(lambda c: rows.recompute(c, written[0], pools))
    step(lambda c: rows.add_act(c, "register", "gz-1"))
    step(lambda c: rows.add_act(c, "manage", "gz-1"))
    step(lambda c: rows.beat(c, "gz-1", "main-0000", at=T0))
    assert states == ["declared", "certified", "registered", "managed", "schedulable"]
    pool = one(store)
    assert (pool.schedulable_mflop_s, pool.schedulable_pflops) == (1000 * PFLOPS, "1000.000000")
    assert (pool.nodes, pool.nodes_online) == (2, 1)
    states.clear()
    step(lambda c: rows.add_act(c, "release", "gz-1"))
    step(lambda c: rows.add_act(c, "manage", "gz-1"))
    step(lambda c: rows.add_act(c, "deregister", "gz-1"))
    assert states == ["registered", "schedulable", "certified"]


def test_a_node_is_stale_at_the_very_moment(store: Store) -> None:
    with store.writing() as connection:
        add_statement(connection, "gz-1")
        rows.manage(connection, "gz-1")
        rows.beat(connection, "gz-1", "main-0000", at=T0)
    assert one(store, after(T0, STALE_S - 0.000001)).state == "schedulable"
    assert one(store, after(T0, STALE_S)).state == "managed"
    assert one(store, after(T0, STALE_S)).schedulable_mflop_s == 0
    assert one(store, T0).state == "schedulable"  # a clock that was set back


def test_other_devices_are_not_schedulable(store: Store) -> None:
    with store.writing() as connection:
        add_statement(connection, "gz-1")
        rows.manage(connection, "gz-1")
        rows.beat(connection, "gz-1", "main-0000", at=T0, same=False)
    assert (one(store).state, one(store).nodes_online) == ("managed", 0)


def test_a_statement_expires_at_the_very_moment(store: Store) -> None:
    with store.writing() as connection:
        add_statement(connection, "gz-1", valid_days=1)
    before, then = after(T0, 86_400 - 0.000001), after(T0, 86_400)
    assert one(store, before).state == "certified"
    pool = one(store, then)
    assert (pool.state, pool.ended_at, pool.ended_code) == ("expired", then, "expired")


def test_a_revocation_takes_effect_in_the_future(store: Store) -> None:
    with store.writing() as connection:
        statement = add_statement(connection, "gz-1", valid_days=1)
        rows.add_end(connection, statement, at=T0, effective_at=after(T0, 60))
    assert one(store, after(T0, 59)).state == "certified"
    assert one(store, after(T0, 60)).state == "revoked"
    assert one(store, after(T0, 90_000)).ended_code == "statement-revoked"  # though it has expired too


def test_only_the_newest_statement_of_a_project_is_in_force(store: Store) -> None:
    with store.writing() as connection:
        for project in ("", "p2"):
            add_statement(connection, "gz-1", [PoolOf(certified_mflop_s=1)], project_id=project)
            add_statement(connection, "gz-1", [PoolOf(certified_mflop_s=2)], project_id=project, at=after(T0, 1))
    assert [(pool.project_id, pool.certified_mflop_s) for pool in seen(store).pools] == [(None, 2), ("p2", 2)]
    assert seen(store).centres["gz-1"].statements == 4


def test_simulated_statements_are_in_no_sum(store: Store) -> None:
    with store.writing() as connection:
        add_statement(connection, "gz-1", simulated=True)
        rows.manage(connection, "gz-1")
        rows.beat(connection, "gz-1", "main-0000", at=T0)
    assert (one(store).state, one(store).schedulable_mflop_s) == ("managed", 0)
    centre = seen(store).centres["gz-1"]
    assert (centre.simulated, centre.classes) == (True, ())


def test_identifiers_and_alarms_stand_beside_a_pool(store: Store) -> None:
    with store.writing() as connection:
        old = add_statement(connection, "gz-1")
        rows.add_external_id(connection, "gz-1", "old", statement=old)
        new = add_statement(connection, "gz-1", at=after(T0, 1))
        rows.add_external_id(connection, "gz-1", "new", statement=new)
        rows.add_external_id(connection, "gz-1", "ours", pool="main")
        rows.add_external_id(connection, "gz-1", "theirs", pool="other")
        rows.add_alarm(connection, rows.sha("refused"), new, "gz-2", "gz-1")
    assert one(store).external_ids == ("csmc:new", "csmc:ours")
    assert one(store).alarms == 1
    assert seen(store).centres["gz-1"].alarms == 1


def test_a_view_is_kept_while_nothing_changes(store: Store) -> None:
    with store.writing() as connection:
        add_statement(connection, "gz-1", valid_days=1)
    first = seen(store)
    assert seen(store, after(T0, 86_399)) is first
    assert seen(store, after(T0, 86_400)) is not first
    with store.writing() as connection:
        rows.add_act(connection, "register", "gz-1")
    assert one(store).state == "registered"


def test_many_readers_see_one_view(store: Store) -> None:
    with store.writing() as connection:
        add_statement(connection, "gz-1")
    found: list[Snapshot] = []
    readers = [threading.Thread(target=lambda: found.append(seen(store))) for _ in range(8)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert len({id(snapshot) for snapshot in found}) == 1


@pytest.mark.parametrize("cursor", ["", "x", "WzFd", "é", "W10", "WzEsMiwiMjAyNi0xMy0wMVQwMDowMDowMC4wMDAwMDBaIiwiIl0"])
def test_a_cursor_that_is_none_is_refused(store: Store, cursor: str) -> None:
    with pytest.raises(InputError) as caught:
        fed(store, T0, cursor)
    assert caught.value.code == "cursor-invalid"


def test_a_cursor_of_another_history_is_refused(store: Store, tmp_path: Path) -> None:
    with store.writing() as connection:
        add_statement(connection, "gz-1")
    other = open_store("sqlite", tmp_path / "objects")
    for centre_id in ("wh-1", "wh-2"):
        with other.writing() as connection:
            add_statement(connection, centre_id)
        with pytest.raises(InputError) as caught:
            fed(store, T0, fed(other, T0).next)
        assert caught.value.code == "cursor-invalid"
    other.close()


def test_a_filter_tells_what_left_it(store: Store) -> None:
    with store.writing() as connection:
        add_statement(connection, "gz-1")
        rows.manage(connection, "gz-1")
        rows.beat(connection, "gz-1", "main-0000", at=T0)
    wanted = PoolFilter(state="schedulable")
    first = fed(store, T0, wanted=wanted)
    assert len(first.items) == 1
    then = fed(store, after(T0, STALE_S), first.next, wanted)
    assert (then.changed, then.items) == (("gz-1",), ())


class Follower:
    """Applies the feed as its documentation says, and nothing else."""

    def __init__(self) -> None:
        self.cursor: str | None = None
        self.items: list[PoolCapacity] = []

    def apply(self, answer: CapacityFeed) -> None:
        kept = [] if answer.changed is None else [one for one in self.items if one.centre_id not in answer.changed]
        self.items = [*kept, *answer.items]
        self.cursor = answer.next

    def sorted(self) -> list[PoolCapacity]:
        return sorted(self.items, key=lambda one: (one.centre_id, one.project_id or "", one.pool))


CENTRES = ("gz-1", "gz-2", "gz-3")


class World:
    """A registry to which things happen, one after the other."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.at = self.latest = T0
        self.stated: dict[tuple[str, str], tuple[str, list[PoolOf], bool]] = {}  # chain -> head, pools, recomputed

    def step(self, connection: Connection) -> None:
        """Do one thing, of those that a registry does."""
        centre, project = self.random.choice(CENTRES), self.random.choice(("", "", "p2"))
        known = self.stated.get((centre, project))
        deed = self.random.choice(("state", "recompute", "act", "act", "beat", "beat", "beat", "revoke", "alarm", "id"))
        if deed == "state" or known is None:
            names = self.random.sample(("a", "b", "c"), self.random.randint(1, 2))
            pools = [PoolOf(pool=name, nodes=2, certified_mflop_s=self.random.randint(0, 10**9)) for name in names]
            level = self.random.choice(("trusted", "recomputed"))
            days = self.random.choice((400, 900, 5000)) / 86_400
            statement = add_statement(
                connection, centre, pools, project_id=project, at=self.at, valid_days=days, level=level
            )
            self.stated[centre, project] = statement, pools, level == "recomputed"
            return
        statement, pools, recomputed = known
        pool = self.random.choice(pools)
        if deed == "recompute" and not recomputed:
            rows.recompute(connection, statement, pools, at=self.at)
            self.stated[centre, project] = statement, pools, True
        elif deed == "act":
            act = self.random.choice(("register", "register", "manage", "manage", "deregister", "release"))
            rows.add_act(connection, act, centre, pool.pool, project_id=project, at=self.at)
        elif deed == "beat":
            node = self.random.choice(rows.node_ids(pool))
            rows.beat(connection, centre, node, at=self.at, same=self.random.random() < 0.9)
        elif deed == "revoke" and self.random.random() < 0.3:
            effective = after(self.at, self.random.choice((-10, 0, 200)))
            rows.add_end(connection, statement, at=self.at, effective_at=effective)
        elif deed == "alarm":
            refused = rows.sha("refused", self.at, self.random.random())
            rows.add_alarm(connection, refused, statement, self.random.choice(CENTRES), centre, at=self.at)
        elif deed == "id":
            rows.add_external_id(connection, centre, str(self.random.randint(0, 9)), project_id=project, at=self.at)

    def pass_time(self) -> None:
        """Let time pass: not at all, a little, until nodes are silent, back a little, or as far as it was wrong."""
        if self.random.random() < 0.05:
            self.at = self.latest = after(self.at, -4000)
            return
        self.at = after(self.at, self.random.choice((0, 0, 0.000001, 1, 40, 150, 299, 300, 500, -20)))
        self.latest = max(self.latest, self.at)
        self.at = max(self.at, after(self.latest, -20))


@SERVER_IS_LONG
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in (1, 2, 3))])
def test_a_follower_holds_what_everybody_gets(store: Store, seed: int) -> None:
    world = World(seed)
    followers = [Follower() for _ in range(3)]
    for _ in range(60):
        with store.writing() as connection:
            for _ in range(world.random.randint(0, 3)):
                world.step(connection)
        world.pass_time()
        for follower in followers:
            if follower is followers[0] or world.random.random() < 0.3:  # the others ask now and then
                follower.apply(fed(store, world.at, follower.cursor))
                assert follower.sorted() == list(fed(store, world.at).items)
                assert follower.sorted() == list(
                    SnapshotReader(store).now(world.at, STALE_S).pools
                )  # by who knows nothing yet
