"""Heartbeats of many nodes in one request: what is good is heard, whatever else is sent; and times of the future."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from bench.units import utc_text
from certify.registry.api.common import Beat
from certify.registry.api.heartbeats import BATCH_NODES
from certify.registry.intake import certified_nodes, presence
from certify.registry.intake.certified_nodes import CertifiedNodes
from certify.registry.service.app import create_app
from certify.registry.service.routes.presence import BeatCollector
from certify.registry.state.cache import SnapshotReader, current_snapshot
from certify.registry.storage import tables
from tests.certify.registry import rows
from tests.certify.registry.beating import Node, lay_nodes
from tests.certify.registry.within import Within

if TYPE_CHECKING:
    from certify.registry.base.registry import Registry

SQLITE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
LINES = {"content-type": "application/jsonl"}
NODES = 4
MINUTE_NS = 60 * 10**9
Rack = list[Node]


def laid(registry: Registry, centres: int = 1, nodes: int = NODES) -> Rack:
    """Return nodes of centres under management, with their first nonces."""
    made = lay_nodes(registry.store, centres, nodes, registry.now)
    for node in made:
        node.nonce = presence.nonce(registry, node.centre_id, node.node_id).nonce
    return made


def send(registry: Registry, envelopes: list[bytes]) -> list[dict[str, Any]]:
    """Return the lines of the answer to a batch."""
    answer = Within(create_app(registry)).post("/v1/heartbeats/batch", content=b"".join(envelopes), headers=LINES)
    assert answer.status_code == 200, answer.text
    lines: list[dict[str, Any]] = answer.json()["lines"]
    assert [line["line"] for line in lines] == list(range(1, len(envelopes) + 1))
    return lines


def beats_of(registry: Registry) -> dict[str, int]:
    with registry.store.reading() as connection:
        found = connection.execute(select(tables.presence.c.node_id, tables.presence.c.beats))
        return {row.node_id: row.beats for row in found}


def forged(rack: Rack) -> bytes:
    """Return a heartbeat whose devices were changed under its signature."""
    value = json.loads(rack[1].heartbeat())
    other = json.loads(rack[1].heartbeat(devices_sha256="ab" * 32))
    return json.dumps({**value, "payload": other["payload"]}, separators=(",", ":"), sort_keys=True).encode() + b"\n"


def by_another(rack: Rack) -> bytes:
    return Node(rack[1].centre_id, rack[1].node_id, rack[2].key, rack[1].nonce).heartbeat()


# What stands in a batch of honest heartbeats in place of the second, and the code of its line.
ATTACKS: dict[str, tuple[Callable[[Rack], bytes], str]] = {
    "a batch with one forged envelope": (forged, "signature-invalid"),
    "one node's envelope signed by another node's key": (by_another, "signer-mismatch"),
    "the same node twice in one batch": (lambda rack: rack[0].heartbeat(), "nonce-differs"),
    "an envelope of an unknown node": (
        lambda rack: Node(rack[1].centre_id, "node-x", rack[1].key, rack[1].nonce).heartbeat(),
        "node-unknown",
    ),
    "an envelope that was held back": (
        lambda rack: rack[1].heartbeat(sent_at=utc_text(time.time_ns() - 10 * MINUTE_NS)),
        "heartbeat-time",
    ),
    "a nonce of another node": (lambda rack: rack[1].heartbeat(nonce=rack[2].nonce), "nonce-differs"),
    "no JSON": (lambda rack: b"\xff\n", "json-invalid"),
    "an empty line": (lambda rack: b"\n", "json-invalid"),
}


@pytest.mark.parametrize("name", ATTACKS)
@SQLITE
def test_one_bad_envelope_spoils_no_other(registry: Registry, name: str) -> None:
    make, code = ATTACKS[name]
    rack = laid(registry)
    lines = send(registry, [rack[0].heartbeat(), make(rack), *(node.heartbeat() for node in rack[2:])])
    assert [(line["accepted"], line["code"]) for line in lines] == [(True, None), (False, code), *[(True, None)] * 2]
    assert lines[1]["detail"]
    assert (lines[1]["online"], lines[1]["seen_at"]) == (False, None)
    assert beats_of(registry) == {node.node_id: int(node is not rack[1]) for node in rack}


def test_a_batch_is_heard_once(registry: Registry) -> None:
    rack = laid(registry, centres=2)
    batch = [node.heartbeat() for node in rack]
    first = send(registry, batch)
    assert all(line["accepted"] and line["online"] for line in first)
    snapshot = current_snapshot(registry.store, registry.now, registry.settings)
    assert [(pool.nodes_online, pool.state) for pool in snapshot.pools] == [(NODES, "schedulable")] * 2
    # a replay of all of it changes nothing, and is answered with the nonces that are due
    again = send(registry, batch)
    assert {line["code"] for line in again} == {"nonce-differs"}
    assert [line["nonce"] for line in again] == [line["nonce"] for line in first]
    assert set(beats_of(registry).values()) == {1}
    # one change of each centre, and none for a node that is heard of anyway
    for node, line in zip(rack, first, strict=True):
        node.nonce = line["nonce"]
    assert all(line["accepted"] for line in send(registry, [node.heartbeat() for node in rack]))
    with registry.store.reading() as connection:
        kinds = connection.scalars(select(tables.changes.c.kind).order_by(tables.changes.c.id)).all()
    assert kinds.count("presence") == 2


@SQLITE
def test_more_than_a_rack_is_refused_whole(registry: Registry) -> None:
    rack = laid(registry, nodes=BATCH_NODES + 1)
    app = Within(create_app(registry))
    batch = [node.heartbeat() for node in rack]
    answer = app.post("/v1/heartbeats/batch", content=b"".join(batch), headers=LINES)
    assert (answer.status_code, answer.json()["code"]) == (413, "batch-too-large")
    assert answer.json()["detail"] == "the batch has 65 heartbeats, more than 64; send at most 64 in one request"
    assert set(beats_of(registry).values()) == {0}
    assert all(line["accepted"] for line in send(registry, batch[:BATCH_NODES]))
    ask = {"centre_id": rack[0].centre_id, "node_ids": [node.node_id for node in rack]}
    answer = app.post("/v1/nonces", json=ask)
    assert (answer.status_code, answer.json()["code"]) == (413, "batch-too-large")


def test_nonces_of_many_nodes(registry: Registry) -> None:
    rack = lay_nodes(registry.store, 1, NODES, registry.now)
    names = [node.node_id for node in rack]
    app = Within(create_app(registry))
    ask = {"centre_id": rack[0].centre_id, "node_ids": [*names, "nobody", names[0]]}
    lines = app.post("/v1/nonces", json=ask).json()["lines"]
    assert [line["node_id"] for line in lines] == ask["node_ids"]
    assert [line["code"] for line in lines] == [*[None] * NODES, "node-unknown", None]
    assert len({line["nonce"] for line in lines}) == NODES + 1
    assert lines[0]["nonce"] == lines[-1]["nonce"] == presence.nonce(registry, rack[0].centre_id, names[0]).nonce
    assert app.post("/v1/nonces", json=ask).json()["lines"] == lines
    # four processes that ask at once are given the same
    fresh = lay_nodes_of(registry, "city-9999")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: presence.nonces(registry, "city-9999", fresh), range(4)))
    assert all(one == found[0] for one in found)


def lay_nodes_of(registry: Registry, centre_id: str) -> list[str]:
    pool = rows.PoolOf(nodes=8)
    with registry.store.writing() as connection:
        rows.add_statement(connection, centre_id, [pool], at=registry.now)
    return rows.node_ids(pool)


@SQLITE
def test_a_batch_counts_as_what_it_consists_of(registry: Registry) -> None:
    limits = replace_settings(registry, requests_per_minute=60, burst=10)
    rack = laid(registry, nodes=8)
    app = Within(create_app(limits, clock_s=lambda: 0.0))
    statuses = []
    for _ in range(2):
        answer = app.post("/v1/heartbeats/batch", content=b"".join(node.heartbeat() for node in rack), headers=LINES)
        statuses.append(answer.status_code)
    assert statuses == [200, 429]
    assert int(answer.headers["retry-after"]) >= 5


def replace_settings(registry: Registry, **limits: int) -> Registry:
    from msgspec.structs import replace as with_fields

    settings = registry.settings
    changed = with_fields(settings, limits=with_fields(settings.limits, **limits))
    return replace(registry, place=replace(registry.place, settings=changed))


# --- together ---------------------------------------------------------------------------------------------------------


def test_what_waits_is_decided_together(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    rack = laid(registry, nodes=24)
    decide, sizes, first = presence.beats, [], threading.Event()

    def slow(of: Registry, contents: Any) -> list[Beat | Exception]:
        sizes.append(len(contents))
        # until all others wait; the two threads hold one heartbeat each by then
        first.wait(30)
        return decide(of, contents)

    monkeypatch.setattr(presence, "beats", slow)
    collector = BeatCollector(registry)

    async def all_at_once() -> list[Beat | Exception]:
        import asyncio

        waiting = [asyncio.create_task(collector.take((node.heartbeat(),))) for node in rack]
        while len(collector._waiting) + sum(sizes) < len(rack) or len(sizes) < 2:
            await asyncio.sleep(0.01)
        first.set()
        return [answer for (answer,) in await asyncio.gather(*waiting)]

    import anyio

    answers = anyio.run(all_at_once)
    assert all(isinstance(answer, Beat) and answer.online for answer in answers)
    assert [answer.node_id for answer in answers if isinstance(answer, Beat)] == [node.node_id for node in rack]
    assert len(sizes) <= 4
    assert set(beats_of(registry).values()) == {1}


@SQLITE
def test_a_database_that_is_gone_fails_each_of_them(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    rack = laid(registry)

    def away(*_: Any) -> Any:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(registry.store, "writing", away)
        answer = Within(create_app(registry)).post("/v1/heartbeats", content=rack[0].heartbeat(), headers=JSON)
        assert (answer.status_code, answer.json()["code"]) == (507, "disk-full")
    assert all(line["accepted"] for line in send(registry, [node.heartbeat() for node in rack]))


JSON = {"content-type": "application/json"}


def test_what_is_held_of_statements_follows_them(registry: Registry) -> None:
    (node,) = laid(registry, nodes=1)
    assert all(line["accepted"] for line in send(registry, [node.heartbeat()]))
    node.nonce = presence.nonce(registry, node.centre_id, node.node_id).nonce
    # the next statement has another key for the node, and one more node
    with registry.store.writing() as connection:
        rows.add_statement(connection, node.centre_id, [rows.PoolOf(nodes=2)], at=registry.now)
    (line,) = send(registry, [node.heartbeat()])
    assert line["code"] == "signer-mismatch"
    assert presence.nonce(registry, node.centre_id, "main-0001").nonce


def test_an_old_snapshot_reads_what_stood_there(registry: Registry) -> None:
    known = CertifiedNodes()
    lay_nodes_of(registry, "one")
    with registry.store.reading() as old:
        assert len(known.of(old, "one")) == 8
        lay_nodes_of(registry, "two")
        with registry.store.reading() as new:
            assert len(known.of(new, "two")) == 8
        assert not known.of(old, "two")
        assert len(known.of(old, "one")) == 8
    with registry.store.reading() as new:
        assert len(known.of(new, "two")) == 8


@SQLITE
def test_held_centres_are_bounded(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certified_nodes, "CENTRES", 2)
    known = CertifiedNodes()
    for number in range(4):
        lay_nodes_of(registry, f"city-{number}")
    with registry.store.reading() as connection:
        for number in range(4):
            assert len(known.of(connection, f"city-{number}")) == 8
        assert not known.of(connection, "nobody")
        assert len(known._centres) == 2


# --- a clock that was wrong -------------------------------------------------------------------------------------------


def pools(registry: Registry) -> list[tuple[int, str]]:
    """Return what a reader that knows nothing yet and the one of all requests say, which must be the same."""
    known = current_snapshot(registry.store, registry.now, registry.settings).pools
    assert SnapshotReader(registry.store).now(registry.now, registry.settings.stale_after_s).pools == known
    return [(pool.nodes_online, pool.state) for pool in known]


def test_what_was_heard_in_the_future_is_taken_back(registry: Registry) -> None:
    rack = laid(registry, nodes=2)
    ahead_ns = time.time_ns() + 120 * MINUTE_NS
    ahead = replace(registry, clock_ns=lambda: ahead_ns)
    for node in rack:
        answer = presence.beat(ahead, node.heartbeat(sent_at=ahead.now))
        node.nonce = answer.nonce
    assert pools(ahead) == [(2, "schedulable")]
    # the clock is set right: nobody was heard of, until he beats again
    assert pools(registry) == [(0, "managed")]
    again = presence.beat(registry, rack[0].heartbeat())
    assert again.seen_at < ahead.now
    assert again.stale_at < ahead.now
    assert pools(registry) == [(1, "schedulable")]
    assert beats_of(registry)[rack[0].node_id] == 1
    # the other one is gone, and must not come to life at the time that was wrong
    assert pools(ahead) == [(1, "schedulable")]
    assert presence.take_back(registry.store, registry.now) == 1
    assert presence.take_back(registry.store, registry.now) == 0
    assert pools(ahead) == [(0, "managed")]


def test_a_clock_that_is_set_back_a_little_takes_nothing_back(registry: Registry) -> None:
    (node,) = laid(registry, nodes=1)
    ahead_ns = time.time_ns() + MINUTE_NS
    ahead = replace(registry, clock_ns=lambda: ahead_ns)
    heard = presence.beat(ahead, node.heartbeat())
    assert presence.take_back(registry.store, registry.now) == 0
    assert pools(registry) == [(1, "schedulable")]
    assert presence.beat(registry, node.heartbeat(nonce=heard.nonce)).seen_at == heard.seen_at


@SQLITE
def test_followers_learn_that_the_future_was_taken_back(registry: Registry) -> None:
    (node,) = laid(registry, nodes=1)
    ahead_ns = time.time_ns() + 120 * MINUTE_NS
    ahead = replace(registry, clock_ns=lambda: ahead_ns)
    presence.beat(ahead, node.heartbeat(sent_at=ahead.now))
    cursor = Within(create_app(ahead)).get("/v1/capacity").json()["next"]
    answer = Within(create_app(registry)).get("/v1/capacity", params={"since": cursor}).json()
    assert [(item["centre_id"], item["nodes_online"]) for item in answer["items"]] == [(node.centre_id, 0)]
