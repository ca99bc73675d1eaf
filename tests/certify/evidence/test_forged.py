"""Outputs edited with care: numbers of few digits, which agree with much, and rows that share a residual."""

from __future__ import annotations

from tests.certify.evidence.outputs import Row, hpcc, hpcg, hpl, rate
from tests.certify.evidence.reader import edited, read, refusals

SLOW = Row(n=24000, seconds=30.5, residual=70.0, verdict="FAILED", start=None)


def test_a_summary_of_few_digits_does_not_widen_the_time_of_the_row() -> None:
    content = edited(hpcc(seconds=50.0, n=30000), "(1778572805) is", "(1778572860) is")
    assert refusals(read(content)) == [set()]
    content = edited(content, "HPL_time=50", "HPL_time=5e1")
    content = edited(content, f"HPL_Tflops={rate(30000, 50.0) / 1000:g}", "HPL_Tflops=.4")
    assert refusals(read(content)) == [set()]
    forged = edited(content, f"{rate(30000, 50.0):18.3e}", f"{rate(30000, 46.0):18.3e}")
    assert "hpl-rate-differs" in refusals(read(forged))[0]


def test_a_rate_of_hpcg_is_as_exact_in_one_digit_as_in_six() -> None:
    flop, seconds = 3.4567e15, 1861.4
    content = edited(hpcg(rating=2000.0), f"overhead={flop / seconds / 1e9 * 0.98:g}", "overhead=2000")
    content = edited(content, f"Raw Total={flop / seconds / 1e9:g}", "Raw Total=2e3")
    assert refusals(read(content)) == [{"hpcg-rate-differs"}]
    assert refusals(read(hpcg(seconds=3456.7))) == [set()]  # exactly 1000 GFLOP/s, printed so


def test_of_two_rows_above_one_residual_neither_passes() -> None:
    content = hpl(Row(), SLOW)
    row = next(line for line in content.decode().splitlines() if line.startswith("WR") and " 24000 " in line)
    first = next(line for line in content.decode().splitlines() if line.startswith("WR") and " 30000 " in line)
    moved = edited(edited(content, f"{row}\n", ""), f"{first}\n", f"{first}\n{row}\n")
    assert [bool(codes) for codes in refusals(read(moved))] == [True, True]
    assert not read(moved).runs
