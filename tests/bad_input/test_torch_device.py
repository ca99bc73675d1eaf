"""A torch device that computes wrongly, or that cannot be had: the record says so, and nothing counts."""

from __future__ import annotations

import json
from pathlib import Path

from tests.bad_input.command import process
from tests.privateuse1 import environment


def test_wrong_products_and_too_little_memory_are_seen(tmp_path: Path) -> None:
    """Sums in FP16, stale FP32 products and FP64 computed in FP32 on one device; a neighbour without memory."""
    faults = "fp16-accumulate,fp32-stale,fp64-as-fp32,memory-hidden"
    arguments = ("--device", "torch:0,torch:1", "--profile", "smoke", "--precision", "fp16,fp32,fp64", "--json")
    answer = process(
        "run", *arguments, "--out", tmp_path / "out", env=environment(PETADEV_FAULTS=faults, PETADEV_BYTES="1000000")
    )
    assert answer.status == 1
    assert answer.out, answer.err
    result = json.loads(answer.out)
    assert {f["precision"]: f["codes"]["wrong-product"] for f in result["figures"] if f["device"] == "torch:0"} == {
        "fp16": "void",
        "fp32": "void",
        "fp64": "void",
    }
    failed = {(f["device"], f["precision"]): f["code"] for f in result["failures"]}
    assert set(failed) == {("torch:1", precision) for precision in ("fp16", "fp32", "fp64")}
    assert set(failed.values()) <= {"out-of-memory", "no-shape"}


def test_a_precision_that_the_device_refuses_is_told(tmp_path: Path) -> None:
    answer = process(
        *("run", "--device", "torch:0", "--profile", "smoke", "--precision", "fp64", "--json"),
        *("--out", tmp_path / "out"),
        env=environment(PETADEV_FAULTS="no-fp64"),
    )
    assert answer.status == 1  # nothing was measured at all
    (failure,) = json.loads(answer.out)["failures"]
    assert (failure["code"], failure["detail"]) == ("unsupported-precision", "petadev does not support Double")


def test_an_index_that_there_is_not() -> None:
    answer = process("devices", "--device", "torch:2", env=environment())
    assert (answer.status, answer.code) == (2, "no-device")


def test_no_accelerator() -> None:
    answer = process("devices", "--device", "torch:0", env=environment(TORCH_DEVICE_BACKEND_AUTOLOAD="0"))
    assert (answer.status, answer.code) == (2, "no-device")
    assert "torch tells of no accelerator" in answer.err


def test_a_plug_in_of_torch_that_fails_to_load(tmp_path: Path) -> None:
    info = tmp_path / "broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[torch.backends]\nbroken = not_there:autoload\n")
    named = process("devices", "--device", "torch:0", env=environment() | {"PYTHONPATH": str(tmp_path)})
    assert (named.status, named.code) == (2, "missing-library")
    assert "TORCH_DEVICE_BACKEND_AUTOLOAD=0" in named.err
