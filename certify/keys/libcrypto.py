"""SM2 with SM3 by the system's OpenSSL (libcrypto 3.0 or later) through ctypes: its public functions only.

Keys come in as DER and everything is freed before a call returns, so that threads and forked processes share nothing.
What is a good key or signature is decided in ``certify.keys.signers.sm2``, before libcrypto sees it.
"""

from __future__ import annotations

import ctypes
from contextlib import ExitStack
from ctypes import POINTER, byref, c_char_p, c_int, c_long, c_size_t, c_void_p
from functools import cache
from typing import Any, NamedTuple

from bench.errors import InputError

USER_ID = b"1234567812345678"  # GM/T 0009-2012 section 10: the identity of a signer where none is agreed
PASSPHRASE_ROUNDS = 600_000  # of PBKDF2 with SHA-256, as OWASP advises; costs 0.2 s
_SIGNATURE_BYTES = 80  # an SM2 signature has 72 at most
_PBES2 = -1  # PKCS8_encrypt: PBES2 by the cipher that is given
_NAMES = ("libcrypto.so.3", "crypto")  # the second is looked for by the linker's own rules

_OUT = POINTER(c_void_p)
_PROTOTYPES: dict[str, tuple[Any, tuple[Any, ...]]] = {  # result, arguments: as OpenSSL 3.0 declares them
    "OPENSSL_version_major": (c_int, ()),
    "ERR_clear_error": (None, ()),
    "BN_bn2binpad": (c_int, (c_void_p, c_void_p, c_int)),
    "BN_clear_free": (None, (c_void_p,)),
    "EVP_MD_CTX_new": (c_void_p, ()),
    "EVP_MD_CTX_free": (None, (c_void_p,)),
    "EVP_sm3": (c_void_p, ()),
    "EVP_aes_256_cbc": (c_void_p, ()),
    "EVP_DigestSignInit": (c_int, (c_void_p, _OUT, c_void_p, c_void_p, c_void_p)),
    "EVP_DigestSign": (c_int, (c_void_p, c_void_p, POINTER(c_size_t), c_char_p, c_size_t)),
    "EVP_DigestVerifyInit": (c_int, (c_void_p, _OUT, c_void_p, c_void_p, c_void_p)),
    "EVP_DigestVerify": (c_int, (c_void_p, c_char_p, c_size_t, c_char_p, c_size_t)),
    "EVP_PKEY_CTX_set1_id": (c_int, (c_void_p, c_char_p, c_int)),
    "EVP_PKEY_CTX_new_from_name": (c_void_p, (c_void_p, c_char_p, c_char_p)),
    "EVP_PKEY_CTX_new_from_pkey": (c_void_p, (c_void_p, c_void_p, c_char_p)),
    "EVP_PKEY_CTX_free": (None, (c_void_p,)),
    "EVP_PKEY_keygen_init": (c_int, (c_void_p,)),
    "EVP_PKEY_generate": (c_int, (c_void_p, _OUT)),
    "EVP_PKEY_check": (c_int, (c_void_p,)),
    "EVP_PKEY_is_a": (c_int, (c_void_p, c_char_p)),
    "EVP_PKEY_get_bn_param": (c_int, (c_void_p, c_char_p, _OUT)),
    "EVP_PKEY_free": (None, (c_void_p,)),
    "EVP_PKCS82PKEY": (c_void_p, (c_void_p,)),
    "EVP_PKEY2PKCS8": (c_void_p, (c_void_p,)),
    "PKCS8_encrypt": (c_void_p, (c_int, c_void_p, c_char_p, c_int, c_void_p, c_int, c_int, c_void_p)),
    "PKCS8_decrypt": (c_void_p, (c_void_p, c_char_p, c_int)),
    "PKCS8_PRIV_KEY_INFO_free": (None, (c_void_p,)),
    "X509_SIG_free": (None, (c_void_p,)),
    "d2i_PUBKEY": (c_void_p, (c_void_p, _OUT, c_long)),
    "d2i_PKCS8_PRIV_KEY_INFO": (c_void_p, (c_void_p, _OUT, c_long)),
    "d2i_X509_SIG": (c_void_p, (c_void_p, _OUT, c_long)),
    "i2d_PKCS8_PRIV_KEY_INFO": (c_int, (c_void_p, _OUT)),
    "i2d_X509_SIG": (c_int, (c_void_p, _OUT)),
}

