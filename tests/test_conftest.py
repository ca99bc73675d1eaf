"""What all tests stand on (conftest.py): the parts, and processes that can be interrupted wherever the tests run."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from tests.conftest import LONGEST, PARTS, ROOT, part_of

SLEEPS = "print('here', flush=True); import time; time.sleep(60)"


def test_every_file_that_is_named_is_there_and_in_one_part() -> None:
    files = {path.relative_to(ROOT).as_posix() for path in ROOT.rglob("test_*.py")}
    for start in (*(one for starts in PARTS.values() for one in starts), *LONGEST):
        assert any(file.startswith(start) for file in files), start
    assert {part_of(ROOT / file) for file in files} == {"plain", *PARTS}
    assert part_of(ROOT / "slurm" / "test_slurm.py") == "realtime"


AGAIN = """
import pytest
measured = []
@pytest.fixture(scope="module")
def first():
    measured.append(1)
    yield len(measured)
    measured.append("ended")
@pytest.fixture(scope="module")
def second(first):
    return first
@pytest.mark.flaky(reruns=2)
def test_it(second):
    assert second == 3
def test_another(second):
    assert measured == [1, "ended", 1]
"""


def test_what_is_tried_again_is_measured_again(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("from tests.conftest import pytest_addoption, pytest_runtest_setup\n")
    (tmp_path / "test_again.py").write_text(AGAIN)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT.parent, capture_output=True, text=True)
    assert "2 passed, 1 rerun" in done.stdout


def test_what_a_test_starts_can_be_interrupted() -> None:
    with subprocess.Popen([sys.executable, "-c", SLEEPS], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as started:
        assert started.stdout is not None
        started.stdout.readline()
        started.send_signal(signal.SIGINT)
        assert started.wait(30) == -signal.SIGINT


def test_that_holds_where_an_ignored_interrupt_was_inherited() -> None:
    test = f"{Path(__file__)}::{test_what_a_test_starts_can_be_interrupted.__name__}"
    command = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh", sys.executable, "-m", "pytest", test]
    done = subprocess.run(command, cwd=ROOT.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout
