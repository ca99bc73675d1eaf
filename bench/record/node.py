"""The node record: everything that one node measured, as facts. Their worth is judged in ``certify.judge.rules``.

Measurements are columnar (one column a quantity, one place a device), so that the record of a node of eight devices
stays below 16 KB and every quantity keeps its full name and unit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from operator import attrgetter
from typing import Annotated, Any, Literal, NamedTuple

from msgspec import Meta

from bench.record.campaign import Campaign
from bench.record.fields import (
    Challenge,
    Choice,
    Count,
    DeviceName,
    Document,
    Name,
    Positive,
    Ppm,
    Precision,
    Sha256,
    Signed,
    Text,
    UtcTime,
    Workload,
)
from bench.record.interval import SUBWINDOWS
from bench.record.network import NetworkMeasurement, SweepPoint
from bench.record.plan import UNKNOWN_CACHE_OPERAND_BYTES, ReferenceRole, role_of
from bench.units import SOLVES

RULES_VERSION = "petaseal-rules/0.2"

Method = Literal["native", "upcast"]
CountUnit = Literal["card", "package", "die", "slice"]
Obtained = Literal["asserted", "host_attested", "device_attested"]
WarmupEnd = Literal["steady", "rate-trend", "clock-trend", "temperature-trend", "too-few-samples"]
FailureCode = Literal[
    "device-failed",
    "device-hung",
    "device-lost",
    "device-busy",
    "device-differs",
    "out-of-memory",
    "unsupported-precision",
    "wrong-product",
    "no-shape",
    "shape-not-settled",
    "late",
]


class Tool(Document, frozen=True, kw_only=True):
    """The harness that measured: its version and the digest of its own source files."""

    version: Text
    sha256: Sha256


class NodeClock(Document, frozen=True, kw_only=True):
    """How well the node's clock is known against the campaign's (R10); null where it could not be read."""

    source: Literal["self", "kernel", "chrony", "ptp", "fake"]
    uncertainty_ns: Count | None


class Environment(Document, frozen=True, kw_only=True):
    """Facts about the node that bear on the figure. No host name, address, user or environment dump."""

    os: Text
    kernel: Text
    architecture: Text
    python: Text
    virtualised: bool | None
    container: bool | None
    cpus: Count  # logical CPUs that the node's workers may use
    cpu_quota_mcpu: Count | None  # the least over all cgroups above them, in thousandths of a CPU; null: none
    memory_limit_bytes: Count | None  # likewise
    unset: tuple[Text, ...]  # environment variables that the workers did not get
    libraries: dict[Name, Text]  # name -> version or build
    switches: dict[Name, Text]  # emulation and reduced-precision switches, as found after they were set off (R1)


class DeviceModel(Document, frozen=True, kw_only=True):
    """What all devices of one model on a node share."""

    kind: Literal["cpu", "gpu", "npu"]
    vendor: Text
    model: Text
    bin: Text | None  # the grade of silicon within the model, where the vendor names one (910B1 .. 910B4)
    board_part: Text | None  # part number of the board
    simulated: bool
    plays: Name | None  # of a simulated device: the row of the ratings that it is judged by
    count_unit: CountUnit
    # For each field of the model and of its devices that identifies them and is not null: asserted (by the host, or
    # derived from it), host_attested (by the vendor's driver on the host), device_attested (signed by the device).
    obtained: dict[Name, Obtained]
    firmware: Text | None
    driver: Text | None
    library: Text | None  # management library or tool that answered: its path
    library_sha256: Sha256 | None
    memory_bytes: Count | None
    cache_bytes: Count | None  # last-level and memory-side cache (R3)
    units: Count | None  # SMs, cores or AI cores (R12)
    max_clock_mhz: Count | None
    locked_clock_mhz: Count | None  # to which the clock is locked, or the highest that applications may have
    power_limit_mw: Count | None  # that is enforced
    power_limit_default_mw: Count | None
    power_limit_max_mw: Count | None
    modes: dict[Name, Text]  # persistence, compute, mig, mig-pending, ecc, ecc-pending, confidential: as reported
    instruction_set: Name | None  # of processors: the widest that a GEMM may use (R12); null for all else
    source: Name | None  # of telemetry: the library or tool that is read; null where nothing is
    source_version: Text | None = None  # that it reports of itself; null where it does not
    # What that can report: power, clock, temperature, throttle, ecc, processes (R13)
    exposes: tuple[Name, ...]


def least_operand_bytes(model: DeviceModel) -> int:
    """Return how many bytes the operand sets of a device must have together (R3)."""
    return 2 * model.cache_bytes if model.cache_bytes else UNKNOWN_CACHE_OPERAND_BYTES[model.kind]


class Device(Document, frozen=True, kw_only=True):
    """One accelerator of the node and what identifies it. Placeholders are null (see `identifier`)."""

    device: DeviceName
    model: Annotated[int, Meta(ge=0, le=1023)]  # index into the record's models
    uuid: Text | None
    serial: Text | None
    die_id: Text | None
    pci_address: Text | None
    parent: Text | None  # uuid of the device that a slice or die belongs to
    numa_node: Count | None  # of the host, that the device is attached to


class Failure(Document, frozen=True, kw_only=True):
    """A device that gave no figure for one workload (R14)."""

    device: DeviceName
    precision: Precision
    choice: Choice
    code: FailureCode
    detail: Text | None


class Figure(NamedTuple):
    """One device's row of a `Measurement`. Times are ns; offsets are UTC relative to the opening of the core window."""

    device: str
    launches: int  # counted: SUBWINDOWS equal sub-windows
    subwindow_min_ns: int  # x_i = subwindow_min_ns + subwindow_over_ns[i] (host time)
    subwindow_over_ns: tuple[int, ...]
    sustained_mflop_s: int
    certified_mflop_s: int
    upper_mflop_s: int | None
    opened_ns: int  # start of the first whole launch in the core window
    counted_until_ns: int  # end of the last counted launch
    covered_until_ns: int  # end of the last whole launch in the core window
    event_over_ns: int | None  # how much longer they took by the device's own events than by the host's clock (R11)
    preheat_ns: int  # load before the device's own ramp slot, which is no warm-up
    first_launch_ns: int | None  # the longest first launch of the shape on this device: it loads or compiles (R4)
    threads: int | None  # of the host that computed the products; null where an accelerator did
    warmup_ns: int
    warmup_end: WarmupEnd
    duty_ppm: int  # duty cycle: the part of the counted time that was not spent on checking products
    verified_launches: int
    # The largest row error in millionths of R5's unit, and the root mean square; null: NaN, Inf or a stale product. Of
    # a solve the largest residual in millionths (R15), and null.
    row_error_ppm: int | None
    rms_error_ppm: int | None
    samples: int  # telemetry
    clock_samples: int  # readings of the clock in the window
    clock_gap_ns: int | None  # longest time of the window without one, its edges counted; null: there is none
    power_samples: int
    power_gap_ns: int | None
    power_mean_mw: int | None
    power_counter_mw: int | None  # mean by the device's own energy counter
    temperature_max_c: int | None
    clock_mean_mhz: int | None
    clock_max_mhz: int | None
    throttled_ppm: int | None
    ecc_uncorrected: int | None
    foreign_processes: int | None

    @property
    def subwindow_ns(self) -> list[int]:
        """The 30 sub-window times x_i, ns."""
        return [self.subwindow_min_ns + over for over in self.subwindow_over_ns]


