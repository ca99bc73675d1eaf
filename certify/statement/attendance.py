"""Why an expected node has no record: what ``petaseal campaign collect`` found, and the operator's word in a statement.

Nothing counts either way, and no verifier can check it: it tells an auditor where to ask.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from bench.errors import InputError, RefusedError
from bench.record import Campaign, Document, Name, Sha256, Text, digest, encode, read_bytes, write_atomic
from bench.record.fields import in_words
from certify.documents.caps import CAPS

MISSING = "node-missing"
ABSENCES = (MISSING, "node-lost", "node-not-ready", "node-aborted", "record-refused")
FILE = "attendance.json"


class Absence(Document, frozen=True, kw_only=True):
    """One node without a record that counts."""

    node_id: Name
    code: Name
    detail: Text | None  # for the centre itself; a statement holds the code only


class Attendance(Document, frozen=True, kw_only=True):
    """What lies beside collected records: the nodes that are not among them, and why."""

    campaign_sha256: Sha256
    absent: tuple[Absence, ...]


def write_attendance(folder: Path, attendance: Attendance) -> None:
    """Write the file that `read_absences` reads."""
    write_atomic(folder / FILE, encode(attendance) + b"\n")


def read_absences(folder: Path, campaign: Campaign) -> dict[str, str]:
    """Return why nodes have no record, as it was collected beside the records; empty where nothing was.

    Raises:
        InputError: `attendance-invalid`: it is not such a file, or of another campaign.
        RefusedError: `absence-unknown`.
    """
    path = folder / FILE
    if not path.exists():
        return {}
    try:
        found = msgspec.json.decode(read_bytes(path, CAPS.campaign_bytes), type=Attendance)
    except msgspec.MsgspecError as error:
        raise InputError("attendance-invalid", f"is not an attendance ({in_words(error)})", where=path) from None
    if found.campaign_sha256 != digest(campaign):
        what = "is of another campaign than these records"
        raise InputError("attendance-invalid", what, where=path, fix="collect the records again")
    absences = {absence.node_id: absence.code for absence in found.absent}
    check_absences(absences)
    return absences


def check_absences(absences: Mapping[str, str]) -> None:
    """Refuse a reason that is none of `ABSENCES`.

    Raises:
        RefusedError: `absence-unknown`.
    """
    for node_id, code in absences.items():
        if code not in ABSENCES:
            raise RefusedError("absence-unknown", f"is said to be absent for {code!r}", where=node_id)
