"""Canonical JSON: every way in which bytes can be ambiguous is refused, and the canonical bytes are accepted."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import RefusedError
from bench.record import Count, Document, Name, Signed, Text, UtcTime, encode
from certify.documents import dsse


class Sample(Document, frozen=True, kw_only=True):
    count: Count
    delta: Signed | None = None
    flag: bool = False
    many: tuple[Count, ...] = ()
    names: dict[Name, Text] = {}  # noqa: RUF012 (msgspec copies it)
    text: Text = "x"
    time: UtcTime = "2026-03-01T08:00:00.000000Z"


class Picky(Document, frozen=True, kw_only=True):
    count: Count

    def __post_init__(self) -> None:
        if self.count == 0:
            raise RefusedError("nothing-there", "it counts nothing")


GOOD = encode(Sample(count=1))


def swapped(old: str, new: str) -> bytes:
    assert old.encode() in GOOD
    return GOOD.replace(old.encode(), new.encode())


def text(value: str) -> bytes:
    """Return GOOD with another text, written as it stands in JSON."""
    return swapped('"text":"x"', f'"text":"{value}"')


REFUSED = {
    "empty": (b"", "json-invalid"),
    "only a space": (b" ", "json-invalid"),
    "binary": (b"\x00\xff\xfe", "json-invalid"),
    "truncated": (GOOD[:-1], "json-invalid"),
    "byte order mark": (b"\xef\xbb\xbf" + GOOD, "json-invalid"),
    "UTF-16": (GOOD.decode().encode("utf-16"), "json-invalid"),
    "trailing newline": (GOOD + b"\n", "not-canonical"),
    "trailing bytes": (GOOD + b"{}", "json-invalid"),
    "leading space": (b" " + GOOD, "not-canonical"),
    "inner space": (GOOD.replace(b":", b": ", 1), "not-canonical"),
    "key order": (b'{"delta":null,' + GOOD[1:].replace(b'"delta":null,', b""), "not-canonical"),
    "duplicate key, same value": (b'{"count":1,' + GOOD[1:], "not-canonical"),
    "duplicate key, other value": (b'{"count":2,' + GOOD[1:], "not-canonical"),
    "duplicate key in a dictionary": (swapped('"names":{}', '"names":{"a":"1","a":"2"}'), "not-canonical"),
    "omitted default": (swapped('"flag":false,', ""), "not-canonical"),
    "missing field": (swapped('"count":1,', ""), "schema-invalid"),
    "unknown field": (swapped('"count":1', '"count":1,"countt":1'), "schema-invalid"),
    "unknown field with 100,000 brackets": (swapped('"count":1', '"a":' + "[" * 100_000), "json-invalid"),
    "100,000 brackets": (b"[" * 100_000, "json-invalid"),
    "100,000 brackets in a field": (swapped('"many":[]', '"many":' + "[" * 100_000), "json-invalid"),
    "64 brackets, closed": (b"[" * 64 + b"]" * 64, "schema-invalid"),
    "65 brackets, closed": (b"[" * 65 + b"]" * 65, "json-invalid"),
    "64 brackets around brackets in text": (b'[{"[\\"{":' * 32 + b'"[{\\\\"' + b"}]" * 32, "schema-invalid"),
    "65 brackets in all, few open": (b"[[" + b",".join([b"[]"] * 63) + b"]]", "schema-invalid"),
    "100,000 brackets, closed": (b"[" * 100_000 + b"]" * 100_000, "json-invalid"),
    "not an object": (b"[]", "schema-invalid"),
    "wrong type before trailing bytes": (swapped('"count":1', '"count":true') + b"}", "json-invalid"),
    "wrong type before broken UTF-8": (
        swapped('"count":1', '"count":true').replace(b'"x"', b'"\xff"'),
        "json-invalid",
    ),
    "wrong type before a lone surrogate": (
        swapped('"count":1', '"count":true').replace(b'"x"', b'"\\udc00"'),
        "json-invalid",
    ),
    "unknown field before a trailing comma": (b'{"a":1,"b":[1,]}', "json-invalid"),
    "no time before a missing bracket": (swapped("2026", "x")[:-1], "json-invalid"),
    "wrong type before a space": (swapped('"count":1', '"count":true '), "schema-invalid"),
    "NaN": (swapped('"count":1', '"count":NaN'), "json-invalid"),
    "Infinity": (swapped('"count":1', '"count":Infinity'), "json-invalid"),
    "float": (swapped('"count":1', '"count":1.5'), "schema-invalid"),
    "whole float": (swapped('"count":1', '"count":1.0'), "schema-invalid"),
    "exponent": (swapped('"count":1', '"count":1e3'), "schema-invalid"),
    "minus zero": (swapped('"delta":null', '"delta":-0'), "not-canonical"),
    "leading zero": (swapped('"count":1', '"count":01'), "json-invalid"),
    "plus sign": (swapped('"count":1', '"count":+1'), "json-invalid"),
    "hexadecimal": (swapped('"count":1', '"count":0x1'), "json-invalid"),
    "negative count": (swapped('"count":1', '"count":-1'), "schema-invalid"),
    "2^53": (swapped('"count":1', f'"count":{2**53}'), "schema-invalid"),
    "-2^53": (swapped('"delta":null', f'"delta":{-(2**53)}'), "schema-invalid"),
    "30 digits": (swapped('"count":1', '"count":' + "9" * 30), "schema-invalid"),
    "10^400": (swapped('"count":1', '"count":1' + "0" * 400), "schema-invalid"),
    "10^100,000": (swapped('"count":1', '"count":1' + "0" * 100_000), "schema-invalid"),
    "bool for int": (swapped('"count":1', '"count":true'), "schema-invalid"),
    "int for bool": (swapped('"flag":false', '"flag":0'), "schema-invalid"),
    "text for int": (swapped('"count":1', '"count":"1"'), "schema-invalid"),
    "null for int": (swapped('"count":1', '"count":null'), "schema-invalid"),
    "escaped letter": (text("\\u0061"), "not-canonical"),
    "escaped slash": (text("a\\/b"), "not-canonical"),
    "escaped zero-width": (text("a\\u200bb"), "not-canonical"),
    "lone surrogate": (text("a\\ud800"), "json-invalid"),
    "surrogates in UTF-8": (GOOD.replace(b'"x"', b'"\xed\xa0\x80"'), "json-invalid"),
    "overlong UTF-8": (GOOD.replace(b'"x"', b'"\xc0\xaf"'), "json-invalid"),
    "broken UTF-8": (GOOD.replace(b'"x"', b'"\xff"'), "json-invalid"),
    "broken UTF-8 in a key": (GOOD.replace(b'"text"', b'"t\xff"'), "json-invalid"),
    "NFD": (text("Cafe\u0301"), "text-not-nfc"),
    "singleton (Angstrom sign)": (text("\u212b"), "text-not-nfc"),
    "NUL": (text("\\u0000"), "text-forbidden-character"),
    "newline": (text("a\\nb"), "text-forbidden-character"),
    "tab after a backslash": (text("\\\\\\tb"), "text-forbidden-character"),
    "raw control character": (text("\x01"), "json-invalid"),
    "DEL": (text("\x7f"), "text-forbidden-character"),
    "C1 control": (text("\x85"), "text-forbidden-character"),
    "bidi override": (text("\u202eabc"), "text-forbidden-character"),
    "bidi isolate": (text("\u2066abc"), "text-forbidden-character"),
    "right-to-left mark": (text("\u200f"), "text-forbidden-character"),
    "zero-width space": (text("a\u200bb"), "text-forbidden-character"),
    "zero-width joiner": (text("a\u200db"), "text-forbidden-character"),
    "word joiner": (text("a\u2060b"), "text-forbidden-character"),
    "byte order mark in text": (text("a\ufeffb"), "text-forbidden-character"),
    "soft hyphen": (text("a\u00adb"), "text-forbidden-character"),
    "variation selector": (text("a\ufe0f"), "text-forbidden-character"),
    "Hangul filler": (text("\u3164"), "text-forbidden-character"),
    "tag character": (text("a\U000e0041"), "text-forbidden-character"),
    "line separator": (text("a\u2028b"), "text-forbidden-character"),
    "private use": (text("\ue000"), "text-forbidden-character"),
    "unassigned": (text("\u0378"), "text-forbidden-character"),
    "non-character": (text("\ufffe"), "text-forbidden-character"),
    "name in capitals": (swapped('"names":{}', '"names":{"A":"1"}'), "schema-invalid"),
    "key outside ASCII": (swapped('"names":{}', '"names":{"é":"1"}'), "schema-invalid"),
    "empty text": (text(""), "schema-invalid"),
    "text of 257 characters": (text("a" * 257), "schema-invalid"),
    "month 13": (swapped("2026-03-01", "2026-13-01"), "time-invalid"),
    "30 February": (swapped("2026-03-01", "2026-02-30"), "time-invalid"),
    "29 February of no leap year": (swapped("2026-03-01", "2026-02-29"), "time-invalid"),
    "hour 24": (swapped("T08", "T24"), "time-invalid"),
    "second 60": (swapped(":00.0", ":60.0"), "time-invalid"),
    "year 0": (swapped("2026-03-01", "0000-03-01"), "time-invalid"),
    "time without microseconds": (swapped(".000000Z", "Z"), "time-invalid"),
    "time with an offset": (swapped("00.000000Z", "00.000000+00:00"), "time-invalid"),
    "time with full-width digits": (swapped("2026", "２０２６"), "time-invalid"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_ambiguous_bytes_are_refused_for_their_own_reason(name: str) -> None:
    payload, code = REFUSED[name]
    with pytest.raises(RefusedError) as refused:
        dsse.decode(payload, Sample, "a file")
    assert refused.value.code == code
    assert str(refused.value).startswith("a file: ")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("payload", [swapped('"names":{}', '"names":{"a\\n":"1"}'), swapped("000Z", "000Z\\n")])
def test_a_newline_behind_a_pattern_never_passes(payload: bytes) -> None:
    with pytest.raises(RefusedError):
        dsse.decode(payload, Sample)


ACCEPTED = [
    "plain",
    "算力能力声明书 2000P",
    "Café",
    'quotes " and \\ backslashes \\\\n',
    "\\u0041 literally",
    "emoji \U0001f600",
    "ends in Z",
    "2026-13-01",
    "\u3000",
]


@pytest.mark.parametrize("value", ACCEPTED)
def test_honest_text_is_accepted(value: str) -> None:
    sample = Sample(count=2**53 - 1, delta=-(2**53 - 1), text=value, names={"a": value, "b.c": "Z"}, many=(0, 1))
    assert dsse.decode(encode(sample), Sample) == sample


@given(st.text(min_size=1, max_size=40))
def test_text_is_accepted_if_and_only_if_it_is_clean(value: str) -> None:
    try:
        payload = encode(Sample(count=1, text=value))
    except UnicodeEncodeError:
        return  # lone surrogates cannot even be written
    clean = unicodedata.is_normalized("NFC", value) and not any(map(dsse._is_forbidden, value))
    try:
        accepted = dsse.decode(payload, Sample).text == value
    except RefusedError as error:
        accepted = error.code not in {"text-not-nfc", "text-forbidden-character"}
    assert accepted == clean


@given(st.binary(max_size=60), st.integers(0, len(GOOD)), st.integers(0, 8))
def test_no_bytes_raise_anything_but_a_refusal(junk: bytes, at: int, cut: int) -> None:
    payload = GOOD[:at] + junk + GOOD[at + cut :]
    try:
        value = dsse.decode(payload, Sample)
    except RefusedError:
        return
    assert encode(value) == payload


def test_a_type_refuses_with_its_own_code_and_place() -> None:
    with pytest.raises(RefusedError) as refused:
        dsse.decode(b'{"count":0}', Picky, "a file")
    assert (refused.value.code, refused.value.where) == ("nothing-there", "a file")


def test_a_type_refuses_json_only() -> None:
    with pytest.raises(RefusedError) as refused:
        dsse.decode(b'{"count":0}}', Picky)
    assert refused.value.code == "json-invalid"


def test_the_first_difference_is_named() -> None:
    with pytest.raises(RefusedError, match=r"byte 10 is b' "):
        dsse.decode(GOOD.replace(b"1,", b"1 ,", 1), Sample)
