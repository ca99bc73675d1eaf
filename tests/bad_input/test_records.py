"""Records that are damaged, forged, or do not belong together: each is one sentence, and leaves all as it was."""

from __future__ import annotations

import gzip
import json
import os
import random
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import yaml
from msgspec.structs import replace

import certify.samples.table
from bench.profile import load_profile
from bench.record import Campaign, NodeRecord, Window, digest
from certify.documents.caps import CAPS
from certify.keys.files import load_private
from tests.bad_input.command import petaseal
from tests.bad_input.laid_out import (
    as_lines,
    certified,
    edited,
    envelope_by,
    laid_out,
    new_key,
    payload_of,
    resealed,
    sealed,
    stated,
    verified,
)
from tests.bench.fleet import workloads_in
from tests.certify import measured as m
from tests.certify.measured import DAY, Measured, measured
from tests.certify.signed import fingerprint

# --- the file of a record: what is done to it -> code, exit status ---


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def huge(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(CAPS.record_bytes + 1)


def binary(path: Path) -> None:
    path.write_bytes(random.Random(1).randbytes(4096))


def linked(path: Path) -> None:
    path.rename(path.with_name("moved"))
    path.symlink_to("moved")


def dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def bomb(path: Path) -> None:
    path.write_bytes(gzip.compress(bytes(2**24)))


NAMED = {  # where the user names the file
    "symbolic link": ("", 0),
    "dangling link": ("file-missing", 2),
    "FIFO": ("file-empty", 2),
}
FILES: dict[str, tuple[Callable[[Path], None], str, int]] = {
    "empty": (emptied, "file-empty", 2),
    "truncated": (truncated, "json-invalid", 1),
    "huge": (huge, "file-too-large", 2),
    "binary": (binary, "json-invalid", 1),
    "symbolic link": (linked, "not-regular-file", 2),
    "dangling link": (dangling, "not-regular-file", 2),
    "FIFO": (fifo, "not-regular-file", 2),
    "folder": (folder, "not-regular-file", 2),
    "gzip bomb": (bomb, "json-invalid", 1),
}


@pytest.mark.parametrize("case", FILES)
def test_certify_refuses_a_damaged_file(place: Path, case: str) -> None:
    damage, code, status = FILES[case]
    centre = laid_out(place)
    damage(centre.record(1))
    answer = certified(centre)
    assert (answer.code, answer.status) == (code, status)
    assert centre.record(1).name in answer.err


@pytest.mark.parametrize("case", [*FILES, "missing"])
@pytest.mark.parametrize("victim", ["statement.dsse.json", "records.jsonl"])
def test_verify_refuses_a_damaged_file(place: Path, case: str, victim: str) -> None:
    damage, code, status = FILES.get(case, (Path.unlink, "file-missing", 2))
    centre = stated(place)
    path = place / "out" / victim
    damage(path)
    if case == "huge":
        with path.open("r+b") as file:
            file.truncate(CAPS.statement_bytes + 1)
    code, status = NAMED.get(case, (code, status)) if victim == "statement.dsse.json" else (code, status)
    if victim == "records.jsonl":  # read line by line: it has no cap of its own, and may as well be a folder
        code, status = {
            "empty": ("no-records", 2),
            "folder": ("no-records", 2),
            "huge": ("document-too-large", 1),
            "symbolic link": ("", 0),
        }.get(case, (code, status))
    elif case == "folder":  # a statement's folder will do, but this one holds none
        code, status = "file-missing", 2
    answer = verified(centre)
    assert (answer.code if answer.status else "", answer.status) == (code, status)
    assert answer.out == ("" if status == 2 else answer.out)


def test_no_records_at_all(place: Path) -> None:
    centre = laid_out(place)
    for path in centre.records.iterdir():
        path.unlink()
    assert certified(centre).code == "no-records"
    assert certified(replace_records(centre, place / "nowhere")).code == "file-missing"


def replace_records(centre: Measured, records: Path) -> Measured:
    return Measured(centre.folder, centre.key, centre.centre, centre.campaign, records)


def test_samples_that_are_a_gzip_bomb(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    centre = laid_out(place, nodes=1)
    key, base = new_key(), m.simulated(2, "standard", ("fp16", "fp64")).record
    header = b"device,workload,phase,offset_ns,quantity,value\n"
    rows = b"".join(b"fake:0,fp16,window,%d,power_mw,1\n" % i for i in range(2**16))
    samples = gzip.compress(header + rows)
    campaign = m.test_campaign(load_profile("standard"), ("fp16", "fp64"), 1)
    centre.record(0).write_bytes(m.seal_record(m.of_node(base, 0, campaign, key), key, samples))
    (centre.records / "gpu-00000.samples.csv.gz").write_bytes(samples)
    assert certified(centre).status == 0
    assert len(samples) < 2**20
    monkeypatch.setattr(certify.samples.table, "CAPS", replace_caps(samples_unpacked_bytes=2**20))
    answer = verified(centre, "--samples", centre.records)
    assert (answer.code, answer.status) == ("samples-too-large", 1)


def replace_caps(**changes: int) -> object:
    import dataclasses

    return dataclasses.replace(CAPS, **changes)


# --- the text of a document, altered before its own signer signed it: payload -> payload, code ---


def put(old: str, new: str) -> Callable[[bytes], bytes]:
    def change(payload: bytes) -> bytes:
        assert old.encode() in payload
        return payload.replace(old.encode(), new.encode(), 1)

    return change


def number(value: str) -> Callable[[bytes], bytes]:
    """Return what puts a value where a record has its first M."""
    return put('"m":', f'"m":{value},"m":') if value == "1" else (lambda p: _number(p, value))


def _number(payload: bytes, value: str) -> bytes:
    at = payload.index(b'"m":') + 4
    end = payload.index(b",", at)
    return payload[:at] + value.encode() + payload[end:]


def brackets(payload: bytes) -> bytes:
    return _number(payload, "[" * 100_000 + "]" * 100_000)


def text(value: str) -> Callable[[bytes], bytes]:
    """Return what puts a text where a record says what its processor is."""
    return put('"architecture":"', f'"architecture":"{value}')


def beside(**changes: object) -> Callable[[bytes], bytes]:
    """Return what puts a path beside a record's figures, with changes of its one row or of what it is."""
    reference: dict[str, object] = {
        "clock_mean_mhz": 1755,
        "device": "fake:0",
        "elapsed_ns": 10**9,
        "exact": None,
        "kernel": "gemm-cupy",
        "precision": "fp16",
        "rate_mb_s": None,
        "rate_mflop_s": 7 * 10**8,
        "rms_error_ppm": 450_000,
        "role": "path",
        "row_error_ppm": 1_700_000,
        "trouble": None,
        **changes,
    }
    one = {name: v if name in ("kernel", "precision", "role") else [v] for name, v in reference.items()}
    text = json.dumps(one, sort_keys=True, separators=(",", ":"))
    return put('"companions":[]', f'"companions":[{text}]')


def as_issue_rate(**changes: object) -> Callable[[bytes], bytes]:
    errors = {"row_error_ppm": None, "rms_error_ppm": None}
    return beside(**{"kernel": "issue-mma", "role": "ceiling", "exact": True, **errors, **changes})


PAYLOADS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "path called a ceiling": (as_issue_rate(kernel="gemm-cupy"), "schema-invalid"),
    "ceiling called a path": (beside(kernel="issue-mma"), "schema-invalid"),
    "path without a rate": (beside(rate_mflop_s=None), "schema-invalid"),
    "path in no time": (beside(elapsed_ns=0), "schema-invalid"),
    "path with a trouble and a rate": (beside(trouble="cupy is not installed"), "schema-invalid"),
    "path whose rate is NaN": (beside(rate_mflop_s=float("nan")), "json-invalid"),
    "path whose rate is infinite": (beside(rate_mflop_s=float("inf")), "json-invalid"),
    "path with a negative rate": (beside(rate_mflop_s=-1), "schema-invalid"),
    "path of a device that is not there": (beside(device="fake:9"), "schema-invalid"),
    "ceiling that nobody checked": (as_issue_rate(exact=None), "schema-invalid"),
    "ceiling that is a bandwidth": (as_issue_rate(rate_mb_s=1), "schema-invalid"),
    "companion of no role": (beside(role="figure"), "schema-invalid"),
    "trouble with an escape": (
        beside(
            **dict.fromkeys(("clock_mean_mhz", "rate_mflop_s", "row_error_ppm", "rms_error_ppm")),
            elapsed_ns=0,
            trouble="\x1b[31m",
        ),
        "text-forbidden-character",
    ),
    "tuned as fixed": (lambda p: p.replace(b'"choice":"tuned"', b'"choice":"fixed"'), "schema-invalid"),
    "a choice that there is not": (put('"choice":"fixed"', '"choice":"best"'), "schema-invalid"),
    "library with a line break": (put('"library":null', '"library":"/usr/lib/a\\nb"'), "text-forbidden-character"),
    "library with a bidi override": (put('"library":null', '"library":"/lib/\u202e"'), "text-forbidden-character"),
    "a field obtained that is no name": (put('"obtained":{', '"obtained":{"A\\n":"asserted",'), "schema-invalid"),
    "a field obtained in no known way": (put('"firmware":"asserted"', '"firmware":"sworn"'), "schema-invalid"),
    "duty above 1": (put('"duty_ppm":[', '"duty_ppm":[1000001,'), "schema-invalid"),
    "duplicate key": (number("1"), "not-canonical"),
    "NaN": (number("NaN"), "json-invalid"),
    "infinity": (number("-Infinity"), "json-invalid"),
    "float": (number("1.5"), "schema-invalid"),
    "float that is whole": (number("8192.0"), "schema-invalid"),
    "exponent": (number("8192e0"), "schema-invalid"),
    "10^400": (number("1" + "0" * 400), "schema-invalid"),
    "1e400": (number("1e400"), "schema-invalid"),
    "30 digits": (number("9" * 30), "schema-invalid"),
    "2^53": (number(str(2**53)), "schema-invalid"),
    "byte order mark": (lambda p: b"\xef\xbb\xbf" + p, "json-invalid"),
    "100,000 brackets": (brackets, "json-invalid"),
    "unknown field": (put('"architecture":', '"also":1,"architecture":'), "schema-invalid"),
    "bool for int": (number("true"), "schema-invalid"),
    "text for int": (number('"8192"'), "schema-invalid"),
    "int for bool": (put('"simulated":true', '"simulated":1'), "schema-invalid"),
    "negative count": (number("-8192"), "schema-invalid"),
    "zero size": (number("0"), "schema-invalid"),
    "NFD": (text("e\u0301"), "text-not-nfc"),
    "bidi": (text("\u202e"), "text-forbidden-character"),
    "zero width": (text("a\u200bb"), "text-forbidden-character"),
    "escaped zero": (text("\\u0000"), "text-forbidden-character"),
    "line break": (text("a\\nb"), "text-forbidden-character"),
    "lone surrogate": (text("\\ud800"), "json-invalid"),
    "bytes that are no text": (lambda p: p.replace(b'"architecture":"', b'"architecture":"\xff', 1), "json-invalid"),
    "path as a node": (put('"node_id":"gpu-00001"', '"node_id":"../../etc/x"'), "schema-invalid"),
    "newline behind a node": (put('"node_id":"gpu-00001"', '"node_id":"gpu-00001\\n"'), "schema-invalid"),
    "path as a pool": (put('"pool":"main"', '"pool":"a/b"'), "schema-invalid"),
    "path as the samples": (put('"name":"gpu-00001.samples', '"name":"../gpu-00001.samples'), "subject-wrong"),
    "unknown precision": (put('"precision":"fp16"', '"precision":"fp4"'), "schema-invalid"),
    "a day that there is not": (put(f'"started_at":"{DAY}', '"started_at":"2026-02-30'), "time-invalid"),
    "small-order signer": (lambda p: with_spki(p, bytes(32)), "key-weak"),
    "signer that is no key": (lambda p: with_spki(p, bytes(31)), "key-unsupported"),
    "signer that is not base64": (put('"signer_spki":"MCow', '"signer_spki":"MC*w'), "base64-not-canonical"),
}


def with_spki(payload: bytes, point: bytes) -> bytes:
    import base64

    at = payload.index(b'"signer_spki":"') + 15
    end = payload.index(b'"', at)
    prefix = base64.b64decode(payload[at:end])[:12]
    return payload[:at] + base64.b64encode(prefix + point) + payload[end:]


@pytest.mark.parametrize("case", PAYLOADS)
def test_a_record_with_bad_text(place: Path, case: str) -> None:
    change, code = PAYLOADS[case]
    centre = stated(place)
    bad = resealed(1, change)
    given = as_lines(centre, envelope_by(new_key(), 0), bad)
    answer = verified(centre, "--records", given)
    assert (answer.code, answer.status) == (code, 1)
    (place / "out" / "statement.dsse.json").unlink()
    centre.record(1).write_bytes(bad)
    answer = certified(centre)
    assert (answer.code, answer.status) == (code, 1)


STATEMENTS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "duplicate key": (put('"grade":', '"grade":null,"grade":'), "not-canonical"),
    "NaN": (put('"records":2', '"records":NaN'), "json-invalid"),
    "float": (put('"records":2', '"records":2.5'), "schema-invalid"),
    "10^400": (put('"records":2', '"records":1' + "0" * 400), "schema-invalid"),
    "30 digits": (put('"records":2', '"records":' + "2" * 30), "schema-invalid"),
    "byte order mark": (lambda p: b"\xef\xbb\xbf" + p, "json-invalid"),
    "100,000 brackets": (put('"records":2', '"records":' + "[" * 100_000), "json-invalid"),
    "unknown field": (put('"records":2', '"also":1,"records":2'), "schema-invalid"),
    "bool for int": (put('"records":2', '"records":true'), "schema-invalid"),
    "negative count": (put('"records":2', '"records":-2'), "schema-invalid"),
    "NFD": (put('"en":"Test centre"', '"en":"Te\u0301st centre"'), "text-not-nfc"),
    "bidi": (put('"en":"Test centre"', '"en":"Test\u2066 centre"'), "text-forbidden-character"),
    "zero width": (put('"en":"Test centre"', '"en":"Test\u200d centre"'), "text-forbidden-character"),
    "unknown class": (put('"class":"intelligent"', '"class":"quantum"'), "schema-invalid"),
    "one figure more": (put('"certified_mflop_s":', '"certified_mflop_s":1'), "statement-differs"),
    "another centre": (put('"en":"Test centre"', '"en":"Best centre"'), "campaign-differs"),
}


