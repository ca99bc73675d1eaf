"""How a signed document is opened: envelope, signatures, payload, and whether its signers may sign it.

Opening follows the order of ``docs/verification.md``, whose numbers stand in the docstrings and at the code lines. What
each document is stands in `certify.documents.kinds`, the rules of trust in `certify.trust.trusted_set`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from bench.errors import RefusedError
from bench.record import NodeRecord
from certify.documents import dsse
from certify.documents.caps import CAPS, Caps
from certify.documents.kinds import (
    DOCUMENTS,
    PAYLOAD_TYPE,
    OpenedDocument,
    centre_of,
    parse_payload,
    role_of_document,
)
from certify.keys.signers import public_key, spki_bytes
from certify.trust.trusted_set import TrustedSet


@dataclass(frozen=True)
class Verifier:
    """Opens signed documents with one set of keys, at one time that is bound here and never read from a clock.

    It holds no state and no open file, so that a worker process is given one with its share of the work.
    """

    trust: TrustedSet  # the verifier's keys and their roles; none is ever taken from a document
    at: str  # the time that keys must be valid at, in the form of `UtcTime`
    attested_before: str | None = None  # when a witness or registry had seen what is opened, or what binds it
    caps: Caps = CAPS

    def attesting(self, attested_before: str | None) -> Verifier:
        """Return this verifier with another `attested_before`; None: no trusted witness or registry saw it."""
        return replace(self, attested_before=attested_before)

    def open(self, kind: str, content: bytes, where: object = None) -> OpenedDocument[Any]:
        """Return a verified document: signed by enough keys that may sign it, for its centre, at that time.

        Args:
            kind: a key of `DOCUMENTS`, the kind that is expected. (Trust roots: `certify.trust.root`.)
            content: the file.
            where: what the content is, for the error text.

        Raises:
            RefusedError: with the code of the first step that fails.
        """
        return self.authorize(kind, self.authenticate(kind, content, where), where)

    def authenticate(self, kind: str, content: bytes, where: object = None) -> OpenedDocument[Any]:
        """Return a document that known keys signed, as steps 1 to 3 and 5 to 8 have it; whether they may is not asked.

        A statement stops here until it is known who saw it before, which depends on its payload.

        Args:
            kind: see `open`.
            content: see `open`.
            where: see `open`.

        Returns:
            The document; its `signers` are all known keys whose signatures hold.

        Raises:
            RefusedError: with the code of the first step that fails.
        """
        envelope = self.envelope(kind, content, where)  # 1, 2, 3
        signers = self.signers(envelope, where)  # 5, after the trust root was opened as 4
        check_payload_type(envelope, where)  # 6
        opened = parse_payload(kind, envelope.payload, where)  # 7, 8
        return replace(opened, signers=signers, named=named_in(envelope))

    def authorize(self, kind: str, opened: OpenedDocument[Any], where: object = None) -> OpenedDocument[Any]:
        """Return an authenticated document with those of its signers that count: the keys' part of steps 9 and 10.

        Raises:
            RefusedError: with a code of `TrustedSet.check`.
        """
        centre_id = centre_of(kind, opened.predicate)
        role = role_of_document(kind, opened.predicate)
        signers = self.trust.check(kind, opened.signers, centre_id, self.at, where, self.attested_before, role)  # 9, 10
        return replace(opened, signers=signers)

    def record(self, content: bytes, where: object = None) -> OpenedDocument[NodeRecord]:
        """Return a verified node record: `node_document` of a ``node-record``."""
        return self.node_document("node-record", content, where)

    def node_document(self, kind: str, content: bytes, where: object = None) -> OpenedDocument[Any]:
        """Return a verified document of a node. Its key may be one that is not enrolled: then `self_asserted` is set.

        It names its signer's key in the payload, so that it can be checked alone; that key signs it, and no other. A
        known key that has another role, is revoked or belongs to another centre is refused.

        Args:
            kind: ``node-record`` or ``heartbeat``.
            content: the file, or a line of ``records.jsonl``.
            where: what the content is, for the error text.

        Raises:
            RefusedError: `signer-mismatch`, or with the code of the step that fails.
        """
        envelope = self.envelope(kind, content, where)  # 1, 2, 3
        check_payload_type(envelope, where)  # 6
        opened = parse_payload(kind, envelope.payload, where)  # 7, 8
        key = public_key(spki_bytes(opened.predicate.signer_spki, where), where, thorough=False)
        # A second signature would make one record two files with one payload: whoever adds it must not be able to.
        if any(signature.keyid != key.keyid for signature in envelope.signatures):
            raise RefusedError("signer-mismatch", "is signed by another key than the one it names", where=where)
        signers = dsse.verify_signatures(envelope, {key.keyid: key}, where)  # 5
        centre_id = opened.predicate.centre_id
        enrolled = self.trust.check_record_key(key.keyid, centre_id, self.at, where, self.attested_before)  # 9, 10
        # made once more and not `replace`d, which takes as long as reading the envelope
        return OpenedDocument(
            opened.predicate,
            opened.subject_digest,
            opened.payload,
            opened.payload_sha256,
            signers,
            self_asserted=not enrolled,
        )

    def envelope(self, kind: str, content: bytes, where: object = None) -> dsse.Envelope:
        """Return the envelope of a document of a kind, none of whose signatures was looked at: steps 1 to 3.

        Raises:
            RefusedError: with a code of `dsse.parse_envelope`.
        """
        return dsse.parse_envelope(content, getattr(self.caps, DOCUMENTS[kind].cap), where, self.caps)

    def signers(self, envelope: dsse.Envelope, where: object = None) -> frozenset[str]:
        """Return the ids of the known keys whose signatures hold: step 5.

        Raises:
            RefusedError: `key-not-trusted`, or a code of `dsse.verify_signatures`.
        """
        signers = dsse.verify_signatures(envelope, self.trust.keys, where)
        if not signers:
            raise RefusedError("key-not-trusted", "is signed by no key that is trusted", where=where)
        return signers


def named_in(envelope: dsse.Envelope) -> frozenset[str]:
    """Return the ids of all keys that an envelope names, known or not."""
    return frozenset(signature.keyid for signature in envelope.signatures)


def check_payload_type(envelope: dsse.Envelope, where: object = None) -> None:
    """Refuse an envelope of anything but an in-toto statement.

    Raises:
        RefusedError: `payload-type-wrong`.
    """
    if envelope.payload_type != PAYLOAD_TYPE:
        raise RefusedError(
            "payload-type-wrong", f"has a payload of type {envelope.payload_type!r}, not {PAYLOAD_TYPE}", where=where
        )
