"""What a trust root or a revocation list says, and which signatures it lacks, for who reads it before signing it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET

from bench.errors import RefusedError
from certify.documents.caps import CAPS
from certify.documents.dsse import parse_envelope
from certify.documents.kinds import parse_payload
from certify.trust.opening import check_payload_type
from certify.trust.root import Root, read_root, split_versions
from certify.trust.trusted_set import TrustedSet


def lacking(root: Root, before: TrustedSet | None) -> int:
    """Return how many more root keys must sign a new version: the most that its own or the older threshold lacks."""
    at = root.root.issued_at
    return max(_lacking(root, by, at) for by in (root.trusted, before) if by is not None)


def _lacking(root: Root, by: TrustedSet, at: str) -> int:
    (held,) = (d for d in by.delegations if d.role == "root")
    return max(0, held.threshold - len(by.root_signers(root.signers(by), at)))


def describe_file(content: bytes, file: Path) -> tuple[dict[str, Any], list[str]]:
    """Return what a file of one or several versions says: of the last all, of the others what identifies them."""
    parts = split_versions(content, file)
    shown, lines = describe_trust(parts[-1][0], file)
    if len(parts) == 1:
        return shown, lines
    before = [describe_trust(part, file) for part, _ in parts[:-1]]
    versions = [{"version": s["predicate"]["version"], "fingerprint": s["fingerprint"]} for s, _ in before]
    named = [f"{len(parts)} versions in one file:", *(line for _, each in before for line in each[:2])]
    return {**shown, "versions_before": versions}, [*named, "the last of them:", *lines]


def describe_trust(content: bytes, file: Path) -> tuple[dict[str, Any], list[str]]:
    """Return what a trust root or revocation list says, for machines and for people."""
    kind, envelope = kind_of(content, file), parse_envelope(content, CAPS.trust_bytes, file)
    opened = parse_payload(kind, envelope.payload, file)
    fingerprint = hashlib.sha256(envelope.payload).hexdigest()
    signers = [signature.keyid for signature in envelope.signatures]
    value = opened.predicate
    shown = {
        "kind": kind,
        "fingerprint": fingerprint,
        "signers": signers,
        "predicate": msgspec.to_builtins(value),
    }
    lines = [
        f"{kind} {value.trust_id}, version {value.version}, {value.issued_at} until {value.expires_at}",
        f"fingerprint {fingerprint}",
    ]
    if kind == "trust-root":
        root = read_root(content, file)
        # Only keys that the version itself lists can be checked by this file alone.
        good = root.signers(root.trusted, file)
        known = value.keys.keys() & {keyid for held in value.roles if held.role == "root" for keyid in held.keys}
        shown["signers"] = signers = sorted(good & known)
        others = sorted({signature.keyid for signature in envelope.signatures} - set(signers))
        for held in value.roles:
            centres = f" for {', '.join(held.centre_ids)}" if held.centre_ids else ""
            lines.append(f"{held.role}{centres}: {held.threshold} of {len(held.keys)}")
            for keyid in held.keys:
                entry = value.keys[keyid]
                lines.append(f"  {keyid} {entry.scheme}, {entry.valid_from} until {entry.valid_until}")
    lines += [f"revoked {entry.keyid} from {entry.revoked_at}: {entry.reason}" for entry in value.revocations]
    for entry in getattr(value, "statements", ()):
        lines.append(f"revoked statement {entry.payload_sha256} from {entry.revoked_at}: {entry.reason}")
        alone = "not revoked: they may be stated again"
        lines.append(f"  its records: {alone if entry.records is UNSET else 'revoked with it'}")
    # A list has no keys of its own: whether its signers are root keys only the root tells.
    if kind == "revocations":
        return shown, [*lines, *(f"NOT CHECKED without its root: a signature under {keyid}" for keyid in signers)]
    lines += [f"signed by {keyid}" for keyid in signers]
    lines += [f"NOT CHECKED: a signature under {keyid}, no root key of this version" for keyid in others]
    if missing := lacking(root, None):
        lines.append(f"LACKS {missing} of the signatures of this version's own root keys")
    return shown, lines


def kind_of(content: bytes, file: Path) -> str:
    """Return which of the two documents of this room a file holds."""
    envelope = parse_envelope(content, CAPS.trust_bytes, file)
    check_payload_type(envelope, file)
    try:
        parse_payload("revocations", envelope.payload, file)
    except RefusedError as error:
        # A list that is damaged is refused as such, and not taken for a root.
        if error.code != "predicate-type-wrong":
            raise
        parse_payload("trust-root", envelope.payload, file)
        return "trust-root"
    return "revocations"
