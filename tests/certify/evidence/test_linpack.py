"""HPL's table: what passes, what is refused and by which code, whatever stands between the lines."""

from __future__ import annotations

import pytest

from certify.evidence.output import ReaderOptions
from tests.certify.evidence.outputs import Row, head, hpl, hpl_row, norms, nvidia, rate, tail, text
from tests.certify.evidence.reader import edited, read, refusals

BASE = hpl()
RATE = f"{rate(30000, 41.5):.4e}"
FAILED = Row(residual=812.5, verdict="FAILED")
WITH_NORMS = text([*head([FAILED]), *hpl_row(FAILED), *norms(FAILED), *tail([FAILED])])
NVIDIA = nvidia(Row(n=90000, seconds=40.25, start=None))
UNCHECKED = edited(
    edited(BASE, "less than                16.0", "less than                -1.0"), "||Ax-b||_oo/(eps*", "#"
)

EDITS = {  # what was done to a good output -> its content, and the one code that refuses it
    "the rate made tenfold": (edited(BASE, RATE, RATE[:-1] + str(int(RATE[-1]) + 1)), "hpl-rate-differs"),
    "N edited in the row": (edited(BASE, "WR11C2R4       30000", "WR11C2R4       40000"), "hpl-rate-differs"),
    "NB edited in the row": (edited(BASE, "30000   192 ", "30000   256 "), "hpl-parameters-differ"),
    "a time of nothing": (edited(BASE, "41.50 ", " 0.00 "), "hpl-time-too-short"),
    "a rate of two digits": (edited(BASE, RATE, f"{rate(30000, 41.5):.1e}"), "hpl-row-unreadable"),
    "a negative rate": (edited(BASE, f" {RATE}", f"-{RATE}"), "hpl-row-unreadable"),
    "a huge rate": (edited(BASE, RATE, "4.3378e+300"), "hpl-row-unreadable"),
    "a word for a time": (edited(BASE, "41.50 ", "fast  "), "hpl-row-unreadable"),
    "the residual's line gone": (edited(BASE, "||Ax-b||_oo/(eps*", "#"), "hpl-residual-missing"),
    "its word gone": (edited(BASE, " ...... PASSED", " ......"), "hpl-residual-missing"),
    "the check switched off": (UNCHECKED, "hpl-check-skipped"),
    "a threshold of 0": (edited(edited(BASE, "residual checks,", "checking,"), "and passed", "without"),
                         "hpl-check-skipped"),
    "NaN": (hpl(Row(residual=float("nan"), verdict="FAILED")), "hpl-residual-not-a-number"),
    "NaN called passed": (hpl(Row(residual=float("nan"))), "hpl-residual-not-a-number"),
    "infinite": (hpl(Row(residual=float("inf"), verdict="FAILED")), "hpl-residual-not-a-number"),
    "negative": (hpl(Row(residual=-2.4e-3)), "hpl-residual-not-a-number"),
    "FAILED edited to PASSED": (edited(WITH_NORMS, "FAILED", "PASSED"), "hpl-residual-too-large"),
    "a threshold of 1.6e9": (edited(hpl(Row(residual=4.1e6)), "    16.0", "1600000000.0"), "hpl-residual-too-large"),
    "failed by its own threshold": (hpl(Row(verdict="FAILED")), "hpl-failed"),
    "a residual that its norms do not give": (edited(WITH_NORMS, "8.125", "0.001"), "hpl-residual-differs"),
    "a residual of NVIDIA, edited": (edited(NVIDIA, "0.00240000", "0.00140000"), "hpl-residual-differs"),
    "an end before the time is over": (edited(BASE, "09:00:41", "09:00:21"), "hpl-times-differ"),
    "an end long after it": (edited(BASE, "09:00:41", "09:10:41"), "hpl-times-differ"),
    "an end before the start": (edited(BASE, "09:00:41", "08:00:41"), "hpl-times-differ"),
    "another weekday": (edited(BASE, "Tue", "Fri"), "hpl-times-differ"),
    "the 31st of June": (edited(BASE, "May 12", "Jun 31"), "hpl-times-differ"),
    "a count of fewer": (edited(BASE, "     1 tests completed and passed", "     0 tests completed and passed"),
                         "hpl-counts-differ"),
}  # fmt: skip


