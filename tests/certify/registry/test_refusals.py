"""What a registry refuses by itself: a database of tomorrow, records that its verifier did not recompute, damage."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from sqlalchemy import text

from bench.errors import InputError, RefusedError
from certify.registry.maintenance.replay import Recheck
from certify.registry.state import queries
from certify.registry.storage.migrations import migrate
from tests.bad_input.command import petaseal
from tests.certify.measured import Measured
from tests.certify.registry.intake.test_ingest import submit, submit_records
from tests.certify.registry.laid import Laid

if TYPE_CHECKING:
    from certify.registry.base.registry import Registry

SQLITE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


@SQLITE
def test_a_database_of_a_later_version_is_left_alone(registry: Registry) -> None:
    with registry.store.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'r9999'"))
    with pytest.raises(InputError) as refused:
        migrate(registry.store)
    assert refused.value.code == "database-newer"


@SQLITE
def test_a_device_that_no_record_shows(registry: Registry) -> None:
    with registry.store.reading() as connection, pytest.raises(RefusedError) as refused:
        queries.device_history(connection, cast(Any, None), "uuid:abcdef12")
    assert refused.value.code == "device-unknown"


@SQLITE
def test_records_that_were_not_recomputed_are_refused(
    registry: Registry, centre: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records make a statement certified only where the registry recomputed it, whatever else its verifier says."""
    sha256 = submit(registry, centre).payload_sha256
    assert sha256 is not None
    verify = registry.verifier.verify

    def less(job: Any) -> Any:
        return dataclasses.replace(verify(job), level="trusted")

    monkeypatch.setattr(type(registry.verifier), "verify", lambda _, job: less(job))
    decided = submit_records(registry, sha256, centre.folder / "out" / "records.jsonl")
    assert (decided.decision, decided.code) == ("refused", "level-not-reached")


@SQLITE
def test_damage_is_exit_status_1(registry: Registry, place: Laid, centre: Measured) -> None:
    submit(registry, centre)
    registry.close()
    for path in (place.root / "objects").rglob("*"):
        if path.is_file():
            path.chmod(0o600)
            path.write_bytes(b"something else")
    answer = petaseal("registry", "check", place.root)
    assert (answer.status, answer.code) == (1, "registry-damaged")


def test_a_key_that_the_root_no_longer_lists_leaves_a_note() -> None:
    gone = RefusedError("key-not-trusted", "the trust root does not list it")
    assert Recheck._refused(cast(Any, SimpleNamespace()), gone, "ab" * 32)[0] == "stored-key-left"