@pytest.mark.parametrize("case", STATEMENTS)
def test_a_statement_with_bad_text(place: Path, case: str) -> None:
    change, code = STATEMENTS[case]
    centre = stated(place)
    path = place / "out" / "statement.dsse.json"
    path.write_bytes(sealed(change(payload_of(path.read_bytes())), load_private(centre.key)))
    answer = verified(centre)
    assert (answer.code, answer.status) == (code, 1)
    assert answer.out.startswith(f"REFUSED: {code}")


# --- signatures ---

ENVELOPES: dict[str, tuple[Callable[[bytes, bytes], bytes], str]] = {
    "payload edited": (
        lambda mine, other: with_payload(mine, payload_of(mine).replace(b"9", b"8", 1)),
        "signature-invalid",
    ),
    "signature of another document": (lambda mine, other: with_signatures(mine, other), "signer-mismatch"),
    "signature of another document, own key id": (
        lambda mine, other: edited(
            mine, lambda v: v["signatures"][0].update(sig=json.loads(other)["signatures"][0]["sig"])
        ),
        "signature-invalid",
    ),
    "signed by another key": (lambda mine, other: sealed(payload_of(mine), new_key()), "signer-mismatch"),
    "twice by one key": (
        lambda mine, other: edited(mine, lambda v: v.update(signatures=v["signatures"] * 2)),
        "signature-duplicate",
    ),
    "not signed": (lambda mine, other: edited(mine, lambda v: v.update(signatures=[])), "signature-missing"),
    "payload type swapped": (
        lambda mine, other: edited(mine, lambda v: v.update(payloadType="application/json")),
        "payload-type-wrong",
    ),
    "payload of another document": (lambda mine, other: with_payload(mine, payload_of(other)), "signer-mismatch"),
    "base64 without padding": (
        lambda mine, other: base64_text(mine, lambda t: t.rstrip("=") + "="),
        "base64-not-canonical",
    ),
    "base64 of the other alphabet": (
        lambda mine, other: edited(
            mine,
            lambda v: v["signatures"][0].update(
                sig=v["signatures"][0]["sig"].replace("+", "-").replace("/", "_")[:-3] + "-A="
            ),
        ),
        "base64-not-canonical",
    ),
    "base64 with a newline": (
        lambda mine, other: base64_text(mine, lambda t: t[:76] + "\n" + t[76:]),
        "base64-not-canonical",
    ),
}


