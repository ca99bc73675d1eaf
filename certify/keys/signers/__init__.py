"""Signature algorithms: one file each, and one line in `SIGNERS`.

The algorithm is read from the key's SubjectPublicKeyInfo, never from an envelope. What may be signed and who may sign
it is decided elsewhere (``certify.documents.kinds``, ``certify.trust.trusted_set``).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from typing import Protocol, cast

from bench.errors import RefusedError

SIGNERS: dict[str, str] = {
    "ed25519": "certify.keys.signers.ed25519:Ed25519",
    "sm2-sm3-1234567812345678": "certify.keys.signers.sm2:SM2",
}
ENTRY_POINTS = "petaseal.signers"
PRIVATE_LABELS = (b"PRIVATE KEY", b"ENCRYPTED PRIVATE KEY")  # of PKCS#8 in PEM (RFC 7468)


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
    """A key that signs, wherever it lies."""

    @property
    def public(self) -> PublicKey: ...
    def sign(self, message: bytes) -> bytes: ...


class NewKey(PrivateKey, Protocol):
    """A private key that was just made, and can be written to a file."""

    def pem(self, passphrase: bytes | None) -> bytes:
        """Return PKCS#8 PEM, encrypted where a passphrase is given."""


class Scheme(Protocol):
    """One signature algorithm."""

    def recognises(self, spki: bytes) -> bool:
        """Return whether the DER SubjectPublicKeyInfo is of this algorithm, well formed."""

    def public(self, spki: bytes, *, thorough: bool) -> PublicKey:
        """Return the key of an SPKI that is recognised, or refuse a weak one (`key-weak`)."""

    def private(self, der: bytes, passphrase: bytes | None) -> PrivateKey | None:
        """Return the key of a DER PKCS#8, encrypted where a passphrase is given; None if of another algorithm.

        Raises:
            ValueError: it is damaged, or the passphrase does not open it.
        """

    def generate(self) -> NewKey: ...


def keyid(spki: bytes) -> str:
    """Return the hex SHA-256 of a DER SubjectPublicKeyInfo (docs/verification.md)."""
    return hashlib.sha256(spki).hexdigest()


def pem_text(label: bytes, der: bytes) -> bytes:
    """Return DER as a PEM file (RFC 7468)."""
    text = base64.b64encode(der)
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return b"\n".join([b"-----BEGIN %b-----" % label, *lines, b"-----END %b-----" % label, b""])


@cache
def load_scheme(name: str) -> Scheme:
    """Return a signature algorithm by its name, importing it on first use.

    Raises:
        RefusedError: `key-unsupported`, there is none of that name.
    """
    if name in SIGNERS:
        module, _, symbol = SIGNERS[name].partition(":")
        return cast("Scheme", getattr(import_module(module), symbol)())
    from importlib.metadata import entry_points

    # After our own table: a plug-in that took the name of ed25519 would decide what verifies.
    for entry in entry_points(group=ENTRY_POINTS, name=name):
        return cast("Scheme", entry.load()())
    raise RefusedError("key-unsupported", f"there is no signature algorithm named {name!r}", fix=_fix())


def schemes() -> Iterator[Scheme]:
    """Return every signature algorithm, the project's first; a plug-in can add a name and not replace one."""
    yield from map(load_scheme, SIGNERS)
    yield from map(load_scheme, sorted(_plugins() - SIGNERS.keys()))


@cache
def _plugins() -> frozenset[str]:
    from importlib.metadata import entry_points

    return frozenset(entry.name for entry in entry_points(group=ENTRY_POINTS))


def public_key(spki: bytes, where: object = None, *, thorough: bool = True) -> PublicKey:
    """Return the public key of a DER SubjectPublicKeyInfo.

    Args:
        spki: DER SubjectPublicKeyInfo.
        where: what the key was read from, for the error text.
        thorough: also check what costs as much as a signature and protects only the key's owner, such as that
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
    return f"use a key of {' or '.join(name.partition('-')[0] for name in SIGNERS)} (petaseal keys new)"


def spki_text(key: PublicKey) -> str:
    """Return a key as documents hold it: its DER SubjectPublicKeyInfo in base64."""
    return base64.b64encode(key.spki).decode()


def spki_bytes(text: str, where: object = None) -> bytes:
    """Return the DER of a key in a document.

    Raises:
        RefusedError: `base64-not-canonical`.
    """
    try:
        spki = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        spki = b""
    if not spki or base64.b64encode(spki).decode() != text:
        raise RefusedError("base64-not-canonical", "holds a key that is not standard base64", where=where)
    return spki
