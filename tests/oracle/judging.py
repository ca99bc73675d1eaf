"""The run rules that numbers decide, judged anew: R1 (software), R3, R4 (length), R5 to R7, R9 to R13. Pure and exact.

Written from docs/run-rules.md and docs/residuals.md. R1's methods, R2, registered shapes, identity and kind of devices
are not here: they are taken from the statement.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

from bench.record import (
    Campaign,
    Device,
    DeviceModel,
    Figure,
    Grade,
    Measurement,
    NodeRecord,
    Profile,
    Window,
)
from bench.units import utc_ns
from tests.oracle import ceilings
from tests.oracle.bounds import Interval, change
from tests.oracle.ceilings import Facts

SECOND_NS = 10**9
GRADES: tuple[tuple[Grade, int], ...] = (
    ("certification", 600 * SECOND_NS),
    ("standard", 60 * SECOND_NS),
    ("smoke", 3 * SECOND_NS),
)
ORDER = [grade for grade, _ in reversed(GRADES)]
ITEM_BYTES = {"fp16": 2, "bf16": 2, "fp32": 4, "fp64": 8}
LEAST_OPERANDS = {"cpu": 256 * 2**20, "gpu": 2**30, "npu": 2**30}  # R3, where the cache is not known

# R1: by kernel, what it runs on (None: anything but a fake) and the switches that it records on an NVIDIA GPU.
KERNELS: dict[str, tuple[str | None, str]] = {
    "gemm-fake": ("fake", ""),
    "gemm-numpy": ("cpu", ""),
    "gemm-cupy": ("cuda", "cublas.math_mode cublas.emulation_strategy"),
    "gemm-torch": (
        None,
        "torch.float32_matmul_precision torch.fp32_precision torch.cudnn.allow_tf32 torch.mkldnn.allow_tf32"
        " torch.cuda.matmul.fp32_precision torch.cudnn.fp32_precision torch.cudnn.conv.fp32_precision"
        " torch.cudnn.rnn.fp32_precision torch.mkldnn.fp32_precision torch.mkldnn.matmul.fp32_precision"
        " torch.mkldnn.conv.fp32_precision torch.mkldnn.rnn.fp32_precision"
        " torch.cuda.matmul.allow_tf32 torch.cuda.matmul.allow_fp16_reduced_precision_reduction"
        " torch.cuda.matmul.allow_bf16_reduced_precision_reduction torch.cuda.matmul.allow_fp16_accumulation"
        " torch.cnnl.allow_tf32 torch.npu.matmul.cube_math_type"
        " torch.npu.matmul.allow_hf32 torch.npu.conv.allow_hf32 torch.mudnn.allow_tf32 torch.mlu.matmul.allow_tf32"
        " cublas.math_mode cublas.emulation_strategy",
    ),
}
EMULATION = ("ozimmu", "ozimma", "gemmul8", "cumpsgemm")
# R13: by kind and source what is told of clock and power; the first of a kind stands for sources that are not here.
BOTH, POWER = frozenset({"clock", "power"}), frozenset({"power"})
TOLD: dict[str, dict[str | None, frozenset[str]]] = {
    "cuda": {"nvml": BOTH},
    "rocm": {"amdgpu": BOTH, "amdsmi": BOTH, "rocm-smi": BOTH},
    "npu": {"dcmi": BOTH, "npu-smi": POWER},
    "mlu": {"cndev": POWER, "cnmon": POWER},
    "dcu": {"hgml": BOTH, "rsmi": BOTH, "hy-smi": BOTH, "rocm-smi": BOTH},
    "musa": {"mtml": BOTH, "mthreads-gmi": BOTH},
    "maca": {"mxsml": BOTH, "mx-smi": POWER},
    "corex": {"ixml": BOTH, "ixsmi": POWER},
    "kunlun": {"xpu-smi": BOTH, "xpu_smi": BOTH},
    "torch": {None: frozenset()},
    "fake": {"fake": BOTH},
}

SOLVES = ("solve", "mixed")

RECOMPUTED: dict[str, tuple[str, ...]] = {  # rule -> the codes that this module may give
    "R1 (software)": (
        "reduced-precision-switch",
        "switch-unreadable",
        "kernel-unknown",
        "kernel-impossible",
        "emulation-library",
    ),
    "R3": ("operands-in-cache",),
    "R4 (length of a launch, threads)": (
        "unequal-subwindows",
        "launch-too-long",
        "threads-below-cores",
        "reference-blas",
    ),
    "R5 (bounds of the errors)": (
        "wrong-product",
        "operands-not-random",
        "products-not-verified",
        "reduced-precision-reduction",
    ),
    "R15": ("solve-residual-exceeded",),
    "R5 (second path)": (
        "path-missing",
        "path-wrong",
        "companion-missing",
        "same-library",
        "second-path-faster",
        "paths-disagree",
    ),
    "R6": (
        "not-warm",
        "warmup-rate-trend",
        "warmup-clock-trend",
        "warmup-temperature-trend",
        "not-steady",
        "still-rising",
    ),
    "R7": ("window-too-short", "below-profile"),
    "R8, R9": ("statistics-differ", "remainder-too-long", "autocorrelated", "wide-interval"),
    "R10": (
        "outside-window",
        "clock-unknown",
        "clock-bound-zero",
        "clock-uncertain",
        "not-simultaneous",
        "late-load",
        "ramp-not-kept",
    ),
    "R11": ("event-clock-disagrees", "utc-clock-disagrees"),
    "R12 (ceilings, energy)": (
        "above-silicon-ceiling",
        "above-observed-clock-ceiling",
        "above-mean-clock",
        "above-measured-ceiling",
        "above-rating-unproven",
        "above-best-known",
        "above-every-rating",
        "above-cpu-ceiling",
        "above-uncertain-silicon",
        "above-nominal",
        "no-ceiling",
        "units-not-told",
        "clock-not-told",
        "units-above-row",
        "units-below-row",
        "memory-differs",
        "bin-differs",
        "die-not-rated",
        "too-many-parts",
        "share-unknown",
        "power-with-parent",
        "power-impossible",
        "power-too-low",
        "clock-impossible",
        "errors-impossible",
        "verified-impossible",
        "duty-zero",
        "events-missing",
        "precision-ratio-impossible",
        "energy-disagrees",
        "energy-counter-doubtful",
    ),
    "R12 (year)": ("before-first-year",),
    "R13": (
        "ecc-errors",
        "foreign-process",
        "foreign-load",
        "throttled",
        "telemetry-incomplete",
        "telemetry-slow",
        "telemetry-not-exposed",
        "clock-not-watched",
        "power-not-watched",
        "source-unknown",
    ),
}
CODES = frozenset(code for codes in RECOMPUTED.values() for code in codes)


class Case(NamedTuple):
    """One figure and what it is judged by. Telemetry is that of the samples, where there are any."""

    record: NodeRecord
    measurement: Measurement
    figure: Figure
    rates: Interval | None  # from the samples' 30 times; None where the launches or times are none
    device: Device
    model: DeviceModel
    facts: Facts  # of R12
    campaign: Campaign
    profile: Profile
    slot_ns: int
    place: int  # of the device on its node

    @property
    def elapsed_ns(self) -> int:
        """S."""
        return sum(self.figure.subwindow_ns)


def step_of(case: Case) -> str:
    """Return the step of R12: the strongest evidence that bounds a figure."""
    return ceilings.codes(case.facts)[1]


def judge(case: Case) -> tuple[list[str], Grade | None]:
    """Return the codes that a figure earns under the rules of `RECOMPUTED`, and the grade that it reaches."""
    grade = grade_of(case)
    codes = [
        *dict.fromkeys(_software(case)),
        *_operands(case),
        *_launches(case),
        *_errors(case),
        *dict.fromkeys(_second_path(case)),
        *_steady(case, grade),
        *_length(case, grade),
        *_statistics(case),
        *_simultaneous(case),
        *_ramp(case),
        *_clocks(case),
        *_plausible(case),
        *_announced(case),
        *dict.fromkeys(_watched(case, grade)),
    ]
    return codes, grade


def core_window(case: Case) -> Window | None:
    """Return the campaign's window of the workload, if the node was there from before it until after it."""
    record, start = case.record, utc_ns(case.record.starts_at)
    for window in case.campaign.windows:
        inside = utc_ns(record.ready_at) <= start + window.opens_ns and start + window.closes_ns <= utc_ns(
            record.ended_at
        )
        if inside and (window.precision, window.choice) == (case.measurement.precision, case.measurement.choice):
            return window
    return None


