"""A node's two files, record and samples, written together after the measurement."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from bench.errors import InputError
from bench.record import write_atomic


def write_record(record_path: Path, envelope: bytes, samples_path: Path, samples: bytes) -> None:
    """Write the samples and then the record, which Ctrl-C does not part; without the record no samples are left.

    Raises:
        InputError: one of them cannot be written.
    """
    with undisturbed():
        write_atomic(samples_path, samples)
        try:
            write_atomic(record_path, envelope)
        except InputError:
            samples_path.unlink()
            raise


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Put off what would end this process from outside, as far as that can be put off."""
    import signal
    import threading

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
