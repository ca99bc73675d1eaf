"""What a node and its workers say to each other: typed messages, JSON on a socket pair."""

from __future__ import annotations

from typing import Any

import msgspec

from bench.devices.base import Found, StackFacts
from bench.engine.measure import Row
from bench.engine.session import Facts, Result, UtcWindow
from bench.record import Profile, Shape, Workload
from bench.record.node import FailureCode
from bench.reference.companions import Beside


class Setup(msgspec.Struct, tag=True, frozen=True):
    """To a worker: what it is for. It answers `Ready`."""

    found: Found
    profile: Profile
    challenge: str
    node_id: str
    workloads: tuple[Workload, ...]
    kernel: str | None
    threads: int  # the worker's share of the host's cores


class Settle(msgspec.Struct, tag=True, frozen=True):
    """To a worker: prepare workloads anew, in the shapes settled for its device's model. It answers `Ready`."""

    shapes: tuple[tuple[Workload, Shape], ...]


class Measure(msgspec.Struct, tag=True, frozen=True):
    """To a worker: measure one workload in its window, then the paths beside it. It answers `Measured`."""

    workload: Workload
    window: UtcWindow


class Conclude(msgspec.Struct, tag=True, frozen=True):
    """To a worker: check the last outputs on the host and hand over everything. It answers `Concluded`."""


class Accompany(msgspec.Struct, tag=True, frozen=True):
    """To a worker that has handed over: measure ceilings and bandwidths. It answers `Accompanied`."""


class Trouble(msgspec.Struct, frozen=True):
    """What went wrong with one workload."""

    workload: Workload
    code: FailureCode
    detail: str


class Ready(msgspec.Struct, tag=True, frozen=True):
    """From a worker: operands are on the device. What it answers to `Settle` replaces what it answered before."""

    facts: tuple[Facts, ...]
    remarks: tuple[str, ...]  # what somebody who watches should know, such as a shape that did not fit
    troubles: tuple[Trouble, ...]
    libraries: dict[str, str]
    switches: dict[str, str]
    stack: StackFacts | None = None


class Progress(msgspec.Struct, tag=True, frozen=True):
    """From a worker, now and then: what it does, and at which rate."""

    workload: Workload
    phase: str
    rate_mflop_s: int


class Measured(msgspec.Struct, tag=True, frozen=True):
    """From a worker: one window is over."""

    workload: Workload
    trouble: Trouble | None


class Concluded(msgspec.Struct, tag=True, frozen=True):
    """From a worker: its figures and samples."""

    results: tuple[Result, ...]
    troubles: tuple[Trouble, ...]
    beside: tuple[Beside, ...]
    rows: tuple[Row, ...]


class Accompanied(msgspec.Struct, tag=True, frozen=True):
    """From a worker: what its ceilings and bandwidths gave."""

    beside: tuple[Beside, ...]


class Ended(msgspec.Struct, tag=True, frozen=True):
    """From a worker: an error that nothing caught ends it."""

    text: str


Order = Setup | Settle | Measure | Conclude | Accompany
Answer = Ready | Progress | Measured | Concluded | Accompanied | Ended
_ORDERS = msgspec.json.Decoder(Order)
_ANSWERS = msgspec.json.Decoder(Answer)


def encode(message: Any) -> bytes:
    """Return a message's bytes."""
    return msgspec.json.encode(message)


def order(data: bytes) -> Order:
    """Return what a node tells a worker."""
    return _ORDERS.decode(data)  # type: ignore[no-any-return]


def answer(data: bytes) -> Answer:
    """Return what a worker tells its node."""
    return _ANSWERS.decode(data)  # type: ignore[no-any-return]
