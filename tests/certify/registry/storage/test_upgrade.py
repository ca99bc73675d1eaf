"""A registry of the tables' first revision, filled by the release that had it last, becomes one of today's.

``first/registry.tar.xz`` was made by that release itself (``first/make.py``): four centres, statements that are
superseded, revoked, declared only and contested, refusals, alarms, acts, campaigns, tokens, nodes that are on-line.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import yaml
from sqlalchemy import inspect, text

from bench.errors import InputError
from bench.units import utc_ns
from certify.registry.base.registry import load_place, open_registry
from certify.registry.maintenance.backup import restore
from certify.registry.maintenance.integrity import check
from certify.registry.maintenance.refill import refill
from certify.registry.service.app import create_app
from certify.registry.service.init import open_store
from certify.registry.storage.migrations import current, head, migrate
from certify.registry.storage.store import Store
from tests.bad_input.command import petaseal
from tests.certify.registry.lives import Death
from tests.certify.registry.postgres import SERVER_IS_LONG, USER, Postgres, binaries

ARCHIVE = Path(__file__).parent / "first" / "registry.tar.xz"
SPARE = {"alembic_version", "refills"}  # what an upgrade is there to change
STORED = ("/envelope", "/receipt", "/records")  # byte for byte
# In the tables' upgrade; before and after its commit; before and after a first statement's, and at a further one's.
DEATHS = (
    ("sql", 9, False),
    ("commit", 1, False),
    ("commit", 1, True),
    ("commit", 2, False),
    ("commit", 2, True),
    ("commit", 3, False),
)


@dataclass(frozen=True)
class First:
    """A registry of the first revision, laid out in a folder of its own; `said` is what its release answered."""

    root: Path
    backup: Path
    said: dict[str, Any]

    @property
    def url(self) -> str:
        """The database as SQLAlchemy names it."""
        return load_place(self.root).url

    def rows(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return the rows of every table by its name, in the columns that the first revision had."""
        store = Store(self.url, self.root / "objects")
        with store.engine.connect() as connection:
            names = set(inspect(connection).get_table_names()) - SPARE
            found = {
                name: sorted((tuple(row) for row in connection.execute(text(f"SELECT * FROM {name}"))), key=repr)
                for name in names
            }
        store.close()
        return found

    def objects(self) -> dict[str, bytes]:
        """Return every stored object by its name."""
        return {path.name: path.read_bytes() for path in (self.root / "objects").glob("??/*")}


@pytest.fixture
def bare(request: pytest.FixtureRequest, database: str) -> Iterator[str]:
    """A database without tables, as the registry's settings name it: that of `database` has today's."""
    if database == "sqlite":
        yield database
        return
    server: Postgres = request.getfixturevalue("postgres")
    name = server.new_database()
    yield server.url(name)
    server.drop(name)


