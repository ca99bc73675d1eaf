"""Tampering with single documents, byte by byte: each attack by name, and the code that it must be refused with.

The victims are a campaign under the operator's key and a node record under its node's key. An attacker has every byte,
keys of his own, and other documents that the victims signed; he lacks their private keys, unless the attack says that
the victim itself sealed a malformed payload.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import PetasealError, RefusedError
from certify.documents import dsse
from certify.documents import kinds as documents
from certify.documents.caps import CAPS
from certify.trust.opening import Verifier
from certify.trust.trusted_set import TrustedSet
from tests.certify.signed import NOW, b64, campaign, envelope, new_key, record_payload, rewritten, sealed

OPERATOR, NODE, THIEF = new_key(), new_key(), new_key()
TRUST = TrustedSet.single(OPERATOR.public)
CAMPAIGN = documents.make_document("campaign", campaign())
OTHER_CAMPAIGN = documents.make_document("campaign", campaign(campaign_id="c-2026-04"))
SIGNED = sealed(CAMPAIGN, OPERATOR)
OTHER_SIGNED = sealed(OTHER_CAMPAIGN, OPERATOR)
RECORD = record_payload(NODE)
SIGNED_RECORD = sealed(RECORD, NODE)
MUCH = "[" * 100_000
B64 = b64(CAMPAIGN)


def edited(change: Callable[[dict[str, Any]], object], content: bytes = SIGNED) -> bytes:
    """Return an envelope after `change` was applied to its plain values, in canonical form."""
    value = envelope(content)
    change(value)
    return rewritten(value)


def with_payload(payload: bytes, content: bytes = SIGNED) -> bytes:
    """Return an envelope with another payload under the old signature."""
    return edited(lambda value: value.update(payload=b64(payload)), content)


def with_base64(text: str) -> bytes:
    """Return the campaign's envelope with its payload written as `text`."""
    return edited(lambda value: value.update(payload=text))


def with_signature(**changes: Any) -> bytes:
    """Return the campaign's envelope with its one signature changed."""
    return edited(lambda value: value["signatures"][0].update(changes))


def with_signatures(*signatures: dict[str, Any]) -> bytes:
    """Return the campaign's envelope with other signatures."""
    return edited(lambda value: value.update(signatures=list(signatures)))


def resealed(old: bytes, new: bytes) -> bytes:
    """Return the campaign with some bytes changed before the operator itself sealed it."""
    assert old in CAMPAIGN
    return sealed(CAMPAIGN.replace(old, new, 1), OPERATOR)


def named(text: str) -> bytes:
    """Return the campaign, sealed by the operator, with `text` inside its subject's name."""
    return resealed(b"c-2026-03.campaign.json", text.encode())


MINE = envelope(SIGNED)["signatures"][0]
OTHERS = envelope(OTHER_SIGNED)["signatures"][0]
THIEFS = envelope(sealed(CAMPAIGN, THIEF))["signatures"][0]
SIG = MINE["sig"]

