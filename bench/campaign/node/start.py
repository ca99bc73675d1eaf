"""The agreed start: how a node waits for the shapes and for T0, which the coordinator publishes in the folder."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from random import Random
from typing import TypeVar

import msgspec

from bench.campaign.node.reporter import POLL_NS, Reporter
from bench.campaign.node.task import NodeTask
from bench.clock import Clock
from bench.collective.orders import Rendezvous
from bench.errors import InputError, RefusedError
from bench.record.fields import encode
from bench.record.files import write_atomic
from bench.record.folder import UNREADABLE
from bench.record.reading import read_bytes
from bench.record.shapes import ChosenShape, SettledShape
from bench.units import SECOND_NS, utc_ns, utc_text

RENDEZVOUS_BYTES = 4096
PATIENCE_NS = 600 * SECOND_NS  # after the campaign's last possible T0


T = TypeVar("T")


class AgreedStart:
    """Shapes and T0 as the coordinator publishes them in the folder (`bench.engine.schedule.CampaignStart`)."""

    def __init__(self, part: NodeTask, reporter: Reporter, clock: Clock) -> None:
        self._part = part
        self._reporter = reporter
        self._clock = clock
        self._looked_ns = -POLL_NS
        self._known_ns: int | None = None
        self._refused: str | None = None

    def known_ns(self) -> int | None:
        """Return T0, UTC ns, once it is published; looks at most once a second."""
        now = self._clock.monotonic_ns()
        # Thousands of nodes look at one file: more often than once a second would be a load on the file server.
        if self._known_ns is None and now - self._looked_ns >= POLL_NS:
            self._looked_ns = now
            published = self._part.folder.started()
            self._known_ns = None if published is None else utc_ns(published.starts_at)
            self._refused = None if published is None else published.refused.get(self._part.node.node_id)
            if self._known_ns is not None:
                self._reporter.start(self._known_ns + self._part.campaign.windows[0].opens_ns)
        return self._known_ns

    def settle(self, chosen: tuple[ChosenShape, ...]) -> tuple[SettledShape, ...]:
        """Report what devices chose and wait for the shapes of the campaign; once T0 is agreed there are no others.

        Raises:
            InputError: `campaign-window-passed`.
        """
        self._reporter.set(state="prepared", chosen=chosen)

        def shapes() -> tuple[SettledShape, ...] | None:
            settled = self._part.folder.settled()
            return settled.shapes if settled is not None else () if self.known_ns() is not None else None

        return self._published(shapes)

    def wait_ns(self, devices: int) -> int:
        """Report ready and wait for T0.

        Raises:
            InputError: `campaign-window-passed`.
            RefusedError: `duplicate-device`: another node reports a device of this one; `clock-differs`.
        """
        self._reporter.set(state="ready", ready_at=utc_text(self._clock.utc_ns()), ready_devices=devices)
        return self._published(self.known_ns)

    def meet(self, group: str | None, offered: Rendezvous | None) -> Rendezvous | None:
        """Return where the ranks of a group meet, as the folder says; what is offered first stands there for ever."""
        file = self._part.folder.rendezvous_file(group)
        if offered is not None:
            with contextlib.suppress(InputError):  # another node was first, or the folder takes nothing just now
                write_atomic(file, encode(offered) + b"\n", mode=0o600, new=True)
        try:
            return msgspec.json.decode(read_bytes(file, RENDEZVOUS_BYTES), type=Rendezvous)
        except (InputError, OSError, *UNREADABLE):  # it is not there yet, or the folder is away for a while
            return None

    def _published(self, look: Callable[[], T | None]) -> T:
        jitter = Random(self._part.node.node_id)  # noqa: S311 (so that thousands of nodes do not look at one moment)
        last_ns = utc_ns(self._part.campaign.starts_until) + PATIENCE_NS
        while (known := look()) is None:
            if self._clock.utc_ns() > last_ns:
                what = f"was to start until {self._part.campaign.starts_until}, and nobody started it"
                raise InputError("campaign-window-passed", what, where=self._part.campaign.campaign_id)
            self._clock.sleep_ns(int(POLL_NS * (0.5 + jitter.random())))
        if self._refused is not None:
            what, _, code = self._refused.removesuffix("]").rpartition(" [")
            fix = "petaseal campaign check names all such nodes" if code == "duplicate-device" else None
            raise RefusedError(code, what, where=self._part.node.name, fix=fix)
        return known
