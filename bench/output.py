"""A node's two files, record and samples: their place is kept from before the measurement until both are written.

What was measured is never lost: where the place does not take it, it is rescued into the state folder, else a temporary
one, and the error says where.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from bench.clock import Clock
from bench.errors import InputError, Interrupted, OutputExistsError, PetasealError
from bench.record import NodeRecord, exclusive_lock, refuse_existing, replacing
from bench.record.files import state_dir

FIX = "choose another with --out"
WRITE_NS, PAUSE_NS = 1200 * 10**9, 5 * 10**9  # how long a node tries to write its record, and between two tries


class NodeSigner(NamedTuple):
    """A node's key, as far as a measurement needs it: how it signs is not known here."""

    spki_b64: str  # the public key, which the record names
    # Returns the envelope of a record, which binds its samples by their SHA-256
    sign: Callable[[NodeRecord, str], bytes]


class NodeFiles(NamedTuple):
    """The paths of one node's record and samples."""

    folder: Path
    name: str

    @property
    def record(self) -> Path:
        return self.folder / f"{self.name}.record.dsse.json"

    @property
    def samples(self) -> Path:
        return self.folder / f"{self.name}.samples.csv.gz"

    @property
    def lock(self) -> Path:
        return self.folder / f".{self.name}.record.lock"


class Reserved(NamedTuple):
    """A place that no other run writes to meanwhile."""

    place: NodeFiles
    is_locked: bool  # False where the file system has no locks

    def write(self, envelope: bytes, samples: bytes) -> None:
        """Write samples and record.

        Raises:
            InputError: `output-exists`, another run was first; or `output-not-writable`.
        """
        if self.is_locked and not os.path.lexists(self.place.lock):  # an unmounted disk leaves an empty folder
            what = "is not the folder any more that it was when the run began"
            raise InputError("output-not-writable", what, where=self.place.folder)
        write_record(self.place.record, envelope, self.place.samples, samples)

    def write_or_rescue(self, envelope: bytes, samples: bytes) -> None:
        """Write samples and record; what cannot be written is kept elsewhere.

        Raises:
            InputError: `record-rescued`, or `output-not-writable`: no place takes it.
        """
        with undisturbed():
            try:
                self.write(envelope, samples)
            except InputError as error:
                raise rescued(error, rescue(self.place.name, envelope, samples)) from None


@contextlib.contextmanager
def reserved(place: NodeFiles, held: PetasealError | None = None, fix: str = FIX) -> Iterator[Reserved]:
    """Keep a place for this run: a folder that is missing is made, and removed again where nothing was written.

    Args:
        place: where record and samples will go.
        held: raised where another run keeps it.
        fix: what the user can do where nothing can be written there.

    Raises:
        InputError: `output-exists`, `output-not-folder`, `output-not-writable`, or `held`.
    """
    refuse_existing(place.record, fix, writable=True)
    what = "is being measured by another run, which began before"
    held = held or OutputExistsError(place.record, what, f"wait for it, or {fix}")
    # Noted before they are made: what a run has made it takes away again where it failed.
    missing = [one for one in (place.folder, *place.folder.absolute().parents) if not os.path.lexists(one)]
    try:
        place.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError("output-not-writable", f"cannot be made ({error.strerror})", where=place.folder) from None
    try:
        with exclusive_lock(place.lock, held, needed=False, transient=True) as is_locked:
            refuse_existing(place.record, fix)  # the other may have ended just now
            yield Reserved(place, is_locked)
    finally:
        with contextlib.suppress(OSError):  # it is not empty
            for one in missing:
                one.rmdir()


def write_patiently(place: Reserved, envelope: bytes, samples: bytes, clock: Clock) -> None:
    """Write what was measured; a shared file system that is away for a while must not cost it.

    Meanwhile it is kept elsewhere: the engine may end this process at any time.

    Raises:
        InputError: `record-rescued`: it could not be written for `WRITE_NS`, the place is taken, or the node's part
            was ended; or `output-not-writable`, and no other place takes it.
    """
    deadline = clock.monotonic_ns() + WRITE_NS
    elsewhere: Path | None = None
    while True:
        # SIGTERM in the middle of a write would leave a draft; it is answered in the pause between two tries.
        with undisturbed():
            try:
                place.write(envelope, samples)
                break
            except InputError as error:
                elsewhere = elsewhere or rescue(place.place.name, envelope, samples)
                reported = rescued(error, elsewhere)
                if isinstance(error, OutputExistsError) or clock.monotonic_ns() > deadline:
                    raise reported from None
        try:
            clock.sleep_ns(PAUSE_NS)
        except (KeyboardInterrupt, Interrupted):
            raise reported from None
    if elsewhere is not None:
        shutil.rmtree(elsewhere, ignore_errors=True)


def write_record(record_path: Path, envelope: bytes, samples_path: Path, samples: bytes) -> None:
    """Write the samples and then the record, which Ctrl-C does not part; without the record no samples are left.

    A record that is there is never replaced, and a folder that has vanished is not made anew.

    Raises:
        InputError: one of them cannot be written.
    """
    with undisturbed():
        refuse_existing(record_path)
        with replacing(samples_path, folder_mode=None) as file:
            file.write(samples)
        try:
            with replacing(record_path, new=True, folder_mode=None) as file:
                file.write(envelope)
        except InputError as error:
            if not isinstance(error, OutputExistsError):
                with contextlib.suppress(OSError):
                    samples_path.unlink()
            raise


def rescue(name: str, envelope: bytes, samples: bytes) -> Path | None:
    """Write what was measured where it can be kept, and return the folder; None where no place takes it."""
    # By content: a second rescue of the same record is no new one, and two runs never meet.
    unique = f"{name}-{hashlib.sha256(envelope).hexdigest()[:16]}"
    for base in _shelters():
        place = NodeFiles(base / unique, name)
        with contextlib.suppress(OSError):
            place.folder.mkdir(0o700, parents=True)
            try:
                write_record(place.record, envelope, place.samples, samples)
            except InputError:
                place.folder.rmdir()
                continue
            return place.folder
    return None


def _shelters() -> Iterator[Path]:
    with contextlib.suppress(PetasealError, RuntimeError):  # there is no home
        yield state_dir() / "rescued"
    with contextlib.suppress(OSError):  # there is none
        yield Path(tempfile.gettempdir()) / f"petaseal-rescued-{os.geteuid()}"  # users share it, and not their folders


def rescued(error: InputError, folder: Path | None) -> InputError:
    """Return the error that says where a record is kept which could not be written to its place."""
    if folder is None:
        what = f"{error.what}, and neither the state folder nor a temporary one takes the record"
        return InputError(error.code, what, where=error.where, fix=error.fix)
    what = f"{error.what}; the signed record and its samples are kept in {folder}"
    # Where another record lies, room must not be made by deleting it.
    is_taken = isinstance(error, OutputExistsError)
    fix = "move both into a folder of their own" if is_taken else "mend that, and move both there"
    return InputError("record-rescued", what, where=error.where, fix=fix)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Put off what would end this process from outside, as far as that can be put off."""
    import signal
    import threading

    # Handlers of signals can be set from the main thread only.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
