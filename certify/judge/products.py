"""R1 to R5: native arithmetic by known kernels and libraries with every switch off, and right products; R15: solves.

Pure functions of values."""

from __future__ import annotations

from bench.record import (
    REFERENCE_ROLES,
    SUBWINDOWS,
    DeviceModel,
    Measurement,
    NodeRecord,
    emulation_libraries,
    least_operand_bytes,
)
from bench.record.closing import Closing
from bench.record.plan import kernel_for, operand_bytes
from certify.judge.case import Case, Codes, MeasurementPlan, is_constant, is_wrong, kind_of, reference_kernels

ACCUMULATION = {"fp16": "fp32", "bf16": "fp32", "fp32": "fp32", "fp64": "fp64"}  # R1
SWITCHED_OFF = frozenset({"off", "absent"})  # R1; absent: this release of the library has no such switch
UNREADABLE = "unreadable"  # R1: what a switch reads as that a library refuses to tell
# R1: our kernels, the kinds of device that each exists for (none named: every kind but the fake), and the switches that
# it records wherever it runs. `environment`: no variable that switches emulation on was set; every record has it.
OUR_KERNELS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "gemm-fake": (("fake",), ()),
    "gemm-numpy": (("cpu",), ()),
    "gemm-cupy": (("cuda",), ("cublas.math_mode", "cublas.emulation_strategy")),
    "gemm-torch": (
        (),
        (
            "torch.fp32_precision",
            "torch.cuda.matmul.fp32_precision",
            "torch.cudnn.fp32_precision",
            "torch.cudnn.conv.fp32_precision",
            "torch.cudnn.rnn.fp32_precision",
            "torch.mkldnn.fp32_precision",
            "torch.mkldnn.matmul.fp32_precision",
            "torch.mkldnn.conv.fp32_precision",
            "torch.mkldnn.rnn.fp32_precision",
            "torch.float32_matmul_precision",
            "torch.cuda.matmul.allow_tf32",
            "torch.cuda.matmul.allow_fp16_reduced_precision_reduction",
            "torch.cuda.matmul.allow_bf16_reduced_precision_reduction",
            "torch.cuda.matmul.allow_fp16_accumulation",
            "torch.cudnn.allow_tf32",
            "torch.mkldnn.allow_tf32",
            "torch.npu.matmul.allow_hf32",
            "torch.npu.conv.allow_hf32",
            "torch.mudnn.allow_tf32",
            "torch.mlu.matmul.allow_tf32",
            "torch.cnnl.allow_tf32",
            "torch.npu.matmul.cube_math_type",
        ),
    ),
}
# Solves call the libraries of the products, with their switches.
OUR_KERNELS |= {f"lu-{library}": OUR_KERNELS[f"gemm-{library}"] for library in ("fake", "numpy", "torch", "cupy")}
OUR_KERNELS |= {f"mixed-{library}": OUR_KERNELS[f"gemm-{library}"] for library in ("fake", "numpy", "torch")}
OF_EVERY_KERNEL = ("environment",)
OF_TORCH = ("gemm-torch", "lu-torch", "mixed-torch")
OF_TORCH_ON_CUDA = ("cublas.math_mode", "cublas.emulation_strategy")
# R5: under which name a record has the library that a kernel calls, with its digest or version.
BLAS = {"gemm-torch": "torch.blas", "gemm-cupy": "cupy.blas", "gemm-numpy": "numpy.blas"}

REFERENCE_BLAS = "reference BLAS"  # with what a record names a library on the host that is fitted to no processor


def r1_native_arithmetic(record: NodeRecord, m: Measurement, model: DeviceModel) -> Codes:
    """R1: dense, accumulated as claimed, native; up-casting only on CPUs; no reduced-precision switch left on."""
    codes = []
    if m.accumulate != ACCUMULATION[m.computed]:
        codes.append("accumulation-differs")
    if m.method == "upcast":
        codes.append("upcast" if model.kind == "cpu" and m.computed in ("fp16", "bf16") else "upcast-not-allowed")
    switches = record.environment.switches
    left_out = any(name not in switches for name in switches_of(m))
    if left_out or any(state not in SWITCHED_OFF and state != UNREADABLE for state in switches.values()):
        codes.append("reduced-precision-switch")
    libraries = " ".join(f"{name} {version}" for name, version in record.environment.libraries.items()).casefold()
    if any(part in libraries for part in emulation_libraries()):
        codes.append("emulation-library")
    return tuple(codes)


