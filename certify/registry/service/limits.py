"""How much one client may take: token buckets in memory, and turns for submissions. Time is passed in.

What is counted here is lost when the service ends, which costs nothing: a limit is for load, not for rights.
"""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from anyio import CapacityLimiter

from certify.registry.service.problems import LimitedError
from certify.registry.service.settings import Limits
from certify.registry.service.tokens import Token

MOST_CLIENTS = 65_536  # that are remembered; the one not heard of for longest is forgotten, which fills its bucket
TURNS = 4  # submissions of one token at once: a statement is held as a whole, and others want their turn
BEATS = 4  # heartbeats at once
THREADS = 16  # that submissions may block; reads have threads of their own


class Buckets:
    """A bucket for each client: `burst` requests at once, and `per_s` in the long run."""

    def __init__(self, per_s: float, burst: int, most: int = MOST_CLIENTS) -> None:
        self.per_s, self.burst, self.most = per_s, burst, most
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # client -> (requests left, at second)

    def take(self, client: str, now_s: float) -> None:
        """Take one request out of a client's bucket.

        Raises:
            LimitedError: it is empty.
        """
        left, at_s = self._left.get(client, (float(self.burst), now_s))
        left = min(float(self.burst), left + max(0.0, now_s - at_s) * self.per_s)
        enough = left >= 1.0
        self._left[client] = (left - 1.0 if enough else left, now_s)
        self._left.move_to_end(client)
        if len(self._left) > self.most:
            self._left.popitem(last=False)
        if not enough:
            raise LimitedError("too many requests", math.ceil((1.0 - left) / self.per_s))


def client_of(address: str | None) -> str:
    """Return whose requests are counted together: an IPv4 address, or the network of an IPv6 address."""
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return f"address {address}"
    if parsed.version == 6:  # a host has 2^64 addresses of its own
        return f"network {ipaddress.ip_network((parsed, 64), strict=False).network_address}"
    return f"address {parsed}"


@dataclass
class Gate:
    """All limits of one running service."""

    limits: Limits
    clock_s: Callable[[], float]
    threads: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(THREADS))
    beats: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(BEATS))  # no verification delays them
    writers: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(THREADS))  # of bodies onto the disk
    _turns: dict[int, CapacityLimiter] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.requests = Buckets(self.limits.requests_per_minute / 60, self.limits.burst)
        self.submissions = Buckets(self.limits.submissions_per_hour / 3600, self.limits.submissions_per_hour)

    def request(self, token: Token | None, address: str | None) -> None:
        """Count a request on its token, or without one on its address.

        Raises:
            LimitedError: there were too many.
        """
        self.requests.take(client_of(address) if token is None else f"token {token.id}", self.clock_s())

    @asynccontextmanager
    async def turn(self, token: Token, *, counted: bool = True) -> AsyncIterator[None]:
        """Wait for a turn of this token; `counted` submissions cost a verification and have their own budget.

        Raises:
            LimitedError: there were too many.
        """
        if counted:
            self.submissions.take(f"token {token.id}", self.clock_s())
        async with self._turns.setdefault(token.id, CapacityLimiter(TURNS)):
            yield
