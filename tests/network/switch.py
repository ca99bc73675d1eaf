"""A network in user space: one process that owns a tun device in each of several network namespaces.

IP packets go from device to device by their destination, with a fixed delay and at a limited rate. A link's senders are
limited each at their egress, as by a network card; packets to several destinations take turns there, so that a short
one never waits for more than one long one of another flow. Departures are reckoned on a clock of the egress itself: a
late wake-up of this process delays single packets and changes no rate.

Nothing of the kernel is tuned, and all devices vanish with the process. It reads orders from its standard input, a JSON
object a line, answers each with a line, and ends where the input does (`tests.network.relay` is the other side).
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import select
import socket
import stat
import struct
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TUN = Path("/dev/net/tun")
CLONE_NEWNET = 0x40000000
IFF_TUN, IFF_NO_PI, IFF_UP, IFF_RUNNING = 0x1, 0x1000, 0x1, 0x40
TUNSETIFF = 0x400454CA
SIOCGIFFLAGS, SIOCSIFFLAGS, SIOCSIFADDR, SIOCSIFNETMASK, SIOCSIFMTU = 0x8913, 0x8914, 0x8916, 0x891C, 0x8922
BATCH = 64  # packets that are read from one device before the others have their turn
FABRIC = "fabric0"  # what the device of a node on the fabric is called
DESTINATION = slice(16, 20)  # of an IPv4 header


class Link:
    """What joins the devices of one network: its numbers, and what it has carried."""

    def __init__(self) -> None:
        self.rate_bytes_s: float | None = None  # of each egress; None: without limit
        self.delay_s = 0.0
        self.queue_bytes = 64 * 2**20  # that wait at an egress: more are dropped
        self.ports: dict[bytes, Port] = {}
        self.packets = 0
        self.bytes = 0
        self.dropped = 0


class Port:
    """One device of a link: its file, and what its node sends."""

    def __init__(self, link: Link, file: int) -> None:
        self.link = link
        self.file = file
        self.flows: dict[bytes, deque[tuple[float, bytes]]] = {}  # by destination: (arrived, packet)
        self.turns: deque[bytes] = deque()  # destinations that have packets, whose turn is next first
        self.waiting_bytes = 0
        self.is_gone = False
        self.free_at = 0.0  # when the egress has sent what it had
        self.flying: deque[tuple[float, bytes]] = deque()  # (due, packet), in this order: the delay is the same for all

    def take(self) -> None:
        """Read what the node sends."""
        link = self.link
        for _ in range(BATCH):
            try:
                packet = os.read(self.file, 65536)
            except BlockingIOError:
                return
            except OSError:
                self.is_gone = True  # with its namespace
                return
            destination = packet[DESTINATION]
            if packet[0] >> 4 != 4 or destination not in link.ports:
                continue  # as a switch does with what is for nowhere
            if self.waiting_bytes + len(packet) > link.queue_bytes:
                link.dropped += 1
                continue
            flow = self.flows.setdefault(destination, deque())
            if not flow:
                self.turns.append(destination)
            flow.append((time.monotonic(), packet))
            self.waiting_bytes += len(packet)

    def depart(self, now: float) -> None:
        """Send what may go by now at the egress's rate, a packet of each destination in turn."""
        rate, delay = self.link.rate_bytes_s, self.link.delay_s
        while self.turns and self.free_at <= now:
            destination = self.turns.popleft()
            flow = self.flows[destination]
            arrived, packet = flow.popleft()
            if flow:
                self.turns.append(destination)
            self.waiting_bytes -= len(packet)
            begins = max(self.free_at, arrived)
            self.free_at = begins + (len(packet) / rate if rate else 0)
            self.flying.append((self.free_at + delay, packet))

    def arrive(self, now: float) -> None:
        """Hand over what is due."""
        link = self.link
        while self.flying and self.flying[0][0] <= now:
            _, packet = self.flying.popleft()
            port = link.ports.get(packet[DESTINATION])
            try:
                if port is not None:
                    os.write(port.file, packet)
                link.packets += 1
                link.bytes += len(packet)
            except OSError:
                link.dropped += 1  # the node and its namespace are gone, or its device is down

    def next_s(self) -> float:
        """Return when something is to be done next, on the clock of `time.monotonic`."""
        departs = self.free_at if self.turns else float("inf")
        return min(departs, self.flying[0][0] if self.flying else float("inf"))


