"""Verifying a statement in a process of its own, so that reads go on meanwhile, and what comes back of it."""

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
from certify.judge.aggregate import PoolSums
from certify.judge.identities import devices_digest
from certify.statement.build import CapacityStatement
from certify.statement.claim import Holdings, Shown
from certify.statement.records import Seen
from certify.verify.verifier import Request, verify
from certify.workers import end_with_parent


@dataclass(frozen=True)
class Job:
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


class Line(NamedTuple):
    """Where one record lies in ``records.jsonl``."""

    payload_sha256: str
    node_id: str
    position: int
    length: int


@dataclass(frozen=True)
class Outcome:
    """What a verification gave. `code` is None where the statement is accepted."""

    code: str | None
    detail: str | None
    level: Level | None
    payload_sha256: str | None
    statement: CapacityStatement | None
    signers: tuple[str, ...] = ()
    not_checked: tuple[str, ...] = ()
    holdings: Holdings | None = None
    nodes: tuple[NodeSum, ...] = ()
    lines: tuple[Line, ...] = ()


def run(job: Job) -> Outcome:
    """Verify a statement with what is there of its records.

    Raises:
        InputError: a file cannot be read, or the trust root is missing: nothing is said of the statement.
    """
    seen: list[Seen] = []
    report = verify(
        Request(
            statement=job.statement,
            at_ns=job.at_ns,
            at_present=True,  # clocks differ a little; then too, where it is about an earlier moment
            now_ns=job.now_ns,
            trust=job.trust,
            state=job.state,
            records=job.records,
            baseline=job.baseline,
            witnesses_beside=job.witnesses,
            seen_at=job.seen_at,
            policies=job.policies,
            profiles=job.profiles,
            accept_simulated=job.accept_simulated,
            collect=seen.append,
        )
    )
    refusal, statement = report.refusal, report.statement
    if refusal is not None:
        return Outcome(refusal.code, refusal.what, None, report.payload_sha256, None)
    if job.records is not None and report.limits:  # the statement stays what it is, and its records are not judged
        return Outcome(*report.limits[0], None, report.payload_sha256, None)
    assert statement is not None
    # what an option of the command would check is no affair of whoever submits, and the duplicates are looked for here
    told = tuple(what for what in report.not_checked if "--" not in what and not what.startswith("cross-centre"))
    outcome = Outcome(None, None, report.level, report.payload_sha256, statement, report.signers, told)
    if job.records is None:
        return outcome
    holdings = Holdings(statement.places)
    nodes = []
    for one in seen:
        holdings.see(Shown(one.payload_sha256, one.samples_sha256, one.node_id, one.signer, one.devices))
        of_node = devices_digest(one.devices)
        nodes += [NodeSum(pool, one.node_id, one.signer, sums, of_node) for pool, sums in one.sums]
    return Outcome(
        **{**outcome.__dict__, "holdings": holdings, "nodes": tuple(nodes), "lines": _lines(job.records, seen)}
    )


def _lines(records: Path, seen: Iterable[Seen]) -> tuple[Line, ...]:
    """Return where each record lies; they were seen in the order of the file."""
    found, position = [], 0
    with records.open("rb") as file:
        for one in seen:
            length = len(file.readline(CAPS.record_bytes + 1))
            found.append(Line(one.payload_sha256, one.node_id, position, length))
            position += length
    return tuple(found)


class Verifier:
    """Processes that verify, started when the first statement comes; with none, this one does it itself."""

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._lock = threading.Lock()
        self._pool: ProcessPoolExecutor | None = None

    def verify(self, job: Job) -> Outcome:
        """Return what a verification gives; blocks until it is done.

        Raises:
            InputError: `worker-lost`, the process was ended from outside; or a code of `run`.
        """
        if not self._processes:
            return run(job)
        pool = self._started()
        try:
            return pool.submit(run, job).result()
        except BrokenProcessPool:
            with self._lock:
                if self._pool is pool:
                    self._pool = None
            what = "the process that verifies was ended from outside, perhaps for want of memory"
            raise InputError("worker-lost", what, fix="submit it again") from None

    def _started(self) -> ProcessPoolExecutor:
        with self._lock:
            if self._pool is None:
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
    threading.Thread(target=end_with_parent, daemon=True).start()
