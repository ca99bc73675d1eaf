"""Verification of a statement as a registry asks for it, and the outcome of that, both in values that travel."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from certify.documents.caps import CAPS
from certify.documents.kinds import Level
from certify.documents.statement import CapacityStatement
from certify.judge.identities import devices_digest
from certify.judge.models import NodeModel
from certify.judge.tally import PoolSums
from certify.policy.tools import ToolCount
from certify.statement.claim import DeviceIndex, Shown
from certify.statement.records import RecordSummary
from certify.trust.dating import Attestations
from certify.trust.store import Anchor
from certify.verify.evidence import Evidence, VerifyRequest
from certify.verify.verifier import verify


@dataclass(frozen=True)
class VerificationJob:
    """One verification, in values that travel to another process."""

    statement: Path
    trust: Path
    state: Path
    at_ns: int
    policies: tuple[str, ...]
    profiles: tuple[str, ...]
    accept_simulated: bool
    records: Path | None = None
    baseline: Path | None = None
    witnesses: tuple[Path, ...] = ()  # that were submitted for it; a bad one is passed over
    seen_at: str | None = None  # when the registry accepted the statement first
    now_ns: int | None = None  # the present, where the question is about an earlier moment


class NodeSum(NamedTuple):
    """What one node contributes to one pool."""

    pool: str
    node_id: str
    keyid: str
    sums: PoolSums
    devices_sha256: str


class NodeModels(NamedTuple):
    """The devices of one node, by pool and model."""

    node_id: str
    models: tuple[NodeModel, ...]


class RecordLine(NamedTuple):
    """Where one record lies in ``records.jsonl``."""

    payload_sha256: str
    node_id: str
    position: int
    length: int


@dataclass(frozen=True)
class VerificationOutcome:
    """What a verification gave. `code` is None where the statement is accepted."""

    code: str | None
    detail: str | None
    level: Level | None
    payload_sha256: str | None
    statement: CapacityStatement | None
    signers: tuple[str, ...] = ()
    not_checked: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    tools: tuple[ToolCount, ...] = ()  # that made the records
    device_index: DeviceIndex | None = None
    nodes: tuple[NodeSum, ...] = ()
    lines: tuple[RecordLine, ...] = ()
    models: tuple[NodeModels, ...] = ()


def run(job: VerificationJob) -> VerificationOutcome:
    """Verify a statement with what is there of its records.

    Raises:
        InputError: a file cannot be read, or the trust root is missing: nothing is said of the statement.
    """
    seen: list[RecordSummary] = []
    report = verify(
        VerifyRequest(
            Evidence(
                job.statement,
                records=job.records,
                baseline=job.baseline,
                attestations=Attestations(witnesses_in_folder=job.witnesses),
                policies=job.policies,
                profiles=job.profiles,
            ),
            Anchor(trust=job.trust, state=job.state),
            at_ns=job.at_ns,
            at_present=True,  # clocks differ a little; then too, where it is about an earlier moment
            now_ns=job.now_ns,
            seen_at=job.seen_at,
            accept_simulated=job.accept_simulated,
            collect=seen.append,
        )
    )
    refusal, statement = report.refusal, report.statement
    # no statement travels back with a refusal: nobody downstream can use one that did not hold
    if refusal is not None:
        return VerificationOutcome(refusal.code, refusal.what, None, report.payload_sha256, None)
    if job.records is not None and report.limits:  # the statement stays what it is, and its records are not judged
        return VerificationOutcome(*report.limits[0], None, report.payload_sha256, None)
    assert statement is not None
    # what an option of the command would check is no affair of whoever submits, and the duplicates are looked for here
    not_checked = tuple(what for what in report.not_checked if "--" not in what and not what.startswith("cross-centre"))
    outcome = VerificationOutcome(
        None,
        None,
        report.level,
        report.payload_sha256,
        statement,
        report.signers,
        not_checked,
        report.notes,
        report.tools,
    )
    if job.records is None:
        return outcome
    device_index = DeviceIndex(statement.places)
    nodes = []
    for one in seen:
        device_index.see(Shown(one.payload_sha256, one.samples_sha256, one.node_id, one.signer, one.devices))
        of_node = devices_digest(one.devices)
        nodes += [NodeSum(pool, one.node_id, one.signer, sums, of_node) for pool, sums in one.sums]
    models = tuple(NodeModels(one.node_id, one.models) for one in seen)
    return replace(
        outcome, device_index=device_index, nodes=tuple(nodes), lines=_lines(job.records, seen), models=models
    )


def _lines(records: Path, seen: Iterable[RecordSummary]) -> tuple[RecordLine, ...]:
    """Return where each record lies; they were seen in the order of the file."""
    lines, position = [], 0
    with records.open("rb") as file:
        for one in seen:
            # the verifier refused longer lines already: this cannot read past one record
            length = len(file.readline(CAPS.record_bytes + 1))
            lines.append(RecordLine(one.payload_sha256, one.node_id, position, length))
            position += length
    return tuple(lines)
