"""One figure with everything that the run rules look at: the values that the rules are functions of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

from bench.record import (
    GRADES,
    MINIMUM_WINDOW_NS,
    Campaign,
    Choice,
    DeviceModel,
    Figure,
    Grade,
    Measurement,
    NodeRecord,
    Precision,
    Profile,
    ReferenceFigure,
    ReferenceMeasurement,
    Window,
    Workload,
)
from bench.units import SOLVES, utc_ns
from certify.judge.ceilings import CeilingFacts, Ceilings, ModelLimits, RateLimit, Step
from certify.judge.parts import RatedModel, Whole
from certify.policy.rating import plain

SECOND_NS = 10**9
SOLVE_RESIDUAL_PPM = 16 * 10**6  # R15: a residual is below it
SELF_ISSUED_CAP: Grade = "standard"  # docs/formats.md
# The vendor of each kind of device that is one vendor's (`bench.devices`): profiles speak of kinds, ratings of vendors.
VENDORS = {
    "cuda": "NVIDIA",
    "rocm": "AMD",
    "npu": "Huawei",
    "mlu": "Cambricon",
    "dcu": "Hygon",
    "musa": "Moore Threads",
    "maca": "MetaX",
    "corex": "Iluvatar CoreX",
    "kunlun": "Kunlunxin",
}
KINDS = {plain(vendor): name for name, vendor in VENDORS.items()}
Codes = tuple[str, ...]


class ResidualLimits(NamedTuple):
    """R5's bounds in millionths of its unit: u for 16-bit outputs, u(sqrt k + sqrt n) for FP32 and FP64.

    A solve has a residual and no root mean square: `has_rms` is False, and the least is that of the residual.
    """

    row_ppm: int
    rms_ppm: int  # above: suspicious
    rms_void_ppm: int  # above: void
    rms_least_ppm: int  # below: no rounding of random products is that small; constants or zeros were multiplied
    has_rms: bool = True


class Setting(NamedTuple):
    """What the figures of one measurement on one device model share. Made by `setting_of`."""

    record: NodeRecord
    measurement: Measurement
    model: DeviceModel
    row: RatedModel
    highest_mflop_s: int | None  # the table's highest rating of the precision (R12)
    limits_of_model: ModelLimits  # of an accelerator that is no part of a unit that is judged as a sum (R12)
    profile: Profile
    self_issued: bool
    window: Window | None  # the campaign's for the workload, None where the record cannot have run in one
    slot_ns: int  # the node's ramp slot
    wanted: Grade  # of the campaign's profile, with the cap on self-issued campaigns
    limits: ResidualLimits
    reference_kernels: Mapping[str, Codes]  # that the profile wants measured, by kind of device
    larger: tuple[int, ...]  # m n k of the registered shapes that are larger
    places: Mapping[str, int]  # of the node's devices, in their order (R10)
    timed: frozenset[str]  # kinds of device that gave event times somewhere in the record
    unreadable: bool  # some switch could not be read (R1)
    codes: Codes  # of the rules that look at nothing else


# One of these is made for each figure of a centre: as a tuple it would take five times as long.
class Case(msgspec.Struct, frozen=True, gc=False):
    """One device's figure with everything that the rules look at."""

    setting: Setting
    figure: Figure
    elapsed_ns: int  # S: the host time of all counted launches
    grade: Grade | None  # what the numbers reach (R7), None below all grades
    other_rates: Mapping[Precision, int]  # sustained MFLOP/s of the same device by precision (R12)
    references: Sequence[Reference]  # what was measured beside the device's fixed figure of this precision
    facts: CeilingFacts  # what R12 looks at
    ceilings: Ceilings  # all limits of R12 that exist for it alone
    whole: Whole | None  # of a part: all parts of its unit together


class MeasurementPlan(NamedTuple):
    """How the campaign said that everything is measured."""

    campaign: Campaign
    profile: Profile


class Reference(NamedTuple):
    """One reference measurement on one device: its result, and what it was."""

    measurement: ReferenceMeasurement
    figure: ReferenceFigure


