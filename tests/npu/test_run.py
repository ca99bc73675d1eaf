"""The commands ``devices`` and ``run`` on a node of two Ascend processors, through the real torch_npu."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
import yaml
from msgspec.structs import replace

from bench.profile import load_profile
from bench.record import NodeRecord, Shape
from certify.documents.dsse import parse_envelope
from certify.documents.kinds import parse_payload
from kernels.torch_switches import CUBE_MATH_TYPE
from tests.bad_input.command import Answer, process
from tests.bench.test_run import quick
from tests.fake_ascend import GIB, environment, npu

pytestmark = pytest.mark.long
BOTH = "npu:0,npu:1"
NO_KERNEL = (
    "EZ9999: Inner Error! Get regInfo failed, the binary_info_config.json of socVersion [ascend910b] does not support "
    "opType [MatMulV2]."
)


class Ran(NamedTuple):
    """What a measurement left."""

    answer: Answer
    record: NodeRecord

    def measured(self) -> set[tuple[str, str]]:
        """Return which devices have a figure in which precision."""
        return {(one.device, m.precision) for m in self.record.measurements for one in m.figures()}

    def failures(self) -> dict[tuple[str, str], tuple[str, str]]:
        """Return why devices have no figure in a precision, as (code, text)."""
        return {(one.device, one.precision): (one.code, one.detail or "") for one in self.record.failures}


def state(folder: Path, script: str, **more: str) -> dict[str, str]:
    """Return the environment of a process on a node of two processors, with a state folder of its own."""
    return environment(folder, script, PETASEAL_STATE=str(folder / "state"), **more)


def brief(folder: Path, *shapes: Shape) -> Path:
    """Return the file of a profile as short as its grade allows, with a list of shapes for FP16."""
    file = folder / "brief.yaml"
    profile = load_profile(str(quick(folder)))
    profile = replace(profile, profile="brief", measured={"intelligent": ("fp16",)}, shapes={"fp16": shapes})
    file.write_text(yaml.safe_dump(msgspec.to_builtins(profile)))
    return file


def run(folder: Path, script: str, precisions: str = "fp16", profile: Path | None = None) -> Ran:
    """Measure both processors of a node and return what that left."""
    chosen = ("--profile", profile or quick(folder), "--device", BOTH, "--precision", precisions)
    answer = process("run", *chosen, "--out", folder / "out", env=state(folder, script))
    (file,) = (folder / "out").glob("*.record.dsse.json")
    content = file.read_bytes()
    record: Any = parse_payload("node-record", parse_envelope(content, len(content), file).payload, file).predicate
    return Ran(answer, record)


def test_what_devices_shows(tmp_path: Path) -> None:
    answer = process("devices", "--device", BOTH, "--json", env=state(tmp_path, npu(0) + npu(1)))
    assert answer.status == 0, answer.err
    shown = json.loads(answer.out)["devices"]
    assert [one["device"] for one in shown] == ["npu:0", "npu:1"]
    assert {one["model"]["model"] for one in shown} == {"Ascend910B2"}
    assert all(one["model"]["simulated"] for one in shown)
    assert [one["nominal_mflop_s"]["fp16"] for one in shown] == [376_000_000] * 2


def test_a_processor_that_is_lost_in_the_window_costs_its_own_figure_alone(tmp_path: Path) -> None:
    ran = run(tmp_path, npu(0) + npu(1, lost=200), "fp16,fp64")
    assert ran.measured() == {("npu:0", "fp16")}
    failures = ran.failures()
    assert failures["npu:1", "fp16"][0] == "device-failed"
    assert "507010" in failures["npu:1", "fp16"][1]
    assert failures["npu:0", "fp64"] == (
        "unsupported-precision",
        "torch_npu computes FP64 products in FP32: the processor has no FP64 matrix path",
    )
    switches = ran.record.environment.switches
    for name in ("torch.npu.matmul.allow_hf32", "torch.npu.conv.allow_hf32", CUBE_MATH_TYPE):
        assert switches[name] == "off"
    assert ran.record.environment.libraries["torch_npu"] == "2.13.0"


def test_less_memory_than_is_reported_free_takes_a_smaller_shape_or_is_a_clear_failure(tmp_path: Path) -> None:
    """One processor has room for the smaller shape, one for none; neither was told before."""
    shapes = Shape(m=256, n=256, k=256), Shape(m=1024, n=2048, k=64)  # products of the larger are 4 MiB each
    script = npu(0, hidden=64 * GIB - 16 * 2**20) + npu(1, hidden=64 * GIB - 2**18)
    ran = run(tmp_path, script, profile=brief(tmp_path, *shapes))
    assert ran.measured() == {("npu:0", "fp16")}
    assert "does not fit into the memory" in ran.answer.err
    code, text = ran.failures()["npu:1", "fp16"]
    assert code == "out-of-memory"
    assert "NPU out of memory" in text


def test_an_operator_that_does_not_compile_is_no_missing_precision(tmp_path: Path) -> None:
    ran = run(tmp_path, f"refuse aclnnMm {NO_KERNEL}\n" + npu(0) + npu(1))
    assert ran.answer.status == 1
    assert ran.measured() == set()
    for code, text in ran.failures().values():
        assert code == "device-failed"
        assert NO_KERNEL in text


def test_a_node_without_cann_s_environment_is_told_so(tmp_path: Path) -> None:
    """torch itself does not load there: what says why is the cause of its error."""
    env = state(tmp_path, npu(0), ASCEND_OPP_PATH=str(tmp_path / "nowhere"))
    chosen = ("--profile", quick(tmp_path), "--device", "npu:0", "--precision", "fp16")
    answer = process("run", *chosen, "--out", tmp_path / "out", env=env)
    assert answer.status != 0
    assert "ASCEND_OPP_PATH" in answer.err + answer.out
