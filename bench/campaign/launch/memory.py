"""What a launch leaves of itself in the campaign's folder: for whoever looks from another window, and for the next."""

from __future__ import annotations

from collections.abc import Callable, Collection

import msgspec

from bench.campaign.launch.nodes import KnownNodes
from bench.campaign.launch.plan import LaunchPlan, launched_by
from bench.clock import Clock
from bench.errors import InputError
from bench.record.folder import Folder
from bench.record.status import Launched
from bench.units import utc_text


class LaunchMemory:
    """The launch that the folder remembers (``launch.json``), as this process goes on with it.

    Args:
        folder: of the campaign.
        plan: of this launch.
        nodes: what is known of them.
        clock: this machine's clocks.
        remark: called with what happened, a sentence each.
        knows_engine: whether this process can ask the engine; else it keeps what another has written of it.
    """

    def __init__(
        self,
        folder: Folder,
        plan: LaunchPlan,
        nodes: KnownNodes,
        clock: Clock,
        remark: Callable[[str], None],
        knows_engine: bool,
    ) -> None:
        self._folder, self._plan, self._nodes, self._clock, self._remark = folder, plan, nodes, clock, remark
        self._knows_engine = knows_engine
        self._launched = self._new(None)

    def begin(self) -> None:
        """Go on with a launch that has not ended, with the nodes that it took as lost; else begin another."""
        before = self._folder.launched()
        if before is not None and before.ended_at is None:
            self._nodes.lost |= set(before.lost)  # said before: a remark on each would come again at every start
            self._launched = before
        else:
            self._launched = self._new(before)
        self._folder.write_launched(self._launched)

    def write(self, ended_at: str | None = None, refused: str | None = None, unready: Collection[str] = ()) -> None:
        """Remember which nodes are lost, and how the launch ended.

        Args:
            ended_at: UTC; None while it goes on.
            refused: why it ended before T0.
            unready: which nodes were not ready then, by reason.

        Raises:
            InputError: `output-not-writable`, of a launch that ends before T0: nobody else would say why.
        """
        done = {node for node, status in self._nodes.known.items() if status.state == "done"}
        lost = tuple(sorted(self._nodes.lost - done))
        self._launched = msgspec.structs.replace(
            self._launched, ended_at=ended_at, lost=lost, refused=refused, unready=tuple(unready)
        )
        try:
            self._folder.write_launched(self._launched)
        except InputError as error:  # the nodes' own part goes on
            if refused is not None:
                raise
            self._remark(f"what the launch knows cannot be remembered: {error}")

    def _new(self, before: Launched | None) -> Launched:
        now = utc_text(self._clock.utc_ns())
        if not self._knows_engine and before is not None:
            return msgspec.structs.replace(before, launched_at=now, ended_at=None, lost=(), refused=None, unready=())
        return launched_by(self._plan, now)
