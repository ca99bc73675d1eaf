"""Attacks on a whole package, a statement with its records, by name: how each is made, and the code that refuses it.

`INDEX` says where the attacks of each kind stand, here and in the tests of single rooms; `test_attacks` runs what is
here, and the independent verifiers are held to the same codes (`test_javascript`). The attacker has every byte and keys
of his own. Where an attack says "sealed", the operator or the node itself is the liar.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from bench.record import Campaign, Device, NodeRecord
from certify.documents import dsse
from certify.documents.kinds import PAYLOAD_TYPE, make_document, parse_payload
from certify.documents.merkle import record_root
from certify.keys.files import load_private
from certify.keys.signers import PrivateKey, load_scheme, spki_text
from tests.certify.measured import Measured
from tests.certify.signed import b64, envelope, new_key, rewritten

CAP = 2**26


@dataclass(frozen=True)
class Package:
    """What a verifier is given."""

    statement: bytes
    records: bytes


Attack = tuple[Callable[[Measured], Package], str]


def package(centre: Measured) -> Package:
    """Return the honest one."""
    out = centre.folder / "out"
    return Package((out / "statement.dsse.json").read_bytes(), (out / "records.jsonl").read_bytes())


def campaign_of(centre: Measured) -> Campaign:
    """Return a centre's campaign."""
    envelope_of = dsse.parse_envelope(centre.campaign.read_bytes(), CAP)
    campaign: Campaign = parse_payload("campaign", envelope_of.payload).predicate
    return campaign


def payload_of(content: bytes) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(dsse.parse_envelope(content, CAP).payload)
    return value


def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def statement(change: Callable[[dict[str, Any]], object], *keys: PrivateKey) -> Callable[[Measured], Package]:
    """Return an attack that changes the statement's payload and seals it anew, by the operator if by nobody else."""

    def make(centre: Measured) -> Package:
        honest = package(centre)
        value = payload_of(honest.statement)
        change(value)
        sealed = dsse.seal(canonical(value), PAYLOAD_TYPE, list(keys) or [load_private(centre.key)])
        return Package(sealed, honest.records)

    return make


def text(old: str, new: str, of: str = "predicate") -> Callable[[Measured], Package]:
    """Return an attack that replaces bytes of the payload before the operator seals it."""

    def make(centre: Measured) -> Package:
        honest = package(centre)
        payload = dsse.parse_envelope(honest.statement, CAP).payload.decode()
        assert old in payload, of
        sealed = dsse.seal(payload.replace(old, new, 1).encode(), PAYLOAD_TYPE, [load_private(centre.key)])
        return Package(sealed, honest.records)

    return make


def field(path: str, new: Any) -> Callable[[dict[str, Any]], None]:
    """Return a change of one place in the predicate; a callable gets the old value."""

    def change(value: dict[str, Any]) -> None:
        *steps, last = (int(step) if step.isdigit() else step for step in path.split("."))
        place: Any = value["predicate"]
        for step in steps:
            place = place[step]
        place[last] = new(place[last]) if callable(new) else new

    return change


def enveloped(change: Callable[[dict[str, Any]], object]) -> Callable[[Measured], Package]:
    """Return an attack on the envelope, whose signature stays."""

    def make(centre: Measured) -> Package:
        honest = package(centre)
        value = envelope(honest.statement)
        change(value)
        return Package(rewritten(value), honest.records)

    return make


def records(
    change: Callable[[list[bytes], Measured], list[bytes]], bound: bool = False
) -> Callable[[Measured], Package]:
    """Return an attack on the records; `bound`: the operator binds the new set in a statement that is sealed anew."""

    def make(centre: Measured) -> Package:
        honest = package(centre)
        lines = change(honest.records.splitlines(keepends=True), centre)
        if not bound:
            return Package(honest.statement, b"".join(lines))
        digests = {line: hashlib.sha256(dsse.parse_envelope(line, CAP).payload).hexdigest() for line in lines}
        lines = sorted(lines, key=lambda line: digests[line])
        root = record_root([digests[line] for line in lines])

        def bind(value: dict[str, Any]) -> None:
            value["subject"][0]["digest"] = {"rfc6962-sha256": root}
            value["predicate"] |= {"records": len(lines), "records_root": root}

        return Package(statement(bind)(centre).statement, b"".join(lines))

    return make


