"""What goes wrong around a registry: it is killed, the disk fills up, the database goes away, all come at once.

Everything here is real: processes, signals, file systems, database servers, HTTP. Whatever the service acknowledged is
there afterwards, whole, and `check` finds no fault.
"""

from __future__ import annotations

import base64
import contextlib
import os
import random
import shutil
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from certify.registry.base.registry import open_registry
from certify.registry.maintenance.integrity import check
from certify.registry.storage import tables
from tests.certify.measured import Measured
from tests.certify.registry.laid import Laid, certified
from tests.certify.registry.listening import Served, new_token, served
from tests.certify.registry.lives import STEPS, Lives
from tests.certify.registry.postgres import Postgres
from tests.disks import small_disk

MANY_KILLS = {"sqlite": 50, "postgresql": 15}
LIFE_S = 0.5  # within which a life is killed from outside: about as long as it takes to take two statements in
SMALL_KIB = (4, 8, 16, 32, 64, 96, 128, 192)  # that are left on a disk

SQLITE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
POSTGRESQL_LONG = pytest.mark.parametrize(
    "database", ["sqlite", pytest.param("postgresql", marks=pytest.mark.long)], indirect=True
)
POSTGRESQL = pytest.mark.parametrize("database", ["postgresql"], indirect=True)


@dataclass
class Centres:
    """Statements to submit, made when they are needed: each of a project and of devices of its own."""

    folder: Path
    keys: Path
    made: list[tuple[str, Path]] = field(default_factory=list)  # payload digest, folder

    def __getitem__(self, number: int) -> tuple[str, Path]:
        while len(self.made) <= number:
            new = len(self.made)
            told: dict[str, Any] = {
                "first": 1000 + new,
                "enrolled": False,
                "campaign_id": f"c-{new}",
                "project_id": f"P-{new}",
            }
            centre, statement = certified(self.folder / f"centre-{new}", self.keys, **told)
            self.made.append((statement.payload_sha256, centre.folder / "out"))
        return self.made[number]


@dataclass
class Acknowledged:
    """What the service answered with success: the level that each statement reached, and the last receipt of it."""

    levels: dict[str, str] = field(default_factory=dict)
    receipts: set[str] = field(default_factory=set)
    done: int = 0  # statements whose records were acknowledged too, from the first

    def submit(self, client: httpx.Client, statement: tuple[str, Path]) -> None:
        """Submit a statement and its records, as a centre does that may have done so before."""
        sha256, folder = statement
        for method, path, file, headers in (
            ("POST", "/v1/statements", "statement.dsse.json", JSON),
            ("PUT", f"/v1/statements/{sha256}/records", "records.jsonl", LINES),
        ):
            answer = client.request(method, path, content=(folder / file).read_bytes(), headers=headers)
            assert answer.status_code in (200, 201), answer.text
            decided = answer.json()
            self.levels[sha256] = decided["level"]
            self.receipts.add(decided["receipt"])
        self.done += 1


JSON = {"content-type": "application/json"}
LINES = {"content-type": "application/jsonl"}


@pytest.fixture
def centres(tmp_path: Path, keys: Path) -> Centres:
    folder = tmp_path / "centres"
    folder.mkdir()
    return Centres(folder, keys)


def client_of(url: str, secret: str | None = None) -> httpx.Client:
    headers = {} if secret is None else {"authorization": f"Bearer {secret}"}
    return httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=False, verify=False)  # it is plain HTTP


def whole(place: Laid, acknowledged: Acknowledged) -> set[str]:
    """See that what was acknowledged is there and that there is no fault; return the codes of notes."""
    registry = open_registry(place.root)
    try:
        checked = check(registry)
        assert checked.ok, checked.lines()
        with registry.store.reading() as connection:
            levels = select(tables.verifications.c.statement, tables.verifications.c.level)
            reached = {tuple(row) for row in connection.execute(levels)}
            stored = connection.execute(select(tables.decisions.c.receipt)).scalars().all()
        assert set(acknowledged.levels.items()) <= reached
        assert acknowledged.receipts <= {base64.b64encode(receipt).decode() for receipt in stored if receipt}
        return {finding.code for finding in checked.findings}
    finally:
        registry.close()


