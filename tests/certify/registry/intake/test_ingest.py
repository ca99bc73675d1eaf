"""Statements, records and revocations as they are taken in, on both databases."""

from __future__ import annotations

import base64
import functools
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
from msgspec import structs
from sqlalchemy import Boolean, Integer, Table, func, select
from sqlalchemy.exc import DBAPIError

from bench.errors import RefusedError
from bench.record import digest
from bench.units import DAY_NS, utc_ns, utc_text
from certify.documents import dsse
from certify.documents.kinds import PAYLOAD_TYPE, Level, OpenedDocument, make_document, parse_payload
from certify.documents.statement import CapacityStatement
from certify.registry.api.common import Decided
from certify.registry.base.tokens import Token
from certify.registry.intake import ingest
from certify.registry.intake.revoking import refresh_trust
from certify.registry.maintenance.integrity import check
from certify.registry.state.model import PoolState
from certify.registry.state.read import read_centre_states
from certify.registry.storage import tables
from certify.trust.opening import Verifier
from certify.trust.revocations import Revocation
from certify.trust.root import read_root
from tests.certify.attacks import canonical, payload_of
from tests.certify.exceptional import above_best_known, exceptional_policy
from tests.certify.measured import Measured, withdraw
from tests.certify.registry.laid import CENTRE, OTHER, SINCE, Laid, certified, lay_centre, witness

if TYPE_CHECKING:
    from certify.registry.base.registry import Registry

UNTIL = "2099-01-01T00:00:00.000000Z"
OPERATOR = Token(1, "operator", "operator", CENTRE, UNTIL)
OTHERS = Token(2, "other", "operator", OTHER, UNTIL)
PLATFORM = Token(3, "platform", "platform", None, UNTIL)
SQLITE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


def statement_of(centre: Measured) -> bytes:
    return (centre.folder / "out" / "statement.dsse.json").read_bytes()


def submit(registry: Registry, centre: Measured, token: Token = OPERATOR) -> Decided:
    return ingest.submit_statement(registry, statement_of(centre), token)


def submit_records(registry: Registry, sha256: str, content: bytes | Path, token: Token = OPERATOR) -> Decided:
    with registry.store.objects.staging() as staged:
        staged.write(content if isinstance(content, bytes) else content.read_bytes())
        return ingest.submit_records(registry, sha256, staged, token)


def submit_whole(registry: Registry, centre: Measured, token: Token = OPERATOR) -> Decided:
    first = submit(registry, centre, token)
    assert first.decision == "accepted", first
    assert first.payload_sha256 is not None
    return submit_records(registry, first.payload_sha256, centre.folder / "out" / "records.jsonl", token)


def rows(registry: Registry, table: Any) -> list[Any]:
    with registry.store.reading() as connection:
        return list(connection.execute(select(table)))


def count(registry: Registry, table: Any) -> int:
    with registry.store.reading() as connection:
        return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


def refused(act: Callable[[], object]) -> str:
    with pytest.raises(RefusedError) as error:
        act()
    return error.value.code


def test_a_statement_and_its_records_are_kept(registry: Registry, centre: Measured, place: Laid) -> None:
    first = submit(registry, centre)
    assert (first.decision, first.level, first.repeated) == ("accepted", "trusted", False)
    assert first.payload_sha256 is not None
    second = submit_records(registry, first.payload_sha256, centre.folder / "out" / "records.jsonl")
    assert (second.decision, second.level) == ("accepted", "recomputed")
    (row,) = rows(registry, tables.statements)
    assert (row.centre_id, row.sequence, row.received_at) == (CENTRE, 1, first.at)
    assert registry.store.objects.read(row.envelope_sha256) == statement_of(centre)
    trusted, recomputed = sorted(rows(registry, tables.verifications), key=lambda one: one.level, reverse=True)
    assert (trusted.level, recomputed.level) == ("trusted", "recomputed")
    records = registry.store.objects.read(recomputed.records_sha256)
    assert records == (centre.folder / "out" / "records.jsonl").read_bytes()
    (line,) = rows(registry, tables.record_lines)
    assert records[line.position : line.position + line.length] == records
    (pool,), (node,) = rows(registry, tables.pool_lines), rows(registry, tables.node_lines)
    assert node.certified_mflop_s == pool.certified_mflop_s > 0
    assert (node.devices, node.keyid) == (pool.devices, place.keyid("node"))
    kinds = sorted(one.kind for one in rows(registry, tables.identities))
    assert kinds == ["device", "device", "machine", "samples"]
    assert [one.kind for one in rows(registry, tables.changes)] == ["statement", "verification"]


