"""Which trust root is accepted: the first by its fingerprint, every other one by the root before it. Pure.

A root says itself which keys must sign it, so that its signatures alone prove nothing: somebody who was trusted before
must vouch. That is whoever told the user the fingerprint of a first root, and after it the thresholds of both the old
version and the new. A verifier remembers the newest version that it accepted (`certify.trust.store`), and takes neither
an older one nor another one of the same number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from itertools import islice
from typing import NamedTuple

from bench.errors import RefusedError
from certify.documents import dsse
from certify.documents import kinds as documents
from certify.documents.caps import CAPS, Caps
from certify.trust.opening import check_payload_type
from certify.trust.revocations import Revocations, records_of
from certify.trust.trusted_set import TrustedSet, TrustRoot, skewed


class Root(NamedTuple):
    """A trust root as it was read. Whether it is accepted is decided by `accept`."""

    root: TrustRoot
    trusted: TrustedSet
    fingerprint: str  # SHA-256 of its payload
    envelope: dsse.Envelope
    content: bytes

    def signers(self, by: TrustedSet, where: object = None) -> frozenset[str]:
        """Return which keys of a set signed this root."""
        return dsse.verify_signatures(self.envelope, by.keys, where)


class RootVersion(NamedTuple):
    """A version of a trust root as it stands in a file, before its keys and signatures are looked at."""

    root: TrustRoot
    fingerprint: str  # SHA-256 of its payload
    envelope: dsse.Envelope
    content: bytes
    where: object  # the file, and the line where it has several

    def with_keys(self, caps: Caps = CAPS) -> Root:
        """Return the root with its keys, consistent in itself.

        Raises:
            RefusedError: `trust-root-invalid`, or a code of a key.
        """
        trusted = TrustedSet.from_root(self.root, self.where, caps)
        return Root(self.root, trusted, self.fingerprint, self.envelope, self.content)


def read_root(content: bytes, where: object = None, caps: Caps = CAPS) -> Root:
    """Return the trust root in a file, consistent in itself; nothing is said of who signed it.

    Raises:
        RefusedError: `trust-root-invalid`, or a code of the envelope, the payload or a key.
    """
    return _version(content, where, caps).with_keys(caps)


def _version(content: bytes, where: object, caps: Caps) -> RootVersion:
    envelope = dsse.parse_envelope(content, caps.trust_bytes, where, caps)
    check_payload_type(envelope, where)
    opened = documents.parse_payload("trust-root", envelope.payload, where)
    return RootVersion(opened.predicate, opened.payload_sha256, envelope, content, where)


def split_versions(content: bytes, where: object = None, caps: Caps = CAPS) -> tuple[tuple[bytes, object], ...]:
    """Return the trust roots in a file, one envelope a line, each with the place that error texts name.

    A file of several versions is what `cat` makes of the files of each: a verifier that was away for two rotations
    catches up from it.

    Raises:
        RefusedError: `trust-root-chain` it has more versions than `Caps.trust_versions`, or `document-too-large`.
    """
    if len(content) > caps.trust_chain_bytes:
        what = f"has {len(content)} bytes, more than the {caps.trust_chain_bytes} allowed"
        raise RefusedError("document-too-large", what, where=where)
    # no more lines than may be versions: one of millions of short lines would take gigabytes
    lines = list(islice(BytesIO(content), caps.trust_versions + 1))
    # what is no chain is refused as one document, whose error text says what is wrong with the whole file
    if len(lines) < 2 or not all(line.startswith(b"{") and line.rstrip(b"\n").endswith(b"}") for line in lines):
        return ((content, where),)
    if len(lines) > caps.trust_versions:
        what = f"has more than the {caps.trust_versions} versions allowed in one file"
        raise RefusedError("trust-root-chain", what, where=where, fix="leave out the oldest")
    return tuple((line, f"{where}, line {number}") for number, line in enumerate(lines, 1))


def read_versions(content: bytes, where: object = None, caps: Caps = CAPS) -> tuple[RootVersion, ...]:
    """Return the versions of a trust root in a file, as they follow each other there.

    Raises:
        RefusedError: a code of `split_versions`, the envelope or the payload.
    """
    return tuple(_version(line, place, caps) for line, place in split_versions(content, where, caps))


def needed_versions(
    versions: Sequence[RootVersion], known: Root | None, fingerprint: str | None
) -> tuple[RootVersion, ...]:
    """Return the versions that decide: those from the accepted one on, or from the one of the fingerprint, to the last.

    Reading the keys of a version costs most, and a file of a year of versions must cost no more than its new ones.
    """
    pinned = next((i for i, one in enumerate(versions) if one.fingerprint == fingerprint), None)
    if known is None:
        # whoever vouches for this version out of band vouches for nothing before it
        return tuple(versions[pinned or 0 :])
    last = len(versions) - 1
    return tuple(one for i, one in enumerate(versions) if i in (pinned, last) or one.root.version >= known.root.version)


def holds_until(root: Root) -> str:
    """Return the first moment at which a root that was accepted is so no more: it or its own root keys have expired."""
    (held,) = (one for one in root.root.roles if one.role == "root")
    signers = root.trusted.root_signers(root.signers(root.trusted), root.root.issued_at)
    ends = sorted((root.root.keys[keyid].valid_until for keyid in signers), reverse=True)
    if len(ends) < held.threshold:
        return root.root.issued_at
    return min(root.root.expires_at, ends[held.threshold - 1])


def check_self_signed(root: Root, at: str, where: object = None) -> None:
    """Refuse a root that too few of its own root keys signed.

    Raises:
        RefusedError: `trust-root-signatures`, or `signature-invalid`.
    """
    root.trusted.check_root(root.signers(root.trusted, where), at, where)


def check_follows(before: Root, root: Root, where: object = None) -> None:
    """Refuse a root that is not the next version of the one before it, or the same.

    Raises:
        RefusedError: `trust-root-other`, `trust-root-rollback`, `trust-root-forked`, `trust-root-skipped`, or
            `trust-root-signatures` where too few of the older version's root keys signed.
    """
    known, new = before.root, root.root
    if new.trust_id != known.trust_id:
        raise RefusedError("trust-root-other", f"is {new.trust_id}, not {known.trust_id}", where=where)
    if new.version < known.version:
        what = f"is version {new.version}, and version {known.version} was accepted before"
        raise RefusedError("trust-root-rollback", what, where=where, fix="get the current trust root")
    if new.version == known.version:
        if root.fingerprint != before.fingerprint:
            what = f"is another version {new.version} than the one that was accepted before"
            fix = "ask the owner of the trust root: two of one number mean that somebody forged one"
            raise RefusedError("trust-root-forked", what, where=where, fix=fix)
        return
    if new.version > known.version + 1:
        what = f"is version {new.version}, and the last that was accepted is {known.version}"
        fix = "give the versions between, in order: petaseal trust verify FILE FILE ..."
        raise RefusedError("trust-root-skipped", what, where=where, fix=fix)
    if new.issued_at < known.issued_at:
        raise RefusedError("trust-root-rollback", "was issued before the version that it follows", where=where)
    before_at, after_at = ({r.keyid: r.revoked_at for r in one.revocations} for one in (known, new))
    if lost := forgotten(before_at, after_at):
        raise RefusedError("trust-root-rollback", f"no longer revokes the key {lost[:16]}…", where=where)
    # When it was issued: a verifier that was away may meet it after the old keys have ended. Its own keys hold now.
    before.trusted.check_root(root.signers(before.trusted, where), new.issued_at, where)


def forgotten(before: Mapping[str, str], after: Mapping[str, str]) -> str | None:
    """Return what was revoked before and no longer is, or only later; None where nothing is forgotten."""
    return next((name for name, at in sorted(before.items()) if name not in after or after[name] > at), None)


def accept(
    roots: Sequence[Root],
    known: Root | None,
    fingerprint: str | None,
    now: str,
    where: Sequence[object] = (),
    fresh: bool = True,
) -> Root:
    """Return the newest of some versions of a trust root, if it is to be trusted now.

    Args:
        roots: at least one, in ascending order of version.
        known: the newest version that was accepted before, if any.
        fingerprint: SHA-256 of a root's payload, obtained out of band; None where there is none.
        now: the present, in the form of `UtcTime`.
        where: what each of the roots is, for the error text.
        fresh: whether an expired one is refused; False for the one that its keepers renew.

    Raises:
        RefusedError: `trust-root-unpinned`, `trust-root-fingerprint`, `trust-root-expired`,
            `trust-root-not-yet-valid`, or a code of `check_follows` or `check_self_signed`.
    """
    places = list(where) or [None] * len(roots)
    if fingerprint is not None and all(root.fingerprint != fingerprint for root in roots):
        what = f"has the fingerprint {roots[0].fingerprint}, not the one that was given"
        raise RefusedError("trust-root-fingerprint", what, where=places[0], fix="ask whoever told you the fingerprint")
    for root, place in zip(roots, places, strict=True):
        if known is None:
            if root.fingerprint != fingerprint:
                what = f"is unknown here; its fingerprint is {root.fingerprint}"
                fix = "compare that with what its owner told you by another way, and give it with --fingerprint"
                raise RefusedError("trust-root-unpinned", what, where=place, fix=fix)
        elif root.root.version >= known.root.version or root is roots[-1]:
            check_follows(known, root, place)
        else:
            continue  # an older one at the beginning of a list that leads on
        last = fresh and root is roots[-1]
        check_self_signed(root, now if last else root.root.issued_at, place)
        known = root
    assert known is not None
    if fresh:
        check_fresh(known.root, ("trust-root-not-yet-valid", "trust-root-expired"), now, places[-1])
    return known


def check_fresh(document: TrustRoot | Revocations, codes: tuple[str, str], now: str, where: object = None) -> None:
    """Refuse a document that was issued in the future, or has expired, with one of two codes."""
    early, late = codes
    if skewed(now) < document.issued_at:
        raise RefusedError(early, f"was issued at {document.issued_at}, in the future", where=where)
    if now >= document.expires_at:
        raise RefusedError(late, f"expired at {document.expires_at}", where=where, fix="get the current one")


def open_revocations(content: bytes, root: Root, where: object = None, caps: Caps = CAPS) -> Revocations:
    """Return a revocation list that the threshold of the trust root's keys signed when it was issued.

    Raises:
        RefusedError: `revocations-signatures`, `revocations-invalid`, `trust-root-other`, or a code of the envelope or
            the payload.
    """
    envelope = dsse.parse_envelope(content, caps.trust_bytes, where, caps)
    signers = dsse.verify_signatures(envelope, root.trusted.keys, where)
    check_payload_type(envelope, where)
    listed: Revocations = documents.parse_payload("revocations", envelope.payload, where).predicate
    try:
        root.trusted.check_root(signers, listed.issued_at, where)
    except RefusedError as error:
        raise RefusedError("revocations-signatures", error.what, where=where) from None
    if listed.trust_id != root.root.trust_id:
        raise RefusedError("trust-root-other", f"is of {listed.trust_id}, not {root.root.trust_id}", where=where)
    roots = {keyid for delegation in root.root.roles if delegation.role == "root" for keyid in delegation.keys}
    if lost := sorted(roots & {entry.keyid for entry in listed.revocations}):
        what = f"revokes the root key {lost[0][:16]}…, which only the next version of the trust root can"
        raise RefusedError("revocations-invalid", what, where=where, fix="petaseal trust revoke without --list")
    return listed


def accept_revocations(listed: Revocations, known: Revocations | None, now: str, where: object = None) -> None:
    """Refuse a revocation list that is not fresh, or older than, or another than, the one that was accepted before.

    Raises:
        RefusedError: `revocations-expired`, `revocations-not-yet-valid` or `revocations-rollback`.
    """
    if known is not None and (listed.version < known.version or (listed.version == known.version and listed != known)):
        what = f"is version {listed.version}, and another version {known.version} was accepted before"
        raise RefusedError("revocations-rollback", what, where=where, fix="get the current revocation list")
    if known is not None:
        for before, after in (
            ({r.keyid: r.revoked_at for r in known.revocations}, {r.keyid: r.revoked_at for r in listed.revocations}),
            (
                {s.payload_sha256: s.revoked_at for s in known.statements},
                {s.payload_sha256: s.revoked_at for s in listed.statements},
            ),
            (records_of(known), records_of(listed)),
        ):
            if lost := forgotten(before, after):
                raise RefusedError("revocations-rollback", f"no longer revokes {lost[:16]}…", where=where)
    check_fresh(listed, ("revocations-not-yet-valid", "revocations-expired"), now, where)