Thirty = Annotated[tuple[Count, ...], Meta(min_length=SUBWINDOWS, max_length=SUBWINDOWS)]


_columns_of = attrgetter(*Figure._fields)  # all at once: a record is asked for them several times


class Measurement(Document, frozen=True, kw_only=True):
    """One Problem on the devices of a node that ran it with one shape, in one window. Columns as in `Figure`."""

    kernel: Name
    precision: Precision
    choice: Choice
    accumulate: Precision
    method: Method
    m: Positive
    n: Positive
    k: Positive
    operand_sets: Positive
    operand_bytes: Positive  # of all sets of one device together
    steal_ppm: Ppm | None  # of the time of the CPUs that may be used, in the window: taken by the hypervisor
    other_load_ppm: Ppm | None  # of that time: used by processes that are none of the measurement
    throttle_reasons: tuple[Name, ...]  # seen on any of the devices in the window
    device: Annotated[tuple[DeviceName, ...], Meta(min_length=1, max_length=1024)]
    launches: tuple[Positive, ...]
    subwindow_min_ns: tuple[Positive, ...]
    subwindow_over_ns: tuple[Thirty, ...]
    sustained_mflop_s: tuple[Count, ...]
    certified_mflop_s: tuple[Count, ...]
    upper_mflop_s: tuple[Count | None, ...]
    opened_ns: tuple[Signed, ...]
    counted_until_ns: tuple[Signed, ...]
    covered_until_ns: tuple[Signed, ...]
    event_over_ns: tuple[Signed | None, ...]
    preheat_ns: tuple[Count, ...]
    first_launch_ns: tuple[Count | None, ...]
    threads: tuple[Count | None, ...]
    warmup_ns: tuple[Count, ...]
    warmup_end: tuple[WarmupEnd, ...]
    duty_ppm: tuple[Ppm, ...]
    verified_launches: tuple[Count, ...]
    row_error_ppm: tuple[Count | None, ...]
    rms_error_ppm: tuple[Count | None, ...]
    samples: tuple[Count, ...]
    clock_samples: tuple[Count, ...]
    clock_gap_ns: tuple[Count | None, ...]
    power_samples: tuple[Count, ...]
    power_gap_ns: tuple[Count | None, ...]
    power_mean_mw: tuple[Count | None, ...]
    power_counter_mw: tuple[Count | None, ...]
    temperature_max_c: tuple[Count | None, ...]
    clock_mean_mhz: tuple[Count | None, ...]
    clock_max_mhz: tuple[Count | None, ...]
    throttled_ppm: tuple[Ppm | None, ...]
    ecc_uncorrected: tuple[Count | None, ...]
    foreign_processes: tuple[Count | None, ...]

    def __post_init__(self) -> None:
        if len(set(map(len, _columns_of(self)))) != 1:
            raise ValueError("the columns of a measurement differ in length")
        if self.choice in SOLVES and not (self.precision == "fp64" and self.m == self.n == self.k):
            raise ValueError("a solve is of FP64 and has one order: m = n = k")
        if self.choice in SOLVES and self.rms_error_ppm.count(None) != len(self.device):
            raise ValueError("a solve has a residual, and no root mean square of errors")

    @property
    def workload(self) -> Workload:
        """What was measured."""
        return Workload(self.precision, self.choice)

    @property
    def computed(self) -> Precision:
        """The precision whose silicon bounds it (`Workload.computed`)."""
        return self.workload.computed

    def figures(self) -> Iterator[Figure]:
        """Return the measurement's rows, one for each device."""
        return map(Figure._make, zip(*_columns_of(self), strict=True))


