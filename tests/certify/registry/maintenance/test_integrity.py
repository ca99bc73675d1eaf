"""``registry check``: what is whole has no fault, and every way of altering what is stored is found."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select, text

from certify.policy.ratings import installed_ratings
from certify.registry.base.registry import load_place, open_registry
from certify.registry.base.tokens import Token
from certify.registry.intake import campaigns, ingest
from certify.registry.maintenance.backup import backup, restore
from certify.registry.maintenance.integrity import IntegrityReport, check
from certify.registry.storage import tables
from tests.certify.measured import Measured, withdraw
from tests.certify.registry.laid import CENTRE, OTHER, Laid

if TYPE_CHECKING:
    from certify.registry.base.registry import Registry

UNTIL = "2099-01-01T00:00:00.000000Z"
OPERATOR = Token(1, "operator", "operator", CENTRE, UNTIL)
OTHERS = Token(2, "other", "operator", OTHER, UNTIL)
PLATFORM = Token(3, "platform", "platform", None, UNTIL)


def submit(registry: Registry, centre: Measured, token: Token, records: bool = True) -> str:
    """Take a centre's statement in, and its records."""
    out = centre.folder / "out"
    decided = ingest.submit_statement(registry, (out / "statement.dsse.json").read_bytes(), token)
    assert decided.decision == "accepted", decided
    assert decided.payload_sha256 is not None
    if records:
        with registry.store.objects.staging() as staged:
            staged.write((out / "records.jsonl").read_bytes())
            assert ingest.submit_records(registry, decided.payload_sha256, staged, token).decision == "accepted"
    return decided.payload_sha256


@pytest.fixture
def filled(registry: Registry, centre: Measured, other_centre: Measured) -> Registry:
    """A registry with a campaign, two statements, one of them recomputed, a refusal, and an object too many."""
    campaign = (centre.folder / "campaign.dsse.json").read_bytes()
    shown = campaigns.submit_campaign(registry, campaign, OPERATOR)
    assert shown.decision == "accepted", shown
    with registry.store.reading() as connection:
        (campaign_sha256,) = connection.execute(select(tables.campaigns.c.campaign_sha256)).scalars()
    record = centre.record(0).read_bytes()
    assert campaigns.submit_record(registry, campaign_sha256, record, OPERATOR).decision == "accepted"
    submit(registry, centre, OPERATOR)
    submit(registry, other_centre, OTHERS, records=False)
    assert ingest.submit_statement(registry, b"{}", PLATFORM).decision == "refused"
    registry.store.objects.put(b"that nothing names")
    return registry


def codes(checked: IntegrityReport) -> set[str]:
    return {finding.code for finding in checked.problems}


def test_what_is_whole_has_no_fault(filled: Registry) -> None:
    told: set[str] = set()
    checked = check(filled, lambda what, done: told.add(what))
    assert checked.ok, checked.lines()
    (note,) = checked.findings
    assert note.code == "object-unreferenced"
    # the one record that was posted is the same object as a list of one record
    counts = {"campaigns": 1, "chains": 2, "decisions": 6, "objects": 5, "posted records": 1, "records": 1}
    assert checked.counts == {**counts, "statements": 2}
    assert checked.lines()[-1].endswith("0 fault(s)")
    assert checked.as_json()["ok"] is True
    assert "records" in told


def test_a_restored_registry_is_whole(filled: Registry, place: Laid, tmp_path: Path) -> None:
    kept = backup(filled, tmp_path / "backup")
    restore(kept.folder, tmp_path / "restored")
    key = tmp_path / "restored" / "registry.pem"
    key.write_bytes(place.file("registry").read_bytes())
    key.chmod(0o600)
    again = open_registry(tmp_path / "restored")
    checked = check(again)
    again.close()
    assert checked.findings == (), checked.lines()
    assert checked.counts == check(filled).counts


