"""What is revoked: keys, statements, and the records that a statement rests on, in a signed list or in a trust root.

A statement that is revoked with its records cannot be issued again over them: not under another number, nor over fewer
or more of them. Who counts as revoked is asked of `certify.trust.trusted_set`.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec import UNSET, UnsetType

from bench.errors import RefusedError
from bench.record import Document, Name, Positive, Sha256, Text, UtcTime
from certify.documents.statement import CapacityStatement


class Revocation(Document, frozen=True, kw_only=True):
    """A key that is refused at every time, since its thief can date a signature as he likes.

    Only what a witness or a registry dates before `revoked_at` stays its owner's: that is the last moment at which the
    key was surely in the right hands, not the one at which the theft was noticed.
    """

    keyid: Sha256
    revoked_at: UtcTime
    reason: Text


class RevokedRecords(Document, frozen=True, kw_only=True):
    """The records of a revoked statement: their Merkle root, and the measurement that they are of.

    Every record binds its campaign and its start. A statement over fewer of these records, or over more, has another
    root and the same measurement.
    """

    records_root: Sha256
    campaign_sha256: Sha256
    starts_at: UtcTime

    @classmethod
    def of(cls, statement: CapacityStatement) -> RevokedRecords:
        """Return what a statement's revocation names of its records."""
        return cls(
            records_root=statement.records_root,
            campaign_sha256=statement.campaign_sha256,
            starts_at=statement.starts_at,
        )


class Withdrawal(Document, frozen=True, kw_only=True):
    """A statement that is refused from a time on, whoever signed it, and with it every statement over its records.

    Without `records` the payload alone is revoked: its records are good, and may be stated again.
    """

    payload_sha256: Sha256
    revoked_at: UtcTime
    reason: Text
    records: RevokedRecords | UnsetType = UNSET


class Revocations(Document, frozen=True, kw_only=True):
    """The predicate of ``revocations.json``: keys and statements that were revoked since the trust root was issued."""

    trust_id: Name
    version: Positive
    issued_at: UtcTime
    expires_at: UtcTime
    revocations: tuple[Revocation, ...]
    statements: tuple[Withdrawal, ...]

    def __post_init__(self) -> None:
        keyids = {revocation.keyid for revocation in self.revocations}
        payloads = {withdrawal.payload_sha256 for withdrawal in self.statements}
        for broken, what in (
            (self.issued_at >= self.expires_at, "it expires before it is issued"),
            (len(keyids) != len(self.revocations), "one key is revoked twice"),
            (len(payloads) != len(self.statements), "one statement is revoked twice"),
        ):
            if broken:
                raise RefusedError("revocations-invalid", f"the revocation list is inconsistent: {what}")


def records_of(listed: Revocations) -> dict[str, str]:
    """Return since when the records are revoked that a list names, by their Merkle root."""
    named = [(one.records, one.revoked_at) for one in listed.statements]
    latest_first = sorted(named, key=lambda one: one[1], reverse=True)
    return {one.records_root: at for one, at in latest_first if isinstance(one, RevokedRecords)}


Measurement = tuple[str, str]  # campaign and start


class RevokedByRecords:
    """Revocations that name records: looked up by the records' root, and by the measurement that they are of."""

    def __init__(self, revoked: Iterable[Withdrawal]) -> None:
        self._roots: dict[str, Withdrawal] = {}
        self._measurements: dict[Measurement, Withdrawal] = {}
        # the latest first, so that of several the earliest stays
        for one in sorted(revoked, key=lambda one: one.revoked_at, reverse=True):
            if isinstance(one.records, RevokedRecords):
                self._roots[one.records.records_root] = one
                self._measurements[one.records.campaign_sha256, one.records.starts_at] = one

    def of(self, records: RevokedRecords) -> Withdrawal | None:
        """Return the earliest revocation that these records fall under; None where none names them."""
        found = (
            self._roots.get(records.records_root),
            self._measurements.get((records.campaign_sha256, records.starts_at)),
        )
        return min((one for one in found if one is not None), key=lambda one: one.revoked_at, default=None)

    @property
    def roots(self) -> frozenset[str]:
        """The Merkle roots that are named."""
        return frozenset(self._roots)

    @property
    def campaigns(self) -> frozenset[str]:
        """The campaigns whose measurements are named; one that was run again has several."""
        return frozenset(campaign_sha256 for campaign_sha256, _ in self._measurements)


def earlier_of(before: Withdrawal, one: Withdrawal) -> Withdrawal:
    """Return one revocation for two of a statement: the earlier time holds, and records that either names."""
    first = min(before, one, key=lambda entry: entry.revoked_at)
    records = one.records if isinstance(one.records, RevokedRecords) else before.records
    return msgspec.structs.replace(first, records=records)
