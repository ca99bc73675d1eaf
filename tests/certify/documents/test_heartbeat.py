"""Heartbeats: a node's word that it is there, under its own key and the registry's nonce, and every forgery of one."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from bench.errors import RefusedError
from certify.documents import kinds as documents
from certify.documents.caps import CAPS
from certify.documents.kinds import PAYLOAD_TYPE, make_document
from certify.keys.signers import PrivateKey
from certify.trust.opening import Verifier
from certify.trust.trusted_set import TrustedSet
from tests.certify import signed
from tests.certify.attacks import canonical
from tests.certify.signed import AFTER, NOW, Cast, b64, envelope, new_key, rewritten, sealed, sha

CAST, STRANGER = Cast(), new_key()
NODE, TRUST = CAST["node"], CAST.trusted()


def payload(key: PrivateKey = NODE, **changes: Any) -> bytes:
    return make_document("heartbeat", signed.heartbeat(key, **changes))


def beat(key: PrivateKey = NODE, **changes: Any) -> bytes:
    """Return a heartbeat that the key it names has signed."""
    return sealed(payload(key, **changes), key)


def replayed(**changes: Any) -> bytes:
    """Return the node's signature over another payload than the one that it signed."""
    value = envelope(beat())
    value["payload"] = b64(payload(**changes))
    return rewritten(value)


def bent(change: Callable[[dict[str, Any]], object], place: str | None = "predicate") -> bytes:
    """Return a heartbeat whose payload was changed before the node itself signed it."""
    value = json.loads(payload())
    change(value if place is None else value[place])
    return sealed(canonical(value), NODE)


RECORD = sealed(signed.record_payload(NODE), NODE)
# The file, and the code that it is refused with. Where the node itself signed, it is the liar.
ATTACKS: dict[str, tuple[bytes, str]] = {
    "by another key than it names": (sealed(payload(), STRANGER), "signer-mismatch"),
    "by another key too": (sealed(payload(), NODE, STRANGER), "signer-mismatch"),
    "by the operator for its node": (sealed(payload(), CAST["operator1"]), "signer-mismatch"),
    "naming another's key": (sealed(payload(STRANGER), NODE), "signer-mismatch"),
    "by the operator": (beat(CAST["operator1"]), "role-not-allowed"),
    "by the registry itself": (beat(CAST["registry"]), "role-not-allowed"),
    "by a witness": (beat(CAST["witness"]), "role-not-allowed"),
    "by a keeper of the root": (beat(CAST["root1"]), "role-not-allowed"),
    "for another centre": (beat(centre_id="wh-centre"), "centre-not-allowed"),
    "an old signature under a new nonce": (replayed(nonce=sha("another nonce")), "signature-invalid"),
    "an old signature at a new time": (replayed(sent_at=AFTER), "signature-invalid"),
    "another node's name under the signature": (replayed(node_id="node-2"), "signature-invalid"),
    "other devices under the signature": (replayed(devices_sha256=sha("more devices")), "signature-invalid"),
    "a record of the node": (RECORD, "predicate-type-wrong"),
    "a campaign": (sealed(make_document("campaign", signed.campaign()), NODE), "predicate-type-wrong"),
    "a receipt": (sealed(make_document("receipt", signed.receipt(), sha("x")), NODE), "predicate-type-wrong"),
    "of the next version": (
        bent(lambda v: v.update(predicateType="urn:petaseal:heartbeat/v0.3"), None),
        "predicate-type-wrong",
    ),
    "of another type of payload": (sealed(payload(), NODE, payload_type="text/plain"), "payload-type-wrong"),
    "of another payload's kind": (sealed(payload(), NODE, payload_type=f"{PAYLOAD_TYPE} "), "payload-type-wrong"),
    "with another node's subject": (
        bent(lambda v: v["subject"][0].update(name="node-2.heartbeat.json"), None),
        "subject-wrong",
    ),
    "with another node inside": (bent(lambda v: v.update(node_id="node-2")), "subject-wrong"),
    "with another nonce than its digest's": (bent(lambda v: v.update(nonce=sha("another"))), "subject-wrong"),
    "without a nonce": (bent(lambda v: v.pop("nonce")), "schema-invalid"),
    "with an empty nonce": (bent(lambda v: v.update(nonce="")), "schema-invalid"),
    "with a short nonce": (bent(lambda v: v.update(nonce="ab" * 16)), "schema-invalid"),
    "with a nonce in capitals": (bent(lambda v: v.update(nonce="AB" * 32)), "schema-invalid"),
    "with two nonces": (
        sealed(payload().replace(b'"nonce":', b'"nonce":"","nonce":'), NODE),
        "schema-invalid",
    ),
    "with one nonce twice": (
        sealed(payload().replace(b'"nonce":', f'"nonce":"{sha("nonce")}","nonce":'.encode()), NODE),
        "not-canonical",
    ),
    "with a field that nobody knows": (bent(lambda v: v.update(capacity_mflop_s=1)), "schema-invalid"),
    "without devices": (bent(lambda v: v.update(devices_sha256=None)), "schema-invalid"),
    "at no time": (bent(lambda v: v.update(sent_at=None)), "schema-invalid"),
    "at a time in another spelling": (bent(lambda v: v.update(sent_at="2026-03-01T12:00:00Z")), "time-invalid"),
    "from a node with a path for a name": (bent(lambda v: v.update(node_id="../node-1")), "schema-invalid"),
    "naming no key": (bent(lambda v: v.update(signer_spki="")), "schema-invalid"),
    "with a digest of nothing": (bent(lambda v: v["subject"][0].update(digest={}), None), "subject-wrong"),
    "signed by nobody": (rewritten({**envelope(beat()), "signatures": []}), "signature-missing"),
    "too large": (beat() + b" " * CAPS.witness_bytes, "document-too-large"),
    "not JSON": (b"\xff", "json-invalid"),
}


def opened(content: bytes, trust: TrustedSet = TRUST, at: str = NOW) -> documents.OpenedDocument[Any]:
    return Verifier(trust, at).node_document("heartbeat", content, "a file")


def refusal(act: Callable[[], object]) -> str:
    with pytest.raises(RefusedError) as refused:
        act()
    assert str(refused.value).isprintable()
    return refused.value.code


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack(name: str) -> None:
    content, expected = ATTACKS[name]
    assert content != beat()
    assert refusal(lambda: opened(content)) == expected


def test_a_node_that_is_enrolled_and_one_that_nobody_knows() -> None:
    enrolled, stranger = opened(beat()), opened(beat(STRANGER))
    assert (enrolled.self_asserted, stranger.self_asserted) == (False, True)
    assert enrolled.signers == {CAST.ids["node"]}
    assert stranger.signers == {STRANGER.public.keyid}
    assert enrolled.predicate == signed.heartbeat(NODE)
    assert Verifier(TRUST, NOW).open("heartbeat", beat()).predicate == enrolled.predicate
    assert refusal(lambda: Verifier(TRUST, NOW).open("heartbeat", beat(STRANGER))) == "key-not-trusted"


def test_a_stranger_may_say_that_he_is_of_any_centre() -> None:
    """Whether his key is the one of the certified record is the registry's question, not the document's."""
    assert opened(beat(STRANGER, centre_id="wh-centre")).self_asserted


def test_a_heartbeat_is_no_record() -> None:
    assert refusal(lambda: Verifier(TRUST, NOW).record(beat())) == "predicate-type-wrong"


@pytest.mark.parametrize(
    ("key", "at", "expected"),
    [
        (NODE, "2025-12-31T23:59:59.999999Z", "key-not-yet-valid"),
        (NODE, AFTER, "key-expired"),
    ],
)
def test_an_enrolled_key_at_another_time(key: PrivateKey, at: str, expected: str) -> None:
    assert refusal(lambda: opened(beat(key), at=at)) == expected


@pytest.mark.parametrize("name", ["node", "outsider"])
def test_a_revoked_key(name: str) -> None:
    trust = CAST.trusted(revocations=CAST.revoked(name))
    assert refusal(lambda: opened(beat(CAST[name]), trust)) == "key-revoked"


@pytest.mark.parametrize(
    ("spki", "expected"),
    [
        ("!", "base64-not-canonical"),
        ("AAAA", "key-unsupported"),
        ("MCowBQYDK2VwAyEAAQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "key-weak"),
    ],
)
def test_a_key_that_is_none(spki: str, expected: str) -> None:
    assert refusal(lambda: opened(sealed(payload(signer_spki=spki), NODE))) == expected
