"""Files that are written whole: races, kills at every call of the system, full disks, links, permission bits."""

from __future__ import annotations

import errno
import os
import resource
import signal
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.errors import InputError, OutputExistsError
from bench.record import refuse_existing, replacing, write_atomic
from bench.record.files import CLAIM_S, Flush, flush_folder
from tests.bad_input.crash import strike
from tests.bench.record.forked import Child

OLD, NEW = b"old" * 1000, b"new" * 2000


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """A file's path, in a folder of its own, where nothing else may be left."""
    folder = tmp_path / "folder"
    folder.mkdir()
    yield folder / "file"
    assert [one.name for one in folder.iterdir() if one.name not in ("file", "other")] == []


def refused(path: Path, **options: Any) -> InputError:
    with pytest.raises(InputError) as caught:
        write_atomic(path, NEW, **options)
    assert str(path) in str(caught.value)
    return caught.value


# --- what is there afterwards


@pytest.mark.parametrize("new", [False, True])
def test_a_file_is_there_when_the_block_ends_and_not_before(path: Path, new: bool) -> None:
    with replacing(path, new=new) as file:
        file.write(b"half")
        file.flush()
        assert not path.exists()
        file.seek(0)
        assert file.read() == b"half"
    assert path.read_bytes() == b"half"


@pytest.mark.parametrize("new", [False, True])
@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), InputError("usage", "no")])
def test_a_block_that_fails_leaves_what_was_there(path: Path, error: BaseException, new: bool) -> None:
    if not new:
        path.write_bytes(OLD)

    def write() -> None:
        with replacing(path, new=new) as file:
            file.write(b"half")
            raise error

    with pytest.raises(type(error)):
        write()
    assert path.exists() is not new
    assert new or path.read_bytes() == OLD


def test_a_new_file_never_takes_the_place_of_another(path: Path) -> None:
    path.write_bytes(OLD)
    error = refused(path, new=True)
    assert (error.code, type(error)) == ("output-exists", OutputExistsError)
    assert path.read_bytes() == OLD


@pytest.mark.parametrize("target", ["other", "nowhere"])
def test_a_link_is_never_followed(path: Path, target: str) -> None:
    (path.parent / "other").write_bytes(OLD)
    path.symlink_to(path.parent / target)
    assert refused(path, new=True).code == "output-exists"
    assert path.is_symlink()
    write_atomic(path, NEW)
    assert not path.is_symlink()
    assert path.read_bytes() == NEW
    assert (path.parent / "other").read_bytes() == OLD


def test_a_folder_is_not_replaced(path: Path) -> None:
    path.mkdir()
    assert refused(path).code == "output-not-writable"
    assert refused(path, new=True).code == "output-exists"


# --- permission bits


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o027, 0o077])
@pytest.mark.parametrize("mode", [0o400, 0o600, 0o644, None])
def test_permission_bits(path: Path, mode: int | None, umask: int) -> None:
    before = os.umask(umask)
    try:
        with replacing(path, mode) as file:
            (draft,) = path.parent.iterdir()
            assert mode_of(draft) == (0o600 if mode is not None else 0o666 & ~umask)  # from its creation on
            file.write(NEW)
    finally:
        os.umask(before)
    assert mode_of(path) == (mode if mode is not None else 0o666 & ~umask)


def test_the_folder_is_made_where_it_is_missing(tmp_path: Path) -> None:
    with replacing(tmp_path / "a" / "b" / "file", folder_mode=0o700) as file:
        file.write(NEW)
    assert mode_of(tmp_path / "a" / "b") == 0o700
    with pytest.raises(InputError, match="output-not-writable"), replacing(tmp_path / "c" / "file", folder_mode=None):
        pass
    assert not (tmp_path / "c").exists()


# --- what is on the disk