def resealed(line: bytes, key: PrivateKey | None = None, **changes: Any) -> bytes:
    """Return a record, changed and sealed by a key that it names."""
    key = key or new_key()
    opened = parse_payload("node-record", dsse.parse_envelope(line, CAP).payload)
    record: NodeRecord = replace(opened.predicate, signer_spki=spki_text(key.public), **changes)
    return dsse.seal(make_document("node-record", record, opened.subject_digest), PAYLOAD_TYPE, [key])


def withdrawn(line: bytes) -> bytes:
    """Return a record as of format v0.1, sealed by a key that it names."""
    value, key = payload_of(line), new_key()
    value["predicateType"] = "urn:petaseal:node-record/v0.1"
    value["predicate"] |= {"signer_spki": spki_text(key.public)}
    return dsse.seal(canonical(value), PAYLOAD_TYPE, [key])


REFERENCE: dict[str, Any] = {  # a sound reference measurement, as a record tells it
    "kernel": "other-path",
    "role": "path",
    "precision": "fp16",
    "device": ["fake:0"],
    "elapsed_ns": [1000],
    "rate_mflop_s": [5],
    "rate_mb_s": [None],
    "clock_mean_mhz": [None],
    "row_error_ppm": [100],
    "rms_error_ppm": [100],
    "exact": [None],
    "trouble": [None],
}
BAD_REFERENCES: dict[str, dict[str, Any]] = {  # and what makes it none
    "in another role than its kernel's": {"role": "ceiling"},
    "of a path that is exact": {"exact": [True]},
    "of a bandwidth that computes": {"kernel": "triad", "role": "bandwidth", "exact": [True]},
    "with a rate and a trouble": {"trouble": ["it hung"]},
    "without a rate or a trouble": {"rate_mflop_s": [None]},
    "that took no time": {"elapsed_ns": [0]},
    "of columns that differ": {"elapsed_ns": [1000, 1000]},
    "of a device that is not there": {"device": ["fake:9"]},
}


def with_references(*references: dict[str, Any]) -> Callable[[Measured], Package]:
    """Return an attack whose first record has these reference measurements; the operator binds it."""

    def retold(found: list[bytes], _: Measured) -> list[bytes]:
        value, key = payload_of(found[0]), new_key()
        value["predicate"] |= {"signer_spki": spki_text(key.public), "companions": list(references)}
        return [dsse.seal(canonical(value), PAYLOAD_TYPE, [key]), *found[1:]]

    return records(retold, bound=True)


def swapped(line: bytes, **changes: Any) -> bytes:
    """Return a record with another payload under the node's old signature."""
    value = payload_of(line)
    value["predicate"] |= changes
    return rewritten({**envelope(line), "payload": b64(canonical(value))})


def hmac_with_the_public_key(value: dict[str, Any], centre: Measured) -> None:
    spki = load_private(centre.key).public.spki
    message = dsse.pae(value["payloadType"], json.dumps(value["payload"]).encode())
    mac = hmac.new(spki, message, "sha256").digest() + hmac.new(spki, message[::-1], "sha256").digest()
    value["signatures"][0]["sig"] = b64(mac)


def by_hmac(centre: Measured) -> Package:
    honest = package(centre)
    value = envelope(honest.statement)
    hmac_with_the_public_key(value, centre)
    return Package(rewritten(value), honest.records)


def under_the_operators_id(scheme: str) -> Callable[[Measured], Package]:
    """Return an attack that puts a signature of another key, of any algorithm, under the operator's id."""

    def make(centre: Measured) -> Package:
        honest = package(centre)
        value = envelope(honest.statement)
        message = dsse.pae(PAYLOAD_TYPE, dsse.parse_envelope(honest.statement, CAP).payload)
        value["signatures"][0]["sig"] = b64(load_scheme(scheme).generate().sign(message))
        return Package(rewritten(value), honest.records)

    return make


THIEF = new_key()
SM2 = "sm2-sm3-1234567812345678"
UNTIL = '"valid_until":"'

