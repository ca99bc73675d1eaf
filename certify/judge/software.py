"""R1: native arithmetic by known kernels and libraries, with every switch of reduced precision off. Pure functions."""

from __future__ import annotations

from bench.record import (
    DeviceModel,
    Measurement,
    NodeRecord,
    emulation_libraries,
)
from certify.judge.case import Case, Codes, kind_of

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
OF_EVERY_KERNEL = ("environment",)
OF_TORCH_ON_CUDA = ("cublas.math_mode", "cublas.emulation_strategy")
# R5: under which name a record has the library that a kernel calls, with its digest or version.
BLAS = {"gemm-torch": "torch.blas", "gemm-cupy": "cupy.blas", "gemm-numpy": "numpy.blas"}


def r1_native_arithmetic(record: NodeRecord, m: Measurement, model: DeviceModel) -> Codes:
    """R1: dense, accumulated as claimed, native; up-casting only on CPUs; no reduced-precision switch left on."""
    codes = []
    if m.accumulate != ACCUMULATION[m.precision]:
        codes.append("accumulation-differs")
    if m.method == "upcast":
        codes.append("upcast" if model.kind == "cpu" and m.precision in ("fp16", "bf16") else "upcast-not-allowed")
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
    _, own = OUR_KERNELS.get(m.kernel, ((), ()))
    on_cuda = m.kernel == "gemm-torch" and any(kind_of(device) == "cuda" for device in m.device)
    return (*OF_EVERY_KERNEL, *own, *(OF_TORCH_ON_CUDA if on_cuda else ()))


def r1_kernel_exists(case: Case) -> Codes:
    """R1: a kernel that exists for the kind of device.

    A fake driver of a real kind is computed for on the CPU: its figures are marked as simulated and prove nothing.
    """
    ours = OUR_KERNELS.get(case.setting.measurement.kernel)
    if ours is None:
        return ("kernel-unknown",)
    (kinds, _), own = ours, kind_of(case.figure.device)
    impossible = own not in kinds if kinds else own == "fake"
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
