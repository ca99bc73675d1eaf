"""The table of keys that `petaseal trust add --keys` takes: one row for each key, its role and its centres."""

from __future__ import annotations

from pathlib import Path

import msgspec

from bench.errors import PetasealError
from bench.record import Name, UtcTime, read_given
from certify.documents.caps import CAPS
from certify.documents.table import TableRow, read_table
from certify.keys import files as keys
from certify.trust.editing import AddedKey, Validity
from certify.trust.trusted_set import CENTRE_ROLES

TABLE_BYTES = 8 * 2**20  # of `Caps.trust_keys` rows
ROLES = ("operator", "witness", "node", "registry")


def read_keys(file: Path, valid: Validity) -> tuple[AddedKey, ...]:
    """Return the keys of a table, whose public key files lie relative to its folder.

    Args:
        file: CSV with the columns role, centre (several separated by blanks), public_key and, where wanted, valid_until
            (a date or a time in UTC) and threshold.
        valid: when a key is whose row names no end.

    Raises:
        InputError: `table-invalid`, or a code of a public key; it names the row.
    """
    content = read_given(file, TABLE_BYTES)
    needed, optional = ("role", "centre", "public_key"), ("valid_until", "threshold")
    return tuple(_added(row, file, valid) for row in read_table(content, file, needed, optional, CAPS.trust_keys))


def _added(row: TableRow, file: Path, valid: Validity) -> AddedKey:
    role, named, threshold = row.values["role"], row.values["centre"].split(), row.values["threshold"]
    if role not in ROLES:
        raise row.fault(f"the role {role!r} is none of {', '.join(ROLES)}")
    if (role in CENTRE_ROLES) != bool(named):
        raise row.fault(f"a key of role {role} {'needs a centre' if role in CENTRE_ROLES else 'is of no centre'}")
    try:
        centres = msgspec.convert(named, tuple[Name, ...])
    except msgspec.ValidationError:
        what = f"{' '.join(named)!r} is not a name of a centre"
        raise row.fault(what, "use lower case letters, digits, dots, dashes and underscores") from None
    if len(set(centres)) != len(centres):
        raise row.fault("names one centre twice")
    if threshold and not (threshold.isascii() and threshold.isdigit() and 1 <= int(threshold) <= CAPS.signatures):
        raise row.fault(f"the threshold {threshold!r} is no number from 1 to {CAPS.signatures}")
    if not row.values["public_key"]:
        raise row.fault("names no file of a public key")
    try:
        key = keys.load_public(file.parent / row.values["public_key"])
    except PetasealError as error:
        raise row.blame(error) from None
    ends = _ends(row, valid)
    return AddedKey(row.where, key, role, centres, int(threshold) if threshold else None, ends)  # type: ignore[arg-type]


def _ends(row: TableRow, valid: Validity) -> Validity:
    """Return when the key of a row is valid."""
    if not (text := row.values["valid_until"]):
        return valid
    try:
        until = msgspec.convert(text if "T" in text else f"{text}T00:00:00.000000Z", UtcTime)
    except msgspec.ValidationError:
        what = f"the time {text!r} is neither a date such as 2029-03-01 nor UTC such as 2029-03-01T08:00:00.000000Z"
        raise row.fault(what) from None
    if until <= valid.begin:
        raise row.fault(f"the key is valid until {until}, which is past")
    return valid._replace(until=until)
