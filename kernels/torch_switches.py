"""torch's switches of reduced precision (R1): how each is set off, and what it reads as afterwards.

torch has two generations of them: flags for each library (`allow_tf32`), and since 2.9 `fp32_precision` for each
library and operation. Where both were used, reading or setting a flag raises: so the newer ones come first, and each
setting stands for itself. Whatever one raises, the others are set and read.
"""

from __future__ import annotations

import warnings
from contextlib import suppress
from functools import reduce
from typing import Any

ABSENT = "absent"  # this torch does not have what is switched
UNREADABLE = "unreadable"  # it is there, and torch or the vendor's module refuses to say
MATMUL_PRECISION = "torch.float32_matmul_precision"
CUBE_MATH_TYPE = "torch.npu.matmul.cube_math_type"
# In the order in which they are set: the newer generation, what speaks of all libraries, then the flags of each.
NEWER = (
    "backends.fp32_precision",
    "backends.cuda.matmul.fp32_precision",
    "backends.cudnn.fp32_precision",
    "backends.cudnn.conv.fp32_precision",
    "backends.cudnn.rnn.fp32_precision",
    "backends.mkldnn.fp32_precision",
    "backends.mkldnn.matmul.fp32_precision",
    "backends.mkldnn.conv.fp32_precision",
    "backends.mkldnn.rnn.fp32_precision",
)
FLAGS = (
    "backends.cuda.matmul.allow_tf32",
    "backends.cuda.matmul.allow_fp16_reduced_precision_reduction",
    "backends.cuda.matmul.allow_bf16_reduced_precision_reduction",
    "backends.cuda.matmul.allow_fp16_accumulation",
    "backends.cudnn.allow_tf32",
    "backends.mkldnn.allow_tf32",  # of Intel's GPUs
    "npu.matmul.allow_hf32",
    "npu.conv.allow_hf32",
    "backends.mudnn.allow_tf32",
    "backends.mlu.matmul.allow_tf32",
    "backends.cnnl.allow_tf32",
)


def names() -> tuple[str, ...]:
    """Return the names of all switches, as a record has them."""
    return (*map(_name, NEWER), MATMUL_PRECISION, *map(_name, FLAGS), CUBE_MATH_TYPE)


def set_off() -> dict[str, str]:
    """Set every switch off and return what each reads as; never raises, whatever used torch before."""
    import torch

    with warnings.catch_warnings():  # torch warns of the older generation, and where warnings are errors that raises
        warnings.simplefilter("ignore")
        for path in NEWER:
            _set(torch, path, "ieee")
        with suppress(Exception):
            torch.set_float32_matmul_precision("highest")
        for path in FLAGS:
            _set(torch, path, False)
        # Only then, since what sets one may change another.
        states = {_name(path): _read(torch, path) for path in (*NEWER, *FLAGS)}
        states[MATMUL_PRECISION] = _matmul_precision(torch)
        states[CUBE_MATH_TYPE] = _cube_math_type(torch)
    return {name: states[name] for name in names()}


def _name(path: str) -> str:
    return f"torch.{path.removeprefix('backends.')}"


def _owner(torch: Any, path: str) -> tuple[Any, str]:
    *parents, last = path.split(".")
    return reduce(getattr, parents, torch), last


def _set(torch: Any, path: str, off: object) -> None:
    """Set a switch that is there; a plain module would take any name."""
    with suppress(Exception):  # a vendor's module raises what it likes
        owner, last = _owner(torch, path)
        try:
            getattr(owner, last)
        except AttributeError:
            return
        except Exception:  # noqa: S110 - it is there, and torch refuses to read it until it is set
            pass
        setattr(owner, last, off)


def _read(torch: Any, path: str) -> str:
    try:
        owner, last = _owner(torch, path)
        return str(getattr(owner, last)).lower()
    except AttributeError:
        return ABSENT
    except Exception:
        return UNREADABLE


def _matmul_precision(torch: Any) -> str:
    try:
        return str(torch.get_float32_matmul_precision())
    except Exception:
        return UNREADABLE


def _cube_math_type(torch: Any) -> str:
    """Set Ascend's cube to the operands' own type, by an enumeration of the vendor's; older ones do not have it."""
    try:
        keep = torch.npu.CubeMathType.KEEP_DTYPE
    except AttributeError:
        return ABSENT
    except Exception:
        return UNREADABLE
    with suppress(Exception):
        torch.npu.matmul.cube_math_type = keep
    try:
        reads_as = torch.npu.matmul.cube_math_type
    except Exception:
        return UNREADABLE
    return "off" if reads_as == keep else f"default-{reads_as}".lower()