def grade_of(case: Case) -> Grade | None:
    """R7: what the counted time reaches, up to the profile's grade, and to `standard` where a node is on its own."""
    most = case.profile.grade
    for grade, least_ns in GRADES:
        if grade == "certification" and case.campaign.self_issued:
            continue
        if case.elapsed_ns >= least_ns and ORDER.index(grade) <= ORDER.index(most):
            return grade
    return None


def _operands(case: Case) -> Iterator[str]:
    m = case.measurement
    right = 1 if m.choice in SOLVES else m.n
    whole = m.operand_sets * (m.m * m.k + m.k * right) * ITEM_BYTES[m.precision]
    least = 2 * case.model.cache_bytes if case.model.cache_bytes else LEAST_OPERANDS[case.model.kind]
    if m.operand_sets < 2 or m.operand_bytes < least or m.operand_bytes > whole:
        yield "operands-in-cache"


def _launches(case: Case) -> Iterator[str]:
    if case.figure.launches % 30:
        yield "unequal-subwindows"
    elif case.figure.launches < 120:
        yield "launch-too-long"
    cores, threads = case.model.units, case.figure.threads
    if case.model.kind == "cpu" and cores is not None and threads is not None and cores > threads:
        yield "threads-below-cores"
    text = case.record.environment.libraries.get(case.measurement.kernel.split("-", 1)[-1] + ".blas", "")
    if case.model.kind == "cpu" and text[:14] == "reference BLAS":
        yield "reference-blas"