@SQLITE
def test_a_late_reissue_is_taken_where_its_first_is_known(registry: Registry, place: Laid, tmp_path: Path) -> None:
    centre, first = certified(tmp_path / "centre", place.keys)
    before = centre.folder / "out"
    now_ns = utc_ns(first.statement.issue.issued_at) + 60 * DAY_NS
    with mock.patch("time.time_ns", return_value=now_ns):
        centre.certify(tmp_path / "late", sequence=2, previous=before / "statement.dsse.json")
    late = (tmp_path / "late" / "statement.dsse.json").read_bytes()
    later = replace(registry, clock_ns=lambda: now_ns + 10**9)
    alone = ingest.submit_statement(later, late, OPERATOR)
    assert (alone.decision, alone.code) == ("refused", "measurement-too-old")
    assert submit(later, centre).decision == "accepted"
    assert ingest.submit_statement(later, late, OPERATOR).decision == "accepted"


def opened(centre: Measured) -> OpenedDocument[CapacityStatement]:
    return parse_payload("capacity-statement", dsse.parse_envelope(statement_of(centre), 2**24).payload)


def witness_of(centre: Measured, place: Laid, payload_sha256: str, level: Level = "recomputed") -> bytes:
    """Return a witness's document on a centre's statement."""
    return witness(place, payload_sha256, opened(centre).predicate.issue.issued_at, level)


@pytest.fixture
def exceptional(registry: Registry, place: Laid, tmp_path: Path) -> Measured:
    """A centre whose figures count with a witness only, under a policy that the registry holds."""
    policy = exceptional_policy(place.root)
    settings = structs.replace(registry.settings, policies=(Path(policy).name,))
    object.__setattr__(registry, "place", replace(registry.place, settings=settings))
    centre = lay_centre(tmp_path / "exceptional", place.keys, change=above_best_known)
    centre.certify(policies=(policy,))
    return centre


@pytest.mark.parametrize("after", ["nothing", "statement", "records"])
@SQLITE
def test_a_witness_makes_count_what_needs_one(
    registry: Registry, exceptional: Measured, place: Laid, after: str
) -> None:
    def pool() -> PoolState:
        with registry.store.reading() as connection:
            (found,) = read_centre_states(connection, registry.now, 300)[CENTRE].latest_statements[0].pools
        return found

    def vouch(**changes: Any) -> None:
        content = witness_of(exceptional, place, changes.pop("of", sha256), **changes)
        assert ingest.submit_supporting(registry, "witness", content, OPERATOR).decision == "accepted"

    sha256 = opened(exceptional).payload_sha256
    vouch(level="trusted")  # less than a recomputation says nothing
    vouch(of="ab" * 32)  # of another statement
    if after == "nothing":
        vouch()
    assert submit(registry, exceptional).decision == "accepted"
    if after == "statement":
        vouch()
    assert submit_records(registry, sha256, exceptional.folder / "out" / "records.jsonl").level == "recomputed"
    if after == "records":
        before = pool()
        assert (before.shown.witnessed, before.witnessed.devices, before.untested.devices) == (False, 0, 1)
        vouch()
    (witness,) = rows(registry, tables.witnesses)
    assert (witness.statement, witness.keyid) == (sha256, place.keyid("witness"))
    assert [one.kind for one in rows(registry, tables.changes)].count("witness") == 1
    found = pool()
    assert found.shown.witnessed
    assert found.shown.with_witness_mflop_s == found.witnessed.certified_mflop_s > 0
    assert (found.shown.certified_mflop_s, found.witnessed.devices, found.untested.devices) == (0, 1, 0)
    with registry.store.reading() as connection:
        (head,) = read_centre_states(connection, registry.now, 300)[CENTRE].latest_statements
    assert head.facts.grade == "smoke"  # a city counts nothing of a statement without a grade
    (node,) = rows(registry, tables.node_lines)
    assert (node.certified_mflop_s, node.with_witness_mflop_s) == (0, found.witnessed.certified_mflop_s)
    assert check(registry).ok, check(registry).lines()
    with registry.store.writing() as connection:
        connection.execute(tables.witnesses.delete())
    assert [one.code for one in check(registry).problems] == ["stored-rows-differ"]