def switches_of(m: Measurement) -> Codes:
    """Return the switches that a measurement's kernel records on its kind of device; a third party's: one alone."""
    _, recorded = OUR_KERNELS.get(m.kernel, ((), ()))
    on_cuda = m.kernel in OF_TORCH and any(kind_of(device) == "cuda" for device in m.device)
    return (*OF_EVERY_KERNEL, *recorded, *(OF_TORCH_ON_CUDA if on_cuda else ()))


def r1_kernel_exists(case: Case) -> Codes:
    """R1: a kernel that exists for the kind of device.

    A fake driver of a real kind is computed for on the CPU: its figures are marked as simulated and prove nothing.
    """
    ours = OUR_KERNELS.get(case.setting.measurement.kernel)
    if ours is None:
        return ("kernel-unknown",)
    (kinds, _), kind = ours, kind_of(case.figure.device)
    m = case.setting.measurement
    # products and solves have each their own
    if m.kernel != kernel_for(m.choice, f"gemm-{m.kernel.partition('-')[2]}"):
        return ("kernel-impossible",)
    impossible = kind not in kinds if kinds else kind == "fake"
    return ("kernel-impossible",) if impossible and not case.setting.model.simulated else ()


def r1_switches_readable(case: Case) -> Codes:
    """R1: a switch that cannot be read is taken to be off where the products have the errors of exact ones."""
    if not case.setting.unreadable:
        return ()
    good = (case.figure.rms_error_ppm or 0) <= case.setting.limits.rms_ppm
    code = "switch-unreadable" if good else "reduced-precision-switch"
    return () if code in case.setting.codes else (code,)


def is_same_library(record: NodeRecord, one: str, other: str) -> bool:
    """Return whether two kernels call one library, by the digests or versions that the record has of them."""
    called = [record.environment.libraries.get(BLAS.get(kernel, "")) for kernel in (one, other)]
    return called[0] is not None and called[0] == called[1]


MAX_PATH_DISAGREEMENT_PPM = 20_000  # R5: of two independent libraries on one device
LEAST_PATH_PARTS = 4  # R5: a path that ran for less than this part of its time was not measured


def r3_operands_beyond_cache(m: Measurement, model: DeviceModel) -> Codes:
    """R3: at least two operand sets, as large as their shape says, together at least twice the last-level cache."""
    # bytes that no launch reads would pass for a working set beyond the cache
    if m.operand_bytes > m.operand_sets * operand_bytes(m.workload, m.m, m.n, m.k):
        return ("operands-in-cache",)
    least = least_operand_bytes(model)
    return ("operands-in-cache",) if m.operand_sets < 2 or m.operand_bytes < least else ()


def r4_registered(m: Measurement, plan: MeasurementPlan) -> Codes:
    """R4: a shape that the profile lists for the workload, by the kernel that it names for the kind of device."""
    shapes = plan.profile.registered(m.workload)
    codes = () if any((m.m, m.n, m.k) == (s.m, s.n, s.k) for s in shapes) else ("shape-not-registered",)
    named = plan.profile.kernels
    kernels = [named.get(kind_of(device)) for device in m.device] if named else ()
    other = any(kernel is not None and kernel_for(m.choice, kernel.figure) != m.kernel for kernel in kernels)
    return (*codes, "kernel-not-registered") if other else codes


def r4_short_launches(case: Case) -> Codes:
    """R4: the sub-windows have equally many launches, and each has at least four."""
    launches = case.figure.launches
    # the statistics compare 30 times of equal work
    if launches % SUBWINDOWS:
        return ("unequal-subwindows",)
    return ("launch-too-long",) if launches < 4 * SUBWINDOWS else ()


def r4_largest_shape(case: Case) -> Codes:
    """R4: the fixed shape is the largest that is short enough, if memory allows; on accelerators rates grow with it."""
    setting, f = case.setting, case.figure
    m, profile = setting.measurement, setting.profile
    # a processor is fastest in what fits its caches: for it the largest shape is not the best
    if not setting.larger or m.choice != "fixed" or setting.model.kind == "cpu":
        return ()
    longest_ns = profile.window_ns // (SUBWINDOWS * profile.launches_per_subwindow)
    # twice as long as its rate says: what would have been short enough by far, and was not taken
    larger_fits = 2 * case.elapsed_ns * min(setting.larger) <= longest_ns * f.launches * m.m * m.n * m.k
    return ("smaller-shape",) if larger_fits else ()


