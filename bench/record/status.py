"""What nodes and the coordinator of one campaign report to each other through its folder (`bench.record.folder`).

Both sides are of one release: these files are read while a campaign runs, and no verifier ever sees them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from bench.record.fields import Count, UtcTime, encode
from bench.record.node import Device, DeviceModel
from bench.record.shapes import ChosenShape
from bench.units import utc_ns

State = Literal[
    "arrived", "preparing", "prepared", "ready", "measuring", "concluding", "done", "checked", "failed", "aborted"
]


FINAL: frozenset[State] = frozenset({"done"})  # what failed or was aborted may be started again before T0


class Published(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """T0, as the coordinator published it."""

    starts_at: UtcTime
    published_at: UtcTime
    ready: Count  # nodes
    refused: dict[str, str] = {}  # nodes that are not to measure, and why

    def __post_init__(self) -> None:
        utc_ns(self.starts_at)


class AlikeDevices(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Devices of one node that differ in nothing but the values of their identities."""

    model: DeviceModel
    device: Device  # one of them
    names: tuple[str, ...]  # of all of them, such as cuda:0


def alike_devices(devices: Iterable[tuple[DeviceModel, Device]]) -> tuple[AlikeDevices, ...]:
    """Return a node's devices, grouped by model, kind of device and which identities they have."""
    groups: dict[tuple[object, ...], list[tuple[DeviceModel, Device]]] = {}
    for model, device in devices:
        missing = tuple(value is None for value in (device.uuid, device.serial, device.die_id, device.parent))
        key = (encode(model), device.device.partition(":")[0], missing)
        groups.setdefault(key, []).append((model, device))
    return tuple(AlikeDevices(*same[0], tuple(device.device for _, device in same)) for same in groups.values())


class DoctorFinding(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one check of the doctor came upon: a row of ``configs/doctor.yaml`` with what fills its sentence."""

    check: str
    values: dict[str, str] = {}
    devices: tuple[str, ...] = ()  # none: the node itself
    counts_0: bool = False  # a device of it would count 0


class Examination(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the doctor's checks came to on one node (`bench.doctor`)."""

    findings: tuple[DoctorFinding, ...] = ()
    fine: tuple[str, ...] = ()
    unread: dict[str, str] = {}  # check -> why it cannot be read there, a clause
    absent: tuple[str, ...] = ()  # checks of what the node does not have


class NodeFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a node reports of itself before T0 (`bench.campaign.node.facts`)."""

    devices: int
    models: tuple[str, ...]
    drivers: tuple[str, ...]
    clock_source: str
    clock_uncertainty_ns: int | None
    disk_free_bytes: int
    problems: tuple[str, ...]  # each a sentence
    found: tuple[AlikeDevices, ...] = ()  # what its devices are, for whoever says what they can expect
    # Digest of an identity, salted by the campaign's challenge -> whose it is: what other nodes' are compared with.
    machine_ids: dict[str, str] = {}
    device_ids: dict[str, str] = {}
    remarks: tuple[str, ...] = ()  # as problems, and costs nothing
    unexamined: tuple[str, ...] = ()  # those of the problems that no check of the doctor is about
    examination: Examination | None = None
    tool_sha256: str | None = None  # of the harness that runs there


class ReportedSums(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a node says that it measured in one workload; collecting recomputes all of it."""

    devices: Count  # that count
    certified_mflop_s: Count
    held: Count
    void: Count  # failed ones included


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the coordinator asks of the nodes' clocks (R10): every node that it names answers once with the time."""

    round: Count
    asked_at: UtcTime  # by the coordinator's clock
    nodes: tuple[str, ...] | None  # None: all

    def __post_init__(self) -> None:
        utc_ns(self.asked_at)


class ClockAnswer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a node's clock said when it answered the coordinator's question."""

    round: Count
    answered_at: UtcTime

    def __post_init__(self) -> None:
        utc_ns(self.answered_at)


class Status(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The latest sign of life of one node."""

    node_id: str
    state: State
    at: UtcTime
    arrived_at: UtcTime
    ready_at: UtcTime | None = None  # these four are looked at as times when they are read
    ended_at: UtcTime | None = None
    clock: ClockAnswer | None = None
    facts: NodeFacts | None = None
    chosen: tuple[ChosenShape, ...] = ()  # once its operands are in place
    ready_devices: int = 0
    workload: str | None = None
    phase: str | None = None
    rate_mflop_s: Count | None = None  # of all its devices, just now
    sums: dict[str, ReportedSums] = {}  # by workload, once it is done
    message: str | None = None

    def __post_init__(self) -> None:
        for moment in (self.at, self.arrived_at, self.ready_at, self.ended_at):
            if moment is not None:
                utc_ns(moment)


class Launched(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the coordinator remembers from one launch to the next."""

    engine: str
    options: tuple[str, ...]
    reservation: str | None
    command: tuple[str, ...]
    launched_at: UtcTime
    ended_at: UtcTime | None = None
    lost: tuple[str, ...] = ()  # nodes that gave no sign of life any more
    least: dict[str, int] = {}  # pool -> how many of its nodes must be ready
    times_ns: dict[str, Count] = {}  # how long is waited for what, by the plan's names: for a coordinator elsewhere
    refused: str | None = None  # why the launch ended before T0
    unready: tuple[str, ...] = ()  # which nodes were not ready then, by reason