def columns(figures: Iterable[Figure | ReferenceFigure]) -> dict[str, Any]:
    """Return the columns of a `Measurement` or a `ReferenceMeasurement` from its rows."""
    rows = list(figures)
    return dict(zip(rows[0]._fields, zip(*rows, strict=True), strict=True))


class ReferenceFigure(NamedTuple):
    """One device's row of a `ReferenceMeasurement`."""

    device: str
    elapsed_ns: int
    rate_mflop_s: int | None  # of a path or a ceiling
    rate_mb_s: int | None  # of a bandwidth, 10^6 byte/s
    clock_mean_mhz: int | None
    row_error_ppm: int | None  # of a path: as in `Figure`
    rms_error_ppm: int | None
    exact: bool | None  # of the others: whether all results were what they must be to the last bit
    trouble: str | None  # why there is no rate

    def is_whole(self, role: ReferenceRole) -> bool:
        """Return whether exactly the fields that a role has are given, or nothing but a trouble."""
        given = {name for name, value in self._asdict().items() if value is not None} - {"device", "clock_mean_mhz"}
        if self.trouble is not None:
            return given == {"elapsed_ns", "trouble"} and self.elapsed_ns == 0 and self.clock_mean_mhz is None
        wanted = {"path": {"rate_mflop_s"}, "ceiling": {"rate_mflop_s", "exact"}, "bandwidth": {"rate_mb_s", "exact"}}
        if role == "path":  # an error that is null was a NaN
            given -= {"row_error_ppm", "rms_error_ppm"}
        return given == {"elapsed_ns"} | wanted[role] and self.elapsed_ns > 0


