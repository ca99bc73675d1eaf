"""DSSE 1.0 envelopes in a strict profile (ADR 0003): parse, seal, check signatures.

An envelope has exactly one form, so that a document has one file; the bytes that were signed are the bytes that are
handed on. What a payload means and who may sign it is not known here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from bench.errors import RefusedError
from bench.record import Document, Sha256, encode
from certify.documents import canonical
from certify.documents.caps import CAPS, Caps
from certify.keys.signers import PrivateKey, PublicKey

_PayloadType = Annotated[str, Meta(max_length=256)]
_RENAME = {"payload_type": "payloadType"}


class Signature(Document, frozen=True, kw_only=True):
    """One signature. `keyid` is a hint: it only says which of the verifier's own keys to try."""

    keyid: Sha256
    sig: bytes


class Envelope(Document, frozen=True, kw_only=True, rename=_RENAME):
    """A DSSE envelope. msgspec decodes `bytes` from base64, and writes it in the standard alphabet with padding."""

    payload: bytes
    payload_type: _PayloadType
    signatures: tuple[Signature, ...]


class _TextSignature(Document, frozen=True, kw_only=True):
    keyid: Sha256
    sig: str


class _TextEnvelope(Document, frozen=True, kw_only=True, rename=_RENAME):
    """An envelope whose base64 is left as it is, to tell bad base64 from bad JSON."""

    payload: str
    payload_type: _PayloadType
    signatures: tuple[_TextSignature, ...]


def prepare() -> None:
    """Make what parsing needs, before there are threads (`canonical.prepare`)."""
    canonical.prepare(Envelope, _TextEnvelope)


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return the pre-authentication encoding, which is what is signed (DSSE 1.0, protocol)."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def parse_envelope(content: bytes, max_bytes: int, where: object = None, caps: Caps = CAPS) -> Envelope:
    """Return the envelope in a file or line: its canonical JSON and at most one newline, nothing else.

    Args:
        content: the whole file or line.
        max_bytes: cap on its size (one of `caps`, by the kind of document).
        where: what the content is, for the error text.
        caps: further limits.

    Raises:
        RefusedError: `document-too-large`, `base64-not-canonical`, `signature-missing`, `signature-too-many`,
            `signature-duplicate`, or a code of `canonical.decode_exact`.
    """
    if len(content) > max_bytes:
        raise RefusedError(
            "document-too-large", f"has {len(content)} bytes, more than the {max_bytes} allowed", where=where
        )
    body = content[:-1] if content.endswith(b"\n") else content
    try:
        envelope = canonical.decode_exact(body, Envelope, where)  # its only free text is compared with a constant later
    except RefusedError:
        canonical.decode_exact(body, _TextEnvelope, where)  # what else is wrong is said first
        raise RefusedError(
            "base64-not-canonical", "has base64 other than the standard form with padding", where=where
        ) from None
    keyids = [signature.keyid for signature in envelope.signatures]
    if not keyids:
        raise RefusedError("signature-missing", "has no signature", where=where)
    if len(keyids) > caps.signatures:
        raise RefusedError(
            "signature-too-many", f"has {len(keyids)} signatures, more than the {caps.signatures} allowed", where=where
        )
    if len(set(keyids)) != len(keyids):
        raise RefusedError("signature-duplicate", "has two signatures under one key id", where=where)
    return envelope


def seal(payload: bytes, payload_type: str, private_keys: Sequence[PrivateKey]) -> bytes:
    """Return the envelope file of a payload signed by each of the keys, ending with a newline.

    Raises:
        RefusedError: `signature-missing` without a key, `signature-duplicate` with one key twice.
    """
    by_keyid = {key.public.keyid: key for key in private_keys}
    if not by_keyid:
        raise RefusedError("signature-missing", "there is no key to sign with")
    if len(by_keyid) != len(private_keys):
        raise RefusedError("signature-duplicate", "one key is given twice")
    message = pae(payload_type, payload)
    signatures = (Signature(keyid=keyid, sig=by_keyid[keyid].sign(message)) for keyid in by_keyid)
    return _written(Envelope(payload=payload, payload_type=payload_type, signatures=tuple(signatures)))


def countersign(envelope: Envelope, key: PrivateKey) -> bytes:
    """Return the envelope file with the signature of one more key.

    Raises:
        RefusedError: `signature-duplicate`, the key has signed it already.
    """
    keyid = key.public.keyid
    if any(signature.keyid == keyid for signature in envelope.signatures):
        raise RefusedError("signature-duplicate", f"key {keyid[:16]}… has signed it already")
    if len(envelope.signatures) >= CAPS.signatures:
        raise RefusedError("signature-too-many", f"has {len(envelope.signatures)} signatures, and no more are allowed")
    own = Signature(keyid=keyid, sig=key.sign(pae(envelope.payload_type, envelope.payload)))
    return _written(msgspec.structs.replace(envelope, signatures=(*envelope.signatures, own)))


def verify_signatures(envelope: Envelope, keys: Mapping[str, PublicKey], where: object = None) -> frozenset[str]:
    """Return the ids of the given keys that signed the envelope. Whether they suffice: `certify.trust.trusted_set`.

    A signature under an id that is not among `keys` proves nothing and is passed over; every other one must hold.

    Args:
        envelope: as parsed.
        keys: the verifier's own keys by their recomputed ids; none ever comes from the envelope.
        where: what was signed, for the error text.

    Raises:
        RefusedError: `signature-invalid`.
    """
    message = pae(envelope.payload_type, envelope.payload)
    good = set()
    for signature in envelope.signatures:
        key = keys.get(signature.keyid)
        if key is None:
            continue
        if key.keyid != signature.keyid or not key.verify(signature.sig, message):
            raise RefusedError(
                "signature-invalid", f"the signature of key {signature.keyid[:16]}… does not hold", where=where
            )
        good.add(signature.keyid)
    return frozenset(good)


def _written(envelope: Envelope) -> bytes:
    ordered = tuple(sorted(envelope.signatures, key=lambda signature: signature.keyid))
    return encode(msgspec.structs.replace(envelope, signatures=ordered)) + b"\n"
