"""The feed of nodes, which a follower applies, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from bench.errors import InputError
from certify.registry.api.nodes import NodeFeed, NodeLine
from certify.registry.base.rehearsal import settle_kind
from certify.registry.state.cache import reader_of
from certify.registry.state.feed import PoolFilter
from certify.registry.state.feeds.node_feed import MOST, node_feed
from certify.registry.storage.node_tables import node_aliases
from certify.registry.storage.store import Store, record_change
from tests.certify.registry import rows
from tests.certify.registry.postgres import SERVER_IS_LONG
from tests.certify.registry.rows import T0, PoolOf, add_statement, after, open_store
from tests.certify.registry.state.test_snapshot import World

STALE_S = 300
Key = tuple[str, str | None, str, str]


@pytest.fixture
def store(database: str, tmp_path: Path) -> Iterator[Store]:
    opened = open_store(database, tmp_path)
    yield opened
    opened.close()


def fed(store: Store, at: str = T0, since: str | None = None, wanted: PoolFilter | None = None) -> NodeFeed:
    return node_feed(store, at, STALE_S, wanted or PoolFilter(), since)


class NodeFollower:
    """Applies the rule of `NodeFeed`, and nothing else."""

    def __init__(self, wanted: PoolFilter | None = None) -> None:
        self.wanted = wanted
        self.cursor: str | None = None
        self.lines: dict[Key, NodeLine] = {}

    def poll(self, store: Store, at: str) -> NodeFeed:
        answer = fed(store, at, self.cursor, self.wanted)
        self.cursor = answer.next
        nodes = {(one.centre_id, one.node_id) for one in answer.changed_nodes}
        self.lines = {
            key: line
            for key, line in self.lines.items()
            if answer.changed is not None
            and line.centre_id not in answer.changed
            and (line.centre_id, line.node_id) not in nodes
        } | by_key(answer)
        return answer


def by_key(answer: NodeFeed) -> dict[Key, NodeLine]:
    """Return lines by what names them; a node that beats on is no change."""
    lines = {(one.centre_id, one.project_id, one.pool, one.node_id): replace(one, seen_at=None) for one in answer.items}
    assert len(lines) == len(answer.items)
    return lines


@SERVER_IS_LONG
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in (1, 2, 3))])
def test_a_follower_holds_what_everybody_gets(store: Store, seed: int) -> None:
    world = World(seed)
    followers = [NodeFollower(wanted) for wanted in (None, PoolFilter(state="schedulable"), PoolFilter(centre="gz-1"))]
    for _ in range(60):
        world.pass_time()
        with store.writing() as connection:
            for _ in range(world.random.randint(0, 3)):
                world.step(connection)
        for follower in followers:
            if world.random.random() < 0.6:
                follower.poll(store, world.at)
                assert follower.lines == by_key(fed(store, world.at, wanted=follower.wanted))


def test_one_silent_node_is_one_line(store: Store) -> None:
    pool = PoolOf(nodes=40)
    names = rows.node_ids(pool)
    with store.writing() as connection:
        add_statement(connection, "gz-1", [pool])
        add_statement(connection, "gz-2", [pool])
        rows.manage(connection, "gz-1")
        for node_id in names:
            rows.beat(connection, "gz-1", node_id, at=T0)
    follower = NodeFollower()
    assert follower.poll(store, after(T0, 1)).changed is None
    with store.writing() as connection:
        for node_id in names[1:]:
            rows.beat(connection, "gz-1", node_id, at=after(T0, 200))
    # what beats on is no change
    answer = follower.poll(store, after(T0, 250))
    assert (answer.changed, answer.changed_nodes, answer.items) == ((), (), ())
    answer = follower.poll(store, after(T0, 301))
    (line,) = answer.items
    assert (answer.changed, [one.node_id for one in answer.changed_nodes]) == ((), [names[0]])
    assert (line.node_id, line.state, line.online, line.schedulable_mflop_s) == (names[0], "managed", False, 0)
    with store.writing() as connection:
        rows.beat(connection, "gz-1", names[0], at=after(T0, 302))
    (line,) = follower.poll(store, after(T0, 303)).items
    assert (line.state, line.schedulable_mflop_s) == ("schedulable", line.certified_mflop_s)
    # what is about a pool is about all its nodes
    with store.writing() as connection:
        rows.add_act(connection, "release", "gz-1", at=after(T0, 304))
    answer = follower.poll(store, after(T0, 305))
    assert (answer.changed, answer.changed_nodes, len(answer.items)) == (("gz-1",), (), 40)


def test_in_a_rehearsal_simulated_nodes_can_be_scheduled_as_their_pool_can(store: Store) -> None:
    settle_kind(store, rehearsal=True, at=T0, where="registry.yaml")
    with store.writing() as connection:
        add_statement(connection, "gz-1", [PoolOf(nodes=2)], simulated=True)
        rows.manage(connection, "gz-1")
        rows.beat(connection, "gz-1", "main-0000", at=T0)
    heard, silent = fed(store).items
    (pool,) = reader_of(store).now(T0, STALE_S).pools
    assert (pool.state, heard.state, silent.state) == ("schedulable", "schedulable", "managed")
    assert heard.schedulable_mflop_s == heard.certified_mflop_s == pool.schedulable_mflop_s


def test_a_line_says_where_and_what(store: Store) -> None:
    pool = PoolOf(vendor="Huawei", model="Ascend910B2", memory_bytes=64 * 2**30, never_scheduled_mflop_s=100)
    with store.writing() as connection:
        statement = add_statement(connection, "gz-1", [pool], jurisdiction="CN-440115", project_id="P-1")
        rows.manage(connection, "gz-1", project_id="P-1")
        rows.beat(connection, "gz-1", "main-0000", at=T0)
        name = {"centre_id": "gz-1", "node_id": "main-0000", "alias": "gpu[001]"}
        connection.execute(node_aliases.insert(), name)
    (line,) = fed(store).items
    assert (line.centre_id, line.project_id, line.statement) == ("gz-1", "P-1", statement)
    assert (line.jurisdiction, line.city, line.alias) == ("CN-440115", "CN-440100", "gpu[001]")
    assert line.schedulable_mflop_s == pool.certified_mflop_s - 100
    (model,) = line.models
    assert (model.vendor, model.model, model.devices, model.memory_bytes) == ("Huawei", "Ascend910B2", 8, 64 * 2**30)
    assert fed(store, wanted=PoolFilter(vendor="Huawei", jurisdiction="CN-4401")).items == (line,)
    assert fed(store, wanted=PoolFilter(vendor="NVIDIA")).items == ()


def test_a_node_that_is_no_longer_asked_for_is_gone(store: Store) -> None:
    with store.writing() as connection:
        add_statement(connection, "gz-1")
        rows.manage(connection, "gz-1")
        rows.beat(connection, "gz-1", "main-0000", at=T0)
    follower = NodeFollower(PoolFilter(state="schedulable"))
    follower.poll(store, T0)
    assert len(follower.lines) == 1
    answer = follower.poll(store, after(T0, STALE_S + 1))
    assert (len(answer.changed_nodes), answer.items, follower.lines) == (1, (), {})


def test_after_a_long_absence_centres_are_sent_whole(store: Store) -> None:
    pool = PoolOf(nodes=3)
    with store.writing() as connection:
        add_statement(connection, "gz-1", [pool])
    cursor = fed(store).next
    with store.writing() as connection:
        record_change(connection, T0, "presence", "gz-1", "", nodes=[f"node-{i}" for i in range(MOST + 1)])
    answer = fed(store, after(T0, 1), cursor)
    assert (answer.changed, answer.changed_nodes, len(answer.items)) == (("gz-1",), (), 3)


def test_identifiers_and_alarms_show_in_no_line(store: Store) -> None:
    with store.writing() as connection:
        statement = add_statement(connection, "gz-1")
    cursor = fed(store).next
    with store.writing() as connection:
        rows.add_external_id(connection, "gz-1", "1")
        rows.add_alarm(connection, statement, None, "gz-1", None)
    answer = fed(store, after(T0, 1), cursor)
    assert (answer.changed, answer.changed_nodes) == ((), ())


def test_a_cursor_of_another_history_is_refused(store: Store) -> None:
    with store.writing() as connection:
        add_statement(connection, "gz-1")
    known = fed(store).next
    for cursor in ("x", known[:-4]):
        with pytest.raises(InputError) as refused:
            fed(store, T0, cursor)
        assert refused.value.code == "cursor-invalid"