def _kind(case: Case) -> str:
    return case.figure.device.split(":")[0]


def _software(case: Case) -> Iterator[str]:
    """R1: the kernel, its switches and the libraries beside it."""
    found, m = case.record.environment.switches, case.measurement
    begins = {"solve": "lu-", "mixed": "mixed-"}.get(m.choice, "gemm-")
    kernel = m.kernel.replace(begins, "gemm-")
    runs_on, names = KERNELS.get(kernel, (None, ""))
    cuda = kernel != "gemm-torch" or any(name.startswith("cuda:") for name in case.measurement.device)
    wanted = {"environment", *(name for name in names.split() if cuda or not name.startswith("cublas"))}
    f, half = case.figure, case.measurement.precision in ("fp16", "bf16")
    good = (f.rms_error_ppm or 0) <= (650_000 if half else 1_000_000)
    if wanted - found.keys() or set(found.values()) - {"off", "absent", "unreadable"}:
        yield "reduced-precision-switch"
    if "unreadable" in found.values():
        yield "switch-unreadable" if good else "reduced-precision-switch"
    if kernel not in KERNELS:
        yield "kernel-unknown"
    elif not m.kernel.startswith(begins) or (
        not case.model.simulated and (_kind(case) == "fake" if runs_on is None else _kind(case) != runs_on)
    ):
        yield "kernel-impossible"
    texts = [text.lower() for pair in case.record.environment.libraries.items() for text in pair]
    if any(part in text for part in EMULATION for text in texts):
        yield "emulation-library"


