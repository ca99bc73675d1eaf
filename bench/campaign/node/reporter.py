"""A node's status in the shared folder, written at every change and at each heartbeat by a thread of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import msgspec

from bench.campaign.node.task import NodeTask
from bench.clock import Clock
from bench.errors import InputError
from bench.record import Campaign, NodeRecord, Workload
from bench.record.folder import read_question
from bench.record.judged import Judged
from bench.record.roster import Roster, RosterNode
from bench.record.status import ClockAnswer, Question, ReportedSums, State, Status
from bench.units import SECOND_NS, utc_text

if TYPE_CHECKING:
    from bench.engine.workers import Event


POLL_NS = SECOND_NS  # for shapes, T0 and the end: one look at one file


class Reporter:
    """Writes this node's status at each change and heartbeat, and sees at a heartbeat whether the campaign is over."""

    def __init__(self, part: NodeTask, clock: Clock) -> None:
        now = utc_text(clock.utc_ns())
        self._part = part
        self._clock = clock
        self._lock = threading.Lock()
        self._status = Status(node_id=part.node.node_id, state="arrived", at=now, arrived_at=now)
        self._rates: dict[str, int] = {}
        self._reported_ns = 0
        self._first_opens_ns: int | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="heartbeat", daemon=True)

    def __enter__(self) -> Reporter:
        self.set()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join(timeout=5)

    def set(self, **changes: Any) -> None:
        """Change the status and write it at once; where the folder cannot be written, the next heartbeat writes it."""
        with self._lock:
            self._status = msgspec.structs.replace(self._status, at=utc_text(self._clock.utc_ns()), **changes)
            self._reported_ns = self._clock.monotonic_ns()
            with contextlib.suppress(InputError):
                self._part.folder.write_status(self._status)

    def take(self, event: Event) -> None:
        """Take an event of the measurement; rates travel with the next heartbeat."""
        if event.what == "start":
            self._change("measuring")
        elif event.what == "concluding":
            self._change("concluding")
        elif event.what == "network":
            self.set(phase=event.text)
        elif event.what == "failed":
            self.set(message=f"{event.device} {event.workload}: {event.text}")
        elif event.rate_mflop_s is not None and event.device is not None:
            with self._lock:
                self._rates[event.device] = event.rate_mflop_s
                self._status = msgspec.structs.replace(
                    self._status,
                    workload=event.workload,
                    phase=event.what,
                    rate_mflop_s=sum(self._rates.values()),
                )

    def start(self, first_opens_ns: int) -> None:
        """Take note of when the first window opens, UTC ns: from then on the clock is asked for no more."""
        self._first_opens_ns = first_opens_ns

    def await_question(self, before: Question | None, most_ns: int) -> None:
        """Let some time pass at most until the coordinator has asked what this node's clock says, if one is there.

        Args:
            before: what stood there before this node was prepared, which may be of a coordinator that is gone.
            most_ns: how long to wait.
        """
        if before is None:
            return
        until_ns = self._clock.monotonic_ns() + most_ns
        while self._clock.monotonic_ns() < until_ns:
            answer = self._status.clock
            if answer is not None and answer.round != before.round:
                return
            self._clock.sleep_ns(POLL_NS // 10)

    def _answer(self) -> None:
        """Answer the coordinator's question after this node's clock, each round once."""
        if self._first_opens_ns is not None and self._clock.utc_ns() >= self._first_opens_ns:
            return
        asked, before = read_question(self._part.folder), self._status.clock
        if asked is None or (asked.nodes is not None and self._status.node_id not in asked.nodes):
            return
        if before is None or before.round != asked.round:
            self.set(clock=ClockAnswer(asked.round, utc_text(self._clock.utc_ns())))

    def _change(self, state: State) -> None:
        if self._status.state != state:
            self.set(state=state)

    def _watch(self) -> None:
        """Tell of this node and its clock until it ends; end it when the campaign is aborted."""
        aborted = False
        # A thread of its own: the main one is in a kernel launch or a library for seconds, and the coordinator takes
        # silence as loss.
        while not self._ended.wait(POLL_NS / SECOND_NS):
            with contextlib.suppress(OSError):  # the shared folder may be away for a while
                aborted = self._part.folder.aborted()
            if aborted:
                # The main thread alone can end the workers and leave no half record; it listens to this signal already.
                os.kill(os.getpid(), signal.SIGTERM)
                return
            self._answer()
            if self._clock.monotonic_ns() - self._reported_ns >= self._part.roster.heartbeat_ns:
                self.set()


def sums_of(
    record: NodeRecord, judged: Judged, campaign: Campaign, node: RosterNode, roster: Roster
) -> dict[str, ReportedSums]:
    """Return what a record counts by workload, as far as its own node can judge it.

    A mixed node measures on all its devices what each of its pools counts; what counts is only what the device's own
    pool does.
    """
    counted = {pool.pool: pool.workload for pool in roster.pools if pool.pool in node.pools}
    sums_by_workload: dict[str, list[int]] = {}

    def of(device: str, workload: Workload) -> list[int] | None:
        counted_there, name = counted.get(campaign.pool_of(node.node_id, device) or ""), str(workload)
        counts_elsewhere = name != counted_there and name in counted.values()
        return None if counts_elsewhere else sums_by_workload.setdefault(name, [0, 0, 0, 0])

    for measurement in record.measurements:
        for figure in measurement.figures():
            if (sums := of(figure.device, measurement.workload)) is None:
                continue
            effects = judged[figure.device, str(measurement.workload)].effects.values()
            if "void" in effects:
                sums[3] += 1
            elif "hold" in effects:
                sums[2] += 1
            else:
                sums[0] += 1
                sums[1] += figure.certified_mflop_s
    for failure in record.failures:
        if (sums := of(failure.device, Workload(failure.precision, failure.choice))) is not None:
            sums[3] += 1
    return {workload: ReportedSums(*sums) for workload, sums in sums_by_workload.items()}
