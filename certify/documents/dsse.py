"""Untrusted bytes become a typed document here, or are refused: canonical JSON, and DSSE 1.0 envelopes (ADR 0003).

The canonical form is RFC 8785 limited to integers and ASCII keys; text is NFC without invisible or undefined
characters (ADR 0002, ADR 0003). Instead of checking each way in which JSON can be ambiguous, the decoded value is
encoded again and compared with the bytes received. No file is read here, and nothing is repaired.

An envelope has exactly one form, so that a document has one file; the bytes that were signed are the bytes that are
handed on. What a payload means and who may sign it is not known here.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from bisect import bisect_left
from collections.abc import Hashable, Mapping, Sequence
from datetime import datetime
from itertools import accumulate
from typing import Annotated, Any, NoReturn, TypeVar, cast

import msgspec
from msgspec import Meta

from bench.errors import PetasealError, RefusedError
from bench.record import Document, Sha256, encode
from bench.record.fields import TIME_PATTERN, in_words
from certify.documents.caps import CAPS, Caps
from certify.keys.signers import PrivateKey, PublicKey

T = TypeVar("T")

_TIME_RULE = TIME_PATTERN.partition("\\")[0]  # as the decoder words it, up to what it escapes
TIME_FORM = "2026-03-01T08:00:00.000000Z"
_TIME = re.compile(rb'"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6})Z"')
_TIME_LENGTH = len(TIME_FORM) + 2
DEEPEST = 64  # brackets that may be open at once; beyond that, parsers differ in what they can read
_STRING = re.compile(rb'"[^"]*"')  # once no quote in it is escaped
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")  # as signed bytes: one bracket more is open, or one less
_NO_BRACKETS = bytes(set(range(256)) - set(b"[{]}"))
_CONTROL_ESCAPE = re.compile(r'\\[^"\\]')
# Cc control, Cf format (bidi controls, zero-width), Cs surrogate, Co private, Cn unassigned, Zl and Zp line breaks.
_FORBIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
# Characters of other categories that draw nothing (Default_Ignorable_Code_Point): joiner, fillers, variation selectors.
_INVISIBLE = frozenset(
    chr(code)
    for first, last in (
        (0x034F, 0x034F),
        (0x115F, 0x1160),
        (0x17B4, 0x17B5),
        (0x180B, 0x180F),
        (0x3164, 0x3164),
        (0xFE00, 0xFE0F),
        (0xFFA0, 0xFFA0),
        (0xE0100, 0xE01EF),
    )
    for code in range(first, last + 1)
)


def decode(payload: bytes, kind: type[T], where: object = None) -> T:
    """Return canonical JSON bytes as a value of `kind`.

    Args:
        payload: the bytes as they were signed.
        kind: the document's type, a strict msgspec struct.
        where: what the bytes are, for the error text.

    Raises:
        RefusedError: a code of `decode_exact` or of `check_text`.
    """
    value = decode_exact(payload, kind, where)
    check_text(payload, where)
    return value


def decode_exact(payload: bytes, kind: type[T], where: object = None) -> T:
    """Return bytes as a value of `kind` of which they are the one encoding, whatever its texts hold.

    Raises:
        RefusedError: `json-invalid` if the bytes are not JSON, whatever else is wrong with them; of JSON
            `schema-invalid`, `time-invalid`, or the code that the type itself refuses with, whichever the decoder
            meets first; then `not-canonical`.
    """
    try:
        value: T = _decoder(cast(Hashable, kind)).decode(payload)
    except msgspec.ValidationError as error:
        _check_json(payload, where)  # the decoder has not seen all of it
        what, _, place = str(error).rpartition(" - at ")
        if _TIME_RULE in what:
            raise RefusedError("time-invalid", f"{place} is not a time as {TIME_FORM}", where=where) from None
        raise RefusedError("schema-invalid", in_words(error), where=where) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RefusedError("json-invalid", str(error), where=where) from None
    except PetasealError as error:  # a type's own rule, which does not know what it was read from
        _check_json(payload, where)
        error.where = error.where or (None if where is None else str(where))
        raise
    canonical = encode(value)
    if canonical != payload:
        _refuse_difference(payload, canonical, where)
    return value


def check_text(canonical: bytes, where: object = None) -> None:
    """Refuse canonical JSON whose text is ambiguous to a reader, or has the form of a time and is none.

    Raises:
        RefusedError: `text-not-nfc`, `text-forbidden-character` or `time-invalid`.
    """
    # Plain ASCII, as in nearly every record, can only hold a forbidden character as an escape or as DEL.
    if not canonical.isascii() or b"\\" in canonical or b"\x7f" in canonical:
        _check_characters(canonical.decode(), where)
    at = canonical.find(b"Z")
    while at >= 0:
        time = _TIME.fullmatch(canonical, max(0, at + 2 - _TIME_LENGTH), at + 2)
        if time:
            _check_time(time[1].decode(), where)
        at = canonical.find(b"Z", at + 1)


def prepare(*kinds: Any) -> None:
    """Make what `decode` needs of some types; a service does that before it has threads.

    msgspec keeps what it knows of a struct on the class, as it comes to know it: a thread that decodes meanwhile
    crashes the process.
    """
    for kind in kinds:
        _decoder(kind)


def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    decoder = _decoders.get(kind)
    if decoder is None:
        with _making:
            decoder = _decoders.get(kind) or _decoders.setdefault(kind, msgspec.json.Decoder(kind))
    return decoder


_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}
_making = threading.Lock()


def _check_json(payload: bytes, where: object) -> None:
    """Refuse what is not JSON at all: UTF-8, the grammar, whole characters, at most `DEEPEST` brackets open."""
    try:
        payload.decode()
        msgspec.json.decode(payload, type=msgspec.Raw)  # reads the grammar, and makes nothing of it
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RefusedError("json-invalid", str(error), where=where) from None
    unescaped = payload.replace(rb"\\", b"").replace(rb"\"", b"")
    steps = _STRING.sub(b"", unescaped).translate(_STEPS, _NO_BRACKETS)
    if max(accumulate(memoryview(steps).cast("b")), default=0) > DEEPEST:
        raise RefusedError("json-invalid", f"nests deeper than {DEEPEST} levels", where=where)


def _refuse_difference(payload: bytes, canonical: bytes, where: object) -> NoReturn:
    if b"\r" in payload:
        what = "has line ends of another system (CR LF): it was changed in transport"
        raise RefusedError("not-canonical", what, where=where, fix="copy it again as it was, as a binary file")
    shorter = range(min(len(payload), len(canonical)))
    at = bisect_left(shorter, True, key=lambda n: payload[: n + 1] != canonical[: n + 1])
    raise RefusedError(
        "not-canonical",
        f"is not canonical JSON: byte {at} is {payload[at : at + 20]!r}, not {canonical[at : at + 20]!r}",
        where=where,
    )


def _check_characters(text: str, where: object) -> None:
    if not unicodedata.is_normalized("NFC", text):
        raise RefusedError("text-not-nfc", "has text that is not in Unicode normalisation form C", where=where)
    escape = _CONTROL_ESCAPE.search(text.replace("\\\\", ""))
    bad = escape[0] if escape else min(filter(_is_forbidden, set(text)), default=None)
    if bad is not None:
        name = "a control character" if escape else f"the character U+{ord(bad):04X}"
        raise RefusedError("text-forbidden-character", f"has text with {name}", where=where)


def _is_forbidden(character: str) -> bool:
    return character in _INVISIBLE or unicodedata.category(character) in _FORBIDDEN_CATEGORIES


def _check_time(text: str, where: object) -> None:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        raise RefusedError("time-invalid", f"{text}Z is not a time", where=where) from None


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


def prepare_envelopes() -> None:
    """Make what parsing needs, before there are threads (`prepare`)."""
    prepare(Envelope, _TextEnvelope)


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
            `signature-duplicate`, or a code of `decode_exact`.
    """
    if len(content) > max_bytes:
        raise RefusedError(
            "document-too-large", f"has {len(content)} bytes, more than the {max_bytes} allowed", where=where
        )
    body = content[:-1] if content.endswith(b"\n") else content
    try:
        envelope = decode_exact(body, Envelope, where)  # its only free text is compared with a constant later
    except RefusedError:
        decode_exact(body, _TextEnvelope, where)  # what else is wrong is said first
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
    # What is signed names its type and length, so that no other document has the same signed bytes (DSSE, PAE).
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
    # A verifier refuses more: the envelope would be lost with the signatures that it has.
    if len(envelope.signatures) >= CAPS.signatures:
        raise RefusedError("signature-too-many", f"has {len(envelope.signatures)} signatures, and no more are allowed")
    added = Signature(keyid=keyid, sig=key.sign(pae(envelope.payload_type, envelope.payload)))
    return _written(msgspec.structs.replace(envelope, signatures=(*envelope.signatures, added)))


def verify_signatures(envelope: Envelope, keys: Mapping[str, PublicKey], where: object = None) -> frozenset[str]:
    """Return the ids of the given keys that signed the envelope. Whether they suffice: `certify.trust.trusted_set`.

    A signature under an id that is not among `keys` proves nothing and is skipped; every other one must hold.

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
