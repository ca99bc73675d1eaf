"""What a statement and those that are stored say against each other, and what it raises."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from bench.record import digest
from bench.record.identities import DeviceKeys
from certify.documents.kinds import make_document
from certify.registry.base.verifying import VerificationOutcome
from certify.registry.intake import alarms as conflicts
from certify.registry.intake.alarms import RaisedAlarm
from certify.registry.intake.decisions import Submission
from certify.registry.intake.rows import store_records, store_statement
from certify.statement.claim import Claim
from tests.certify.registry.intake.test_ingest import PLATFORM
from tests.certify.signed import new_key, sealed
from tests.certify.statement.test_conflicts import CASES, LATER, NOON, Made

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from certify.registry.base.registry import Registry

pytestmark = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
RELATED = {"claims-related", "projects-merged", "project-split", "facility-shared"}
OTHERWISE = {  # the registry has the whole chain: a later number simply replaces an earlier one
    "a gap after, and the same devices": (),
}
KEY = new_key()


def put(registry: Registry, connection: Connection, claim: Claim) -> None:
    """Store a claim as a statement that was accepted, and its records where it has any."""
    payload = make_document("capacity-statement", claim.statement, claim.statement.records_root)
    sha256 = registry.store.objects.put(sealed(payload, KEY))
    submission = Submission("statement", NOON, sha256, PLATFORM, claim.payload_sha256, claim.chain[0])
    signed = VerificationOutcome(None, None, "recomputed", claim.payload_sha256, claim.statement, (KEY.public.keyid,))
    store_statement(connection, submission, claim, signed)
    if claim.device_index is not None:
        read = VerificationOutcome(**{**signed.__dict__, "device_index": claim.device_index})
        store_records(connection, submission, read, 1)


def raised(registry: Registry, mine: Claim, *others: Claim, at: str = NOON) -> list[RaisedAlarm]:
    """Return what a claim raises that comes after others; nothing of it stays."""
    with registry.store.writing() as connection:
        trial = connection.begin_nested()
        for other in others:
            put(registry, connection, other)
        if mine.device_index is not None and all(
            mine.issue.sequence != one.issue.sequence for one in _chain(mine, others)
        ):
            put(registry, connection, mine)
        found = conflicts.find_alarms(registry.store, connection, mine, at)
        trial.rollback()
    return found


def _chain(mine: Claim, others: tuple[Claim, ...]) -> list[Claim]:
    return [other for other in others if other.chain == mine.chain]


def test_the_registry_says_what_verify_says(registry: Registry) -> None:
    """All cases of `statement.conflicts`, through the tables; one test: a registry takes longer to open than all."""
    for name, case in CASES.items():
        mine, other = case.mine.claim("mine"), case.other.claim("other")
        if mine.payload_sha256 == other.payload_sha256:
            continue
        if max(mine.issue.issued_at, other.issue.issued_at) > case.at:
            continue  # what is not yet valid was not accepted
        expected = OTHERWISE.get(name, tuple(code for code in case.codes if code not in conflicts.HISTORY))
        found = [alarm.code for alarm in raised(registry, mine, other, at=case.at) if alarm.code not in RELATED]
        if mine.chain == other.chain and mine.issue.sequence == other.issue.sequence:
            assert expected[0] in found, name  # a number that is taken is refused before its records are looked at
        else:
            assert sorted(found) == sorted(expected), name


def test_a_clock_that_is_ahead_makes_no_room(registry: Registry) -> None:
    """What was accepted holds from then on, though it was issued by a clock that is ahead of this one."""
    other = Made(**{**LATER, "issued": "2026-06-01T12:01:30.000000Z"}).claim("other")
    mine = Made(centre="wh-centre", signers=("key2",), **{**LATER, "issued": "2026-05-20T00:00:00.000000Z"}).claim(
        "mine"
    )
    assert "device-claimed-twice" in [one.code for one in raised(registry, mine, other)]
    assert "device-claimed-twice" in [one.code for one in raised(registry, other, mine)]
    late = Made(centre="wh-centre", signers=("key2",), **{**LATER, "issued": "2026-06-01T12:01:00.000000Z"}).claim(
        "late"
    )
    ending = Made(until="2026-06-01T12:00:30.000000Z").claim("ending")
    assert "device-claimed-twice" in [one.code for one in raised(registry, late, ending)]


def test_a_device_that_left_a_chain_may_stand_elsewhere(registry: Registry) -> None:
    """What a centre's newer statement leaves out is not claimed by its older one any more."""
    old = Made(campaign="c1").claim("old")
    newer = Made(campaign="c2", number=2, before="old", **LATER, devices=()).claim("newer")
    june: dict[str, Any] = {"starts": "2026-06-01T00:00:00.000000Z", "issued": "2026-06-02T00:00:00.000000Z"}
    elsewhere = Made(centre="wh-centre", signers=("key2",), **june).claim("elsewhere")
    at = "2026-07-01T00:00:00.000000Z"
    assert "device-claimed-twice" in [one.code for one in raised(registry, elsewhere, old, at=at)]
    assert [one.code for one in raised(registry, elsewhere, old, newer, at=at) if one.refuses] == []