def with_payload(content: bytes, payload: bytes) -> bytes:
    import base64

    return edited(content, lambda value: value.update(payload=base64.b64encode(payload).decode()))


def with_signatures(content: bytes, other: bytes) -> bytes:
    return edited(content, lambda value: value.update(signatures=json.loads(other)["signatures"]))


def base64_text(content: bytes, change: Callable[[str], str]) -> bytes:
    return edited(content, lambda value: value.update(payload=change(value["payload"])))


@pytest.mark.parametrize("case", ENVELOPES)
def test_a_record_with_a_bad_envelope(place: Path, case: str) -> None:
    change, code = ENVELOPES[case]
    centre = laid_out(place)
    bad = change(envelope_by(new_key(), 0), envelope_by(new_key(), 1))
    centre.record(0).write_bytes(bad)
    answer = certified(centre)
    assert (answer.code, answer.status) == (code, 1)


@pytest.mark.parametrize("places", [8, pytest.param(60, marks=pytest.mark.long)])
def test_a_byte_changed_anywhere_is_refused(place: Path, places: int) -> None:
    centre = laid_out(place, nodes=1)
    content, dice = centre.record(0).read_bytes(), random.Random(7)
    for at in dice.sample(range(len(content)), places):
        byte = bytes([content[at] ^ (1 << dice.randrange(7))])
        centre.record(0).write_bytes(content[:at] + byte + content[at + 1 :])
        answer = certified(centre)
        assert answer.status == 1, (at, byte)
        assert answer.code


