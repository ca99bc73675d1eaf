"""A registry's receipts: the signed proof of when a statement came to it. They date a statement, as a witness does.

What a key signed before it was revoked stays signed where a registry received it before (`trust.TrustedSet.check`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bench.errors import PetasealError, RefusedError
from bench.record import read_bytes, read_given
from certify.documents.caps import CAPS
from certify.documents.kinds import Opened, Receipt, open_document
from certify.trust.trusted_set import TrustedSet, skewed

if TYPE_CHECKING:
    from certify.statement.build import CapacityStatement


class Received(NamedTuple):
    """One registry's word on when it accepted a statement, and how far it verified it itself."""

    keyid: str
    received_at: str
    level: str


def open_receipt(
    path: Path, statement: Opened[CapacityStatement], trust: TrustedSet, at: str, *, given: bool = False
) -> Received:
    """Return what a receipt says of a statement.

    Args:
        path: the receipt.
        statement: as it was parsed; its own signature need not be trusted yet.
        trust: the verifier's keys, among them registries'.
        at: the time that the registry's key must be valid at.
        given: whether the user named the file.

    Raises:
        RefusedError: `receipt-differs`, `receipt-of-refusal`, `receipt-time`, or a code of `open_document`.
    """
    content = read_given(path, CAPS.witness_bytes) if given else read_bytes(path, CAPS.witness_bytes)
    opened: Opened[Receipt] = open_document("receipt", content, trust, at, path)
    receipt, issue = opened.predicate, statement.predicate.issue
    if (opened.subject_digest, receipt.centre_id) != (statement.payload_sha256, statement.predicate.centre.centre_id):
        what = f"is of the statement {opened.subject_digest[:16]}… of {receipt.centre_id}"
        raise RefusedError("receipt-differs", what, where=path)
    if receipt.level is None:
        raise RefusedError("receipt-of-refusal", f"says that it was refused: {receipt.code}", where=path)
    if not issue.issued_at <= skewed(receipt.received_at) or receipt.received_at > skewed(at):
        what = f"was signed at {receipt.received_at}, and the statement issued at {issue.issued_at}"
        raise RefusedError("receipt-time", what, where=path)
    trust.check("receipt", opened.signers, receipt.centre_id, receipt.received_at, path)  # no date before its key's
    if both := sorted(opened.signers & statement.named):
        raise RefusedError("key-two-roles", f"key {both[0][:16]}… signed the statement too", where=path)
    return Received(min(opened.signers), receipt.received_at, receipt.level)


def receipts_in(folder: Path) -> tuple[Path, ...]:
    """Return the receipts that lie in a statement's folder or package, as many as a package may hold."""
    return tuple(sorted(folder.glob("receipt*.dsse.json"))[: CAPS.package_receipts])


def earliest_receipt(
    given: Sequence[Path], beside: Sequence[Path], statement: Opened[CapacityStatement], trust: TrustedSet, at: str
) -> tuple[Received | None, tuple[tuple[Path, str], ...]]:
    """Return the earliest receipt of a statement, and those that were passed over, each with its reason code.

    Args:
        given: receipts that the user named: a bad one refuses.
        beside: receipts that merely lie there: nobody vouched for them, and a bad one is passed over.
        statement: see `open_receipt`.
        trust: see `open_receipt`.
        at: see `open_receipt`.

    Raises:
        RefusedError: with the code of the first fault of a receipt in `given`.
    """
    found = [open_receipt(path, statement, trust, at, given=True) for path in given]
    passed_over = []
    for path in beside:
        try:
            found.append(open_receipt(path, statement, trust, at))
        except PetasealError as error:
            passed_over.append((path, error.code))
    return min(found, key=lambda one: one.received_at, default=None), tuple(passed_over)
