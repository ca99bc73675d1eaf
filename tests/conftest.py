"""Tests that measure in real time run one after another: a neighbour on the same core would spoil their windows."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parent
REALTIME = (
    "bad_input/test_nvidia.py",
    "bad_input/test_processes.py",
    "bad_input/test_torch_device.py",
    "bench/test_cli.py",
    "bench/test_node.py",
    "bench/test_nvidia.py",
    "bench/test_perf_accelerator.py",
    "bench/test_telemetry.py",
    "certify/test_perf_campaign.py",
    "privateuse1",
    "slurm",
    "test_cli.py",
    "test_wheel.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.relative_to(ROOT).as_posix().startswith(REALTIME):
            item.add_marker(pytest.mark.realtime)
