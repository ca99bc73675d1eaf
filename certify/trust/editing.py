"""New versions of a trust root or a revocation list: made, described, signed, and remembered here. Time is passed in.

Whatever is made here is checked by the root's own rules (`trust.TrustRoot`), and counts once the thresholds of the old
version and the new have signed it (`certify.trust.root`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from bench.errors import InputError, RefusedError
from bench.record import read_given, write_atomic
from bench.units import DAY_NS, utc_ns, utc_text
from certify.documents.caps import CAPS
from certify.documents.dsse import seal
from certify.documents.kinds import PAYLOAD_TYPE, Role, make_document
from certify.keys.signers import PrivateKey, PublicKey, spki_text
from certify.trust.describing import describe_trust, lacking
from certify.trust.revocations import Revocation, Revocations, RevokedRecords, Withdrawal
from certify.trust.root import Root, open_revocations, read_root
from certify.trust.store import Memory, accept_files
from certify.trust.trusted_set import Delegation, TrustedKey, TrustRoot


class Validity(NamedTuple):
    """How long something is valid: in days from a time on, or until a time."""

    begin: str
    days: int
    until: str | None = None

    @property
    def end(self) -> str:
        """The first moment at which it is no longer valid."""
        return self.until or utc_text(utc_ns(self.begin) + self.days * DAY_NS)


def first(trust_id: str, roots: Sequence[PublicKey], threshold: int, valid: Validity, keys: Validity) -> TrustRoot:
    """Return version 1 of a trust root: root keys only."""
    entries = {key.keyid: _entry(key, keys) for key in roots}
    if len(entries) != len(roots):
        raise InputError("key-two-roles", "one root key is given twice", where="--root")
    held = Delegation(role="root", centre_ids=None, threshold=threshold, keys=tuple(sorted(entries)))
    return TrustRoot(
        trust_id=trust_id,
        version=1,
        issued_at=valid.begin,
        expires_at=valid.end,
        keys=entries,
        roles=(held,),
        revocations=(),
    )


def following(root: TrustRoot, valid: Validity) -> TrustRoot:
    """Return the next version with the same content, valid anew."""
    return replace(root, version=root.version + 1, issued_at=valid.begin, expires_at=valid.end)


def with_key(
    root: TrustRoot, key: PublicKey, role: Role, centres: Sequence[str], threshold: int | None, valid: Validity
) -> TrustRoot:
    """Return a root in which one more key holds a role, for the centres given.

    Args:
        root: to change.
        key: that is added.
        role: that it holds; never `root` (see `rotated`).
        centres: that an operator's or node's key speaks for; none for the other roles.
        threshold: how many keys of this role and these centres must sign; None leaves it, or makes it 1.
        valid: when the key is.
    """
    return with_keys(root, (AddedKey("--public-key", key, role, tuple(centres), threshold, valid),))


class AddedKey(NamedTuple):
    """A key that is to hold a role (see `with_key`); `where` names it in error texts."""

    where: str
    key: PublicKey
    role: Role
    centres: tuple[str, ...]
    threshold: int | None
    valid: Validity


def with_keys(root: TrustRoot, added: Sequence[AddedKey]) -> TrustRoot:
    """Return a root in which more keys hold roles: all of them, or none where one cannot.

    Raises:
        InputError: `key-two-roles`, of the first that cannot.
        RefusedError: `trust-root-invalid`.
    """
    keys = dict(root.keys)
    held = {(one.role, one.centre_ids): one for one in root.roles}
    served = {(one.role, centre): one.centre_ids for one in root.roles for centre in one.centre_ids or ()}
    for one in added:
        if one.key.keyid in keys:
            what = f"key {one.key.keyid[:16]}… is in the trust root already"
            raise InputError("key-two-roles", what, where=one.where)
        centre_ids = tuple(sorted(one.centres)) or None
        for centre in centre_ids or ():
            other = served.setdefault((one.role, centre), centre_ids)
            if other != centre_ids:
                what = f"keys of role {one.role} speak for {centre} together with {', '.join(other or ())} already"
                fix = "name the same centres for each of their keys"
                raise RefusedError("trust-root-invalid", what, where=one.where, fix=fix)
        keys[one.key.keyid] = _entry(one.key, one.valid)
        place = (one.role, centre_ids)
        if (before := held.get(place)) is None:
            before = Delegation(role=one.role, centre_ids=centre_ids, threshold=1, keys=(one.key.keyid,))
        else:
            before = replace(before, keys=(*before.keys, one.key.keyid))
        held[place] = replace(before, threshold=one.threshold or before.threshold)
    return replace(root, keys=keys, roles=tuple(held.values()))


def without_keys(root: TrustRoot, keyids: Collection[str], revoked_at: str, reason: str) -> TrustRoot:
    """Return a root in which keys are revoked; they stay listed, so that everybody sees whose they were."""
    new = tuple(Revocation(keyid=keyid, revoked_at=revoked_at, reason=reason) for keyid in keyids)
    return replace(root, revocations=(*root.revocations, *new))


def rotated(
    root: TrustRoot, add: Sequence[PublicKey], remove: Collection[str], threshold: int | None, valid: Validity
) -> TrustRoot:
    """Return a root with other root keys, or another threshold of them.

    Raises:
        InputError: a key to add is there already, or one to remove is no root key.
    """
    (held,) = (d for d in root.roles if d.role == "root")
    for key in add:
        if key.keyid in root.keys:
            raise InputError("key-two-roles", f"key {key.keyid[:16]}… is in the trust root already", where="--add")
    if unknown := sorted(set(remove) - set(held.keys)):
        raise InputError("key-unknown", f"{unknown[0]} is not the id of a root key", where="--remove")
    remaining = tuple(keyid for keyid in held.keys if keyid not in remove)
    changed = replace(held, keys=(*remaining, *(key.keyid for key in add)), threshold=threshold or held.threshold)
    keys = {keyid: entry for keyid, entry in root.keys.items() if keyid not in remove}
    keys |= {key.keyid: _entry(key, valid) for key in add}
    return replace(root, keys=keys, roles=tuple(changed if d.role == "root" else d for d in root.roles))


def listed(
    root: TrustRoot,
    before: Revocations | None,
    keyids: Collection[str],
    statements: Mapping[str, RevokedRecords | UnsetType],
    revoked_at: str,
    reason: str,
    valid: Validity,
) -> Revocations:
    """Return the next revocation list: what stood in the one before, and more.

    Args:
        root: that the list is of.
        before: the list before; None for the first.
        keyids: keys to revoke.
        statements: statements to revoke, by payload digest, each with its records where they are revoked with it.
        revoked_at: since when.
        reason: why, in one line.
        valid: how long the list is.
    """
    known = {} if before is None else {one.payload_sha256: one for one in before.statements}
    # a statement that is listed and whose records turn out to be bad gets them added, and keeps its time
    widened = {
        sha: replace(known[sha], records=records)
        for sha, records in statements.items()
        if sha in known and known[sha].records is UNSET and records is not UNSET
    }
    return Revocations(
        trust_id=root.trust_id,
        version=1 if before is None else before.version + 1,
        issued_at=valid.begin,
        expires_at=valid.end,
        revocations=(
            *(before.revocations if before else ()),
            *(Revocation(keyid=keyid, revoked_at=revoked_at, reason=reason) for keyid in keyids),
        ),
        statements=(
            *({**known, **widened}.values()),
            *(
                Withdrawal(payload_sha256=sha, revoked_at=revoked_at, reason=reason, records=records)
                for sha, records in statements.items()
                if sha not in widened
            ),
        ),
    )


def sealed(name: str, document: TrustRoot | Revocations, keys: Sequence[PrivateKey]) -> bytes:
    """Return a signed trust root or revocation list; it may lack signatures, which `dsse.countersign` adds."""
    return seal(make_document(name, document), PAYLOAD_TYPE, keys)


def _entry(key: PublicKey, valid: Validity) -> TrustedKey:
    return TrustedKey(scheme=key.scheme, spki=spki_text(key), valid_from=valid.begin, valid_until=valid.end)


def signed_root(file: Path, now: str, state: Path, fingerprint: str | None) -> Root:
    """Return the root that a change begins with: accepted here before, or by its fingerprint, and whole.

    A keeper who changed whatever file he is handed would sign for root keys that a stranger put into it.

    Raises:
        InputError, RefusedError: a code of `accept_files`.
    """
    # `fresh`: an expired root is not trusted any more, and still is what its holders renew.
    root = accept_files([file], now, state, fingerprint, fresh=False).root
    assert root is not None
    return root


def revocations_before(file: Path | None, root: Root, state: Path) -> Revocations | None:
    """Return the list that a new one goes on from: the one given, else the one that was accepted here.

    One that was accepted here holds though its root keys have changed hands since.

    Raises:
        RefusedError: a code of `open_revocations`.
    """
    memory = Memory(state / "trust", root.root.trust_id)
    accepted = memory.revocations()
    if file is None:
        return accepted
    content = read_given(file, CAPS.trust_bytes)
    # The same bytes were accepted when their signers were root keys: they need not be so today.
    if accepted is not None and memory.list_file is not None and content == memory.list_file.read_bytes():
        return accepted
    return open_revocations(content, root, file)


def remember_revocations(file: Path, root: Root, state: Path) -> None:
    """Remember a revocation list that is whole, so that the next one goes on from it."""
    content = read_given(file, CAPS.trust_bytes)
    with contextlib.suppress(RefusedError):  # it lacks signatures
        open_revocations(content, root, file)
        memory = Memory(state / "trust", root.root.trust_id)
        with memory.locked():
            memory.keep(memory.list_file, content)


def write_version(
    document: TrustRoot | Revocations, keys: Sequence[PrivateKey], out: Path, before: Root | None, now: str, state: Path
) -> tuple[dict[str, Any], list[str]]:
    """Sign and write a new version, and return what it says and lacks, for machines and for people.

    Args:
        document: a trust root, or a revocation list.
        keys: those at hand; others may sign later.
        out: file to make.
        before: the root that the change began with; None for a first version.
        now: the present time.
        state: where accepted versions are remembered.

    Raises:
        InputError: `output-exists`, or another code of `write_atomic`.
    """
    is_root = isinstance(document, TrustRoot)
    content = sealed("trust-root" if is_root else "revocations", document, keys)
    write_atomic(out, content, new=True)
    shown, lines = describe_trust(content, out)
    if is_root:
        missing = lacking(read_root(content, out), None if before is None else before.trusted)
        shown["signatures_lacking"] = missing
        if missing:
            lines.append(f"LACKS {missing} signature(s): petaseal trust sign {out} --key KEY")
        elif before is None:  # who made the first version needs no other way to learn its fingerprint
            accept_files([out], now, state, shown["fingerprint"])
    elif before is not None:
        remember_revocations(out, before, state)
    return shown, lines
