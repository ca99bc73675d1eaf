"""What the real torch_npu reports of a processor reaches the operands and the record; another processor is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fake_ascend import die, npu
from tests.npu.test_run import run

pytestmark = pytest.mark.long


def test_cache_and_cube_cores_stand_in_the_record_and_another_die_is_not_measured(tmp_path: Path) -> None:
    ran = run(tmp_path, npu(0, cache=3 * 2**20, cube=20) + npu(1, uuid=die(5)))
    assert ran.measured() == {("npu:0", "fp16")}
    assert ran.failures()["npu:1", "fp16"][0] == "device-differs"
    (model,) = ran.record.models
    assert (model.cache_bytes, model.units) == (3 * 2**20, 20)  # 24 as its source reports them
    (measurement,) = ran.record.measurements
    assert 6 * 2**20 <= measurement.operand_bytes < 2**30
    assert ran.record.environment.libraries["torch_npu.jit_compile"] == "off"
