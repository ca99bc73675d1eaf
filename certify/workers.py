"""One function over many shares of work, in as many processes as there are cores; none outlives its parent."""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any, TypeVar

from bench.errors import InputError
from bench.host.python_start import no_folder_first

S = TypeVar("S")
T = TypeVar("T")
WORKER_GC_THRESHOLD = 50_000  # new values that lead to a look for circles; of Python 700


def spread(work: Callable[[S], T], shares: Sequence[S], *, parallel: bool, where: object) -> Iterator[T]:
    """Yield what `work` returns for every share, in their order.

    Args:
        work: can be pickled; it travels once, not with every share.
        shares: small.
        parallel: whether starting processes is worth it.
        where: what is worked on, for the error text.

    Raises:
        InputError: `worker-lost`, or what `work` raises.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # Processes and not threads: decoding and judging hold the interpreter's lock.
    if not parallel or cores < 2 or len(shares) < 2:
        yield from map(work, shares)
        return
    with ProcessPoolExecutor(
        min(cores, len(shares)), mp_context=_context(), initializer=_set_work, initargs=(work,)
    ) as pool:
        try:
            # Ctrl-C reaches the whole group: workers that begin with it blocked leave it to the parent.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                parts = pool.map(_do_share, shares)
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
            yield from parts
        except BrokenProcessPool:
            what = "a worker process was ended from outside, perhaps for want of memory"
            raise InputError("worker-lost", what, where=where, fix="run it again") from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _context() -> BaseContext:
    """Return how workers are made: as forks, which import and read nothing anew, where no other thread works here.

    A fork would hold for ever what another thread had locked: then each worker begins from nothing.
    """
    try:
        threads = len(list(Path("/proc/self/task").iterdir()))  # those of libraries too
    except OSError:  # not Linux, whose forks others do not match
        threads = 0
    if threads == 1 + _watched:
        return get_context("fork")
    no_folder_first()
    return get_context("spawn")


_work: Callable[[Any], Any] | None = None  # of this worker process


def _set_work(work: Callable[[Any], Any]) -> None:
    global _work
    _work = work
    # What a worker inherits or keeps is walked through for each few hundred values that a record has, and holds no
    # circle: to look seldom, and never at what was there before, saves a thirtieth of the time.
    gc.freeze()
    gc.set_threshold(WORKER_GC_THRESHOLD, *gc.get_threshold()[1:])
    end_with_parent()


_watched = False  # whether this process has the thread of `end_with_parent`


def end_with_parent() -> None:
    """End this worker from now on when its parent is killed: its queue would never close by itself."""
    global _watched
    ready = threading.Event()
    threading.Thread(target=_wait_for_end, args=(ready,), daemon=True).start()
    ready.wait()
    _watched = True


def _wait_for_end(ready: threading.Event) -> None:
    parent = parent_process()
    assert parent is not None
    ready.set()  # from here on it holds no lock, so that forks of this process are safe (`_context`)
    wait([parent.sentinel])
    os._exit(1)


def _do_share(share: Any) -> Any:
    assert _work is not None
    return _work(share)
