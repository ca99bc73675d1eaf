"""The rules of trust, as a table: who signs what, for which centre, at which time."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
import pytest

from bench.errors import RefusedError
from certify.documents import dsse
from certify.documents import kinds as documents
from certify.documents.caps import Caps
from certify.documents.kinds import DOCUMENTS
from certify.keys import signers
from certify.trust.revocations import Revocations
from certify.trust.root import accept, read_root
from certify.trust.trusted_set import TrustedSet, TrustRoot
from tests.certify.signed import AFTER, BEFORE, CENTRE, NOW, Cast, b64, sha

CAST = Cast()
LATER = "2030-01-01T00:00:00.000000Z"
EARLIER = "2020-01-01T00:00:00.000000Z"
JUST_BEFORE_EXPIRY = "2026-12-31T23:59:59.999999Z"


class Case(NamedTuple):
    document: str
    signed_by: tuple[str, ...]
    code: str | None  # None: accepted
    centre: str | None = CENTRE
    at: str = NOW
    revoked: tuple[str, ...] = ()
    counted: tuple[str, ...] | None = None  # where not all signers count


CASES = {
    "both operators": Case("capacity-statement", ("operator1", "operator2"), None),
    "campaign": Case("campaign", ("operator1", "operator2"), None),
    "baseline": Case("baseline", ("operator1", "operator2"), None),
    "operator of another centre, for it": Case("campaign", ("other",), None, centre="wh-centre"),
    "witness, for any centre": Case("witness", ("witness",), None, centre="wh-centre"),
    "enrolled node": Case("node-record", ("node",), None),
    "enrolled node, alive": Case("heartbeat", ("node",), None),
    "registry, for any centre": Case("receipt", ("registry",), None, centre="wh-centre"),
    "two of three roots": Case("revocations", ("root1", "root3"), None, centre=None),
    "first valid moment": Case("witness", ("witness",), None, at=BEFORE),
    "last valid moment": Case("witness", ("witness",), None, at=JUST_BEFORE_EXPIRY),
    "one root of three revoked": Case(
        "revocations", ("root1", "root2", "root3"), None, centre=None, revoked=("root2",), counted=("root1", "root3")
    ),
    "operators bring evidence": Case("evidence", ("operator1", "operator2"), None),
    "node brings evidence": Case("evidence", ("node",), "role-not-allowed"),
    "witness brings what says that an operator does": Case("evidence", ("witness",), "role-differs"),
    "nobody": Case("campaign", (), "key-not-trusted"),
    "somebody unknown": Case("campaign", ("outsider",), "key-not-trusted"),
    "one operator of two": Case("capacity-statement", ("operator1",), "threshold-not-met"),
    "one operator and somebody unknown": Case("campaign", ("operator1", "outsider"), "threshold-not-met"),
    "one root of two": Case("revocations", ("root2",), "threshold-not-met", centre=None),
    "operator signs a record": Case("node-record", ("operator1",), "role-not-allowed"),
    "node signs a statement": Case("capacity-statement", ("node",), "role-not-allowed"),
    "witness signs a statement": Case("capacity-statement", ("witness",), "role-not-allowed"),
    "operator witnesses itself": Case("witness", ("operator1", "operator2"), "role-not-allowed"),
    "registry signs a statement": Case("capacity-statement", ("registry",), "role-not-allowed"),
    "registry witnesses": Case("witness", ("registry",), "role-not-allowed"),
    "registry revokes": Case("revocations", ("registry",), "role-not-allowed", centre=None),
    "registry speaks for a node": Case("heartbeat", ("registry",), "role-not-allowed"),
    "operator receives its own": Case("receipt", ("operator1", "operator2"), "role-not-allowed"),
    "operator speaks for a node": Case("heartbeat", ("operator1",), "role-not-allowed"),
    "witness receives": Case("receipt", ("witness",), "role-not-allowed"),
    "node receives": Case("receipt", ("node",), "role-not-allowed"),
    "registry and operator receive": Case("receipt", ("operator1", "registry"), "role-not-allowed"),
    "somebody unknown receives": Case("receipt", ("outsider",), "key-not-trusted"),
    "root signs a statement": Case("capacity-statement", ("root1", "root2"), "role-not-allowed"),
    "operator revokes": Case("revocations", ("operator1", "operator2"), "role-not-allowed", centre=None),
    "operators and a witness": Case("campaign", ("operator1", "operator2", "witness"), "role-not-allowed"),
    "operators for another centre": Case("campaign", ("operator1", "operator2"), "centre-not-allowed", "wh-centre"),
    "operators for an unknown centre": Case("campaign", ("operator1", "operator2"), "centre-not-allowed", "xx"),
    "operators for no centre": Case("campaign", ("operator1", "operator2"), "centre-not-allowed", None),
    "node alive in another centre": Case("heartbeat", ("node",), "centre-not-allowed", "wh-centre"),
    "node for another centre": Case("node-record", ("node",), "centre-not-allowed", "wh-centre"),
    "operators of two centres": Case("campaign", ("operator1", "operator2", "other"), "centre-not-allowed"),
    "before validity": Case("witness", ("witness",), "key-not-yet-valid", at=EARLIER),
    "at the end of validity": Case("witness", ("witness",), "key-expired", at=AFTER),
    "long after": Case("witness", ("witness",), "key-expired", at=LATER),
    "revoked": Case("witness", ("witness",), "key-revoked", revoked=("witness",)),
    "revoked, before it was": Case("witness", ("witness",), "key-revoked", at=BEFORE, revoked=("witness",)),
    "registry before validity": Case("receipt", ("registry",), "key-not-yet-valid", at=EARLIER),
    "registry at the end of validity": Case("receipt", ("registry",), "key-expired", at=AFTER),
    "registry revoked, before it was": Case("receipt", ("registry",), "key-revoked", at=BEFORE, revoked=("registry",)),
    "revoked and expired": Case("witness", ("witness",), "key-revoked", at=LATER, revoked=("witness",)),
    "one operator revoked": Case("campaign", ("operator1", "operator2"), "key-revoked", revoked=("operator2",)),
    "the other revoked and absent": Case("campaign", ("operator1",), "threshold-not-met", revoked=("operator2",)),
}


def revoking(*entries: Any, **changes: Any) -> Revocations:
    """Return a revocation list of the root."""
    values: dict[str, Any] = {"trust_id": "cn-test", "version": 1, "issued_at": BEFORE, "expires_at": AFTER}
    return Revocations(**{**values, "revocations": entries, "statements": (), **changes})


def ids(*names: str) -> frozenset[str]:
    return frozenset(CAST.ids[name] for name in names)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("later", [False, True], ids=["revoked in the root", "revoked later"])
def test_who_may_sign_what(name: str, later: bool) -> None:
    case = CASES[name]
    revocations = CAST.revoked(*case.revoked)
    trusted = CAST.trusted(revocations=() if later else revocations)
    trusted = trusted.with_revocations(revoking(*revocations)) if later else trusted
    signed = ids(*case.signed_by)
    if case.code is None:
        counted = signed if case.counted is None else ids(*case.counted)
        assert trusted.check(case.document, signed, case.centre, case.at) == counted
    else:
        with pytest.raises(RefusedError) as refused:
            trusted.check(case.document, signed, case.centre, case.at, "a file")
        assert refused.value.code == case.code
        assert str(refused.value).startswith("a file: ")


def test_every_document_has_its_role_tried() -> None:
    assert {case.document for case in CASES.values()} == DOCUMENTS.keys() - {"trust-root"}


def test_a_revocation_is_never_undone() -> None:
    first = CAST.revoked("witness")
    again = (msgspec.structs.replace(first[0], reason="a mistake"),)
    trusted = CAST.trusted(revocations=first).with_revocations(revoking(*again)).with_revocations(revoking())
    assert trusted.revoked[CAST.ids["witness"]].reason == "stolen"


def test_record_keys() -> None:
    trusted = CAST.trusted(revocations=CAST.revoked("outsider"))
    assert trusted.check_record_key(CAST.ids["node"], CENTRE, NOW)
    assert not trusted.check_record_key(sha("nobody knows it"), CENTRE, NOW)
    for name, code in (("outsider", "key-revoked"), ("operator1", "role-not-allowed"), ("root1", "role-not-allowed")):
        with pytest.raises(RefusedError) as refused:
            trusted.check_record_key(CAST.ids[name], CENTRE, NOW)
        assert refused.value.code == code


def test_a_single_key_has_one_role_for_any_centre_and_time() -> None:
    trusted = TrustedSet.single(CAST["outsider"].public)
    signed = ids("outsider")
    assert trusted.level == "signature"
    assert trusted.role_of(CAST.ids["outsider"]) == "operator"
    for centre, at in ((CENTRE, NOW), (None, EARLIER), ("wh-centre", LATER)):
        assert trusted.check("capacity-statement", signed, centre, at) == signed
    for document in ("node-record", "witness", "receipt", "heartbeat", "trust-root", "revocations"):
        with pytest.raises(RefusedError) as refused:
            trusted.check(document, signed, None, NOW)
        assert refused.value.code == "role-not-allowed"


INCONSISTENT: dict[str, dict[str, Any]] = {
    "expires before it is issued": {"issued_at": AFTER, "expires_at": BEFORE},
    "expires as it is issued": {"issued_at": NOW, "expires_at": NOW},
    "reversed validity": {"keys": {**CAST.root().keys, CAST.ids["node"]: CAST.entry("node", AFTER, BEFORE)}},
    "unlisted key": {"keys": {k: v for k, v in CAST.root().keys.items() if k != CAST.ids["witness"]}},
    "one key in two roles": {"roles": (*CAST.root().roles[:-1], CAST.holds("registry", "registry", "operator1"))},
    "one key for two centres in two entries": {
        "roles": (*CAST.root().roles, CAST.holds("operator", "operator1", centres=("sz",)))
    },
    "one key twice in a role": {"roles": (CAST.holds("root", "root1", "root1", threshold=2),)},
    "threshold above the keys": {"roles": (CAST.holds("root", "root1", "root2", threshold=3),)},
    "no root": {"roles": CAST.root().roles[1:]},
    "two roots": {"roles": (CAST.holds("root", "root1"), CAST.holds("root", "root2"))},
    "two entries for one centre": {
        "roles": (
            CAST.holds("root", "root1"),
            CAST.holds("operator", "operator1", centres=(CENTRE,)),
            CAST.holds("operator", "other", centres=("wh-centre", CENTRE)),
        )
    },
    "one centre twice": {
        "roles": (CAST.holds("root", "root1"), CAST.holds("operator", "other", centres=(CENTRE, CENTRE)))
    },
    "operator of every centre": {"roles": (CAST.holds("root", "root1"), CAST.holds("operator", "operator1"))},
    "node of every centre": {"roles": (CAST.holds("root", "root1"), CAST.holds("node", "node"))},
    "registry of one centre": {
        "roles": (CAST.holds("root", "root1"), CAST.holds("registry", "registry", centres=(CENTRE,)))
    },
    "root of one centre": {"roles": (CAST.holds("root", "root1", centres=(CENTRE,)),)},
    "key revoked twice": {"revocations": CAST.revoked("node", "node")},
}


@pytest.mark.parametrize("name", INCONSISTENT)
def test_an_inconsistent_root_cannot_be_made(name: str) -> None:
    with pytest.raises(RefusedError) as refused:
        CAST.root(**INCONSISTENT[name])
    assert refused.value.code == "trust-root-invalid"


def weak_root(spki: bytes) -> TrustRoot:
    entry = msgspec.structs.replace(CAST.entry("node"), spki=b64(spki))
    return CAST.root(keys={**CAST.root().keys, signers.keyid(spki): entry})


@pytest.mark.parametrize(
    ("root", "code"),
    [
        (CAST.root(keys={**CAST.root().keys, sha("another id"): CAST.entry("node")}), "trust-root-invalid"),
        (
            CAST.root(
                keys={
                    **CAST.root().keys,
                    CAST.ids["node"]: msgspec.structs.replace(CAST.entry("node"), scheme="sm2-sm3"),
                }
            ),
            "trust-root-invalid",
        ),
        (weak_root(bytes.fromhex("302a300506032b6570032100") + b"\x01" + bytes(31)), "key-weak"),
        (weak_root(bytes.fromhex("302a300506032b6570032100") + b"\x02" + bytes(31)), "key-weak"),
        (weak_root(b"\x30\x00"), "key-unsupported"),
    ],
)
def test_a_root_with_a_bad_key(root: TrustRoot, code: str) -> None:
    with pytest.raises(RefusedError) as refused:
        TrustedSet.from_root(root, "a file")
    assert (refused.value.code, refused.value.where) == (code, "a file")


def signed_root(*signed_by: str, **changes: Any) -> bytes:
    payload = documents.make_document("trust-root", CAST.root(**changes))
    return dsse.seal(payload, documents.PAYLOAD_TYPE, [CAST[name] for name in signed_by])


def load_trust_root(content: bytes, now: str, where: object = None) -> tuple[TrustRoot, TrustedSet]:
    """Accept a root whose fingerprint is known."""
    root = read_root(content, where)
    accepted = accept([root], None, root.fingerprint, now, [where])
    return accepted.root, accepted.trusted


def test_a_root_is_loaded_and_signed_by_its_own_threshold() -> None:
    root, trusted = load_trust_root(signed_root("root1", "root3"), NOW)
    assert root == CAST.root()
    assert trusted.level == "trusted"
    assert trusted.role_of(CAST.ids["operator2"]) == "operator"
    assert trusted.keys.keys() == root.keys.keys()


@pytest.mark.parametrize(
    ("content", "now", "code"),
    [
        (signed_root("root1"), NOW, "trust-root-signatures"),
        (signed_root("operator1", "operator2"), NOW, "trust-root-signatures"),
        (signed_root("outsider"), NOW, "trust-root-signatures"),
        (signed_root("root1", "operator1"), NOW, "trust-root-signatures"),
        (signed_root("root1", "root2", revocations=CAST.revoked("root2")), NOW, "trust-root-signatures"),
        (
            signed_root(
                "root1",
                "root2",
                keys={
                    **CAST.root().keys,
                    CAST.ids["root2"]: CAST.entry("root2", BEFORE, "2026-02-01T00:00:00.000000Z"),
                },
            ),
            NOW,
            "trust-root-signatures",
        ),
        (signed_root("root1", "root2", expires_at=NOW), NOW, "trust-root-expired"),
        (signed_root("root1", "root2", issued_at="2026-06-01T00:00:00.000000Z"), NOW, "trust-root-not-yet-valid"),
        (signed_root("root1", "root2").replace(b'"payload":"e', b'"payload":"f'), NOW, "json-invalid"),
    ],
)
def test_a_root_that_is_refused(content: bytes, now: str, code: str) -> None:
    with pytest.raises(RefusedError) as refused:
        load_trust_root(content, now, "a file")
    assert refused.value.code == code


def test_a_root_under_another_payload_type() -> None:
    payload = documents.make_document("trust-root", CAST.root())
    content = dsse.seal(payload, "application/json", [CAST["root1"], CAST["root2"]])
    with pytest.raises(RefusedError) as refused:
        load_trust_root(content, NOW)
    assert refused.value.code == "payload-type-wrong"


def test_a_root_of_too_many_keys() -> None:
    root = CAST.root()
    TrustedSet.from_root(root, caps=Caps(trust_keys=len(root.keys)))
    with pytest.raises(RefusedError) as refused:
        TrustedSet.from_root(root, caps=Caps(trust_keys=len(root.keys) - 1))
    assert refused.value.code == "trust-root-invalid"


def test_a_root_edited_after_it_was_signed() -> None:
    mine = dsse.parse_envelope(signed_root("root1", "root2"), 2**20)
    other = documents.make_document("trust-root", CAST.root(version=2))
    forged = msgspec.json.encode(msgspec.structs.replace(mine, payload=other), order="sorted")
    with pytest.raises(RefusedError) as refused:
        load_trust_root(forged, NOW)
    assert refused.value.code == "signature-invalid"
