"""Verification of a statement in a separate process, so that reads go on meanwhile, and the outcome of it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from bench.errors import InputError
from certify.documents.caps import CAPS
from certify.documents.kinds import Level
from certify.documents.statement import CapacityStatement
from certify.judge.identities import devices_digest
from certify.judge.tally import PoolSums
from certify.statement.claim import DeviceIndex, Shown
from certify.statement.records import RecordSummary
from certify.trust.dating import Attestations
from certify.trust.store import Anchor
from certify.verify.evidence import Evidence, VerifyRequest
from certify.verify.verifier import verify
from certify.workers import end_with_parent


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
    device_index: DeviceIndex | None = None
    nodes: tuple[NodeSum, ...] = ()
    lines: tuple[RecordLine, ...] = ()


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
        None, None, report.level, report.payload_sha256, statement, report.signers, not_checked
    )
    if job.records is None:
        return outcome
    device_index = DeviceIndex(statement.places)
    nodes = []
    for one in seen:
        device_index.see(Shown(one.payload_sha256, one.samples_sha256, one.node_id, one.signer, one.devices))
        of_node = devices_digest(one.devices)
        nodes += [NodeSum(pool, one.node_id, one.signer, sums, of_node) for pool, sums in one.sums]
    return VerificationOutcome(
        **{**outcome.__dict__, "device_index": device_index, "nodes": tuple(nodes), "lines": _lines(job.records, seen)}
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


class VerificationPool:
    """Processes that verify, started when the first statement comes; with none, this one does it itself."""

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._lock = threading.Lock()
        self._pool: ProcessPoolExecutor | None = None

    def verify(self, job: VerificationJob) -> VerificationOutcome:
        """Return what a verification gives; blocks until it is done.

        Raises:
            InputError: `worker-lost`, the process was ended from outside; or a code of `run`.
        """
        # of tests: the settings ask for one process at least
        if not self._processes:
            return run(job)
        pool = self._started()
        try:
            return pool.submit(run, job).result()
        # the kernel ends what takes too much memory; the next submission gets a new pool
        except BrokenProcessPool:
            with self._lock:
                if self._pool is pool:
                    self._pool = None
            what = "the process that verifies was ended from outside, perhaps for want of memory"
            raise InputError("worker-lost", what, fix="submit it again") from None

    def _started(self) -> ProcessPoolExecutor:
        with self._lock:
            if self._pool is None:
                # not fork: the service has threads, and a forked lock that one of them holds is held for ever
                spawn = get_context("spawn")
                self._pool = ProcessPoolExecutor(self._processes, mp_context=spawn, initializer=_begin)
            return self._pool

    def close(self) -> None:
        """End the processes."""
        with self._lock, contextlib.suppress(RuntimeError):
            if self._pool is not None:
                self._pool.shutdown(wait=True, cancel_futures=True)
                self._pool = None


def _begin() -> None:
    # else a service that is killed leaves processes that hold gigabytes
    threading.Thread(target=end_with_parent, daemon=True).start()