def test_a_good_run_passes() -> None:
    output = read(BASE)
    (run,) = output.runs
    assert (output.tool, output.kind, output.codes, output.failed) == ("HPLinpack 2.3", "hpl", (), ())
    assert (run.n, run.nb, run.p, run.q, run.elapsed_ms) == (30000, 192, 2, 4, 41_500)
    assert (run.rate_mflop_s, run.residual_ppm) == (int(float(RATE) * 1000), 2400)
    assert run.codes == ("solve-times-unknown",)


@pytest.mark.parametrize("what", EDITS)
def test_an_edited_run_is_refused(what: str) -> None:
    content, code = EDITS[what]
    output = read(content)
    assert output.runs == ()
    (run,) = output.failed
    assert code in run.codes


def test_each_run_is_judged_by_itself() -> None:
    rows = [Row(), Row(n=36000, seconds=70.25, start=None, residual=55.0, verdict="FAILED"), Row(n=8000, seconds=0.75,
            start=None)]  # fmt: skip
    output = read(hpl(*rows))
    assert [run.n for run in output.runs] == [30000, 8000]
    assert [(run.n, run.codes[0]) for run in output.failed] == [(36000, "hpl-residual-too-large")]
    assert output.failed[0].residual_ppm == 55_000_000


@pytest.mark.parametrize("seconds", [0.02, 0.34, 1.07, 9.99, 4026.6])
@pytest.mark.parametrize("digits", ["19.4e", "18.3e", ".5e"])  # HPL 2.3; 2.0 to 2.2 and rocHPL; Intel
def test_honest_runs_of_any_length_pass(seconds: float, digits: str) -> None:
    row = Row(n=2000, seconds=seconds, start=None)
    for exact in (seconds - 0.0049, seconds + 0.0049):
        lines = hpl_row(row, digits)
        honest = [line.replace(f"{rate(2000, seconds):{digits}}", f"{rate(2000, exact):{digits}}") for line in lines]
        assert refusals(read(text([*head([row]), *honest, *tail([row])]))) == [set()]


def test_a_printed_number_is_a_range() -> None:
    """What the last digit leaves open is accepted, and no more."""
    row = Row(n=20000, seconds=10.0, start=None)
    exact = f"{rate(20000, 10.0):.4e}"
    for factor, code in ((1.0005, set()), (1.0007, {"hpl-rate-differs"})):
        content = edited(hpl(row), exact, f"{float(exact) * factor:.4e}")
        assert refusals(read(content)) == [code]


def test_lines_of_other_programs_stand_anywhere() -> None:
    lines = BASE.decode().splitlines()
    noise = ["n1:77:77 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[1]", "[n1:1] PMIX ERROR: x", "UCX  WARN  object 0x1",
             "n1-34 : Column=000576 Fraction=0.385 Kernel=    2.55 Mflops=    4.88", "Prog= 2.4%\tN_left= 9\tGF= 7",
             "Column=000082944 Fraction=98.9% Gflops=3.657e+02", "WARNING", "N      : about the matrix"]  # fmt: skip
    loud = [line for at, one in enumerate(lines) for line in (noise[at % len(noise)], one)]
    expected = read(BASE)
    assert read(text(loud)) == expected
    for before in ("[1,0]<stdout>:", "[prterun-n1-77@1,0]<stdout>: ", "[0] ", "0: ", " 12: ", "2026-05-12T09:00:00.1Z ",
                   "2026-05-12T09:00:00+08:00 [0] "):  # fmt: skip
        assert read(text([before + line for line in lines])) == expected
    for end in (b"\r\n", b"\r"):
        assert read(b"\xef\xbb\xbf" + BASE.replace(b"\n", end)) == expected


def test_the_order_of_labels_is_the_tables() -> None:
    lines = [" ".join([*(cells := line.split())[:5], cells[6], cells[5]]) if line[:2] in ("T/", "WR") else line
             for line in BASE.decode().splitlines()]  # fmt: skip
    assert read(text(lines)) == read(BASE)


def test_commas_of_a_locale() -> None:
    decimal = BASE.replace(b"41.50", b"41,50").replace(RATE.encode(), RATE.replace(".", ",").encode())
    assert read(decimal) == read(BASE)
    row = Row(n=120000, seconds=2310.5, start=None)
    plain = hpl(row)
    assert read(plain.replace(b" 120000 ", b" 120,000 ").replace(b"2310.50", b"2,310.50")).runs == read(plain).runs
    assert read(plain.replace(b" 120000 ", b" 120.000 ").replace(b"2310.50", b"2.310,50")).runs == read(plain).runs