# --- sums, units, fields: the operator lies and seals it -------------------------------------------------------------
FIELDS: dict[str, Attack] = {
    "sum in GFLOP/s under the name of MFLOP/s": (
        statement(field("classes.0.counted.certified_mflop_s", lambda n: n // 1000)),
        "statement-differs",
    ),
    "sum a thousand times": (
        statement(field("classes.0.counted.certified_mflop_s", lambda n: n * 1000)),
        "statement-differs",
    ),
    "sum of binary units": (
        statement(field("classes.0.counted.certified_mflop_s", lambda n: n * 10**9 // 2**30)),
        "statement-differs",
    ),
    "share in percent for ppm": (statement(field("bookkeeping.intelligent_share_ppm", 100)), "statement-differs"),
    "certified is sustained": (
        statement(
            lambda v: v["predicate"]["classes"][0]["counted"].update(
                certified_mflop_s=v["predicate"]["classes"][0]["counted"]["sustained_mflop_s"]
            )
        ),
        "statement-differs",
    ),
    "nominal is zero": (statement(field("classes.0.counted.nominal_mflop_s", 1)), "statement-differs"),
    "a pool twice": (
        statement(lambda v: v["predicate"]["pools"].append(v["predicate"]["pools"][0])),
        "statement-differs",
    ),
    "a class twice": (
        statement(lambda v: v["predicate"]["classes"].append(v["predicate"]["classes"][0])),
        "statement-differs",
    ),
    "FP64 called FP16": (statement(field("classes.0.precision", "fp64")), "statement-differs"),
    "one device more": (statement(field("classes.0.counted.devices", lambda n: n + 1)), "statement-differs"),
    "2^53 - 1 FLOP/s more than possible": (
        statement(field("bookkeeping.sustained_mflop_s", 2**53 - 1)),
        "statement-differs",
    ),
    "a note that nobody knows": (
        statement(
            lambda v: v["predicate"]["findings"].append(
                {"code": "excellent", "devices": 1, "effect": "note", "workload": "fp16"}
            )
        ),
        "statement-differs",
    ),
    "a supersession of nobody": (statement(field("issue.supersedes", ["ab" * 32])), "sequence-invalid"),
    "sequence 2^53 - 1": (statement(field("issue.sequence", 2**53 - 1)), "sequence-invalid"),
}

# --- JSON: one payload, two readings ---------------------------------------------------------------------------------
AMBIGUITIES: dict[str, Attack] = {
    "a sum twice": (text('"records":', '"records":1,"records":'), "not-canonical"),
    "a sum as a float": (text('"sequence":1', '"sequence":1.0'), "schema-invalid"),
    "a sum with an exponent": (text('"sequence":1', '"sequence":1e0'), "schema-invalid"),
    "minus zero": (text('"existing":{"certified_mflop_s":0', '"existing":{"certified_mflop_s":-0'), "not-canonical"),
    "a plus sign": (text('"sequence":1', '"sequence":+1'), "json-invalid"),
    "hexadecimal": (text('"sequence":1', '"sequence":0x1'), "json-invalid"),
    "a comment": (text('"sequence":1', '"sequence":1/**/'), "json-invalid"),
    "a trailing comma": (text('"sequence":1', '"sequence":1,'), "json-invalid"),
    "single quotes": (text('"sequence":1', "'sequence':1"), "json-invalid"),
    "an escaped letter": (text('"sequence":1', '"\\u0073equence":1'), "not-canonical"),
    "an escaped slash": (text("https://in-toto.io/", "https:\\/\\/in-toto.io\\/"), "not-canonical"),
    "an unpaired surrogate": (text('"operator":"', '"operator":"\\ud83d'), "json-invalid"),
    "keys out of order": (text('{"_type":', '{ "_type":'), "not-canonical"),
    "Infinity": (text('"sequence":1', '"sequence":Infinity'), "json-invalid"),
}

# --- text that looks like another ------------------------------------------------------------------------------------
LOOK_ALIKES: dict[str, Attack] = {
    "a name decomposed (NFD)": (text('"operator":"', '"operator":"e\u0301'), "text-not-nfc"),
    "a zero-width space": (text('"operator":"', '"operator":"\u200b'), "text-forbidden-character"),
    "a zero-width joiner": (text('"operator":"', '"operator":"\u200d'), "text-forbidden-character"),
    "a word joiner": (text('"operator":"', '"operator":"\u2060'), "text-forbidden-character"),
    "a right-to-left override": (text('"operator":"', '"operator":"\u202e'), "text-forbidden-character"),
    "an isolate": (text('"operator":"', '"operator":"\u2066'), "text-forbidden-character"),
    "a tab": (text('"operator":"', '"operator":"\\t'), "text-forbidden-character"),
    "a byte order mark inside": (text('"operator":"', '"operator":"\ufeff'), "text-forbidden-character"),
    "a centre's id in Cyrillic": (text('"centre_id":"gz-test"', '"centre_id":"gz-t\u0435st"'), "schema-invalid"),
    "a centre's id in full width": (text('"centre_id":"gz-test"', '"centre_id":"gz-t\uff45st"'), "schema-invalid"),
    "a number in full width": (text('"sequence":1', '"sequence":\uff11'), "json-invalid"),
    "a policy's name in capitals": (text('"policy":"guangzhou-2000p"', '"policy":"Guangzhou-2000P"'), "schema-invalid"),
}

# --- one moment in many spellings ------------------------------------------------------------------------------------
SPELLINGS = {
    "without a fraction": "2026-03-02T08:00:00Z",
    "of milliseconds": "2026-03-02T08:00:00.000Z",
    "of nanoseconds": "2026-03-02T08:00:00.000000000Z",
    "with an offset": "2026-03-02T08:00:00.000000+00:00",
    "in Beijing": "2026-03-02T16:00:00.000000+08:00",
    "without a zone": "2026-03-02T08:00:00.000000",
    "in lower case": "2026-03-02t08:00:00.000000z",
    "with a space": "2026-03-02 08:00:00.000000Z",
    "with a comma": "2026-03-02T08:00:00,000000Z",
    "in basic form": "20260302T080000.000000Z",
    "by the week": "2026-W10-1T08:00:00.000000Z",
    "by the day of the year": "2026-061T08:00:00.000000Z",
    "at 24 o'clock": "2026-03-01T24:00:00.000000Z",
    "in a leap second": "2026-03-01T23:59:60.000000Z",
    "on 30 February": "2026-02-30T08:00:00.000000Z",
    "of one digit": "2026-3-2T8:0:0.000000Z",
    "in full width": "２０２６-03-02T08:00:00.000000Z",
    "in Arabic digits": "٢٠٢٦-03-02T08:00:00.000000Z",
    "of five digits": "+02026-03-02T08:00:00.000000Z",
    "before Christ": "-2026-03-02T08:00:00.000000Z",
    "in the year 0": "0000-03-02T08:00:00.000000Z",
    "with a newline": "2026-03-02T08:00:00.000000Z\n",
}
TIMES: dict[str, Attack] = {
    f"a time {how}": (statement(field("issue.valid_until", spelt)), "time-invalid") for how, spelt in SPELLINGS.items()
}

# --- envelopes, algorithms, keys -------------------------------------------------------------------------------------
ENVELOPES: dict[str, Attack] = {
    "a MAC under the public key": (by_hmac, "signature-invalid"),
    "an SM2 signature under the operator's id": (under_the_operators_id(SM2), "signature-invalid"),
    "another Ed25519 signature under the operator's id": (under_the_operators_id("ed25519"), "signature-invalid"),
    "the thief signs": (statement(lambda value: None, THIEF), "key-not-trusted"),
    "an algorithm is named": (enveloped(lambda v: v["signatures"][0].update(alg="none")), "schema-invalid"),
    "a key is brought along": (
        enveloped(lambda v: v["signatures"][0].update(publicKey=b64(THIEF.public.spki))),
        "schema-invalid",
    ),
    "no signature": (enveloped(lambda v: v.update(signatures=[])), "signature-missing"),
    "payload and type change places": (
        enveloped(lambda v: v.update(payload=b64(PAYLOAD_TYPE.encode()))),
        "signature-invalid",
    ),
    "the campaign as a statement": (
        lambda centre: Package(centre.campaign.read_bytes(), package(centre).records),
        "predicate-type-wrong",
    ),
    "a record as a statement": (
        lambda centre: Package(package(centre).records.splitlines(keepends=True)[0], package(centre).records),
        "key-not-trusted",
    ),
    "another in-toto statement of the operator": (
        statement(lambda v: v.update(predicateType="https://slsa.dev/provenance/v1")),
        "predicate-type-wrong",
    ),
    "a statement of format v0.1": (
        statement(lambda v: v.update(predicateType="urn:petaseal:capacity-statement/v0.1")),
        "format-withdrawn",
    ),
    "a document of format v0.1 that is no statement": (
        statement(lambda v: v.update(predicateType="urn:petaseal:campaign/v0.1")),
        "format-withdrawn",
    ),
    "in-toto v0.1": (statement(lambda v: v.update(_type="https://in-toto.io/Statement/v0.1")), "statement-type-wrong"),
    "two subjects": (statement(lambda v: v["subject"].append(v["subject"][0])), "schema-invalid"),
    "a subject of another name": (statement(lambda v: v["subject"][0].update(name="records.json")), "subject-wrong"),
}

# --- records: swapped, replayed, missing, too many -------------------------------------------------------------------
YEAR_BEFORE = "2025-03-01T08:01:00.000000Z"
RECORDS: dict[str, Attack] = {
    "a record is missing": (records(lambda found, _: found[1:]), "records-count"),
    "a record twice": (records(lambda found, _: [found[0], *found]), "node-twice"),
    "no record": (records(lambda found, _: []), "no-records"),
    "an empty line": (records(lambda found, _: [found[0], b"\n", *found[1:]]), "json-invalid"),
    "records out of order": (records(lambda found, _: found[::-1]), "records-unsorted"),
    "a record edited under its signature": (
        records(lambda found, _: [swapped(found[0], pool="other"), *found[1:]]),
        "signature-invalid",
    ),
    "a record's key replaced": (
        records(lambda found, _: [swapped(found[0], signer_spki=spki_text(THIEF.public)), *found[1:]]),
        "signer-mismatch",
    ),
    "a record sealed by the operator": (
        records(lambda found, centre: [resealed(found[0], load_private(centre.key)), *found[1:]], bound=True),
        "role-not-allowed",
    ),
    "a replay of last year's campaign": (
        records(lambda found, _: [resealed(found[0], campaign_sha256="ab" * 32), *found[1:]], bound=True),
        "campaign-differs",
    ),
    "a replay of another start": (
        records(lambda found, _: [resealed(found[0], starts_at=YEAR_BEFORE), *found[1:]], bound=True),
        "start-differs",
    ),
    "an answer to an older challenge": (
        records(lambda found, _: [resealed(found[0], challenge="ab" * 16), *found[1:]], bound=True),
        "challenge-differs",
    ),
    "another centre's record": (
        records(lambda found, _: [resealed(found[0], centre_id="wh-centre"), *found[1:]], bound=True),
        "centre-differs",
    ),
    "a node that the campaign does not name": (
        records(lambda found, _: [*found, resealed(found[0], node_id="gpu-99999")], bound=True),
        "node-not-expected",
    ),
    "a record of format v0.1": (
        records(lambda found, _: [withdrawn(found[0]), *found[1:]], bound=True),
        "format-withdrawn",
    ),
    "a record under other rules": (
        records(lambda found, _: [resealed(found[0], rules="petaseal-rules/9"), *found[1:]], bound=True),
        "rules-differ",
    ),
    "a record by another profile": (
        records(lambda found, _: [resealed(found[0], profile_sha256="ab" * 32), *found[1:]], bound=True),
        "profile-differs",
    ),
    "a record in another pool": (
        records(lambda found, _: [resealed(found[0], pool="better"), *found[1:]], bound=True),
        "pool-differs",
    ),
    "a record whose end is before its beginning": (
        records(lambda found, _: [resealed(found[0], ended_at=YEAR_BEFORE), *found[1:]], bound=True),
        "times-reversed",
    ),
    "a record that names another campaign": (
        records(lambda found, _: [resealed(found[0], campaign_id="c-other"), *found[1:]], bound=True),
        "campaign-differs",
    ),
    "a record that names another profile": (
        records(lambda found, _: [resealed(found[0], profile="certification"), *found[1:]], bound=True),
        "profile-differs",
    ),
    "a record with a campaign of its own": (
        records(
            lambda found, centre: [
                resealed(found[0], campaign=campaign_of(centre)),
                *found[1:],
            ],
            bound=True,
        ),
        "campaign-differs",
    ),
    **{
        f"a reference measurement {name}": (with_references({**REFERENCE, **changes}), "schema-invalid")
        for name, changes in BAD_REFERENCES.items()
    },
    "two reference measurements of one kernel": (with_references(REFERENCE, REFERENCE), "schema-invalid"),
    "records of two formats": (records(lambda found, _: [*found, b"[]\n"]), "schema-invalid"),
}

PACKAGES: dict[str, dict[str, Attack]] = {
    "fields, sums and units": FIELDS,
    "JSON ambiguities": AMBIGUITIES,
    "look-alikes": LOOK_ALIKES,
    "time variants": TIMES,
    "envelopes, algorithms and keys": ENVELOPES,
    "records and replays": RECORDS,
}

# --- one device under two names: what the second node calls it, and the code -----------------------------------------
Disguise = tuple[Callable[[Device], dict[str, Any]], Callable[[Device], dict[str, Any]], str]


def same(name: str, first: str | None, second: str | None) -> Disguise:
    """Return a disguise: one field spelt in two ways, and nothing else to tell the device by."""
    bare = {"uuid": None, "serial": None, "die_id": None}
    return (lambda device: {**bare, name: first}, lambda device: {**bare, name: second}, "duplicate-device")


DISGUISES: dict[str, Disguise] = {
    "the same": same("uuid", "GPU-1a2b3c4d", "GPU-1a2b3c4d"),
    "in another case": same("uuid", "GPU-1a2b3c4d", "gpu-1A2B3C4D"),
    "without the prefix": same("uuid", "GPU-1a2b3c4d", "1a2b3c4d"),
    "with UUID before it": same("uuid", "UUID-1a2b3c4d", "1a2b3c4d"),
    "without dashes": same("uuid", "GPU-1a2b-3c4d", "GPU-1a2b3c4d"),
    "with colons": same("uuid", "1a:2b:3c:4d", "1a-2b-3c-4d"),
    "with prefixes, one before the other": same("uuid", "GPU-UUID-0x1a2b3c4d", "1a2b3c4d"),
    "with one prefix twice": same("uuid", "GPU-1a2b3c4d", "gpugpu1a2b3c4d"),
    "under another vendor's prefix": same("uuid", "GPU-1a2b3c4d", "MLU-1a2b3c4d"),
    "in braces": same("uuid", "{1a2b3c4d}", "1a2b3c4d"),
    "in full width": same("serial", "\uff11\uff12\uff13\uff14\uff15\uff21", "12345a"),
    "as hexadecimal": same("serial", "0x1a2b3c4d", "1a2b3c4d"),
    "with leading zeros": same("serial", "0001654000001", "1654000001"),
    "with spaces": same("serial", "1654 0000 01", "1654000001"),
    "with a soft hyphen's likeness": same("serial", "1654\u20110000\u201101", "1654000001"),
    "a serial alone": same("serial", "1654000001", "1654000001"),
    "a die alone": same("die_id", "DIE-00ff12ab", "die00ff12ab"),
    "a new uuid, the old serial": (
        lambda device: {"uuid": "GPU-aaaa1111", "serial": "1654000001"},
        lambda device: {"uuid": "GPU-bbbb2222", "serial": "1654000001"},
        "duplicate-device",
    ),
    "a new uuid and serial, the old die": (
        lambda device: {"uuid": "GPU-aaaa1111", "serial": "1654000001", "die_id": "die00ff12ab"},
        lambda device: {"uuid": "GPU-bbbb2222", "serial": "1654000002", "die_id": "die00ff12ab"},
        "duplicate-device",
    ),
    "a uuid as the other's serial": (
        lambda device: {"uuid": "GPU-aaaa1111", "serial": "1654000001"},
        lambda device: {"uuid": "GPU-bbbb2222", "serial": "AAAA1111"},
        "duplicate-device",
    ),
    "a serial as the other's die": (
        lambda device: {"uuid": "GPU-aaaa1111", "serial": "1654000001"},
        lambda device: {"uuid": "GPU-bbbb2222", "serial": None, "die_id": "1654000001"},
        "duplicate-device",
    ),
    "parts of one card on two nodes": (
        lambda device: {"uuid": "MIG-aaaa1111", "serial": None, "parent": "GPU-cccc3333"},
        lambda device: {"uuid": "MIG-bbbb2222", "serial": None, "parent": "GPU-cccc3333"},
        "parent-on-two-nodes",
    ),
    "parts of one board on two nodes, by its serial": (
        lambda device: {"uuid": "MIG-aaaa1111", "serial": "1654000001", "parent": "GPU-cccc3333"},
        lambda device: {"uuid": "MIG-bbbb2222", "serial": "1654000001", "parent": "GPU-dddd4444"},
        "parent-on-two-nodes",
    ),
    "a slice beside its parent": (
        lambda device: {"uuid": "GPU-aaaa1111", "serial": None, "die_id": None},
        lambda device: {"uuid": "MIG-bbbb2222", "serial": None, "die_id": None, "parent": "GPU-AAAA-1111"},
        "parent-and-slice",
    ),
    "a die beside its package, by the serial": (
        lambda device: {"uuid": None, "serial": "1654000001", "die_id": None},
        lambda device: {"uuid": None, "serial": None, "die_id": "die00ff12ab", "parent": "1654000001"},
        "parent-and-slice",
    ),
}

# Where the attacks of every kind stand: the kind -> "module:table" or "module:test".
INDEX: dict[str, tuple[str, ...]] = {
    "field edits, unit swaps, sums": ("attacks:FIELDS", "verify.test_verifier:STATED"),
    "JSON ambiguities": ("attacks:AMBIGUITIES", "documents.test_envelope_attacks:ATTACKS"),
    "Unicode look-alikes": ("attacks:LOOK_ALIKES", "documents.test_envelope_attacks:ATTACKS"),
    "envelope confusions": ("attacks:ENVELOPES", "documents.test_envelope_attacks:ATTACKS"),
    "algorithm confusion": ("attacks:ENVELOPES", "attacks:KEYS"),
    "key substitution": (
        "attacks:RECORDS",
        "documents.test_envelope_attacks:RECORD_ATTACKS",
        "campaign.test_enrolment:laid",
    ),
    "one key under two ids": ("attacks:KEYS", "trust.test_trusted_set:INCONSISTENT"),
    "threshold games": ("trust.test_trusted_set:CASES", "trust.test_trusted_set:INCONSISTENT", "trust.test_root:CASES"),
    "root rollback, skip and freeze": ("trust.test_root:CASES", "trust.test_root:LISTS"),
    "a root in a registry's place that is garbage, older, skipped, foreign or never renewed": (
        "registry.test_trust_grace:BAD_ROOTS",
        "registry.test_trust_grace:test_an_expired_root_is_followed_for_its_grace_and_no_longer",
    ),
    "a file that is written twice within one tick of its clock": (
        "registry.base.test_trusting:test_a_file_that_is_written_twice_within_one_tick_is_read_twice",
    ),
    "replays and reused nonces": ("attacks:RECORDS", "statement.test_conflicts:CASES"),
    "devices that did not reduce together, and what makes the network seem to cost little": (
        "forged_fabric:FORGERIES",
        "judge.test_fabric:BETTER",
        "judge.test_fabric:STATED",
        "verify.test_fabric:test_a_fabric_that_is_left_out_is_seen",
    ),
    "windows": ("verify.test_verifier:STATED", "statement.test_conflicts:CASES"),
    "ISO-time variants": ("attacks:TIMES",),
    "duplicate devices in every disguise, MIG and parent": (
        "attacks:DISGUISES",
        "judge.test_tally:PARTS",
        "statement.test_conflicts:CASES",
    ),
    "identities that are left out or invented, a clock without an error": ("judge.test_rules:BROKEN",),
    "consistent records of devices that do not exist, whatever they tell": (
        "forger:MATTERS",
        "test_forger:test_no_forger_passes_what_is_promised",
        "audit.test_limits:STEPS",
    ),
    "a card as many dies or slices, and many cards on one node": ("test_forger:PARTS",),
    "one device under two identities": ("attacks:DISGUISES", "test_forger:TWICE"),
    "names that no table knows": ("test_forger:test_an_unknown_name_counts_nothing_at_any_rate",),
    "clocks, units and powers that are told": ("forger:MATTERS", "test_forger:test_told_clocks_raise_nothing"),
    "processors with launches or cores that they have not": (
        "test_forger:test_a_processor_is_bounded_by_what_its_cores_can_do",
        "judge.test_rules:BROKEN",
    ),
    "measurements of the past and of the future": (
        "test_forger:test_measurements_of_the_past_and_of_the_future_are_refused",
        "statement.test_age:test_a_chain_of_reissues_counts_from_its_first",
    ),
    "revoked statements issued again": (
        "registry.intake.test_reissued:REISSUED",
        "trust.test_root:test_a_statement_over_records_that_were_revoked_with_another",
    ),
    "registries that answer a byte at a time": ("registry.client.test_deadline:DRIPPING",),
    "images cloned with their key, machines under two names": (
        "registry.intake.test_makers:CLONED",
        "statement.test_conflicts:CASES",
    ),
    "records by a harness that nobody knows": (
        "registry.intake.test_makers:test_tools_are_listed_and_unknown_ones_noted",
    ),
    "witnesses": ("trust.test_witness:FORGED",),
    "registries' receipts": ("trust.test_receipt:FORGED", "documents.test_kinds:WRONG"),
    "heartbeats": ("documents.test_heartbeat:ATTACKS",),
    "heartbeats of many nodes": (
        "registry.intake.test_racks:ATTACKS",
        "registry.intake.test_racks:test_a_batch_is_heard_once",
        "registry.intake.test_racks:test_more_than_a_rack_is_refused_whole",
        "registry.intake.test_racks:test_what_was_heard_in_the_future_is_taken_back",
    ),
    "requests that two readers take for different ones": ("registry.service.test_protocol:ATTACKS",),
    "disks that are filled with what is refused": (
        "registry.maintenance.test_retention:test_a_flood_of_refused_bodies_does_not_fill_the_disk",
        "registry.maintenance.test_retention:test_what_comes_again_is_stored_again",
    ),
    "rows and files of a registry that are altered or deleted by hand": (
        "registry.maintenance.test_integrity:ALTERED",
        "registry.maintenance.test_retention:BY_HAND",
    ),
    "alarms that are acknowledged without the right": ("registry.service.test_oversight:ATTACKS",),
    "reasons that say nothing, or steer a terminal": (
        "registry.service.test_oversight:test_what_cannot_be_acknowledged",
    ),
    "floods of nodes' names, and names that a spreadsheet computes": (
        "registry.intake.test_aliases:test_many_small_changes_give_no_more_names_than_a_large_one",
        "registry.intake.test_aliases:test_changes_of_names_are_counted_as_submissions",
        "registry.intake.test_aliases:test_no_name_is_a_formula_in_a_table",
    ),
    "other documents and other measurements before the independent script": (
        "test_attacks:test_the_independent_script_refuses_what_it_says_it_checks",
    ),
    "trust roots of millions of lines": (
        "trust.test_root:test_a_file_of_millions_of_lines_is_refused_without_making_millions_of_them",
    ),
    "a second server of one registry, and databases of others": ("registry.storage.test_opening:REFUSED",),
    "archives": (
        "statement.test_package:ATTACKS",
        "statement.test_package:FOLDERS",
    ),
    "statements on paper": (
        "statement.papers:REFUSED",
        "statement.papers:UNVERIFIED",
        "statement.papers:APPENDED",
        "verify.test_paper:test_an_appended_annotation_repaints_the_page_and_the_original_is_given_back",
        "verify.test_paper:test_a_bomb_ends_in_its_own_process",
        "verify.test_paper:test_a_folder_of_downloads_runs_nothing",
    ),
    "QR codes of other statements, or of none": ("verify.test_paper:CHANGED",),
    "nodes and devices that are moved between pools": ("verify.test_pools:FORGED", "attacks:RECORDS"),
    "devices that records leave out of a pool": (
        "verify.test_pools:test_a_record_without_a_device_of_a_pool_that_its_node_is_in_leaves_the_node_missing_there",
    ),
    "clocks that differ, and closing documents of others": (
        "judge.test_closing:test_the_record_of_a_node_whose_clock_differs_counts_nothing",
        "verify.test_verifier:STATED",
        "campaign.test_collect:LEFT",
    ),
    "rehearsals": ("campaign.test_rehearsal:test_no_verifier_and_no_registry_takes_a_rehearsal",),
    "extra and missing records": ("attacks:RECORDS", "verify.test_verifier:RECORDS"),
}


def _ed25519(point: bytes) -> bytes:
    return bytes.fromhex("302a300506032b6570032100") + point


P = 2**255 - 19
# --- keys that are refused before they verify anything: SubjectPublicKeyInfo -> code --------------------------------
KEYS: dict[str, tuple[bytes, str]] = {
    "Ed25519 of order 1": (_ed25519((1).to_bytes(32, "little")), "key-weak"),
    "Ed25519 of order 2": (_ed25519((P - 1).to_bytes(32, "little")), "key-weak"),
    "Ed25519 of order 4": (_ed25519(bytes(32)), "key-weak"),
    "Ed25519 of order 8": (
        _ed25519(0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826.to_bytes(32, "little")),
        "key-weak",
    ),
    "Ed25519, y beyond p (the same point by two names)": (_ed25519((P + 3).to_bytes(32, "little")), "key-weak"),
    "Ed25519 off the curve": (_ed25519((2).to_bytes(32, "little")), "key-weak"),
    "Ed25519 with parameters": (bytes.fromhex("302c300706032b65700500032100") + bytes(32), "key-unsupported"),
    "Ed25519 with a long length": (bytes.fromhex("30812a300506032b6570032100") + bytes(32), "key-unsupported"),
    "Ed25519 with trailing bytes": (_ed25519(bytes(33)), "key-unsupported"),
    "X25519": (bytes.fromhex("302a300506032b656e032100") + bytes([9]) + bytes(31), "key-unsupported"),
    "nothing": (b"", "key-unsupported"),
    "an empty sequence": (b"\x30\x00", "key-unsupported"),
}
