"""When a statement had surely been seen by somebody who is trusted: its witnesses, a registry, or this verifier.

What a key signed before it was revoked stays its owner's where that is attested (`TrustedSet.check`): a thief can date
a signature as he likes, and the past of others he cannot change. One rule, for verification and for claims.

A witness recomputed a statement from its records, and signs what was checked, and when. The document binds the
statement's payload and nothing else, so that it holds under every signature of that payload. A registry's receipt is
the signed proof of when the statement came to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from bench.errors import PetasealError, RefusedError
from bench.record import Tool, read_bytes, read_given
from bench.units import shortened_list
from certify.documents.caps import CAPS
from certify.documents.dsse import seal
from certify.documents.kinds import PAYLOAD_TYPE, OpenedDocument, Receipt, Witness, make_document
from certify.documents.statement import CapacityStatement
from certify.keys.signers import PrivateKey
from certify.policy.lines import line
from certify.policy.policies import Policy
from certify.trust.opening import Verifier
from certify.trust.trusted_set import skewed

WITNESSES, RECEIPTS = "witness*.dsse.json", "receipt*.dsse.json"  # in a statement's folder or package
RECOMPUTED = ("recomputed", "audited")  # less than that says nothing that the signature does not


class Witnessed(NamedTuple):
    """One witness's word on a statement."""

    keyid: str
    witnessed_at: str
    level: str


def open_witnesses(
    files: Sequence[Path],
    statement: OpenedDocument[CapacityStatement],
    verifier: Verifier,
    *,
    given: bool = False,
) -> tuple[Witnessed, ...]:
    """Return who witnessed a statement; one key counts once, with its first document.

    Args:
        files: witness documents.
        statement: as it was parsed; its own signature need not be trusted yet.
        verifier: whose keys, among them witnesses', count at its time.
        given: whether the user named the files.

    Raises:
        RefusedError: `witness-differs`, `witness-level`, `witness-time`, or a code of `Verifier.open`.
    """
    witnesses: dict[str, Witnessed] = {}
    for path in files:
        content = read_given(path, CAPS.witness_bytes) if given else read_bytes(path, CAPS.witness_bytes)
        opened: OpenedDocument[Witness] = verifier.open("witness", content, path)
        witness, issue = opened.predicate, statement.predicate.issue
        if opened.subject_digest != statement.payload_sha256:
            what = f"witnesses the statement {opened.subject_digest[:16]}…, not {statement.payload_sha256[:16]}…"
            raise RefusedError("witness-differs", what, where=path)
        if witness.centre_id != statement.predicate.centre.centre_id:
            raise RefusedError("witness-differs", f"is of the centre {witness.centre_id}", where=path)
        # Whoever checked the signature alone has seen no record, and so attests no figure.
        if witness.level not in RECOMPUTED:
            raise RefusedError("witness-level", f"reached the level {witness.level} only", where=path)
        # A date before the issue, or in the future, is a false clock or a lie; clocks may differ by the skew.
        if not issue.issued_at <= skewed(witness.witnessed_at) or witness.witnessed_at > skewed(verifier.at):
            what = f"was signed at {witness.witnessed_at}, and the statement issued at {issue.issued_at}"
            raise RefusedError("witness-time", what, where=path)
        _check_signers("witness", opened, witness.witnessed_at, statement, verifier, path)
        for keyid in opened.signers:
            one = Witnessed(keyid, witness.witnessed_at, witness.level)
            witnesses[keyid] = min(witnesses.get(keyid, one), one, key=lambda seen: seen.witnessed_at)
    return tuple(witnesses[keyid] for keyid in sorted(witnesses))


def _check_signers(
    kind: str,
    opened: OpenedDocument[Any],
    attested_at: str,
    statement: OpenedDocument[CapacityStatement],
    verifier: Verifier,
    path: Path,
) -> None:
    """Refuse a witness or receipt whose keys dated it before they were valid, or signed the statement as well.

    Raises:
        RefusedError: `key-two-roles`, or a code of `TrustedSet.check`.
    """
    # a key dates nothing before it was trusted
    verifier.trust.check(kind, opened.signers, opened.predicate.centre_id, attested_at, path)
    # Also where the key's signature on the statement does not count: who signs both attests himself, and could date
    # what a stolen key signed as he likes.
    if both := sorted(opened.signers & statement.named):
        raise RefusedError("key-two-roles", f"key {both[0][:16]}… signed the statement too", where=path)


def witness_documents_in(folder: Path) -> tuple[Path, ...]:
    """Return the witness documents that lie in a statement's folder or package, as many as a package may hold."""
    return tuple(sorted(folder.glob(WITNESSES))[: CAPS.package_witnesses])


