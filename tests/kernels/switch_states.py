"""The states in which other code may have left torch's switches, and what `switches()` then makes of them.

Run by tests/kernels/test_torch_switches.py, and by hand with any other torch: ``PYTHONPATH=. PYTHON THIS_FILE``. Each
state is tried in a process of its own, since nothing takes the use of a generation of settings back.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import reduce
from typing import Any

import torch

from kernels.gemm_torch import GemmTorch

Setting = tuple[str, object]
MATMUL = "set_float32_matmul_precision"
NEWER_THEN_OLDER: tuple[Setting, ...] = (("backends.fp32_precision", "tf32"), ("backends.cudnn.allow_tf32", False))
STATES: dict[str, tuple[Setting, ...]] = {
    "untouched": (),
    **{
        f"{path} = {value}": ((path, value),)
        for path, value in (
            ("backends.fp32_precision", "tf32"),
            ("backends.fp32_precision", "bf16"),
            ("backends.cuda.matmul.fp32_precision", "tf32"),
            ("backends.cudnn.fp32_precision", "tf32"),
            ("backends.cudnn.conv.fp32_precision", "tf32"),
            ("backends.cudnn.rnn.fp32_precision", "ieee"),
            ("backends.mkldnn.fp32_precision", "tf32"),
            ("backends.mkldnn.matmul.fp32_precision", "tf32"),
            ("backends.mkldnn.matmul.fp32_precision", "bf16"),
            ("backends.mkldnn.conv.fp32_precision", "bf16"),
            ("backends.mkldnn.rnn.fp32_precision", "bf16"),
            (MATMUL, "medium"),
            (MATMUL, "high"),
            ("backends.cuda.matmul.allow_tf32", True),
            ("backends.cudnn.allow_tf32", False),
            ("backends.cuda.matmul.allow_fp16_reduced_precision_reduction", True),
            ("backends.cuda.matmul.allow_bf16_reduced_precision_reduction", True),
            ("backends.cuda.matmul.allow_fp16_accumulation", True),
        )
    },
    "newer, then older": NEWER_THEN_OLDER,
    "older, then newer": tuple(reversed(NEWER_THEN_OLDER)),
    "both, for matrix products": ((MATMUL, "medium"), ("backends.mkldnn.matmul.fp32_precision", "bf16")),
    "all at odds": (
        (MATMUL, "high"),
        ("backends.cudnn.conv.fp32_precision", "tf32"),
        ("backends.cudnn.rnn.fp32_precision", "ieee"),
        ("backends.cuda.matmul.fp32_precision", "ieee"),
        ("backends.mkldnn.matmul.fp32_precision", "bf16"),
    ),
}


def leave(settings: tuple[Setting, ...]) -> bool:
    """Set what other code has set; return whether this torch has all of it."""
    there = True
    for path, value in settings:
        *parents, last = path.split(".")
        try:
            owner = reduce(getattr, parents, torch)
            if path == MATMUL:
                getattr(owner, last)(value)
                continue
            with suppress(RuntimeError):
                getattr(owner, last)  # a plain module would take any name
            setattr(owner, last, value)
        except AttributeError:
            there = False
        except RuntimeError:  # refused beside what was set before: then that is the state
            pass
    return there


def product(size: int = 512) -> dict[str, Any]:
    """Return an FP32 product's digest, and its largest error in ppm of its largest element: 1000s in BF16 or TF32."""
    a, b = (torch.randn(size, size, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    exact, found = a.double() @ b.double(), a @ b
    error = float((found.double() - exact).abs().max() / exact.abs().max())
    return {"sha256": hashlib.sha256(found.numpy().tobytes()).hexdigest(), "error_ppm": int(error * 1e6)}


def tried(settings: tuple[Setting, ...]) -> dict[str, Any]:
    """Return whether a state is possible, what the switches read as after it, and products before and after."""
    there = leave(settings)
    before = product()
    switches = GemmTorch().switches()
    return {"there": there, "before": before, "switches": switches, "after": product()}


def apart(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what work gives in a process of its own, which begins with torch imported and untouched."""
    ours, theirs = os.pipe()
    if (child := os.fork()) == 0:
        try:
            told = work()
        except BaseException as error:
            told = {"raised": f"{type(error).__name__}: {error}"[:300]}
        with open(theirs, "w") as out:
            json.dump(told, out)
        os._exit(0)
    os.close(theirs)
    with open(ours) as file:
        found: dict[str, Any] = json.load(file)
    os.waitpid(child, 0)
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    json.dump({name: apart(lambda s=settings: tried(s)) for name, settings in STATES.items()}, sys.stdout)  # type: ignore[misc]