def test_a_statement_signed_by_somebody_else(place: Path) -> None:
    centre = stated(place)
    path = place / "out" / "statement.dsse.json"
    mine, payload = path.read_bytes(), payload_of(path.read_bytes())
    thief, operator = new_key(), load_private(centre.key)
    cases = {
        "key-not-trusted": sealed(payload, thief),
        "signature-invalid": edited(
            sealed(payload, thief), lambda v: v["signatures"][0].update(keyid=operator.public.keyid)
        ),
        "signature-duplicate": edited(mine, lambda v: v.update(signatures=v["signatures"] * 2)),
        "payload-type-wrong": sealed(payload, operator, payload_type="text/plain"),
        "predicate-type-wrong": sealed(payload_of(centre.campaign.read_bytes()), operator),
    }
    for code, content in cases.items():
        path.write_bytes(content)
        answer = verified(centre)
        assert (answer.code, answer.status) == (code, 1)


# --- sets of records ---


def changed(index: int, **changes: object) -> Callable[[int, NodeRecord], NodeRecord]:
    """Return a change of one node's record."""
    return lambda at, record: replace(record, **changes) if at == index else record


def same_device(**changes: object) -> Callable[[int, NodeRecord], NodeRecord]:
    """Return a change that puts the last device of node 0 into node 1, written in another way."""
    taken: list[object] = []

    def change(index: int, record: NodeRecord) -> NodeRecord:
        if index == 0:
            taken.append(record.devices[-1])
            return record
        device = replace(taken[0], device=record.devices[0].device, **changes)  # type: ignore[type-var]
        return replace(record, devices=(device, *record.devices[1:]))

    return change


