"""The relay of `tests.network.switch` as tests use it, and nodes with a network namespace each."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import SystemRandom
from types import TracebackType
from typing import Any, NamedTuple

import pytest

from tests.network.switch import FABRIC

ROOT = Path(__file__).resolve().parents[2]
DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL")
MTU = 9000  # of a fabric with jumbo frames
QUEUE_BYTES = 64 * 2**20


class Shape(NamedTuple):
    """The numbers of a link."""

    rate_bytes_s: float | None = None  # of each node's egress, headers included; None: no limit
    delay_s: float = 0.0  # one way
    queue_bytes: int = QUEUE_BYTES


class Carried(NamedTuple):
    """What a link has carried since it was given its shape."""

    packets: int
    bytes: int
    dropped: int


class Relay:
    """The relay's process, as a context: its devices are gone afterwards, and where we are killed."""

    def __enter__(self) -> Relay:
        self._process = subprocess.Popen(
            [*DIES_WITH_US, sys.executable, "-m", "tests.network.switch"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            start_new_session=True,  # with a group of its own before the scheduler, which the switch raises
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._process:
            self._process.kill()

    def join(self, link: str, pid: int | None, interface: str, address: str, mtu: int = MTU) -> None:
        """Give a link a device in the namespace of a process; in this one where `pid` is None.

        Raises:
            OSError: the kernel refuses.
        """
        self._order("join", link=link, pid=pid, interface=interface, address=address, mtu=mtu)

    def shape(self, link: str, shape: Shape) -> None:
        """Set a link's numbers from now on, and count anew."""
        self._order("shape", link=link, **shape._asdict())

    def carried(self, link: str) -> Carried:
        """Return what a link has carried."""
        return Carried(**self._order("count", link=link))

    def _order(self, what: str, **values: Any) -> dict[str, Any]:
        asked, answers = self._process.stdin, self._process.stdout
        assert asked is not None
        assert answers is not None
        asked.write(json.dumps({"order": what, **values}).encode() + b"\n")
        asked.flush()
        answer: dict[str, Any] = json.loads(answers.readline() or b'{"error": "the relay has ended"}')
        if "error" in answer:
            raise OSError(answer["error"])
        return answer


class Namespace:
    """A network namespace of its own, held by a process that dies with us."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen([*DIES_WITH_US, "unshare", "--net", "sleep", "3600"])
        self.pid = self._holder.pid
        wait_for_namespace(self.pid)

    def command(self, *command: str) -> tuple[str, ...]:
        """Return a command that runs inside it and dies with us."""
        return (*DIES_WITH_US, "nsenter", f"--net=/proc/{self.pid}/ns/net", *command)

    def close(self) -> None:
        """End it; what runs inside it keeps it until it ends itself."""
        with self._holder:
            self._holder.kill()


def wait_for_namespace(pid: int) -> None:
    """Wait until a process that was just started is in a network namespace of its own."""
    ours = os.readlink("/proc/self/ns/net")
    ends = time.monotonic() + 10
    while os.readlink(f"/proc/{pid}/ns/net") == ours:
        assert time.monotonic() < ends, "a namespace was not there within 10 s"
        time.sleep(0.005)


@contextlib.contextmanager
def joined(count: int, link: str = "fabric") -> Iterator[tuple[Relay, Sequence[tuple[Namespace, str]]]]:
    """Return a relay and so many namespaces that it joins, each with its address."""
    require()
    network = random_network()
    with contextlib.ExitStack() as stack:
        relay = stack.enter_context(Relay())
        spaces = []
        for index in range(1, count + 1):
            space = Namespace()
            stack.callback(space.close)
            relay.join(link, space.pid, FABRIC, f"{network}.{index}")
            spaces.append((space, f"{network}.{index}"))
        yield relay, spaces


def random_network() -> str:
    """Return the first three numbers of a network for tests of networks (RFC 2544), which no machine uses."""
    return f"198.{SystemRandom().choice((18, 19))}.{SystemRandom().randrange(256)}"


def missing() -> str | None:
    """Return why there can be no relay here; None where there can."""
    if os.geteuid() != 0:
        return "a relay needs root, for namespaces and tun devices"
    if absent := [name for name in ("unshare", "nsenter", "setpriv") if shutil.which(name) is None]:
        return f"{', '.join(absent)} is not installed (Debian: util-linux)"
    space = Namespace()
    try:
        with Relay() as relay:
            relay.join("trial", space.pid, "trial0", "198.18.0.1")
    except OSError as error:
        return f"the kernel gives no tun device: {error}"
    finally:
        space.close()
    return None


def require() -> None:
    """Skip the test where there can be no relay, save in CI, where it fails."""
    why = missing()
    if why is not None:
        assert not os.environ.get("CI"), why
        pytest.skip(why)
