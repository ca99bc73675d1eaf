"""Canonical JSON: the one place where untrusted bytes become a typed document, or are refused.

The canonical form is RFC 8785 limited to integers and ASCII keys; text is NFC without invisible or undefined
characters (ADR 0002, ADR 0003). Instead of checking each way in which JSON can be ambiguous, the decoded value is
encoded again and compared with the bytes received. No file is read here, and nothing is repaired.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from bisect import bisect_left
from collections.abc import Hashable
from datetime import datetime
from itertools import accumulate
from typing import Any, NoReturn, TypeVar, cast

import msgspec

from bench.errors import PetasealError, RefusedError
from bench.record import encode
from bench.record.fields import TIME_PATTERN, in_words

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
    found = _decoders.get(kind)
    if found is None:
        with _making:
            found = _decoders.get(kind) or _decoders.setdefault(kind, msgspec.json.Decoder(kind))
    return found


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