@SQLITE
def test_the_ninth_witness_of_a_statement_is_not_read_and_its_answer_says_so(registry: Registry, place: Laid) -> None:
    for number in range(9):
        content = witness(place, "ab" * 32, version=f"0.2.{number}")
        decided = ingest.submit_supporting(registry, "witness", content, OPERATOR)
        assert decided.decision == "accepted"
        assert ["[witnesses-cut]" in note for note in decided.notes] == [True] * (number == 8)


@SQLITE
def test_by_a_witness_whose_key_is_revoked_nothing_counts(
    registry: Registry, exceptional: Measured, place: Laid
) -> None:
    assert submit_whole(registry, exceptional).level == "recomputed"
    content = witness_of(exceptional, place, opened(exceptional).payload_sha256)
    assert ingest.submit_supporting(registry, "witness", content, OPERATOR).decision == "accepted"
    assert count(registry, tables.witnesses) == 1
    listed = place.revocations(keyids=(place.keyid("witness"),))
    assert ingest.submit_revocations(registry, listed, PLATFORM).decision == "accepted"
    assert count(registry, tables.witnesses) == 0
    assert [one.kind for one in rows(registry, tables.changes)].count("witness") == 2
    assert check(registry).ok, check(registry).lines()


def test_every_decision_has_a_receipt_that_the_root_trusts(registry: Registry, centre: Measured) -> None:
    decided = submit_whole(registry, centre)
    assert decided.receipt is not None
    trust = registry.trust().trusted
    opened = Verifier(trust, registry.now).open("receipt", base64.b64decode(decided.receipt))
    told = opened.predicate
    assert opened.subject_digest == decided.payload_sha256
    assert (told.decision, told.level, told.received_at) == ("accepted", "recomputed", decided.at)


def test_the_same_again_is_answered_and_stored_once(registry: Registry, centre: Measured) -> None:
    first, whole = submit(registry, centre), submit_whole(registry, centre)
    again = submit(registry, centre)
    assert again == Decided(**{**_fields(first), "repeated": True, "notes": ()})
    records = centre.folder / "out" / "records.jsonl"
    assert first.payload_sha256 is not None
    once_more = submit_records(registry, first.payload_sha256, records)
    assert (once_more.repeated, once_more.receipt) == (True, whole.receipt)
    assert (count(registry, tables.statements), count(registry, tables.decisions)) == (1, 2)


def _fields(decided: Decided) -> dict[str, Any]:
    return {name: getattr(decided, name) for name in Decided.__struct_fields__}


