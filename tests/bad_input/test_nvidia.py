"""NVIDIA drivers that are missing, do not fit or refuse: one sentence that says what to do, and nothing is written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bad_input.command import Answer, contents, process
from tests.fake_nvidia import LIBRARIES, built, environment, gpu, uuid

ONE = gpu()


def refused(place: Path, script: str, device: str = "cuda:0", libraries: Path | None = None, **more: str) -> Answer:
    """Ask for a device and try to measure it; both must be the same answer of no, and leave nothing."""
    env = environment(place, script, libraries=libraries, **more)
    before = contents(place)
    listed = process("devices", "--device", device, env=env)
    tried = process("run", "--device", device, "--profile", "smoke", "--out", place / "out", env=env)
    assert (tried.status, tried.out, tried.err) == (listed.status, listed.out, listed.err)
    assert (listed.status, listed.out) == (2, "")
    assert contents(place) == before
    return listed


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("nvml_init 9", "driver-not-loaded", "modprobe"),
        ("nvml_init 18", "driver-mismatch", "restart the node"),
        ("nvml_init 4", "device-permission", "/dev/nvidia"),
        ("nvml_init 12", "driver-library-missing", "install the NVIDIA driver"),
        ("nvml_init 15", "driver-failed", "GPU is lost"),
        ("nvml_init 999", "driver-failed", "nvidia-smi"),
        ("cuda_init 34", "driver-library-missing", "stub"),
        ("cuda_init 100", "device-not-visible", "CUDA shows no device"),
        ("cuda_init 800", "device-permission", "/dev/nvidia"),
        ("cuda_init 802", "driver-failed", "fabricmanager"),
        ("cuda_init 803", "driver-mismatch", "restart the node"),
        ("cuda_init 804", "driver-mismatch", "LD_LIBRARY_PATH"),
        ("cuda_init 999", "driver-failed", "CUDA_ERROR_999"),
        ("cuda_init -1", "driver-failed", "ended with status"),
        ("answer nvmlDeviceGetCount_v2 4", "device-not-visible", "shows no GPU"),
        ("answer nvmlDeviceGetHandleByIndex_v2 4", "device-not-visible", "shows no GPU"),
    ],
)
def test_a_driver_that_does_not_start(place: Path, line: str, code: str, said: str) -> None:
    answer = refused(place, f"{line}\n{ONE}")
    assert answer.code == code
    assert said in answer.err


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(
    "spoil", [Path.unlink, lambda path: path.write_text("no library"), lambda path: path.write_bytes(b"")]
)
def test_a_library_of_the_driver_that_is_missing_or_none(
    place: Path, library: str, spoil: Callable[[Path], object]
) -> None:
    libraries = Path(shutil.copytree(built(), place / "libraries"))
    spoil(libraries / library)
    answer = refused(place, ONE, libraries=libraries)
    assert answer.code == "driver-library-missing"
    assert library in answer.err


@pytest.mark.parametrize("value", ["", "-1", "1", "0,0", "GPU-ffffffff", "cuda:0", "MIG-1"])
def test_a_variable_that_hides_every_device_is_named(place: Path, value: str) -> None:
    answer = refused(place, ONE, CUDA_VISIBLE_DEVICES=value)
    assert answer.code == "device-not-visible"
    assert f"CUDA_VISIBLE_DEVICES={value!r}" in answer.err
    assert "NVML has 1" in answer.err


@pytest.mark.parametrize("index", ["1", "-1", "x", "99999999999", "0x0", "GPU-00000000"])
def test_an_index_that_does_not_exist(place: Path, index: str) -> None:
    assert refused(place, ONE, device=f"cuda:{index}").code == "no-device"


def test_a_gpu_in_mig_mode_without_instances(place: Path) -> None:
    answer = refused(place, gpu(mig_mode=1))
    assert answer.code == "device-not-visible"
    assert "create MIG instances" in answer.err


def test_pynvml_is_not_installed(place: Path, tmp_path: Path) -> None:
    hidden = tmp_path / "modules"  # where Python may leave what it compiled
    hidden.mkdir()
    (hidden / "pynvml.py").write_text("raise ImportError('hidden by a test')\n")
    answer = refused(place, ONE, PYTHONPATH=str(hidden))
    assert answer.code == "missing-library"
    assert "nvidia-ml-py" in answer.err


def test_all_devices_of_a_node_without_nvidia(place: Path) -> None:
    """A library without a driver, as in many images, is no sign of a device."""
    for script in ("nvml_init 9\n", ""):
        answer = process("devices", env=environment(place, script))
        assert (answer.status, answer.err) == (0, "")
        assert "cpu:0" in answer.out


def test_what_cannot_be_used_is_told_with_what_it_is(place: Path, tmp_path: Path) -> None:
    """A container with NVML and without CUDA: its devices are listed, and nothing can be measured."""
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(built() / "libnvidia-ml.so.1", alone)
    env = environment(place, gpu(0) + gpu(1), libraries=alone)
    told = process("devices", "--json", env=env)
    (problem,) = json.loads(told.out)["problems"]
    assert (told.status, problem["code"]) == (1, "driver-library-missing")
    assert [device["uuid"] for device in problem["devices"]] == [uuid(0), uuid(1)]
    lines = process("devices", env=env)
    assert "(unusable) NVIDIA Fake-1" in lines.out
    assert f"uuid: {uuid(1)} (host_attested)" in lines.out
    assert "libcuda.so.1 cannot be loaded" in lines.err
    before = contents(place)
    tried = process("run", "--profile", "smoke", "--out", place / "out", env=env)
    assert (tried.status, tried.code) == (2, "driver-library-missing")
    assert "name the devices to measure with --device" in tried.err
    assert contents(place) == before