def uppercase(index: int, record: NodeRecord) -> NodeRecord:
    """Return the record with one identity that differs in case only from another's."""
    serial = "SN-16Ab40123" if index else "sn-16aB40123"
    return replace(record, devices=(replace(record.devices[0], serial=serial), *record.devices[1:]))


def reparented(index: int, record: NodeRecord) -> NodeRecord:
    """Return the record with a slice of its other device."""
    first, second = record.devices
    return replace(record, devices=(first, replace(second, parent=first.uuid)))


SETS: dict[str, tuple[Callable[[int, NodeRecord], NodeRecord], str]] = {
    "one device in two nodes": (same_device(), "duplicate-device"),
    "the same, its uuid hidden": (same_device(uuid=None), "duplicate-device"),
    "the same, its serial hidden": (same_device(serial=None), "duplicate-device"),
    "the same serial in another case": (uppercase, "duplicate-device"),
    "slice beside its device": (reparented, "parent-and-slice"),
    "another campaign": (changed(1, campaign_id="2026-04"), "campaign-differs"),
    "another campaign of that name": (changed(1, campaign_sha256="ab" * 32), "campaign-differs"),
    "another challenge": (changed(1, challenge="ab" * 16), "challenge-differs"),
    "another centre": (changed(1, centre_id="wh-test"), "centre-differs"),
    "another profile's name": (changed(1, profile="smoke"), "profile-differs"),
    "another profile": (changed(1, profile_sha256="ab" * 32), "profile-differs"),
    "another version of the rules": (changed(1, rules="petaseal-rules/9.9"), "rules-differ"),
    "another pool": (changed(1, pool="other"), "pool-differs"),
    "a node that nobody expects": (changed(1, node_id="gpu-99999"), "node-not-expected"),
    "interval reversed": (changed(1, ended_at=f"{DAY}T00:00:00.000000Z"), "times-reversed"),
}


@pytest.mark.parametrize("case", SETS)
def test_records_that_do_not_belong_together(place: Path, case: str) -> None:
    change, code = SETS[case]
    answer = certified(measured(place, change=change))
    assert (answer.code, answer.status) == (code, 1)


@pytest.mark.parametrize("field", ["uuid", "serial", "die_id"])
def test_a_trailing_newline_makes_no_other_device(place: Path, field: str) -> None:
    """It cannot even be written: text without control characters is a rule of every document."""
    centre = laid_out(place, nodes=1)
    key = new_key()
    centre.record(0).write_bytes(
        sealed(payload_of(envelope_by(key)).replace(f'"{field}":'.encode(), f'"{field}":"x\\n","'.encode(), 1), key)
    )
    assert certified(centre).status == 1
    for blank in (" ", "\u00a0"):

        def spaced(index: int, record: NodeRecord, blank: str = blank) -> NodeRecord:
            return replace(
                record,
                devices=(replace(record.devices[0], **{field: "gpu-7c1e02d94b5a" + blank * index}), record.devices[1]),
            )

        assert certified(measured(fresh(place, f"{ord(blank)}"), change=spaced)).code == "duplicate-device"


def fresh(place: Path, name: str) -> Path:
    path = place / f"fresh-{name}"
    path.mkdir()
    return path


