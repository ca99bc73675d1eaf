"""Whom a verifier trusts: what the user named, and the newest root and revocation list that it accepted before.

I/O only; what is accepted is decided in `certify.trust.root`. Without this memory somebody who keeps an old root, or
an old revocation list, back from a verifier could bring a revoked key to life again.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from bench.errors import InputError
from bench.record import exclusive_lock, read_bytes, read_given, replacing
from certify.documents import dsse
from certify.documents import kinds as documents
from certify.documents.caps import CAPS
from certify.keys import files as keys
from certify.policy.lines import line
from certify.trust.root import Root, accept, accept_revocations, open_revocations, read_root
from certify.trust.trusted_set import Revocations, TrustedSet


@dataclass(frozen=True)
class Anchor:
    """Where a user's trust begins: exactly one of an operator's key and a trust root."""

    public_key: Path | None = None
    trust: Path | None = None
    fingerprint: str | None = None  # of the trust root, where none of its versions was accepted before
    revocations: Path | None = None
    witness_keys: tuple[Path, ...] = ()  # beside an operator's key; a trust root names its witnesses
    state: Path | None = None  # the verifier's state folder; None to neither know nor remember anything

    def __post_init__(self) -> None:
        if (self.public_key is None) == (self.trust is None):
            raise InputError("trust-missing", "give exactly one of --trust and --public-key")
        if self.trust is not None and self.witness_keys:
            raise InputError("trust-missing", "is for --public-key: a trust root names its own", where="--witness-key")
        for option, value in (("--fingerprint", self.fingerprint), ("--revocations", self.revocations)):
            if self.trust is None and value is not None:
                raise InputError("trust-missing", "is for a trust root", where=option, fix="give it with --trust")


class Accepted(NamedTuple):
    """The keys that a user trusts at present, with the root that lists them."""

    trusted: TrustedSet  # the root's, with the revocation list applied
    root: Root | None = None  # None: a key that the user named
    not_checked: tuple[str, ...] = ()


def open_anchor(anchor: Anchor, now: str) -> Accepted:
    """Return the keys that a user trusts now.

    Raises:
        RefusedError: `key-two-roles`, or a code of `accept_files`.
    """
    if anchor.trust is not None:
        return accept_files((anchor.trust,), now, anchor.state, anchor.fingerprint, anchor.revocations)
    assert anchor.public_key is not None
    trusted = TrustedSet.single(keys.load_public(anchor.public_key), [keys.load_public(k) for k in anchor.witness_keys])
    return Accepted(trusted, None, (line("key-given"),))


def accept_files(
    roots: Sequence[Path],
    now: str,
    state: Path | None,
    fingerprint: str | None = None,
    revocations: Path | None = None,
    fresh: bool = True,
) -> Accepted:
    """Return the trust that some versions of a root give, and remember the newest.

    Args:
        roots: files of trust roots of one id, in ascending order of version; usually one.
        now: the present.
        state: the verifier's state folder; None to neither know nor remember anything.
        fingerprint: of one of them, obtained out of band; None where one was accepted before.
        revocations: file of a revocation list.
        fresh: whether an expired root is refused; False for the one that its keepers renew.

    Raises:
        RefusedError: with the code of the first fault (`certify.trust.root`).
        InputError: a file cannot be read.
    """
    read = [read_root(read_given(path, CAPS.trust_bytes), path) for path in roots]
    memory = Memory(None if state is None else state / "trust", read[0].root.trust_id)
    with memory.locked() as locked:
        known, listed = memory.root(), memory.revocations()
        root = accept(read, known, fingerprint, now, roots, fresh)
        # Before the revocation list is looked at: a bad list must not keep a newer root from being remembered.
        remembered = memory.keep(memory.root_file, root.content)
        trusted, not_checked = root.trusted, []
        if listed is not None:  # what was revoked once stays revoked, though the list itself may have expired
            trusted = trusted.with_revocations(listed)
        if revocations is not None:
            content = read_given(revocations, CAPS.trust_bytes)
            new = open_revocations(content, root, revocations)
            accept_revocations(new, listed, now, revocations)
            trusted = trusted.with_revocations(new)
            remembered = memory.keep(memory.list_file, content) and remembered
        elif listed is None or now >= listed.expires_at:
            since = root.root.issued_at if listed is None else listed.issued_at
            not_checked.append(line("revocations-not-given", since=since))
    if not remembered:
        not_checked.append(line("rollback-not-remembered"))
    elif not locked:
        not_checked.append(line("rollback-not-locked"))
    return Accepted(trusted, root, tuple(not_checked))


@dataclass(frozen=True)
class Memory:
    """The newest accepted versions of a trust root and its revocation list; empty without a folder for them."""

    folder: Path | None
    trust_id: str

    @property
    def root_file(self) -> Path | None:
        """The newest root."""
        return None if self.folder is None else self.folder / "roots" / f"{self.trust_id}.dsse.json"

    @property
    def list_file(self) -> Path | None:
        """The newest revocation list."""
        return None if self.folder is None else self.folder / "revocations" / f"{self.trust_id}.dsse.json"

    def root(self) -> Root | None:
        """Return the newest root that was accepted."""
        path = self.root_file
        return read_root(read_bytes(path, CAPS.trust_bytes), path) if path and os.path.lexists(path) else None

    def revocations(self) -> Revocations | None:
        """Return the newest revocation list that was accepted."""
        path = self.list_file
        if path is None or not os.path.lexists(path):
            return None
        envelope = dsse.parse_envelope(read_bytes(path, CAPS.trust_bytes), CAPS.trust_bytes, path)
        listed: Revocations = documents.parse_payload("revocations", envelope.payload, path).predicate
        return listed

    @contextlib.contextmanager
    def locked(self) -> Iterator[bool]:
        """Hold the store's lock, so that no other process brings an older version back; yield whether it was taken."""
        with contextlib.ExitStack() as stack:
            is_locked = False
            with contextlib.suppress(OSError, InputError):  # a file system without locks, or one that cannot be written
                if self.folder is not None:
                    self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                    is_locked = stack.enter_context(exclusive_lock(self.folder / f".{self.trust_id}.lock"))
            yield is_locked

    def keep(self, path: Path | None, content: bytes) -> bool:
        """Store an accepted version; return whether it is stored."""
        if path is None:
            return False
        try:
            if os.path.lexists(path) and path.read_bytes() == content:
                return True
            with replacing(path, folder_mode=0o700) as file:
                file.write(content)
        except (OSError, InputError):
            return False
        return True
