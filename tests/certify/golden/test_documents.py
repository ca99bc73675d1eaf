"""One of every signed document in every algorithm, as of the format's version.

v0.2 is a draft: until the format is declared complete a change of it remakes these files, and never after. An older
version's files are not kept: their documents are refused by name (docs/formats.md).

    .venv/bin/python -m tests.certify.golden.test_documents
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from certify.documents import dsse
from certify.documents import kinds as documents
from certify.documents.kinds import DOCUMENTS
from certify.keys.signers import SIGNERS, PrivateKey, load_scheme
from certify.trust.opening import Verifier
from certify.trust.root import accept, open_revocations, read_root
from certify.trust.trusted_set import TrustedSet
from tests.certify.documents.test_kinds import MADE
from tests.certify.golden.test_golden import HERE as STATEMENT
from tests.certify.signed import CENTRE, NOW, Cast, heartbeat, record

VERSION = "v0.2"
HERE = Path(__file__).resolve().parent
SCHEMES = {name.partition("-")[0]: name for name in SIGNERS}
ROOT = "trust-root"
NAMES = sorted(DOCUMENTS.keys() - {ROOT})
AT_ITS_TIME = {"capacity-statement": "2026-03-02T08:00:00.000000Z"}


def folder(scheme: str) -> Path:
    return HERE / VERSION / scheme


def files(scheme: str) -> list[Path]:
    """Return every golden document of an algorithm."""
    return sorted(folder(scheme).glob("*.dsse.json"))


def trusted(scheme: str) -> TrustedSet:
    """Accept the root by the fingerprint that was told when it was made."""
    root = read_root((folder(scheme) / f"{ROOT}.dsse.json").read_bytes())
    told = (folder(scheme) / "fingerprint.txt").read_text().strip()
    accepted = accept([root], None, told, NOW)
    listed = open_revocations((folder(scheme) / "revocations.dsse.json").read_bytes(), accepted)
    assert len(listed.revocations) == 1
    return accepted.trusted


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", NAMES)
def test_every_document_is_still_accepted(scheme: str, name: str) -> None:
    content, trust = (folder(scheme) / f"{name}.dsse.json").read_bytes(), trusted(scheme)
    opened: documents.OpenedDocument[Any]
    if name in ("node-record", "heartbeat"):
        opened = Verifier(trust, NOW).node_document(name, content)
        assert not opened.self_asserted
    else:
        opened = Verifier(trust, AT_ITS_TIME.get(name, NOW)).open(name, content)
    predicate_type = json.loads(opened.payload)["predicateType"]
    assert predicate_type == f"urn:petaseal:{name}/{VERSION}"
    assert {trust.keys[keyid].scheme for keyid in opened.signers} == {SCHEMES[scheme]}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_last_byte_of_every_signature_matters(scheme: str) -> None:
    trust = trusted(scheme)
    for name in NAMES:
        envelope = dsse.parse_envelope((folder(scheme) / f"{name}.dsse.json").read_bytes(), 2**24)
        for signature in envelope.signatures:
            key = trust.keys[signature.keyid]
            message = dsse.pae(envelope.payload_type, envelope.payload)
            assert key.verify(signature.sig, message)
            assert not key.verify(signature.sig[:-1] + bytes([signature.sig[-1] ^ 1]), message)


def test_nothing_is_missing_and_nothing_else_lies_here() -> None:
    assert [path.name for path in HERE.glob("v*")] == [VERSION]
    assert {path.name for path in (HERE / VERSION).iterdir()} == SCHEMES.keys()
    for scheme in SCHEMES:
        lying = {f"{name}.dsse.json" for name in DOCUMENTS} | {"fingerprint.txt"}
        assert {path.name for path in folder(scheme).iterdir()} == lying


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
    shutil.rmtree(folder(scheme), ignore_errors=True)
    folder(scheme).mkdir(parents=True)
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
    for name in NAMES:
        predicate, subject, signed_by = made.get(name, (None, None, ("operator1", "operator2")))
        payload = documents.make_document(name, predicate, subject) if predicate else statement.payload
        sealed[name] = dsse.seal(payload, documents.PAYLOAD_TYPE, [cast[who] for who in signed_by])
    payload = documents.make_document(ROOT, root)
    sealed[ROOT] = dsse.seal(payload, documents.PAYLOAD_TYPE, [cast["root1"], cast["root2"]])
    for name, content in sealed.items():
        (folder(scheme) / f"{name}.dsse.json").write_bytes(content)
    (folder(scheme) / "fingerprint.txt").write_text(f"{read_root(sealed[ROOT]).fingerprint}\n")


if __name__ == "__main__":
    for made_in in SCHEMES:
        remake(made_in)
