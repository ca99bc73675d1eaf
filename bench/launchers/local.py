"""This machine as an engine: one process for each node of the gang, for one node, for fakes and for tests.

A node is measured where it is: several nodes here are simulated ones, or share devices, which counting refuses.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.errors import InputError
from bench.launchers.base import Gang, GangState, LogEnd
from bench.launchers.logs import last_line, opened
from bench.record import read_bytes, replacing
from bench.record.roster import EngineNode

PID_BYTES = 256
GRACE_S = 5.0  # from SIGTERM to SIGKILL
THIS = "localhost"


class LocalLauncher:
    """Starts processes in sessions of their own, and finds them by files with their number and birth."""

    def discover(self, partitions: Sequence[str]) -> list[EngineNode]:
        """Return this machine."""
        return [EngineNode(THIS, None, None, None, None)]

    def submit(self, gang: Gang) -> None:
        """Start the command once for each node.

        Raises:
            InputError: it cannot be started.
        """
        gang.log_dir.mkdir(parents=True, exist_ok=True)
        for node in gang.nodes:
            _start(gang, node)

    def state(self, gang: Gang) -> GangState:
        """Return whether any of its processes runs."""
        known = [file for node in gang.nodes if (file := _pid_file(gang, node)).exists()]
        if not known:
            return GangState("absent")
        alive = [file for file in known if _alive(file) is not None]
        lost = tuple(node for node in gang.nodes if _alive(_pid_file(gang, node)) is None)
        return GangState("running", lost=lost) if alive else GangState("ended", reason="its processes have ended")

    def retry(self, gang: Gang, nodes: Sequence[str]) -> None:
        """Start the command once more for some nodes."""
        for node in nodes:
            _start(gang, node)

    def cancel(self, gang: Gang) -> None:
        """End its processes with all that they started."""
        files = gang.log_dir.glob(f"{gang.name}.*.pid")  # whichever nodes: not all may be known any more
        alive = [pid for file in files if (pid := _alive(file)) is not None]
        for pid in alive:
            _signal(pid, signal.SIGTERM)
        deadline = time.monotonic() + GRACE_S
        while time.monotonic() < deadline and any(_runs(pid) for pid in alive):
            time.sleep(0.05)
        for pid in alive:
            _signal(pid, signal.SIGKILL)

    def log_ends(self, gang: Gang, state: GangState, nodes: Sequence[str]) -> dict[str, LogEnd]:
        """Return the end of the log of each of some nodes whose process has ended."""
        ended = [node for node in nodes if _pid_file(gang, node).exists() and _alive(_pid_file(gang, node)) is None]
        return {node: LogEnd(last_line(gang.log_dir / f"{gang.name}.{node}.log"), True) for node in ended}

    def launch_words(self, gang: Gang) -> str | None:
        """Return nothing: a process here is started without a launch of its own."""
        return None

    def describe(self, gang: Gang) -> list[str]:
        """Return the command lines."""
        return [shlex.join((*gang.command, "--node", node)) for node in gang.nodes]


def _start(gang: Gang, node: str) -> None:
    if gang.options or gang.reservation:
        raise InputError("usage", "takes no options and no reservation", where="--on local")
    file = _pid_file(gang, node)
    if _alive(file) is not None:
        return
    try:
        with opened(gang.log_dir / f"{gang.name}.{node}.log") as log:
            process = subprocess.Popen(
                [*gang.command, "--node", node],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
    except OSError as error:
        raise InputError("engine-refused", f"cannot be started ({error.strerror})", where=gang.command[0]) from None
    _children.append(process)
    try:
        with replacing(file, mode=None, flush="nothing") as out:
            out.write(f"{process.pid} {_birth(process.pid)}\n".encode("ascii"))
    except BaseException:  # what nobody can find again must not run
        _signal(process.pid, signal.SIGKILL)
        raise


_children: list[subprocess.Popen[bytes]] = []  # kept so that those which have ended are reaped


def _pid_file(gang: Gang, node: str) -> Path:
    return gang.log_dir / f"{gang.name}.{node}.pid"


def _alive(file: Path) -> int | None:
    """Return the process that a file names, if it still runs and is that one."""
    for process in _children:
        process.poll()
    try:
        pid, birth = read_bytes(file, PID_BYTES).decode("ascii").split()
    except (InputError, ValueError):
        return None
    return int(pid) if _birth(int(pid)) == birth and _runs(int(pid)) else None


def _stat(pid: int) -> list[str]:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()  # the name before it may hold anything


def _birth(pid: int) -> str:
    """Return when a process began, in ticks since boot: a number that is used again has another."""
    fields = _stat(pid)
    return fields[19] if len(fields) > 19 else "0"


def _runs(pid: int) -> bool:
    for process in _children:
        process.poll()
    # A zombie has ended: only its parent has not asked for its status yet.
    fields = _stat(pid)
    return bool(fields) and fields[0] not in ("Z", "X")


def _signal(pid: int, number: int) -> None:
    for target in _group(pid):
        with contextlib.suppress(OSError):
            os.killpg(target, number)


def _group(pid: int) -> Iterator[int]:
    with contextlib.suppress(OSError):
        yield os.getpgid(pid)
