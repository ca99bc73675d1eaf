"""Errors of devices in the kernel's log, in the words of drivers and of the kernel, and lines that are none."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from bench.host.kernel_log import KernelError, kernel_errors, read_kernel_log
from bench.host.pci_links import PciLink, parse_speed, read_link
from bench.host.processes import running
from tests.bench.devices.test_devices import tree

NVRM = "kernel: NVRM: Xid (PCI:0000:17:00): 63, pid='<unknown>', name=<unknown>, Row Remapper: New row marked"


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (NVRM, KernelError("0000:17:00", "Xid 63")),
        ("4,9,1,-;NVRM: Xid (PCI:0000:B3:00.0): 79, GPU has fallen off the bus.", KernelError("0000:b3:00", "Xid 79")),
        ("NVRM: Xid (PCI:00000001:00:00): 48, DBE", KernelError("0001:00:00", "Xid 48")),
        (
            "pcieport 0000:16:01.0: AER: Uncorrected (Fatal) error received: 0000:17:00.0",
            KernelError("0000:17:00", "PCIe AER"),
        ),
        (
            "nvidia 0000:17:00.0: PCIe Bus Error: severity=Uncorrectable (Non-Fatal), type=Transaction Layer",
            KernelError("0000:17:00", "PCIe AER"),
        ),
        ("amdgpu 0000:03:00.0: amdgpu: GPU reset begin!", KernelError("0000:03:00", "amdgpu: gpu reset")),
        (
            "[drm:amdgpu_job_timedout [amdgpu]] *ERROR* ring gfx_0 timeout, signaled seq=1",
            KernelError("", "amdgpu: ring gfx_0 timeout"),
        ),
        ("[ascend] [devmng] device heartbeat lost, dev_id=3", KernelError("", "ascend: heartbeat lost")),
    ],
)
def test_errors_of_devices(line: str, error: KernelError) -> None:
    assert kernel_errors(f"first\n{line}\n{line}\nlast") == {error: 2}


@pytest.mark.parametrize(
    "line",
    [
        "NVRM: loading NVIDIA UNIX x86_64 Kernel Module  550.54.15",
        "pcieport 0000:16:01.0: AER: Corrected error received: 0000:17:00.0",
        "nvidia 0000:17:00.0: PCIe Bus Error: severity=Corrected, type=Physical Layer",
        "amdgpu 0000:03:00.0: amdgpu: SMU is initialized successfully!",
        "amdgpu 0000:03:00.0: amdgpu: 512 correctable hardware errors detected in umc block",
        "[ascend] [devmng] devmng init success",
        "\x00\ud800",
    ],
)
def test_lines_that_are_no_errors(line: str) -> None:
    assert kernel_errors(line) == {}


@pytest.mark.parametrize("word", ["amdgpu ", "AER: ", "amdgpu hbm ", "ring a timeou ", "0000:17:00"])
def test_a_line_without_end_is_searched_in_no_time(word: str) -> None:
    before = time.process_time()
    assert kernel_errors(word * (2**19 // len(word))) == {}
    assert time.process_time() - before < 10


def test_the_log_is_read_without_waiting_for_its_next_message(tmp_path: Path) -> None:
    """As of /dev/kmsg: a pipe without a writer's end gives what stands in it, and nothing is waited for."""
    (tmp_path / "dev").mkdir()
    os.mkfifo(tmp_path / "dev/kmsg")
    writer = os.open(tmp_path / "dev/kmsg", os.O_RDWR | os.O_NONBLOCK)
    try:
        os.write(writer, f"6,1,2,-;{NVRM}\n".encode())
        text = read_kernel_log(tmp_path)
    finally:
        os.close(writer)
    assert text is not None
    assert kernel_errors(text) == {KernelError("0000:17:00", "Xid 63"): 1}


def test_a_log_that_is_not_there_or_is_none(tmp_path: Path) -> None:
    assert read_kernel_log(tmp_path) is None
    (tmp_path / "dev/kmsg").mkdir(parents=True)
    assert read_kernel_log(tmp_path) is None


@pytest.mark.parametrize(
    ("text", "speed"),
    [
        ("16.0 GT/s PCIe", 16_000),
        ("2.5 GT/s", 2_500),
        ("8 GT/s", 8_000),
        ("Unknown", None),
        ("", None),
        ("x GT/s", None),
    ],
)
def test_speeds_of_a_link(text: str, speed: int | None) -> None:
    assert parse_speed(text) == speed


@pytest.mark.parametrize("address", ["0000:17:00.0", "00000000:17:00.0", "0000:17:00.0".upper()])
def test_a_link_by_its_address(tmp_path: Path, address: str) -> None:
    folder = "sys/bus/pci/devices/0000:17:00.0"
    tree(tmp_path, {f"{folder}/current_link_width": "4\n", f"{folder}/max_link_width": "255\n"})
    assert read_link(address, tmp_path) == PciLink(4, None, None, None)
    assert read_link("../../x", tmp_path) == PciLink(None, None, None, None)


def test_programs_that_run(tmp_path: Path) -> None:
    assert running(("sh",), tmp_path) is None
    tree(tmp_path, {"proc/1/comm": "systemd\n", "proc/20/comm": "nvidia-cuda-mps\n", "proc/meminfo": ""})
    assert running(("nvidia-cuda-mps-control", "sh"), tmp_path) == ["nvidia-cuda-mps-control"]