def flushed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that will name what is flushed and renamed, in order."""
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace

    def fsynced(descriptor: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "content")
        fsync(descriptor)

    def replaced(*paths: Any) -> None:
        steps.append("name")
        replace(*paths)

    monkeypatch.setattr(os, "fsync", fsynced)
    monkeypatch.setattr(os, "replace", replaced)
    return steps


@pytest.mark.parametrize(
    ("flush", "expected"),
    [("all", ["content", "name", "folder"]), ("content", ["content", "name"]), ("nothing", ["name"])],
)
def test_what_is_flushed(path: Path, monkeypatch: pytest.MonkeyPatch, flush: Flush, expected: list[str]) -> None:
    steps = flushed(monkeypatch)
    with replacing(path, flush=flush) as file:
        file.write(NEW)
    assert steps == expected


def test_new_folders_are_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = flushed(monkeypatch)
    write_atomic(tmp_path / "a" / "b" / "file", NEW)
    assert steps == ["folder", "folder", "content", "name", "folder"]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EOPNOTSUPP])
def test_a_file_system_that_flushes_no_folder(path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    fsync = os.fsync

    def fsynced(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fsynced)
    write_atomic(path, NEW)
    assert path.read_bytes() == NEW
    with pytest.raises(OSError, match=os.strerror(number)):
        flush_folder(path.parent)


# --- disks that run full

CALLS = ("open", "fchmod", "fsync", "replace", "link")


@pytest.mark.parametrize("was_there", [False, True])
@pytest.mark.parametrize("new", [False, True])
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("number", [1, 2])
def test_a_full_disk_leaves_what_was_there(
    path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, new: bool, was_there: bool
) -> None:
    if was_there:
        path.write_bytes(OLD)
    real, calls = getattr(os, call), []

    def full(*args: Any, **options: Any) -> Any:
        calls.append(args)
        if len(calls) == number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*args, **options)

    monkeypatch.setattr(os, call, full)
    code = code_of(lambda: write_atomic(path, NEW, new=new))
    if len(calls) < number:  # it was not met
        assert code == ("output-exists" if new and was_there else None)
    else:
        assert code == "output-not-writable"
    if code is None or (was_there and not new and call in ("fsync", "open") and number == 2):
        assert path.read_bytes() == NEW  # in the second case it has been renamed, and the name may not last
    elif was_there:
        assert path.read_bytes() == OLD
    else:
        assert not path.exists()


def code_of(action: Callable[[], object]) -> str | None:
    try:
        action()
    except InputError as error:
        return error.code
    return None


def test_a_file_that_may_not_grow(path: Path) -> None:
    """The system itself refuses to write on in the middle of a file."""
    path.write_bytes(OLD)

    def write(_: Child) -> bool:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        return refused(path).code != "output-not-writable"

    assert Child(write).status() == 0
    assert path.read_bytes() == OLD


# --- kills


@pytest.mark.parametrize("new", [False, True])
def test_a_kill_at_any_call_leaves_a_whole_file(path: Path, new: bool) -> None:
    seen = []
    for step in range(20):
        path.unlink(missing_ok=True)
        if not new:
            path.write_bytes(OLD)

        def write(_: Child, step: int = step) -> bool:
            left = strike("SIGKILL", step)
            write_atomic(path, NEW, new=new)
            return left[0] < 0

        status = Child(write).status()
        seen.append(path.read_bytes() if path.exists() else b"")
        for one in path.parent.glob(".file.*.tmp"):
            one.unlink()
        if status == 0:  # it was not reached
            break
        assert status == -signal.SIGKILL
    assert status == 0
    assert step > 3
    assert set(seen) == {b"" if new else OLD, NEW}
    assert seen == sorted(seen, key=lambda content: content == NEW)  # once it is there it stays


def test_a_kill_while_the_content_is_written(path: Path) -> None:
    path.write_bytes(OLD)

    def write(child: Child) -> None:
        with replacing(path) as file:
            file.write(b"half")
            file.flush()
            child.say()
            child.hear()

    child = Child(write)
    assert child.hear() == "here"
    child.kill()
    assert child.status() == -signal.SIGKILL
    assert path.read_bytes() == OLD
    (left,) = path.parent.glob(".file.*.tmp")
    left.unlink()


# --- races


def no_links(*args: object, **options: object) -> None:
    raise OSError(errno.EPERM, "Operation not permitted")


@pytest.mark.parametrize("has_links", [True, False])
def test_of_many_new_files_one_is_made(path: Path, has_links: bool) -> None:
    def write(child: Child) -> bool:
        if not has_links:
            os.link = no_links
        child.say()
        child.hear()
        try:
            write_atomic(path, f"{os.getpid()}".encode() * 1000, new=True)
        except OutputExistsError:
            return True
        return False

    children = [Child(write) for _ in range(8)]
    for child in children:
        assert child.hear() == "here"
    for child in children:
        child.say()
    won = [child.pid for child in children if child.status() == 0]
    assert len(won) == 1
    assert path.read_bytes() == f"{won[0]}".encode() * 1000


def test_who_reads_while_others_write_sees_whole_files(path: Path) -> None:
    write_atomic(path, OLD)

    def write(child: Child, content: bytes) -> None:
        for _ in range(200):
            with replacing(path, flush="nothing") as file:
                file.write(content)

    children = [Child(lambda child, content=content: write(child, content)) for content in (OLD, NEW)]  # type: ignore[misc]
    seen = {path.read_bytes() for _ in range(500)}
    assert [child.status() for child in children] == [0, 0]
    assert seen <= {OLD, NEW}


# --- file systems without hard links


def test_a_claim_that_a_killed_process_left(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", no_links)
    claim = path.parent / ".file.claim"
    claim.mkdir()
    error = refused(path, new=True)
    assert (error.code, error.fix) == ("output-exists", "run it again")
    assert claim.exists()  # somebody may be at it
    long_ago = time.time() - CLAIM_S - 1
    os.utime(claim, (long_ago, long_ago))
    refused(path, new=True)
    assert not claim.exists()
    write_atomic(path, NEW, new=True)
    assert refused(path, new=True).fix != "run it again"


# --- outputs that are there, or cannot be


@pytest.mark.parametrize("writable", [False, True])
def test_an_output_that_is_there_is_refused(path: Path, writable: bool) -> None:
    refuse_existing(path, writable=writable)
    makes: tuple[Callable[[], object], ...] = (path.mkdir, path.touch, lambda: path.symlink_to("nowhere"))
    for make in makes:
        make()
        with pytest.raises(OutputExistsError, match="choose another with --out") as caught:
            refuse_existing(path, "choose another with --out", writable=writable)
        assert caught.value.code == "output-exists"
        path.rmdir() if path.is_dir() else path.unlink()


def test_a_folder_in_which_nothing_can_be_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def code(output: Path) -> str:
        with pytest.raises(InputError) as caught:
            refuse_existing(output, writable=True)
        return caught.value.code

    refuse_existing(path.parent / "missing" / "file", writable=True)
    assert not (path.parent / "missing").exists()
    (path.parent / "other").touch()
    assert code(path.parent / "other" / "file") == "output-not-folder"
    assert code(path.parent / "other" / "missing" / "file") == "output-not-folder"
    assert code(path.parent / ("n" * 300)) == "output-not-writable"
    assert code(Path("/proc/file")) == "output-not-writable"

    def full(**options: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    assert code(path) == "output-not-writable"
    refuse_existing(path)
