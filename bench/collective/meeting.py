"""The store at which the ranks of a group meet: whose it is, who takes which place, who is lost.

A `TCPStore` of torch in the process of the first rank's node. It has no users and no encryption: its keys begin with a
token that only readers of the campaign's folder know.
"""

from __future__ import annotations

import secrets
import time
from datetime import timedelta
from typing import Any

import msgspec

from bench.collective.members import Member, in_order
from bench.collective.orders import Rendezvous
from bench.errors import RefusedError
from bench.units import SECOND_NS

POLL_NS = 100_000_000
CONNECT_NS = 15 * SECOND_NS  # for a store to answer
_MEMBER = msgspec.json.Decoder(Member)
_MEMBERS = msgspec.json.Decoder(tuple[Member, ...])


def hosted_store(address: str) -> Any:
    """Return a new store that this process hosts, on a free port of all its interfaces.

    Args:
        address: by which this process itself reaches it.
    """
    from torch.distributed import TCPStore

    return TCPStore(address, 0, is_master=True, wait_for_workers=False, timeout=_span(CONNECT_NS))


class Meeting:
    """The store of one group, as one rank uses it.

    Args:
        rendezvous: where it is, and of which campaign.
        hosted: the store, where this process hosts it; None to connect to it.

    Raises:
        RefusedError: `rendezvous-differs`: it is another campaign's.
        Exception: it does not answer.
    """

    def __init__(self, rendezvous: Rendezvous, hosted: Any = None) -> None:
        from torch.distributed import PrefixStore, TCPStore

        self._is_host = hosted is not None
        where = (rendezvous.address, rendezvous.port)
        self._base = hosted or TCPStore(*where, is_master=False, wait_for_workers=False, timeout=_span(CONNECT_NS))
        self._base.set_timeout(_span(CONNECT_NS))
        self.store = PrefixStore(rendezvous.token, self._base)
        # The first key of all: a rank that was sent to the wrong store sees it before it says anything.
        binding = f"{rendezvous.campaign_sha256} {rendezvous.starts_at} {rendezvous.group or ''}"
        if self._is_host:
            self.store.set("campaign", binding)
        elif (said := self.store.get("campaign").decode()) != binding:
            what = f"the store is that of another campaign or start ({said[:12]}…)"
            raise RefusedError("rendezvous-differs", what, where=rendezvous.node_id)

    def claim(self, member: Member) -> None:
        """Take a device's place among the ranks.

        Raises:
            RefusedError: `rank-taken`: another process has it.
        """
        process = secrets.token_hex(16)
        if self.store.compare_set(f"place/{member.node}/{member.place}", "", process).decode() != process:
            raise RefusedError("rank-taken", "its place among the ranks is taken by another process", where=member.name)
        self.store.append("members", msgspec.json.encode(member).decode() + "\n")

    def close(self) -> None:
        """Close the list of ranks; only its host does, once."""
        lines = self.store.get("members").splitlines() if self._has("members") else []
        members = in_order(_MEMBER.decode(line) for line in lines)
        self.store.set("ranks", msgspec.json.encode(members).decode())

    def ranks(self, until_ns: int) -> tuple[Member, ...]:
        """Wait for the list of ranks, until a monotonic time, ns, and return it.

        Raises:
            TimeoutError: the host has not closed it by then.
            Exception: the store does not answer.
        """
        while not self.store.check(["ranks"]):
            if time.monotonic_ns() > until_ns:
                raise TimeoutError("the list of ranks was not closed in time")
            time.sleep(POLL_NS / SECOND_NS)
        return _MEMBERS.decode(self.store.get("ranks"))

    def report(self, run: str, rank: int, text: str) -> None:
        """Say at the roll call of a run that a rank is there, and why it can go on no more."""
        self.store.append(f"{run}/reports", f"{rank} {' '.join(text.split())}\n")

    def roll_call(self, run: str, ranks: set[int], until_ns: int) -> dict[int, str]:
        """Return what the ranks of a run report, once all have, or until a monotonic time, ns.

        Args:
            run: whose.
            ranks: that are waited for.
            until_ns: how long.
        """
        while True:
            lines = self.store.get(f"{run}/reports").decode().splitlines() if self._has(f"{run}/reports") else []
            said = {int(rank): text for rank, _, text in (line.partition(" ") for line in lines)}
            left_ns = until_ns - time.monotonic_ns()
            if ranks <= said.keys() or left_ns < 0:
                return said
            # All ask, and each answer is as long as they are many.
            time.sleep(min(max(POLL_NS, len(ranks) * POLL_NS // 100), left_ns + 1) / SECOND_NS)

    def leave(self, rank: int, ranks: int, most_ns: int) -> None:
        """Say that a rank needs the store no more; its host waits for a while until that holds for all."""
        left = self.store.add("left", 1)
        until_ns = time.monotonic_ns() + most_ns
        while self._is_host and left < ranks and time.monotonic_ns() < until_ns:
            time.sleep(POLL_NS / SECOND_NS)
            left = self.store.add("left", 0)

    def _has(self, key: str) -> bool:
        return bool(self.store.check([key]))


def _span(duration_ns: int) -> timedelta:
    return timedelta(microseconds=duration_ns // 1000)
