"""The registry's service under load: a history of 1,000 centres, readers at a given rate, the feed, a large statement.

Everything is served by a process of its own and asked over HTTP from another one. The readers keep to their times
whatever the answers take, and an answer's time counts from the moment at which it was due: nothing waits unseen.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median, quantiles
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import Table, create_engine, select

from bench.units import DAY_NS, utc_text
from certify.registry.base.registry import open_registry
from certify.registry.storage import tables
from certify.registry.storage.columns import metadata
from certify.registry.storage.node_tables import node_changes
from tests.certify.golden.test_golden import HERE as GOLDEN
from tests.certify.registry import rows
from tests.certify.registry.beating import Node, lay_nodes
from tests.certify.registry.laid import Laid, lay_centre, lay_keys, lay_registry
from tests.certify.registry.listening import Served, new_token, opened, served
from tests.perf import presence
from tests.perf.verify import VERIFY, timed

CENTRES, STATEMENTS = 1000, 100
NODES, DEVICES = 4, 8  # of each statement of the history
RATE_HZ, SECONDS = 200, 30
READ_P99_MS, FEED_MS = 50, 100  # limits
BEATS_HZ = 100  # beside the reads
RESTARTS = 3
LARGE_NODES, INGEST_S = 10_000, 25
ROUNDS = 9
READERS = 32  # connections
FIRST_S = 3  # in which these are opened and caches are filled: told apart
RECEIPT = bytes(700)


def measure(centres: int = CENTRES, statements: int = STATEMENTS, large: int = LARGE_NODES) -> None:
    """Print all figures."""
    presence.measure()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        keys = lay_keys(folder / "keys")
        laid = lay_registry(folder / "registry", keys, stale_after_s=86_400, limits=presence.UNLIMITED)
        presence.list_keys(laid, presence.KEYS)
        begin = time.perf_counter()
        known = seed(laid, centres, statements)
        size = (laid.root / "registry.db").stat().st_size / 2**20
        told = f"{centres} centres x {statements} statements of {NODES} nodes"
        print(f"{told}: seeded in {time.perf_counter() - begin:.0f} s, SQLite of {size:.0f} MiB", flush=True)
        platform = new_token(laid.root, "platform")[1]
        with opened(laid.root) as registry:
            nodes = lay_nodes(registry.store, 20, 20, utc_text(time.time_ns()))
        with served(laid.root) as service:
            reads(service, known, "reads alone", SECONDS)
            with presence.beating(service, nodes, BEATS_HZ) as taken:
                reads(service, known, f"reads beside {BEATS_HZ} heartbeats/s", SECONDS)
            print(f"  these heartbeats: {_of(taken)}", flush=True)
            feed(service, laid)
            if large:
                ingest(service, laid, folder / "large", platform, (known, nodes), large)
        restarted(laid)


def _of(taken: Sequence[float]) -> str:
    each = quantiles([1e3 * one_s for one_s in taken], n=100)
    return f"{len(taken)} accepted, p50 {each[49]:.1f} ms, p99 {each[98]:.1f} ms from when they were due"


def restarted(laid: Laid) -> None:
    """Print how long the first feed after a restart takes, and the restart itself."""
    first, ready = [], []
    for _ in range(RESTARTS):
        begin = time.perf_counter()
        with served(laid.root) as service, service.client() as client:
            ready.append(time.perf_counter() - begin)
            client.get("/healthz")
            first.append(_ms(lambda client=client: client.get("/v1/capacity")))
    print(
        f"the feed, first after a restart, median of {RESTARTS}: {median(first):.0f} ms (limit {FEED_MS});"
        f" the service was ready after {median(ready):.1f} s",
        flush=True,
    )


def seed(laid: Laid, centres: int, statements: int) -> list[tuple[str, str]]:
    """Fill a registry with history; return each centre with its newest statement."""
    registry = open_registry(laid.root)
    now_ns = time.time_ns()
    first_ns = now_ns - (statements + 1) * DAY_NS
    heads, like = [], template()
    envelope = registry.store.objects.put((GOLDEN / "statement.dsse.json").read_bytes())  # of all: readers open it
    try:
        with registry.store.writing() as connection:
            for number in range(centres):
                centre_id = f"centre-{number:04d}"
                for table, made in history(like, centre_id, statements, first_ns, envelope):
                    connection.execute(table.insert(), made)
                heads.append((centre_id, rows.sha(centre_id, "", statements)))
    finally:
        registry.close()
    return heads


Rows = dict[Table, list[dict[str, Any]]]


def template() -> Rows:
    """Return the rows of one statement of one pool under management, whose nodes are heard of."""
    pool, scratch = rows.PoolOf(nodes=NODES, devices=DEVICES), create_engine("sqlite://")
    metadata.create_all(scratch)
    with scratch.connect() as connection:
        rows.add_statement(connection, "one", [pool])
        rows.manage(connection, "one", pool.pool)
        for node_id in rows.node_ids(pool):
            rows.beat(connection, "one", node_id, at=utc_text(time.time_ns()))
        found = {
            table: [dict(row) for row in connection.execute(select(table)).mappings()]
            for table in metadata.sorted_tables
        }
    scratch.dispose()
    return {table: made for table, made in found.items() if made}


def history(
    like: Rows, centre_id: str, last: int, begin_ns: int, envelope: str
) -> Iterator[tuple[Table, list[dict[str, Any]]]]:
    """Yield the rows of one centre: statements a day apart, the last of which is in force."""
    ids: dict[int, str | None] = {number: rows.sha(centre_id, "", number) for number in range(1, last + 1)}
    ids[0] = None
    times = {number: utc_text(begin_ns + number * DAY_NS) for number in ids}
    once = (tables.chains, tables.pool_transitions, tables.presence)
    # they name changes by their numbers, which are others here
    like = {table: made for table, made in like.items() if table is not node_changes}

    def of(row: dict[str, Any], number: int) -> dict[str, Any]:
        at = times[number]
        new = {
            "centre_id": centre_id,
            "statement": ids[number],
            "payload_sha256": ids[number],
            "previous_sha256": ids[number - 1],
            "sequence": number,
            "at": at,
            **dict.fromkeys(("issued_at", "received_at", "measured_from", "measured_until"), at),
            "valid_until": utc_text(begin_ns + (number + 366) * DAY_NS),
            "envelope_sha256": envelope,
        }
        if "node_id" in row:
            new["keyid"] = rows.keyid(centre_id, row["node_id"])
            new["devices_sha256"] = rows.devices(centre_id, row["node_id"])
        return {name: new.get(name, value) for name, value in row.items() if name != "id"}

    for table in metadata.sorted_tables:
        if table in once:
            yield table, [of(row, last) for row in like[table]]
        elif table in like:
            yield table, [of(row, number) for number in range(1, last + 1) for row in like[table]]
    yield (
        tables.decisions,
        [
            {"at": times[number], "kind": kind, "decision": "accepted", "payload_sha256": ids[number], "level": level}
            | {"object_sha256": rows.sha(ids[number], kind), "centre_id": centre_id, "token_id": 1, "receipt": RECEIPT}
            for number in range(1, last + 1)
            for kind, level in (("statement", "trusted"), ("records", "recomputed"))
        ],
    )
    yield (
        tables.identities,
        [
            {"statement": ids[last], "kind": "device", "value": f"{centre_id}-{row['node_id']}-{device}"}
            | {"place": f"{row['node_id']}/cuda:{device}", "claimed": True}
            for row in like[tables.node_lines]
            for device in range(DEVICES)
        ],
    )


def reads(service: Served, known: list[tuple[str, str]], what: str, seconds: float) -> None:
    """Print how long reads take at the given rate, asked from a second process."""
    given, before_s = json.dumps([service.url, known, RATE_HZ, seconds]), service.cpu_s()
    done = subprocess.run(
        [sys.executable, "-m", "tests.perf.registry"], input=given, capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    each, cost_s = (
        quantiles(found["ms"], n=100),
        (service.cpu_s() - before_s) / (len(found["ms"]) + len(found["first"])),
    )
    line = f"p50 {each[49]:.1f} ms, p99 {each[98]:.1f} ms (limit {READ_P99_MS}), worst {max(found['ms']):.0f} ms"
    line += f"; worst of the first {FIRST_S} s {max(found['first']):.0f} ms"
    print(f"{what} at {RATE_HZ}/s for {seconds:.0f} s: {line}; {found['failed']} failed", flush=True)
    print(f"  the service used {1e3 * cost_s:.1f} ms of a core for each: {RATE_HZ * cost_s:.0%} of one")
    slowest = sorted(found["by"].items(), key=lambda one: -quantiles(one[1], n=100)[98])[:3]
    for path, taken in slowest:
        print(f"  {path}: p50 {median(taken):.1f} ms, p99 {quantiles(taken, n=100)[98]:.1f} ms of {len(taken)}")


def read_at_rate(url: str, known: list[list[str]], rate_hz: int, seconds: float) -> dict[str, Any]:
    """Ask at fixed times over connections that stay open; return the times that answers took, ms.

    The first seconds come before those that are asked for.
    """
    chance = random.Random(6)
    place, local = urlsplit(url), threading.local()
    questions = [_question(chance, known) for _ in range(int(rate_hz * (FIRST_S + seconds)))]
    begin = time.perf_counter() + 0.5
    taken: dict[str, list[float]] = {}
    first: list[float] = []
    failed = [0]

    def ask(number: int) -> None:
        kind, path = questions[number]
        due = begin + number / rate_hz
        time.sleep(max(0.0, due - time.perf_counter()))
        if not hasattr(local, "connection"):
            local.connection = http.client.HTTPConnection(place.hostname or "", place.port)
        local.connection.request("GET", path)
        answer = local.connection.getresponse()
        answer.read()
        if answer.status != 200:
            failed[0] += 1
        times = first if number < rate_hz * FIRST_S else taken.setdefault(kind, [])
        times.append(1e3 * (time.perf_counter() - due))

    with ThreadPoolExecutor(READERS) as readers:
        list(readers.map(ask, range(len(questions))))
    return {"ms": [ms for each in taken.values() for ms in each], "by": taken, "first": first, "failed": failed[0]}


def _question(chance: random.Random, known: list[list[str]]) -> tuple[str, str]:
    """Return what a reader asks: mostly of one statement or centre, now and then for a list or a sum."""
    centre_id, statement = chance.choice(known)
    kinds = {
        "/v1/statements/{id}": (40, f"/v1/statements/{statement}"),
        "/v1/centres/{id}": (20, f"/v1/centres/{centre_id}"),
        "/v1/statements?centre": (15, f"/v1/statements?centre={centre_id}&limit=50"),
        "/v1/capacity?centre": (15, f"/v1/capacity?centre={centre_id}"),
        "/v1/centres": (5, "/v1/centres?limit=50"),
        "/v1/lifecycle": (5, "/v1/lifecycle"),
    }
    (kind,) = chance.choices(list(kinds), [weight for weight, _ in kinds.values()])
    return kind, kinds[kind][1]


def feed(service: Served, laid: Laid) -> None:
    """Print how long the feed of all centres takes: after a change, again, unchanged, and what changed alone."""
    registry = open_registry(laid.root)
    fresh, again, same, since = [], [], [], []
    with service.client() as client:
        for number in range(ROUNDS):
            with registry.store.writing() as connection:
                rows.add_external_id(connection, "centre-0001", f"id-{number}", at=registry.now)
            fresh.append(_ms(lambda: client.get("/v1/capacity")))
            again.append(_ms(lambda: client.get("/v1/capacity")))
            answer = client.get("/v1/capacity")
            told = {"if-none-match": answer.headers["etag"]}
            same.append(_ms(lambda told=told: client.get("/v1/capacity", headers=told)))
            after = {"since": answer.json()["next"]}
            since.append(_ms(lambda after=after: client.get("/v1/capacity", params=after)))
        size = len(answer.content)
    registry.close()
    pools = len(answer.json()["items"])
    print(
        f"the feed of {pools} pools ({size / 2**20:.1f} MiB), median of {ROUNDS}: after a change"
        f" {median(fresh):.0f} ms (limit {FEED_MS}), again {median(again):.0f} ms, unchanged (304)"
        f" {median(same):.1f} ms, what changed alone {median(since):.1f} ms;"
        f" after a change / again = {median(fresh) / median(again):.1f}",
        flush=True,
    )


def _ms(ask: Any) -> float:
    begin = time.perf_counter()
    answer = ask()
    taken = 1e3 * (time.perf_counter() - begin)
    assert answer.status_code in (200, 304), answer.text
    return taken


def _read_meanwhile(service: Served, known: list[tuple[str, str]], nodes: list[Node]) -> None:
    with presence.beating(service, nodes, BEATS_HZ) as taken:
        reads(service, known, f"reads beside a verification and {BEATS_HZ} heartbeats/s", SECONDS / 2)
    print(f"  these heartbeats: {_of(taken)}", flush=True)


def ingest(
    service: Served,
    laid: Laid,
    folder: Path,
    secret: str,
    load: tuple[list[tuple[str, str]], list[Node]],
    nodes: int,
) -> None:
    """Print how long a large statement takes, beside its verification alone, and what readers notice of it."""
    begin = time.perf_counter()
    centre = lay_centre(folder, laid.keys, nodes=nodes, devices=DEVICES)
    made = centre.certify()
    out = centre.folder / "out"
    size = (out / "records.jsonl").stat().st_size / 2**20
    print(
        f"{nodes} nodes of {DEVICES} devices: {size:.0f} MiB, made in {time.perf_counter() - begin:.0f} s", flush=True
    )
    alone = timed(VERIFY, str(folder), os.sched_getaffinity(0))
    with service.client(
        secret,
    ) as client:
        client.timeout = 1800
        begin = time.perf_counter()
        content = (out / "statement.dsse.json").read_bytes()
        answer = client.post("/v1/statements", content=content, headers={"content-type": "application/json"})
        assert answer.status_code == 201, answer.text
        first = time.perf_counter() - begin
        busy = threading.Thread(target=_read_meanwhile, args=(service, *load))
        busy.start()
        begin = time.perf_counter()
        with (out / "records.jsonl").open("rb") as file:
            answer = client.put(
                f"/v1/statements/{made.payload_sha256}/records",
                content=iter(lambda: file.read(2**20), b""),
                headers={"content-type": "application/jsonl"},
            )
        whole = time.perf_counter() - begin
        assert answer.status_code == 201, answer.text
        busy.join()
    print(
        f"ingest of {nodes} nodes: the statement {first:.2f} s, its records {whole:.1f} s"
        f" (together {first + whole:.1f} s, limit {INGEST_S} for {LARGE_NODES} on two cores);"
        f" verify alone {alone:.1f} s; records / verify = {whole / alone:.2f};"
        f" the server held {service.peak_bytes() / 2**20:.0f} MiB at most"
    )


if __name__ == "__main__":  # the process that reads
    with contextlib.suppress(BrokenPipeError):
        print(json.dumps(read_at_rate(*json.load(sys.stdin))))
