"""The baseline inventory: the devices that a centre had before the ones it claims as newly added."""

from __future__ import annotations

from pathlib import Path

from bench.errors import RefusedError
from bench.record import read_bytes, read_yaml, refuse_existing, write_atomic
from certify.documents.caps import CAPS
from certify.documents.dsse import seal
from certify.documents.kinds import PAYLOAD_TYPE, Baseline, Opened, make_document, open_document
from certify.keys.loading import load_signing_key
from certify.policy.centre import Centre
from certify.trust.trusted_set import TrustedSet


def sign_baseline(
    inventory: Path, key: Path, passphrase_file: Path | None, out: Path, signer: str | None = None
) -> int:
    """Sign a YAML inventory and return the number of its devices.

    Raises:
        InputError, RefusedError: the inventory or the key is not acceptable, or `out` exists.
    """
    refuse_existing(out, "choose another file")
    baseline = read_yaml(inventory, Baseline)
    payload = make_document("baseline", baseline)
    envelope = seal(payload, PAYLOAD_TYPE, [load_signing_key(key, passphrase_file, signer)])
    write_atomic(out, envelope, new=True)
    return len(baseline.devices)


def baseline_path(centre_name: str, centre: Centre) -> Path | None:
    """Return the file of the signed baseline that a centre file names, relative to itself."""
    return Path(centre_name).parent / centre.baseline if centre.baseline is not None else None


def open_baseline(
    path: Path | None, centre: Centre, trust: TrustedSet, at: str, dated: str | None = None
) -> Opened[Baseline] | None:
    """Return the signed baseline inventory of a centre, if there is one.

    `dated` is when somebody else saw the statement that binds it (see `TrustedSet.check`).

    Raises:
        RefusedError: `centre-differs`, `baseline-differs` (another date), or a code of `open_document`.
    """
    if path is None:
        return None
    content = read_bytes(path, CAPS.baseline_bytes)
    opened: Opened[Baseline] = open_document("baseline", content, trust, at, path, lambda opened: dated)
    if opened.predicate.centre_id != centre.centre_id:
        raise RefusedError("centre-differs", f"is of the centre {opened.predicate.centre_id}", where=path)
    if opened.predicate.taken_at[:10] != centre.baseline_date:
        what = f"was taken on {opened.predicate.taken_at[:10]}, and the centre says {centre.baseline_date}"
        raise RefusedError("baseline-differs", what, where=path)
    return opened


def baseline_facts(baseline: Opened[Baseline] | None) -> tuple[str | None, int]:
    """Return the digest and the number of devices of a baseline, as `Basis` takes them."""
    return (baseline.payload_sha256, len(baseline.predicate.devices)) if baseline else (None, 0)
