"""One of every signed document in every algorithm, as of v0.1: these files stay verifiable for ever.

A change of a format makes v0.2 beside them; whoever has to remake these has broken what is out there. (Before v0.1 was
given to anybody: ``.venv/bin/python -m tests.certify.golden.test_documents``.)
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from certify import documents, dsse
from certify.documents import DOCUMENTS
from certify.signers import SIGNERS, PrivateKey, load_scheme
from certify.trust import TrustedSet
from certify.trust_root import accept, open_revocations, read_root
from tests.certify.golden.test_golden import HERE as STATEMENT
from tests.certify.signed import CENTRE, NOW, Cast, record
from tests.certify.test_documents import MADE

HERE = Path(__file__).resolve().parent / "v0.1"
SCHEMES = {name.partition("-")[0]: name for name in SIGNERS}
ROOT = "trust-root"


def folder(scheme: str) -> Path:
    return HERE / scheme


def trusted(scheme: str) -> TrustedSet:
    """Accept the root by the fingerprint that was told when it was made."""
    root = read_root((folder(scheme) / f"{ROOT}.dsse.json").read_bytes())
    told = (folder(scheme) / "fingerprint.txt").read_text().strip()
    accepted = accept([root], None, told, NOW)
    listed = open_revocations((folder(scheme) / "revocations.dsse.json").read_bytes(), accepted)
    assert len(listed.revocations) == 1
    return accepted.trusted


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", sorted(DOCUMENTS.keys() - {ROOT}))
def test_every_document_is_still_accepted(scheme: str, name: str) -> None:
    content = (folder(scheme) / f"{name}.dsse.json").read_bytes()
    trust = trusted(scheme)
    opened: documents.Opened[Any]
    if name == "node-record":
        opened = documents.open_record(content, trust, NOW)
        assert not opened.self_asserted
    elif name == "capacity-statement":
        opened = documents.open_document(name, content, trust, "2026-03-02T08:00:00.000000Z")
    else:
        opened = documents.open_document(name, content, trust, NOW)
    predicate_type = json.loads(opened.payload)["predicateType"]
    assert predicate_type == f"urn:petaseal:{name}/v0.1"
    assert {trust.keys[keyid].scheme for keyid in opened.signers} == {SCHEMES[scheme]}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_last_byte_of_every_signature_matters(scheme: str) -> None:
    trust = trusted(scheme)
    for name in DOCUMENTS.keys() - {ROOT}:
        envelope = dsse.parse_envelope((folder(scheme) / f"{name}.dsse.json").read_bytes(), 2**24)
        for signature in envelope.signatures:
            key = trust.keys[signature.keyid]
            message = dsse.pae(envelope.payload_type, envelope.payload)
            assert key.verify(signature.sig, message)
            assert not key.verify(signature.sig[:-1] + bytes([signature.sig[-1] ^ 1]), message)


def test_nothing_is_missing_and_nothing_else_lies_here() -> None:
    files = {f"{name}.dsse.json" for name in DOCUMENTS} | {"fingerprint.txt"}
    assert {path.name for path in HERE.iterdir()} == SCHEMES.keys()
    for scheme in SCHEMES:
        assert {path.name for path in folder(scheme).iterdir()} == files


class Schemed(Cast):
    """The people of the tests, with keys of another algorithm."""

    def __init__(self, scheme: str) -> None:
        super().__init__()
        self.scheme = scheme
        self.private: dict[str, PrivateKey] = {name: load_scheme(scheme).generate() for name in self.private}
        self.ids = {name: key.public.keyid for name, key in self.private.items()}

    def entry(self, name: str, *times: str, **validity: str) -> Any:
        return replace(super().entry(name, *times, **validity), scheme=self.scheme)


def remake(scheme: str) -> None:
    """Sign one of every document with new keys, which are then thrown away."""
    cast = Schemed(SCHEMES[scheme])
    folder(scheme).mkdir(parents=True, exist_ok=True)
    roles = list(cast.root().roles)
    statement = dsse.parse_envelope((STATEMENT / "statement.dsse.json").read_bytes(), 2**24)
    root = cast.root(
        roles=tuple(
            replace(held, centre_ids=(CENTRE, "gz-test")) if held.centre_ids == (CENTRE,) else held for held in roles
        ),
        expires_at="2027-01-01T00:00:00.000000Z",
    )
    sealed: dict[str, bytes] = {}
    for name, (predicate, subject, signed_by) in MADE.items():
        value = record(cast["node"]) if name == "node-record" else predicate
        value = replace(value, revocations=cast.revoked("outsider")) if name == "revocations" else value
        payload = documents.make_document(name, value, subject)
        sealed[name] = dsse.seal(payload, documents.PAYLOAD_TYPE, [cast[who] for who in signed_by])
    operators = [cast["operator1"], cast["operator2"]]
    sealed["capacity-statement"] = dsse.seal(statement.payload, documents.PAYLOAD_TYPE, operators)
    payload = documents.make_document(ROOT, root)
    sealed[ROOT] = dsse.seal(payload, documents.PAYLOAD_TYPE, [cast["root1"], cast["root2"]])
    for name, content in sealed.items():
        (folder(scheme) / f"{name}.dsse.json").write_bytes(content)
    (folder(scheme) / "fingerprint.txt").write_text(f"{read_root(sealed[ROOT]).fingerprint}\n")


if __name__ == "__main__":
    for made in SCHEMES:
        remake(made)
