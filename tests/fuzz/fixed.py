"""What seeds and targets share: keys whose secrets everybody knows, what they signed, and a place for files."""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

from certify.documents import dsse
from certify.documents import kinds as documents
from certify.documents.kinds import PAYLOAD_TYPE
from certify.keys import files as keys
from certify.keys.signers import PrivateKey, pem_text, spki_text
from certify.trust.trusted_set import Delegation, TrustedKey, TrustRoot
from tests.certify.signed import AFTER, BEFORE, CENTRE

MESSAGE = b"petaseal"
ROLES: dict[documents.Role, tuple[str, ...] | None] = {
    "root": None,
    "operator": (CENTRE,),
    "witness": None,
    "node": (CENTRE,),
}
# A key of SM2, and its one signature over `MESSAGE` that may ever be accepted: any other would have been made from it.
SM2_PKCS8 = bytes.fromhex(
    "308187020100301306072a8648ce3d020106082a811ccf5501822d046d306b02010104209e421229fc01ba1f7de9a9a4"
    "cfcf419ae91f014645321d1676994e04c4f397c2a1440342000446933eb8fea9eb19552b4d98a72cffdfc99e4d766913"
    "54fc80e0e372e289bb0b9c6768de753fdb16cee329114d8e553a1e63dcc570332f548a6263f024e967fd"
)
SM2_SPKI = bytes.fromhex(
    "3059301306072a8648ce3d020106082a811ccf5501822d0342000446933eb8fea9eb19552b4d98a72cffdfc99e4d7669"
    "1354fc80e0e372e289bb0b9c6768de753fdb16cee329114d8e553a1e63dcc570332f548a6263f024e967fd"
)
SM2_SIGNATURE = bytes.fromhex(
    "30450221008daec62017aee6f492bb9c9d42a4ea9f74f29a5a7b3127b43b00ea0fd9e27f16022001b17d86bfb33f039b"
    "8d0611804090d19d2e337b99cad4ca46bc2beb12ab4f06"
)
CORPUS = Path(__file__).parent / "corpus"
RECORDS = CORPUS / "record-list" / "records"
STATEMENT = CORPUS / "payload-capacity-statement" / "capacity-statement"


@cache
def fixed_key(name: str) -> PrivateKey:
    """Return the Ed25519 key of one of the people in the seeds: its secret is the digest of the name."""
    der = bytes.fromhex("302e020100300506032b657004220420") + hashlib.sha256(name.encode()).digest()
    path = write(f"{name}.pem", pem_text(b"PRIVATE KEY", der))
    path.chmod(0o600)
    return keys.load_private(path)


def fixed_root() -> TrustRoot:
    """Return the trust root of the seeds."""
    people = {name: fixed_key(name).public for name in ("root", "operator", "witness", "node")}
    entries = {
        key.keyid: TrustedKey(scheme=key.scheme, spki=spki_text(key), valid_from=BEFORE, valid_until=AFTER)
        for key in people.values()
    }
    roles = tuple(
        Delegation(role=role, centre_ids=centres, threshold=1, keys=(people[role].keyid,))
        for role, centres in ROLES.items()
    )
    return TrustRoot(
        trust_id="cn-test",
        version=1,
        issued_at=BEFORE,
        expires_at=AFTER,
        keys=entries,
        roles=roles,
        revocations=(),
    )


@cache
def proven_records() -> tuple[bytes, ...]:
    """Return the envelopes that the seed of a proof is taken from."""
    return tuple(RECORDS.read_bytes()[1:].splitlines(keepends=True))


@cache
def proven_statement() -> Path:
    """Return the file of their statement, signed by the operator."""
    sealed = dsse.seal(STATEMENT.read_bytes(), PAYLOAD_TYPE, [fixed_key("operator")])
    return write("statement.dsse.json", sealed)


@cache
def _folder_of(process: int) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))

    def remove() -> None:
        if os.getpid() == process:  # and not in one that was forked off since
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder


def place() -> Path:
    """Return a folder for files."""
    return _folder_of(os.getpid())  # a target that was forked off has files of its own


def write(name: str, content: bytes) -> Path:
    """Return a file of this process with some content."""
    path = place() / name
    path.write_bytes(content)
    return path
