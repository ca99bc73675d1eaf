"""The one lock: who holds it, who waits, and what becomes of it when processes die or fork."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.errors import InputError
from bench.record import exclusive_lock
from tests.bench.record.forked import Child

HELD = InputError("launch-running", "is being launched")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A lock's file, which is not there yet."""
    return tmp_path / "lock"


def is_free(path: Path) -> bool:
    """Ask in another process: one process may never lock itself out."""

    def ask(_: Child) -> bool:
        try:
            with exclusive_lock(path, HELD) as is_locked:
                assert is_locked
        except InputError as error:
            return error.code == "launch-running"
        return False

    return Child(ask).status() == 0


def holding(path: Path, then: Callable[[Child], object] = lambda child: None) -> Child:
    """Return a child that holds the lock until it hears a word, and then does something."""

    def hold(child: Child) -> None:
        with exclusive_lock(path):
            child.say()
            child.hear()
        then(child)

    child = Child(hold)
    assert child.hear() == "here"
    return child


def test_one_holds_it_and_others_are_told_so(path: Path) -> None:
    with exclusive_lock(path) as is_locked:
        assert is_locked
        assert not is_free(path)
        with pytest.raises(InputError) as caught, exclusive_lock(path, HELD):
            pass
        assert caught.value is HELD
    assert is_free(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_error_inside_frees_it(path: Path) -> None:
    with pytest.raises(ValueError, match="no"), exclusive_lock(path):
        raise ValueError("no")
    assert is_free(path)


def test_who_gives_no_error_waits(path: Path) -> None:
    holder = holding(path)
    waiter = Child(lambda child: hold_and_say(child, path))
    time.sleep(0.2)
    os.kill(waiter.pid, 0)
    assert not is_free(path)
    holder.say()
    assert holder.status() == 0
    assert waiter.hear() == "mine"
    assert not is_free(path)
    waiter.say()
    assert waiter.status() == 0
    assert is_free(path)


def hold_and_say(child: Child, path: Path, transient: bool = False) -> None:
    with exclusive_lock(path, transient=transient):
        child.say("mine")
        child.hear()


def test_a_killed_holder_holds_nothing(path: Path) -> None:
    holder = holding(path)
    assert not is_free(path)
    holder.kill()
    assert holder.status() == -signal.SIGKILL
    assert is_free(path)


# --- forked children


def test_a_forked_child_frees_nothing(path: Path) -> None:
    with exclusive_lock(path):
        assert Child(lambda child: None).status() == 0
        assert not is_free(path)


def test_a_block_that_ends_in_a_forked_child_frees_nothing(path: Path) -> None:
    lock = exclusive_lock(path, transient=True)
    lock.__enter__()
    assert Child(lambda child: lock.__exit__(None, None, None)).status() == 0
    assert path.exists()
    assert not is_free(path)
    lock.__exit__(None, None, None)
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("end", ["kill", "say"])
def test_a_lock_ends_with_its_holder_though_a_child_of_it_lives(path: Path, end: str) -> None:
    reading, writing = os.pipe()

    def hold(child: Child) -> None:
        with exclusive_lock(path):
            if os.fork() == 0:
                os.close(writing)
                os.read(reading, 1)  # it lives until the test closes the pipe
                os._exit(0)
            child.say()
            child.hear()

    holder = Child(hold)
    try:
        assert holder.hear() == "here"
        getattr(holder, end)()
        os.waitpid(holder.pid, 0)
        assert is_free(path)
    finally:
        os.close(writing)
        os.close(reading)


# --- what cannot be locked


def refused(path: Path, needed: bool = True) -> str:
    with pytest.raises(InputError) as caught, exclusive_lock(path, needed=needed):
        pass
    assert caught.value.code == "output-not-writable"
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("needed", [False, True])
def test_links_and_special_files_are_refused(path: Path, needed: bool) -> None:
    target = path.with_name("target")
    path.symlink_to(target)
    assert "cannot be locked" in refused(path, needed=needed)
    assert not target.exists()
    path.unlink()
    os.mkfifo(path)
    assert "not a regular file" in refused(path, needed=needed)
    path.unlink()
    path.mkdir()
    refused(path, needed=needed)
    refused(path / "missing" / "lock", needed=needed)
    refused(Path("/dev/null"), needed=needed)


def test_a_file_system_without_locks(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(descriptor: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    assert "cannot be locked (No locks available)" in refused(path)
    with exclusive_lock(path, HELD, needed=False) as is_locked:
        assert not is_locked


def test_nothing_is_left_open(path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with exclusive_lock(path), pytest.raises(InputError), exclusive_lock(path, HELD):
        pass
    refused(path / "x")
    assert len(os.listdir("/proc/self/fd")) == before


# --- files that are removed at the end


def test_a_transient_lock_leaves_no_file(path: Path) -> None:
    with exclusive_lock(path, transient=True):
        assert path.exists()
    assert not path.exists()


def test_who_waited_for_a_file_that_was_removed_locks_the_next(path: Path) -> None:
    """The file that he had opened has no name any more: whoever comes now would lock another."""
    with exclusive_lock(path, transient=True):
        waiter = Child(lambda child: hold_and_say(child, path, transient=True))
        time.sleep(0.2)
    assert waiter.hear() == "mine"
    assert path.exists()
    assert not is_free(path)
    waiter.say()
    assert waiter.status() == 0
    assert not path.exists()
