"""One of every signed document in every algorithm, as of v0.1: these files stay verifiable for ever.

A change of a format makes v0.2 beside them; whoever has to remake these has broken what is out there. What came later
lies in a part of its own, with its own trust root. (Before a part was given to anybody:
``.venv/bin/python -m tests.certify.golden.test_documents PART``.)
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from certify.documents import dsse
from certify.documents import kinds as documents
from certify.documents.kinds import DOCUMENTS
from certify.keys.signers import SIGNERS, PrivateKey, load_scheme
from certify.trust.root import accept, open_revocations, read_root
from certify.trust.trusted_set import TrustedSet
from tests.certify.documents.test_kinds import MADE
from tests.certify.golden.test_golden import HERE as STATEMENT
from tests.certify.signed import CENTRE, NOW, Cast, heartbeat, record

HERE = Path(__file__).resolve().parent
SCHEMES = {name.partition("-")[0]: name for name in SIGNERS}
ROOT = "trust-root"
PARTS: dict[str, tuple[str, ...]] = {  # the documents of each, beside a trust root
    "v0.1": ("node-record", "campaign", "capacity-statement", "baseline", "witness", "revocations"),
    "v0.1-registry": ("receipt", "heartbeat"),
}
WHERE = {name: part for part, names in PARTS.items() for name in names}
AT_ITS_TIME = {"capacity-statement": "2026-03-02T08:00:00.000000Z"}


def folder(part: str, scheme: str) -> Path:
    return HERE / part / scheme


def files(scheme: str) -> list[Path]:
    """Return every golden document of an algorithm."""
    return [file for part in PARTS for file in sorted(folder(part, scheme).glob("*.dsse.json"))]


def trusted(part: str, scheme: str) -> TrustedSet:
    """Accept the root by the fingerprint that was told when it was made."""
    root = read_root((folder(part, scheme) / f"{ROOT}.dsse.json").read_bytes())
    told = (folder(part, scheme) / "fingerprint.txt").read_text().strip()
    accepted = accept([root], None, told, NOW)
    if "revocations" in PARTS[part]:
        listed = open_revocations((folder(part, scheme) / "revocations.dsse.json").read_bytes(), accepted)
        assert len(listed.revocations) == 1
    return accepted.trusted


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", sorted(WHERE))
def test_every_document_is_still_accepted(scheme: str, name: str) -> None:
    content = (folder(WHERE[name], scheme) / f"{name}.dsse.json").read_bytes()
    trust = trusted(WHERE[name], scheme)
    opened: documents.Opened[Any]
    if name in ("node-record", "heartbeat"):
        opened = documents.open_own(name, content, trust, NOW)
        assert not opened.self_asserted
    else:
        opened = documents.open_document(name, content, trust, AT_ITS_TIME.get(name, NOW))
    predicate_type = json.loads(opened.payload)["predicateType"]
    assert predicate_type == f"urn:petaseal:{name}/v0.1"
    assert {trust.keys[keyid].scheme for keyid in opened.signers} == {SCHEMES[scheme]}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_last_byte_of_every_signature_matters(scheme: str) -> None:
    for name, part in WHERE.items():
        trust = trusted(part, scheme)
        envelope = dsse.parse_envelope((folder(part, scheme) / f"{name}.dsse.json").read_bytes(), 2**24)
        for signature in envelope.signatures:
            key = trust.keys[signature.keyid]
            message = dsse.pae(envelope.payload_type, envelope.payload)
            assert key.verify(signature.sig, message)
            assert not key.verify(signature.sig[:-1] + bytes([signature.sig[-1] ^ 1]), message)


def test_nothing_is_missing_and_nothing_else_lies_here() -> None:
    assert sorted([*(name for names in PARTS.values() for name in names), ROOT]) == sorted(DOCUMENTS)
    assert {path.name for path in HERE.glob("v*")} == PARTS.keys()
    for part, names in PARTS.items():
        lying = {f"{name}.dsse.json" for name in (*names, ROOT)} | {"fingerprint.txt"}
        assert {path.name for path in (HERE / part).iterdir()} == SCHEMES.keys()
        for scheme in SCHEMES:
            assert {path.name for path in folder(part, scheme).iterdir()} == lying


class Schemed(Cast):
    """The people of the tests, with keys of another algorithm."""

    def __init__(self, scheme: str) -> None:
        super().__init__()
        self.scheme = scheme
        self.private: dict[str, PrivateKey] = {name: load_scheme(scheme).generate() for name in self.private}
        self.ids = {name: key.public.keyid for name, key in self.private.items()}

    def entry(self, name: str, *times: str, **validity: str) -> Any:
        return replace(super().entry(name, *times, **validity), scheme=self.scheme)


def remake(part: str, scheme: str) -> None:
    """Sign one of every document of a part with new keys, which are then thrown away."""
    cast = Schemed(SCHEMES[scheme])
    folder(part, scheme).mkdir(parents=True)  # what is there stays
    roles = list(cast.root().roles)
    statement = dsse.parse_envelope((STATEMENT / "statement.dsse.json").read_bytes(), 2**24)
    root = cast.root(
        roles=tuple(
            replace(held, centre_ids=(CENTRE, "gz-test")) if held.centre_ids == (CENTRE,) else held for held in roles
        ),
        expires_at="2027-01-01T00:00:00.000000Z",
    )
    made = MADE | {
        "node-record": (record(cast["node"]), *MADE["node-record"][1:]),
        "heartbeat": (heartbeat(cast["node"]), *MADE["heartbeat"][1:]),
        "revocations": (
            replace(MADE["revocations"][0], revocations=cast.revoked("outsider")),
            *MADE["revocations"][1:],
        ),
    }
    sealed: dict[str, bytes] = {}
    for name in PARTS[part]:
        predicate, subject, signed_by = made.get(name, (None, None, ("operator1", "operator2")))
        payload = documents.make_document(name, predicate, subject) if predicate else statement.payload
        sealed[name] = dsse.seal(payload, documents.PAYLOAD_TYPE, [cast[who] for who in signed_by])
    payload = documents.make_document(ROOT, root)
    sealed[ROOT] = dsse.seal(payload, documents.PAYLOAD_TYPE, [cast["root1"], cast["root2"]])
    for name, content in sealed.items():
        (folder(part, scheme) / f"{name}.dsse.json").write_bytes(content)
    (folder(part, scheme) / "fingerprint.txt").write_text(f"{read_root(sealed[ROOT]).fingerprint}\n")


if __name__ == "__main__":
    for made_in in SCHEMES:
        remake(sys.argv[1], made_in)
