"""``python -m tests.perf hpcc`` without HPCC and with what stands in for it: rates are never asserted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.perf import hpcc

INPUT = "1000         Ns\n2            Ps\n3            Qs\n"
FAKE = """#!/bin/sh
[ "$OPENBLAS_NUM_THREADS" = 1 ] || exit 1
printf '4800         Ns\\n1            Ps\\n5            Qs\\n' | cmp - hpccinf.txt || exit 1
echo "StarDGEMM_Gflops=51.5" > hpccoutf.txt
"""


def test_a_machine_without_hpcc_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    hpcc.measure()
    assert "NOT MEASURED, HPCC is not installed; apt-get install hpcc" in capsys.readouterr().out


def test_the_rates_of_all_processes_are_added(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    example, program = tmp_path / "input", tmp_path / "mpirun"
    example.write_text(INPUT)
    program.write_text(FAKE)
    program.chmod(0o755)
    monkeypatch.setattr(hpcc, "EXAMPLE", example)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert hpcc.star_dgemm_mflop_s(5) == 5 * 51_500