def visible(client: httpx.Client, acknowledged: Acknowledged, statement: str) -> None:
    """See what a reader sees of the last statement: all of it or nothing, and not less than was acknowledged."""
    answer = client.get(f"/v1/statements/{statement}")
    if answer.status_code == 404:
        assert statement not in acknowledged.levels
        return
    assert answer.status_code == 200, answer.text
    summary = answer.json()["summary"]
    assert summary["classes"]
    assert summary["level"] == acknowledged.levels.get(statement, summary["level"]) or summary["level"] == "recomputed"
    assert client.get(f"/v1/statements/{statement}/envelope").status_code == 200
    assert client.get(f"/v1/statements/{statement}/receipt").status_code == 200
    (line,) = [one for one in client.get("/v1/capacity").json()["items"] if one["statement"] == statement]
    assert line["level"] == summary["level"]


def deaths(count: int, seed: int) -> Iterator[tuple[str, int, bool] | float]:
    """Yield how lives end: half of them at a moment, the others at a step."""
    chance = random.Random(seed)
    for number in range(count):
        if number % 2:
            yield chance.uniform(0, LIFE_S)
        else:
            kind = chance.choice(sorted(STEPS))
            yield kind, chance.randint(1, STEPS[kind]), chance.random() < 0.5


@pytest.mark.timeout(1200)  # of a machine that others keep busy
@pytest.mark.parametrize(
    ("database", "many"),
    [
        pytest.param("sqlite", False, id="sqlite-twice"),
        pytest.param("sqlite", True, id="sqlite-many times", marks=pytest.mark.long),
        pytest.param("postgresql", True, id="postgresql-many times", marks=pytest.mark.long),
    ],
    indirect=["database"],
)
def test_killed_at_any_moment(place: Laid, centres: Centres, tmp_path: Path, database: str, many: bool) -> None:
    secret, kills = new_token(place.root)[1], MANY_KILLS[database.partition("+")[0]] if many else 2
    acknowledged = Acknowledged()
    with Lives(place.root, tmp_path / "lives.log") as lives:
        for number, death in enumerate(deaths(kills, seed=6)):
            first, second = centres[acknowledged.done], centres[acknowledged.done + 1]
            steps = death if isinstance(death, tuple) else None
            with (
                lives.life(steps) as (pid, url),
                client_of(url, secret) as client,
                contextlib.suppress(httpx.TransportError),  # it died
            ):
                visible(client, acknowledged, first[0])
                if isinstance(death, float):
                    threading.Timer(death, kill, (pid,)).start()
                acknowledged.submit(client, first)
                acknowledged.submit(client, second)
            if number == kills // 2:
                whole(place, acknowledged)
        with lives.life() as (_, url), client_of(url, secret) as client:  # and it goes on
            visible(client, acknowledged, centres[acknowledged.done][0])
            acknowledged.submit(client, centres[acknowledged.done])
    whole(place, acknowledged)
    assert acknowledged.done > 1


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@SQLITE
def test_a_crash_between_object_and_row_leaves_an_object_too_many(
    place: Laid, centres: Centres, tmp_path: Path
) -> None:
    secret = new_token(place.root)[1]
    acknowledged = Acknowledged()
    with Lives(place.root, tmp_path / "lives.log") as lives:
        with (
            lives.life(("replace", 1, True)) as (_, url),
            client_of(url, secret) as client,
            pytest.raises(httpx.TransportError),
        ):
            acknowledged.submit(client, centres[0])
        assert whole(place, acknowledged) == {"object-unreferenced"}
        with lives.life() as (_, url), client_of(url, secret) as client:
            assert client.get(f"/v1/statements/{centres[0][0]}").status_code == 404
            acknowledged.submit(client, centres[0])
    assert whole(place, acknowledged) == set()


