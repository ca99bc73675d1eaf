"""Signature algorithms: one file each, and one line in `SIGNERS`.

The algorithm is read from the key's SubjectPublicKeyInfo, never from an envelope. What may be signed and who may sign
it is decided elsewhere (``certify.documents``, ``certify.trust``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Protocol, cast

from bench.errors import RefusedError

SIGNERS: dict[str, str] = {
    "ed25519": "certify.signers.ed25519:Ed25519",
}
ENTRY_POINTS = "petaseal.signers"


class PublicKey(Protocol):
    """A key that verifies. `keyid` is always recomputed from `spki`."""

    @property
    def scheme(self) -> str: ...
    @property
    def spki(self) -> bytes: ...
    @property
    def keyid(self) -> str: ...
    def verify(self, signature: bytes, message: bytes) -> bool:
        """Return whether `signature` is this key's over `message`; never raises."""


class PrivateKey(Protocol):
    """A key that signs."""

    @property
    def public(self) -> PublicKey: ...
    def sign(self, message: bytes) -> bytes: ...
    def pem(self, passphrase: bytes | None) -> bytes:
        """Return PKCS#8 PEM, encrypted where a passphrase is given."""


class Scheme(Protocol):
    """One signature algorithm."""

    def recognises(self, spki: bytes) -> bool:
        """Return whether the DER SubjectPublicKeyInfo is of this algorithm, well formed."""

    def public(self, spki: bytes, *, thorough: bool) -> PublicKey:
        """Return the key of an SPKI that is recognised, or refuse a weak one (`key-weak`)."""

    def private(self, loaded: object) -> PrivateKey | None:
        """Return a private key that ``cryptography`` loaded, or None where it is of another algorithm."""

    def generate(self) -> PrivateKey: ...


def keyid(spki: bytes) -> str:
    """Return the hex SHA-256 of a DER SubjectPublicKeyInfo (docs/verification.md)."""
    return hashlib.sha256(spki).hexdigest()


@cache
def load_scheme(name: str) -> Scheme:
    """Return a signature algorithm by its name, importing it on first use.

    Raises:
        RefusedError: `key-unsupported`, there is none of that name.
    """
    if name in SIGNERS:
        module, _, symbol = SIGNERS[name].partition(":")
        return cast("Scheme", getattr(import_module(module), symbol)())
    for entry in entry_points(group=ENTRY_POINTS, name=name):
        return cast("Scheme", entry.load()())
    raise RefusedError("key-unsupported", f"there is no signature algorithm named {name!r}", fix=_fix())


def schemes() -> Iterator[Scheme]:
    """Return every algorithm, our own first; a plug-in can add a name and not replace one."""
    yield from map(load_scheme, SIGNERS)
    yield from map(load_scheme, sorted({entry.name for entry in entry_points(group=ENTRY_POINTS)} - SIGNERS.keys()))


def public_key(spki: bytes, where: object = None, *, thorough: bool = True) -> PublicKey:
    """Return the public key of a DER SubjectPublicKeyInfo.

    Args:
        spki: DER SubjectPublicKeyInfo.
        where: what the key was read from, for the error text.
        thorough: also check what costs as much as a signature and protects nobody but the key's owner, such as that
            the point lies on the curve: with one that does not, no signature verifies. False for the key that a
            record names as its own, of which a statement has thousands.

    Raises:
        RefusedError: `key-unsupported`, or `key-weak` for a small-order or non-canonical point.
    """
    for scheme in schemes():
        if scheme.recognises(spki):
            try:
                return scheme.public(spki, thorough=thorough)
            except RefusedError as error:
                error.where = error.where or (None if where is None else str(where))
                raise
    raise RefusedError("key-unsupported", "is a public key of an unsupported algorithm", where=where, fix=_fix())


def _fix() -> str:
    return f"use a key of {' or '.join(SIGNERS)} (petaseal keys new)"
