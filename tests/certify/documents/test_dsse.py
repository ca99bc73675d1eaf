"""The DSSE profile: the published encoding, sealing, and which signatures hold. Attacks: test_envelope_attacks."""

from __future__ import annotations

import json

import pytest

from bench.errors import RefusedError
from certify.documents import dsse
from certify.documents.caps import Caps
from certify.keys.signers import PublicKey
from tests.certify.signed import b64, new_key, rewritten

KIND = "http://example.com/HelloWorld"
MIB = 2**20


def ring(*keys: PublicKey) -> dict[str, PublicKey]:
    return {key.keyid: key for key in keys}


def test_published_pre_authentication_encoding() -> None:
    """The example of the DSSE 1.0 protocol document."""
    assert dsse.pae(KIND, b"hello world") == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


@pytest.mark.parametrize(
    ("kind", "payload", "expected"),
    [
        ("", b"", b"DSSEv1 0  0 "),
        ("a b", b"\x00\xff", b"DSSEv1 3 a b 2 \x00\xff"),
        ("\u00e9", b"1 2", b"DSSEv1 2 \xc3\xa9 3 1 2"),  # lengths are in bytes
    ],
)
def test_encoding_counts_bytes(kind: str, payload: bytes, expected: bytes) -> None:
    assert dsse.pae(kind, payload) == expected


def test_seal_parse_verify() -> None:
    one, two = new_key(), new_key()
    content = dsse.seal(b"payload", KIND, [one, two])
    assert content.endswith(b"}\n")
    assert content == dsse.seal(b"payload", KIND, [two, one])
    value = json.loads(content)
    assert list(value) == ["payload", "payloadType", "signatures"]
    assert value["payload"] == b64(b"payload")
    for form in (content, content[:-1]):
        envelope = dsse.parse_envelope(form, MIB)
        assert (envelope.payload, envelope.payload_type) == (b"payload", KIND)
        assert dsse.verify_signatures(envelope, ring(one.public, two.public)) == {one.public.keyid, two.public.keyid}
        assert dsse.verify_signatures(envelope, ring(two.public)) == {two.public.keyid}


def test_a_signature_of_an_unknown_key_counts_for_nothing() -> None:
    key = new_key()
    envelope = dsse.parse_envelope(dsse.seal(b"payload", KIND, [key]), MIB)
    assert dsse.verify_signatures(envelope, ring(new_key().public)) == frozenset()
    assert dsse.verify_signatures(envelope, {}) == frozenset()


def test_a_ring_that_files_a_key_under_another_id_is_not_believed() -> None:
    key, other = new_key(), new_key()
    envelope = dsse.parse_envelope(dsse.seal(b"payload", KIND, [key]), MIB)
    with pytest.raises(RefusedError) as refused:
        dsse.verify_signatures(envelope, {key.public.keyid: other.public})
    assert refused.value.code == "signature-invalid"


def test_one_key_under_two_ids_is_not_two_keys() -> None:
    key = new_key()
    alias = "0" * 64
    value = json.loads(dsse.seal(b"payload", KIND, [key]))
    value["signatures"].append({"keyid": alias, "sig": value["signatures"][0]["sig"]})
    envelope = dsse.parse_envelope(rewritten(value), MIB)
    assert dsse.verify_signatures(envelope, ring(key.public)) == {key.public.keyid}
    with pytest.raises(RefusedError) as refused:
        dsse.verify_signatures(envelope, {**ring(key.public), alias: key.public})
    assert refused.value.code == "signature-invalid"


def test_sealing_needs_distinct_keys() -> None:
    key = new_key()
    for keys, code in (([], "signature-missing"), ([key, key], "signature-duplicate")):
        with pytest.raises(RefusedError) as refused:
            dsse.seal(b"payload", KIND, keys)
        assert refused.value.code == code


def test_caps() -> None:
    content = dsse.seal(b"payload", KIND, [new_key() for _ in range(3)])
    dsse.parse_envelope(content, len(content), caps=Caps(signatures=3))
    for size, caps, code in (
        (len(content) - 1, Caps(), "document-too-large"),
        (MIB, Caps(signatures=2), "signature-too-many"),
    ):
        with pytest.raises(RefusedError) as refused:
            dsse.parse_envelope(content, size, "a file", caps)
        assert refused.value.code == code
        assert refused.value.where == "a file"
