"""Bodies of refused submissions: dropped by age and room, never what something accepted rests on, known to `check`."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import structs
from sqlalchemy import func, select

from bench.errors import InputError
from bench.units import DAY_NS
from certify.registry.intake import ingest
from certify.registry.maintenance import retention, watch
from certify.registry.maintenance.backup import backup
from certify.registry.maintenance.integrity import check
from certify.registry.maintenance.retention import FILE_BYTES, drop_refused
from certify.registry.storage import tables
from certify.registry.storage.upkeep import dropped
from tests.bad_input.command import petaseal
from tests.certify.measured import Measured
from tests.certify.registry.intake.test_ingest import OPERATOR, PLATFORM, statement_of
from tests.certify.registry.laid import Laid

if TYPE_CHECKING:
    from pathlib import Path

    from certify.registry.base.registry import Registry

SQLITE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


def keeping(registry: Registry, *, days: float = 0, **settings: Any) -> Registry:
    """Return the registry so many days later, under other settings."""
    changed = replace(registry.place, settings=structs.replace(registry.settings, **settings))
    return replace(registry, place=changed, clock_ns=lambda: registry.clock_ns() + int(days * DAY_NS))


def flood(registry: Registry, bodies: int) -> list[str]:
    """Submit what is refused, so often; return the digests of the bodies."""
    for number in range(bodies):
        assert ingest.submit_statement(registry, b'{"flood": %d}' % number, PLATFORM).decision == "refused"
    with registry.store.reading() as connection:
        found = connection.execute(select(tables.decisions.c.object_sha256).order_by(tables.decisions.c.id))
        return [row.object_sha256 for row in found][-bodies:]


def rows(registry: Registry, table: Any) -> int:
    with registry.store.reading() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def lies(registry: Registry, sha256: str) -> bool:
    return registry.store.objects.path(sha256).is_file()


def test_a_flood_of_refused_bodies_does_not_fill_the_disk(registry: Registry, tmp_path: Path) -> None:
    """Attack: a token's holder submits what is refused, in a loop. The oldest bodies go, the decisions stay."""
    bodies = flood(registry, 5)
    limited = keeping(registry, refused_bytes=2 * FILE_BYTES)
    assert drop_refused(limited).bodies == 3
    assert [lies(registry, body) for body in bodies] == [False, False, False, True, True]
    assert rows(registry, tables.decisions) == 5
    assert drop_refused(limited).bodies == 0
    with registry.store.reading() as connection:
        assert {row.cause for row in connection.execute(select(dropped))} == {"room"}
        last = connection.execute(select(tables.audit).order_by(tables.audit.c.id.desc()).limit(1)).one()
    assert (last.action, last.outcome) == ("drop-refused", "done")
    checked = check(registry)
    assert checked.findings == (), checked.lines()
    backup(registry, tmp_path / "backup")


def test_bodies_are_dropped_by_their_age(registry: Registry, centre: Measured) -> None:
    (body,) = flood(registry, 1)
    assert ingest.submit_statement(registry, statement_of(centre), OPERATOR).decision == "accepted"
    assert drop_refused(keeping(registry, days=89)).bodies == 0
    assert drop_refused(keeping(registry, days=91)).bodies == 1
    assert not lies(registry, body)
    assert check(registry).findings == ()


def test_what_comes_again_is_stored_again(registry: Registry) -> None:
    """Attack: what was dropped is submitted again, so that it lies there and no row names it."""
    (body,) = flood(registry, 1)
    drop_refused(keeping(registry, refused_bytes=0))
    assert flood(registry, 1) == [body]
    assert lies(registry, body)
    assert rows(registry, tables.decisions) == 2
    assert check(registry).findings == ()
    assert drop_refused(keeping(registry, refused_bytes=0)).bodies == 1


def test_what_was_refused_and_then_accepted_stays(registry: Registry, centre: Measured) -> None:
    early = keeping(registry, accept_simulated=False)
    assert ingest.submit_statement(early, statement_of(centre), OPERATOR).code == "simulated"
    assert ingest.submit_statement(registry, statement_of(centre), OPERATOR).decision == "accepted"
    assert drop_refused(keeping(registry, refused_bytes=0, days=100)).bodies == 0
    assert check(registry).ok


