"""Key files: create, load, and the key that a node makes for itself on first use.

Private keys are PKCS#8 PEM, readable by their owner only; public keys are PEM SubjectPublicKeyInfo. A key file is
created whole or not at all and is never overwritten. Whose key it is, is no concern of this module.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import re
import stat
from pathlib import Path

from bench.errors import InputError, OutputExistsError, PetasealError, RefusedError
from bench.record import read_bytes, read_given, replacing
from bench.record.files import writing_state
from certify.keys.signers import (
    PRIVATE_LABELS,
    SIGNERS,
    PrivateKey,
    PublicKey,
    keyid,
    load_scheme,
    pem_text,
    public_key,
    schemes,
)

__all__ = [
    "keyid",
    "load_private",
    "load_public",
    "new_key",
    "node_key",
    "public_path",
    "read_passphrase",
    "scheme_named",
]

KEY_BYTES = 64 * 1024  # a PEM key takes 400 bytes; what is larger is another file given by mistake
PASSPHRASE_BYTES = 4 * 1024  # one line
_PEM_BEGIN = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----")
_PEM_PARAMETERS = re.compile(rb"-----BEGIN ([A-Z0-9]{1,10} PARAMETERS)-----")  # EC, and SM2 since OpenSSL 3
_MACHINE_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


def new_key(out: Path, passphrase: bytes | None, scheme: str = "ed25519") -> PublicKey:
    """Make a key pair: `out` (PKCS#8 PEM, 0600) and `out`.pub (PEM SubjectPublicKeyInfo, 0644).

    Args:
        out: the private key's file; neither it nor the public key's may exist.
        passphrase: encrypts the private key; None leaves it in clear.
        scheme: signature algorithm, a key of `certify.keys.signers.SIGNERS`.

    Raises:
        InputError: `output-exists`, `output-not-writable`, `key-passphrase-missing` (an empty passphrase) or
            `sm2-unavailable`.
        RefusedError: `key-unsupported`, there is no such algorithm.
    """
    if passphrase == b"":
        raise InputError("key-passphrase-missing", "the passphrase is empty", where=out)
    key = load_scheme(scheme).generate()
    # The public half first: a crash between the two leaves a public key without its secret, and never the reverse.
    _create(public_path(out), pem_text(b"PUBLIC KEY", key.public.spki), 0o644)
    try:
        _create(out, key.pem(passphrase), 0o600)
    except BaseException:
        with contextlib.suppress(OSError):
            public_path(out).unlink()
        raise
    return key.public


def scheme_named(text: str, where: object = None) -> str:
    """Return the full name of the algorithm that a full or a short name ("sm2") means.

    Raises:
        InputError: `usage`, there is none of that name.
    """
    name = next((name for name in SIGNERS if text == name.partition("-")[0]), text)
    try:
        load_scheme(name)
    except RefusedError as error:
        raise InputError("usage", error.what, where=where, fix=error.fix) from None
    return name


def public_path(private: Path) -> Path:
    """Return the file of the public key that belongs to a private key's file."""
    return private.with_name(private.name + ".pub")


def load_private(path: Path, passphrase: bytes | None = None) -> PrivateKey:
    """Return the private key in a PEM file that only its owner can read.

    Raises:
        InputError: `key-file-permissions`, `key-invalid`, `key-passphrase-missing`, `key-passphrase-wrong`,
            `key-not-encrypted`, `public-key-given`, `sm2-unavailable`, or a code of `read_given`.
        RefusedError: `key-unsupported`, the key is of an algorithm that petaseal does not sign with; `key-weak`.
    """
    content = read_given(path, KEY_BYTES)
    label, der = _read_pem(content, path)
    if label == b"PUBLIC KEY":
        raise InputError("public-key-given", "is a public key where a private one belongs", where=path)
    if label not in PRIVATE_LABELS:
        raise InputError(
            "key-invalid",
            f"is PEM of a {label.decode().lower()}, not of a PKCS#8 private key",
            where=path,
            fix="convert it with: openssl pkcs8 -topk8",
        )
    encrypted = label == PRIVATE_LABELS[1]
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:  # as ssh does: a key that others can read has no one owner whom a signature could bind
        raise InputError(
            "key-file-permissions",
            f"can be read or changed by others (mode {mode:04o})",
            where=path,
            fix="chmod 600 it",
        )
    if encrypted and not passphrase:
        raise InputError("key-passphrase-missing", "is encrypted", where=path, fix="give --passphrase-file")
    if not encrypted and passphrase:
        raise InputError("key-not-encrypted", "is not encrypted, and a passphrase was given", where=path)
    # Nothing outside an encrypted key says its algorithm: each is tried, and the errors decide which sentence fits.
    damaged = False
    for scheme in schemes():
        try:
            key = scheme.private(der, passphrase if encrypted else None)
        except ValueError:
            damaged = True  # or encrypted with a cipher that only another scheme's library knows, such as SM4
        except PetasealError as error:
            if damaged and error.code == "sm2-unavailable":
                continue
            error.where = error.where or str(path)
            raise
        else:
            if key is not None:
                return key
    if not damaged:
        raise _unsupported(path)
    if encrypted and _is_whole(der):
        raise InputError("key-passphrase-wrong", "cannot be decrypted with this passphrase", where=path)
    raise InputError("key-invalid", "is not a complete private key", where=path)


def load_public(path: Path, *, shared: bool = False) -> PublicKey:
    """Return the public key in a PEM SubjectPublicKeyInfo file; `shared`: of a folder that others write to.

    Raises:
        InputError: `private-key-given`, `key-invalid`, or a code of `read_given`.
        RefusedError: `key-unsupported` or `key-weak`.
    """
    content = read_bytes(path, KEY_BYTES) if shared else read_given(path, KEY_BYTES)
    if b"PRIVATE KEY" in content:
        raise InputError(
            "private-key-given",
            "is a private key where a public one belongs",
            where=path,
            fix="give the .pub file, and keep this one to yourself",
        )
    label, der = _read_pem(content, path)
    if label != b"PUBLIC KEY":
        raise InputError("key-invalid", f"is PEM of a {label.decode().lower()}, not of a public key", where=path)
    return public_key(der, path)


def node_key(state_dir: Path, machine_id: str) -> PrivateKey:
    """Return the node's own key, `<state>/node-keys/<machine-id>.pem`, made on first use.

    However many processes start at once, one of them makes the key and all return it.

    Raises:
        InputError: `machine-id-invalid`, `output-not-writable`, or a code of `load_private`.
    """
    if not _MACHINE_ID.fullmatch(machine_id):
        raise InputError("machine-id-invalid", f"{machine_id!r} cannot name a key file")
    path = state_dir / "node-keys" / f"{machine_id}.pem"
    if not os.path.lexists(path):
        with contextlib.suppress(OutputExistsError), writing_state():  # a process that was first made the node's key
            _create(path, load_scheme("ed25519").generate().pem(None), 0o600)
    return load_private(path)


def write_public(out: Path, key: PublicKey) -> None:
    """Write a public key as PEM SubjectPublicKeyInfo; never overwrites a file.

    Raises:
        InputError: `output-exists` or `output-not-writable`.
    """
    _create(out, pem_text(b"PUBLIC KEY", key.spki), 0o644)


def read_passphrase(path: Path) -> bytes:
    """Return the first line of a passphrase file, without its line end.

    Raises:
        InputError: `key-passphrase-missing`, the line is empty; or a code of `read_given`.
    """
    passphrase = read_given(path, PASSPHRASE_BYTES).split(b"\n", 1)[0].removesuffix(b"\r")
    if not passphrase:
        raise InputError("key-passphrase-missing", "has an empty first line", where=path)
    return passphrase


def _create(path: Path, content: bytes, mode: int) -> None:
    """Create a file of a key whole, in a folder that only its owner may open where it is missing."""
    with replacing(path, mode, new=True, folder_mode=0o700) as file:
        file.write(content)


def _read_pem(content: bytes, path: Path) -> tuple[bytes, bytes]:
    """Return label and DER of a file that is exactly one PEM block."""
    lines = [line.strip() for line in content.strip().splitlines()]
    match = _PEM_BEGIN.fullmatch(lines[0]) if len(lines) > 2 else None
    if match and lines[-1] == b"-----END %b-----" % match[1]:
        with contextlib.suppress(binascii.Error):
            return match[1], base64.b64decode(b"".join(lines[1:-1]), validate=True)
    if parameters := next(filter(None, map(_PEM_PARAMETERS.fullmatch, lines)), None):
        what = f"holds a block {parameters[1].decode()} besides the key, as openssl ecparam writes it"
        raise InputError("key-invalid", what, where=path, fix="drop that block")
    raise InputError("key-invalid", "is not exactly one complete PEM block", where=path)


def _is_whole(der: bytes) -> bool:
    """Return whether `der` is one SEQUENCE of the length that its header says."""
    if len(der) < 2 or der[0] != 0x30:
        return False
    if der[1] < 0x80:
        return len(der) == 2 + der[1]
    count = der[1] & 0x7F
    return len(der) == 2 + count + int.from_bytes(der[2 : 2 + count], "big")


def _unsupported(path: Path) -> RefusedError:
    return RefusedError(
        "key-unsupported", "is a key of an unsupported algorithm", where=path, fix="make one with petaseal keys new"
    )
