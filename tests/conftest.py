"""Tests that measure in real time run apart from the others, a few at once; those that notice a neighbour, alone.

Both are tried again where they fail, twice at most and some seconds later: a burst of somebody else's load spoils a
real measurement, but not three. A test that was tried again is shown as R in pytest's line. No other test is.

Files are handed to the processes one after another, those that take longest first, so that none is left for the end.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).parent
REALTIME = (
    "bad_input/test_nvidia.py",
    "bad_input/test_processes.py",
    "bad_input/test_torch_device.py",
    "bench/test_cli.py",
    "bench/test_nvidia.py",
    "bench/test_telemetry.py",
    "certify/test_perf_campaign.py",
    "privateuse1",
    "certify/registry/test_guide.py",
    "slurm",
    "test_cli.py",
    "test_wheel.py",
)
ALONE = ("bench/engine/test_node.py", "bench/test_perf_accelerator.py")
LONGEST = (
    "slurm/test_campaign.py",
    "slurm/test_campaign_again.py",
    "test_cli.py",
    "bad_input/test_processes.py",
    "slurm/test_slurm.py",
    "bad_input/test_nvidia.py",
    "bench/test_nvidia.py",
    "bad_input/test_torch_device.py",
    "privateuse1",
    "certify/judge/test_rules.py",
    "certify/registry/test_faults.py",
    "certify/registry/web/test_browser.py",
    "certify/registry/client/test_client.py",
    "certify/registry/service/test_app.py",
)


def pytest_configure(config: pytest.Config) -> None:
    config.option.loadscopereorder = False  # xdist's own order begins with the files of the most tests
    settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("busy")  # how long an example takes is the machine's affair


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        file = item.path.relative_to(ROOT).as_posix()
        return next((at for at, start in enumerate(LONGEST) if file.startswith(start)), len(LONGEST))

    items.sort(key=place)
    for item in items:
        file = item.path.relative_to(ROOT).as_posix()
        if file.startswith(ALONE):
            item.add_marker(pytest.mark.alone)
        elif file.startswith(REALTIME):
            item.add_marker(pytest.mark.realtime)
