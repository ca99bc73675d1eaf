"""A node's two files, record and samples: seen to be writable before the measurement, and written together after it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from bench.errors import InputError
from bench.record import write_atomic


def check_output(out: Path, record_path: Path) -> None:
    """Refuse an output folder that could not be written after the measurement, before it; leave nothing there.

    Raises:
        InputError: it is a file, is not writable, or holds a record of this node.
    """
    import tempfile

    fix = "choose another with --out"
    there = next(path for path in (out, *out.absolute().parents) if os.path.lexists(path))
    if not there.is_dir():
        raise InputError("output-not-folder", "is not a folder", where=there, fix=fix)
    try:
        with tempfile.TemporaryFile(dir=there):  # tells more than permissions: a file system may be read-only or full
            pass
        with contextlib.suppress(FileNotFoundError):
            os.lstat(record_path)
            raise InputError("output-exists", "exists already", where=record_path, fix=fix)
    except OSError as error:
        raise InputError("output-not-writable", f"is not writable ({error.strerror})", where=there, fix=fix) from None


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