def references_of(record: NodeRecord) -> dict[tuple[str, Precision], list[Reference]]:
    """Return the reference measurements of a record, by device and precision."""
    by_device: dict[tuple[str, Precision], list[Reference]] = {}
    for reference in record.companions:
        for figure in reference.figures():
            by_device.setdefault((figure.device, reference.precision), []).append(Reference(reference, figure))
    return by_device


class Judgement(msgspec.Struct, frozen=True, gc=False):
    """What all rules make of one figure."""

    codes: list[str]
    grade: Grade | None  # what the numbers reach (R7)
    step: Step  # R12: the strongest evidence that bounds it
    limit: RateLimit | None  # R12: the lowest limit that exists for it, by itself or as its share of a whole unit's


def window_of(record: NodeRecord, campaign: Campaign, workload: Workload) -> Window | None:
    """Return a campaign's window for a workload, None where the record cannot have run in one."""
    starts_ns = utc_ns(record.starts_at)
    from_ns, until_ns = utc_ns(record.ready_at) - starts_ns, utc_ns(record.ended_at) - starts_ns
    for window in campaign.windows:
        if window.workload == workload and from_ns <= window.opens_ns and window.closes_ns <= until_ns:
            return window
    return None


def capped(grade: Grade, self_issued: bool) -> Grade:
    """Return a grade with the cap on self-issued campaigns (docs/formats.md)."""
    return min(grade, SELF_ISSUED_CAP, key=GRADES.index) if self_issued else grade


def grade_of(elapsed_ns: int, wanted: Grade) -> Grade | None:
    """Return the grade that so much counted time reaches (R7), and none above that of the campaign's profile.

    Args:
        elapsed_ns: all counted time.
        wanted: the profile's grade, with the cap on self-issued campaigns: a profile of a lower grade demands less than
            its window alone shows.
    """
    for grade, minimum in MINIMUM_WINDOW_NS.items():
        if elapsed_ns >= minimum:
            return grade if grade == wanted else min(grade, wanted, key=GRADES.index)
    return None


def kind_of(device: str) -> str:
    """Return the kind of back end that a device's name begins with."""
    return device.partition(":")[0]


class ProductErrors(Protocol):
    """What has the largest errors of products: a figure, a reference's, or a measurement that goes on."""

    @property
    def row_error_ppm(self) -> int | None:
        """The largest error of a row; None for NaN, Inf or a stale product."""

    @property
    def rms_error_ppm(self) -> int | None:
        """The largest root mean square error; None as above."""


def is_wrong(f: ProductErrors, limits: ResidualLimits) -> bool:
    """Return whether a product was wrong: NaN, Inf or stale, or an error beyond its bound."""
    if f.row_error_ppm is None or f.row_error_ppm > limits.row_ppm:
        return True
    return limits.has_rms and (f.rms_error_ppm is None or f.rms_error_ppm > limits.rms_void_ppm)


def is_constant(f: Figure | ReferenceFigure, limits: ResidualLimits) -> bool:
    """Return whether the errors are smaller than those of any random product."""
    error = f.rms_error_ppm if limits.has_rms else f.row_error_ppm
    return error is not None and error < limits.rms_least_ppm


def residual_limits(precision: Precision, choice: Choice = "fixed") -> ResidualLimits:
    """Return the bounds of R5 or R15, which hold for every shape: derived and simulated in ``docs/residuals.md``."""
    if choice in SOLVES:  # residuals are rounded up: the largest that is below 16
        return ResidualLimits(SOLVE_RESIDUAL_PPM - 1, 0, 0, 1, has_rms=False)
    if precision in ("fp16", "bf16"):
        return ResidualLimits(3_500_000, 650_000, 1_100_000, 200_000)
    return ResidualLimits(4_000_000, 1_000_000, 1_000_000, 1)


def reference_kernels(case: Case) -> Codes:
    """Return the kernels of the reference measurements that the profile wants of a figure's kind of device."""
    wanted = case.setting.reference_kernels
    return wanted.get(case.figure.device.partition(":")[0], ()) if wanted else ()
