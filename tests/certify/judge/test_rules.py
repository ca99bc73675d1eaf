"""Each run rule R1 to R14 broken on the fake device: the codes that it yields, and what a statement makes of it.

One table, `BROKEN`: the number of the rule stands in the test's id. Below it, each limit exactly, just below and above.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec
import pytest
from msgspec.structs import replace

from bench.devices import DEVICES, load_backend
from bench.devices.libraries import nvml
from bench.engine.schedule import self_issued
from bench.errors import RefusedError
from bench.profile import load_profile
from bench.record import (
    REFERENCE_ROLES,
    Campaign,
    Figure,
    Grade,
    Kernels,
    Measurement,
    NodeRecord,
    Obtained,
    Precision,
    Profile,
    ReferenceFigure,
    Shape,
    columns,
    encode,
    throughput_bounds,
)
from bench.scenario import Scenario, Script
from bench.units import gemm_mflop
from certify.documents.statement import CapacityStatement
from certify.judge import identities, plausibility, products, rules, telemetry, timing
from certify.judge.case import (
    SECOND_NS,
    VENDORS,
    Case,
    Judgement,
    MeasurementPlan,
    Setting,
    capped,
    grade_of,
    references_of,
    residual_limits,
)
from certify.judge.record import partition_codes
from certify.policy.centre import Centre
from certify.policy.policies import Policy
from certify.policy.ratings import installed_ratings
from certify.policy.reasons import effect_of, reasons
from certify.policy.sources import SourceRow, exposed_by, source_table
from kernels import cublas, torch_switches
from kernels.base import KERNELS, REFERENCES, SOLVERS, load_reference
from tests.bench.fleet import BEGIN_NS, CACHE_BYTES, NODE, simulate, workloads_in
from tests.certify.judged import basis_of, centre_of, policy_of, statement_of
from tests.certify.measured import DAY, node_name, test_campaign

S = SECOND_NS
UNRATED = ("identity-asserted",)  # what any fake carries, as a note
MEASURED = UNRATED
CPU = {"kind": "cpu", "vendor": "AMD", "model": "AMD EPYC 9654", "instruction_set": "avx512", "cache_bytes": 2**20}
FAST = {"rate_gflop_s": {"fp16": 450_000}}  # 97.8 % of what the fake's silicon does at its clock
CPU_RATES = {"rate_gflop_s": {"fp16": 8_000, "fp64": 4_000}}  # below 128 cores x 64 or 32 FLOP x 1,800 MHz
# rated, and without silicon that is certain
LISTED = {"vendor": "NVIDIA", "model": "NVIDIA L40", "memory_bytes": 48 * 10**9, "units": 142, "max_clock_mhz": 2_490}
ASCEND = {"vendor": "Huawei", "model": "Ascend910B3", "memory_bytes": 64 * 2**30, "units": 20, "max_clock_mhz": 1_800}
NOT_IN_TABLE = {"vendor": "Acme", "model": "Acme 1"}
B200 = {"vendor": "NVIDIA", "model": "NVIDIA B200", "memory_bytes": 180 * 10**9, "units": 148}
H100 = {"vendor": "NVIDIA", "model": "NVIDIA H100 80GB HBM3"}
H20 = {"vendor": "NVIDIA", "model": "NVIDIA H20"}  # a rating of medium confidence

Change = Callable[[NodeRecord], NodeRecord]


def figure_is(**changes: Any) -> Change:
    """Return a change of the first figure of the first measurement; a callable is given the old value."""

    def change(record: NodeRecord) -> NodeRecord:
        def new(figure: Figure) -> Figure:
            return figure._replace(**{k: v(getattr(figure, k)) if callable(v) else v for k, v in changes.items()})

        first, *others = record.measurements
        figures = list(first.figures())
        figures[0] = new(figures[0])
        return replace(record, measurements=(replace(first, **columns(figures)), *others))

    return change


def measurement_is(**changes: Any) -> Change:
    """Return a change of the first measurement."""

    def change(record: NodeRecord) -> NodeRecord:
        first, *others = record.measurements
        return replace(record, measurements=(replace(first, **changes), *others))

    return change


def model_is(**changes: Any) -> Change:
    """Return a change of the first model."""
    return lambda record: replace(record, models=(replace(record.models[0], **changes), *record.models[1:]))


def both(*changes: Change) -> Change:
    """Return several changes as one."""

    def change(record: NodeRecord) -> NodeRecord:
        for one in changes:
            record = one(record)
        return record

    return change


def record_is(**changes: Any) -> Change:
    """Return a change of the record's own facts."""
    return lambda record: replace(record, **changes)


def clock_is(**changes: Any) -> Change:
    """Return a change of the node's clock."""
    return lambda record: replace(record, clock=replace(record.clock, **changes))


def environment_is(**changes: Any) -> Change:
    """Return a change of what the record says of its node's software."""
    return lambda record: replace(record, environment=replace(record.environment, **changes))


def switches_are(**switches: str) -> Change:
    """Return a change after which the record has these switches besides that of every kernel."""
    return environment_is(switches={"environment": "off", **switches})


def beside_is(**changes: Any) -> Change:
    """Return a change of the first figure of the first reference measurement; a callable is given the old value."""

    def change(record: NodeRecord) -> NodeRecord:
        first, *others = record.companions
        figures = list(first.figures())
        old = figures[0]
        new = {k: v(getattr(old, k)) if callable(v) else v for k, v in changes.items()}
        figures[0] = old._replace(**new)
        return replace(record, companions=(replace(first, **columns(figures)), *others))

    return change


def not_run(record: NodeRecord) -> NodeRecord:
    """Give the first reference measurement nothing but a trouble."""
    (reference,) = record.companions
    rows = [
        ReferenceFigure(f.device, 0, None, None, None, None, None, None, "cupy is not installed")
        for f in reference.figures()
    ]
    return replace(record, companions=(replace(reference, **columns(rows)),))


def as_ceiling(**changes: Any) -> Change:
    """Return a change that gives the issue-rate kernel, which no fake runs, the first reference's figure."""

    def change(record: NodeRecord) -> NodeRecord:
        path, ceiling = record.companions
        old = next(path.figures())._replace(exact=True, row_error_ppm=None, rms_error_ppm=None)
        new = {k: v(getattr(old, k)) if callable(v) else v for k, v in changes.items()}
        return replace(record, companions=(path, replace(ceiling, **columns([old._replace(**new)]))))

    return change


def with_another_ceiling(record: NodeRecord) -> NodeRecord:
    """Add a rate of issue that the profile does not want, a thousandfold."""
    path, ceiling = record.companions
    rows = [row._replace(rate_mflop_s=(row.rate_mflop_s or 0) * 1000) for row in ceiling.figures()]
    return replace(record, companions=(path, ceiling, replace(ceiling, kernel="issue-mma", **columns(rows))))


def device_is(name: str | None = None, **changes: Any) -> Change:
    """Return a change of the first device, under another name where one is given."""

    def change(record: NodeRecord) -> NodeRecord:
        first, *others = record.devices
        if name is not None:
            changes["device"] = name
            record = msgspec.convert(
                json.loads(msgspec.json.encode(record).replace(f'"{first.device}"'.encode(), f'"{name}"'.encode())),
                NodeRecord,
            )
        return replace(record, devices=(replace(first, **changes), *others))

    return change


REAL = both(model_is(simulated=False), clock_is(source="ptp"))
UUID = "GPU-5f0e1d2c-3b4a-5968-8d4f-0b1e6a2c4d7e"


def with_devices(count: int) -> Change:
    """Return a change after which a record lists so many devices, all but the first without a figure."""

    def change(record: NodeRecord) -> NodeRecord:
        first = record.devices[0]
        more = (
            replace(first, device=f"fake:{i}", uuid=f"more-{i}", serial=None, pci_address=None) for i in range(1, count)
        )
        return replace(record, devices=(first, *more))

    return change