def r4_every_core(case: Case) -> Codes:
    """R4: a processor's figure is that of all cores that may be used; fewer threads make it low."""
    threads, model = case.figure.threads, case.setting.model
    fewer = model.kind == "cpu" and threads is not None and threads < (model.units or 0)
    return ("threads-below-cores",) if fewer else ()


def r4_optimised_blas(case: Case) -> Codes:
    """R4: a processor's figure by a BLAS that is fitted to no processor is that of the library, and low."""
    m, model = case.setting.measurement, case.setting.model
    called = case.setting.record.environment.libraries.get(f"{m.kernel.partition('-')[2]}.blas", "")
    return ("reference-blas",) if model.kind == "cpu" and called.startswith(REFERENCE_BLAS) else ()


def r2_operands_random(case: Case) -> Codes:
    """R2: the errors are those of random products; that the operands answer the challenge, an audit shows alone."""
    f, limits = case.figure, case.setting.limits
    return ("operands-not-random",) if is_constant(f, limits) and not is_wrong(f, limits) else ()


def r5_products_verified(case: Case) -> Codes:
    """R5: every operand set verified while timing, and every error within its bound."""
    f, limits = case.figure, case.setting.limits
    if not limits.has_rms:
        return ()  # a solve: R15
    if is_wrong(f, limits):
        return ("wrong-product",)
    if is_constant(f, limits):
        return ()  # errors of no random product show nothing of the other bounds: R2's code alone
    codes = ("products-not-verified",) if f.verified_launches < case.setting.measurement.operand_sets else ()
    return (*codes, "reduced-precision-reduction") if (f.rms_error_ppm or 0) > limits.rms_ppm else codes


def r15_solutions_verified(case: Case) -> Codes:
    """R15: every set's solution verified while timing, and each residual below 16."""
    f, limits = case.figure, case.setting.limits
    if limits.has_rms:
        return ()  # a product: R5
    if is_wrong(f, limits):
        return ("solve-residual-exceeded",)
    unverified = not is_constant(f, limits) and f.verified_launches < case.setting.measurement.operand_sets
    return ("products-not-verified",) if unverified else ()


def r5_paths_agree(case: Case) -> Codes:
    """R5: the second path to the same product, where the profile names one, is right, and the figure is not above it.

    Where the path is faster by more than 2 %, the figure is low. A path through the same library as the figure's is no
    second one, and says so; it is held against the figure all the same.
    """
    setting, sustained = case.setting, case.figure.sustained_mflop_s
    wanted = reference_kernels(case)
    if not wanted:
        return ()
    codes: list[str] = []
    by_kernel = {s.measurement.kernel: s.figure for s in case.references}
    for name in wanted:
        there = by_kernel.get(name)
        absent = there is None or there.trouble is not None
        if name in REFERENCE_ROLES:
            codes += ["companion-missing"] if absent else []
            continue
        if there is None or absent or there.elapsed_ns * LEAST_PATH_PARTS < setting.profile.companion_ns:
            codes.append("path-missing")
            continue
        if is_wrong(there, setting.limits) or is_constant(there, setting.limits):
            codes.append("path-wrong")
        if is_same_library(setting.record, setting.measurement.kernel, name):
            codes.append("same-library")
        above = (there.rate_mflop_s or 0) - sustained
        if abs(above) * 10**6 > MAX_PATH_DISAGREEMENT_PPM * sustained:
            codes.append("second-path-faster" if above > 0 else "paths-disagree")
    return tuple(dict.fromkeys(codes))


def r4_shape_settled(measurement: Measurement, model: DeviceModel, closing: Closing | None) -> Codes:
    """R4: a figure of the fixed choice has the shape that was settled for its model, where one was."""
    m = measurement
    size = None if closing is None or m.choice != "fixed" else closing.size_of(model, m.precision)
    return ("shape-differs",) if size not in (None, (m.m, m.n, m.k)) else ()