@pytest.mark.long
@POSTGRESQL_LONG
def test_a_hundred_submissions_at_once_are_one(place: Laid, centre: Measured) -> None:
    secret = new_token(place.root)[1]
    content = (centre.folder / "out" / "statement.dsse.json").read_bytes()
    barrier = threading.Barrier(100)

    with served(place.root) as service, ThreadPoolExecutor(100) as pool:

        def submit(_: int) -> httpx.Response:
            with service.client(secret) as client:  # each its own: none meets a connection that another left to end
                barrier.wait(60)
                return client.post("/v1/statements", content=content, headers=JSON)

        answers = list(pool.map(submit, range(100)))
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [200] * 99 + [201]
    assert len({answer.json()["receipt"] for answer in answers}) == 1
    assert sum(answer.json()["repeated"] for answer in answers) == 99
    registry = open_registry(place.root)
    with registry.store.reading() as connection:
        for table in (tables.statements, tables.decisions, tables.changes, tables.chains):
            assert len(connection.execute(select(table)).all()) == 1, table.name
    assert check(registry).ok
    registry.close()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    with small_disk(tmp_path / "small", "8m") as folder:
        yield folder


def fill(disk: Path, left_bytes: int) -> Path:
    """Fill a disk but for so many bytes."""
    file = disk / "filler"
    with file.open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(bytes(4096))
    os.truncate(file, max(0, file.stat().st_size - left_bytes))
    return file


@POSTGRESQL_LONG
def test_a_full_disk(place: Laid, centres: Centres, disk: Path) -> None:
    """It says so, loses nothing, and works again once there is room."""
    secret = new_token(place.root)[1]
    moved = Laid(disk / "registry", place.keys)
    shutil.copytree(place.root, moved.root)
    acknowledged, full = Acknowledged(), 0
    with served(moved.root) as service, service.client(secret) as client:
        acknowledged.submit(client, centres[0])
        for left_kib in SMALL_KIB:
            filler = fill(disk, left_kib * 1024)
            sha256, folder = centres[acknowledged.done]
            content = (folder / "statement.dsse.json").read_bytes()
            answer = client.post("/v1/statements", content=content, headers=JSON)
            assert answer.status_code in (200, 201, 507), answer.text
            if answer.status_code == 507:
                full += 1
                assert answer.headers["content-type"] == "application/problem+json"
                assert answer.json()["code"] == "disk-full"
            else:
                acknowledged.levels.setdefault(sha256, "trusted")
            visible(client, acknowledged, sha256)
            assert client.get("/v1/capacity").status_code == 200
            filler.unlink()
        assert full
        acknowledged.submit(client, centres[acknowledged.done])
        visible(client, acknowledged, centres[acknowledged.done - 1][0])
    whole(moved, acknowledged)


@pytest.mark.long
@POSTGRESQL
def test_the_database_goes_and_comes_back(place: Laid, centres: Centres, postgres: Postgres) -> None:
    secret = new_token(place.root)[1]
    acknowledged = Acknowledged()
    with served(place.root) as service, service.client(secret) as client:
        acknowledged.submit(client, centres[0])
        for _ in range(2):
            postgres.stop()
            try:
                gone(service, client, centres[acknowledged.done])
            finally:
                postgres.start()
            visible(client, acknowledged, centres[0][0])
            acknowledged.submit(client, centres[acknowledged.done])
            assert client.get("/readyz").status_code == 200
    whole(place, acknowledged)


def gone(service: Served, client: httpx.Client, statement: tuple[str, Path]) -> None:
    """See what a service answers without its database."""
    content = (statement[1] / "statement.dsse.json").read_bytes()
    for answer in (
        client.get("/v1/capacity"),
        client.get("/v1/statements"),
        client.post("/v1/statements", content=content, headers=JSON),
    ):
        assert answer.status_code == 503, answer.text
        assert answer.json()["code"] == "unavailable"
        assert answer.headers["retry-after"]
    assert client.get("/readyz").status_code == 503
    assert client.get("/healthz").status_code == 200
    assert service.process.poll() is None