class Switch:
    """All links, and the orders that are carried out on them."""

    def __init__(self) -> None:
        self.links: dict[str, Link] = {}
        self.ports: list[Port] = []

    def join(self, link: str, pid: int | None, interface: str, address: str, mtu: int) -> dict[str, Any]:
        """Make a device in the namespace of a process, or in this process's own."""
        joined = self.links.setdefault(link, Link())
        with inside(pid):
            port = Port(joined, tun(interface, address, mtu))
        joined.ports[socket.inet_aton(address)] = port
        self.ports.append(port)
        return {}

    def shape(self, link: str, rate_bytes_s: float | None, delay_s: float, queue_bytes: int) -> dict[str, Any]:
        """Set a link's numbers from now on, and count anew."""
        shaped = self.links[link]
        shaped.rate_bytes_s, shaped.delay_s, shaped.queue_bytes = rate_bytes_s, delay_s, queue_bytes
        shaped.packets = shaped.bytes = shaped.dropped = 0
        return {}

    def count(self, link: str) -> dict[str, Any]:
        """Return what a link has carried and dropped."""
        counted = self.links[link]
        return {"packets": counted.packets, "bytes": counted.bytes, "dropped": counted.dropped}

    def serve(self, orders: int) -> None:
        """Carry packets and carry out orders, until the file of orders ends."""
        asked = bytearray()
        while True:
            wait_s = min((port.next_s() for port in self.ports), default=float("inf")) - time.monotonic()
            # select, whose timeout has microseconds where that of epoll has milliseconds.
            files = [orders, *(port.file for port in self.ports)]
            ready, _, _ = select.select(files, [], [], None if wait_s == float("inf") else max(0, wait_s))
            for port in self.ports:
                if port.file in ready:
                    port.take()
            self.drop_gone()
            now = time.monotonic()
            for port in self.ports:
                port.depart(now)
                port.arrive(now)
            if orders in ready:
                read = os.read(orders, 65536)
                if not read:
                    return
                asked += read
                *lines, rest = asked.split(b"\n")
                asked = bytearray(rest)
                for line in lines:
                    print(json.dumps(self.answer(json.loads(line))), flush=True)

    def drop_gone(self) -> None:
        """Forget devices whose namespace has ended."""
        for port in [port for port in self.ports if port.is_gone]:
            os.close(port.file)
            self.ports.remove(port)
            for address in [key for key, value in port.link.ports.items() if value is port]:
                del port.link.ports[address]

    def answer(self, order: dict[str, Any]) -> dict[str, Any]:
        """Carry out one order; an error is an answer too."""
        what = order.pop("order")
        try:
            answer: dict[str, Any] = getattr(self, what)(**order)
        except OSError as error:
            return {"error": f"{what}: {error}"}
        return answer


@contextlib.contextmanager
def inside(pid: int | None) -> Iterator[None]:
    """Enter the network namespace of a process, and come back."""
    if pid is None:
        yield
        return
    with Path("/proc/self/ns/net").open() as here, Path(f"/proc/{pid}/ns/net").open() as there:
        enter(there.fileno())
        try:
            yield
        finally:
            enter(here.fileno())


def enter(namespace: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"cannot enter a network namespace: {os.strerror(code)}")


def tun(interface: str, address: str, mtu: int) -> int:
    """Return the file of a new tun device that is up, with an address of a network of 256; loopback is up too."""
    if not TUN.exists():
        TUN.parent.mkdir(exist_ok=True)
        os.mknod(TUN, stat.S_IFCHR | 0o600, os.makedev(10, 200))
    file = os.open(TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(file, TUNSETIFF, request(interface, struct.pack("=H", IFF_TUN | IFF_NO_PI)))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCSIFADDR, request(interface, internet(address)))
        fcntl.ioctl(control, SIOCSIFNETMASK, request(interface, internet("255.255.255.0")))
        fcntl.ioctl(control, SIOCSIFMTU, request(interface, struct.pack("=i", mtu)))
        for name in ("lo", interface):
            answer = fcntl.ioctl(control, SIOCGIFFLAGS, request(name, b""))
            (flags,) = struct.unpack_from("=H", answer, 16)
            fcntl.ioctl(control, SIOCSIFFLAGS, request(name, struct.pack("=H", flags | IFF_UP | IFF_RUNNING)))
    return file


def unplug(interface: str) -> None:
    """Take a device of this namespace down, as when its cable is pulled: nobody is told, and nothing more goes out."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCSIFFLAGS, request(interface, struct.pack("=H", 0)))


def request(interface: str, value: bytes) -> bytes:
    """Return a `struct ifreq`: a device's name of 16 bytes, and 24 bytes that depend on what is asked."""
    return struct.pack("=16s24s", interface.encode(), value)


def internet(address: str) -> bytes:
    """Return a `struct sockaddr_in`."""
    return struct.pack("=HH4s", socket.AF_INET, 0, socket.inet_aton(address))


def go_first() -> None:
    """Have the scheduler prefer this process: a busy host shall not add to the delay."""
    with contextlib.suppress(OSError):  # where it may not
        os.setpriority(os.PRIO_PROCESS, 0, -15)
        Path("/proc/self/autogroup").write_text("-15")


if __name__ == "__main__":
    go_first()
    Switch().serve(sys.stdin.fileno())
