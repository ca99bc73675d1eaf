"""A statement that was revoked with its records does not come back under another number or over other records."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from msgspec import structs

from certify.documents import dsse
from certify.documents.kinds import PAYLOAD_TYPE
from certify.keys.files import load_private
from certify.registry.api.common import Decided
from certify.registry.intake import ingest
from certify.registry.maintenance.integrity import check
from certify.registry.storage import tables
from certify.statement.summary import IssuedStatement
from certify.trust.revocations import RevokedRecords
from tests.certify.attacks import canonical, payload_of
from tests.certify.measured import Measured
from tests.certify.registry.intake.test_ingest import OPERATOR, PLATFORM, rows, submit, submit_whole
from tests.certify.registry.laid import Laid, certified

if TYPE_CHECKING:
    from certify.registry.base.registry import Registry


def revoked(registry: Registry, place: Laid, made: IssuedStatement) -> None:
    """Revoke a statement with its records."""
    listed = place.revocations(records={made.payload_sha256: RevokedRecords.of(made.statement)})
    decided = ingest.submit_revocations(registry, listed, PLATFORM)
    assert decided.decision == "accepted", decided


def following(centre: Measured, folder: Path) -> IssuedStatement:
    return centre.certify(folder, sequence=2, previous=centre.folder / "out" / "statement.dsse.json")


def over_the_same(centre: Measured, folder: Path) -> bytes:
    """The next number of the chain, over the very same records."""
    return (following(centre, folder).out / "statement.dsse.json").read_bytes()


def over_fewer(centre: Measured, folder: Path) -> bytes:
    """Without the record of one node, so that the records root is another."""
    centre.record(1).unlink()
    return (following(centre, folder).out / "statement.dsse.json").read_bytes()


def under_another_root(centre: Measured, folder: Path) -> bytes:
    """The operator signs a root of nothing, for the records come later: the measurement is still the revoked one."""
    value = payload_of(over_the_same(centre, folder))
    value["predicate"]["records_root"] = value["subject"][0]["digest"]["rfc6962-sha256"] = "ab" * 32
    return dsse.seal(canonical(value), PAYLOAD_TYPE, [load_private(centre.key)])


REISSUED: dict[str, tuple[Callable[[Measured, Path], bytes], str]] = {
    "a revoked statement issued again over its records": (over_the_same, "records-revoked"),
    "a revoked statement issued again over fewer of its records": (over_fewer, "records-revoked"),
    "a revoked statement issued again under an invented records root": (under_another_root, "records-revoked"),
}


@pytest.mark.parametrize("name", REISSUED)
def test_what_was_revoked_with_its_records_is_not_issued_again(
    registry: Registry, place: Laid, tmp_path: Path, name: str
) -> None:
    make, code = REISSUED[name]
    centre, made = certified(tmp_path / "centre", place.keys, nodes=2)
    assert submit_whole(registry, centre).decision == "accepted"
    revoked(registry, place, made)
    decided = ingest.submit_statement(registry, make(centre, tmp_path / "again"), OPERATOR)
    assert (decided.decision, decided.code) == ("refused", code)
    assert [one.payload_sha256 for one in rows(registry, tables.statements)] == [made.payload_sha256]


def test_a_successor_over_revoked_records_ends_with_them(registry: Registry, place: Laid, tmp_path: Path) -> None:
    centre, made = certified(tmp_path / "centre", place.keys)
    assert submit_whole(registry, centre).decision == "accepted"
    content = over_the_same(centre, tmp_path / "second")
    second = ingest.submit_statement(registry, content, OPERATOR)
    assert second.decision == "accepted"
    revoked(registry, place, made)
    ended = {one.statement: one.code for one in rows(registry, tables.revocations)}
    assert ended == {made.payload_sha256: "statement-revoked", second.payload_sha256: "records-revoked"}
    assert check(registry).ok, "what ended is no fault of the store"


def test_what_the_centre_measures_again_is_taken(registry: Registry, place: Laid, tmp_path: Path) -> None:
    centre, made = certified(tmp_path / "centre", place.keys)
    assert submit(registry, centre).decision == "accepted"
    revoked(registry, place, made)
    again, _ = certified(tmp_path / "again", place.keys, campaign_id="2026-04")
    content = (again.folder / "out" / "statement.dsse.json").read_bytes()
    value = payload_of(content)
    value["predicate"]["issue"] |= {"sequence": 2, "previous_sha256": made.payload_sha256, "supersedes": []}
    sealed = dsse.seal(canonical(value), PAYLOAD_TYPE, [load_private(again.key)])
    decided: Decided = ingest.submit_statement(registry, sealed, OPERATOR)
    assert (decided.decision, decided.code) == ("accepted", None)


def test_records_are_named_in_the_list_as_the_statement_binds_them(place: Laid, tmp_path: Path) -> None:
    _, made = certified(tmp_path / "centre", place.keys)
    listed = place.revocations(records={made.payload_sha256: RevokedRecords.of(made.statement)})
    (entry,) = payload_of(listed)["predicate"]["statements"]
    bound = json.loads(canonical(structs.asdict(RevokedRecords.of(made.statement))))
    assert entry["records"] == bound
    assert bound["records_root"] == made.statement.records_root