def gather_witnesses(
    given: Sequence[Path],
    nearby: Sequence[Path],
    statement: OpenedDocument[CapacityStatement],
    verifier: Verifier,
) -> tuple[tuple[Witnessed, ...], tuple[tuple[Path, str], ...]]:
    """Return who witnessed a statement, and the documents that were skipped, each with its reason code.

    Args:
        given: documents that the user named: a bad one refuses.
        nearby: documents that lie in the statement's folder and were not named: a bad one is skipped.
        statement: see `open_witnesses`.
        verifier: see `open_witnesses`.

    Raises:
        RefusedError: with the code of the first fault of a document in `given`.
    """
    witnesses = {one.keyid: one for one in open_witnesses(given, statement, verifier, given=True)}
    skipped = []
    for path in nearby:
        try:
            more = open_witnesses([path], statement, verifier)
        except PetasealError as error:
            skipped.append((path, error.code))
            continue
        for one in more:
            witnesses[one.keyid] = min(witnesses.get(one.keyid, one), one, key=lambda seen: seen.witnessed_at)
    return tuple(witnesses[keyid] for keyid in sorted(witnesses)), tuple(skipped)


def check_witnesses(witnesses: Sequence[Witnessed], policies: Iterable[Policy], where: object = None) -> None:
    """Refuse a statement that fewer witnesses have recomputed than its policies demand.

    Raises:
        RefusedError: `witness-missing`.
    """
    for policy in policies:
        if len(witnesses) < policy.witnesses:
            what = f"has {len(witnesses)} of the {policy.witnesses} witness(es) that the policy {policy.policy} demands"
            raise RefusedError("witness-missing", what, where=where, fix="give each document with --witness")


def make_witness(
    statement: CapacityStatement,
    payload_sha256: str,
    level: Any,
    checks: Sequence[str],
    tool: Tool,
    key: PrivateKey,
    now: str,
) -> bytes:
    """Return the signed witness document of a statement that was recomputed.

    Args:
        statement: that was verified.
        payload_sha256: of its payload.
        level: that the verification reached.
        checks: that were made, each the name of a step (docs/verification.md).
        tool: that checked.
        key: the witness's.
        now: the present.

    Raises:
        RefusedError: `witness-level`.
    """
    if level not in RECOMPUTED:
        raise RefusedError("witness-level", f"reached the level {level} only", fix="give the records with --records")
    witness = Witness(
        centre_id=statement.centre.centre_id,
        witnessed_at=now,
        level=level,
        checks=tuple(checks),
        tool=tool,
    )
    return seal(make_document("witness", witness, payload_sha256), PAYLOAD_TYPE, [key])


class DatedReceipt(NamedTuple):
    """One registry's word on when it accepted a statement, and how far it verified it itself."""

    keyid: str
    received_at: str
    level: str


def open_receipt(
    path: Path, statement: OpenedDocument[CapacityStatement], verifier: Verifier, *, given: bool = False
) -> DatedReceipt:
    """Return what a receipt says of a statement.

    Args:
        path: the receipt.
        statement: as it was parsed; its own signature need not be trusted yet.
        verifier: whose keys, among them registries', count at its time.
        given: whether the user named the file.

    Raises:
        RefusedError: `receipt-differs`, `receipt-of-refusal`, `receipt-time`, or a code of `Verifier.open`.
    """
    content = read_given(path, CAPS.witness_bytes) if given else read_bytes(path, CAPS.witness_bytes)
    opened: OpenedDocument[Receipt] = verifier.open("receipt", content, path)
    receipt, issue = opened.predicate, statement.predicate.issue
    if (opened.subject_digest, receipt.centre_id) != (statement.payload_sha256, statement.predicate.centre.centre_id):
        what = f"is of the statement {opened.subject_digest[:16]}… of {receipt.centre_id}"
        raise RefusedError("receipt-differs", what, where=path)
    # A refusal is signed too, with its date, so that a centre can show that it was refused.
    if receipt.level is None:
        raise RefusedError("receipt-of-refusal", f"says that it was refused: {receipt.code}", where=path)
    if not issue.issued_at <= skewed(receipt.received_at) or receipt.received_at > skewed(verifier.at):
        what = f"was signed at {receipt.received_at}, and the statement issued at {issue.issued_at}"
        raise RefusedError("receipt-time", what, where=path)
    _check_signers("receipt", opened, receipt.received_at, statement, verifier, path)
    return DatedReceipt(min(opened.signers), receipt.received_at, receipt.level)


def receipts_in(folder: Path) -> tuple[Path, ...]:
    """Return the receipts that lie in a statement's folder or package, as many as a package may hold."""
    return tuple(sorted(folder.glob(RECEIPTS))[: CAPS.package_receipts])


def witnesses_not_read(folder: Path) -> tuple[str, ...]:
    """Return a printed line for the witness documents that lie there beyond the cap; none where none does."""
    return _beyond("witnesses-cut", folder, WITNESSES, CAPS.package_witnesses)


