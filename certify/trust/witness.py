"""A witness: somebody else recomputed a statement from its records, and signs what was checked, and when.

The document binds the statement's payload and nothing else, so that it holds under every signature of that payload. It
also dates the statement: what the operator's key signed before it was stolen stays signed (`trust.TrustedSet.check`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.errors import PetasealError, RefusedError
from bench.record import Tool, read_bytes, read_given
from certify.documents.caps import CAPS
from certify.documents.dsse import seal
from certify.documents.kinds import PAYLOAD_TYPE, Opened, Witness, make_document, open_document
from certify.keys.signers import PrivateKey
from certify.policy.policies import Policy
from certify.trust.trusted_set import TrustedSet, skewed

if TYPE_CHECKING:
    from certify.statement.build import CapacityStatement

RECOMPUTED = ("recomputed", "audited")  # less than that says nothing that the signature does not


class Witnessed(NamedTuple):
    """One witness's word on a statement."""

    keyid: str
    witnessed_at: str
    level: str


def open_witnesses(
    files: Sequence[Path], statement: Opened[CapacityStatement], trust: TrustedSet, at: str, *, given: bool = False
) -> tuple[Witnessed, ...]:
    """Return who witnessed a statement; one key counts once, with its first document.

    Args:
        files: witness documents.
        statement: as it was parsed; its own signature need not be trusted yet.
        trust: the verifier's keys, among them witnesses'.
        at: the time that the witnesses' keys must be valid at.
        given: whether the user named the files.

    Raises:
        RefusedError: `witness-differs`, `witness-level`, `witness-time`, or a code of `open_document`.
    """
    found: dict[str, Witnessed] = {}
    for path in files:
        content = read_given(path, CAPS.witness_bytes) if given else read_bytes(path, CAPS.witness_bytes)
        opened: Opened[Witness] = open_document("witness", content, trust, at, path)
        witness, issue = opened.predicate, statement.predicate.issue
        if opened.subject_digest != statement.payload_sha256:
            what = f"witnesses the statement {opened.subject_digest[:16]}…, not {statement.payload_sha256[:16]}…"
            raise RefusedError("witness-differs", what, where=path)
        if witness.centre_id != statement.predicate.centre.centre_id:
            raise RefusedError("witness-differs", f"is of the centre {witness.centre_id}", where=path)
        if witness.level not in RECOMPUTED:
            raise RefusedError("witness-level", f"reached the level {witness.level} only", where=path)
        if not issue.issued_at <= skewed(witness.witnessed_at) or witness.witnessed_at > skewed(at):
            what = f"was signed at {witness.witnessed_at}, and the statement issued at {issue.issued_at}"
            raise RefusedError("witness-time", what, where=path)
        trust.check(
            "witness", opened.signers, witness.centre_id, witness.witnessed_at, path
        )  # no date before its key's
        if both := sorted(opened.signers & statement.named):
            raise RefusedError("key-two-roles", f"key {both[0][:16]}… signed the statement too", where=path)
        for keyid in opened.signers:
            one = Witnessed(keyid, witness.witnessed_at, witness.level)
            found[keyid] = min(found.get(keyid, one), one, key=lambda seen: seen.witnessed_at)
    return tuple(found[keyid] for keyid in sorted(found))


def documents_in(folder: Path) -> tuple[Path, ...]:
    """Return the witness documents that lie in a statement's folder or package, as many as a package may hold."""
    return tuple(sorted(folder.glob("witness*.dsse.json"))[: CAPS.package_witnesses])


def gather_witnesses(
    given: Sequence[Path], beside: Sequence[Path], statement: Opened[CapacityStatement], trust: TrustedSet, at: str
) -> tuple[tuple[Witnessed, ...], tuple[tuple[Path, str], ...]]:
    """Return who witnessed a statement, and the documents that were passed over, each with its reason code.

    Args:
        given: documents that the user named: a bad one refuses.
        beside: documents that merely lie there: nobody vouched for them, and a bad one is passed over.
        statement: see `open_witnesses`.
        trust: see `open_witnesses`.
        at: see `open_witnesses`.

    Raises:
        RefusedError: with the code of the first fault of a document in `given`.
    """
    found = {one.keyid: one for one in open_witnesses(given, statement, trust, at, given=True)}
    passed_over = []
    for path in beside:
        try:
            more = open_witnesses([path], statement, trust, at)
        except PetasealError as error:
            passed_over.append((path, error.code))
            continue
        for one in more:
            found[one.keyid] = min(found.get(one.keyid, one), one, key=lambda seen: seen.witnessed_at)
    return tuple(found[keyid] for keyid in sorted(found)), tuple(passed_over)


def most_witnesses(policies: Iterable[Policy]) -> int:
    """Return how many witnesses the policies of a statement demand."""
    return max((policy.witnesses for policy in policies), default=0)


def dated_by(witnesses: Sequence[Witnessed], demanded: int) -> str | None:
    """Return when a statement was surely seen: by as many distinct witnesses as are demanded, and by one at least.

    One stolen witness key alone then dates nothing early where a policy demands two.
    """
    times = sorted(witness.witnessed_at for witness in witnesses)
    needed = max(1, demanded)
    return times[needed - 1] if len(times) >= needed else None


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
