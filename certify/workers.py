"""One function over many shares of work, in as many processes as there are cores; none outlives its parent."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from typing import Any, TypeVar

from bench.errors import InputError

S = TypeVar("S")
T = TypeVar("T")


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
        min(cores, len(shares)), mp_context=get_context("spawn"), initializer=_set_work, initargs=(work,)
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


_work: Callable[[Any], Any] | None = None  # of this worker process


def _set_work(work: Callable[[Any], Any]) -> None:
    global _work
    _work = work
    threading.Thread(target=end_with_parent, daemon=True).start()


def end_with_parent() -> None:
    """End this worker when its parent is killed: its queue would never close by itself."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _do_share(share: Any) -> Any:
    assert _work is not None
    return _work(share)
