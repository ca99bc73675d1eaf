"""The baseline inventory: the devices that a centre had before the ones it claims as newly added."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from bench.errors import InputError, RefusedError
from bench.record import SharedFile, followed, read_bytes, read_given, read_yaml, refuse_existing, write_atomic
from bench.record.fields import in_words
from certify.documents.caps import CAPS
from certify.documents.dsse import parse_envelope, seal
from certify.documents.kinds import PAYLOAD_TYPE, Baseline, BaselineDevice, OpenedDocument, make_document, parse_payload
from certify.keys.loading import load_signing_key
from certify.policy.centre import Centre, is_date
from certify.trust.opening import Verifier


def sign_baseline(
    baseline: Baseline | Path, key: Path, passphrase_file: Path | None, out: Path, signer: str | None = None
) -> Baseline:
    """Sign a baseline, or one that is a YAML inventory, and return it.

    Raises:
        InputError, RefusedError: the inventory or the key is not acceptable, or `out` exists.
    """
    refuse_existing(out, "choose another file")
    if isinstance(baseline, Path):
        baseline = read_yaml(baseline, Baseline)
    payload = make_document("baseline", baseline)
    parse_payload("baseline", payload, out)  # texts that no verifier would read are not signed
    write_atomic(out, seal(payload, PAYLOAD_TYPE, [load_signing_key(key, passphrase_file, signer)]), new=True)
    return baseline


def empty_baseline(centre: Centre, date: str | None, evidence: str, evidence_file: Path | None = None) -> Baseline:
    """Return the baseline of a centre that had no device.

    Args:
        centre: whose baseline it is.
        date: on which there was nothing, YYYY-MM-DD; None for the `baseline_date` of the centre file.
        evidence: how it is known that there was nothing, in words.
        evidence_file: the paper that says so, of which the digest is bound.

    Raises:
        InputError: the date or the text is not acceptable, or the file cannot be read.
    """
    taken_at = taken_on(centre, date)
    sha256 = None
    if evidence_file is not None:
        sha256 = hashlib.sha256(read_given(evidence_file, CAPS.samples_bytes)).hexdigest()
    fields = {
        "centre_id": centre.centre_id,
        "taken_at": taken_at,
        "devices": [],
        "nothing_before": {"evidence": evidence, "evidence_sha256": sha256},
    }
    try:
        return msgspec.convert(fields, Baseline)
    except msgspec.ValidationError as error:
        raise InputError("usage", in_words(error), where="--evidence") from None


def listed_baseline(centre: Centre, date: str | None, devices: tuple[BaselineDevice, ...]) -> Baseline:
    """Return the baseline of a centre that had these devices on a day (see `taken_on`).

    Raises:
        InputError: the date is not acceptable.
    """
    return Baseline(centre_id=centre.centre_id, taken_at=taken_on(centre, date), devices=devices)


def taken_on(centre: Centre, date: str | None) -> str:
    """Return the time that a baseline of a day bears.

    Args:
        centre: whose baseline it is.
        date: YYYY-MM-DD; None for the `baseline_date` of the centre file.

    Raises:
        InputError: `usage`: no day is given; `date-invalid`.
    """
    day = date or centre.baseline_date
    if day is None:
        raise InputError("usage", "the day of the baseline was not said", fix="give --date YYYY-MM-DD")
    if not is_date(day):
        raise InputError("date-invalid", f"{day!r} is not a day of the calendar", where="--date")
    # a baseline is of a day: no clock time of it is known, and none is compared
    return f"{day}T00:00:00.000000Z"


def baseline_path(centre_name: str, centre: Centre) -> Path | None:
    """Return the file of the signed baseline that a centre file names, relative to itself."""
    if centre.baseline is None:
        return None
    path = Path(centre_name).parent / centre.baseline
    return path if isinstance(centre_name, SharedFile) else followed(path)


def read_baseline(path: Path, centre: Centre) -> tuple[bytes, Baseline]:
    """Return a signed baseline with its bytes, before a statement is made: whose key signed it is looked at then.

    Raises:
        InputError, RefusedError: it cannot be read or is damaged, or a code of `check_baseline`.
    """
    content = read_bytes(path, CAPS.baseline_bytes)
    envelope = parse_envelope(content, CAPS.baseline_bytes, path)
    baseline: Baseline = parse_payload("baseline", envelope.payload, path).predicate
    check_baseline(baseline, centre, path)
    return content, baseline


def open_baseline(path: Path | None, centre: Centre, verifier: Verifier) -> OpenedDocument[Baseline] | None:
    """Return the signed baseline inventory of a centre, if there is one.

    The verifier is that of the statement that binds it, where there is one.

    Raises:
        RefusedError: `centre-differs`, `baseline-differs` (another date), or a code of `Verifier.open`.
    """
    if path is None:
        return None
    content = read_bytes(path, CAPS.baseline_bytes)
    opened: OpenedDocument[Baseline] = verifier.open("baseline", content, path)
    check_baseline(opened.predicate, centre, path)
    return opened


def check_baseline(baseline: Baseline, centre: Centre, path: Path) -> None:
    """Refuse a baseline that is not the one of which the centre file speaks.

    Raises:
        RefusedError: `centre-differs`, `baseline-differs` (another date).
    """
    if baseline.centre_id != centre.centre_id:
        raise RefusedError("centre-differs", f"is of the centre {baseline.centre_id}", where=path)
    if baseline.taken_at[:10] != centre.baseline_date:
        what = f"was taken on {baseline.taken_at[:10]}, and the centre says {centre.baseline_date}"
        raise RefusedError("baseline-differs", what, where=path)


def check_day(centre: Centre, starts_at: str) -> None:
    """Refuse a baseline of a day after a measurement began, or may begin: on that day all its devices stood there.

    Raises:
        RefusedError: `baseline-differs`.
    """
    if centre.baseline_date is not None and centre.baseline_date > starts_at[:10]:
        what = f"the baseline is of {centre.baseline_date}, after the measurement that begins at {starts_at}"
        raise RefusedError("baseline-differs", what, where=centre.centre_id)


def baseline_facts(baseline: OpenedDocument[Baseline] | None) -> tuple[str | None, int]:
    """Return the digest and the number of devices of a baseline, as `Basis` takes them."""
    return (baseline.payload_sha256, len(baseline.predicate.devices)) if baseline else (None, 0)
