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
from certify.trust.revocations import Revocations
from certify.trust.root import (
    Root,
    accept,
    accept_revocations,
    needed_versions,
    open_revocations,
    read_root,
    read_versions,
)
from certify.trust.trusted_set import TrustedSet

SUFFIX = ".dsse.json"  # of what is remembered of one trust id


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


class LastAccepted(NamedTuple):
    """What a state folder remembers: the newest root, with the revocation list applied, and that list."""

    accepted: Accepted
    listed: Revocations | None


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
        roots: files of trust roots of one id, in ascending order of version; usually one, which may hold several
            versions (`split_versions`).
        now: the present.
        state: the verifier's state folder; None to neither know nor remember anything.
        fingerprint: of one of them, obtained out of band; None where one was accepted before.
        revocations: file of a revocation list.
        fresh: whether an expired root is refused; False for the one that its keepers renew.

    Raises:
        RefusedError: with the code of the first fault (`certify.trust.root`).
        InputError: a file cannot be read.
    """
    versions = [one for path in roots for one in read_versions(read_given(path, CAPS.trust_chain_bytes), path)]
    memory = Memory(None if state is None else state / "trust", versions[0].root.trust_id)
    with memory.locked() as locked:
        known, listed = memory.root(), memory.revocations()
        needed = needed_versions(versions, known, fingerprint)
        read = [one.with_keys() for one in needed]
        root = accept(read, known, fingerprint, now, [one.where for one in needed], fresh)
        # Before the revocation list is looked at: a bad list must not keep a newer root from being remembered.
        remembered = memory.keep(memory.root_file, root.content)
        trusted, not_checked = root.trusted, []
        if listed is not None:  # what was revoked once stays revoked, though the list itself may have expired
            trusted = trusted.with_revocations(listed)
        if revocations is not None:
            new, stored = _accept_list(revocations, root, memory, now)
            trusted = trusted.with_revocations(new)
            remembered = stored and remembered
        elif listed is None or now >= listed.expires_at:
            since = root.root.issued_at if listed is None else listed.issued_at
            not_checked.append(line("revocations-not-given", since=since))
    if not remembered:
        not_checked.append(line("rollback-not-remembered"))
    elif not locked:
        not_checked.append(line("rollback-not-locked"))
    return Accepted(trusted, root, tuple(not_checked))


def accept_list(revocations: Path, root: Root, now: str, state: Path) -> None:
    """Accept and remember a revocation list by a root that was accepted before, whatever lies in its file today.

    Raises:
        RefusedError: with the code of the first fault (`certify.trust.root`).
        InputError: the file cannot be read.
    """
    memory = Memory(state / "trust", root.root.trust_id)
    with memory.locked():
        _accept_list(revocations, root, memory, now)


def _accept_list(file: Path, root: Root, memory: Memory, now: str) -> tuple[Revocations, bool]:
    """Return a revocation list that is accepted, and whether it is remembered; the lock is the caller's."""
    content = read_given(file, CAPS.trust_bytes)
    new = open_revocations(content, root, file)
    accept_revocations(new, memory.revocations(), now, file)
    return new, memory.keep(memory.list_file, content)


def last_accepted(state: Path) -> LastAccepted | None:
    """Return the newest root that was accepted in a state folder, with what was revoked since; None: there is none.

    Where it remembers roots of several ids, it is the one that was accepted last.

    Raises:
        RefusedError, InputError: what is remembered is damaged.
    """
    folder = state / "trust" / "roots"
    files = sorted(folder.glob(f"*{SUFFIX}"), key=lambda file: (file.stat().st_mtime_ns, file.name))
    if not files:
        return None
    memory = Memory(state / "trust", files[-1].name.removesuffix(SUFFIX))
    root, listed = memory.root(), memory.revocations()
    assert root is not None  # its file was there a moment ago, and none is ever taken away
    trusted = root.trusted if listed is None else root.trusted.with_revocations(listed)
    return LastAccepted(Accepted(trusted, root), listed)


@dataclass(frozen=True)
class Memory:
    """The newest accepted versions of a trust root and its revocation list; empty without a folder for them."""

    folder: Path | None
    trust_id: str

    @property
    def root_file(self) -> Path | None:
        """The newest root."""
        return None if self.folder is None else self.folder / "roots" / f"{self.trust_id}{SUFFIX}"

    @property
    def list_file(self) -> Path | None:
        """The newest revocation list."""
        return None if self.folder is None else self.folder / "revocations" / f"{self.trust_id}{SUFFIX}"

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
