"""The relay does to packets what it says: delay, rate and queue, and it leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.network.relay import ROOT, Namespace, Relay, Shape, joined, require
from tests.network.switch import inside

Spaces = Sequence[tuple[Namespace, str]]
PORT = 7
OWNER = """\
import time
from tests.network.relay import joined
with joined(2) as (relay, spaces):
    print(relay._process.pid, *(space.pid for space, _ in spaces), flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def network() -> Iterator[tuple[Relay, Spaces]]:
    """Return a relay of three namespaces."""
    with joined(3) as made:
        yield made


@contextlib.contextmanager
def datagrams(network: tuple[Relay, Spaces]) -> Iterator[list[socket.socket]]:
    """Yield a UDP socket in each namespace, bound to its address."""
    with contextlib.ExitStack() as stack:
        made = []
        for space, address in network[1]:
            with inside(space.pid):
                one = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            one.bind((address, PORT))
            one.settimeout(5)
            made.append(one)
        yield made


def test_a_packet_takes_the_delay_and_hardly_more(network: tuple[Relay, Spaces]) -> None:
    relay, spaces = network
    relay.shape("fabric", Shape(delay_s=0.02))
    took = []
    with datagrams(network) as (near, far, _):
        for _ in range(5):
            began = time.monotonic()
            near.sendto(b"?", (spaces[1][1], PORT))
            far.sendto(far.recvfrom(16)[0], (spaces[0][1], PORT))
            near.recv(16)
            took.append(time.monotonic() - began)
    assert min(took) >= 0.04
    assert sorted(took)[1] < 0.05


def test_an_egress_keeps_its_rate_towards_several_and_a_short_packet_has_its_turn(
    network: tuple[Relay, Spaces],
) -> None:
    relay, spaces = network
    relay.shape("fabric", Shape(rate_bytes_s=2e6))
    with datagrams(network) as (near, far, third):
        for one in (far, third):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**21)
        began = time.monotonic()
        for _ in range(100):
            near.sendto(bytes(8000 - 28), (spaces[1][1], PORT))
        near.sendto(b"short", (spaces[2][1], PORT))
        assert third.recv(16) == b"short"
        overtook = time.monotonic() - began
        for _ in range(100):
            assert len(far.recv(9000)) == 8000 - 28
        took = time.monotonic() - began
    assert 0.39 < took < 0.6  # 100 packets of 8,000 bytes at 2 MB/s
    assert overtook < took / 2
    assert relay.carried("fabric") == (101, 100 * 8000 + 33, 0)


def test_a_full_queue_drops_what_comes_last(network: tuple[Relay, Spaces]) -> None:
    relay, spaces = network
    relay.shape("fabric", Shape(rate_bytes_s=1e5, queue_bytes=10_000))
    with datagrams(network) as (near, far, _):
        for index in range(60):
            near.sendto(index.to_bytes(2, "big") + bytes(970), (spaces[1][1], PORT))
        arrived = [int.from_bytes(far.recv(2000)[:2], "big") for _ in range(10)]
        assert arrived == list(range(10))
        deadline = time.monotonic() + 5
        while sum(relay.carried("fabric")[::2]) < 60:  # all are carried or dropped
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert relay.carried("fabric").dropped >= 45


def test_nothing_is_left_of_a_relay_whose_owner_is_killed() -> None:
    require()
    with subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, cwd=ROOT) as owner:
        assert owner.stdout is not None
        pids = owner.stdout.readline().split()
        assert len(pids) == 3
        namespaces = {os.readlink(f"/proc/{int(pid)}/ns/net") for pid in pids[1:]}
        owner.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{int(pid)}").exists() for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert not namespaces & set(map(namespace_of, Path("/proc").glob("[0-9]*")))


def namespace_of(process: Path) -> str | None:
    with contextlib.suppress(OSError):
        return os.readlink(process / "ns/net")
    return None