@SQLITE
def test_many_at_once_are_stored_once(registry: Registry, centre: Measured) -> None:
    answers: list[Decided] = []
    threads = [threading.Thread(target=lambda: answers.append(submit(registry, centre))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.decision for one in answers] == ["accepted"] * 8
    assert len({one.receipt for one in answers}) == 1
    assert sum(not one.repeated for one in answers) == 1
    assert (count(registry, tables.statements), count(registry, tables.decisions)) == (1, 1)


def twice(*path: str | int) -> Callable[[Any], None]:
    """Return a lie that changes no sum: a list has its first line again, with nothing in it."""

    def change(said: Any) -> None:
        lines = functools.reduce(lambda one, step: one[step], path, said)
        lines.append({name: 0 if isinstance(value, int) else value for name, value in lines[0].items()})

    return change


def many(*path: str) -> Callable[[Any], None]:
    """Return a lie: more of something than there is, in pools and classes alike."""

    def change(said: Any) -> None:
        for line in (*said["pools"], *said["classes"]):
            functools.reduce(lambda one, step: one[step], path[:-1], line)[path[-1]] = 2**40

    return change


def other_pools(said: Any) -> None:
    """Name another pool than the centre has."""
    for line in (*said["pools"], *said["ceilings"], *said["vendors"], *said["inventory"]):
        line["pool"] = "other"


def other_step(said: Any) -> None:
    """Rest every model on another step of evidence than the pool."""
    for line in said["ceilings"]:
        line["step"] = "another"


UNFIT: dict[str, Callable[[Any], None]] = {
    "steps twice": twice("pools", 0, "steps"),
    "vendors twice": twice("vendors"),
    "a class twice": twice("classes"),
    "other pools": other_pools,
    "a vendor elsewhere": lambda said: said["vendors"].append({**said["vendors"][0], "pool": "other"}),
    "a model elsewhere": lambda said: said["inventory"].append({**said["inventory"][0], "pool": "other"}),
    "a model twice": twice("inventory"),
    "more of a model than a table holds": lambda said: said["inventory"][0].update(devices=2**40),
    "models on another step": other_step,
    "untested devices": many("untested", "devices"),
    "devices without rating": many("counted", "devices_without_rating"),
}


@pytest.mark.parametrize("lie", UNFIT)
def test_lines_that_no_table_takes_are_refused(registry: Registry, centre: Measured, place: Laid, lie: str) -> None:
    value = payload_of(statement_of(centre))
    UNFIT[lie](value["predicate"])
    sealed = dsse.seal(canonical(value), PAYLOAD_TYPE, [place.key("operator")])
    decided = ingest.submit_statement(registry, sealed, OPERATOR)
    assert (decided.decision, decided.code) == ("refused", "statement-differs")
    assert check(registry).ok


def test_a_step_of_other_rules_may_have_a_long_name(registry: Registry, centre: Measured, place: Laid) -> None:
    value = payload_of(statement_of(centre))
    value["predicate"]["rules"] = "petaseal-rules/9.9"
    for line in (*value["predicate"]["pools"][0]["steps"], *value["predicate"]["ceilings"]):
        line["step"] = "s" * 63
    sealed = dsse.seal(canonical(value), PAYLOAD_TYPE, [place.key("operator")])
    assert ingest.submit_statement(registry, sealed, OPERATOR).decision == "accepted"


def test_what_is_refused_is_kept_as_refused(registry: Registry, centre: Measured) -> None:
    content = statement_of(centre)
    for broken, code in (
        (b"no statement", "json-invalid"),
        (content.replace(b'"sig":"', b'"sig":"AAAA', 1), "signature-invalid"),
        (centre.campaign.read_bytes(), "predicate-type-wrong"),
    ):
        decided = ingest.submit_statement(registry, broken, OPERATOR)
        assert (decided.decision, decided.code) == ("refused", code)
        row = rows(registry, tables.decisions)[-1]
        assert (row.decision, row.code, row.centre_id) == ("refused", decided.code, CENTRE)
        assert registry.store.objects.read(row.object_sha256) == broken
        again = ingest.submit_statement(registry, broken, OPERATOR)
        assert again.decision == "refused"
    assert not rows(registry, tables.statements)
    assert not rows(registry, tables.changes)


@SQLITE
def test_other_records_bring_a_statement_nowhere(registry: Registry, centre: Measured, other_centre: Measured) -> None:
    first = submit(registry, centre)
    assert first.payload_sha256 is not None
    decided = submit_records(registry, first.payload_sha256, other_centre.folder / "out" / "records.jsonl")
    assert (decided.decision, decided.level) == ("refused", None)
    assert decided.receipt is not None
    row = rows(registry, tables.decisions)[-1]
    assert (row.kind, row.decision, row.code) == ("records", "refused", decided.code)
    assert registry.store.objects.path(row.object_sha256).exists()
    assert [one.level for one in rows(registry, tables.verifications)] == ["trusted"]
    assert not rows(registry, tables.identities)
    whole = submit_records(registry, first.payload_sha256, centre.folder / "out" / "records.jsonl")
    assert whole.decision == "accepted"


@SQLITE
def test_a_token_speaks_for_its_centre_only(registry: Registry, centre: Measured) -> None:
    reader = Token(4, "reader", "reader", None, UNTIL)
    assert refused(lambda: submit(registry, centre, OTHERS)) == "token-centre-differs"
    assert refused(lambda: submit(registry, centre, reader)) == "token-scope"
    assert refused(lambda: submit_records(registry, digest("none"), b"", OPERATOR)) == "statement-unknown"
    first = submit(registry, centre, PLATFORM)
    assert first.payload_sha256 is not None
    assert refused(lambda: submit_records(registry, str(first.payload_sha256), b"", OTHERS)) == "token-centre-differs"
    assert refused(lambda: ingest.submit_revocations(registry, b"", OPERATOR)) == "token-scope"
    assert count(registry, tables.decisions) == 1


@SQLITE
def test_a_chain_has_one_statement_of_each_number(registry: Registry, place: Laid, tmp_path: Path) -> None:
    one, first = certified(tmp_path / "one", place.keys)
    assert submit_whole(registry, one).decision == "accepted"
    fork = one.certify(tmp_path / "fork", valid_days=100)
    decided = ingest.submit_statement(registry, (fork.out / "statement.dsse.json").read_bytes(), OPERATOR)
    assert (decided.decision, decided.code) == ("refused", "sequence-forked")
    (alarm,) = rows(registry, tables.alarms)
    assert (alarm.code, alarm.payload_sha256, alarm.other_sha256) == (
        "sequence-forked",
        fork.payload_sha256,
        first.payload_sha256,
    )
    stray = one.certify(tmp_path / "stray", sequence=2, previous=fork.out / "statement.dsse.json")
    decided = ingest.submit_statement(registry, (stray.out / "statement.dsse.json").read_bytes(), OPERATOR)
    assert (decided.decision, decided.code) == ("refused", "predecessor-differs")
    second = one.certify(tmp_path / "second", sequence=2, previous=one.folder / "out" / "statement.dsse.json")
    decided = ingest.submit_statement(registry, (second.out / "statement.dsse.json").read_bytes(), OPERATOR)
    assert decided.decision == "accepted"
    (head,) = rows(registry, tables.chains)
    assert head.statement == second.payload_sha256
    assert submit_records(registry, second.payload_sha256, second.out / "records.jsonl").decision == "accepted"


@SQLITE
def test_history_may_come_late(registry: Registry, place: Laid, tmp_path: Path) -> None:
    one, _ = certified(tmp_path / "one", place.keys)
    second = one.certify(tmp_path / "second", sequence=2, previous=one.folder / "out" / "statement.dsse.json")
    for folder in (second.out, one.folder / "out"):
        decided = ingest.submit_statement(registry, (folder / "statement.dsse.json").read_bytes(), OPERATOR)
        assert decided.decision == "accepted", decided
        assert decided.payload_sha256 is not None
        whole = submit_records(registry, decided.payload_sha256, folder / "records.jsonl")
        assert whole.decision == "accepted", whole
    (head,) = rows(registry, tables.chains)
    assert head.statement == second.payload_sha256


def test_one_device_counts_in_one_statement(registry: Registry, place: Laid, tmp_path: Path) -> None:
    here, first = certified(tmp_path / "here", place.keys, CENTRE, nodes=2, campaign_id="2026-03")
    there, second = certified(tmp_path / "there", place.keys, OTHER, nodes=2, first=1, campaign_id="2026-04")
    assert submit_whole(registry, here).decision == "accepted"
    decided = submit_whole(registry, there, OTHERS)
    assert decided.decision == "refused"
    assert decided.code in ("device-in-two-windows", "device-claimed-twice")
    raised = {alarm.code: alarm for alarm in rows(registry, tables.alarms)}
    alarm = raised[str(decided.code)]
    assert (alarm.payload_sha256, alarm.other_sha256) == (second.payload_sha256, first.payload_sha256)
    assert (alarm.centre_id, alarm.other_centre_id, alarm.devices) == (OTHER, CENTRE, 1)
    levels = {(one.statement, one.level) for one in rows(registry, tables.verifications)}
    assert levels == {
        (first.payload_sha256, "trusted"),
        (first.payload_sha256, "recomputed"),
        (second.payload_sha256, "trusted"),
    }
    assert {one.statement for one in rows(registry, tables.identities)} == {first.payload_sha256}


@SQLITE
def test_a_withdrawn_claim_makes_room_for_another(registry: Registry, place: Laid, tmp_path: Path) -> None:
    begin = time.time_ns()
    here, first = certified(tmp_path / "here", place.keys, CENTRE, campaign_id="2026-03")
    assert submit_whole(registry, here).decision == "accepted"
    listed = place.revocations(statements=(first.payload_sha256,), at=utc_text(begin))
    assert ingest.submit_revocations(registry, listed, PLATFORM).decision == "accepted"
    (ending,) = rows(registry, tables.revocations)
    assert (ending.statement, ending.code) == (first.payload_sha256, "statement-revoked")
    again = here.certify(tmp_path / "again", sequence=2, previous=here.folder / "out" / "statement.dsse.json")
    decided = ingest.submit_statement(registry, (again.out / "statement.dsse.json").read_bytes(), OPERATOR)
    assert decided.decision == "accepted"
    assert submit_records(registry, again.payload_sha256, again.out / "records.jsonl").decision == "accepted"


def test_what_came_before_its_key_was_revoked_stays(registry: Registry, place: Laid, tmp_path: Path) -> None:
    one, first = certified(tmp_path / "one", place.keys)
    assert submit(registry, one).decision == "accepted"
    stolen_at = utc_text(time.time_ns())
    second = one.certify(tmp_path / "second", sequence=2, previous=one.folder / "out" / "statement.dsse.json")
    late = ingest.submit_statement(registry, (second.out / "statement.dsse.json").read_bytes(), OPERATOR)
    assert late.decision == "accepted"
    listed = place.revocations(keyids=(place.keyid("operator"),), at=stolen_at)
    assert ingest.submit_revocations(registry, listed, PLATFORM).decision == "accepted"
    (ending,) = rows(registry, tables.revocations)
    assert (ending.statement, ending.code) == (second.payload_sha256, "key-revoked")
    # the receipt dates it: its records are still taken in, and nothing new is that the key signs
    whole = submit_records(registry, first.payload_sha256, one.folder / "out" / "records.jsonl")
    assert (whole.decision, whole.level) == ("accepted", "recomputed"), whole
    third = one.certify(tmp_path / "third", sequence=2, previous=one.folder / "out" / "statement.dsse.json")
    decided = ingest.submit_statement(registry, (third.out / "statement.dsse.json").read_bytes(), OPERATOR)
    assert (decided.decision, decided.code) == ("refused", "key-revoked")
    assert not refresh_trust(registry)


@SQLITE
def test_a_bad_revocation_list_changes_nothing(registry: Registry, centre: Measured, place: Laid) -> None:
    assert submit(registry, centre).decision == "accepted"
    listed = place.revocations(statements=(digest("nothing"),))
    broken = listed.replace(b'"sig":"', b'"sig":"AAAA', 1)
    decided = ingest.submit_revocations(registry, broken, PLATFORM)
    assert (decided.decision, decided.code) == ("refused", "signature-invalid")
    assert not rows(registry, tables.revocations)
    assert rows(registry, tables.decisions)[-1].kind == "revocations"


@SQLITE
def test_a_simulated_statement_needs_a_registry_that_tries_things_out(place: Laid, centre: Measured) -> None:
    from certify.registry.base.registry import open_registry

    settings = place.root / "registry.yaml"
    settings.write_text(settings.read_text().replace("accept_simulated: true", "accept_simulated: false"))
    opened = open_registry(place.root)
    try:
        decided = submit(opened, centre)
        assert (decided.decision, decided.code) == ("refused", "simulated")
    finally:
        opened.close()


def test_what_was_taken_in_is_never_changed(registry: Registry, centre: Measured) -> None:
    """SQLite's triggers look at rows, so that every table has some first."""
    submit_whole(registry, centre)
    empty = [table for table in tables.APPEND_ONLY if not count(registry, table)]
    with registry.store.writing() as connection:
        for table in empty:
            connection.execute(table.insert(), _any_row(registry, table))
    for table in tables.APPEND_ONLY:
        last = table.columns.values()[-1]
        for change in (table.delete(), table.update().values({last: last})):
            with pytest.raises(DBAPIError, match="only grows"), registry.store.writing() as connection:
                connection.execute(change)


def _any_row(registry: Registry, table: Table) -> dict[str, Any]:
    """Return a row of a table that fits its types."""
    (statement,) = rows(registry, tables.statements)
    made: dict[str, Any] = {}
    for column in table.columns:
        if isinstance(column.type, Boolean):
            made[column.name] = False
        elif column.foreign_keys and not isinstance(column.type, Integer):  # numbers refer to a first row
            made[column.name] = statement.payload_sha256
        elif not column.nullable and not (column.autoincrement is True and column.name == "id"):
            made[column.name] = 1 if isinstance(column.type, Integer) else "x"
    if table is tables.campaign_records:
        made["campaign_sha256"] = "x"
    return made


def new_root(place: Laid, **changes: Any) -> None:
    """Put the next version of the trust root in its place."""
    root = read_root(place.trust.read_bytes()).root
    now = utc_text(time.time_ns())
    place.new_root(structs.replace(root, version=root.version + 1, issued_at=now, **changes))


@SQLITE
def test_the_next_root_revokes_too(registry: Registry, place: Laid, tmp_path: Path) -> None:
    """Also a key that it does not list any more."""
    begin = utc_text(time.time_ns())
    one, made = certified(tmp_path / "one", place.keys)
    assert submit_whole(registry, one).decision == "accepted"
    root = read_root(place.trust.read_bytes()).root
    keyid = place.keyid("operator")
    revoked = Revocation(keyid=keyid, revoked_at=begin, reason="stolen")
    keys = {name: key for name, key in root.keys.items() if name != keyid}
    roles = tuple(role for role in root.roles if keyid not in role.keys)
    new_root(place, keys=keys, roles=roles, revocations=(revoked,))
    assert refresh_trust(registry) == 1
    (ending,) = rows(registry, tables.revocations)
    assert (ending.statement, ending.code) == (made.payload_sha256, "key-revoked")


@SQLITE
def test_a_machine_that_signed_for_several_nodes_can_be_revoked(
    registry: Registry, place: Laid, tmp_path: Path
) -> None:
    begin = utc_text(time.time_ns())
    one, _ = certified(tmp_path / "one", place.keys, nodes=2)
    assert submit_whole(registry, one).decision == "accepted"
    listed = place.revocations(keyids=(place.keyid("node"),), at=begin)
    assert ingest.submit_revocations(registry, listed, PLATFORM).decision == "accepted"
    assert [ending.code for ending in rows(registry, tables.revocations)] == ["key-revoked"]


@SQLITE
def test_what_ends_later_can_end_earlier(registry: Registry, place: Laid, tmp_path: Path) -> None:
    one, made = certified(tmp_path / "one", place.keys)
    assert submit_whole(registry, one).decision == "accepted"
    later = place.revocations(statements=(made.payload_sha256,), at=UNTIL)
    assert ingest.submit_revocations(registry, later, PLATFORM).decision == "accepted"
    (ending,) = rows(registry, tables.revocations)
    assert ending.effective_at == UNTIL
    new_root(place, revocations=(Revocation(keyid=place.keyid("operator"), revoked_at=SINCE, reason="stolen"),))
    assert refresh_trust(registry) == 1
    assert min(row.effective_at for row in rows(registry, tables.revocations)) < UNTIL
    assert not refresh_trust(registry)


@SQLITE
def test_a_statement_that_is_revoked_before_it_comes(registry: Registry, place: Laid, tmp_path: Path) -> None:
    one, made = certified(tmp_path / "one", place.keys)
    later = place.revocations(statements=(made.payload_sha256,), at=UNTIL)
    assert ingest.submit_revocations(registry, later, PLATFORM).decision == "accepted"
    assert submit(registry, one).decision == "accepted"
    (ending,) = rows(registry, tables.revocations)
    assert (ending.statement, ending.effective_at) == (made.payload_sha256, UNTIL)


@SQLITE
def test_other_records_of_a_recomputed_statement_are_refused(
    registry: Registry, centre: Measured, other_centre: Measured
) -> None:
    whole = submit_whole(registry, centre)
    assert whole.payload_sha256 is not None
    decided = submit_records(registry, whole.payload_sha256, other_centre.folder / "out" / "records.jsonl")
    assert (decided.decision, decided.code) == ("refused", "records-differ")


@SQLITE
@pytest.mark.parametrize("why", ["rules-differ", "table-withdrawn"])
def test_records_that_cannot_be_judged_leave_a_statement_declared(
    registry: Registry, place: Laid, centre: Measured, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    stated = parse_payload("capacity-statement", dsse.parse_envelope(statement_of(centre), 2**24).payload).predicate
    content = statement_of(centre)
    if why == "rules-differ":
        payload = make_document(
            "capacity-statement", structs.replace(stated, rules="petaseal-rules/9"), stated.records_root
        )
        content = dsse.seal(payload, PAYLOAD_TYPE, [place.key("operator")])
    else:
        withdraw(monkeypatch, stated.ratings_sha256, "a hole was closed")
    first = ingest.submit_statement(registry, content, OPERATOR)
    assert (first.decision, first.level) == ("accepted", "trusted")
    assert any(f"[{why}]" in note for note in first.notes)
    records = centre.folder / "out" / "records.jsonl"
    decided = submit_records(registry, str(first.payload_sha256), records)
    assert (decided.decision, decided.code) == ("refused", why)
    assert [row.level for row in rows(registry, tables.verifications)] == ["trusted"]
    assert count(registry, tables.node_lines) == 0


@SQLITE
def test_a_statement_that_no_sum_can_hold(registry: Registry, place: Laid, centre: Measured) -> None:
    """Its sums are shown before anybody recomputed it: they hold together, and stay within what can be."""
    parsed = dsse.parse_envelope(statement_of(centre), 2**24)
    statement = parse_payload("capacity-statement", parsed.payload).predicate
    huge = 2**53 - 1

    def signed(pool: int, whole: int) -> bytes:
        (line,), (of_class,) = statement.pools, statement.classes
        changed = structs.replace(
            statement,
            pools=(structs.replace(line, counted=structs.replace(line.counted, certified_mflop_s=pool)),),
            classes=(structs.replace(of_class, counted=structs.replace(of_class.counted, certified_mflop_s=whole)),),
        )
        payload = make_document("capacity-statement", changed, statement.records_root)
        return dsse.seal(payload, PAYLOAD_TYPE, [place.key("operator")])

    for content in (signed(huge, 1), signed(huge, huge)):
        decided = ingest.submit_statement(registry, content, OPERATOR)
        assert (decided.decision, decided.code) == ("refused", "statement-differs")
    assert not rows(registry, tables.pool_lines)