def test_devices_without_any_identity_count_nothing(place: Path) -> None:
    def bare(index: int, record: NodeRecord) -> NodeRecord:
        return replace(record, devices=tuple(replace(d, uuid=None, serial=None, die_id=None) for d in record.devices))

    centre = measured(place, change=bare)
    answer = certified(centre, "--all")
    assert answer.status == 0
    assert "no-identity x 4" in answer.out
    assert "NOTHING COUNTS" in answer.out
    accepted = verified(centre, "--require", "guangzhou-2000p/scale-2000p")
    assert (accepted.code, accepted.status) == ("requirement-unmet", 1)


def test_two_records_of_one_node(place: Path) -> None:
    centre = stated(place)
    one, again = envelope_by(new_key()), envelope_by(new_key())
    answer = verified(centre, "--records", as_lines(centre, one, again))
    assert (answer.code, answer.status) == ("node-twice", 1)
    answer = verified(centre, "--records", as_lines(centre, one, one))
    assert (answer.code, answer.status) == ("node-twice", 1)


def test_a_file_named_after_another_node(place: Path) -> None:
    centre = laid_out(place)
    centre.record(1).write_bytes(centre.record(0).read_bytes())
    answer = certified(centre)
    assert (answer.code, answer.status) == ("file-name-differs", 1)


@pytest.mark.parametrize(
    "name", ["..record.dsse.json", "a b\n\x1b[31m.record.dsse.json", "gpu-00001\u202e.record.dsse.json"]
)
def test_a_file_name_of_any_shape_is_shown_harmlessly(place: Path, name: str) -> None:
    centre = laid_out(place)
    centre.record(1).rename(centre.records / name)
    answer = certified(centre, "--all")
    if name.startswith("."):  # hidden: one record is missing, which the statement says
        assert (answer.status, "nodes missing: 1" in answer.out) == (0, True)
    else:
        assert (answer.code, answer.status) == ("file-name-differs", 1)
        assert answer.err.strip().isprintable()


def test_a_record_left_out_or_put_in_afterwards(place: Path) -> None:
    centre = stated(place)
    one, two = (place / "out" / "records.jsonl").read_bytes().splitlines(keepends=True)
    assert verified(centre).status == 0
    cases = {"records-count": (one,), "records-root": (two, one), "node-twice": (one, two, two)}
    for code, lines in cases.items():
        answer = verified(centre, "--records", as_lines(centre, *lines))
        assert (answer.code in {code, "records-unsorted"}, answer.status) == (True, 1), answer.err


# --- keys that sign what they may not ---


def test_the_operator_does_not_sign_records(place: Path) -> None:
    centre = laid_out(place, nodes=1)
    centre.record(0).write_bytes(envelope_by(load_private(centre.key)))
    answer = certified(centre)
    assert (answer.code, answer.status) == ("role-not-allowed", 1)


def test_a_record_is_no_campaign_and_a_campaign_no_record(place: Path) -> None:
    centre = laid_out(place, nodes=1)
    answer = certified(centre, "--campaign", centre.record(0))
    assert (answer.code, answer.status) == ("key-not-trusted", 1)
    centre.record(0).write_bytes(centre.campaign.read_bytes())
    answer = certified(centre)
    assert (answer.code, answer.status) == ("predicate-type-wrong", 1)


# --- windows ---


@pytest.mark.parametrize(
    "changes",
    [
        {"opens_ns": 86_400 * 10**9},
        {"closes_ns": 1},
        {"load_ns": 100 * 86_400 * 10**9},
        {"closes_ns": 2**53 - 1},
    ],
)
def test_a_campaign_whose_windows_are_reversed_or_not_over(place: Path, changes: dict[str, int]) -> None:
    centre = laid_out(place)
    campaign = m.test_campaign(load_profile("standard"), ("fp16", "fp64"), 2)
    first, *rest = campaign.windows
    write_campaign(centre, replace(campaign, windows=(replace(first, **changes), *rest)))
    answer = certified(centre)
    assert (answer.code, answer.status) == ("window-invalid", 1)


def test_a_campaign_that_is_issued_in_the_future_or_names_a_node_twice(place: Path) -> None:
    centre = laid_out(place)
    campaign = m.test_campaign(load_profile("standard"), ("fp16", "fp64"), 2)
    write_campaign(centre, replace(campaign, issued_at="2999-01-01T00:00:00.000000Z"))
    assert certified(centre).code == "window-invalid"
    write_campaign(centre, replace(campaign, nodes=campaign.nodes * 2))
    assert certified(centre).code == "campaign-invalid"
    write_campaign(centre, replace(campaign, windows=campaign.windows[:1] * 2))
    assert certified(centre).code == "window-invalid"