def project(name: str, cards: range, month: int, project_id: str, facility: str | None = None) -> Claim:
    """Return the claim of a project on some cards, which holds for one month of 2026 only."""
    devices = tuple(DeviceKeys(f"cuda:{card}", (f"card{card}",)) for card in cards)
    when: dict[str, Any] = {
        "starts": f"2026-{month:02}-02T00:00:00.000000Z",
        "issued": f"2026-{month:02}-03T00:00:00.000000Z",
        "until": f"2026-{month + 1:02}-01T00:00:00.000000Z",
    }
    claim = Made(project=project_id, devices=devices, signers=(f"key {name}",), **when).claim(name)
    if facility is None:
        return claim
    declared = claim.statement.centre.facility
    assert declared is not None
    centre = replace(claim.statement.centre, facility=replace(declared, id=facility))
    changed = replace(claim.statement, centre=centre, centre_sha256=digest(centre))
    return Claim(claim.where, changed, claim.payload_sha256, claim.device_index)


def related(registry: Registry, mine: Claim, *others: Claim) -> list[str]:
    at = "2026-12-01T00:00:00.000000Z"
    return sorted(alarm.code for alarm in raised(registry, mine, *others, at=at) if alarm.code in RELATED)


def test_projects_that_share_devices(registry: Registry) -> None:
    whole = project("whole", range(8), 1, "P", "F1")
    half, rest = project("half", range(4), 3, "P-a", "F2"), project("rest", range(4, 8), 5, "P-b", "F3")
    assert related(registry, half, whole) == ["claims-related"]
    assert related(registry, rest, whole, half) == ["project-split"]
    joined = project("joined", range(8), 7, "P-c", "F4")
    assert related(registry, joined, half, rest) == ["projects-merged", "projects-merged"]
    assert related(registry, project("other", range(20, 24), 7, "P-d", "F5"), whole, half, rest) == []


def test_projects_that_share_a_facility(registry: Registry) -> None:
    one, two = project("one", range(4), 1, "P", "F"), project("two", range(10, 14), 3, "P-a", "F")
    assert related(registry, two, one) == ["facility-shared"]
    assert related(registry, project("three", range(20, 24), 3, "P-b", "G"), one) == []


def test_an_alarm_is_raised_once(registry: Registry) -> None:
    one, two = project("one", range(4), 1, "P", "F"), project("two", range(10, 14), 3, "P-a", "F")
    with registry.store.writing() as connection:
        put(registry, connection, one)
        put(registry, connection, two)
        for _ in range(2):
            found = conflicts.find_alarms(registry.store, connection, two, NOON)
            conflicts.store_alarms(connection, two, found, NOON)
        stored = connection.exec_driver_sql("SELECT count(*) FROM alarms").scalar_one()
    assert stored == len(found) == 1
