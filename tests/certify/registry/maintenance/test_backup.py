"""Backup and restore between both databases, and every way in which a backup is refused."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import select

from bench.errors import InputError, PetasealError, RefusedError
from certify.registry.base.registry import Registry, open_registry
from certify.registry.maintenance.backup import DATABASE, MANIFEST, BackupInfo, backup, read_backup, restore
from certify.registry.storage import tables
from certify.registry.storage.columns import metadata
from tests.certify.registry.laid import Laid
from tests.certify.registry.postgres import Postgres

AT = "2026-03-01T08:00:00.000000Z"
SECRET = "ab" * 32


@pytest.fixture
def filled(registry: Registry) -> Registry:
    """A registry with a row of several kinds, an object, remembered trust and a token."""
    registry.trust()
    put = registry.store.objects.put
    rows = [refusal(put(f"{number}".encode()), receipt=b"\x00\xff" * number) for number in range(3)]
    with registry.store.writing() as connection:
        connection.execute(tables.decisions.insert(), [*rows, refusal(rows[0]["object_sha256"], receipt=None)])
        token = {"name": "平台", "secret_sha256": SECRET, "scope": "platform", "created_at": AT, "expires_at": AT}
        connection.execute(tables.tokens.insert(), token)
        change = {"at": AT, "kind": "act", "centre_id": "gz-test", "project_id": ""}
        connection.execute(tables.changes.insert(), [change, change])
    put(b"that nothing names")
    return registry


def refusal(object_sha256: str, **values: Any) -> dict[str, Any]:
    row = {"at": AT, "kind": "statement", "decision": "refused", "code": "json-invalid", "detail": "不是 JSON"}
    return {**row, "object_sha256": object_sha256, **values}


def content(registry: Registry) -> dict[str, list[Any]]:
    """Return all rows of all tables."""
    with registry.store.reading() as connection:
        tables_ = metadata.sorted_tables
        return {
            table.name: [tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key))]
            for table in tables_
        }


def made(registry: Registry, out: Path) -> BackupInfo:
    return backup(registry, out / "backup")


def opened(root: Path, place: Laid) -> Registry:
    """Open a restored registry: its owner lays its key into the folder."""
    key = root / "registry.pem"
    key.write_bytes(place.file("registry").read_bytes())
    key.chmod(0o600)
    return open_registry(root)


@pytest.mark.parametrize("target", ["sqlite", "postgresql"])
def test_there_and_back(
    filled: Registry, place: Laid, target: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    told: list[tuple[str, int]] = []
    kept = backup(filled, tmp_path / "backup", lambda what, done: told.append((what, done)))
    assert (kept.manifest.change, kept.manifest.rows["decisions"], kept.manifest.objects.count) == (2, 4, 3)
    assert ("objects", 3) in told
    database = target
    if target == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        database = server.url(server.new_database())
    root = tmp_path / "restored"
    assert restore(kept.folder, root, database).sha256 == kept.sha256
    again = opened(root, place)
    assert content(again) == content(filled)
    assert {p.name for p in again.store.objects.folder.glob("??/*")} == {
        row.object_sha256 for row in rows_of(filled, tables.decisions)
    }
    assert again.settings.name == filled.settings.name
    assert again.place.url == f"sqlite:///{root / DATABASE}" if target == "sqlite" else database
    assert (root / DATABASE).exists() == (target == "sqlite")
    assert again.trust().root == filled.trust().root
    with again.store.writing() as connection:  # numbers go on
        connection.execute(tables.decisions.insert(), refusal("cd" * 32))
    assert [row.id for row in rows_of(again, tables.decisions)] == [1, 2, 3, 4, 5]
    again.close()
    with pytest.raises(InputError) as refused:
        restore(kept.folder, root if target == "sqlite" else tmp_path / "new", database)
    assert refused.value.code == "restore-not-empty"
    assert not (tmp_path / "new").exists()


def rows_of(registry: Registry, table: Any) -> list[Any]:
    with registry.store.reading() as connection:
        return list(connection.execute(select(table).order_by(table.c.id)))


def test_no_secret_is_copied(filled: Registry, place: Laid, tmp_path: Path) -> None:
    kept = made(filled, tmp_path)
    everything = b"".join(path.read_bytes() for path in kept.folder.rglob("*") if path.is_file())
    assert b"PRIVATE" not in everything
    assert (b"postgres@" in everything, b"/petaseal-pg" in everything) == (False, False)
    assert place.file("registry").read_bytes() not in everything
    settings = yaml.safe_load((kept.folder / "registry.yaml").read_text())
    assert settings["database"] == "sqlite"
    assert kept.folder.stat().st_mode & 0o077 == 0


def test_a_backup_is_one_snapshot_while_the_service_writes(filled: Registry, tmp_path: Path) -> None:
    """Each act writes two rows; no backup ever has one without the other, or a row without its object."""
    begun, enough = threading.Event(), threading.Event()

    def write() -> None:
        number = 0
        while not enough.is_set():
            number += 1
            put = filled.store.objects.put(f"object {number}".encode())
            with filled.store.writing() as connection:
                connection.execute(tables.decisions.insert(), refusal(put, detail="pair"))
                audit = {"at": AT, "action": "pair", "target": put, "outcome": "done", "request_id": "1"}
                connection.execute(tables.audit.insert(), audit)
            begun.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert begun.wait(30)
        for number in range(2):
            kept = backup(filled, tmp_path / f"backup-{number}")
            rows = kept.manifest.rows
            assert rows["decisions"] - 4 == rows["audit"] > 0
            restore(kept.folder, tmp_path / f"restored-{number}")
    finally:
        enough.set()
        writer.join()


Spoil = Callable[[Path], object]


def changed(path: Path) -> Spoil:
    def spoil(folder: Path) -> None:
        file = next(folder.glob(str(path)))
        file.chmod(0o600)
        file.write_bytes(file.read_bytes()[:-1] + b"?")

    return spoil


def edited(**values: Any) -> Spoil:
    def spoil(folder: Path) -> None:
        manifest = json.loads((folder / MANIFEST).read_text())
        for key, value in values.items():
            manifest[key] = value(manifest[key]) if callable(value) else value
        (folder / MANIFEST).write_text(json.dumps(manifest))

    return spoil


SPOILED: dict[str, tuple[Spoil, str]] = {
    "a byte of the database": (changed(Path(DATABASE)), "backup-damaged"),
    "a byte of an object": (changed(Path("objects/??/*")), "object-differs"),
    "a byte of the trust root": (changed(Path("trust-root.json")), "backup-damaged"),
    "a byte of what was accepted": (changed(Path("state/trust/roots/*")), "backup-damaged"),
    "an object that is gone": (lambda folder: next(folder.glob("objects/??/*")).unlink(), "object-missing"),
    "a file that is gone": (lambda folder: (folder / "trust-root.json").unlink(), "backup-damaged"),
    "no list": (lambda folder: (folder / MANIFEST).unlink(), "file-missing"),
    "a list that is none": (lambda folder: (folder / MANIFEST).write_text("{}"), "backup-damaged"),
    "another number of rows": (edited(rows=lambda rows: {**rows, "decisions": 5}), "backup-damaged"),
    "a table that no registry has": (edited(rows=lambda rows: {**rows, "nothing": 5}), "backup-damaged"),
    "other objects": (edited(objects=lambda objects: {**objects, "root": SECRET}), "backup-damaged"),
    "a later version": (edited(version=2), "backup-version"),
    "a file elsewhere": (
        edited(files=[{"path": "state/../../outside", "sha256": SECRET}]),
        "backup-damaged",
    ),
}


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("spoiled", SPOILED)
def test_a_damaged_backup_leaves_nothing_behind(filled: Registry, tmp_path: Path, spoiled: str) -> None:
    spoil, code = SPOILED[spoiled]
    kept = made(filled, tmp_path)
    assert read_backup(kept.folder) == kept
    spoil(kept.folder)
    before = set(tmp_path.iterdir())
    with pytest.raises(PetasealError) as refused:
        restore(kept.folder, tmp_path / "restored")
    assert refused.value.code == code
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_where_a_backup_goes(filled: Registry, tmp_path: Path) -> None:
    kept = made(filled, tmp_path)
    with pytest.raises(InputError) as there:
        made(filled, tmp_path)
    assert there.value.code == "output-exists"
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError) as unwritable:
        backup(filled, tmp_path / "file" / "backup")
    assert unwritable.value.code == "output-not-writable"
    (tmp_path / "empty").mkdir()
    assert restore(kept.folder, tmp_path / "empty").manifest == kept.manifest
    with pytest.raises(InputError) as full:
        restore(kept.folder, tmp_path / "empty")
    assert full.value.code == "restore-not-empty"


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_damaged_registry_is_not_backed_up_as_if_it_were_whole(filled: Registry, tmp_path: Path) -> None:
    first = rows_of(filled, tables.decisions)[0].object_sha256
    path = filled.store.objects.path(first)
    path.chmod(0o600)
    path.write_bytes(b"something else")
    with pytest.raises(RefusedError) as differs:
        made(filled, tmp_path)
    assert differs.value.code == "object-differs"
    path.unlink()
    with pytest.raises(RefusedError) as missing:
        made(filled, tmp_path)
    assert missing.value.code == "object-missing"
    assert not any("backup" in path.name for path in tmp_path.iterdir())


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_what_lies_outside_the_folder_is_named(filled: Registry, place: Laid, tmp_path: Path) -> None:
    outside = tmp_path / "elsewhere.json"
    place.trust.rename(outside)
    settings = yaml.safe_load((place.root / "registry.yaml").read_text())
    (place.root / "registry.yaml").write_text(yaml.safe_dump({**settings, "trust": str(outside)}))
    registry = open_registry(place.root)
    kept = made(registry, tmp_path)
    registry.close()
    assert kept.manifest.left_out == (str(outside),)
    assert {file.path for file in kept.manifest.files} >= {"registry.yaml", "state/trust/roots/cn-test.dsse.json"}