def overlapping(windows: tuple[Window, ...]) -> tuple[Window, ...]:
    """Return windows of which the second opens before the first is closed: one load would count twice."""
    first, second, *rest = windows
    times = {name: getattr(first, name) for name in ("load_ns", "opens_ns", "closes_ns")}
    return (first, replace(second, **times), *rest)


WINDOWS: dict[str, Callable[[tuple[Window, ...]], tuple[Window, ...]]] = {
    "two of one workload": lambda windows: windows[:1] * 2,
    "one in another": overlapping,
    "out of order": lambda windows: windows[::-1],
    "closed before it opens": lambda windows: (replace(windows[0], closes_ns=windows[0].opens_ns), *windows[1:]),
}


@pytest.mark.parametrize("case", WINDOWS)
def test_windows_that_no_device_can_keep(place: Path, case: str) -> None:
    centre = laid_out(place)
    campaign = m.test_campaign(load_profile("standard"), ("fp16", "fp64"), 2)
    write_campaign(centre, replace(campaign, windows=WINDOWS[case](campaign.windows)))
    answer = certified(centre)
    assert (answer.code, answer.status) == ("window-invalid", 1)


@pytest.mark.parametrize("case", WINDOWS)
def test_a_node_does_not_run_in_windows_that_it_cannot_keep(place: Path, case: str) -> None:
    from bench.environment import machine_id, node_id
    from bench.record import ExpectedNode
    from bench.record.campaign import windows

    centre, smoke = laid_out(place), load_profile("smoke")
    campaign = m.test_campaign(smoke, ("fp16", "fp64"), 1)
    campaign = replace(
        campaign,
        nodes=(ExpectedNode(node_id=node_id(machine_id()), pool="main"),),
        windows=WINDOWS[case](windows(smoke, workloads_in(smoke, ("fp16", "fp64")))),
    )
    write_campaign(centre, campaign)
    answer = petaseal("run", "--device", "fake:1", "--campaign", centre.campaign, "--out", place / "run")
    assert (answer.code, answer.status) == ("window-invalid", 1)
    assert not (place / "run").exists()


def test_a_profile_that_bears_an_installed_name_or_is_nobodys(place: Path) -> None:
    """Whose profile it is, the verifier must know: one without a second path asks for less."""
    centre, file = laid_out(place, nodes=1), place / "own.yaml"
    honest = load_profile("standard")
    for name, code in (("standard", "profile-altered"), ("our-own", None)):
        own = replace(honest, profile=name, kernels={})
        file.write_text(yaml.safe_dump(msgspec.to_builtins(own)))
        campaign = replace(
            m.test_campaign(honest, ("fp16", "fp64"), 1), profile=name, profile_sha256=digest(own), campaign_id="own"
        )
        write_campaign(centre, campaign)
        key = new_key()
        record = m.of_node(m.simulated(2, "standard", ("fp16", "fp64")).record, 0, campaign, key)
        record = replace(record, profile=name, profile_sha256=digest(own))
        centre.record(0).write_bytes(m.seal_record(record, key, b"samples"))
        answer = certified(centre, "--profile", file)
        assert (answer.code if code else "", answer.status) == (code or "", 1 if code else 0)
    assert verified(centre).code == "profile-unknown"
    answer = verified(centre, "--profile", file, "--all")
    assert answer.status == 0
    assert "NOT CHECKED: the profile our-own" in answer.out


def write_campaign(centre: Measured, campaign: Campaign) -> None:
    from certify.documents.kinds import make_document

    centre.close(campaign)
    centre.campaign.write_bytes(sealed(make_document("campaign", campaign), load_private(centre.key)))


def test_a_certification_that_lasts_one_second(place: Path) -> None:
    """The profile says certification; the numbers do not, and the numbers decide (R7)."""
    honest = load_profile("certification")
    short = replace(honest, window_ns=10**9)
    file = place / "certification.yaml"
    file.write_text(yaml.safe_dump(msgspec.to_builtins(short)))
    answer = petaseal("run", "--profile", file, "--device", "fake:1", "--out", place / "run")
    assert (answer.code, answer.status) == ("profile-below-grade", 2)
    assert not (place / "run").exists()
    centre = laid_out(place, nodes=1)
    campaign = replace(
        m.test_campaign(honest, ("fp16", "fp64"), 1), profile="certification", profile_sha256=digest(short)
    )
    write_campaign(centre, campaign)
    key = new_key()
    record = m.of_node(m.simulated(2, "standard", ("fp16", "fp64")).record, 0, campaign, key)
    record = replace(record, profile="certification", profile_sha256=digest(short))
    centre.record(0).write_bytes(m.seal_record(record, key, b"samples"))
    assert certified(centre).code == "profile-unknown"
    answer = certified(centre, "--profile", file)
    assert answer.status in (0, 1)
    if answer.status == 0:
        assert "NOTHING COUNTS" in answer.out