@pytest.fixture
def first(database: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[First]:
    """The registry of the release before, on either database."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    root = tmp_path / "backup"
    backup = tmp_path / "kept"
    _copy(root, backup)
    (tmp_path / "registry.pem").rename(root / "registry.pem")
    (root / "registry.pem").chmod(0o600)
    said = json.loads((tmp_path / "answers.json").read_text())
    if database == "sqlite":
        yield First(root, backup, said)
        return
    server: Postgres = request.getfixturevalue("postgres")
    name = server.new_database()
    settings = yaml.safe_load((root / "registry.yaml").read_text())
    (root / "registry.yaml").write_text(yaml.safe_dump(settings | {"database": server.url(name)}))
    (root / "registry.db").unlink()
    _load(server, name, tmp_path / "postgresql.sql")
    yield First(root, backup, said)
    server.drop(name)


def _copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-r", str(source), str(target)], check=True)


def _load(server: Postgres, name: str, dump: Path) -> None:
    programs = binaries()
    assert programs is not None
    command = [str(programs / "psql"), "-h", "127.0.0.1", "-p", str(server.port), "-U", USER, "-d", name]
    subprocess.run([*command, "-q", "-v", "ON_ERROR_STOP=1", "-f", str(dump)], check=True, capture_output=True)


def test_every_row_and_object_is_kept(first: First) -> None:
    rows, objects = first.rows(), first.objects()
    answer = petaseal("registry", "migrate", first.root, "--json")
    assert answer.status == 0, answer
    assert json.loads(answer.out) == {"revision": head(), "filled": 5, "not_filled": []}
    now = first.rows()
    assert {name: now[name] for name in rows} == rows  # receipts are among them, byte for byte
    assert first.objects() == objects
    again = json.loads(petaseal("registry", "migrate", first.root, "--json").out)
    assert again["filled"] == 0


def test_it_is_whole_and_answers_as_before(first: First) -> None:
    """What intake would store of the same documents today is what the upgrade filled: `check` makes all rows anew."""
    store = open_store(first.root)
    assert refill(store).left == ()
    store.close()
    registry = open_registry(first.root, lambda: utc_ns(first.said["at"]))
    checked = check(registry)
    assert checked.ok, checked.lines()
    assert checked.counts["statements"] == 5
    app, asked = create_app(registry), first.said["answers"]
    differing = [found for one in asked for found in _differences(one, _ask(app, first.said["secrets"], one))]
    registry.close()
    assert differing == []


def _ask(app: Any, secrets: dict[str, str], asked: dict[str, Any]) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        secret = secrets.get(asked["who"])
        headers = {} if secret is None else {"Authorization": f"Bearer {secret}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://registry") as client:
            return await client.get(asked["path"], headers=headers)

    return anyio.run(ask)


def _differences(asked: dict[str, Any], answer: httpx.Response) -> list[str]:
    """Return what an answer lacks of what the release before answered; what is new in it is no difference."""
    where, before = f"{asked['path']} to {asked['who']}", base64.b64decode(asked["body"])
    if answer.status_code != asked["status"]:
        return [f"{where}: {answer.status_code} {answer.text[:200]}"]
    if asked["status"] != 200:
        same = json.loads(before)["code"] == answer.json()["code"]
        return [] if same else [f"{where}: another code"]
    if asked["path"].endswith("format=csv"):
        old, new = (
            list(csv.DictReader(io.StringIO(content.decode("utf-8-sig")))) for content in (before, answer.content)
        )
        return _lacks(old, new, where)
    if not asked["path"].endswith(STORED):
        return _lacks(json.loads(before), answer.json(), where)
    return [] if before == answer.content else [f"{where}: other bytes"]


def _table(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"))))


def _lacks(old: Any, new: Any, where: str) -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            found
            for key, value in old.items()
            if key not in ("next", "version")  # cursors are opaque
            for found in ([f"{where}.{key}: gone"] if key not in new else _lacks(value, new[key], f"{where}.{key}"))
        ]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = zip(old, new, strict=True)
        return [found for number, (one, two) in enumerate(pairs) for found in _lacks(one, two, f"{where}[{number}]")]
    # an answer's own time: a feed's is of the second since it can be cached
    if where.endswith(" None.at") and isinstance(new, str):
        old, new = old[:19], new[:19]
    return [] if old == new else [f"{where}: {old!r:.80} became {new!r:.80}"]


@SERVER_IS_LONG
def test_a_killed_upgrade_goes_on(first: First) -> None:
    """Killed in the tables' upgrade and between statements, again and again: nothing is lost, nothing filled twice."""
    rows, server = first.rows(), get_context("forkserver")
    server.set_forkserver_preload([__name__])  # else each life spends its time on imports
    for death in DEATHS:
        life = server.Process(target=_upgrade, args=(first.url, first.root / "objects", death))
        life.start()
        life.join(60)
        assert life.exitcode == -9, death
    store = open_store(first.root)
    with store.reading() as connection:
        assert current(connection) == head()
        assert connection.execute(text("SELECT count(*) FROM refills")).scalar_one() == 3  # two by those that died
    refill(store)
    store.close()
    now = first.rows()
    assert {name: now[name] for name in rows} == rows
    registry = open_registry(first.root, lambda: utc_ns(first.said["at"]))
    checked = check(registry)
    registry.close()
    assert checked.ok, checked.lines()


def _upgrade(url: str, objects: Path, death: tuple[str, int, bool]) -> None:
    store = Store(url, objects)
    store.engine.connect().close()  # what a first connection asks is no step of the upgrade
    Death(*death).lie_in_wait(store)
    migrate(store)
    refill(store)


@SERVER_IS_LONG
def test_its_backup_is_restored(first: First, bare: str, tmp_path: Path) -> None:
    restore(first.backup, tmp_path / "restored", bare)
    (tmp_path / "restored" / "registry.pem").write_bytes((first.root / "registry.pem").read_bytes())
    (tmp_path / "restored" / "registry.pem").chmod(0o600)
    registry = open_registry(tmp_path / "restored", lambda: utc_ns(first.said["at"]))
    assert refill(registry.store).filled == 5
    checked = check(registry)
    registry.close()
    assert checked.ok, checked.lines()


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_damaged_object_keeps_nothing_else_from_being_filled(first: First) -> None:
    envelope = max((first.root / "objects").glob("??/*"), key=lambda path: path.read_bytes().count(b"payload"))
    for path in (first.root / "objects").glob("??/*"):
        path.chmod(0o600)
    store = open_store(first.root)
    with store.reading() as connection:
        sha256 = connection.execute(text("SELECT envelope_sha256 FROM statements LIMIT 1")).scalar_one()
    store.objects.path(sha256).write_bytes(envelope.read_bytes() + b" ")
    done = refill(store)
    assert (done.filled, len(done.left)) == (4, 1)
    assert done.left[0].endswith("[object-differs]"), done.left
    assert refill(store).filled == 0
    store.close()


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_the_release_before_refuses_what_was_upgraded(first: First) -> None:
    store = open_store(first.root)
    with store.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0003'"))  # as 0002 was to that release
    with pytest.raises(InputError) as refused:
        migrate(store)
    assert refused.value.code == "database-newer"
    store.close()
