"""The table of documents: each is made and opened with its own types, subject and signer, and with no other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import msgspec
import pytest

from bench.errors import RefusedError
from bench.record import Tool, digest
from certify.documents import kinds as documents
from certify.documents.caps import CAPS, Caps
from certify.documents.kinds import DOCUMENTS, Baseline, BaselineDevice, Witness
from certify.trust.opening import Verifier
from certify.trust.revocations import Revocations
from certify.trust.trusted_set import TrustedSet
from tests.certify.signed import (
    AFTER,
    BEFORE,
    CENTRE,
    NOW,
    Cast,
    campaign,
    evidence,
    heartbeat,
    new_key,
    receipt,
    record,
    sealed,
    sha,
)

CAST = Cast()
DEVICE = BaselineDevice(uuid="gpu-1a2b3c", serial=None, die_id=None)
MADE: dict[str, tuple[Any, str | None, tuple[str, ...]]] = {  # predicate, subject digest, who signs
    "campaign": (campaign(), None, ("operator1", "operator2")),
    "baseline": (
        Baseline(centre_id=CENTRE, taken_at=BEFORE, devices=(DEVICE,)),
        None,
        ("operator1", "operator2"),
    ),
    "witness": (
        Witness(
            centre_id=CENTRE,
            witnessed_at=NOW,
            level="recomputed",
            checks=("signatures", "totals"),
            tool=Tool(version="0.1.0", sha256=sha("tool")),
        ),
        sha("statement"),
        ("witness",),
    ),
    "revocations": (
        Revocations(
            trust_id="cn-test",
            version=1,
            issued_at=BEFORE,
            expires_at=AFTER,
            revocations=CAST.revoked("node"),
            statements=(),
        ),
        None,
        ("root1", "root2"),
    ),
    "node-record": (record(CAST["node"]), sha("samples"), ("node",)),
    "evidence": (evidence(), sha("output"), ("operator1", "operator2")),
    "receipt": (receipt(), sha("statement"), ("registry",)),
    "heartbeat": (heartbeat(CAST["node"]), None, ("node",)),
}


def refusal(act: Callable[[], object]) -> str:
    with pytest.raises(RefusedError) as refused:
        act()
    return refused.value.code


def open_made(name: str, as_name: str | None = None) -> documents.OpenedDocument[Any]:
    predicate, subject, signed_by = MADE[name]
    content = sealed(documents.make_document(name, predicate, subject), *(CAST[who] for who in signed_by))
    return Verifier(CAST.trusted(), NOW).open(as_name or name, content, "a file")


@pytest.mark.parametrize("name", MADE)
def test_a_document_is_opened_as_it_was_made(name: str) -> None:
    opened = open_made(name)
    predicate, subject, signed_by = MADE[name]
    assert opened.predicate == predicate
    assert opened.subject_digest == (subject or digest(predicate))
    assert opened.signers == {CAST.ids[who] for who in signed_by}
    assert not opened.self_asserted


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("as_name", MADE)
def test_a_document_is_no_other(name: str, as_name: str) -> None:
    if name != as_name:
        assert refusal(lambda: open_made(name, as_name)) == "predicate-type-wrong"


def test_the_table() -> None:
    assert len({kind.predicate_type for kind in DOCUMENTS.values()}) == len(DOCUMENTS)
    for name, kind in DOCUMENTS.items():
        assert kind.predicate_type.startswith(f"urn:petaseal:{name}/v0.")
        assert kind.cap in {field.name for field in fields(Caps)}
        struct = documents.predicate_type_of(name)
        assert issubclass(struct, msgspec.Struct)
        assert struct.__struct_config__.forbid_unknown_fields
        assert struct.__struct_config__.frozen
        if kind.centre and "." not in kind.centre:
            assert kind.centre in struct.__struct_fields__


def payload_with(name: str, **changes: Any) -> bytes:
    """Return a payload whose statement says something else than the table."""
    predicate, subject, _ = MADE[name]
    statement = msgspec.json.decode(documents.make_document(name, predicate, subject))
    return msgspec.json.encode({**statement, **changes}, order="sorted")


WRONG: dict[str, tuple[str, dict[str, Any], str]] = {
    "old statement type": ("campaign", {"_type": "https://in-toto.io/Statement/v0.1"}, "statement-type-wrong"),
    "next version": ("campaign", {"predicateType": "urn:petaseal:campaign/v0.3"}, "predicate-type-wrong"),
    "withdrawn version": ("campaign", {"predicateType": "urn:petaseal:campaign/v0.1"}, "format-withdrawn"),
    "withdrawn version of another document": (
        "campaign",
        {"predicateType": "urn:petaseal:witness/v0.1", "predicate": {}},
        "format-withdrawn",
    ),
    "withdrawn version of an unknown document": (
        "campaign",
        {"predicateType": "urn:petaseal:evidence/v0.1"},
        "predicate-type-wrong",
    ),
    "withdrawn version of another statement type": (
        "campaign",
        {"_type": "https://in-toto.io/Statement/v0.1", "predicateType": "urn:petaseal:campaign/v0.1"},
        "statement-type-wrong",
    ),
    "version in capitals": ("campaign", {"predicateType": "urn:petaseal:campaign/V0.2"}, "predicate-type-wrong"),
    "no subject": ("campaign", {"subject": []}, "schema-invalid"),
    "two subjects": (
        "node-record",
        {"subject": [{"name": "node-1.samples.csv.gz", "digest": {"sha256": sha("samples")}}] * 2},
        "schema-invalid",
    ),
    "subject of another node": (
        "node-record",
        {"subject": [{"name": "node-2.samples.csv.gz", "digest": {"sha256": sha("samples")}}]},
        "subject-wrong",
    ),
    "subject with a path": (
        "node-record",
        {"subject": [{"name": "../node-1.samples.csv.gz", "digest": {"sha256": sha("samples")}}]},
        "subject-wrong",
    ),
    "subject without a digest": (
        "node-record",
        {"subject": [{"name": "node-1.samples.csv.gz", "digest": {}}]},
        "subject-wrong",
    ),
    "subject with another digest": (
        "node-record",
        {"subject": [{"name": "node-1.samples.csv.gz", "digest": {"rfc6962-sha256": sha("samples")}}]},
        "subject-wrong",
    ),
    "subject with both digests": (
        "node-record",
        {
            "subject": [
                {
                    "name": "node-1.samples.csv.gz",
                    "digest": {"rfc6962-sha256": sha("samples"), "sha256": sha("samples")},
                }
            ]
        },
        "subject-wrong",
    ),
    "subject with an unknown digest": (
        "node-record",
        {"subject": [{"name": "node-1.samples.csv.gz", "digest": {"md5": sha("samples")}}]},
        "schema-invalid",
    ),
    "digest of another predicate": (
        "campaign",
        {"subject": [{"name": "c-2026-03.campaign.json", "digest": {"sha256": sha("another")}}]},
        "subject-wrong",
    ),
    "predicate of another type": ("campaign", {"predicate": {}}, "schema-invalid"),
    "another document": (
        "campaign",
        {"predicateType": "urn:petaseal:baseline/v0.2", "predicate": {}},
        "predicate-type-wrong",
    ),
    "statement with a further field": ("campaign", {"extra": 1}, "schema-invalid"),
    "heartbeat of another node": (
        "heartbeat",
        {"subject": [{"name": "node-2.heartbeat.json", "digest": {"sha256": digest(heartbeat(CAST["node"]))}}]},
        "subject-wrong",
    ),
    "receipt of a file of another name": (
        "receipt",
        {"subject": [{"name": "statement.dsse.json", "digest": {"sha256": sha("statement")}}]},
        "subject-wrong",
    ),
    "receipt of a Merkle root": (
        "receipt",
        {"subject": [{"name": "statement.json", "digest": {"rfc6962-sha256": sha("statement")}}]},
        "subject-wrong",
    ),
    **{
        f"receipt that is {' and '.join(f'{key} {value}' for key, value in changes.items())}": (
            "receipt",
            {"predicate": {**msgspec.to_builtins(receipt()), **changes}},
            "schema-invalid",
        )
        for changes in (
            {"code": "expired"},
            {"level": None},
            {"level": "certain"},
            {"decision": "refused"},
            {"decision": "refused", "code": "expired"},
            {"decision": "refused", "level": None},
            {"decision": "perhaps"},
            {"decision": "accepted", "code": "expired", "level": None},
            {"centre_id": None},
        )
    },
    "empty baseline": (
        "baseline",
        {"predicate": {"centre_id": CENTRE, "devices": [], "taken_at": BEFORE}},
        "baseline-empty",
    ),
    "baseline device without identity": (
        "baseline",
        {
            "predicate": {
                "centre_id": CENTRE,
                "devices": [{"die_id": None, "serial": None, "uuid": None}],
                "taken_at": BEFORE,
            }
        },
        "baseline-device-without-identity",
    ),
    "baseline device with a placeholder": (
        "baseline",
        {
            "predicate": {
                "centre_id": CENTRE,
                "devices": [{"die_id": None, "serial": "n/a", "uuid": "gpu-1a2b3c"}],
                "taken_at": BEFORE,
            }
        },
        "schema-invalid",
    ),
    "baseline device in capitals": (
        "baseline",
        {
            "predicate": {
                "centre_id": CENTRE,
                "devices": [{"die_id": None, "serial": None, "uuid": "GPU-1"}],
                "taken_at": BEFORE,
            }
        },
        "schema-invalid",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_statement_that_the_table_does_not_know(case: str) -> None:
    name, changes, code = WRONG[case]
    _, _, signed_by = MADE[name]
    content = sealed(payload_with(name, **changes), *(CAST[who] for who in signed_by))
    assert refusal(lambda: Verifier(CAST.trusted(), NOW).open(name, content, "a file")) == code


def test_what_a_verifier_would_refuse_is_not_made() -> None:
    assert refusal(lambda: documents.make_document("campaign", campaign(issued_at="2026-13-01"))) == "time-invalid"
    bad = record(CAST["node"], rules="a\u200bb")
    assert refusal(lambda: documents.make_document("node-record", bad, sha(""))) == "text-forbidden-character"
    assert refusal(lambda: documents.make_document("node-record", bad, "not hex")) == "schema-invalid"
    with pytest.raises(ValueError):
        documents.make_document("campaign", campaign(), sha("it has its own"))
    with pytest.raises(ValueError):
        documents.make_document("node-record", record(CAST["node"]))


def test_a_record_is_opened_under_the_key_that_it_names() -> None:
    stranger = new_key()
    payload = documents.make_document("node-record", record(stranger), sha("samples"))
    opened = Verifier(CAST.trusted(), NOW).record(sealed(payload, stranger))
    assert opened.self_asserted
    assert opened.signers == {stranger.public.keyid}
    assert (opened.payload, opened.subject_digest) == (payload, sha("samples"))
    enrolled = documents.make_document("node-record", record(CAST["node"]), sha("samples"))
    assert not Verifier(CAST.trusted(), NOW).record(sealed(enrolled, CAST["node"])).self_asserted


def test_records_by_the_wrong_key() -> None:
    stranger, other = new_key(), new_key()
    operator = TrustedSet.single(CAST["outsider"].public)

    def opened(named: Any, *signed_by: Any, trust: TrustedSet | None = None, **changes: Any) -> str:
        payload = documents.make_document("node-record", record(named, **changes), sha("samples"))
        return refusal(lambda: Verifier(trust or CAST.trusted(), NOW).record(sealed(payload, *signed_by)))

    assert opened(stranger, other) == "signer-mismatch"
    assert opened(stranger, stranger, other) == "signer-mismatch"
    assert opened(stranger, CAST["operator1"]) == "signer-mismatch"
    assert opened(CAST["operator1"], CAST["operator1"]) == "role-not-allowed"
    assert opened(CAST["outsider"], CAST["outsider"], trust=operator) == "role-not-allowed"
    assert opened(CAST["node"], CAST["node"], centre_id="wh-centre") == "centre-not-allowed"
    revoked = CAST.trusted(revocations=CAST.revoked("node", "outsider"))
    assert opened(CAST["node"], CAST["node"], trust=revoked) == "key-revoked"
    assert opened(CAST["outsider"], CAST["outsider"], trust=revoked) == "key-revoked"


@pytest.mark.parametrize(
    ("spki", "code"),
    [
        ("", "base64-not-canonical"),
        ("!", "base64-not-canonical"),
        ("AAAA", "key-unsupported"),
        ("AAA", "base64-not-canonical"),
        ("AAB=", "base64-not-canonical"),
        ("é", "base64-not-canonical"),
        ("MCowBQYDK2VwAyEAAQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "key-weak"),
    ],
)
def test_a_record_that_names_no_key(spki: str, code: str) -> None:
    key = new_key()
    payload = documents.make_document("node-record", record(key, signer_spki=spki), sha("samples"))
    assert refusal(lambda: Verifier(CAST.trusted(), NOW).record(sealed(payload, key))) == code


def test_centres() -> None:
    assert documents.centre_of("campaign", campaign()) == CENTRE
    assert documents.centre_of("revocations", None) is None


def test_a_document_of_full_size_but_one_byte_is_too_large() -> None:
    content = b" " * (CAPS.witness_bytes + 1)
    assert refusal(lambda: Verifier(CAST.trusted(), NOW).open("witness", content)) == "document-too-large"
