"""Ed25519 (RFC 8032) through ``cryptography``, with the key checks that a library leaves to its caller.

A public key of small order verifies one signature over every message, and a point with two encodings gives one key two
ids; both are refused when the key is loaded. What only private keys need is imported with them: it brings the formats
of SSH, which take longer to import than a statement takes to verify.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography.exceptions import InternalError, InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from bench.errors import RefusedError
from certify.keys.signers import keyid, public_key

_SPKI_PREFIX = bytes.fromhex("302a300506032b6570032100")  # RFC 8410: the algorithm without parameters, then 32 bytes
_SPKI_LENGTH = len(_SPKI_PREFIX) + 32
_P = 2**255 - 19
_D = -121665 * pow(121666, -1, _P) % _P
_Y_ORDER_8 = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
# y of the points whose order divides 8: order 4, 1, 2, and the two of order 8; the sign of x does not matter
_SMALL_ORDER_Y = frozenset({0, 1, _P - 1, _Y_ORDER_8, _P - _Y_ORDER_8})


@dataclass(frozen=True, slots=True)
class Ed25519Public:
    """An Ed25519 public key."""

    spki: bytes
    keyid: str
    key: Ed25519PublicKey = field(repr=False, compare=False)
    scheme: str = "ed25519"

    def verify(self, signature: bytes, message: bytes) -> bool:
        """Return whether `signature` is this key's over `message`."""
        try:
            self.key.verify(signature, message)
        except InvalidSignature:
            return False
        return True

    def __reduce__(self) -> tuple[object, tuple[bytes]]:
        """Travel to a worker process as the SPKI, since the library's own key cannot be pickled."""
        return public_key, (self.spki,)


@dataclass(frozen=True, slots=True)
class Ed25519Private:
    """An Ed25519 private key."""

    public: Ed25519Public
    key: Ed25519PrivateKey = field(repr=False, compare=False)

    def sign(self, message: bytes) -> bytes:
        """Return the signature over `message`, 64 bytes."""
        return self.key.sign(message)

    def pem(self, passphrase: bytes | None) -> bytes:
        """Return the key as PKCS#8 PEM, encrypted where a passphrase is given."""
        from cryptography.hazmat.primitives import serialization

        encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if passphrase is not None:
            encryption = serialization.BestAvailableEncryption(passphrase)
        return self.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


class Ed25519:
    """The algorithm: from SPKI or from a loaded key to keys that sign and verify."""

    def recognises(self, spki: bytes) -> bool:
        """Return whether the DER SubjectPublicKeyInfo is that of an Ed25519 key."""
        return len(spki) == _SPKI_LENGTH and spki.startswith(_SPKI_PREFIX)

    def public(self, spki: bytes, *, thorough: bool) -> Ed25519Public:
        """Return the key of an SPKI.

        Raises:
            RefusedError: `key-weak`, the point is of small order, not canonical or (if `thorough`) off the curve.
        """
        point = spki[len(_SPKI_PREFIX) :]
        y = int.from_bytes(point, "little") & (2**255 - 1)
        if y >= _P or y in _SMALL_ORDER_Y:
            raise RefusedError("key-weak", "is an Ed25519 key with a small-order or non-canonical point")
        # A power modulo p, as costly as a verification: no signature verifies under such a point in any case.
        if thorough and not _on_curve(y):
            raise RefusedError("key-weak", "is an Ed25519 key whose point is not on the curve")
        return Ed25519Public(spki, keyid(spki), Ed25519PublicKey.from_public_bytes(point))

    def private(self, der: bytes, passphrase: bytes | None) -> Ed25519Private | None:
        """Return the key of a DER PKCS#8, or None where it is of another algorithm.

        Raises:
            ValueError: it is damaged, or the passphrase does not open it.
        """
        from cryptography.hazmat.primitives import serialization

        try:
            loaded = serialization.load_der_private_key(der, passphrase)
        except UnsupportedAlgorithm:
            return None
        except (TypeError, InternalError) as error:
            # Encrypted and no passphrase was given, or the reverse; or of another length than its algorithm demands.
            raise ValueError from error
        return _private(loaded) if isinstance(loaded, Ed25519PrivateKey) else None

    def generate(self) -> Ed25519Private:
        """Return a new private key from the system's randomness."""
        return _private(Ed25519PrivateKey.generate())


def _private(key: Ed25519PrivateKey) -> Ed25519Private:
    from cryptography.hazmat.primitives import serialization

    public = key.public_key()
    spki = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return Ed25519Private(Ed25519Public(spki, keyid(spki), public), key)


def _on_curve(y: int) -> bool:
    """Return whether some x with -x^2 + y^2 = 1 + d x^2 y^2 exists: x^2 = u/v is a square (Euler's criterion)."""
    u = (y * y - 1) % _P
    v = (_D * y * y + 1) % _P
    return pow(u * v, (_P - 1) // 2, _P) == 1