def not_read_in(folder: Path) -> tuple[str, ...]:
    """Return a printed line for the witness documents, and one for the receipts, that lie there beyond the cap."""
    return (*witnesses_not_read(folder), *_beyond("receipts-cut", folder, RECEIPTS, CAPS.package_receipts))


def _beyond(code: str, folder: Path, pattern: str, most: int) -> tuple[str, ...]:
    further = sorted(path.name for path in folder.glob(pattern))[most:]
    return (line(code, most=most, count=len(further), names=shortened_list(further)),) if further else ()


def first_receipt(
    given: Sequence[Path],
    nearby: Sequence[Path],
    statement: OpenedDocument[CapacityStatement],
    verifier: Verifier,
) -> tuple[DatedReceipt | None, tuple[tuple[Path, str], ...]]:
    """Return the earliest receipt of a statement, and those that were skipped, each with its reason code.

    Args:
        given: receipts that the user named: a bad one refuses.
        nearby: receipts that merely lie there: nobody vouched for them, and a bad one is skipped.
        statement: see `open_receipt`.
        verifier: see `open_receipt`.

    Raises:
        RefusedError: with the code of the first fault of a receipt in `given`.
    """
    receipts = [open_receipt(path, statement, verifier, given=True) for path in given]
    skipped = []
    for path in nearby:
        try:
            receipts.append(open_receipt(path, statement, verifier))
        except PetasealError as error:
            skipped.append((path, error.code))
    return min(receipts, key=lambda one: one.received_at, default=None), tuple(skipped)


@dataclass(frozen=True)
class Attestations:
    """Files that may date a statement. A bad one that the user named refuses; one that merely lay there is skipped."""

    witnesses: tuple[Path, ...] = ()
    receipts: tuple[Path, ...] = ()
    witnesses_in_folder: tuple[Path, ...] = ()
    receipts_in_folder: tuple[Path, ...] = ()
    not_read: tuple[str, ...] = ()  # printed lines of what lies there beyond the cap

    @classmethod
    def around(cls, folder: Path, witnesses: Sequence[Path] = (), receipts: Sequence[Path] = ()) -> Attestations:
        """Return what the user named, and what lies in the statement's folder."""
        nearby = witness_documents_in(folder), receipts_in(folder)
        return cls(tuple(witnesses), tuple(receipts), *nearby, not_read_in(folder))


class Dating(NamedTuple):
    """Who attests a statement, and since when it is surely there."""

    attested_before: str | None = None
    witnesses: tuple[Witnessed, ...] = ()
    receipt: DatedReceipt | None = None  # the first
    skipped_witnesses: tuple[tuple[Path, str], ...] = ()  # each with its reason code
    skipped_receipts: tuple[tuple[Path, str], ...] = ()


def date_statement(
    statement: OpenedDocument[CapacityStatement],
    files: Attestations,
    verifier: Verifier,
    policies: Callable[[CapacityStatement], Iterable[Policy]],
    seen_at: str | None = None,
) -> Dating:
    """Return when a statement had surely been seen: by enough witnesses, a registry, or the verifier itself.

    Args:
        statement: as it was authenticated; its own keys may be revoked.
        files: what may date it.
        verifier: whose witnesses and registries count.
        policies: gives those of the statement; asked only where there is a witness's document.
        seen_at: when the verifier itself, a registry, received it.

    Raises:
        RefusedError: with the code of the first fault of a file that the user named, or a code of `policies`.
    """
    witnesses, skipped_witnesses = gather_witnesses(files.witnesses, files.witnesses_in_folder, statement, verifier)
    demanded = 0
    if files.witnesses or files.witnesses_in_folder:
        demanded = witnesses_demanded(policies(statement.predicate))
    receipt, skipped_receipts = first_receipt(files.receipts, files.receipts_in_folder, statement, verifier)
    # The earliest of them: each alone suffices, for each is somebody who is trusted in his own right.
    times = (seen_at, witnessed_before(witnesses, demanded), receipt.received_at if receipt else None)
    attested_before = min((at for at in times if at is not None), default=None)
    return Dating(attested_before, witnesses, receipt, skipped_witnesses, skipped_receipts)


def witnesses_demanded(policies: Iterable[Policy]) -> int:
    """Return how many witnesses the policies of a statement demand."""
    return max((policy.witnesses for policy in policies), default=0)


def witnessed_before(witnesses: Sequence[Witnessed], demanded: int) -> str | None:
    """Return when a statement was surely seen: by as many distinct witnesses as are demanded, and by one at least.

    One stolen witness key alone then dates nothing early where a policy demands two.
    """
    times = sorted(witness.witnessed_at for witness in witnesses)
    needed = max(1, demanded)
    return times[needed - 1] if len(times) >= needed else None