def test_a_statement_from_the_future(place: Path) -> None:
    centre = stated(place)
    answer = verified(centre, "--at", f"{DAY}T12:00:00.000000Z")
    assert (answer.code, answer.status) == ("not-yet-valid", 1)
    answer = verified(centre, "--at", "2999-03-01T12:00:00.000000Z")
    assert (answer.code, answer.status) == ("expired", 1)
    answer = verified(centre, "--at", "2026-03-01")  # what is zero may be left out
    assert (answer.code, answer.status) == ("not-yet-valid", 1)
    for wrong in ("yesterday", "2026-03", "2026-02-30T00:00:00.000000Z", "10000-01-01T00:00:00.000000Z"):
        answer = verified(centre, "--at", wrong)
        assert (answer.code, answer.status) == ("time-invalid", 2)


# --- under a trust root ---


def trust_root(centre: Measured) -> Path:
    """Write a trust root that knows the operator, and return its file."""
    from certify.documents.kinds import make_document
    from certify.keys.signers import spki_text
    from certify.trust.trusted_set import Delegation, TrustedKey, TrustRoot

    root, operator = new_key(), load_private(centre.key)
    valid = {"valid_from": "2026-01-01T00:00:00.000000Z", "valid_until": "2999-01-01T00:00:00.000000Z"}
    value = TrustRoot(
        trust_id="cn-test",
        version=1,
        issued_at="2026-01-01T00:00:00.000000Z",
        expires_at="2999-01-01T00:00:00.000000Z",
        keys={
            key.public.keyid: TrustedKey(scheme="ed25519", spki=spki_text(key.public), **valid)
            for key in (root, operator)
        },
        roles=(
            Delegation(role="root", centre_ids=None, threshold=1, keys=(root.public.keyid,)),
            Delegation(role="operator", centre_ids=(m.CENTRE_ID,), threshold=1, keys=(operator.public.keyid,)),
        ),
        revocations=(),
    )
    path = centre.folder / "trust-root.json"
    path.write_bytes(sealed(make_document("trust-root", value), root))
    return path


def test_the_operator_does_not_sign_records_under_a_trust_root_either(place: Path) -> None:
    centre = stated(place)
    trust = trust_root(centre)
    told = ("--trust", trust, "--fingerprint", fingerprint(trust))
    assert verified(centre, *told, "--require", "trusted", key=False).status == 0
    forged = as_lines(centre, envelope_by(new_key()), envelope_by(load_private(centre.key), 1))
    answer = verified(centre, *told, "--records", forged, key=False)
    assert (answer.code, answer.status) == ("role-not-allowed", 1)


def test_a_trust_root_that_is_another_document_or_damaged(place: Path) -> None:
    centre = stated(place)
    trust = trust_root(centre)
    for case, (damage, of_any, its_status) in FILES.items():
        code, status = NAMED.get(case, (of_any, its_status))
        trust_root(centre)
        told = fingerprint(trust)
        damage(trust)
        if damage is huge:
            with trust.open("r+b") as file:
                file.truncate(CAPS.trust_chain_bytes + 1)
        answer = verified(centre, "--trust", trust, "--fingerprint", told, key=False)
        assert (answer.code if answer.status else "", answer.status) == (code, status)
        trust.rmdir() if trust.is_dir() and not trust.is_symlink() else trust.unlink()
    answer = verified(centre, "--trust", centre.campaign, key=False)
    assert (answer.code, answer.status) == ("predicate-type-wrong", 1)
    answer = verified(centre, "--trust", centre.public_key, key=False)
    assert (answer.code, answer.status) == ("json-invalid", 1)


# --- samples ---

SAMPLES: dict[str, tuple[Callable[[Path], None], str, int]] = {
    "missing": (Path.unlink, "samples-missing", 1),
    "empty": (emptied, "file-empty", 2),
    "truncated": (truncated, "samples-differ", 1),
    "binary": (binary, "samples-differ", 1),
    "symbolic link": (linked, "not-regular-file", 2),
    "FIFO": (fifo, "not-regular-file", 2),
    "folder": (folder, "not-regular-file", 2),
}


@pytest.mark.parametrize("case", SAMPLES)
def test_samples_that_are_damaged(place: Path, case: str) -> None:
    damage, code, status = SAMPLES[case]
    centre = stated(place)
    assert verified(centre, "--samples", centre.records, "--require", "audited").status == 0
    damage(centre.records / "gpu-00001.samples.csv.gz")
    answer = verified(centre, "--samples", centre.records)
    assert (answer.code, answer.status) == (code, status)
