"""Who may sign what: every rule of trust in one class, without I/O, with the time passed in.

A trust root is a signed document that lists keys, roles and revocations; a single public key that the user names is a
trust root of one. Which root is accepted, and what follows it, is `certify.trust.root`. Times are in the one form that
documents use, whose text order is their order in time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Annotated, Literal

from msgspec import Meta

from bench.errors import RefusedError
from bench.record import Document, Name, Positive, Sha256, UtcTime
from bench.units import utc_ns, utc_text
from certify.documents.caps import CAPS, Caps
from certify.documents.kinds import DOCUMENTS, Role
from certify.keys.signers import PublicKey, public_key, spki_bytes
from certify.trust.revocations import (
    Revocation,
    Revocations,
    RevokedByRecords,
    RevokedRecords,
    Withdrawal,
    earlier_of,
)

LAST_TIME = "9999-12-31T23:59:59.999999Z"
_LAST_NS = utc_ns(LAST_TIME)
CENTRE_ROLES = frozenset({"operator", "node"})  # their keys are bound to centres; the other roles speak for themselves


def skewed(at: str) -> str:
    """Return the latest time that a document may bear at a time: clocks differ a little (`Caps.time_skew_s`)."""
    return min(utc_text(min(utc_ns(at) + CAPS.time_skew_s * 10**9, _LAST_NS)), LAST_TIME)


class TrustedKey(Document, frozen=True, kw_only=True):
    """A key and when it is valid: from `valid_from`, until before `valid_until`."""

    scheme: Name
    spki: Annotated[str, Meta(min_length=1, max_length=512)]  # base64 DER SubjectPublicKeyInfo
    valid_from: UtcTime
    valid_until: UtcTime


class Delegation(Document, frozen=True, kw_only=True):
    """Keys that hold a role, how many of them must sign, and for which centres (null: the role is not bound to any)."""

    role: Role
    centre_ids: Annotated[tuple[Name, ...], Meta(min_length=1)] | None
    threshold: Positive
    keys: Annotated[tuple[Sha256, ...], Meta(min_length=1)]


class TrustRoot(Document, frozen=True, kw_only=True):
    """The predicate of ``trust-root.json``, consistent in itself. Its keys are checked by `TrustedSet.from_root`."""

    trust_id: Name  # the same in all versions of one root
    version: Positive
    issued_at: UtcTime
    expires_at: UtcTime
    keys: dict[Sha256, TrustedKey]
    roles: Annotated[tuple[Delegation, ...], Meta(min_length=1)]
    revocations: tuple[Revocation, ...]

    def __post_init__(self) -> None:
        holders = [keyid for delegation in self.roles for keyid in delegation.keys]
        served = [(d.role, centre) for d in self.roles for centre in d.centre_ids or (None,)]
        revoked = [revocation.keyid for revocation in self.revocations]
        misplaced = any((d.role in CENTRE_ROLES) != bool(d.centre_ids) for d in self.roles)
        for broken, what in (
            (self.issued_at >= self.expires_at, "it expires before it is issued"),
            (any(k.valid_from >= k.valid_until for k in self.keys.values()), "a key's validity is reversed"),
            (not set(holders) <= self.keys.keys(), "a role names a key that is not listed"),
            (len(set(holders)) != len(holders), "one key holds two roles, or one role twice"),
            (any(d.threshold > len(d.keys) for d in self.roles), "a threshold is higher than the number of its keys"),
            (
                any(d.threshold > CAPS.signatures for d in self.roles),
                f"more than {CAPS.signatures} keys would have to sign",
            ),
            (len(set(served)) != len(served), "a role is given twice, or twice for one centre"),
            (misplaced, "operators and nodes, and no other role, are bound to centres"),
            (("root", None) not in served, "there is no root role"),
            (len(set(revoked)) != len(revoked), "one key is revoked twice"),
        ):
            if broken:
                raise RefusedError("trust-root-invalid", f"the trust root is inconsistent: {what}")


@dataclass(frozen=True)
class TrustedSet:
    """The verifier's keys and what each may sign."""

    level: Literal["signature", "trusted"]  # what a good signature amounts to: a named key, or a role in a trust root
    keys: Mapping[str, PublicKey]
    validity: Mapping[str, TrustedKey]  # empty for a key that the user named: it is valid when the user says so
    delegations: tuple[Delegation, ...]
    revoked: Mapping[str, Revocation]
    withdrawn: Mapping[str, Withdrawal] = field(default_factory=dict)  # statements by payload digest

    @classmethod
    def single(cls, key: PublicKey, witnesses: Sequence[PublicKey] = ()) -> TrustedSet:
        """Return the set of one operator's key that the user named, and of witnesses' keys, for any centre and time.

        Raises:
            RefusedError: `key-two-roles`, the operator's key is given as a witness's too.
        """
        return cls.named((key,), witnesses)

    @classmethod
    def named(cls, operators: Sequence[PublicKey], witnesses: Sequence[PublicKey] = ()) -> TrustedSet:
        """Return the set of keys that the user named: any one of the operator's, and witnesses' (see `single`)."""
        held = {"operator": {key.keyid: key for key in operators}, "witness": {key.keyid: key for key in witnesses}}
        if both := sorted(held["operator"].keys() & held["witness"].keys()):
            raise RefusedError("key-two-roles", f"key {both[0][:16]}… is given as the operator's and as a witness's")
        roles: tuple[Role, ...] = ("operator", "witness")
        delegations = tuple(
            Delegation(role=role, centre_ids=None, threshold=1, keys=tuple(held[role])) for role in roles if held[role]
        )
        return cls("signature", {**held["operator"], **held["witness"]}, {}, delegations, {})

    @classmethod
    def from_root(cls, root: TrustRoot, where: object = None, caps: Caps = CAPS) -> TrustedSet:
        """Return the set that a trust root describes, after checking each of its keys.

        Raises:
            RefusedError: `trust-root-invalid`, `key-weak`, `key-unsupported`, `base64-not-canonical`.
        """
        if len(root.keys) > caps.trust_keys:
            raise RefusedError("trust-root-invalid", f"has more than {caps.trust_keys} keys", where=where)
        keys = {}
        for keyid, entry in root.keys.items():
            key = public_key(spki_bytes(entry.spki, where), where)
            if key.keyid != keyid or key.scheme != entry.scheme:
                raise RefusedError(
                    "trust-root-invalid", f"key {keyid[:16]}… is not the one that its entry describes", where=where
                )
            keys[keyid] = key
        revoked = {revocation.keyid: revocation for revocation in root.revocations}
        return cls("trusted", keys, root.keys, root.roles, revoked)

    def with_revocations(self, revocations: Revocations) -> TrustedSet:
        """Return the set with more keys and statements revoked; nothing is un-revoked, the earlier time holds."""
        # A list that names a later time than one before it would bring a thief's signatures back to life.
        revoked = dict(self.revoked)
        for entry in revocations.revocations:
            known = revoked.get(entry.keyid)
            revoked[entry.keyid] = entry if known is None else min(known, entry, key=lambda one: one.revoked_at)
        withdrawn = dict(self.withdrawn)
        for one in revocations.statements:
            before = withdrawn.get(one.payload_sha256)
            withdrawn[one.payload_sha256] = one if before is None else earlier_of(before, one)
        return replace(self, revoked=revoked, withdrawn=withdrawn)

    def check_withdrawn(self, payload_sha256: str, records: RevokedRecords, at: str, where: object = None) -> None:
        """Refuse a statement that was revoked, and one over records that were revoked with another statement.

        Args:
            payload_sha256: of the statement.
            records: that it rests on.
            at: the moment of the answer.
            where: the statement, for the error text.

        Raises:
            RefusedError: `statement-revoked` or `records-revoked`.
        """
        entry = self.withdrawn.get(payload_sha256)
        if entry is not None and at >= entry.revoked_at:
            raise RefusedError("statement-revoked", f"was revoked at {entry.revoked_at}: {entry.reason}", where=where)
        entry = self.revoked_records.of(records)
        if entry is not None and at >= entry.revoked_at:
            what = f"rests on the measurement of the statement {entry.payload_sha256[:16]}…"
            what += f", which was revoked with its records at {entry.revoked_at}: {entry.reason}"
            raise RefusedError("records-revoked", what, where=where, fix="measure again, in a new campaign")

    @cached_property
    def revoked_records(self) -> RevokedByRecords:
        """The revocations that name records."""
        return RevokedByRecords(self.withdrawn.values())

    def role_of(self, keyid: str) -> Role | None:
        """Return the role that a key holds, if any; it never holds two."""
        delegation = self._holders.get(keyid)
        return None if delegation is None else delegation.role

    def check(
        self,
        name: str,
        signers: frozenset[str],
        centre_id: str | None,
        at: str,
        where: object = None,
        attested_before: str | None = None,
        signed_as: Role | None = None,
    ) -> frozenset[str]:
        """Return the signers that count, if there are enough of them.

        Args:
            name: a key of `DOCUMENTS`.
            signers: ids of the keys whose signatures hold.
            centre_id: the centre that the document speaks for.
            at: the time that keys must be valid at.
            where: what was signed, for the error text.
            attested_before: when a witness or registry had seen the document, if one had: what a key signed before it
                was revoked stays signed.
            signed_as: the role that the document names; None where its kind has one role only.

        Raises:
            RefusedError: `key-not-trusted`, `role-not-allowed`, `role-differs`, `centre-not-allowed`, `key-revoked`,
                `key-not-yet-valid`, `key-expired` or `threshold-not-met`.
        """
        roles = DOCUMENTS[name].roles
        role = signed_as or roles[0]
        # A signature of an unknown key is no fault: whoever adds one to an envelope must not make it invalid.
        known = {keyid: held for keyid in signers if (held := self.role_of(keyid)) is not None}
        if not known:
            raise RefusedError("key-not-trusted", "is signed by no key that is trusted", where=where)
        # One key of a wrong role refuses, although others suffice: its owner signed what he may not.
        for keyid, held in sorted(known.items()):
            if held not in roles:
                what = f"a {name} is signed by a {' or '.join(roles)}; key {keyid[:16]}… is a {held}"
                raise RefusedError("role-not-allowed", what, where=where)
            if held != role:
                what = f"says that a {role} signs it; key {keyid[:16]}… is a {held}"
                raise RefusedError("role-differs", what, where=where)
        delegation = self._delegation(role, centre_id)
        if delegation is None or any(self._holders[keyid] is not delegation for keyid in known):
            raise RefusedError(
                "centre-not-allowed", f"its key may not sign for centre {centre_id or '(none)'}", where=where
            )
        # A bad key beside enough good ones is passed: operators rotate keys while old envelopes stay.
        faults = {keyid: self._fault(keyid, at, where, attested_before) for keyid in sorted(known)}
        good = frozenset(keyid for keyid, fault in faults.items() if fault is None)
        if len(good) < delegation.threshold:
            for fault in faults.values():
                if fault is not None:
                    raise fault
            raise RefusedError(
                "threshold-not-met",
                f"is signed by {len(good)} of the {delegation.threshold} {role} keys that must sign",
                where=where,
            )
        return good

    def check_record_key(
        self, keyid: str, centre_id: str | None, at: str, where: object = None, attested_before: str | None = None
    ) -> bool:
        """Return whether a record's key is enrolled as a node's; False for a key that is not listed.

        `attested_before` is when a witness or registry saw the statement that binds the record (see `check`).

        Raises:
            RefusedError: the key is known, and may not sign this record (codes of `check`).
        """
        if self.role_of(keyid) is None:
            if (fault := self._revoked_fault(keyid, where, attested_before)) is not None:
                raise fault
            return False
        self.check("node-record", frozenset({keyid}), centre_id, at, where, attested_before)
        return True

    def check_root(self, signers: frozenset[str], at: str, where: object = None) -> frozenset[str]:
        """Return this set's root keys that signed a root or a revocation list, if they meet its threshold.

        Raises:
            RefusedError: `trust-root-signatures`.
        """
        delegation, good = self._delegation("root", None), self.root_signers(signers, at)
        if delegation is None or len(good) < delegation.threshold:
            demanded = delegation.threshold if delegation else "unknown number of"
            what = f"is signed by {len(good)} valid key(s) of the {demanded} root keys that must sign"
            raise RefusedError("trust-root-signatures", what, where=where)
        return good

    def root_signers(self, signers: frozenset[str], at: str) -> frozenset[str]:
        """Return those of the signers that are root keys and valid at a time."""
        delegation = self._delegation("root", None)
        return frozenset(k for k in signers if delegation and k in delegation.keys and self._fault(k, at, None) is None)

    @cached_property
    def _holders(self) -> Mapping[str, Delegation]:
        return {keyid: delegation for delegation in self.delegations for keyid in delegation.keys}

    def _delegation(self, role: Role, centre_id: str | None) -> Delegation | None:
        fits = (d for d in self.delegations if d.role == role and (d.centre_ids is None or centre_id in d.centre_ids))
        return next(fits, None)

    def _fault(self, keyid: str, at: str, where: object, attested_before: str | None = None) -> RefusedError | None:
        """Return why a key does not count at a time."""
        if (fault := self._revoked_fault(keyid, where, attested_before)) is not None:
            return fault
        entry = self.validity.get(keyid)
        if entry is None or entry.valid_from <= at < entry.valid_until:
            return None
        if at < entry.valid_from:
            return RefusedError("key-not-yet-valid", f"key {keyid[:16]}… is valid from {entry.valid_from}", where=where)
        return RefusedError("key-expired", f"key {keyid[:16]}… was valid until {entry.valid_until}", where=where)

    def _revoked_fault(self, keyid: str, where: object, attested_before: str | None) -> RefusedError | None:
        entry = self.revoked.get(keyid)
        if entry is None or (attested_before is not None and attested_before < entry.revoked_at):
            return None
        what = f"key {keyid[:16]}… was revoked at {entry.revoked_at}: {entry.reason}"
        fix = "only what a witness or registry dates before that holds (--witness, --receipt)"
        return RefusedError("key-revoked", what, where=where, fix=fix)
