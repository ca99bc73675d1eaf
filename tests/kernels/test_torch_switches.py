"""`switches()` of gemm-torch after whatever else has used torch's settings, in either generation of them (R1).

The installed torch is tried for real. The older generation, and vendors' plug-ins, are stand-ins that take and refuse
what the real ones do: torch 2.4.1 and 2.9.1 gave the same by hand (tests/kernels/switch_states.py).
"""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from enum import Enum
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from bench.environment import normal_switches
from certify.judge.products import OUR_KERNELS, SWITCHED_OFF
from kernels import torch_switches
from kernels.gemm_torch import GemmTorch

from .switch_states import STATES

OLDER = {
    "torch.float32_matmul_precision",
    "torch.cuda.matmul.allow_tf32",
    "torch.cuda.matmul.allow_fp16_reduced_precision_reduction",
    "torch.cuda.matmul.allow_bf16_reduced_precision_reduction",
    "torch.cudnn.allow_tf32",
}


def test_the_verifier_expects_what_is_recorded_and_no_more() -> None:
    assert sorted(OUR_KERNELS["gemm-torch"][1]) == sorted(torch_switches.names())
    assert tuple(torch_switches.set_off()) == torch_switches.names()


# --- the installed torch ---


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    """Return what the installed torch tells after each state, each in a process of its own."""
    program = Path(__file__).with_name("switch_states.py")
    command = [sys.executable, "-W", "error", "-m", f"tests.kernels.{program.stem}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("state", STATES)
def test_every_state_ends_with_all_off_and_the_product_of_an_untouched_torch(told: dict[str, Any], state: str) -> None:
    seen = told[state]
    assert "raised" not in seen, seen
    assert set(normal_switches(seen["switches"]).values()) <= SWITCHED_OFF, seen["switches"]
    assert seen["after"] == told["untouched"]["after"]
    assert seen["after"]["error_ppm"] <= 2


# --- the older generation ---


class Flags:
    """A module of settings: those that it has can be read and set, others are refused or, in a plain one, taken."""

    _plain: bool

    def __init__(self, plain: bool = False, **found: object) -> None:
        self.__dict__.update(found, _plain=plain)

    def __setattr__(self, name: str, value: object) -> None:
        if name not in self.__dict__ and not self._plain:
            raise AttributeError(f"Unknown attribute {name}")
        self.__dict__[name] = value


class Torch24(ModuleType):
    """The settings of torch 2.4: one precision for FP32 products, which is one with cuBLAS's TF32, and flags."""

    def __init__(self) -> None:
        super().__init__("torch")
        self.precision = "highest"
        self.version = SimpleNamespace(cuda=None)
        matmul = Flags(
            allow_tf32=False,
            allow_fp16_reduced_precision_reduction=True,
            allow_bf16_reduced_precision_reduction=True,
        )
        cudnn = Flags(plain=True, allow_tf32=True, rnn=ModuleType("rnn"))
        self.backends = SimpleNamespace(cuda=SimpleNamespace(matmul=matmul), cudnn=cudnn, mkldnn=Flags(plain=True))

    def set_float32_matmul_precision(self, precision: str) -> None:
        self.precision = precision
        self.backends.cuda.matmul.allow_tf32 = precision != "highest"

    def get_float32_matmul_precision(self) -> str:
        return self.precision


@pytest.fixture
def older(monkeypatch: pytest.MonkeyPatch) -> Torch24:
    torch = Torch24()
    monkeypatch.setitem(sys.modules, "torch", torch)
    return torch


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
@pytest.mark.parametrize("flag", [True, False])
def test_the_older_generation_is_set_off_and_the_newer_is_absent(older: Torch24, precision: str, flag: bool) -> None:
    older.set_float32_matmul_precision(precision)
    for owner in (older.backends.cuda.matmul, older.backends.cudnn):
        owner.allow_tf32 = flag
    found = GemmTorch().switches()
    assert {name for name, state in found.items() if state != "absent"} == OLDER
    assert set(normal_switches(found).values()) == {"off", "absent"}
    assert older.precision == "highest"
    assert not older.backends.cuda.matmul.allow_fp16_reduced_precision_reduction
    assert not hasattr(older.backends.mkldnn, "matmul")
    assert not hasattr(older.backends, "fp32_precision")  # a plain module would have taken it
    assert not hasattr(older.backends.cudnn.rnn, "fp32_precision")


# --- modules that raise ---


class Raising:
    """Settings that a module refuses to read, to set, or both, with an error of its own."""

    _reads: bool
    _sets: bool
    _error: type[Exception]
    _value: object

    def __init__(self, reads: bool, sets: bool, error: type[Exception], value: object = True) -> None:
        vars(self).update(_reads=reads, _sets=sets, _error=error, _value=value)

    def __getattr__(self, name: str) -> object:
        if not self._reads:
            raise self._error("mixed use of old and new settings")
        return self._value

    def __setattr__(self, name: str, value: object) -> None:
        if not self._sets:
            raise self._error("cannot be set")
        vars(self)["_value"] = value


@pytest.mark.parametrize("error", [RuntimeError, TypeError, ValueError, OSError, KeyError, NotImplementedError])
@pytest.mark.parametrize(
    ("reads", "sets", "state"),
    [(False, True, "unreadable"), (False, False, "unreadable"), (True, False, "true"), (True, True, "false")],
)
@pytest.mark.parametrize("where", ["matmul", "mlu", "npu", "cudnn"])
def test_what_one_setting_raises_costs_no_other(
    older: Torch24, where: str, reads: bool, sets: bool, state: str, error: type[Exception]
) -> None:
    raising = Raising(reads, sets, error)
    older.backends.cuda.matmul.allow_tf32 = older.backends.cudnn.allow_tf32 = True
    if where == "matmul":
        older.backends.cuda.matmul = raising
    elif where == "cudnn":
        older.backends.cudnn = raising
    elif where == "mlu":
        older.backends.mlu = SimpleNamespace(matmul=raising)
    else:
        older.npu = SimpleNamespace(matmul=raising, conv=raising)  # type: ignore[attr-defined]
    found = GemmTorch().switches()
    flag = {"matmul": "cuda.matmul.allow_tf32", "cudnn": "cudnn.allow_tf32", "mlu": "mlu.matmul.allow_tf32"}
    name = f"torch.{flag.get(where, 'npu.matmul.allow_hf32')}"
    assert found.pop(name) == state
    others = {other: value for other, value in found.items() if name.rpartition(".")[0] not in other}
    assert set(normal_switches(others).values()) <= SWITCHED_OFF | ({state} if where in ("npu", "cudnn") else set())
    assert tuple(found) == tuple(other for other in torch_switches.names() if other != name)


def test_a_setter_and_a_getter_of_all_that_raise_cost_no_other(older: Torch24, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> str:
        raise RuntimeError("PyTorch is checking the matmul precision without a specific backend name")

    monkeypatch.setattr(older, "get_float32_matmul_precision", refuse)
    monkeypatch.setattr(older, "set_float32_matmul_precision", refuse)
    older.backends.cudnn.allow_tf32 = True
    found = GemmTorch().switches()
    assert (found["torch.float32_matmul_precision"], found["torch.cudnn.allow_tf32"]) == ("unreadable", "false")


def test_a_warning_that_is_an_error_elsewhere_costs_nothing(older: Torch24) -> None:
    class Warning_(Raising):
        def __setattr__(self, name: str, value: object) -> None:
            warnings.warn("please use the new API", UserWarning, stacklevel=1)
            vars(self)["_value"] = value

    older.backends.cudnn = Warning_(reads=True, sets=True, error=RuntimeError)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert GemmTorch().switches()["torch.cudnn.allow_tf32"] == "false"


# --- vendors' plug-ins ---


class CubeMathType(Enum):
    """As torch_npu's."""

    KEEP_DTYPE = 0
    ALLOW_FP32_DOWN_PRECISION = 1
    USE_HF32 = 3


@pytest.mark.parametrize("before", [None, *CubeMathType])
def test_ascends_cube_keeps_the_operands_type(older: Torch24, before: CubeMathType | None) -> None:
    matmul = Flags(allow_hf32=True, cube_math_type=before)
    older.npu = SimpleNamespace(matmul=matmul, conv=Flags(allow_hf32=True), CubeMathType=CubeMathType)  # type: ignore[attr-defined]
    found = normal_switches(GemmTorch().switches())
    assert vars(matmul)["cube_math_type"] is CubeMathType.KEEP_DTYPE
    assert not vars(matmul)["allow_hf32"]
    for name in ("matmul.cube_math_type", "matmul.allow_hf32", "conv.allow_hf32"):
        assert found[f"torch.npu.{name}"] == "off"


@pytest.mark.parametrize(
    ("reads", "sets", "value", "state"),
    [
        (True, False, CubeMathType.USE_HF32, "on"),
        (True, False, None, "on"),
        (False, True, None, "unreadable"),
    ],
)
def test_a_cube_that_cannot_be_set_is_not_off(
    older: Torch24, reads: bool, sets: bool, value: CubeMathType | None, state: str
) -> None:
    matmul = Raising(reads, sets, RuntimeError, value)
    older.npu = SimpleNamespace(matmul=matmul, CubeMathType=CubeMathType)  # type: ignore[attr-defined]
    found = normal_switches(GemmTorch().switches())["torch.npu.matmul.cube_math_type"]
    assert found == state if state == "unreadable" else found not in SWITCHED_OFF | {"unreadable"}


def test_an_older_plug_in_of_ascend_has_no_such_switch(older: Torch24) -> None:
    """Its module answers None for every name that it does not have, and takes what it is given without a word."""
    older.npu = SimpleNamespace(matmul=Raising(reads=True, sets=True, error=RuntimeError, value=None))  # type: ignore[attr-defined]
    assert GemmTorch().switches()["torch.npu.matmul.cube_math_type"] == "absent"


def test_cambricons_switches_are_set_off(older: Torch24) -> None:
    older.backends.mlu = SimpleNamespace(matmul=Flags(allow_tf32=True))
    older.backends.cnnl = Flags(allow_tf32=True)
    found = normal_switches(GemmTorch().switches())
    assert (found["torch.mlu.matmul.allow_tf32"], found["torch.cnnl.allow_tf32"]) == ("off", "off")
    assert not vars(older.backends.cnnl)["allow_tf32"]


# --- cuBLAS ---


def test_a_cublas_that_cannot_be_asked_is_unreadable(older: Torch24) -> None:
    def fail() -> int:
        raise RuntimeError("CUBLAS_STATUS_NOT_INITIALIZED")

    older.version = SimpleNamespace(cuda="12.1")
    older.cuda = SimpleNamespace(is_initialized=lambda: True, current_blas_handle=fail)  # type: ignore[attr-defined]
    found = GemmTorch().switches()
    assert (found["cublas.math_mode"], found["cublas.emulation_strategy"]) == ("unreadable", "unreadable")
    assert found["torch.cudnn.allow_tf32"] == "false"
    older.cuda = SimpleNamespace()  # type: ignore[attr-defined]
    assert "cublas.math_mode" not in GemmTorch().switches()
