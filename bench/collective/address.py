"""By which address other nodes reach this one: that of the interface that routes to others, or of a named one."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections.abc import Mapping
from typing import NamedTuple

from bench.errors import InputError

INTERFACE_VARIABLES = ("PETASEAL_NETWORK_INTERFACE", "GLOO_SOCKET_IFNAME")
SIOCGIFADDR = 0x8915
LOOPBACK = "lo"
ELSEWHERE = ("192.0.2.1", 9)  # of a documentation's network: nothing is sent there


class Interface(NamedTuple):
    """A network interface of this node and its IPv4 address."""

    name: str
    address: str


def interface_here(environ: Mapping[str, str] = os.environ) -> Interface:
    """Return the interface by which others reach this node.

    Raises:
        InputError: `network-interface-unknown`: the named one is not there or has no IPv4 address.
    """
    known = interfaces()
    for variable in INTERFACE_VARIABLES:
        # Gloo takes a list of names; one is enough for the address.
        if name := environ.get(variable, "").partition(",")[0].strip():
            if name not in known:
                fix = f"name one of {', '.join(sorted(known)) or 'none'}"
                what = f"names {name!r}, which is no interface of this node with an IPv4 address"
                raise InputError("network-interface-unknown", what, where=variable, fix=fix)
            return Interface(name, known[name])
    routed = routed_address()
    for name, address in known.items():
        if address == routed:
            return Interface(name, address)
    # Without a way to everywhere, such as in a network of its own: the first that is not the loopback.
    named = sorted(known, key=lambda name: (name == LOOPBACK, name))
    return Interface(named[0], known[named[0]]) if named else Interface(LOOPBACK, "127.0.0.1")


def routed_address() -> str | None:
    """Return the address from which this node would send to others; None where it has no way to them."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(ELSEWHERE)
        except OSError:
            return None
        return str(probe.getsockname()[0])


def interfaces() -> dict[str, str]:
    """Return this node's interfaces that have an IPv4 address, each with its first one."""
    addresses = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(asked.fileno(), SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
            except OSError:  # it has none
                continue
            addresses[name] = socket.inet_ntoa(answer[20:24])
    return addresses
