"""The fake libraries do what their script says: what the tests of sources rest on."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.fake_libraries import compile_library, install, lines, write_script

CALL = "import ctypes, sys; fake = ctypes.CDLL(sys.argv[1]); fake.rsmi_init(0); fake.rsmi_dev_power_get(0, 0, 0)"


def fake(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> Any:
    """Return a library of its own, which has read a script."""
    monkeypatch.setenv("FAKE_RSMI", str(write_script(folder, script)))
    handle = ctypes.CDLL(str(install(compile_library("rsmi.c", "librocm_smi64.so"), folder, "lib")))
    assert handle.rsmi_init(0) == 0
    return handle


def power(handle: Any, device: int) -> tuple[int, int]:
    value, kind = ctypes.c_uint64(), ctypes.c_uint32()
    return handle.rsmi_dev_power_get(device, ctypes.byref(value), ctypes.byref(kind)), value.value


def test_codes_are_of_a_function_and_a_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two = lines("device", {"power": 5}) + lines("device", {"power": 6}, ("answer rsmi_dev_power_get 0 @1s 4",))
    handle = fake(monkeypatch, tmp_path, two + lines("device", {"power": 2**64 - 1}, ("answer * 2",)))
    assert [power(handle, i) for i in range(4)] == [(0, 5), (0, 6), (2, 0), (1, 0)]
    monkeypatch.setenv("FAKE_RSMI", str(write_script(tmp_path / "next", lines("device", {"power": 7}))))
    assert handle.rsmi_init(0) == 0  # another script is read
    assert power(handle, 0) == (0, 7)


def test_a_call_waits_and_is_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "calls"
    handle = fake(
        monkeypatch, tmp_path, f"log {log}\n{lines('device', {'power': 5}, ('hang rsmi_dev_power_get 0.3',))}"
    )
    before = time.monotonic()
    assert power(handle, 0) == (0, 5)
    assert time.monotonic() - before >= 0.3
    assert log.read_text() == f"{os.getpid()} rsmi_init -1\n{os.getpid()} rsmi_dev_power_get 0\n"


def test_a_library_may_end_its_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = write_script(tmp_path, lines("device", {"power": 5}, ("crash rsmi_dev_power_get 1",)))
    monkeypatch.setenv("FAKE_RSMI", str(script))
    library = compile_library("rsmi.c", "librocm_smi64.so")
    assert subprocess.run([sys.executable, "-c", CALL, library], check=False).returncode == -11


def test_a_word_that_no_library_has_ends_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_RSMI", str(write_script(tmp_path, lines("device", {"powre": 5}))))
    library = compile_library("rsmi.c", "librocm_smi64.so")
    done = subprocess.run([sys.executable, "-c", CALL, library], check=False, capture_output=True, text=True)
    assert done.returncode == -6
    assert "no such word: powre" in done.stderr