class ReferenceMeasurement(Document, frozen=True, kw_only=True):
    """What one kernel gave beside the fixed figure of a precision. It never counts.

    A path is a second way to the same product in the same shape; a ceiling is the rate at which the silicon issues; a
    bandwidth is that of its memory.
    """

    kernel: Name
    role: ReferenceRole
    precision: Precision
    device: Annotated[tuple[DeviceName, ...], Meta(min_length=1, max_length=1024)]
    elapsed_ns: tuple[Count, ...]
    rate_mflop_s: tuple[Count | None, ...]
    rate_mb_s: tuple[Count | None, ...]
    clock_mean_mhz: tuple[Count | None, ...]
    row_error_ppm: tuple[Count | None, ...]
    rms_error_ppm: tuple[Count | None, ...]
    exact: tuple[bool | None, ...]
    trouble: tuple[Text | None, ...]

    def __post_init__(self) -> None:
        if len({len(getattr(self, column)) for column in ReferenceFigure._fields}) != 1:
            raise ValueError("the columns of a companion differ in length")
        if self.role != role_of(self.kernel):
            raise ValueError(f"the kernel {self.kernel} is no {self.role}")
        if any(not f.is_whole(self.role) for f in self.figures()):
            raise ValueError(f"a figure of {self.kernel} has not exactly what a {self.role} gives, or its trouble")

    def figures(self) -> Iterator[ReferenceFigure]:
        """Return the measurement's rows, one for each device."""
        rows = zip(*(getattr(self, column) for column in ReferenceFigure._fields), strict=True)
        return map(ReferenceFigure._make, rows)


class NodeRecord(Document, frozen=True, kw_only=True):
    """Everything that one node measured in one campaign; the predicate of the document that the node signs."""

    rules: Text
    tool: Tool
    node_id: Name
    centre_id: Name | None  # null: measured without a centre's campaign
    pool: Name | None
    campaign_id: Name
    campaign_sha256: Sha256
    challenge: Challenge
    campaign: Campaign | None  # the whole of a self-issued campaign; null where the campaign is a file of its own
    profile: Name
    profile_sha256: Sha256
    signer_spki: Annotated[str, Meta(max_length=256)]  # base64 DER SubjectPublicKeyInfo of the record's signer
    starts_at: UtcTime  # T0 of the campaign, the same for all its nodes
    started_at: UtcTime  # this node's arrival
    ready_at: UtcTime  # its operands were in place
    ended_at: UtcTime
    clock: NodeClock
    environment: Environment
    models: Annotated[tuple[DeviceModel, ...], Meta(min_length=1)]
    devices: Annotated[tuple[Device, ...], Meta(min_length=1, max_length=1024)]
    measurements: tuple[Measurement, ...]
    companions: tuple[ReferenceMeasurement, ...]
    failures: tuple[Failure, ...]
    identities_replaced: bool  # a published measurement: uuid, serial and PCI address are made up
    network: tuple[NetworkMeasurement, ...] = ()  # a run and group of devices each
    sweep: tuple[SweepPoint, ...] = ()

    def __post_init__(self) -> None:
        names = [device.device for device in self.devices]
        known = set(names)
        if len(known) != len(names):
            raise ValueError("a device is named twice in one record")
        if any(device.model >= len(self.models) for device in self.devices):
            raise ValueError("a device names a model that the record does not have")
        seen = [(m.workload, name) for m in self.measurements for name in m.device]
        if len(set(seen)) != len(seen):
            raise ValueError("a device has two figures for one workload")
        failed = [(Workload(f.precision, f.choice), f.device) for f in self.failures]
        if len(set(failed)) != len(failed) or not set(failed).isdisjoint(seen):
            raise ValueError("a device failed twice in one workload, or failed and has a figure")
        references = [(c.kernel, c.precision, name) for c in self.companions for name in c.device]
        if len(set(references)) != len(references):
            raise ValueError("a device has two companions of one kernel and precision")
        if not {name for _, name in seen} | {name for _, name in failed} | {name for _, _, name in references} <= known:
            raise ValueError("a figure or failure names a device that the record does not have")