def test_local_times_need_an_offset() -> None:
    assert "solve-times-unknown" in read(BASE).runs[0].codes
    (run,) = read(BASE, options=ReaderOptions(utc_offset_minutes=480)).runs
    assert run.codes == ()
    assert (run.started_at, run.ended_at) == ("2026-05-12T01:00:00.000000Z", "2026-05-12T01:00:41.000000Z")


def test_the_operators_threshold_is_noted() -> None:
    (run,) = read(edited(BASE, "    16.0", "1600.0")).runs
    assert "hpl-threshold-differs" in run.codes


def test_what_stands_twice_is_one_run() -> None:
    output = read(BASE + BASE)
    assert len(output.runs) == 1
    (again,) = output.failed
    assert "hpl-run-twice" in again.codes
    row = hpl_row(Row())
    doubled = read(text([*head([Row()]), *row[:4], *row[3:], *tail([Row()])]))  # the row twice, its residual once
    assert doubled.runs == ()
    assert ["hpl-residual-missing" in run.codes for run in doubled.failed] == [True, False]
    assert all("hpl-counts-differ" in run.codes for run in doubled.failed)


def test_what_is_missing_is_noted() -> None:
    assert read(edited(BASE, "Finished      1 tests", "Finished      4 tests")).codes == ("hpl-runs-missing",)
    assert read(edited(BASE, "End of Tests.", "")).codes == ("evidence-cut-off",)


@pytest.mark.parametrize(
    ("version", "noted"),
    [("24.3.0", False), ("25.2.0", False), ("25.4.0", True), ("25.9.0", True), ("26.02", True), ("", True)],
)
def test_a_tool_that_can_emulate_is_noted(version: str, noted: bool) -> None:
    output = read(nvidia(Row(n=90000, seconds=40.25, start=None), version=version))
    assert output.is_per_device
    assert ("emulation-not-excluded" in output.runs[0].codes) == noted
    # a header that was taken away makes nothing native
    bare = [line for line in NVIDIA.decode().splitlines() if "HPL-NVIDIA" not in line and "HPLinpack" not in line]
    assert "emulation-not-excluded" in read(text(bare)).runs[0].codes


def test_the_rate_for_each_device_agrees() -> None:
    device = f"{rate(90000, 40.25) / 8:.3e}"
    assert refusals(read(edited(NVIDIA, device, f"{float(device) * 1.01:.3e}")))[0] >= {"hpl-rate-differs"}


def test_rochpl_says_its_rate_twice() -> None:
    row = Row(n=64000, seconds=12.5, start=None)
    lines = hpl_row(row, "18.3e", "16.7f")
    for score, passes in ((rate(64000, 12.5), 1), (rate(64000, 12.0), 0)):
        said = [*lines[:4], f"Final Score:    {score:7.4e} GFLOPS ", *lines[4:]]
        output = read(text([*head([row], "2.2  --  x"), *said, *tail([row])]))
        assert (output.tool, len(output.runs)) == ("rocHPL, HPLinpack 2.2", passes)


def test_mixed_precision_in_hpls_table_is_no_fp64() -> None:
    """rocHPL-MxP prints the header and the table of HPL."""
    for variant, clock in (("WR0", None), ("WR00", "HPLMXP_pdgesv")):
        row = Row(n=61440, seconds=41.25, variant=variant, start=Row.start if clock else None)
        lines = [line.replace("HPL_pdgesv", clock or "") for line in hpl_row(row, "18.3e", "16.7f")]
        output = read(text([*head([row], "2.2  --  x"), *lines, *tail([row])]))
        assert (output.kind, len(output.runs)) == ("hpl-mxp", 1)


def test_long_lists_of_parameters() -> None:
    rows = [Row(n=1000 * at, seconds=at / 4, start=None) for at in range(1, 21)]
    assert len(read(hpl(*rows)).runs) == 20
    forged = edited(hpl(*rows), "   17000   192", "   17001   192")
    assert "hpl-parameters-differ" in read(forged).failed[0].codes