# GB/T 32918.5-2017 annex A.2: public key (SubjectPublicKeyInfo) and signature over "message digest"
_EXAMPLE_SPKI = bytes.fromhex(
    "3059301306072a8648ce3d020106082a811ccf5501822d034200"
    "0409f9df311e5421a150dd7d161e4bc5c672179fad1833fc076bb08ff356f35020"
    "ccea490ce26775a52dc6ea718cc1aa600aed05fbf35e084a6632f6072da9ad13"
)
_EXAMPLE_SIGNATURE = bytes.fromhex(
    "3046022100f5a03b0648d2c4630eeac513e1bb81a15944da3827d5b74143ac7eaceee720b3"
    "022100b1b6aa29df212fd8763182bc0d421ca1bb9038fd1f7f42d4840b69c485bbc1aa"
)


class LibcryptoError(ValueError):
    """A function of libcrypto failed; the caller knows which input it was about."""


class PrivateParts(NamedTuple):
    """The parts of an SM2 private key: its PKCS #8 form, its secret and its public point."""

    pkcs8: bytes  # DER PrivateKeyInfo, not encrypted
    sound: bool  # libcrypto finds that its halves belong together
    secret: int
    x: int
    y: int


@cache
def libcrypto() -> ctypes.CDLL:
    """Return the system's libcrypto, which has verified the standard's own example.

    Raises:
        InputError: `sm2-unavailable`.
    """
    # The standard's own example is the test that counts: a distribution may ship the symbols without the algorithm.
    for name in _NAMES:
        try:
            library = _load(name)
            if _verify(library, _EXAMPLE_SPKI, _EXAMPLE_SIGNATURE, b"message digest"):
                return library
        except (OSError, AttributeError, LibcryptoError):
            continue  # there is none, it is older than 3.0, or was built without SM2, as some distributions do
    raise InputError(
        "sm2-unavailable",
        "there is no libcrypto of OpenSSL 3.0 or later with SM2, which SM2 keys and signatures need",
        fix="install one (Debian: apt install libssl3; elsewhere: an OpenSSL built with SM2, on LD_LIBRARY_PATH)",
    )


def verify(spki: bytes, signature: bytes, message: bytes) -> bool:
    """Return whether an SM2 signature holds, under the pinned user ID; False for a key that is none."""
    try:
        return _verify(libcrypto(), spki, signature, message)
    except LibcryptoError:
        return False


def sign(pkcs8: bytes, message: bytes) -> bytes:
    """Return the DER signature by a DER PrivateKeyInfo.

    Raises:
        LibcryptoError: the key is none of SM2.
    """
    library = libcrypto()
    with _Owner(library) as owner:
        context, inner = owner("EVP_MD_CTX_free", library.EVP_MD_CTX_new()), c_void_p()
        key = owner("EVP_PKEY_free", library.EVP_PKCS82PKEY(owner.decoded("PKCS8_PRIV_KEY_INFO", pkcs8)))
        _done(library.EVP_DigestSignInit(context, byref(inner), library.EVP_sm3(), None, key))
        _done(library.EVP_PKEY_CTX_set1_id(inner, USER_ID, len(USER_ID)))
        signature, length = ctypes.create_string_buffer(_SIGNATURE_BYTES), c_size_t(_SIGNATURE_BYTES)
        _done(library.EVP_DigestSign(context, signature, byref(length), message, len(message)))
        return signature.raw[: length.value]


def generate() -> PrivateParts:
    """Return a new SM2 private key from libcrypto's randomness."""
    library = libcrypto()
    with _Owner(library) as owner:
        context, key = owner("EVP_PKEY_CTX_free", library.EVP_PKEY_CTX_new_from_name(None, b"SM2", None)), c_void_p()
        _done(library.EVP_PKEY_keygen_init(context))
        _done(library.EVP_PKEY_generate(context, byref(key)))
        return _taken_apart(owner, owner("EVP_PKEY_free", key.value))


def open_private(der: bytes, passphrase: bytes | None) -> PrivateParts | None:
    """Return the SM2 private key of a DER PKCS#8, which is encrypted where a passphrase is given.

    None: it is of another algorithm.

    Raises:
        LibcryptoError: it is damaged, or the passphrase does not open it.
    """
    library = libcrypto()
    with _Owner(library) as owner:
        if passphrase is None:
            info = owner.decoded("PKCS8_PRIV_KEY_INFO", der)
        else:
            locked = owner.decoded("X509_SIG", der)
            info = owner("PKCS8_PRIV_KEY_INFO_free", library.PKCS8_decrypt(locked, passphrase, len(passphrase)))
        key = owner("EVP_PKEY_free", library.EVP_PKCS82PKEY(info))
        if library.EVP_PKEY_is_a(key, b"SM2") != 1:
            return None
        return _taken_apart(owner, key)


