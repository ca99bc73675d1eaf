"""Challenges, campaigns and records before there is a statement, and what the platform does with pools."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import structs

from bench.record import Campaign, digest
from certify.documents import dsse
from certify.documents.kinds import PAYLOAD_TYPE, make_document, parse_payload
from certify.registry.api.common import ActAsk, IdentifierAsk
from certify.registry.api.views import AttemptLine
from certify.registry.intake import campaigns, ingest
from certify.registry.intake import transitions as acts
from certify.registry.state.attempts import list_attempts, posted_records
from certify.registry.storage import tables
from tests.certify.measured import Measured
from tests.certify.registry.intake.test_ingest import (
    OPERATOR,
    OTHERS,
    PLATFORM,
    UNTIL,
    refused,
    rows,
    submit,
    submit_whole,
)
from tests.certify.registry.laid import CENTRE, OTHER, Laid, certified

if TYPE_CHECKING:
    from certify.registry.base.registry import Registry

SQLITE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
LONG_AFTER_NS = 400 * 86_400 * 10**9


def campaign_of(centre: Measured) -> Campaign:
    envelope = dsse.parse_envelope(centre.campaign.read_bytes(), 2**24)
    campaign: Campaign = parse_payload("campaign", envelope.payload).predicate
    return campaign


def sealed(place: Laid, campaign: Campaign, who: str = "operator") -> bytes:
    return dsse.seal(make_document("campaign", campaign), PAYLOAD_TYPE, [place.key(who)])


def attempts(registry: Registry, **of: Any) -> list[AttemptLine]:
    with registry.store.reading() as connection:
        return list_attempts(connection, registry.now, **of)


def test_a_challenge_opens_one_campaign(registry: Registry, centre: Measured, place: Laid) -> None:
    drawn = campaigns.draw_challenge(registry, CENTRE, OPERATOR)
    (open_,) = attempts(registry)
    assert (open_.challenge, open_.centre_id, open_.state, open_.campaign_id) == (drawn.challenge, CENTRE, "open", None)
    campaign = structs.replace(
        campaign_of(centre),
        challenge=drawn.challenge,
        challenge_source="registry",
        issued_at=drawn.issued_at,
        starts_from=UNTIL,
        starts_until=UNTIL,
    )
    decided = campaigns.submit_campaign(registry, sealed(place, campaign), OPERATOR)
    assert decided.decision == "accepted", decided
    assert campaigns.submit_campaign(registry, sealed(place, campaign), OPERATOR).repeated
    again = structs.replace(campaign, campaign_id="another")
    decided = campaigns.submit_campaign(registry, sealed(place, again), OPERATOR)
    assert (decided.decision, decided.code) == ("refused", "challenge-reused")
    (shown,) = attempts(registry, centre_id=CENTRE)
    assert (shown.campaign_id, shown.campaign_sha256, shown.state) == ("2026-03", digest(campaign), "open")
    assert not attempts(registry, centre_id=OTHER)


@SQLITE
def test_what_was_opened_and_not_submitted_stays_visible(registry: Registry, centre: Measured) -> None:
    campaigns.draw_challenge(registry, CENTRE, OPERATOR)
    campaigns.submit_campaign(registry, centre.campaign.read_bytes(), OPERATOR)
    now_ns = time.time_ns() + LONG_AFTER_NS
    later = replace(registry, clock_ns=lambda: now_ns)
    assert [one.state for one in attempts(later)] == ["not-submitted", "not-submitted"]
    submit(registry, centre)
    assert sorted(one.state for one in attempts(later)) == ["not-submitted", "submitted"]


@SQLITE
def test_challenges_that_are_not_the_registrys(registry: Registry, centre: Measured, place: Laid) -> None:
    base = structs.replace(campaign_of(centre), challenge_source="registry")
    decided = campaigns.submit_campaign(registry, sealed(place, base), OPERATOR)
    assert (decided.decision, decided.code) == ("refused", "challenge-unknown")
    others = campaigns.draw_challenge(registry, OTHER, OTHERS)
    stolen = structs.replace(base, challenge=others.challenge)
    for source in ("registry", "self"):  # nobody burns another centre's challenge, whatever he calls it
        told = structs.replace(stolen, challenge_source=source)
        assert campaigns.submit_campaign(registry, sealed(place, told), OPERATOR).code == "challenge-unknown"
    late = structs.replace(campaign_of(centre), starts_until="9999-12-31T23:59:59.999999Z")
    assert campaigns.submit_campaign(registry, sealed(place, late), OPERATOR).decision == "accepted"
    own = campaigns.draw_challenge(registry, CENTRE, OPERATOR)
    early = structs.replace(base, challenge=own.challenge)  # was opened before the challenge was drawn
    assert campaigns.submit_campaign(registry, sealed(place, early), OPERATOR).code == "challenge-expired"
    assert refused(lambda: campaigns.draw_challenge(registry, OTHER, OPERATOR)) == "token-centre-differs"
    (shown,) = rows(registry, tables.campaigns)
    assert shown.campaign_sha256 == digest(late)


@SQLITE
def test_a_statement_answers_a_challenge_of_its_own(registry: Registry, place: Laid, tmp_path: Path) -> None:
    one, _ = certified(tmp_path / "one", place.keys, campaign_id="2026-03")
    assert submit(registry, one).decision == "accepted"
    base = campaign_of(one)
    other = structs.replace(base, campaign_id="other", challenge=base.challenge)
    decided = campaigns.submit_campaign(registry, sealed(place, other), OPERATOR)
    assert decided.decision == "accepted"  # what is wrong with it is seen with its statement
    two, _ = certified(tmp_path / "two", place.keys, campaign_id="2026-04", first=5)
    content = (two.folder / "out" / "statement.dsse.json").read_bytes()
    assert ingest.submit_statement(registry, content, OPERATOR).decision == "refused"  # number 1 is taken


def test_records_come_one_by_one(registry: Registry, place: Laid, tmp_path: Path) -> None:
    one, _ = certified(tmp_path / "one", place.keys, nodes=2)
    sha256 = digest(campaign_of(one))
    records = [one.record(index).read_bytes() for index in range(2)]
    assert refused(lambda: campaigns.submit_record(registry, sha256, records[0], OPERATOR)) == "campaign-unknown"
    campaigns.submit_campaign(registry, one.campaign.read_bytes(), OPERATOR)
    for record in records:
        decided = campaigns.submit_record(registry, sha256, record, OPERATOR)
        assert (decided.decision, decided.level) == ("accepted", "signature"), decided
    assert campaigns.submit_record(registry, sha256, records[0], OPERATOR).repeated
    with registry.store.reading() as connection:
        found = posted_records(connection, sha256)
    assert [registry.store.objects.read(of) for _, of in found] == records
    (shown,) = attempts(registry)
    assert shown.records == 2
    assert refused(lambda: campaigns.submit_record(registry, sha256, records[0], OTHERS)) == "token-centre-differs"


@SQLITE
def test_records_that_do_not_belong(registry: Registry, place: Laid, tmp_path: Path) -> None:
    one, _ = certified(tmp_path / "one", place.keys)
    other, _ = certified(tmp_path / "other", place.keys, campaign_id="2026-04")
    sha256 = digest(campaign_of(one))
    campaigns.submit_campaign(registry, one.campaign.read_bytes(), OPERATOR)
    for content, code in (
        (other.record(0).read_bytes(), "campaign-differs"),
        (one.campaign.read_bytes(), "predicate-type-wrong"),
        (b"{}", "schema-invalid"),
    ):
        decided = campaigns.submit_record(registry, sha256, content, OPERATOR)
        assert (decided.decision, decided.code) == ("refused", code)
    assert not rows(registry, tables.campaign_records)
    assert [row.decision for row in rows(registry, tables.decisions)] == ["accepted"] + ["refused"] * 3


def ask(**changes: Any) -> ActAsk:
    told = {"act": "register", "centre_id": CENTRE, "project_id": f"P-{CENTRE}", "pool": "main", "reason": "已核对"}
    return ActAsk(**{**told, **changes})


def test_the_register_and_management(registry: Registry, centre: Measured) -> None:
    assert refused(lambda: acts.apply_transition(registry, ask(), PLATFORM)) == "pool-unknown"
    submit_whole(registry, centre)
    assert refused(lambda: acts.apply_transition(registry, ask(), OPERATOR)) == "token-scope"
    assert refused(lambda: acts.apply_transition(registry, ask(act="manage"), PLATFORM)) == "act-out-of-order"
    assert refused(lambda: acts.apply_transition(registry, ask(pool="none"), PLATFORM)) == "pool-unknown"
    issued = IdentifierAsk(scheme="算力标识", value="86.1234", issued_by="某机构")
    done = acts.apply_transition(registry, ask(external_ids=(issued,)), PLATFORM)
    assert (done.act, done.pool) == ("register", "main")
    acts.apply_transition(registry, ask(act="manage"), PLATFORM)
    standing = ("registered", "managed")
    for act, left in (("release", standing[:1]), ("manage", standing), ("deregister", ()), ("register", standing[:1])):
        acts.apply_transition(registry, ask(act=act), PLATFORM)
        with registry.store.reading() as connection:
            assert acts.register_state(connection, CENTRE, f"P-{CENTRE}", "main") == frozenset(left)
    (identifier,) = rows(registry, tables.external_ids)
    assert (identifier.value, identifier.statement, identifier.pool) == ("86.1234", None, "main")
    assert [row.kind for row in rows(registry, tables.changes)][2:] == ["act"] * 6


@SQLITE
def test_identifiers_of_a_centre_file_are_stored(registry: Registry, place: Laid, tmp_path: Path) -> None:
    told = [{"scheme": "算力标识", "value": "86.1", "issued_by": None}, {"scheme": "none", "value": None}]
    one, made = certified(tmp_path / "one", place.keys, external_ids=told)
    submit(registry, one)
    (identifier,) = rows(registry, tables.external_ids)
    assert (identifier.scheme, identifier.value, identifier.statement) == ("算力标识", "86.1", made.payload_sha256)
