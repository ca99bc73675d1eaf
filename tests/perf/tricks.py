"""Ways to a higher figure that is not true, through the real `Session`: each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

import msgspec

from bench.devices.base import OpenDevice
from bench.record import Precision, Shape
from tests.perf.rig import Rig, Run, Setup, alone, bare_product, only, profile_of

SAME_ERROR = 0.05  # relative: a switch that moves the RMS error of products by less has changed nothing
EMULATION = {"CUBLAS_EMULATE_DOUBLE_PRECISION": "1", "CUBLAS_EMULATION_STRATEGY": "eager"}
# torch's switches that R1 wants off, and what turns them on, by torch's device type and precision.
TORCH_SWITCHES: dict[tuple[str, Precision], dict[str, object]] = {
    ("cuda", "fp16"): {
        "backends.cuda.matmul.allow_fp16_reduced_precision_reduction": True,
        "backends.cuda.matmul.allow_fp16_accumulation": True,
    },
    ("cuda", "bf16"): {"backends.cuda.matmul.allow_bf16_reduced_precision_reduction": True},
    ("cuda", "fp32"): {"backends.cuda.matmul.allow_tf32": True},
    ("npu", "fp32"): {"npu.matmul.allow_hf32": True},
    ("mlu", "fp32"): {"backends.mlu.matmul.allow_tf32": True},
    ("cpu", "fp32"): {"backends.mkldnn.matmul.fp32_precision": "bf16"},
}
SPLIT_SUM = Shape(m=512, n=512, k=16384)  # few tiles and a long sum: libraries split it and add the parts


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one trick; `not_tried` says why nothing did."""

    codes: dict[str, str] = {}
    rate_mflop_s: int | None = None
    said: str = ""
    without_effect: bool = False
    not_tried: str = ""


def seen_in(run: Run, **more: Any) -> Seen:
    """Return what a run shows."""
    return Seen(codes=run.codes, rate_mflop_s=run.rate, **more)


def honestly(setup: Setup) -> Run:
    """Return the run of an honest device."""
    return _run(setup, lambda prepared: None)


def _run(setup: Setup, change: Callable[[Any], None]) -> Run:
    """Return a run in which `change` gets hold of the operands once they are on the device."""

    def tamper(opened: Any) -> OpenDevice:
        kernel: Any = opened.kernel()
        prepare = kernel.prepare

        def tampered(*arguments: Any) -> Any:
            prepared = prepare(*arguments)
            change(prepared)
            return prepared

        kernel.prepare = tampered
        opened.kernel = lambda: kernel
        return opened  # type: ignore[no-any-return]

    rig = Rig(setup, profile_of(setup), tamper=tamper)
    rig.prepare()
    return rig.run()


def _fill(prepared: Any, value: float) -> None:
    for a, b, _ in prepared._sets:
        for matrix in (a, b):
            (matrix.fill_ if hasattr(matrix, "fill_") else matrix.fill)(value)  # torch, or an array


def zeros(setup: Setup) -> Seen:
    """Multiply zeros: the host regenerates the operands and finds other products."""
    return seen_in(_run(setup, lambda prepared: _fill(prepared, 0.0)))


def ones(setup: Setup) -> Seen:
    """Multiply ones."""
    return seen_in(_run(setup, lambda prepared: _fill(prepared, 1.0)))


def hidden_zeros(setup: Setup) -> Seen:
    """Multiply zeros, by a harness that was changed to leave the check on the host out."""

    def change(prepared: Any) -> None:
        _fill(prepared, 0.0)
        prepared.check_on_host = prepared.check

    return seen_in(_run(setup, change))


def fp64_through_fp32(setup: Setup) -> Seen:
    """Cast to FP32 once, multiply there and write the products back as FP64, as some stacks do by themselves."""

    def change(prepared: Any) -> None:
        product = bare_product(prepared)
        sets = prepared._sets
        narrow = [tuple(m.float() if hasattr(m, "float") else m.astype("float32") for m in each) for each in sets]

        def launch(first: int, count: int) -> None:
            for i in range(first, first + count):
                a, b, out = narrow[i % len(sets)]
                product(a, b, out)
                sets[i % len(sets)][2][...] = out

        prepared.launch = launch

    return seen_in(_run(setup, change))


def torch_switch(setup: Setup) -> Seen:
    """Turn torch's switches on before the harness sets them off, then again behind its back."""
    rig = Rig(setup, profile_of(setup), kernel="gemm-torch")
    kind = rig.opened.target.partition(":")[0]
    switches = TORCH_SWITCHES.get((kind, setup.precision))
    if switches is None:
        return Seen(not_tried=f"torch has no such switch for {setup.precision} on {kind}")
    if kind != "cpu" and setup.precision in ("fp16", "bf16"):
        rig = Rig(setup, only(setup, SPLIT_SUM), kernel="gemm-torch")
    if not (there := _turn_on(switches)):
        return Seen(not_tried=f"this torch does not have {', '.join(switches)}")
    rig.prepare()
    set_off = all(value == "off" for value in rig.switches.values())
    honest = rig.run()
    _turn_on(switches)
    run = rig.run()
    errors, unchanged = _compared(honest, run)
    first = "was set off by the harness at first (R1)" if set_off else f"stayed on: {rig.switches}"
    said = f"{', '.join(there)} {first}; then {errors}, {run.rate / honest.rate:.2f} x the rate;"
    return Seen(codes=run.codes, said=said, without_effect=set_off and unchanged)


def _compared(honest: Run, run: Run) -> tuple[str, bool]:
    """Return the RMS errors of the products of two runs (R5) in words, and whether they are the same."""
    before, after = honest.figure.rms_error_ppm, run.figure.rms_error_ppm
    same = before is not None and after is not None and abs(after - before) <= SAME_ERROR * before
    return f"RMS error {before} -> {after} ppm of R5's unit", same


def _turn_on(switches: dict[str, object]) -> list[str]:
    """Set torch's switches and return those that it has."""
    import torch

    done = []
    for path, value in switches.items():
        *parents, last = path.split(".")
        try:
            owner = reduce(getattr, parents, torch)
            getattr(owner, last)
            setattr(owner, last, value)
        except (AttributeError, RuntimeError):
            continue
        done.append(path)
    return done


def emulation_variable(setup: Setup) -> Seen:
    """Run the command with a variable in its environment that switches emulation on."""
    petaseal = Path(sys.executable).with_name("petaseal")
    with tempfile.TemporaryDirectory() as out:
        ended = subprocess.run(
            [petaseal, "run", "--dry-run", "--device", setup.device, "--precision", setup.precision, "--out", out],
            env=os.environ | EMULATION,
            capture_output=True,
            text=True,
        )
    refused = ended.returncode == 2 and "[emulation-enabled]" in ended.stderr
    said = f"exit status {ended.returncode}, {ended.stderr.strip() or 'measured'};"
    return Seen(codes={"emulation-enabled": "refused"} if refused else {}, said=said)


def emulation_in_library(setup: Setup) -> Seen:
    """Switch emulation on in the library for a harness that was changed to ignore the environment."""
    if not setup.device.startswith("cuda"):
        return Seen(not_tried="only cuBLAS emulates FP64 by its environment")
    honest = alone(honestly, setup)
    os.environ.update(EMULATION)  # cuBLAS reads it when it is initialised, in this process
    run = honestly(setup)
    errors, unchanged = _compared(honest, run)
    return seen_in(run, said=f"{errors};", without_effect=unchanged)