@SQLITE
def test_a_body_that_goes_while_it_is_decided_is_asked_for_again(
    registry: Registry, centre: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    early = keeping(registry, accept_simulated=False)
    assert ingest.submit_statement(early, statement_of(centre), OPERATOR).code == "simulated"
    verify = type(registry.verifier).verify

    def slowly(pool: Any, job: Any) -> Any:
        outcome = verify(pool, job)
        assert drop_refused(keeping(registry, refused_bytes=0)).bodies == 1
        return outcome

    monkeypatch.setattr(type(registry.verifier), "verify", slowly)
    with pytest.raises(InputError) as again:
        ingest.submit_statement(registry, statement_of(centre), OPERATOR)
    assert again.value.code == "object-missing"
    assert rows(registry, tables.statements) == 0
    monkeypatch.undo()
    assert ingest.submit_statement(registry, statement_of(centre), OPERATOR).decision == "accepted"
    assert check(registry).ok


@SQLITE
def test_a_process_that_died_between_row_and_file_is_finished(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    (body,) = flood(registry, 1)
    monkeypatch.setattr(retention, "_unlink", lambda store, wanted: None)
    drop_refused(keeping(registry, refused_bytes=0))
    monkeypatch.undo()
    assert lies(registry, body)
    drop_refused(registry)
    assert not lies(registry, body)


BY_HAND: dict[str, tuple[dict[str, Any] | None, str]] = {  # a made-up row of `dropped` -> the code of what is found
    "a body is deleted": (None, "object-missing"),
    "and a row says that it was dropped with a decision that never was": ({"decision_id": 99}, "stored-rows-differ"),
    "and a row names another body": ({"decision_id": 1, "object_sha256": "ab" * 32}, "stored-rows-differ"),
}


@SQLITE
def test_deleted_by_hand_is_not_dropped(registry: Registry) -> None:
    (body,) = flood(registry, 1)
    registry.store.objects.path(body).unlink()
    assert drop_refused(keeping(registry, refused_bytes=0)).bodies == 0
    for name, (made_up, code) in BY_HAND.items():
        if made_up is not None:
            row = {"at": registry.now, "object_sha256": body, "size_bytes": 1, "cause": "age", **made_up}
            with registry.store.writing() as connection:
                connection.execute(dropped.insert(), row)
        assert code in {one.code for one in check(registry).problems}, name


@SQLITE
def test_what_was_accepted_is_missed_whatever_a_row_says(registry: Registry, centre: Measured) -> None:
    """Attack: a statement's file is deleted, and a row says that its body was dropped."""
    assert ingest.submit_statement(registry, statement_of(centre), OPERATOR).decision == "accepted"
    with registry.store.reading() as connection:
        (sha256,) = connection.execute(select(tables.statements.c.envelope_sha256)).scalars()
    registry.store.objects.path(sha256).unlink()
    row = {"at": registry.now, "object_sha256": sha256, "decision_id": 1, "size_bytes": 1, "cause": "age"}
    with registry.store.writing() as connection:
        connection.execute(dropped.insert(), row)
    assert {one.code for one in check(registry).problems} >= {"object-missing", "stored-rows-differ"}


@SQLITE
def test_the_service_drops_by_itself(registry: Registry) -> None:
    (body,) = flood(registry, 1)
    ended = threading.Event()
    ended.set()
    watch.watch_refused(keeping(registry, refused_bytes=0), ended)
    assert not lies(registry, body)


@SQLITE
def test_the_command(registry: Registry, place: Laid) -> None:
    flood(registry, 2)
    with (place.root / "registry.yaml").open("a") as settings:
        settings.write("refused_bytes: 0\n")
    answer = petaseal("registry", "prune", place.root)
    assert answer.status == 0, answer
    assert "2 bodies of refused submissions were dropped" in answer.out