def test_a_table_that_was_withdrawn_since_leaves_a_note(filled: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    withdraw(monkeypatch, installed_ratings().digest, "a hole was closed")
    checked = check(filled)
    assert checked.ok, checked.lines()
    assert "stored-not-recomputed" in {finding.code for finding in checked.findings}


def test_a_stolen_key_leaves_what_came_before(filled: Registry, place: Laid) -> None:
    """What was received before the theft holds; what was not ends, which is no fault of what is stored."""
    before = ingest.submit_revocations(filled, place.revocations((place.keyid("operator"),)), PLATFORM)
    assert before.decision == "accepted", before
    assert check(filled).ok


def test_a_key_that_was_stolen_before_ends_its_statement(filled: Registry, place: Laid) -> None:
    stolen = place.revocations((place.keyid("operator"),), at="2026-01-02T00:00:00.000000Z")
    assert ingest.submit_revocations(filled, stolen, PLATFORM).decision == "accepted"
    with filled.store.reading() as connection:
        (ending,) = connection.execute(select(tables.revocations)).all()
    assert ending.code == "key-revoked"
    checked = check(filled)
    assert {finding.code for finding in checked.findings} >= {"stored-not-recomputed"}, checked.lines()
    assert {finding.where.partition(" ")[0] for finding in checked.problems} <= {"campaign", "record"}


IDENTITY = "UPDATE identities SET value = 'other' WHERE kind = 'device'"
ALTERED: dict[str, tuple[str, str]] = {
    "a sum": ("UPDATE class_lines SET certified_mflop_s = certified_mflop_s + 1", "stored-rows-differ"),
    "a pool": ("UPDATE pool_lines SET pool_class = 'edge'", "stored-rows-differ"),
    "a step": ("UPDATE step_lines SET step = 'measured'", "stored-rows-differ"),
    "what is never scheduled": ("UPDATE node_lines SET never_scheduled_devices = 1", "stored-rows-differ"),
    "a witness that is none": (
        f"INSERT INTO witnesses SELECT payload_sha256, '{'0' * 64}', received_at, received_at FROM statements",
        "stored-rows-differ",
    ),
    "a node": ("UPDATE node_lines SET certified_mflop_s = 0", "stored-rows-differ"),
    "a device": (IDENTITY, "stored-rows-differ"),
    "a device that is gone": ("DELETE FROM identities WHERE kind = 'samples'", "stored-rows-differ"),
    "a record's place": ("UPDATE record_lines SET position = 1", "stored-rows-differ"),
    "a validity": ("UPDATE statements SET valid_until = '2099-01-01T00:00:00.000000Z'", "stored-rows-differ"),
    "a time of receipt": ("UPDATE statements SET received_at = '2026-03-02T00:00:00.000000Z'", "stored-rows-differ"),
    "a signer": (f"UPDATE signers SET keyid = '{'ab' * 32}'", "stored-rows-differ"),
    "a signer that is gone": ("DELETE FROM signers", "stored-rows-differ"),
    "a level": ("DELETE FROM verifications WHERE level = 'recomputed'", "stored-rows-differ"),
    "a decision's time": ("UPDATE decisions SET at = '2026-03-02T00:00:00.000000Z'", "stored-receipt-refused"),
    "a receipt": ("UPDATE decisions SET receipt = NULL", "stored-receipt-refused"),
    "a receipt that is another's": (
        "UPDATE decisions SET receipt = (SELECT max(receipt) FROM decisions) WHERE receipt IS NOT NULL",
        "stored-receipt-refused",
    ),
    "a receipt that is none": (
        "UPDATE decisions SET receipt = x'00' WHERE receipt IS NOT NULL",
        "stored-receipt-refused",
    ),
    "a statement that is gone": ("DELETE FROM statements WHERE centre_id = 'wh-test'", "stored-rows-differ"),
    "an object's name": (f"UPDATE statements SET envelope_sha256 = '{'ab' * 32}'", "object-missing"),
    "another object": (
        "UPDATE statements SET envelope_sha256 = (SELECT envelope_sha256 FROM campaigns)",
        "stored-document-refused",
    ),
    "a campaign": ("UPDATE campaigns SET challenge = 'other'", "stored-rows-differ"),
    "a posted record": ("UPDATE campaign_records SET node_id = 'other'", "stored-rows-differ"),
    "a head": ("DELETE FROM chains WHERE centre_id = 'wh-test'", "stored-chain-differs"),
    "a head that is another's": (
        "UPDATE chains SET statement = (SELECT statement FROM chains WHERE centre_id = 'gz-test')",
        "stored-chain-differs",
    ),
    "a trigger": ("DROP TRIGGER decisions_no_update", "stored-schema-differs"),
    "a revision": ("UPDATE alembic_version SET version_num = '0000'", "stored-schema-differs"),
    "a device in two statements": (
        "INSERT INTO identities (statement, kind, value, place, claimed) SELECT payload_sha256, 'device',"
        " (SELECT value FROM identities WHERE kind = 'device' AND claimed LIMIT 1), 'gpu-00100/cuda:0', 1"
        " FROM statements WHERE centre_id = 'wh-test'",
        "device-claimed-twice",
    ),
}


@pytest.mark.long
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_whatever_is_altered_is_found(filled: Registry) -> None:
    """As somebody would who has the file: the triggers are off meanwhile, and on again afterwards."""
    file = load_place(filled.place.root).root / "registry.db"
    missed = {}
    for what, (sql, code) in ALTERED.items():
        with sqlite3.connect(file) as raw:
            raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        raw.close()
        whole = file.read_bytes()
        raw = sqlite3.connect(file)
        triggers = raw.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        if not sql.startswith("DROP"):
            for name, _ in triggers:
                raw.execute(f"DROP TRIGGER {name}")
        raw.execute(sql)
        if not sql.startswith("DROP"):
            for _, made in triggers:
                raw.execute(made)
        raw.commit()
        raw.close()
        if code not in (found := codes(check(filled))):
            missed[what] = found
        filled.store.engine.dispose()
        for log in file.parent.glob("registry.db-*"):
            log.unlink()
        file.write_bytes(whole)
    assert missed == {}
    assert check(filled).ok


def test_a_switched_off_trigger_is_found(filled: Registry) -> None:
    assert check(filled).ok
    with filled.store.writing() as connection:
        if filled.store.is_sqlite:
            connection.execute(text("DROP TRIGGER audit_no_delete"))
        else:
            connection.execute(text("ALTER TABLE audit DISABLE TRIGGER audit_no_delete"))
    (problem,) = check(filled).problems
    assert (problem.code, problem.where) == ("stored-schema-differs", "audit_no_delete")


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_damaged_objects_are_found(filled: Registry) -> None:
    with filled.store.reading() as connection:
        envelopes = connection.execute(select(tables.statements.c.envelope_sha256)).scalars().all()
        records = connection.execute(select(tables.verifications.c.records_sha256)).scalars().all()
    for sha256 in filter(None, {*envelopes, *records}):
        path = filled.store.objects.path(sha256)
        whole = path.read_bytes()
        path.chmod(0o600)
        path.write_bytes(whole[:-1] + b"?")
        assert "object-differs" in codes(check(filled))
        path.unlink()
        assert "object-missing" in codes(check(filled))
        path.write_bytes(whole)
    assert check(filled).ok
