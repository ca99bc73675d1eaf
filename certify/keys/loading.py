"""A key to sign with, from a file or behind a command: a passphrase is asked for on a terminal only.

A command signs with a key on a PKCS#11 token, in an HSM or on another machine (docs/signing.md): it gets the message
on stdin and writes the raw signature to stdout. What it answers counts only if it verifies under the key that the user
named."""

from __future__ import annotations

import os
import selectors
import shlex
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from bench.errors import InputError
from certify.keys.signers import PublicKey

if TYPE_CHECKING:
    from certify.keys.signers import PrivateKey


TIMEOUT_NS = 600 * 10**9  # a person has to find the token and type its PIN
_ANSWER_BYTES = 4096  # a signature has 72 at most; what writes more is another program


@dataclass(frozen=True)
class CommandKey:
    """A private key that only a command can use."""

    public: PublicKey
    command: tuple[str, ...]
    timeout_ns: int = TIMEOUT_NS

    def sign(self, message: bytes) -> bytes:
        """Return the signature over `message` that the command makes.

        Raises:
            InputError: `signer-failed` or `signer-wrong-signature`.
        """
        # Verified here and not by the first reader: a token with another key would fail only after it was published.
        signature = self._answer(message)
        if not self.public.verify(signature, message):
            what = f"wrote {len(signature)} bytes that are no signature of key {self.public.keyid[:16]}…"
            fix = "let it sign stdin with that key, and write 64 raw bytes for Ed25519 or DER for SM2"
            raise InputError("signer-wrong-signature", what, where=self.command[0], fix=fix)
        return signature

    def _answer(self, message: bytes) -> bytes:
        deadline_ns = time.monotonic_ns() + self.timeout_ns
        environment = {**os.environ, "PETASEAL_KEYID": self.public.keyid, "PETASEAL_SCHEME": self.public.scheme}
        with ExitStack() as stack:
            given = stack.enter_context(tempfile.TemporaryFile())  # it may be long, and may be read late or never
            given.write(message)
            given.seek(0)
            try:  # stderr and the terminal stay the user's own, so that a question for the PIN is seen
                process = subprocess.Popen(self.command, stdin=given, stdout=subprocess.PIPE, env=environment)
            except (OSError, ValueError) as error:
                raise self._failed(f"cannot be started ({getattr(error, 'strerror', None) or error})") from None
            stack.enter_context(process)
            stack.callback(process.kill)  # does nothing to one that has ended
            assert process.stdout is not None
            # Read before the wait: a program that writes more than a pipe holds never ends by itself.
            answer = self._read(process.stdout, deadline_ns)
            try:
                status = process.wait(max(0, deadline_ns - time.monotonic_ns()) / 1e9)
            except subprocess.TimeoutExpired:
                raise self._late() from None
        if status:
            raise self._failed(f"failed with {f'exit status {status}' if status > 0 else f'signal {-status}'}")
        if not answer:
            raise self._failed("wrote no signature to stdout")
        return answer

    def _read(self, stdout: IO[bytes], deadline_ns: int) -> bytes:
        """Return all that the command writes, which must be little and come in time."""
        answer = b""
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            while selector.select(max(0, deadline_ns - time.monotonic_ns()) / 1e9):
                piece = os.read(stdout.fileno(), _ANSWER_BYTES)
                if not piece:
                    return answer
                answer += piece
                if len(answer) > _ANSWER_BYTES:
                    raise self._failed(f"wrote more than {_ANSWER_BYTES} bytes, which is no signature")
        raise self._late()

    def _late(self) -> InputError:
        return self._failed(f"did not finish within {self.timeout_ns // 10**9} s")

    def _failed(self, what: str) -> InputError:
        return InputError("signer-failed", f"the signer {what}", where=self.command[0])


def command_key(public: PublicKey, command: str) -> CommandKey:
    """Return the key that a command line signs with; the line is split as a shell does, and no shell runs it.

    Raises:
        InputError: `usage`, the line is empty or has an open quotation mark.
    """
    try:
        words = tuple(shlex.split(command))
    except ValueError:
        words = ()
    if not words:
        raise InputError("usage", f"{command!r} is not a command", where="--signer")
    return CommandKey(public, words)


def load_signing_key(path: Path, passphrase_file: Path | None, signer: str | None = None) -> PrivateKey:
    """Return a key to sign with, asking for its passphrase on a terminal where it needs one and none is given.

    Args:
        path: the private key; the public key where a command signs.
        passphrase_file: its first line opens the private key.
        signer: command line that signs with a key which is not in a file (`certify.keys.loading`).

    Raises:
        InputError, RefusedError: codes of `keys.load_private`; with `signer` those of `keys.load_public`, and `usage`.
    """
    from certify.keys import files as keys

    if signer is not None:
        if passphrase_file is not None:
            what = "--signer and --passphrase-file exclude each other"
            raise InputError("usage", what, fix="let the command ask for what it needs")
        return command_key(keys.load_public(path), signer)
    if passphrase_file is not None:
        return keys.load_private(path, keys.read_passphrase(passphrase_file))
    # First without a passphrase: only the file says whether it needs one, and a question would hang a script.
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
