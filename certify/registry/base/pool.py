"""The processes that verify, so that reads go on meanwhile."""

from __future__ import annotations

import contextlib
import os
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

from bench.errors import InputError
from bench.host.python_start import no_folder_first
from certify.registry.base.parcels import run_in_parts, unpacked
from certify.registry.base.verifying import VerificationJob, VerificationOutcome, run
from certify.workers import end_with_parent

NICE = 10  # of the processes that verify: a tenth of a core where the service wants all of it


class VerificationPool:
    """Processes that verify, started when the first statement comes; with none, this one does it itself."""

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._lock = threading.Lock()
        self._pool: ProcessPoolExecutor | None = None
        self._asked = 0  # verifications that were asked for and are not done

    @property
    def queue(self) -> tuple[int, int]:
        """How many verifications run, and how many wait for a process."""
        running = min(self._asked, max(1, self._processes))
        return running, self._asked - running

    def verify(self, job: VerificationJob) -> VerificationOutcome:
        """Return what a verification gives; blocks until it is done.

        Raises:
            InputError: `worker-lost`, the process was ended from outside; or a code of `run`.
        """
        with self._lock:
            self._asked += 1
        try:
            return self._verify(job)
        finally:
            with self._lock:
                self._asked -= 1

    def _verify(self, job: VerificationJob) -> VerificationOutcome:
        # of tests: the settings ask for one process at least
        if not self._processes:
            return run(job)
        pool = self._started()
        try:
            return unpacked(pool.submit(run_in_parts, job).result())
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
                no_folder_first()
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
    # readers and heartbeats go first: a verification takes what they leave, which is nearly all of two cores
    os.nice(NICE)
    # else a service that is killed leaves processes that hold gigabytes
    end_with_parent()
