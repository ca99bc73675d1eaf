"""What the real torch_npu shows of a node, and what petaseal's kernel computes through it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from certify.judge.case import residual_limits
from tests.fake_ascend import GIB, die, environment, npu, plugin

pytestmark = pytest.mark.long


def call(folder: Path, script: str, code: str, **more: str) -> Any:
    """Run some code on a node with the fake runtime and return what it prints as JSON."""
    env = environment(folder, script, **more)
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


PROPERTIES = """
import json, torch
found = [torch.npu.get_device_properties(i) for i in range(torch.npu.device_count())]
names = ("name", "total_memory", "cube_core_num", "L2_cache_size")
print(json.dumps([{"uuid": str(one.uuid)} | {name: getattr(one, name) for name in names} for one in found]))
"""


def test_torch_shows_the_processors_that_the_variable_leaves(tmp_path: Path) -> None:
    script = npu(0) + npu(1, cube=20, cache=192 * 2**20) + npu(2)
    shown = call(tmp_path, script, PROPERTIES, ASCEND_RT_VISIBLE_DEVICES="1,0,7,2")
    assert [one["uuid"].replace("-", "") for one in shown] == [die(1), die(0)]  # the list ends at what is not there
    assert [(one["cube_core_num"], one["L2_cache_size"]) for one in shown] == [(20, 192 * 2**20), (24, 2**20)]
    assert {(one["name"], one["total_memory"]) for one in shown} == {("Ascend910B2", 64 * GIB)}


SWITCHES = """
import json, torch
from kernels import torch_switches
torch.manual_seed(1)
a, b = (torch.randn((64, 64), device="npu:0") for _ in range(2))
exact = a.cpu().double() @ b.cpu().double()

def error():
    return float((torch.mm(a, b).cpu().double() - exact).abs().max())

torch.npu.matmul.allow_hf32 = True
allowed = error()
read = torch_switches.set_off()
print(json.dumps({"allowed": allowed, "off": error(), "read": read}))
"""


def test_hf32_is_switched_off_and_read_back(tmp_path: Path) -> None:
    """The switches reach the operator: with HF32 a product of FP32 is off by thousandths, without by rounding."""
    found = call(tmp_path, npu(), SWITCHES)
    assert found["off"] < 1e-4 < 1e-3 < found["allowed"]
    own = {name: value for name, value in found["read"].items() if name.startswith("torch.npu.")}
    assert own == {
        "torch.npu.matmul.allow_hf32": "false",
        "torch.npu.conv.allow_hf32": "false",
        "torch.npu.matmul.cube_math_type": "off",
    }


PRODUCTS = """
import json, sys, torch
from kernels.base import GemmProblem
from kernels.gemm_torch import GemmTorch
found = {}
for precision in ("fp16", "bf16", "fp32"):
    prepared = GemmTorch().prepare(GemmProblem("gemm-torch", precision, 96, 160, 200), "0" * 64, "npu:0", "npu:0", 1)
    prepared.launch(0, prepared.operand_sets)
    prepared.synchronize()
    found[precision] = [prepared.check(0, 7), prepared.check_on_host(1, 7)]
found["fp64"] = GemmTorch().supports("fp64", "npu:0")
print(json.dumps(found))
"""


def test_products_are_right_by_both_checks_and_fp64_is_refused(tmp_path: Path) -> None:
    found = call(tmp_path, npu(), PRODUCTS)
    assert "error code is 161002" in found.pop("fp64")
    assert set(found) == {"fp16", "bf16", "fp32"}
    for precision, errors in found.items():
        limits = residual_limits(precision)
        for row, rms in errors:
            assert row <= limits.row_ppm
            assert limits.rms_least_ppm <= rms <= limits.rms_ppm  # FP16 sums in FP32, no coarser


@pytest.mark.parametrize(("ci", "outcome"), [("true", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_without_the_wheel_ci_fails_and_others_skip(
    ci: str, outcome: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr("tests.fake_ascend.PLUGIN", tmp_path)
    with pytest.raises(outcome):
        plugin.__wrapped__()
