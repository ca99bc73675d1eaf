"""Tests that measure in real time are a part of their own, a few at once; those that notice a neighbour run alone.

Both are tried again where they fail, twice at most and some seconds later: a burst of somebody else's load spoils a
real measurement, but not three. A test that was tried again is shown as R in pytest's line. No other test is.

Files are handed to the processes one after another, those that take longest first, so that none is left for the end.
What is marked `long` is left to ``make test-long``; pytest itself runs whatever it is given.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# A machine may have it set. Then each of hundreds of processes compiles all that it imports, and pytest all tests anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
ROOT = Path(__file__).parent
PARTS = {
    "realtime": (
        "bad_input/test_campaign_folders.py",
        "bad_input/test_nvidia.py",
        "bad_input/test_processes.py",
        "bad_input/test_torch_device.py",
        "bench/test_run.py",
        "bench/campaign/launch/test_clocks.py",
        "bench/engine/test_host.py",
        "bench/engine/test_node.py",
        "bench/engine/test_reader.py",
        "bench/engine/test_readings.py",
        "bench/launchers/test_kube_campaign.py",
        "bench/devices/test_nvidia.py",
        "bench/campaign/launch/test_one_shape.py",
        "bench/test_perf_accelerator.py",
        "bench/test_telemetry.py",
        "bench/test_watch.py",
        "certify/campaign/test_missing_node.py",
        "certify/commands/test_before_start.py",
        "certify/commands/test_next_lines.py",
        "certify/commands/test_unknown_accelerator.py",
        "certify/commands/test_way_to_2000p.py",
        "certify/test_perf_campaign.py",
        "privateuse1",
        "certify/registry/test_guide.py",
        "network",
        "slurm",
        "test_cli.py",
        "test_wheel.py",
    ),
    "background": ("certify/registry/test_whole_city.py",),  # waits for ten minutes, and runs beside the others
    "npu": ("npu",),  # the real torch_npu, which make test-npu installs
    "alone": ("bench/engine/test_node_alone.py",),
}
LONGEST = (
    "codes/test_attacked.py",
    "certify/test_forger.py",
    "fuzz/test_fuzz.py",
    "network/test_campaign.py",
    "slurm/test_campaign.py",
    "slurm/test_campaign_again.py",
    "slurm/test_slurm.py",
    "slurm/test_queue.py",
    "bench/campaign/launch/test_clocks.py",
    "certify/commands/test_before_start.py",
    "certify/commands/test_way_to_2000p.py",
    "bad_input/test_nvidia.py",
    "certify/registry/test_guide.py",
    "test_cli.py",
    "bad_input/test_torch_device.py",
    "bad_input/test_processes.py",
    "bench/devices/test_nvidia.py",
    "bench/engine/test_node.py",
    "privateuse1",
    "certify/offline/test_bundle.py",
    "certify/verify/test_javascript.py",
    "certify/judge/test_rules.py",
    "certify/registry/test_faults.py",
    "certify/registry/web/test_browser.py",
    "certify/registry/client/test_client.py",
    "certify/registry/service/test_app.py",
)
NO_TIME = "no time was left"
AGAIN = pytest.mark.flaky(reruns=2, reruns_delay=3)


def part_of(path: Path) -> str:
    """Return the part that a file of tests belongs to."""
    file = path.relative_to(ROOT).as_posix()
    return next((part for part, starts in PARTS.items() if file.startswith(starts)), "plain")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--part", choices=["plain", *PARTS], help="import and run this part of the tests only")
    parser.addoption("--until", type=float, help="leave out what has not begun at this time, s since 1970")


def pytest_configure(config: pytest.Config) -> None:
    config.option.loadscopereorder = False  # xdist's own order begins with the files of the most tests
    settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("busy")  # how long an example takes is the machine's affair
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # As behind nohup or in the background of a script. What a test starts would inherit it and never be
        # interrupted; a handler that does nothing ends where another program begins.
        signal.signal(signal.SIGINT, lambda *_: None)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    part = config.getoption("part")
    if part is None or not collection_path.name.startswith("test_") or not collection_path.is_relative_to(ROOT):
        return None
    return part_of(collection_path) != part or None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        file = item.path.relative_to(ROOT).as_posix()
        return next((at for at, start in enumerate(LONGEST) if file.startswith(start)), len(LONGEST))

    if config.getoption("until") is None:
        items.sort(key=place)
    for item in items:
        if part_of(item.path) not in ("plain", "background"):
            item.add_marker(AGAIN)


def pytest_collection_finish() -> None:
    gc.freeze()  # six thousand tests and all that they import: the collector need not look at them again and again


def pytest_runtest_setup(item: Any) -> None:
    if getattr(item, "execution_count", 1) > 1:  # of pytest-rerunfailures: what a module measured is measured again too
        for definitions in item._fixtureinfo.name2fixturedefs.values():
            for one in definitions:
                if one.scope == "module":
                    one.finish(item._request)
    until = item.config.getoption("until")
    if until is not None and time.time() > until:
        pytest.skip(NO_TIME)


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    left_out = report.skipped and isinstance(report.longrepr, tuple) and NO_TIME in report.longrepr[2]
    return ("left out", "", "LEFT OUT") if left_out else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which files were left out, and how many tests of each."""
    counted = Counter(report.nodeid.partition("::")[0] for report in terminalreporter.stats.get("left out", ()))
    if counted:
        terminalreporter.section(f"left out: {NO_TIME}")
        for file, count in counted.items():
            terminalreporter.line(f"{count:5} {file}")
