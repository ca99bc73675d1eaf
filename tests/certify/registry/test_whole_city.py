"""A whole city on both databases: 12,600 nodes of eight devices beat for ten minutes, and every look sees all of them.

The service is a process of its own, heartbeats are signed by each node's key and sent by racks, as `petaseal registry
heartbeat --rack` does. It waits most of its time, so that it can run beside other tests (a part of its own, `make
test-long`).
"""

from __future__ import annotations

import contextlib
import resource
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from bench.units import utc_text
from certify.registry.api.views import CapacityFeed
from tests.certify.registry import rows
from tests.certify.registry.beating import DEVICES, Line, Node, lay_nodes, racks
from tests.certify.registry.laid import lay_registry
from tests.certify.registry.listening import Served, opened, served
from tests.certify.registry.postgres import Postgres

CENTRES, NODES = 300, 42  # 12,600 nodes
SECONDS = 600.0  # of real time: never less
EVERY_S, STALE_S = 120.0, 300  # as an operator has them
LOOK_S = 15.0
SILENT_S = 150.0  # after which some racks say nothing any more
SILENT_RACKS = 3


class City:
    """The nodes of one registry, and when each rack was heard of."""

    def __init__(self, service: Served, nodes: list[Node]) -> None:
        self.line, self.service = Line(service.url), service
        self.racks = racks(nodes)
        self.silent = set(range(SILENT_RACKS))
        self.heard_s = [0.0] * len(self.racks)  # before the request: the registry dates it later
        self.answered_s = [0.0] * len(self.racks)
        self.looks = 0
        self.missed = 0

    def first(self) -> None:
        """Bring all nodes on-line."""
        for number, rack in enumerate(self.racks):
            self.line.ask_nonces(rack)
            self.beat(number)

    def beat(self, number: int) -> None:
        """Send the heartbeats of a rack, all of which must be accepted."""
        self.heard_s[number] = time.time()
        answer = self.line.beat_rack(self.racks[number])
        self.answered_s[number] = time.time()
        assert all(one.accepted and one.online for one in answer.lines), answer

    def look(self) -> None:
        """Ask for the feed as a scheduler does: all nodes are on-line but those that have been silent for too long."""
        before_s = time.time()
        with self.service.client() as client:
            content = client.get("/v1/capacity").content
        after_s = time.time()
        feed = msgspec.json.decode(content, type=CapacityFeed)
        # surely on-line while it was answered, and possibly
        least = sum(len(self.racks[n]) for n, at_s in enumerate(self.heard_s) if after_s < at_s + STALE_S)
        most = sum(len(self.racks[n]) for n, at_s in enumerate(self.answered_s) if before_s < at_s + STALE_S)
        online = sum(pool.nodes_online for pool in feed.items)
        assert len(feed.items) == CENTRES
        assert least <= online <= most, (least, online, most)
        assert online >= CENTRES * NODES - sum(len(self.racks[number]) for number in self.silent)
        for pool in feed.items:
            assert pool.state == ("schedulable" if pool.nodes_online else "managed")
            assert pool.schedulable_mflop_s == pool.nodes_online * DEVICES * rows.PFLOPS, pool
        self.looks += 1
        self.missed = CENTRES * NODES - online


@pytest.fixture
def cities(tmp_path: Path, keys: Path, postgres: Postgres) -> Iterator[list[City]]:
    """The same city at a registry on SQLite and at one on PostgreSQL, all nodes on-line."""
    name = postgres.new_database()
    with contextlib.ExitStack() as stack:
        stack.callback(postgres.drop, name)
        made = []
        for kind, url in (("sqlite", "sqlite"), ("postgresql", postgres.url(name))):
            laid = lay_registry(tmp_path / kind, keys, url, stale_after_s=STALE_S)
            with opened(laid.root) as registry:
                nodes = lay_nodes(registry.store, CENTRES, NODES, utc_text(time.time_ns()))
            made.append(City(stack.enter_context(served(laid.root)), nodes))
        yield made
        for city in made:
            city.line.close()


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_twelve_thousand_nodes_stay_on_line_for_ten_minutes(cities: list[City]) -> None:
    with ThreadPoolExecutor() as pool:  # each registry bids an address that asks for so much at once to wait
        for done in [pool.submit(city.first) for city in cities]:
            done.result()
    begin_s, used = time.time(), cpu_s()
    due = [
        (begin_s + EVERY_S * number / len(city.racks), number, city)
        for city in cities
        for number in range(len(city.racks))
    ]
    due.sort(key=lambda one: one[:2])
    next_look_s = begin_s
    while (now_s := time.time()) < begin_s + SECONDS:
        if now_s >= next_look_s:
            for city in cities:
                city.look()
            next_look_s += LOOK_S
        at_s, number, city = due[0]
        wait_s = min(at_s, next_look_s) - time.time()
        if wait_s > 0:
            time.sleep(wait_s)
            continue
        if at_s <= time.time():
            due.pop(0)
            if number not in city.silent or at_s < begin_s + SILENT_S:
                city.beat(number)
                # racks come in the order of their places, each in its turn
                due.append((at_s + EVERY_S, number, city))
    for city in cities:
        city.look()
        assert city.looks >= SECONDS / LOOK_S
        # the silent ones were noticed, and nobody else
        assert city.missed == sum(len(city.racks[number]) for number in city.silent)
    print(f"the test itself used {cpu_s() - used:.0f} s of processor time")


def cpu_s() -> float:
    """Return the processor time that this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
