"""New versions of a trust root: who holds which role, who no longer does. Pure; the time is passed in.

Whatever is made here is checked by the root's own rules (`trust.TrustRoot`), and counts once the thresholds of the old
version and the new have signed it (`certify.trust.root`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from bench.errors import InputError
from bench.units import DAY_NS, utc_ns, utc_text
from certify.documents.dsse import seal
from certify.documents.kinds import PAYLOAD_TYPE, Role, make_document, spki_text
from certify.keys.signers import PrivateKey, PublicKey
from certify.trust.root import Root
from certify.trust.trusted_set import Delegation, Revocation, Revocations, TrustedKey, TrustedSet, TrustRoot, Withdrawal


class Span(NamedTuple):
    """How long something is valid, in days from a time on."""

    begin: str
    days: int

    @property
    def end(self) -> str:
        """The first moment at which it is no longer valid."""
        return utc_text(utc_ns(self.begin) + self.days * DAY_NS)


def first(trust_id: str, roots: Sequence[PublicKey], threshold: int, valid: Span, keys: Span) -> TrustRoot:
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


def following(root: TrustRoot, valid: Span) -> TrustRoot:
    """Return the next version with the same content, valid anew."""
    return replace(root, version=root.version + 1, issued_at=valid.begin, expires_at=valid.end)


def with_key(
    root: TrustRoot, key: PublicKey, role: Role, centres: Sequence[str], threshold: int | None, valid: Span
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
    if key.keyid in root.keys:
        raise InputError("key-two-roles", f"key {key.keyid[:16]}… is in the trust root already", where="--public-key")
    centre_ids = tuple(sorted(centres)) or None
    roles, found = [], False
    for held in root.roles:
        if (held.role, held.centre_ids) == (role, centre_ids):
            found = True
            held = replace(held, keys=(*held.keys, key.keyid), threshold=threshold or held.threshold)
        roles.append(held)
    if not found:
        roles.append(Delegation(role=role, centre_ids=centre_ids, threshold=threshold or 1, keys=(key.keyid,)))
    return replace(root, keys={**root.keys, key.keyid: _entry(key, valid)}, roles=tuple(roles))


def without_keys(root: TrustRoot, keyids: Collection[str], revoked_at: str, reason: str) -> TrustRoot:
    """Return a root in which keys are revoked; they stay listed, so that everybody sees whose they were."""
    new = tuple(Revocation(keyid=keyid, revoked_at=revoked_at, reason=reason) for keyid in keyids)
    return replace(root, revocations=(*root.revocations, *new))


def rotated(
    root: TrustRoot, add: Sequence[PublicKey], remove: Collection[str], threshold: int | None, valid: Span
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
    kept = tuple(keyid for keyid in held.keys if keyid not in remove)
    own = replace(held, keys=(*kept, *(key.keyid for key in add)), threshold=threshold or held.threshold)
    keys = {keyid: entry for keyid, entry in root.keys.items() if keyid not in remove}
    keys |= {key.keyid: _entry(key, valid) for key in add}
    return replace(root, keys=keys, roles=tuple(own if d.role == "root" else d for d in root.roles))


def listed(
    root: TrustRoot,
    before: Revocations | None,
    keyids: Collection[str],
    statements: Collection[str],
    revoked_at: str,
    reason: str,
    valid: Span,
) -> Revocations:
    """Return the next revocation list: what stood in the one before, and more."""
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
            *(before.statements if before else ()),
            *(Withdrawal(payload_sha256=sha, revoked_at=revoked_at, reason=reason) for sha in statements),
        ),
    )


def sealed(name: str, document: TrustRoot | Revocations, keys: Sequence[PrivateKey]) -> bytes:
    """Return a signed trust root or revocation list; it may lack signatures, which `dsse.countersign` adds."""
    return seal(make_document(name, document), PAYLOAD_TYPE, keys)


def lacking(root: Root, before: TrustedSet | None) -> int:
    """Return how many more root keys must sign a new version: the most that its own or the older threshold lacks."""
    at = root.root.issued_at
    return max(_lacking(root, by, at) for by in (root.trusted, before) if by is not None)


def _lacking(root: Root, by: TrustedSet, at: str) -> int:
    (held,) = (d for d in by.delegations if d.role == "root")
    return max(0, held.threshold - len(by.root_signers(root.signers(by), at)))


def _entry(key: PublicKey, valid: Span) -> TrustedKey:
    return TrustedKey(scheme=key.scheme, spki=spki_text(key), valid_from=valid.begin, valid_until=valid.end)