def _second_path(case: Case) -> Iterator[str]:
    """R5: what the profile wants beside a fixed figure, and whether another path to the product contradicts it."""
    m, f, named = case.measurement, case.figure, case.profile.kernels.get(_kind(case))
    if named is None or m.choice != "fixed":
        return
    beside = [c for c in case.record.companions if c.precision == m.precision]
    rows = {c.kernel: row for c in beside for row in c.figures() if row.device == f.device and row.trouble is None}
    half = m.precision in ("fp16", "bf16")
    row_most, rms_most, rms_least = (3_500_000, 1_100_000, 200_000) if half else (4_000_000, 1_000_000, 1)
    libraries = case.record.environment.libraries
    for name in named.companions.get(m.precision, ()):
        row = rows.get(name)
        if name in ("issue-mma", "issue-wgmma", "issue-fma", "triad"):
            if row is None:
                yield "companion-missing"
            continue
        if row is None or 4 * row.elapsed_ns < case.profile.companion_ns:
            yield "path-missing"
            continue
        most, mean = row.row_error_ppm, row.rms_error_ppm
        if most is None or mean is None or most > row_most or not rms_least <= mean <= rms_most:
            yield "path-wrong"
        mine, other = (libraries.get(kernel.replace("gemm-", "") + ".blas") for kernel in (m.kernel, name))
        if mine is not None and mine == other:
            yield "same-library"
        rate = row.rate_mflop_s or 0
        if 100 * rate > 102 * f.sustained_mflop_s:
            yield "second-path-faster"
        elif 100 * rate < 98 * f.sustained_mflop_s:
            yield "paths-disagree"


def _errors(case: Case) -> Iterator[str]:
    f, half = case.figure, case.measurement.precision in ("fp16", "bf16")
    row_most, rms_most, rms_good, rms_least = (
        (3_500_000, 1_100_000, 650_000, 200_000) if half else (4_000_000, 1_000_000, 1_000_000, 1)
    )
    row, rms = f.row_error_ppm, f.rms_error_ppm
    if case.measurement.choice in SOLVES:
        if row is None or row >= 16_000_000:
            yield "solve-residual-exceeded"
        elif row == 0:
            yield "operands-not-random"
        elif f.verified_launches < case.measurement.operand_sets:
            yield "products-not-verified"
        return
    if row is None or rms is None or row > row_most or rms > rms_most:
        yield "wrong-product"
    elif rms < rms_least:
        yield "operands-not-random"
    else:
        if f.verified_launches < case.measurement.operand_sets:
            yield "products-not-verified"
        if rms > rms_good:
            yield "reduced-precision-reduction"


def _steady(case: Case, grade: Grade | None) -> Iterator[str]:
    if case.figure.warmup_ns < Fraction(case.profile.warmup_ns, 2):
        yield "not-warm"
    if case.figure.warmup_end.endswith("-trend"):
        yield f"warmup-{case.figure.warmup_end}"
    if case.rates is None or grade not in ("standard", "certification"):
        return
    most = 1 if grade == "certification" else 2
    by = change(case.figure.subwindow_ns)
    beyond_noise = by * by > most * most * case.rates.square_of_h / case.rates.sum_ns**2
    if abs(by) > Fraction(most, 100) and beyond_noise:
        yield "not-steady" if by > 0 else "still-rising"


def _length(case: Case, grade: Grade | None) -> Iterator[str]:
    wanted = case.profile.grade
    if case.campaign.self_issued and wanted == "certification":
        wanted = "standard"
    if grade is None:
        yield "window-too-short"
    elif ORDER.index(grade) < ORDER.index(wanted):
        yield "below-profile"