def lock(pkcs8: bytes, passphrase: bytes) -> bytes:
    """Return a DER PrivateKeyInfo encrypted with AES-256-CBC under a passphrase (PKCS #5 v2.1)."""
    library = libcrypto()
    with _Owner(library) as owner:
        info, cipher = owner.decoded("PKCS8_PRIV_KEY_INFO", pkcs8), library.EVP_aes_256_cbc()
        locked = library.PKCS8_encrypt(
            _PBES2, cipher, passphrase, len(passphrase), None, 16, PASSPHRASE_ROUNDS, info
        )  # 16 bytes of salt, drawn anew
        return owner.encoded("X509_SIG", owner("X509_SIG_free", locked))


class _Owner(ExitStack):
    """Owner of the values that a call takes from libcrypto: frees them in reverse order and empties its error queue.

    An error left in the queue of a thread would be reported by the next user of libcrypto, such as Python's ssl.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        super().__init__()
        self.library = library
        self.callback(library.ERR_clear_error)

    def __call__(self, free: str, pointer: int | None) -> int:
        """Return a pointer that is freed at the end."""
        if pointer is None:
            raise LibcryptoError(free)
        self.callback(getattr(self.library, free), pointer)
        return pointer

    def decoded(self, kind: str, der: bytes, free: str | None = None) -> int:
        """Return the value that DER bytes encode; bytes after its end are refused, since one key has one encoding."""
        buffer = ctypes.create_string_buffer(der, len(der))
        start = ctypes.addressof(buffer)
        at = c_void_p(start)
        pointer = self(free or f"{kind}_free", getattr(self.library, f"d2i_{kind}")(None, byref(at), len(der)))
        if at.value != start + len(der):
            raise LibcryptoError(kind)
        return pointer

    def encoded(self, kind: str, pointer: int) -> bytes:
        """Return the DER text of a value."""
        encode = getattr(self.library, f"i2d_{kind}")
        buffer = ctypes.create_string_buffer(_done(encode(pointer, None)))
        _done(encode(pointer, byref(c_void_p(ctypes.addressof(buffer)))))
        return buffer.raw


def _load(name: str) -> ctypes.CDLL:
    if name == "crypto":
        from ctypes.util import find_library

        name = find_library("crypto") or "libcrypto.so"
    library = ctypes.CDLL(name)
    for function, (result, arguments) in _PROTOTYPES.items():
        symbol = getattr(library, function)
        symbol.restype, symbol.argtypes = result, arguments
    return library


def _verify(library: ctypes.CDLL, spki: bytes, signature: bytes, message: bytes) -> bool:
    with _Owner(library) as owner:
        context, inner = owner("EVP_MD_CTX_free", library.EVP_MD_CTX_new()), c_void_p()
        key = owner.decoded("PUBKEY", spki, "EVP_PKEY_free")
        _done(library.EVP_DigestVerifyInit(context, byref(inner), library.EVP_sm3(), None, key))
        _done(library.EVP_PKEY_CTX_set1_id(inner, USER_ID, len(USER_ID)))
        valid: bool = library.EVP_DigestVerify(context, signature, len(signature), message, len(message)) == 1
        return valid


def _taken_apart(owner: _Owner, key: int) -> PrivateParts:
    library = owner.library
    info = owner("PKCS8_PRIV_KEY_INFO_free", library.EVP_PKEY2PKCS8(key))
    numbers = []
    for name in (b"priv", b"qx", b"qy"):
        number, digits = c_void_p(), ctypes.create_string_buffer(32)
        _done(library.EVP_PKEY_get_bn_param(key, name, byref(number)))
        _done(library.BN_bn2binpad(owner("BN_clear_free", number.value), digits, len(digits)))
        numbers.append(int.from_bytes(digits.raw, "big"))
    context = owner("EVP_PKEY_CTX_free", library.EVP_PKEY_CTX_new_from_pkey(None, key, None))
    sound = library.EVP_PKEY_check(context) == 1
    return PrivateParts(owner.encoded("PKCS8_PRIV_KEY_INFO", info), sound, *numbers)


def _done(result: int) -> int:
    """Return a function's result, and raise where it is 0 or less, which is how libcrypto reports a failure."""
    if result <= 0:
        raise LibcryptoError
    return result
