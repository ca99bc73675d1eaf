"""A key to sign with, from a file or behind a command: a passphrase is asked for on a terminal only."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import InputError

if TYPE_CHECKING:
    from certify.keys.signers import PrivateKey


def load_signing_key(path: Path, passphrase_file: Path | None, signer: str | None = None) -> PrivateKey:
    """Return a key to sign with, asking for its passphrase on a terminal where it needs one and none is given.

    Args:
        path: the private key; the public key where a command signs.
        passphrase_file: its first line opens the private key.
        signer: command line that signs with a key which is not in a file (`certify.keys.signer_command`).

    Raises:
        InputError, RefusedError: codes of `keys.load_private`; with `signer` those of `keys.load_public`, and `usage`.
    """
    from certify.keys import files as keys

    if signer is not None:
        from certify.keys.signer_command import command_key

        if passphrase_file is not None:
            what = "--signer and --passphrase-file exclude each other"
            raise InputError("usage", what, fix="let the command ask for what it needs")
        return command_key(keys.load_public(path), signer)
    if passphrase_file is not None:
        return keys.load_private(path, keys.read_passphrase(passphrase_file))
    try:
        return keys.load_private(path)
    except InputError as error:
        if error.code != "key-passphrase-missing":
            raise
    return keys.load_private(path, read_passphrase(None, f"passphrase of {path}"))


def read_passphrase(file: Path | None, prompt: str, confirm: bool = False) -> bytes:
    """Return a passphrase from a file, or typed on a terminal; never asks without one.

    Raises:
        InputError: there is no terminal, or the two entries differ.
    """
    import getpass

    from certify.keys import files as keys

    if file is not None:
        return keys.read_passphrase(file)
    if sys.stdin is None or not sys.stdin.isatty():
        raise InputError("key-passphrase-missing", "there is no terminal to ask on", fix="give --passphrase-file")
    passphrase = getpass.getpass(f"{prompt}: ").encode()
    if confirm and getpass.getpass("again: ").encode() != passphrase:
        raise InputError("key-passphrase-wrong", "the two entries differ")
    return passphrase