def _statistics(case: Case) -> Iterator[str]:
    f, profile, rates = case.figure, case.profile, case.rates
    if min(f.subwindow_over_ns):
        yield "statistics-differ"
        return
    wished = profile.window_ns // (30 * profile.launches_per_subwindow)
    remainder = 30 * max(case.elapsed_ns // f.launches, wished)
    if 4 * (f.covered_until_ns - f.counted_until_ns) > 5 * remainder:
        yield "remainder-too-long"
        return
    stated = (f.sustained_mflop_s, f.certified_mflop_s, f.upper_mflop_s)
    if rates is None or stated != (rates.sustained_mflop_s, rates.certified_mflop_s, rates.upper_mflop_s):
        yield "statistics-differ"
        return
    if rates.rho * 10**6 // 1 > 500_000:  # in whole millionths, as it is recorded
        yield "autocorrelated"
    if 10 * rates.certified_mflop_s < 9 * rates.sustained_mflop_s:
        yield "wide-interval"


def _simultaneous(case: Case) -> Iterator[str]:
    f, clock, window = case.figure, case.record.clock, core_window(case)
    length = window.closes_ns - window.opens_ns if window else -1
    if not 0 <= f.opened_ns <= f.counted_until_ns <= f.covered_until_ns <= length:
        yield "outside-window"
        return
    known = clock.uncertainty_ns is not None and not (clock.source == "self" and not case.campaign.self_issued)
    if not known or (clock.source == "fake" and not case.model.simulated):
        yield "clock-unknown"
        return
    uncertain = clock.uncertainty_ns or 0
    if not uncertain and clock.source not in ("self", "fake"):
        yield "clock-bound-zero"
    if uncertain > SECOND_NS:
        yield "clock-uncertain"
    if 100 * (f.covered_until_ns - f.opened_ns - 2 * uncertain) < 99 * length:
        yield "not-simultaneous"


def _ramp(case: Case) -> Iterator[str]:
    if (window := core_window(case)) is None:
        return
    loaded = window.opens_ns - case.figure.warmup_ns
    late = loaded - (window.load_ns + case.slot_ns + case.place * case.profile.stagger_ns)
    if late > 2 * SECOND_NS:
        yield "late-load"
    elif late < -2 * SECOND_NS:
        yield "ramp-not-kept"


def _clocks(case: Case) -> Iterator[str]:
    f, elapsed = case.figure, case.elapsed_ns
    if f.event_over_ns is not None and 100 * abs(f.event_over_ns) > elapsed:
        yield "event-clock-disagrees"
    if 100 * (abs(f.counted_until_ns - f.opened_ns - elapsed) - 50_000_000) > elapsed:
        yield "utc-clock-disagrees"


def _plausible(case: Case) -> Iterator[str]:
    yield from ceilings.codes(case.facts)[0]
    f, power = case.figure, case.figure.power_mean_mw
    if f.power_counter_mw is not None and power is not None and 10 * abs(f.power_counter_mw - power) > power:
        yield "energy-counter-doubtful" if case.model.vendor.lower() == "amd" else "energy-disagrees"


def _announced(case: Case) -> Iterator[str]:
    """Nothing is measured before its model is announced, in any part of that year."""
    row = case.facts.rows[case.device.model].rating
    year = None if row is None else row.year
    if year is not None and utc_ns(case.record.starts_at) < utc_ns(f"{year}-01-01T00:00:00.000000Z"):
        yield "before-first-year"


def _watched(case: Case, grade: Grade | None) -> Iterator[str]:
    f = case.figure
    for count, code in (
        (f.ecc_uncorrected, "ecc-errors"),
        (f.foreign_processes, "foreign-process"),
        (f.throttled_ppm, "throttled"),
    ):
        if count:
            yield code
    if case.model.kind == "cpu":
        lost = [share for share in (case.measurement.steal_ppm, case.measurement.other_load_ppm) if share is not None]
        if 100 * sum(lost) > 10**6:  # more than 1 % of the CPUs' time
            yield "foreign-load"
        return
    if None in (f.temperature_max_c, f.throttled_ppm, f.foreign_processes, f.ecc_uncorrected):
        yield "telemetry-not-exposed"
    least, longest = {"certification": (60, 30), "standard": (10, 10)}.get(grade or "", (0, 0))
    table = TOLD.get(_kind(case))
    if table is None:
        yield "source-unknown"
    first = next(iter(table.values())) if table else frozenset()
    tells = frozenset(case.model.exposes) if table is None else table.get(case.model.source, first)
    read = {
        "clock": (f.clock_samples, f.clock_gap_ns, f.clock_mean_mhz, f.clock_max_mhz),
        "power": (f.power_samples, f.power_gap_ns, f.power_mean_mw, 0),
    }
    for name, (count, gap, mean, highest) in read.items():
        promised = name in tells and (name == "clock" or case.model.count_unit in ("card", "package"))
        if not count or mean is None or highest is None:
            yield "telemetry-incomplete" if promised and least else f"{name}-not-watched"
        elif count < least or (least and (gap is None or gap > longest * SECOND_NS)):
            yield "telemetry-incomplete" if promised and "clock" in tells else "telemetry-slow"
