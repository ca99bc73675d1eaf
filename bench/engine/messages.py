"""What a node and its workers say to each other: typed messages, JSON on a socket pair.

Both ends are of one release and on one machine, so no message carries a version. JSON, since a worker is a process of
its own that shares no memory with its node: one that dies in the middle of a message leaves its node whole.
"""

from __future__ import annotations

from typing import Any

import msgspec

from bench.collective.orders import NetworkAnswer, NetworkOrder
from bench.devices.base import StackFacts
from bench.engine.compute import DeviceRequest
from bench.engine.measure import SampleRow
from bench.engine.progress import SoFar
from bench.engine.schedule import UtcWindow
from bench.engine.session import Result, WorkloadFacts
from bench.record import Shape, Workload
from bench.record.node import FailureCode
from bench.reference.measurements import ReferenceResult


class Setup(msgspec.Struct, tag=True, frozen=True):
    """Order to a worker: the device and the workloads that it measures. It answers `WorkerReady`."""

    request: DeviceRequest
    workloads: tuple[Workload, ...]


class Settle(msgspec.Struct, tag=True, frozen=True):
    """Order to a worker: prepare workloads anew, in its model's settled shapes. It answers `WorkerReady`."""

    shapes: tuple[tuple[Workload, Shape], ...]


class Measure(msgspec.Struct, tag=True, frozen=True):
    """Order to a worker: measure one workload in its window, then its cross-checks. It answers `WindowDone`."""

    workload: Workload
    window: UtcWindow


class Conclude(msgspec.Struct, tag=True, frozen=True):
    """Order to a worker: check the last outputs on the host and hand over everything. It answers `Concluded`."""


class MeasureReferences(msgspec.Struct, tag=True, frozen=True):
    """Order to a worker that has concluded: measure ceilings and bandwidths. It answers `ReferencesDone`."""


class Trouble(msgspec.Struct, frozen=True):
    """A failure of one workload on a worker's device."""

    workload: Workload
    code: FailureCode
    detail: str


class WorkerReady(msgspec.Struct, tag=True, frozen=True):
    """Message of a worker: operands are on the device. An answer to `Settle` replaces the one before."""

    facts: tuple[WorkloadFacts, ...]
    remarks: tuple[str, ...]  # for people who watch, such as a shape that did not fit
    troubles: tuple[Trouble, ...]
    libraries: dict[str, str]
    switches: dict[str, str]
    stack: StackFacts | None = None


class Progress(msgspec.Struct, tag=True, frozen=True):
    """Message of a worker, at intervals: the phase that it is in, its present rate, MFLOP/s, and its window so far."""

    workload: Workload
    phase: str
    rate_mflop_s: int
    so_far: SoFar | None = None


class WindowDone(msgspec.Struct, tag=True, frozen=True):
    """Message of a worker: its window of one workload is over, with the failure where there was one."""

    workload: Workload
    trouble: Trouble | None


class Concluded(msgspec.Struct, tag=True, frozen=True):
    """Message of a worker: the figures, failures, reference measurements and samples of its device."""

    results: tuple[Result, ...]
    troubles: tuple[Trouble, ...]
    references: tuple[ReferenceResult, ...]
    rows: tuple[SampleRow, ...]


class ReferencesDone(msgspec.Struct, tag=True, frozen=True):
    """Message of a worker: its measured ceilings and bandwidths."""

    references: tuple[ReferenceResult, ...]


class Ended(msgspec.Struct, tag=True, frozen=True):
    """Message of a worker: an unexpected error ends it."""

    text: str


Order = Setup | Settle | Measure | Conclude | MeasureReferences | NetworkOrder
Answer = WorkerReady | Progress | WindowDone | Concluded | ReferencesDone | NetworkAnswer | Ended
_ORDERS = msgspec.json.Decoder(Order)
_ANSWERS = msgspec.json.Decoder(Answer)


def encode(message: Any) -> bytes:
    """Return a message as JSON bytes, for the pipe between parent and worker."""
    return msgspec.json.encode(message)


def order(data: bytes) -> Order:
    """Return the order of a node to a worker that some bytes hold.

    Raises:
        msgspec.DecodeError: they hold none.
    """
    return _ORDERS.decode(data)  # type: ignore[no-any-return]


def answer(data: bytes) -> Answer:
    """Return the answer of a worker to its node that some bytes hold.

    Raises:
        msgspec.DecodeError: they hold none.
    """
    return _ANSWERS.decode(data)  # type: ignore[no-any-return]
