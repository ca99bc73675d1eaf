"""Whole files and locks (for what is read: `bench.record.reading`).

What is written is either whole or absent. No other module writes a whole file or takes a lock in a way of its own
(`tests/test_writing.py`).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Literal

from bench.errors import InputError, OutputExistsError, PetasealError, denied

Flush = Literal["all", "content", "nothing"]
PROBE_BYTES = 2**16  # less room than that is none
CLAIM_S = 60.0  # a claim to make a file that is older was left by a process that was killed
NAME_STATE = "set PETASEAL_STATE to a folder that this user can write and that stays"


def state_dir(environ: Mapping[str, str] | None = None) -> Path:
    """Return where a node keeps its own key and identity, and a verifier the trust roots that it accepted.

    It is $PETASEAL_STATE, else the user's state folder. A home that depends on where a command is called would give a
    node another key in each folder, and is none; a relative $XDG_STATE_HOME is to be ignored (XDG Base Directory).

    Raises:
        InputError: `no-state-folder`, the user has no home.
    """
    environ = os.environ if environ is None else environ
    if environ.get("PETASEAL_STATE"):
        return Path(environ["PETASEAL_STATE"])
    base = environ.get("XDG_STATE_HOME", "")
    if Path(base).is_absolute():
        return Path(base) / "petaseal"
    home = environ.get("HOME") or _home_of(os.getuid())
    if not Path(home).is_absolute():
        what = f"the home folder {home!r} is a relative path" if home else f"the user {os.getuid()} has no home folder"
        raise InputError("no-state-folder", f"{what}, and keys and identity of this node have no place", fix=NAME_STATE)
    return Path(home) / ".local" / "state" / "petaseal"


def _home_of(uid: int) -> str:
    """Return a user's home folder by the system's table of users; empty where the user does not stand in it."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_dir
    except KeyError:
        return ""


@contextlib.contextmanager
def writing_state() -> Iterator[None]:
    """Say how to name another state folder where the block cannot write into it."""
    try:
        yield
    except InputError as error:
        if error.code != "output-not-writable":
            raise
        raise InputError(error.code, error.what, where=error.where, fix=NAME_STATE) from None


def refuse_existing(path: Path, fix: str = "choose another name", *, writable: bool = False) -> None:
    """Refuse an output that is there, before the work for it begins; a dangling link counts as there.

    Args:
        path: the file or folder that the work will make.
        fix: what the user can do about it.
        writable: refuse a folder too in which no file can be written now; nothing is left there.

    Raises:
        InputError: `output-exists`; with `writable` also `output-not-folder` and `output-not-writable`.
    """
    if writable:
        _refuse_unwritable(path, fix)
    if os.path.lexists(path):
        raise OutputExistsError(path, fix=fix)


def _refuse_unwritable(path: Path, fix: str) -> None:
    import tempfile

    there = next(one for one in (path.parent, *path.parent.absolute().parents) if os.path.lexists(one))
    if not there.is_dir():
        raise InputError("output-not-folder", "is not a folder", where=there, fix=fix)
    try:
        with tempfile.TemporaryFile(dir=there) as file:  # permissions do not say enough: it may be read-only or full
            file.write(bytes(PROBE_BYTES))
        with contextlib.suppress(FileNotFoundError):
            os.lstat(path)  # fails for a name that is too long
    except OSError as error:
        raise InputError(
            "output-not-writable", f"is not writable ({denied(there, error)})", where=there, fix=fix
        ) from None


def write_atomic(path: Path, content: bytes, mode: int = 0o644, *, new: bool = False) -> None:
    """Write bytes as a whole file (see `replacing`)."""
    with replacing(path, mode, new=new) as file:
        file.write(content)


@contextlib.contextmanager
def replacing(
    path: Path,
    mode: int | None = 0o644,
    *,
    new: bool = False,
    flush: Flush = "all",
    folder_mode: int | None = 0o777,
) -> Iterator[BinaryIO]:
    """Yield a file whose content takes the place of `path` whole when the block ends well, and is gone when it fails.

    A link at `path` is replaced, never followed. Where an earlier file is replaced and the disk then fails to take its
    new name, the new content stands and the error is raised all the same.

    Args:
        path: the file to make or to replace.
        mode: permission bits; until it is whole only its owner may open it. None: those that the umask leaves of 0666.
        new: never replace what is there, whoever else writes at the same time.
        flush: what is on the disk before this returns: the content and its name, the content alone, or nothing.
        folder_mode: permission bits of the folder where it is missing; None refuses a missing one.

    Raises:
        InputError: `output-exists` with `new`, or `output-not-writable`: the folder or the disk does not take it. An
            OSError of the block, whatever its file, becomes that too.
    """
    try:
        if folder_mode is not None:
            _make_folder(path.parent, folder_mode)
        draft = Draft(path.parent, path.name, mode)
        try:
            yield draft.file
            draft.close(flush)
            is_first = new or not os.path.lexists(path)
            draft.take_place(path, new)
            try:
                if flush == "all":
                    flush_folder(path.parent, needed=False)
            except BaseException:
                if is_first:
                    os.unlink(path)
                raise
        finally:
            draft.discard()
    except OSError as error:
        what = f"cannot be written ({denied(path.parent, error)})"
        raise InputError("output-not-writable", what, where=path) from None