def another_shape(record: NodeRecord) -> NodeRecord:
    """Another shape of the same work, so that nothing but the shape is wrong."""
    m = record.measurements[0]
    return measurement_is(m=m.m // 2, n=m.n * 2)(record)


WITHOUT_CLOCK = figure_is(clock_samples=0, clock_gap_ns=None, clock_mean_mhz=None, clock_max_mhz=None)
WITHOUT_POWER = figure_is(power_samples=0, power_gap_ns=None, power_mean_mw=None)


class Broken(NamedTuple):
    """One way to break a rule, and the codes that come of it besides what any such fake carries."""

    test: str  # "R6 trend": the rule, and how it is broken
    codes: tuple[str, ...]
    script: Mapping[str, Any] | Scenario = MappingProxyType({})
    change: Change = lambda record: record
    profile: str | Profile = "smoke"
    precisions: tuple[Precision, ...] = ("fp16",)  # the first one is judged
    carries: tuple[str, ...] = UNRATED
    pool_class: str = "intelligent"
    own_campaign: bool = False  # the node issues its campaign itself


SMOKE, STANDARD = load_profile("smoke"), load_profile("standard")
FIVE_MINUTES = replace(STANDARD, profile="five-minutes", window_ns=300 * S)
SHORT = replace(SMOKE, profile="short", window_ns=29 * S // 10)
PRETENDER = replace(SMOKE, profile="certification", grade="certification")
PATHS = replace(
    SMOKE,
    profile="paths",
    companion_ns=S,
    kernels={"fake": Kernels(figure="gemm-fake", companions={"fp16": ("gemm-fake",)})},
)
CEILINGS = replace(
    PATHS,
    profile="ceilings",
    kernels={"fake": Kernels(figure="gemm-fake", companions={"fp16": ("gemm-fake", "issue-fma")})},
)
LONG_LAUNCHES = replace(
    SMOKE, window_ns=4 * S, launches_per_subwindow=20, shapes={"fp16": (Shape(m=8192, n=8192, k=8192),)}
)


def rated(clock_mhz: int = 1_755, power_mw: int = 650_000, **rate_gflop_s: int) -> Scenario:
    """Return the scenario of a fake that passes for an H100."""
    script = Script(rate_gflop_s=rate_gflop_s, clock_mhz=clock_mhz, power_mw=power_mw)  # type: ignore[arg-type]
    return Scenario(default=script, memory_bytes=80 * 10**9, units=132, max_clock_mhz=1_980)


def plausible(test: str, codes: tuple[str, ...], model: Mapping[str, Any], script: Scenario, **more: Any) -> Broken:
    values: dict[str, Any] = {"change": model_is(**model), "profile": "standard", "carries": MEASURED}
    return Broken(test, codes, script, **{**values, **more})


def later(by_ns: int) -> Change:
    """Return a change after which a device loaded that much later."""
    return figure_is(warmup_ns=lambda ns: ns - by_ns)


LATE = f"{DAY}T08:02:00.000000Z"
WILD = tuple((float(second), 1_000_000 - 700_000 * (second % 2)) for second in range(5))
WAVE = tuple((float(second), 1_000_000 - 200_000 * (second % 2)) for second in range(5))
FALLING = ((-2.0, 1_000_000), (0.0, 600_000), (4.0, 600_000))


def ramp(to_ppm: int) -> tuple[tuple[float, int], ...]:
    """Return the curve of a rate that moves over a window of `standard`."""
    return ((0.0, 1_000_000), (66.0, to_ppm))


SLOW = {"from_s": 0.0, "to_s": 9.0, "rate_ppm": 70_000}

BROKEN = (
    # R1: native, dense, accumulated as claimed
    Broken(
        "R1 FP16 accumulation",
        ("accumulation-differs", "accumulation-not-counted"),
        change=measurement_is(accumulate="fp16"),
    ),
    Broken("R1 up-cast on an accelerator", ("upcast-not-allowed",), change=measurement_is(method="upcast")),
    Broken(
        "R1 up-cast on a CPU",
        ("upcast",),
        CPU_RATES,
        both(model_is(**CPU), measurement_is(method="upcast")),
        pool_class="edge",
    ),
    Broken(
        "R1 up-cast FP64 on a CPU",
        ("upcast-not-allowed",),
        CPU_RATES,
        both(model_is(**CPU), measurement_is(method="upcast")),
        precisions=("fp64",),
        pool_class="supercomputing",
    ),
    Broken(
        "R4 a CPU whose library uses fewer threads than it has cores",
        ("threads-below-cores",),
        CPU_RATES,
        both(model_is(**CPU), figure_is(threads=64)),
        pool_class="edge",
    ),
    Broken(
        "R4 a CPU whose library is fitted to no processor",
        ("reference-blas",),
        CPU_RATES,
        both(
            model_is(**CPU),
            both(
                measurement_is(kernel="gemm-numpy"),
                environment_is(libraries={"numpy.blas": "reference BLAS (libblas.so.3.12.0), 1 thread"}),
            ),
        ),
        pool_class="supercomputing",
        precisions=("fp64",),
    ),
    Broken(
        "R4 an accelerator, beside whose library a reference BLAS makes operands",
        (),
        change=environment_is(libraries={"numpy.blas": "reference BLAS, 1 thread"}),
    ),
    Broken("R1 emulation switched on", ("reduced-precision-switch",), change=switches_are(emulation="on")),
    Broken("R1 a switch left out", ("reduced-precision-switch",), change=environment_is(switches={"a": "off"})),
    Broken("R1 a switch that cannot be read", ("switch-unreadable",), change=switches_are(a="unreadable")),
    Broken(
        "R1 a switch that cannot be read, and coarse products",
        ("reduced-precision-switch", "reduced-precision-reduction"),
        change=both(switches_are(a="unreadable"), figure_is(rms_error_ppm=700_000)),
    ),
    Broken("R1 a switch that this library lacks", (), change=switches_are(a="absent")),
    Broken("R1 a kernel of another's", ("kernel-unknown",), change=measurement_is(kernel="gemm-own")),
    Broken(
        "R1 numpy's kernel on an accelerator",
        ("kernel-impossible", "no-ceiling"),
        change=both(REAL, measurement_is(kernel="gemm-numpy")),
        carries=(*UNRATED, "no-rating"),
    ),
    Broken(
        "R1 a library that emulates",
        ("emulation-library",),
        change=environment_is(libraries={"preloaded": "libozIMMU.so.1"}),
    ),
    # R3: operands beyond the cache
    Broken("R3 operands in cache", ("operands-in-cache",), change=model_is(cache_bytes=10 * 2**30)),
    Broken("R3 one operand set", ("operands-in-cache",), change=measurement_is(operand_sets=1)),
    Broken("R3 unknown cache", ("operands-in-cache",), change=model_is(cache_bytes=None)),
    # R4: registered shapes, short launches, equal sub-windows
    Broken("R4 shape that is not listed", ("shape-not-registered",), change=another_shape),
    Broken("R4 long launches", ("launch-too-long", "throttled"), {"throttle": (SLOW,)}, profile=LONG_LAUNCHES),
    Broken(
        "R4 unequal sub-windows",
        ("unequal-subwindows", "statistics-differ"),
        change=figure_is(launches=lambda launches: launches + 1),
    ),
    # R5: products verified while timing
    *(
        Broken(f"R5 {wrong} products", ("wrong-product",), {"wrong": wrong})
        for wrong in ("zero", "nan", "stale", "bf16", "element")
    ),
    Broken("R5 wrong in mid-window", ("wrong-product",), {"wrong": "zero", "wrong_from_s": 2.0}),
    Broken("R5 wrong at the end", ("wrong-product",), {"wrong": "nan", "wrong_from_s": 4.1}),
    Broken(
        "R5 wrong FP64", ("wrong-product",), {"wrong": "element"}, precisions=("fp64",), pool_class="supercomputing"
    ),
    Broken(
        "R5 an operand set never verified",
        ("products-not-verified",),
        change=lambda r: figure_is(verified_launches=r.measurements[0].operand_sets - 1)(r),
    ),
    Broken("R2 constant operands", ("operands-not-random",), change=figure_is(rms_error_ppm=0)),
    Broken("R5 reduced-precision reduction", ("reduced-precision-reduction",), change=figure_is(rms_error_ppm=700_000)),
    # R6: warm when the window opens, and no falling rate in it
    Broken("R6 falling", ("not-steady", "autocorrelated"), {"curve": ramp(970_000)}, profile="standard"),
    Broken("R6 rising", ("still-rising", "autocorrelated"), {"curve": ramp(1_030_000)}, profile="standard"),
    Broken("R6 falling by less than 2 %", ("autocorrelated",), {"curve": ramp(982_000)}, profile="standard"),
    Broken("R6 falling at smoke", ("autocorrelated",), {"curve": ((0.0, 1_000_000), (4.0, 900_000))}),
    Broken("R6 falling rate in the warm-up", ("warmup-rate-trend",), {"curve": FALLING}),
    Broken(
        "R6 rising temperature", ("warmup-temperature-trend",), {"temperature_rise_c": 60, "temperature_rise_s": 2.0}
    ),
    Broken("R6 moving clock", ("warmup-clock-trend",), change=figure_is(warmup_end="clock-trend")),
    Broken("R6 too few samples of the warm-up", (), change=figure_is(warmup_end="too-few-samples")),
    Broken("R6 hardly warmed up", ("not-warm",), {"late_s": 1.5}),
    # R7: long enough
    Broken("R7 below any grade", ("window-too-short",), profile=SHORT),
    Broken("R7 a profile called certification that lasts 4 s", ("below-profile",), profile=PRETENDER),
    # R8 and R9: the rates are those of the 30 numbers
    Broken("R8 sustained rate too high", ("statistics-differ",), change=figure_is(sustained_mflop_s=lambda x: x + 1)),
    Broken("R8 stretches left out", ("statistics-differ",), change=figure_is(subwindow_over_ns=(0,) * 30)),
    Broken("R9 lower bound too high", ("statistics-differ",), change=figure_is(certified_mflop_s=lambda x: x + 1)),
    Broken("R9 lower bound too low", ("statistics-differ",), change=figure_is(certified_mflop_s=lambda x: x - 1)),
    Broken("R9 upper bound left out", ("statistics-differ",), change=figure_is(upper_mflop_s=None)),
    Broken(
        "R9 another form of the same numbers",
        ("statistics-differ",),
        change=figure_is(
            subwindow_min_ns=lambda x: x - 1, subwindow_over_ns=lambda over: tuple(value + 1 for value in over)
        ),
    ),
    Broken(
        "R9 slow end dropped",
        ("remainder-too-long", "utc-clock-disagrees"),
        change=figure_is(counted_until_ns=lambda ns: ns * 8 // 10),
    ),
    Broken("R9 wild waves", ("autocorrelated", "wide-interval"), {"curve": WILD}),
    Broken("R9 slow wave", ("autocorrelated",), {"curve": WAVE}),
    # R10: all at once, within the core window
    Broken("R10 late device", ("not-warm", "not-simultaneous"), {"late_s": 2.5}),
    Broken("R10 clock unknown", ("clock-unknown",), Scenario(clock_uncertainty_ns=None)),
    Broken("R10 clock known exactly", ("clock-bound-zero",), change=clock_is(source="kernel", uncertainty_ns=0)),
    Broken("R10 clock uncertain", ("clock-uncertain",), Scenario(clock_uncertainty_ns=S + 1), profile=FIVE_MINUTES),
    Broken("R10 clock very uncertain", ("clock-uncertain", "not-simultaneous"), Scenario(clock_uncertainty_ns=2 * S)),
    Broken("R10 clock that the node vouches for", ("clock-unknown",), change=clock_is(source="self", uncertainty_ns=0)),
    Broken("R10 started too late", ("outside-window",), change=record_is(started_at=LATE, ready_at=LATE)),
    Broken("R10 ended too early", ("outside-window",), change=record_is(ended_at=f"{DAY}T08:01:00.000000Z")),
    Broken(
        "R10 clock of a fake",
        ("clock-unknown", "no-ceiling"),
        change=both(model_is(simulated=False), clock_is(source="fake")),
        carries=(*UNRATED, "no-rating"),
    ),
    Broken("R10 before the window", ("outside-window",), change=figure_is(opened_ns=-1)),
    Broken("R10 after the window", ("outside-window",), change=figure_is(covered_until_ns=SMOKE.window_ns + 1)),
    plausible(
        "R10 after its ramp slot",
        ("late-load",),
        H100,
        rated(fp16=700_000),
        change=both(model_is(**H100), later(3 * S)),
    ),
    plausible(
        "R10 before its ramp slot",
        ("ramp-not-kept",),
        H100,
        rated(fp16=700_000),
        change=both(model_is(**H100), later(-3 * S)),
    ),
    # R11: the clocks agree
    Broken("R11 device time too long", ("event-clock-disagrees",), {"event_ppm": 20_000}),
    Broken("R11 device time too short", ("event-clock-disagrees",), {"event_ppm": -20_000}),
    Broken(
        "R11 UTC set back",
        ("not-simultaneous", "utc-clock-disagrees"),
        {"utc_step_at_s": 2.0, "utc_step_s": -2.0},
    ),
    Broken("R11 UTC set forward", ("outside-window", "utc-clock-disagrees"), {"utc_step_at_s": 2.0, "utc_step_s": 2.0}),
    # R12: possible on the silicon
    plausible("R12 honest H100", (), H100, rated(fp16=700_000)),
    plausible(
        "R12 above nominal", ("above-nominal", "above-uncertain-silicon"), LISTED, rated(fp16=186_000, power_mw=250_000)
    ),
    plausible(
        "R12 above the silicon",
        ("above-silicon-ceiling", "above-best-known", "above-nominal"),
        H100,
        rated(fp16=1_080_000, clock_mhz=1_980),
    ),
    plausible(
        "R12 above the observed clock",
        ("above-observed-clock-ceiling", "above-mean-clock"),
        H100,
        rated(fp16=900_000, clock_mhz=1_500),
    ),
    plausible(
        "R12 above the mean clock",
        ("above-mean-clock", "above-best-known"),
        H100,
        rated(fp16=940_000, clock_mhz=1_980),
        change=both(model_is(**H100), figure_is(clock_mean_mhz=1_500)),
    ),
    plausible("R12 above the best known", ("above-best-known",), H100, rated(fp16=914_000, clock_mhz=1_980)),
    plausible(
        "R12 above a rating",
        ("above-rating-unproven", "above-nominal", "above-uncertain-silicon"),
        LISTED,
        rated(fp16=194_000, power_mw=250_000),
    ),
    plausible(
        "R12 above every rating",
        ("above-every-rating", "above-rating-unproven", "above-nominal", "above-uncertain-silicon"),
        LISTED,
        rated(fp16=4_000_000, power_mw=250_000),
    ),
    plausible(
        "R12 above silicon that is not certain",
        ("above-uncertain-silicon",),
        ASCEND,
        rated(fp16=300_000, power_mw=300_000),
    ),
    plausible("R12 units not told", ("units-not-told",), {**H100, "units": None}, rated(fp16=700_000)),
    plausible("R12 highest clock not told", ("clock-not-told",), {**H100, "max_clock_mhz": None}, rated(fp16=700_000)),
    plausible("R12 fewer units", ("units-below-row",), {**H100, "units": 131}, rated(fp16=700_000)),
    plausible("R12 more units", ("units-above-row",), {**H100, "units": 133}, rated(fp16=700_000)),
    plausible(
        "R12 another size of memory", ("memory-differs",), {**H100, "memory_bytes": 141 * 10**9}, rated(fp16=700_000)
    ),
    plausible("R12 another bin", ("bin-differs",), {**ASCEND, "bin": "910B4"}, rated(fp16=250_000, power_mw=300_000)),
    plausible(
        "R12 a die of a card",
        ("die-not-rated",),
        {**H100, "count_unit": "die"},
        rated(fp16=700_000),
        change=both(model_is(**H100, count_unit="die"), device_is(parent="GPU-5f1c2d3e")),
    ),
    plausible(
        "R12 a slice of unknown size",
        ("share-unknown", "units-not-told"),
        H100,
        rated(fp16=100_000),
        change=both(model_is(**H100, count_unit="slice", units=None), device_is(parent="GPU-5f1c2d3e")),
    ),
    plausible(
        "R12 a slice larger than its card",
        ("too-many-parts", "units-above-row"),
        H100,
        rated(fp16=700_000),
        change=both(model_is(**H100, count_unit="slice", units=133), device_is(parent="GPU-5f1c2d3e")),
    ),
    plausible(
        "R12 a model that is not in the table",
        ("no-ceiling",),
        NOT_IN_TABLE,
        rated(fp16=700_000),
        change=both(model_is(**NOT_IN_TABLE)),
    ),
    Broken("R12 a simulated device that plays no row", ("no-ceiling",), change=model_is(plays="no-such-row")),
    plausible(
        "R12 an accelerator as a CPU",
        ("cpu-fallback", "kind-differs", "above-cpu-ceiling"),
        {**H100, "kind": "cpu"},
        rated(fp16=700_000),
    ),
    Broken(
        "R12 a CPU with more launches than it did",
        ("above-cpu-ceiling",),
        {"rate_gflop_s": {"fp16": 20_000}},
        both(model_is(**CPU), measurement_is(method="upcast")),
        carries=(*UNRATED, "upcast"),
        pool_class="edge",
    ),
    plausible(
        "R12 clocks beyond any board",
        ("above-silicon-ceiling", "above-best-known", "above-nominal", "clock-impossible"),
        H100,
        rated(fp16=2_000_000, clock_mhz=20_000),
    ),
    plausible("R12 power beyond any board", ("power-impossible",), H100, rated(fp16=700_000, power_mw=1_050_001)),
    Broken("R12 errors of another kind", ("errors-impossible",), change=figure_is(row_error_ppm=300_000)),
    Broken(
        "R12 more verified than launched",
        ("verified-impossible",),
        change=figure_is(verified_launches=lambda _: 10**12),
    ),
    Broken("R12 nothing but checks", ("duty-zero",), change=figure_is(duty_ppm=0)),
    Broken(
        "R12 its own time left out",
        ("events-missing",),
        change=figure_is(event_over_ns=None),
        precisions=("fp16", "fp64"),
    ),
    plausible("R12 too little power", ("power-too-low",), H100, rated(fp16=700_000, power_mw=100_000)),
    plausible(
        "R12 FP64 too fast beside FP16",
        ("precision-ratio-impossible",),
        H100,
        rated(fp16=100_000, fp64=40_000),
        precisions=("fp64", "fp16"),
        pool_class="supercomputing",
    ),
    Broken(
        "R4 a small shape on a large device",
        ("smaller-shape",),
        {"memory_limit_bytes": 2 * 2 * 4096 * 4096 * 2, "rate_gflop_s": {"fp16": 440_000}},
    ),
    # R4, R5 and R12: the kernel that the profile names, and what it wants beside it
    Broken(
        "R4 another kernel",
        ("kernel-not-registered", "kernel-unknown"),
        change=measurement_is(kernel="gemm-own"),
        profile=PATHS,
    ),
    Broken(
        "R5 figure below the other path",
        ("second-path-faster",),
        change=beside_is(rate_mflop_s=lambda rate: rate * 103 // 100),
        profile=PATHS,
    ),
    Broken(
        "R5 figure above the other path",
        ("paths-disagree",),
        change=beside_is(rate_mflop_s=lambda rate: rate * 97 // 100),
        profile=PATHS,
    ),
    Broken("R5 the other path wrong", ("path-wrong",), change=beside_is(row_error_ppm=None), profile=PATHS),
    Broken(
        "R5 the other path not run",
        ("path-missing",),
        change=not_run,
        profile=PATHS,
    ),
    Broken("R5 the other path left out", ("path-missing",), change=record_is(companions=()), profile=PATHS),
    Broken("R5 the other path of constants", ("path-wrong",), change=beside_is(rms_error_ppm=0), profile=PATHS),
    Broken("R5 the other path too coarse", ("path-wrong",), change=beside_is(rms_error_ppm=1_100_001), profile=PATHS),
    Broken("R5 the other path in no time", ("path-missing",), change=beside_is(elapsed_ns=S // 4 - 1), profile=PATHS),
    Broken(
        "R12 above the rate of issue",
        ("above-measured-ceiling",),
        FAST,
        as_ceiling(rate_mflop_s=438_000_000),
        profile=CEILINGS,
    ),
    Broken(
        "R12 above it, clock for clock",
        ("above-measured-ceiling",),
        FAST,
        as_ceiling(rate_mflop_s=460_000_000, clock_mean_mhz=lambda clock: clock * 105 // 100),
        profile=CEILINGS,
    ),
    Broken(
        "R12 above it, and another invented",
        ("above-measured-ceiling",),
        FAST,
        both(as_ceiling(rate_mflop_s=438_000_000), with_another_ceiling),
        profile=CEILINGS,
    ),
    Broken("R12 a wrong rate of issue", ("companion-wrong",), change=as_ceiling(exact=False), profile=CEILINGS),
    Broken("R12 no rate of issue", ("companion-missing",), profile=CEILINGS),
    plausible(
        "R5 an NVIDIA device under another kind",
        ("kind-differs", "kernel-impossible", "source-unknown"),
        H100,
        rated(fp16=700_000),
        change=both(model_is(**H100), REAL, device_is("gpu:0", uuid=UUID)),
    ),
    plausible(
        "R5 an NVIDIA device as one of torch",
        ("kind-differs", "kernel-impossible"),
        H100,
        rated(fp16=700_000),
        change=both(model_is(**H100), REAL, device_is("torch:0", uuid=UUID)),
    ),
    plausible(
        "R12 an NVIDIA device without its uuid",
        ("identity-incomplete", "path-missing", "companion-missing", "kernel-not-registered", "kernel-impossible"),
        H100,
        rated(fp16=700_000),
        change=both(model_is(**H100), REAL, device_is("cuda:0", uuid=None)),
    ),
    plausible(
        "R12 an NVIDIA device with another vendor's uuid",
        ("identity-form-differs", "path-missing", "companion-missing", "kernel-not-registered", "kernel-impossible"),
        H100,
        rated(fp16=700_000),
        change=both(model_is(**H100), REAL, device_is("cuda:0", uuid="0x5f0e1d2c3b4a5968")),
    ),
    plausible(
        "R12 an NVIDIA device of no such vendor",
        (
            "kind-differs",
            "path-missing",
            "companion-missing",
            "kernel-not-registered",
            "no-ceiling",
            "kernel-impossible",
        ),
        H100,
        rated(fp16=700_000),
        change=both(model_is(**{**H100, "vendor": "NVIDIA Corporation"}), REAL, device_is("cuda:0")),
        carries=(*UNRATED, "no-rating"),
    ),
    plausible(
        "R12 an accelerator of no name as a CPU",
        (
            "cpu-fallback",
            "kind-differs",
            "path-missing",
            "companion-missing",
            "kernel-not-registered",
            "above-cpu-ceiling",
            "kernel-impossible",
        ),
        H100,
        rated(fp16=700_000),
        change=both(model_is(vendor="Acme", kind="cpu"), REAL, device_is("cuda:0")),
        carries=UNRATED,
    ),
    plausible(
        "R12 a card that is a part of another",
        ("whole-with-parent",),
        H100,
        rated(fp16=700_000),
        change=both(model_is(**H100), device_is(parent="GPU-5f1c2d3e")),
    ),
    Broken("R12 energy and power apart", ("energy-disagrees",), {"energy_ppm": 150_000}),
    Broken(
        "R12 energy and power apart on AMD",
        ("energy-counter-doubtful",),
        {"energy_ppm": 150_000},
        change=model_is(vendor="AMD", plays="petaseal-fake-1"),
    ),
    # R13: watched, alone, without memory errors
    Broken("R13 memory error", ("ecc-errors",), {"ecc_error_at_s": 2.0}),
    Broken("R13 another process before", ("foreign-process",), {"foreign_before": 1}),
    Broken("R13 another process during", ("foreign-process",), {"foreign_from_s": 1.0}),
    *(
        Broken(
            f"R13 CPUs of which others took {' and '.join(taken)}",
            ("cpu-fallback", "upcast", "foreign-load"),
            CPU_RATES,
            change=both(model_is(**CPU), measurement_is(method="upcast", **taken)),
        )
        for taken in (
            {"other_load_ppm": 10_001},
            {"steal_ppm": 10_001},
            {"other_load_ppm": 5_001, "steal_ppm": 5_000},
        )
    ),
    Broken("R13 throttled", ("throttled",), {"throttle": ({"from_s": 0.0, "to_s": 9.0, "rate_ppm": 990_000},)}),
    Broken(
        "R13 no telemetry, of a smoke run",
        ("clock-not-watched", "power-not-watched", "telemetry-not-exposed"),
        {"telemetry": False},
    ),
    Broken(
        "R13 no telemetry",
        ("telemetry-incomplete", "telemetry-not-exposed"),
        {"telemetry": False},
        profile="standard",
    ),
    *(
        Broken(f"R13 {name} left out", ("telemetry-incomplete",), change=figure_is(**{name: gone}), profile="standard")
        for name, gone in (("power_mean_mw", None), ("clock_mean_mhz", None), ("clock_max_mhz", None))
    ),
    *(
        Broken(f"R13 {name} not told", ("telemetry-not-exposed",), change=figure_is(**{name: None}), profile="standard")
        for name in ("temperature_max_c", "throttled_ppm", "ecc_uncorrected", "foreign_processes")
    ),
    Broken("R13 seldom", ("telemetry-incomplete",), {"telemetry_interval_s": 8.0}, profile="standard"),
    Broken("R13 by a tool of 5.4 s", (), {"telemetry_interval_s": 5.4}, profile="standard"),
    Broken(
        "R13 a tool without a clock",
        ("clock-not-watched",),
        change=both(device_is("corex:0"), model_is(source="ixsmi"), WITHOUT_CLOCK),
        profile="standard",
    ),
    Broken(
        "R13 a slow tool without a clock",
        ("clock-not-watched", "telemetry-slow"),
        change=both(device_is("corex:0"), model_is(source="ixsmi"), WITHOUT_CLOCK, figure_is(power_samples=9)),
        profile="standard",
    ),
    Broken(
        "R13 a tool without a clock that tells no power",
        ("clock-not-watched", "telemetry-incomplete"),
        change=both(device_is("corex:0"), model_is(source="ixsmi"), WITHOUT_CLOCK, WITHOUT_POWER),
        profile="standard",
    ),
    Broken(
        "R13 a source that tells nothing",
        ("clock-not-watched", "power-not-watched"),
        change=both(device_is("torch:0"), WITHOUT_CLOCK, WITHOUT_POWER),
        profile="standard",
    ),
    *(
        Broken(
            f"R13 a clock left out of what {source} reads",
            ("telemetry-incomplete",),
            change=both(device_is(f"{kind}:0"), model_is(source=source, exposes=("power",)), WITHOUT_CLOCK),
            profile="standard",
        )
        for kind, source in (
            ("npu", "dcmi"),
            ("rocm", "rocm-smi"),
            ("rocm", "amdgpu"),
            ("dcu", "hgml"),
            ("musa", "mtml"),
        )
    ),
    *(
        Broken(
            f"R13 {source}, read where the library cannot be, reports no clock",
            ("clock-not-watched",),
            change=both(device_is(f"{kind}:0"), model_is(source=source), WITHOUT_CLOCK),
            profile="standard",
        )
        for kind, source in (("npu", "npu-smi"), ("maca", "mx-smi"), ("corex", "ixsmi"), ("mlu", "cnmon"))
    ),
    Broken(
        "R13 a clock left out under another source's name",
        ("telemetry-incomplete",),
        change=both(device_is("rocm:0"), model_is(source="amd-quiet", exposes=()), WITHOUT_CLOCK),
        profile="standard",
    ),
    Broken("R13 a source that nobody knows", ("source-unknown",), change=device_is("acme:0"), profile="standard"),
    Broken(
        "R13 a source that nobody knows and that tells no clock",
        ("source-unknown", "clock-not-watched"),
        change=both(device_is("acme:0"), model_is(exposes=("power",)), WITHOUT_CLOCK),
        profile="standard",
    ),
    Broken(
        "R13 a source that nobody knows and whose clock was left out",
        ("source-unknown", "telemetry-incomplete"),
        change=both(device_is("acme:0"), WITHOUT_CLOCK),
        profile="standard",
    ),
    Broken(
        "R13 power told with the parent",
        ("power-not-watched", "die-not-rated"),
        change=both(model_is(count_unit="die"), device_is(parent="b1-0017"), WITHOUT_POWER),
        profile="standard",
    ),
)


def campaign_of(profile: Profile, precisions: tuple[Precision, ...], own: bool) -> Campaign:
    if own:
        return self_issued(profile, workloads_in(profile, precisions), NODE, "ab" * 16, BEGIN_NS + 60 * S)
    return test_campaign(profile, precisions, 1)


class Judged(NamedTuple):
    """A record with what it is judged against."""

    record: NodeRecord
    campaign: Campaign
    profile: Profile
    centre: Centre

    def codes(self) -> Judgement:
        """Return what the rules make of the first figure."""
        first = self.measurements[0]
        rates = {m.precision: m.sustained_mflop_s[0] for m in self.measurements}
        beside = references_of(self.record).get((self.figure.device, first.precision), ())
        return rules.judge(self.setting(), self.figure, rates, beside)

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        return self.record.measurements

    @property
    def figure(self) -> Figure:
        return next(self.measurements[0].figures())

    def setting(self) -> Setting:
        model = self.record.models[0]
        row = plausibility.row_of(model, installed_ratings())
        highest = installed_ratings().highest_mflop_s(self.measurements[0].precision)
        plan = MeasurementPlan(self.campaign, self.profile)
        return rules.setting_of(self.record, self.measurements[0], model, row, plan, highest)

    def case(self, **figure: Any) -> Case:
        """Return the case of the first figure with changes."""
        changed = self.figure._replace(**figure)
        elapsed = sum(changed.subwindow_ns)
        setting = self.setting()
        # as under a profile that asks for the highest grade
        grade = grade_of(elapsed, capped("certification", self.campaign.self_issued))
        facts = plausibility.facts_of(setting, changed)
        return Case(setting, changed, elapsed, grade, {}, (), facts, plausibility.ceilings_of(setting, facts), None)

    def statement(self, *policies: Policy) -> CapacityStatement:
        return statement_of([self.record], basis_of(self.campaign, self.profile, self.centre, policies or None))


@cache
def measured(script: bytes, profile: bytes, precisions: tuple[Precision, ...], own: bool) -> NodeRecord:
    """Return the record of one simulation, which all share that change it only afterwards."""
    plan = msgspec.json.decode(profile, type=Profile)
    scenario = msgspec.json.decode(script, type=Scenario)
    return simulate(scenario, 1, plan, precisions, NODE if own else node_name(0), campaign_of(plan, precisions, own))


def judged(broken: Broken) -> Judged:
    """Simulate a node as the table says."""
    profile = broken.profile if isinstance(broken.profile, Profile) else load_profile(broken.profile)
    campaign = campaign_of(profile, broken.precisions, broken.own_campaign)
    given = (
        broken.script
        if isinstance(broken.script, Scenario)
        else msgspec.convert({"default": dict(broken.script)}, Scenario)
    )
    default = replace(given.default, noise_interval_s=0.05)  # below a sub-window
    script = replace(given, default=default, cache_bytes=CACHE_BYTES)
    record = measured(msgspec.json.encode(script), msgspec.json.encode(profile), broken.precisions, broken.own_campaign)
    centre = centre_of(pools=[{"pool": "main", "class": broken.pool_class, "nodes": "all", "devices": "all"}])
    return Judged(broken.change(record), campaign, profile, centre)


@cache
def honest(profile: str = "smoke", own_campaign: bool = False) -> Judged:
    return judged(Broken("honest", (), profile=profile, own_campaign=own_campaign))


def test_an_honest_device_agrees_with_itself_beside_its_figure() -> None:
    one = judged(Broken("honest", (), {"energy_ppm": 20_000}, profile=PATHS))
    assert set(one.codes().codes) <= {*UNRATED}
    (reference,) = one.record.companions
    assert (reference.kernel, reference.role, reference.precision) == ("gemm-fake", "path", "fp16")
    assert one.figure.power_counter_mw == pytest.approx(663_000, rel=1e-3)
    assert 990_000 <= one.figure.duty_ppm <= 10**6


@pytest.mark.parametrize("own_campaign", [False, True], ids=["campaign", "self-issued"])
@pytest.mark.parametrize("profile", ["smoke", "standard"])
def test_an_honest_run_earns_no_hold_and_no_void(profile: str, own_campaign: bool) -> None:
    one = honest(profile, own_campaign)
    judgement = one.codes()
    assert (judgement.codes, judgement.grade) == ([], profile)
    (line,) = one.statement().classes
    assert (line.counted.devices, line.untested.devices) == (1, 0)
    assert line.counted.certified_mflop_s == one.figure.certified_mflop_s > 0
    assert one.statement().not_counted == ()
    assert one.statement().grade == profile


def test_the_table_breaks_every_rule_that_judges_a_figure() -> None:
    rows = {int(broken.test.split()[0][1:]) for broken in BROKEN}
    assert rows == {*range(1, 14)}  # R14 has tests of its own below: it judges no figure
    names = [broken.test for broken in BROKEN]
    assert len(set(names)) == len(names)


def test_the_table_yields_every_code_of_the_rules() -> None:
    yielded = {code for broken in BROKEN for code in (*broken.codes, *broken.carries)}
    of_rules = {
        code
        for code, entry in reasons().items()
        if entry.effect in ("note", "hold", "void")
        and entry.rule.startswith("run-rules.md#")
        and entry.rule != "run-rules.md#r14"
    }
    elsewhere = {"unsupported-precision", "no-shape"}  # below
    elsewhere |= {"same-library"}
    elsewhere |= {"too-many-devices"}  # below: of a record
    elsewhere |= {"clock-differs", "clock-not-compared", "shape-differs"}  # test_closing.py
    elsewhere |= {"device-busy", "late", "shape-not-settled"}  # tests/bench
    elsewhere |= {"power-with-parent"}  # test_parts.py
    elsewhere |= {"solve-residual-exceeded"}  # test_solves.py
    elsewhere.add("before-first-year")  # below
    assert of_rules - yielded == elsewhere


@pytest.mark.parametrize("broken", BROKEN, ids=[broken.test for broken in BROKEN])
def test_a_broken_rule(broken: Broken) -> None:
    one = judged(broken)
    # a change of facts that a record's own type would refuse would test nothing
    assert msgspec.json.decode(encode(one.record), type=NodeRecord) == one.record
    precision = broken.precisions[0]
    statement = one.statement()
    found = {finding.code: finding.effect for finding in statement.findings if finding.workload == precision}
    expected = {*broken.codes, *broken.carries}
    assert set(found) == expected
    assert all(effect == reasons()[code].effect for code, effect in found.items())
    blocking = {code for code in broken.codes if effect_of(code) in ("hold", "void")}
    (line,) = statement.classes
    figure = one.figure
    if not blocking:
        assert (line.counted.devices, line.counted.certified_mflop_s) == (1, figure.certified_mflop_s)
        assert (line.untested.devices, statement.not_counted) == (0, ())
        return
    assert (line.counted.devices, line.counted.certified_mflop_s, line.counted.sustained_mflop_s) == (0, 0, 0)
    assert line.untested.devices == 1
    (listed,) = statement.not_counted
    assert set(listed.codes) == blocking
    assert statement.grade is None
    if {effect_of(code) for code in blocking} == {"hold"}:  # a policy may accept a hold, and nothing but a hold
        accepted = one.statement(policy_of(accept=tuple(blocking))).classes[0].counted
        assert accepted.certified_mflop_s == accepted.on_accepted_hold_mflop_s == figure.certified_mflop_s
    else:
        assert one.statement(policy_of(accept=tuple(blocking))).classes[0].counted.devices == 0


# R1, R4, R14: what gives no figure is a failure that the statement lists
@pytest.mark.parametrize(
    ("test", "script", "profile"),
    [
        ("R1 unsupported-precision", {"rate_gflop_s": {"fp64": 40_000}}, SMOKE),
        ("R4 no-shape", {"rate_gflop_s": {"fp16": 1}}, LONG_LAUNCHES),
        ("R14 device-hung", {"hang_at_s": 1.0}, SMOKE),
        ("R14 device-failed", {"fail_at_s": -1.0}, SMOKE),
        ("R14 device-lost", {"die_at_s": 2.0}, SMOKE),
    ],
)
def test_a_device_without_a_figure_counts_0_and_its_neighbours_count(
    test: str, script: dict[str, Any], profile: Profile
) -> None:
    code = test.split()[1]
    campaign = campaign_of(profile, ("fp16",), own=False)
    record = simulate(Scenario(devices={"1": script}), 3, profile, ("fp16",), node_name(0), campaign)
    statement = statement_of([record], basis_of(campaign, profile))
    (line,) = statement.classes
    assert (line.counted.devices, line.untested.devices) == (2, 1)
    assert [(entry.device, entry.codes) for entry in statement.not_counted] == [("fake:1", (code,))]
    assert (code, "void", 1) in [(f.code, f.effect, f.devices) for f in statement.findings]
    assert line.counted.certified_mflop_s == sum(record.measurements[0].certified_mflop_s)


# R2: operands follow from the campaign's challenge
def test_r2_a_record_of_another_challenge_does_not_belong() -> None:
    one = honest()
    other = replace(one.record, challenge="cd" * 16)
    with pytest.raises(RefusedError) as refused:
        statement_of([other], basis_of(one.campaign, one.profile))
    assert refused.value.code == "challenge-differs"


def test_r10_a_precision_without_a_window_does_not_count() -> None:
    one = honest()
    windows = (replace(one.campaign.windows[0], precision="fp64"),)
    elsewhere = one._replace(campaign=replace(one.campaign, windows=windows))
    assert "outside-window" in elsewhere.codes().codes


def test_r12_holds_alike_at_every_grade() -> None:
    case = honest().case()
    limit = case.ceilings.binding
    assert limit is not None
    above = replace(case, figure=case.figure._replace(sustained_mflop_s=limit.mflop_s + 1))
    for grade in (None, "smoke", "standard", "certification"):
        assert plausibility.r12_ceilings(replace(case, grade=grade)) == ()
        assert limit.code in plausibility.r12_ceilings(replace(above, grade=grade))


# Each limit exactly, just below and just above it
def test_r3_limit_is_twice_the_cache() -> None:
    one = honest()
    for kind, cache_bytes, least in (
        ("gpu", 50 * 2**20, 100 * 2**20),
        ("gpu", None, 2**30),
        ("npu", None, 2**30),
        ("cpu", None, 256 * 2**20),
        ("cpu", 2**20, 2**21),
    ):
        model = replace(one.record.models[0], kind=kind, cache_bytes=cache_bytes)
        for operand_bytes, codes in ((least - 1, ("operands-in-cache",)), (least, ()), (least + 1, ())):
            m = replace(one.measurements[0], operand_bytes=operand_bytes, operand_sets=1024)
            assert products.r3_operands_beyond_cache(m, model) == codes, (kind, cache_bytes, operand_bytes)


def test_r3_operands_are_no_larger_than_their_shape() -> None:
    m = honest().measurements[0]
    assert products.r3_operands_beyond_cache(m, honest().record.models[0]) == ()
    more = replace(m, operand_bytes=m.operand_bytes + 1)
    assert products.r3_operands_beyond_cache(more, honest().record.models[0]) == ("operands-in-cache",)


def test_r4_limit_is_four_launches_in_each_subwindow() -> None:
    short = honest().case
    for launches, codes in ((90, ("launch-too-long",)), (119, ("unequal-subwindows",)), (120, ()), (150, ())):
        assert products.r4_short_launches(short(launches=launches)) == codes


WRONG, REDUCED = ("wrong-product",), ("reduced-precision-reduction",)


@pytest.mark.parametrize(
    ("precision", "row_ppm", "rms_ppm", "codes"),
    [
        *(("fp16", 3_500_000 + d, 400_000, WRONG if d > 0 else ()) for d in (-1, 0, 1)),
        *(("fp16", 0, 200_000 + d, ("operands-not-random",) if d < 0 else ()) for d in (-1, 0, 1)),
        *(("fp64", 0, d, () if d else ("operands-not-random",)) for d in (0, 1)),
        *(("fp16", 0, 650_000 + d, REDUCED if d > 0 else ()) for d in (-1, 0, 1)),
        *(("fp16", 0, 1_100_000 + d, WRONG if d > 0 else REDUCED) for d in (-1, 0, 1)),
        *(("bf16", 0, 1_100_000 + d, WRONG if d > 0 else REDUCED) for d in (-1, 0, 1)),
        *(("fp32", 4_000_000 + d, 1, WRONG if d > 0 else ()) for d in (-1, 0, 1)),
        *(("fp64", 4_000_000 + d, 1, WRONG if d > 0 else ()) for d in (-1, 0, 1)),
        *(("fp64", 0, 1_000_000 + d, WRONG if d > 0 else ()) for d in (-1, 0, 1)),
        ("fp16", None, 0, WRONG),
        ("fp64", 0, None, WRONG),
    ],
)
def test_r5_limits_of_the_errors(
    precision: Precision, row_ppm: int | None, rms_ppm: int | None, codes: tuple[str, ...]
) -> None:
    case = honest().case(row_error_ppm=row_ppm, rms_error_ppm=rms_ppm)
    limits = residual_limits(precision)
    case = replace(case, setting=case.setting._replace(limits=limits))
    assert (*products.r2_operands_random(case), *products.r5_products_verified(case)) == codes


@pytest.mark.parametrize(("beside", "codes"), [(-1, ("products-not-verified",)), (0, ()), (1, ())])
def test_r5_limit_is_one_verified_launch_of_each_set(beside: int, codes: tuple[str, ...]) -> None:
    sets = honest().measurements[0].operand_sets
    assert products.r5_products_verified(honest().case(verified_launches=sets + beside)) == codes


@pytest.mark.parametrize(("beside_ns", "codes"), [(-1, ("not-warm",)), (0, ()), (1, ())])
def test_r6_limit_is_half_of_the_warm_up(beside_ns: int, codes: tuple[str, ...]) -> None:
    assert timing.r6_steady(honest().case(warmup_ns=SMOKE.warmup_ns // 2 + beside_ns)) == codes


@pytest.mark.parametrize(("way", "code"), [(1, "not-steady"), (-1, "still-rising")])
@pytest.mark.parametrize(
    ("grade", "own", "mean_ns", "change_ppm", "beyond"),
    [
        ("certification", False, 22 * S, 9_999, False),
        ("certification", False, 22 * S, 10_001, True),
        ("standard", True, 22 * S, 10_001, False),  # self-issued: as long, and no certification
        ("standard", True, 22 * S, 20_001, True),
        ("standard", False, 19 * S, 19_999, False),
        ("standard", False, 2 * S, 19_999, False),
        ("standard", False, 2 * S, 20_001, True),
        ("smoke", False, S, 500_000, False),
        (None, False, S // 20, 500_000, False),
    ],
)
def test_r6_how_far_a_rate_may_move_is_the_grades(
    grade: Grade | None, own: bool, mean_ns: int, change_ppm: int, beyond: bool, way: int, code: str
) -> None:
    step_ns = way * change_ppm * mean_ns // (58 * 10**6)
    times = [mean_ns + (2 * i - 29) * step_ns for i in range(30)]
    case = honest(own_campaign=own).case(
        subwindow_min_ns=min(times), subwindow_over_ns=tuple(x - min(times) for x in times)
    )
    assert case.grade == grade
    assert timing.r6_steady(case) == ((code,) if beyond else ())


@pytest.mark.parametrize(
    ("elapsed_ns", "grade", "alone"),
    [
        (0, None, None),
        (3 * S - 1, None, None),
        (3 * S, "smoke", "smoke"),
        (3 * S + 1, "smoke", "smoke"),
        (60 * S - 1, "smoke", "smoke"),
        (60 * S, "standard", "standard"),
        (60 * S + 1, "standard", "standard"),
        (600 * S - 1, "standard", "standard"),
        (600 * S, "certification", "standard"),
        (600 * S + 1, "certification", "standard"),
    ],
)
def test_r7_limits_of_the_grades(elapsed_ns: int, grade: Grade | None, alone: Grade | None) -> None:
    assert grade_of(elapsed_ns, "certification") == grade
    assert grade_of(elapsed_ns, "standard") == alone  # of a self-issued campaign too
    assert grade_of(elapsed_ns, "smoke") == (grade and "smoke")


@pytest.mark.parametrize(
    ("wanted", "grade", "codes"),
    [
        ("smoke", "smoke", ()),
        ("standard", "smoke", ("below-profile",)),
        ("standard", "standard", ()),
        ("standard", "certification", ()),
        ("certification", "standard", ("below-profile",)),
        ("smoke", None, ("window-too-short",)),
    ],
)
def test_r7_a_figure_reaches_the_grade_of_its_profile(
    wanted: Grade, grade: Grade | None, codes: tuple[str, ...]
) -> None:
    case = honest().case()
    assert timing.r7_window(replace(case, grade=grade, setting=case.setting._replace(wanted=wanted))) == codes


def test_r7_a_node_that_measures_itself_is_not_asked_for_more_than_standard() -> None:
    profile = load_profile("certification")
    one = honest(own_campaign=True)
    assert one._replace(profile=profile).setting().wanted == "standard"
    assert honest()._replace(profile=profile).setting().wanted == "certification"


def with_autocorrelation(low_ppm: int) -> tuple[int, ...]:
    """Return 30 times whose lag-1 autocorrelation is exactly so many ppm (truncated): one of them is tuned."""
    wave = [10**12 + 10**11 * (i // 8 % 2) for i in range(30)]

    def rho(value: int) -> tuple[tuple[int, ...], int]:
        times = (*wave[:15], value, *wave[16:])
        return times, throughput_bounds(10**6, times).autocorrelation_ppm

    low, high = wave[15] + 10**12, wave[15]  # far off: little correlation; as its neighbours: much
    assert rho(low)[1] < low_ppm < rho(high)[1]
    while rho(low)[1] != low_ppm:
        middle = (low + high) // 2
        low, high = (middle, high) if rho(middle)[1] <= low_ppm else (low, middle)
    return rho(low)[0]


@pytest.mark.parametrize(("ppm", "codes"), [(499_999, ()), (500_000, ()), (500_001, ("autocorrelated",))])
def test_r9_limit_of_the_autocorrelation(ppm: int, codes: tuple[str, ...]) -> None:
    times, m = with_autocorrelation(ppm), honest().measurements[0]
    bounds = throughput_bounds(gemm_mflop(m.m, m.n, m.k, 120), times)
    case = honest().case(
        launches=120,
        subwindow_min_ns=min(times),
        subwindow_over_ns=tuple(x - min(times) for x in times),
        sustained_mflop_s=bounds.sustained_mflop_s,
        certified_mflop_s=bounds.certified_mflop_s,
        upper_mflop_s=bounds.upper_mflop_s,
    )
    assert timing.r9_statistics(case) == codes


def with_clock(case: Case, uncertainty_ns: int | None) -> Case:
    record = case.setting.record
    changed = replace(record, clock=replace(record.clock, uncertainty_ns=uncertainty_ns))
    return replace(case, setting=case.setting._replace(record=changed))


@pytest.mark.parametrize("uncertainty_ns", [0, 1, 1_000_000])
@pytest.mark.parametrize(("beside_ns", "codes"), [(-1, ("not-simultaneous",)), (0, ()), (1, ())])
def test_r10_limit_is_99_percent_of_the_window_after_the_uncertainty(
    uncertainty_ns: int, beside_ns: int, codes: tuple[str, ...]
) -> None:
    least = SMOKE.window_ns * 99 // 100 + 2 * uncertainty_ns
    case = honest().case(opened_ns=7, counted_until_ns=8, covered_until_ns=7 + least + beside_ns)
    assert timing.r10_simultaneous(with_clock(case, uncertainty_ns)) == codes


@pytest.mark.parametrize(("uncertainty_ns", "codes"), [(S - 1, ()), (S, ()), (S + 1, ("clock-uncertain",))])
def test_r10_limit_of_the_uncertainty(uncertainty_ns: int, codes: tuple[str, ...]) -> None:
    case = honest().case(opened_ns=0, counted_until_ns=1, covered_until_ns=300 * S)
    assert case.setting.window is not None
    longer = replace(case.setting.window, closes_ns=case.setting.window.opens_ns + 300 * S)
    case = replace(case, setting=case.setting._replace(window=longer))
    assert timing.r10_simultaneous(with_clock(case, uncertainty_ns)) == codes


@pytest.mark.parametrize(
    ("opened_ns", "counted_ns", "covered_ns", "inside"),
    [
        (0, 1, SMOKE.window_ns, True),
        (-1, 1, SMOKE.window_ns, False),
        (0, 1, SMOKE.window_ns + 1, False),
        (0, SMOKE.window_ns, SMOKE.window_ns - 1, False),
        (5, 4, SMOKE.window_ns, False),
    ],
)
def test_r10_limits_of_the_window(opened_ns: int, counted_ns: int, covered_ns: int, inside: bool) -> None:
    case = honest().case(opened_ns=opened_ns, counted_until_ns=counted_ns, covered_until_ns=covered_ns)
    assert timing.r10_simultaneous(with_clock(case, 0)) == (() if inside else ("outside-window",))


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize(("beside_ns", "disagrees"), [(-1, False), (0, False), (1, True)])
def test_r11_limits_of_the_clocks(sign: int, beside_ns: int, disagrees: bool) -> None:
    case = honest().case()
    elapsed = 100 * S
    case = replace(case, elapsed_ns=elapsed)
    event = case.figure._replace(event_over_ns=sign * (S + beside_ns), opened_ns=0, counted_until_ns=elapsed)
    assert timing.r11_clocks_agree(replace(case, figure=event)) == (("event-clock-disagrees",) if disagrees else ())
    utc_ns = elapsed + sign * (S + timing.UTC_READING_NS + beside_ns)
    utc = case.figure._replace(event_over_ns=None, opened_ns=0, counted_until_ns=utc_ns)
    assert timing.r11_clocks_agree(replace(case, figure=utc)) == (("utc-clock-disagrees",) if disagrees else ())


@pytest.mark.parametrize(
    ("grade", "samples", "gap_ns", "enough"),
    [
        (None, 1, 600 * S, True),
        ("smoke", 1, 600 * S, True),
        ("smoke", 1, None, True),
        ("standard", 9, 10 * S, False),
        ("standard", 10, 10 * S, True),
        ("standard", 10, 10 * S + 1, False),
        ("standard", 10, None, False),
        ("standard", 11, 10 * S - 1, True),
        ("certification", 59, 30 * S, False),
        ("certification", 60, 30 * S, True),
        ("certification", 60, 30 * S + 1, False),
        ("certification", 61, 30 * S - 1, True),
    ],
)
@pytest.mark.parametrize("quantity", ["clock", "power"])
def test_r13_limits_of_the_readings(
    quantity: str, grade: Grade | None, samples: int, gap_ns: int | None, enough: bool
) -> None:
    """Each quantity is judged alone; too few of either hold where the source tells the clock."""
    plenty = {"clock_samples": 600, "clock_gap_ns": S, "power_samples": 600, "power_gap_ns": S}
    case = honest().case(**{**plenty, f"{quantity}_samples": samples, f"{quantity}_gap_ns": gap_ns})
    case = replace(case, grade=grade)
    assert telemetry.r13_telemetry(case) == (() if enough else ("telemetry-incomplete",))
    tool = case.setting._replace(model=replace(case.setting.model, source="ixsmi"))  # not known to report the clock
    without = replace(case, figure=case.figure._replace(device="corex:0"), setting=tool)
    assert telemetry.r13_telemetry(without) == (() if enough else ("telemetry-slow",))
    cpu = replace(case, setting=case.setting._replace(model=replace(case.setting.model, kind="cpu")))
    assert telemetry.r13_telemetry(cpu) == ()


@pytest.mark.parametrize("row", source_table(), ids=lambda row: f"{row.kind}-{row.source}")
@pytest.mark.parametrize("quantity", ["clock", "power"])
def test_r13_what_each_source_exposes_must_be_there(row: SourceRow, quantity: str) -> None:
    """A record is judged by the source that it names, be it the library or the tool that is read where that fails."""
    gone: dict[str, Any] = {"clock": {"clock_mean_mhz": None, "clock_max_mhz": None}, "power": {"power_mean_mw": None}}
    case = honest().case(**{f"{quantity}_samples": 0, f"{quantity}_gap_ns": None, **gone[quantity]})
    model = replace(case.setting.model, source=row.source, exposes=())  # it says that it exposes nothing
    case = replace(
        case,
        grade="standard",
        figure=case.figure._replace(device=f"{row.kind}:0"),
        setting=case.setting._replace(model=model),
    )
    expected = "telemetry-incomplete" if quantity in row.exposes else telemetry.UNWATCHED[quantity]
    assert telemetry.r13_telemetry(case) == (expected,)


@pytest.mark.parametrize(
    ("column", "code"),
    [("ecc_uncorrected", "ecc-errors"), ("foreign_processes", "foreign-process"), ("throttled_ppm", "throttled")],
)
def test_r13_one_is_enough_and_unknown_is_not_one(column: str, code: str) -> None:
    for value, codes in ((None, ("telemetry-not-exposed",)), (0, ()), (1, (code,))):
        assert telemetry.r13_telemetry(honest().case(**{column: value})) == codes


def test_a_hold_counts_only_where_the_policy_accepts_it_and_a_void_never() -> None:
    accept = frozenset({"not-steady", "wrong-product"})
    assert partition_codes(("throttled",), accept) == ((), ())
    assert partition_codes(("not-steady", "throttled"), accept) == (("not-steady",), ())
    assert partition_codes(("not-steady",), frozenset()) == (("not-steady",), ("not-steady",))
    assert partition_codes(("wrong-product",), accept) == ((), ("wrong-product",))
    assert partition_codes(("not-steady", "telemetry-incomplete"), accept)[1] == ("telemetry-incomplete",)


def test_a_device_without_any_identity_counts_0() -> None:
    one = honest()
    bare = replace(one.record.devices[0], uuid=None, serial="N/A", die_id="0")
    statement = one._replace(record=replace(one.record, devices=(bare,))).statement()
    assert [entry.codes for entry in statement.not_counted] == [("no-identity",)]


def test_an_identity_is_known_by_how_its_own_fields_became_known() -> None:
    model = honest().record.models[0]
    device = replace(honest().record.devices[0], uuid=None, serial="1654000001")
    for obtained, codes in (
        ({}, ("identity-asserted",)),
        ({"serial": "asserted"}, ("identity-asserted",)),
        ({"serial": "asserted", "uuid": "host_attested"}, ("identity-asserted",)),  # the device has no uuid
        ({"serial": "host_attested"}, ()),
        ({"serial": "device_attested"}, ("attestation-unchecked",)),  # a record holds no evidence of it
        ({"serial": "host_attested", "pci_address": "device_attested"}, ()),
    ):
        assert identities.identity_codes(device, replace(model, obtained=obtained)) == codes


@pytest.mark.parametrize(
    ("vendor", "fields", "codes"),
    [
        ("NVIDIA", {"uuid": UUID}, ()),
        ("NVIDIA", {"uuid": UUID.replace("GPU", "MIG"), "parent": UUID}, ()),
        ("NVIDIA", {"uuid": f"MIG-{UUID}/13/0", "parent": UUID}, ()),
        ("NVIDIA", {"uuid": UUID.replace("5f0e1d2c", "00000001")}, ()),
        ("NVIDIA", {"uuid": None}, ("identity-incomplete",)),
        ("NVIDIA", {"uuid": "GPU-card-0017"}, ("identity-form-differs",)),
        ("NVIDIA", {"uuid": f"{UUID}-0000-1"}, ("identity-form-differs",)),
        ("AMD", {"uuid": "0x5f0e1d2c3b4a5968"}, ()),
        ("AMD", {"uuid": "0xa1b2c3d4e5f607"}, ()),
        ("AMD", {"uuid": None}, ()),  # its serial number is there
        ("AMD", {"uuid": None, "serial": None, "die_id": "7e44d0a8"}, ("identity-incomplete",)),
        ("AMD", {"uuid": None, "parent": "692441000101"}, ("no-identity",)),  # the serial number is the board's
        ("AMD", {"uuid": UUID}, ("identity-form-differs",)),
        ("Huawei", {"uuid": None, "die_id": "7E44D0A8 208201 1BC00234 5B190A40 43820091"}, ()),
        ("Huawei", {"uuid": None, "die_id": "7E44D0A8-00208201-1BC00234-5B190A40-43820091"}, ()),
        ("Huawei", {"uuid": None}, ("identity-incomplete",)),
        ("Huawei", {"uuid": None, "die_id": "card 17 of rack"}, ("identity-form-differs",)),
        ("Hygon", {"uuid": "TCA00000000001"}, ()),
        ("MetaX", {"uuid": None}, ()),
    ],
)
def test_a_real_accelerator_has_the_identity_that_its_vendor_reports(
    vendor: str, fields: dict[str, str | None], codes: tuple[str, ...]
) -> None:
    obtained: dict[str, Obtained] = dict.fromkeys(("uuid", "serial", "die_id"), "host_attested")
    model = replace(honest().record.models[0], vendor=vendor, simulated=False, obtained=obtained)
    device = replace(honest().record.devices[0], **{"serial": "1654000001", **fields})
    assert identities.identity_codes(device, model) == codes
    for spared in (replace(model, simulated=True), replace(model, kind="cpu")):
        assert identities.identity_codes(device, spared) == (codes if "no-identity" in codes else ())


def test_a_record_that_is_published_counts_nothing() -> None:
    one = honest()
    assert identities.record_codes(one.record) == ()
    published = one._replace(record=replace(one.record, identities_replaced=True))
    assert identities.record_codes(published.record) == ("identities-replaced",)
    assert effect_of("identities-replaced") == "void"
    assert published.statement().classes[0].counted.devices == 0


@pytest.mark.parametrize(("count", "codes"), [(1, ()), (64, ()), (65, ("too-many-devices",))])
def test_no_node_has_more_than_64_devices(count: int, codes: tuple[str, ...]) -> None:
    honest_one = honest()
    record = with_devices(count)(honest_one.record)
    assert identities.r12_device_count(record) == codes
    statement = honest_one._replace(record=record).statement()
    assert statement.classes[0].counted.devices == (not codes)
    assert [one.codes for one in statement.not_counted if one.device == "fake:0"] == ([codes] if codes else [])
    cpu = replace(record.models[0], kind="cpu", units=32)
    beside = replace(record.devices[0], device="cpu:0", model=1)
    both = replace(record, models=(*record.models, cpu), devices=(*record.devices, beside))
    assert identities.r12_device_count(both) == codes
    assert identities.r12_device_count(replace(record, models=(cpu,))) == codes


@pytest.mark.parametrize(("cores", "codes"), [((1024, 1024), ()), ((1024, 1025), ("too-many-devices",)), ((4096,), ())])
def test_the_cpus_of_a_node_have_no_more_cores_together_than_one_may(
    cores: tuple[int, ...], codes: tuple[str, ...]
) -> None:
    """Each is believed up to 2,048 cores (L7): a node of 64 such had told 218 PFLOPS of FP32."""
    record = with_devices(len(cores))(honest().record)
    models = tuple(replace(record.models[0], kind="cpu", units=count) for count in cores)
    devices = tuple(replace(device, model=place) for place, device in enumerate(record.devices))
    assert identities.r12_device_count(replace(record, models=models, devices=devices)) == codes


@pytest.mark.parametrize(
    ("torch", "cupy", "says_so"),
    [("libcublas.so.13 sha256 aa", "libcublas.so.13 sha256 aa", True), ("aa", "bb", False), ("aa", None, False)],
)
def test_a_second_path_through_the_same_library_is_none_and_says_so(
    torch: str, cupy: str | None, says_so: bool
) -> None:
    """What agrees confirms little then; what is slower still speaks against the figure."""
    one = judged(Broken("honest", (), profile=PATHS))
    libraries = {"torch.blas": torch, **({"cupy.blas": cupy} if cupy else {})}
    (path,) = one.record.companions
    change = both(
        measurement_is(kernel="gemm-torch"),
        switches_are(**dict.fromkeys(products.OUR_KERNELS["gemm-torch"][1], "off")),
        environment_is(libraries=libraries),
        record_is(companions=(replace(path, kernel="gemm-cupy"),)),
    )
    kernels = {"fake": Kernels(figure="gemm-torch", companions={"fp16": ("gemm-cupy",)})}
    other = one._replace(record=change(one.record), profile=replace(PATHS, kernels=kernels))
    expected = {"same-library"} if says_so else set()
    assert set(other.codes().codes) - {*UNRATED} - {"switch-unreadable"} == expected
    slower = other._replace(record=beside_is(rate_mflop_s=lambda rate: rate * 97 // 100)(other.record))
    assert set(slower.codes().codes) - {*UNRATED} == {*expected, "paths-disagree"}


def test_a_record_has_every_switch_of_its_kernel_and_stack() -> None:
    one = honest()
    torch = replace(one.measurements[0], kernel="gemm-torch")
    cuda = replace(torch, device=("cuda:0",))
    assert set(products.switches_of(torch)) == {"environment", *torch_switches.names()}
    assert set(products.switches_of(cuda)) == set(products.switches_of(torch)) | set(cublas.SWITCHES)
    assert set(products.switches_of(replace(torch, kernel="gemm-cupy"))) == {"environment", *cublas.SWITCHES}
    assert products.switches_of(replace(torch, kernel="gemm-own")) == ("environment",)
    assert set(products.switches_of(replace(cuda, kernel="lu-torch"))) == set(products.switches_of(cuda))
    assert products.OUR_KERNELS.keys() == {*KERNELS, *SOLVERS, "gemm-fake", "lu-fake", "mixed-fake"}
    full = dict.fromkeys(products.switches_of(cuda), "off")
    for name in full:
        less = environment_is(switches={k: v for k, v in full.items() if k != name})(one.record)
        assert "reduced-precision-switch" in products.r1_native_arithmetic(less, cuda, one.record.models[0]), name
    whole = environment_is(switches=full)(one.record)
    assert products.r1_native_arithmetic(whole, cuda, one.record.models[0]) == ()


def test_the_table_of_sources_has_each_kind_once_with_each_source() -> None:
    """That its rows are what our back ends read is tests/certify/policy/test_sources.py's."""
    assert {row.kind for row in source_table()} == DEVICES.keys() - {"cpu"}
    named = [(row.kind, row.source) for row in source_table()]
    assert len(set(named)) == len(named)
    assert exposed_by("cuda", "nvml") == frozenset(nvml.EXPOSES)
    assert exposed_by("torch", None) == frozenset()
    for kind in {row.kind for row in source_table()}:
        first = next(row for row in source_table() if row.kind == kind)
        assert exposed_by(kind, "another") == exposed_by(kind, first.source) == frozenset(first.exposes)
    assert exposed_by("acme", "acme-tool") is None


def test_the_verifier_knows_each_back_end_and_each_reference_kernel() -> None:
    for kind, vendor in VENDORS.items():
        assert getattr(load_backend(kind), "vendor", "NVIDIA") == vendor
    assert {name: load_reference(name).role for name in REFERENCES} == REFERENCE_ROLES


@pytest.mark.parametrize(
    ("year", "starts_at", "codes"),
    [
        (2024, "2023-12-31T23:59:59.999999Z", ("before-first-year",)),
        (2024, "2024-01-01T00:00:00.000000Z", ()),
        (2024, "2030-01-01T00:00:00.000000Z", ()),
        (2024, "1970-01-01T00:00:00.000000Z", ("before-first-year",)),
        (None, "1970-01-01T00:00:00.000000Z", ()),
    ],
)
def test_r12_no_device_was_measured_before_it_was_announced(
    year: int | None, starts_at: str, codes: tuple[str, ...]
) -> None:
    rating = replace(installed_ratings().units[0], year=year)
    record = replace(honest().record, starts_at=starts_at)
    assert plausibility.r12_announced(record, rating) == codes
    assert plausibility.r12_announced(record, None) == ()


def test_every_rule_stands_once() -> None:
    """A code that a rule yields is written in no other module: there is one rule book (ADR 18)."""
    judges = [Path(module.__file__ or "") for module in (identities, products, timing, plausibility)]
    room = judges[0].parents[1]
    told_apart = {"throttled", "upcast", "wrong-product"}  # words of records and samples too: a quantity, a method
    codes = {code for path in judges for code in literals(path)} - told_apart
    assert len(codes) >= 40
    others = {path: literals(path) & codes for path in room.rglob("*.py") if path not in judges}
    assert {path.name: found for path, found in others.items() if found} == {}


def literals(path: Path) -> set[str]:
    """Return the reason codes of figures that a module names."""
    tree = ast.parse(path.read_text())
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return {text for text in texts & reasons().keys() if effect_of(text) in ("note", "hold", "void")}
