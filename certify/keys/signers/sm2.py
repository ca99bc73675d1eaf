"""SM2 with SM3 (GB/T 32918, GB/T 32905) through the system's OpenSSL, and the checks of all that it gets to see.

The user ID, which the standard hashes before the message, is pinned and stands in the scheme's name: two sides that
assume different ones would call each other's signatures forged.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NoReturn

from bench.errors import RefusedError
from certify.keys import libcrypto
from certify.keys.signers import PRIVATE_LABELS, keyid, pem_text, public_key

NAME = f"sm2-sm3-{libcrypto.USER_ID.decode()}"

# SubjectPublicKeyInfo (RFC 5480): id-ecPublicKey, the named curve 1.2.156.10197.1.301, an uncompressed point
_CURVE = bytes.fromhex("06082a811ccf5501822d")
_SPKI_PREFIX = bytes.fromhex("3059301306072a8648ce3d0201") + _CURVE + bytes.fromhex("03420004")
_SPKI_LENGTH = len(_SPKI_PREFIX) + 64
# GB/T 32918.5: y^2 = x^3 - 3x + b modulo p; the base point's order n
_P = 0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF00000000FFFFFFFFFFFFFFFF
_B = 0x28E9FA9E9D9F5E344D5A9E4BCF6509A7F39789F515AB8F92DDBCBD414D940E93
_N = 0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFF7203DF6B21C6052B53BBF40939D54123


@dataclass(frozen=True, slots=True)
class SM2Public:
    """An SM2 public key."""

    spki: bytes
    keyid: str
    scheme: str = NAME

    def verify(self, signature: bytes, message: bytes) -> bool:
        """Return whether `signature` (strict DER of r and s) is this key's over `message`."""
        return _is_well_formed(signature) and libcrypto.verify(self.spki, signature, message)

    def __reduce__(self) -> tuple[object, tuple[bytes]]:
        """Travel to a worker process as the SPKI, to be checked again there."""
        return public_key, (self.spki,)


@dataclass(frozen=True, slots=True)
class SM2Private:
    """An SM2 private key."""

    public: SM2Public
    pkcs8: bytes = field(repr=False, compare=False)  # DER, not encrypted

    def sign(self, message: bytes) -> bytes:
        """Return the signature over `message`: DER of r and s, 70 to 72 bytes as a rule."""
        return libcrypto.sign(self.pkcs8, message)

    def pem(self, passphrase: bytes | None) -> bytes:
        """Return the key as PKCS#8 PEM, encrypted where a passphrase is given."""
        der = self.pkcs8 if passphrase is None else libcrypto.lock(self.pkcs8, passphrase)
        return pem_text(PRIVATE_LABELS[passphrase is not None], der)

    def __reduce__(self) -> NoReturn:
        """Refuse to be written anywhere but into a key file."""
        raise TypeError("a private key cannot be pickled")


class SM2:
    """The algorithm: from SPKI or PKCS#8 to keys that sign and verify."""

    def recognises(self, spki: bytes) -> bool:
        """Return whether the DER SubjectPublicKeyInfo is that of an SM2 key, in its one form."""
        return len(spki) == _SPKI_LENGTH and spki.startswith(_SPKI_PREFIX)

    def public(self, spki: bytes, *, thorough: bool) -> SM2Public:
        """Return the key of an SPKI. The curve's equation costs microseconds, and is always checked.

        Raises:
            RefusedError: `key-weak`, a coordinate is not below p or the point is off the curve.
            InputError: `sm2-unavailable`.
        """
        at = len(_SPKI_PREFIX)
        x, y = (int.from_bytes(spki[start : start + 32], "big") for start in (at, at + 32))
        if x >= _P or y >= _P or (y * y - x * x * x + 3 * x - _B) % _P:
            raise RefusedError("key-weak", "is an SM2 key whose point is not on the curve")
        libcrypto.libcrypto()  # said now: verify() only says no
        return SM2Public(spki, keyid(spki))

    def private(self, der: bytes, passphrase: bytes | None) -> SM2Private | None:
        """Return the key of a DER PKCS#8, or None where it is of another algorithm.

        Raises:
            ValueError: it is damaged, or the passphrase does not open it.
            RefusedError: `key-weak`.
            InputError: `sm2-unavailable`.
        """
        if passphrase is None and _CURVE not in der:
            return None  # of another algorithm: seen without libcrypto, which may not be there
        parts = libcrypto.open_private(der, passphrase)
        return parts and self._key(parts)

    def generate(self) -> SM2Private:
        """Return a new private key from the system's randomness.

        Raises:
            InputError: `sm2-unavailable`.
        """
        return self._key(libcrypto.generate())

    def _key(self, parts: libcrypto.PrivateParts) -> SM2Private:
        if not 1 <= parts.secret <= _N - 2:  # with n - 1 no signature can be made: 1 + d has no inverse
            raise RefusedError("key-weak", "is an SM2 private key out of range")
        if not parts.sound:
            raise RefusedError("key-weak", "is an SM2 private key beside another key's public half")
        spki = _SPKI_PREFIX + parts.x.to_bytes(32, "big") + parts.y.to_bytes(32, "big")
        return SM2Private(self.public(spki, thorough=True), parts.pkcs8)


def _is_well_formed(signature: bytes) -> bool:
    """Return whether a signature is DER of two numbers in range, and has no other encoding.

    r + s = n is refused besides, as GB/T 32918.2 section 7.1 step B5 does.
    """
    if len(signature) < 2 or signature[0] != 0x30 or signature[1] >= 0x80 or signature[1] != len(signature) - 2:
        return False
    r, rest = _integer(signature[2:])
    s, rest = _integer(rest)
    return 1 <= r < _N and 1 <= s < _N and r + s != _N and not rest


def _integer(der: bytes) -> tuple[int, bytes]:
    """Return a positive DER INTEGER and what follows it; 0 for anything else."""
    if len(der) < 3 or der[0] != 0x02 or not 1 <= der[1] <= min(33, len(der) - 2):
        return 0, b""
    number, rest = der[2 : 2 + der[1]], der[2 + der[1] :]
    padded = len(number) > 1 and number[0] == 0 and number[1] < 0x80
    return (0, b"") if number[0] >= 0x80 or padded else (int.from_bytes(number, "big"), rest)