# Attacks on the campaign: name -> (file, code).
ATTACKS: dict[str, tuple[bytes, str]] = {
    # the file
    "empty file": (b"", "json-invalid"),
    "only a newline": (b"\n", "json-invalid"),
    "binary": (bytes(range(256)), "json-invalid"),
    "truncated": (SIGNED[:-2], "json-invalid"),
    "half of it": (SIGNED[: len(SIGNED) // 2], "json-invalid"),
    "two newlines": (SIGNED + b"\n", "not-canonical"),
    "carriage return": (SIGNED[:-1] + b"\r\n", "not-canonical"),
    "trailing bytes": (SIGNED + b"x", "json-invalid"),
    "trailing NUL": (SIGNED[:-1] + b"\x00", "json-invalid"),
    "two envelopes": (SIGNED + SIGNED, "json-invalid"),
    "byte order mark": (b"\xef\xbb\xbf" + SIGNED, "json-invalid"),
    "UTF-16": (SIGNED.decode().encode("utf-16"), "json-invalid"),
    "leading space": (b" " + SIGNED, "not-canonical"),
    "pretty-printed": (json.dumps(json.loads(SIGNED), indent=1, sort_keys=True).encode(), "not-canonical"),
    "keys reversed": (json.dumps(dict(reversed(json.loads(SIGNED).items()))).encode(), "not-canonical"),
    "too large": (SIGNED + b" " * CAPS.campaign_bytes, "document-too-large"),
    "100,000 brackets": (MUCH.encode(), "json-invalid"),
    "100,000 brackets as payload": (SIGNED.replace(b'"payload":"', b'"payload":' + MUCH.encode()), "json-invalid"),
    "100,000 brackets as a further field": (b'{"a":' + MUCH.encode() + SIGNED[1:], "json-invalid"),
    # the envelope's JSON
    "unknown field": (edited(lambda value: value.update(zzz=1)), "schema-invalid"),
    "unknown field in a signature": (with_signature(alg="none"), "schema-invalid"),
    "no payload": (edited(lambda value: value.pop("payload")), "schema-invalid"),
    "no payload type": (edited(lambda value: value.pop("payloadType")), "schema-invalid"),
    "no signatures field": (edited(lambda value: value.pop("signatures")), "schema-invalid"),
    "payload null": (edited(lambda value: value.update(payload=None)), "schema-invalid"),
    "payload an object": (edited(lambda value: value.update(payload=json.loads(CAMPAIGN))), "schema-invalid"),
    "duplicate payload": (SIGNED.replace(b'{"payload"', b'{"payload":"","payload"'), "not-canonical"),
    "duplicate payload behind": (
        SIGNED[:-2] + b',"payload":"' + b64(OTHER_CAMPAIGN).encode() + b'"}\n',
        "not-canonical",
    ),
    "duplicate signatures field": (SIGNED[:-2] + b',"signatures":[]}\n', "not-canonical"),
    "escaped key": (SIGNED.replace(b'"payload"', b'"\\u0070ayload"'), "not-canonical"),
    "key in another case": (SIGNED.replace(b'"payload"', b'"Payload"'), "schema-invalid"),
    # base64
    "padding dropped": (with_base64(b64(b"a").rstrip("=")), "base64-not-canonical"),
    "padding added": (with_base64(B64 + "===="), "base64-not-canonical"),
    "newline within": (with_base64(B64[:76] + "\n" + B64[76:]), "base64-not-canonical"),
    "newline at the end": (with_base64(B64 + "\n"), "base64-not-canonical"),
    "space within": (with_base64(B64[:4] + " " + B64[4:]), "base64-not-canonical"),
    "characters outside the alphabet": (with_base64(B64[:4] + "****" + B64[4:]), "base64-not-canonical"),
    "full-width letter": (with_base64("\uff21" + B64[1:]), "base64-not-canonical"),
    "data after the padding": (with_base64(b64(b"a") + B64), "base64-not-canonical"),
    "signature in the URL alphabet": (
        with_signature(sig=b64(b"\xff" * 64).replace("/", "_").replace("+", "-")),
        "base64-not-canonical",
    ),
    "payload in the URL alphabet": (with_base64(b64(b"\xff" * 60).replace("/", "_")), "base64-not-canonical"),
    "set bits below the padding": (with_signature(sig=SIG[:-3] + chr(ord(SIG[-3]) + 1) + "=="), "base64-not-canonical"),
    "signature without padding": (with_signature(sig=SIG.rstrip("=")), "base64-not-canonical"),
    "payload type escaped": (SIGNED.replace(b"vnd.in-toto", b"vnd.in\\u002dtoto"), "not-canonical"),
    "base64 broken, and a space": (b" " + with_base64("*" + B64), "not-canonical"),
    "base64 broken, and an unknown field": (
        edited(lambda value: value.update(payload="*", zzz=1)),
        "schema-invalid",
    ),
    "base64 broken, and no JSON": (with_base64("*")[:-2], "json-invalid"),
    # signatures
    "no signature": (with_signatures(), "signature-missing"),
    "nine signatures": (
        with_signatures(MINE, *({"keyid": f"{n:064x}", "sig": SIG} for n in range(8))),
        "signature-too-many",
    ),
    "one signature twice": (with_signatures(MINE, MINE), "signature-duplicate"),
    "two signatures by one key": (with_signatures(MINE, OTHERS), "signature-duplicate"),
    "empty signature": (with_signature(sig=""), "signature-invalid"),
    "short signature": (with_signature(sig=b64(bytes(63))), "signature-invalid"),
    "long signature": (with_signature(sig=b64(bytes(65))), "signature-invalid"),
    "zero signature": (with_signature(sig=b64(bytes(64))), "signature-invalid"),
    "one bit flipped": (with_signature(sig=b64(b"\x01" + bytes(63))), "signature-invalid"),
    "signature of another document": (with_signatures(OTHERS), "signature-invalid"),
    "signature of a record": (
        with_signatures({**MINE, "sig": envelope(sealed(RECORD, OPERATOR))["signatures"][0]["sig"]}),
        "signature-invalid",
    ),
    "signature of the bare payload": (with_signature(sig=b64(OPERATOR.sign(CAMPAIGN))), "signature-invalid"),
    "signed by another key": (with_signatures(THIEFS), "key-not-trusted"),
    "another key's signature under the operator's id": (
        with_signatures({**THIEFS, "keyid": MINE["keyid"]}),
        "signature-invalid",
    ),
    "the operator's signature under another id": (
        with_signatures({**MINE, "keyid": THIEFS["keyid"]}),
        "key-not-trusted",
    ),
    "key id in capitals": (with_signature(keyid=MINE["keyid"].upper()), "schema-invalid"),
    "key id cut": (with_signature(keyid=MINE["keyid"][:16]), "schema-invalid"),
    "no key id": (with_signatures({"sig": SIG}), "schema-invalid"),
    "empty key id": (with_signature(keyid=""), "schema-invalid"),
    "key id that is a path": (with_signature(keyid="../" + MINE["keyid"][3:]), "schema-invalid"),
    # payload and its type
    "payload of another document": (with_payload(OTHER_CAMPAIGN), "signature-invalid"),
    "payload edited by one byte": (with_payload(CAMPAIGN.replace(b"node-1", b"node-2")), "signature-invalid"),
    "empty payload": (with_payload(b""), "signature-invalid"),
    "payload type swapped": (edited(lambda value: value.update(payloadType="application/json")), "signature-invalid"),
    "payload type in capitals": (
        edited(lambda value: value.update(payloadType=documents.PAYLOAD_TYPE.upper())),
        "signature-invalid",
    ),
    "length moved from type to payload": (
        sealed(b"toto+json 0 ", OPERATOR, payload_type="application/vnd.in-"),
        "payload-type-wrong",
    ),
    "sealed with another payload type": (
        sealed(CAMPAIGN, OPERATOR, payload_type="application/json"),
        "payload-type-wrong",
    ),
    "sealed with no payload type": (sealed(CAMPAIGN, OPERATOR, payload_type=""), "payload-type-wrong"),
    # malformed, and sealed all the same
    "sealed nothing": (sealed(b"", OPERATOR), "json-invalid"),
    "sealed text": (sealed(b"PFLOPS", OPERATOR), "json-invalid"),
    "sealed list": (sealed(b"[]", OPERATOR), "schema-invalid"),
    "sealed 100,000 brackets": (sealed(MUCH.encode(), OPERATOR), "json-invalid"),
    "sealed 100,000 brackets within": (
        resealed(b'"self_issued":false', b'"self_issued":' + MUCH.encode()),
        "json-invalid",
    ),
    "sealed 65 brackets, closed": (resealed(b'"self_issued":false', b'"a":' + b"[" * 63 + b"]" * 63), "json-invalid"),
    "sealed 64 brackets, closed": (resealed(b'"self_issued":false', b'"a":' + b"[" * 62 + b"]" * 62), "schema-invalid"),
    "sealed bool for text, and no JSON": (
        sealed(CAMPAIGN.replace(b'"pool":"pool-a"', b'"pool":true')[:-1], OPERATOR),
        "json-invalid",
    ),
    "sealed as something else, and no JSON": (
        sealed(CAMPAIGN.replace(b"urn:petaseal:campaign", b"urn:other").replace(b"node-1", b"\xff"), OPERATOR),
        "json-invalid",
    ),
    "sealed with two types": (
        sealed(b'{"_type":1,"_type":"x"' + CAMPAIGN[CAMPAIGN.index(b",") :], OPERATOR),
        "statement-type-wrong",
    ),
    "sealed with a byte order mark": (sealed(b"\xef\xbb\xbf" + CAMPAIGN, OPERATOR), "json-invalid"),
    "sealed with a trailing newline": (sealed(CAMPAIGN + b"\n", OPERATOR), "not-canonical"),
    "sealed with a space": (resealed(b":", b": "), "not-canonical"),
    "sealed duplicate key": (
        resealed(b'"self_issued":', b'"self_issued":true,"self_issued":'),
        "not-canonical",
    ),
    "sealed unknown field": (resealed(b'"self_issued":', b'"selfissued":0,"self_issued":'), "schema-invalid"),
    "sealed bool for text": (resealed(b'"pool":"pool-a"', b'"pool":true'), "schema-invalid"),
    "sealed int for bool": (resealed(b'"self_issued":false', b'"self_issued":0'), "schema-invalid"),
    "sealed NaN": (resealed(b'"self_issued":false', b'"self_issued":NaN'), "json-invalid"),
    "sealed record as a campaign": (sealed(RECORD, OPERATOR), "predicate-type-wrong"),
    "sealed month 13": (resealed(b"2026-01-01", b"2026-13-01"), "time-invalid"),
    "sealed NFD": (named("e\u0301"), "text-not-nfc"),
    "sealed bidi override": (named("\u202ec-2026"), "text-forbidden-character"),
    "sealed zero-width": (named("c\u200b-2026"), "text-forbidden-character"),
    "sealed zero-width, escaped": (named("c\\u200b-2026"), "not-canonical"),
    "sealed control character": (named("c\\n-2026"), "text-forbidden-character"),
    "sealed full-width digits": (named("c-２０２６-03.campaign.json"), "subject-wrong"),
    "sealed Cyrillic look-alike": (named("\u0441-2026-03.campaign.json"), "subject-wrong"),
    "sealed Cyrillic in a name": (resealed(b'"pool":"pool-a"', '"pool":"p\u043eol-a"'.encode()), "schema-invalid"),
    "sealed lone surrogate": (named("\\ud800"), "json-invalid"),
    "sealed broken UTF-8": (resealed(b"c-2026-03.campaign.json", b"\xff"), "json-invalid"),
    "sealed path in a name": (resealed(b'"pool":"pool-a"', b'"pool":"../pool"'), "schema-invalid"),
}


def opened(name: str, content: bytes, where: object = None) -> bytes:
    """Return the payload of a document after it was verified as a verifier does."""
    if name == "node-record":
        return Verifier(TRUST, NOW).record(content, where).payload
    return Verifier(TRUST, NOW).open(name, content, where).payload


def refusal(name: str, content: bytes) -> str:
    """Return the code that a document is refused with, and check that the refusal is one printable line."""
    with pytest.raises(RefusedError) as refused:
        opened(name, content, "a file")
    text = str(refused.value)
    assert text.startswith("a file: ")
    assert text.isprintable()
    assert len(text) <= 500
    return refused.value.code


def test_the_victims_are_accepted() -> None:
    for content in (SIGNED, SIGNED[:-1]):
        assert Verifier(TRUST, NOW).open("campaign", content).payload == CAMPAIGN
    assert Verifier(TRUST, NOW).record(SIGNED_RECORD).payload == RECORD


@pytest.mark.parametrize("attack", ATTACKS)
def test_attack(attack: str) -> None:
    content, code = ATTACKS[attack]
    assert content != SIGNED
    assert refusal("campaign", content) == code


@pytest.mark.parametrize(
    "content",
    [with_signature(keyid=MINE["keyid"] + "\n"), resealed(b'"pool":"pool-a"', b'"pool":"pool-a\\n"')],
    ids=["key id", "name"],
)
def test_a_newline_behind_a_pattern_never_passes(content: bytes) -> None:
    """Python's `$` matches before a last newline; whichever check sees it first, it is refused."""
    assert accepted("campaign", content) is None


def number(value: str, field: str = "m") -> bytes:
    """Return the record, sealed by its node, with a number written as `value`."""
    old = f'"{field}":8192'.encode()
    assert old in RECORD
    return sealed(RECORD.replace(old, f'"{field}":{value}'.encode(), 1), NODE)


RECORD_ATTACKS: dict[str, tuple[bytes, str]] = {
    "edited by one byte": (
        with_payload(RECORD.replace(b'"units":132', b'"units":133'), SIGNED_RECORD),
        "signature-invalid",
    ),
    "signature twice": (
        edited(lambda value: value["signatures"].append(value["signatures"][0]), SIGNED_RECORD),
        "signature-duplicate",
    ),
    "signed by another key": (sealed(RECORD, THIEF), "signer-mismatch"),
    "signed by another key too": (sealed(RECORD, NODE, THIEF), "signer-mismatch"),
    "signed by the operator": (sealed(RECORD, OPERATOR), "signer-mismatch"),
    "signed and named by the operator": (sealed(record_payload(OPERATOR), OPERATOR), "role-not-allowed"),
    "signer replaced by the thief": (with_payload(record_payload(THIEF), SIGNED_RECORD), "signer-mismatch"),
    "campaign as a record": (SIGNED, "predicate-type-wrong"),
    "payload type": (sealed(RECORD, NODE, payload_type="text/plain"), "payload-type-wrong"),
    "too large": (SIGNED_RECORD + b" " * CAPS.record_bytes, "document-too-large"),
    "float": (number("8192.0"), "schema-invalid"),
    "exponent": (number("8e3"), "schema-invalid"),
    "NaN": (number("NaN"), "json-invalid"),
    "minus infinity": (number("-Infinity"), "json-invalid"),
    "negative": (number("-8192"), "schema-invalid"),
    "zero": (number("0"), "schema-invalid"),
    "bool": (number("true"), "schema-invalid"),
    "text": (number('"8192"'), "schema-invalid"),
    "null": (number("null"), "schema-invalid"),
    "leading zero": (number("08192"), "json-invalid"),
    "2^53": (number(str(2**53)), "schema-invalid"),
    "2^64": (number(str(2**64)), "schema-invalid"),
    "30 digits": (number("9" * 30), "schema-invalid"),
    "10^400": (number("1" + "0" * 400), "schema-invalid"),
    "10^100,000": (number("1" + "0" * 100_000), "schema-invalid"),
    "full-width digits": (number("８１９２"), "json-invalid"),
    "100,000 brackets": (number(MUCH), "json-invalid"),
    "duplicate number": (number('8192,"m":16384'), "not-canonical"),
    "29 sub-windows": (
        sealed(RECORD.replace(b'"subwindow_over_ns":[[0,', b'"subwindow_over_ns":[[', 1), NODE),
        "schema-invalid",
    ),
    "a column longer than the others": (
        sealed(RECORD.replace(b'"launches":[12000]', b'"launches":[12000,12000]'), NODE),
        "schema-invalid",
    ),
}


@pytest.mark.parametrize("attack", RECORD_ATTACKS)
def test_attack_on_a_record(attack: str) -> None:
    content, code = RECORD_ATTACKS[attack]
    assert content != SIGNED_RECORD
    assert refusal("node-record", content) == code


def accepted(name: str, content: bytes) -> bytes | None:
    """Return the payload of an accepted document, None of a refused one; any other error is the caller's failure."""
    try:
        return opened(name, content)
    except PetasealError:
        return None


@given(st.data())
@pytest.mark.parametrize(("name", "content"), [("campaign", SIGNED), ("node-record", SIGNED_RECORD)])
def test_a_mutated_envelope_is_refused_or_says_the_same(name: str, content: bytes, data: st.DataObject) -> None:
    mutated = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(mutated)))
        cut = data.draw(st.integers(0, 4))
        mutated[at : at + cut] = data.draw(st.binary(max_size=4) | st.sampled_from([b'"', b"\\", b"}", b"\n", b"A"]))
    payload = accepted(name, bytes(mutated))
    if payload is not None:
        assert bytes(mutated).rstrip(b"\n") == content.rstrip(b"\n")
        assert payload == dsse.parse_envelope(content, CAPS.record_bytes).payload


@given(st.data())
@pytest.mark.parametrize("name", ["campaign", "node-record"])
def test_a_mutated_payload_that_is_sealed_anyway_has_one_reading(name: str, data: st.DataObject) -> None:
    payload, key = (CAMPAIGN, OPERATOR) if name == "campaign" else (RECORD, NODE)
    at = data.draw(st.integers(0, len(payload)))
    cut = data.draw(st.integers(0, 6))
    new = data.draw(st.binary(max_size=6) | st.text(max_size=4).map(lambda text: text.encode("utf-8", "surrogatepass")))
    mutated = payload[:at] + new + payload[at + cut :]
    read = accepted(name, sealed(mutated, key))
    assert read is None or read == mutated


@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "replace")))
def test_no_file_crashes_the_verifier(content: bytes) -> None:
    assert accepted("campaign", content) is None
    assert accepted("node-record", content) is None
