"""Tests that measure in real time run apart from the others, two at once; those that notice a neighbour, alone.

Both are tried again where they fail, twice at most and some seconds later: a burst of somebody else's load spoils a
real measurement, but not three. A test that was tried again is shown as R in pytest's line. No other test is.
"""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parent
REALTIME = (
    "bad_input/test_nvidia.py",
    "bad_input/test_torch_device.py",
    "bench/test_cli.py",
    "bench/test_nvidia.py",
    "bench/test_telemetry.py",
    "certify/test_perf_campaign.py",
    "privateuse1",
    "slurm",
    "test_cli.py",
    "test_wheel.py",
)
ALONE = ("bad_input/test_processes.py", "bench/test_node.py", "bench/test_perf_accelerator.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        file = item.path.relative_to(ROOT).as_posix()
        if file.startswith(ALONE):
            item.add_marker(pytest.mark.alone)
        elif file.startswith(REALTIME):
            item.add_marker(pytest.mark.realtime)