class Draft:
    """A file under a temporary name: it takes its place once it is whole, or is removed. `replacing` is the way to it.

    Args:
        folder: where it is written, on the file system of its place.
        name: a part of its temporary name.
        mode: permission bits (see `replacing`).
    """

    def __init__(self, folder: Path, name: str, mode: int | None = 0o644) -> None:
        # Not `secrets`: with what it imports, `petaseal verify` would start some milliseconds later.
        self.path = folder / f".{name}.{os.urandom(6).hex()}.tmp"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self.path, flags, 0o666 if mode is None else 0o600)
        self.file: BinaryIO = open(descriptor, "w+b")  # noqa: SIM115 (closed by `close` or `discard`)
        self._mode = mode
        self._is_closed = False
        self._is_left = True  # under its temporary name

    def close(self, flush: Flush = "all") -> None:
        """Hand the content to the system, and to the disk; `path` can be read from now on."""
        if self._is_closed:
            return
        self.file.flush()
        if self._mode is not None:
            os.fchmod(self.file.fileno(), self._mode)
        if flush != "nothing":
            os.fsync(self.file.fileno())
        self.file.close()
        self._is_closed = True

    def take_place(self, path: Path, new: bool = False) -> None:
        """Give it its name; `flush_folder` makes that last."""
        if new:
            _link(self.path, path)
        else:
            os.replace(self.path, path)
            self._is_left = False

    def discard(self) -> None:
        """Remove what is left under the temporary name."""
        with contextlib.suppress(OSError):
            self.file.close()
        if self._is_left:
            with contextlib.suppress(OSError):
                os.unlink(self.path)


def _link(temporary: Path, path: Path) -> None:
    """Give a file its name where nothing bears it: a link fails there, unlike a renaming."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        with contextlib.suppress(OSError):
            if os.path.samestat(os.lstat(temporary), os.lstat(path)):
                return  # a network file system did it, lost its answer and did it again
        raise OutputExistsError(path) from None
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        _rename_under_claim(temporary, path)


def _rename_under_claim(temporary: Path, path: Path) -> None:
    """Give a file its name where there are no hard links: whoever makes the claim does it, however long he takes."""
    claim = path.with_name(f".{path.name}.claim")
    try:
        claim.mkdir()
    except FileExistsError:
        with contextlib.suppress(OSError):
            if time.time() - claim.stat().st_mtime > CLAIM_S:
                claim.rmdir()
        raise OutputExistsError(path, "is being made by another process", "run it again") from None
    try:
        if os.path.lexists(path):
            raise OutputExistsError(path)
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            claim.rmdir()


def _make_folder(folder: Path, mode: int) -> None:
    """Make a folder where it is missing, and what is missing above it; their names are flushed."""
    if folder.is_dir():
        return
    missing = [one for one in (folder, *folder.absolute().parents) if not os.path.lexists(one)]
    folder.mkdir(mode, parents=True, exist_ok=True)
    for one in missing:
        flush_folder(one.absolute().parent, needed=False)


def flush_folder(folder: Path, *, needed: bool = True) -> None:
    """Hand a folder's new names to the disk.

    Args:
        folder: in which files were made or renamed.
        needed: False passes over a folder that cannot be read, and a file system that does this for no folder.

    Raises:
        OSError: the disk does not take them.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if needed or error.errno not in (errno.EACCES, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
            raise


@contextlib.contextmanager
def exclusive_lock(
    path: Path, held: PetasealError | None = None, *, needed: bool = True, transient: bool = False
) -> Iterator[bool]:
    """Hold the lock that a file stands for, and yield whether it is held.

    The system releases it when this process ends, however it ends. A forked child neither holds it nor frees it.

    Args:
        path: the lock's file, made where it is missing; its folder exists, and nothing is written to the file.
        held: raised where another holds the lock; None waits until it is free.
        needed: False goes on without the lock where the file system has none.
        transient: removes the file at the end.

    Raises:
        InputError: `held`, or `output-not-writable`: the file cannot be locked, or is a link or a special file.
    """
    descriptor, is_locked = _locked(path, held, needed, transient)
    _locks.add(descriptor)
    owner = os.getpid()
    try:
        yield is_locked
    finally:
        if os.getpid() == owner:  # a forked child has closed its copy
            _locks.discard(descriptor)
            if transient:
                with contextlib.suppress(OSError):
                    os.unlink(path)
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_UN)  # whoever has inherited a copy
            os.close(descriptor)


def _locked(path: Path, held: PetasealError | None, needed: bool, transient: bool) -> tuple[int, bool]:
    """Return the descriptor of a lock's file, and whether it is locked."""
    how = fcntl.LOCK_EX if held is None else fcntl.LOCK_EX | fcntl.LOCK_NB
    while True:
        with contextlib.ExitStack() as undo:
            descriptor = _lock_file(path)
            undo.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, how)
            except BlockingIOError:
                assert held is not None  # else it waits
                raise held from None
            except OSError as error:
                if needed:
                    raise _cannot_lock(path, denied(path.parent, error)) from None
                undo.pop_all()
                return descriptor, False
            if not transient or _is_at(path, descriptor):  # who held it before may have removed the file
                undo.pop_all()
                return descriptor, True


def _lock_file(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _cannot_lock(path, denied(path.parent, error)) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _cannot_lock(path, "is not a regular file")
    return descriptor


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.lstat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _cannot_lock(path: Path, why: str | None) -> InputError:
    return InputError("output-not-writable", f"cannot be locked ({why})", where=path)


_locks: set[int] = set()  # descriptors of this process's locks


def _forget_locks() -> None:
    """Close a forked child's copies, with which a lock would outlive the process that holds it."""
    while _locks:
        os.close(_locks.pop())


os.register_at_fork(after_in_child=_forget_locks)
