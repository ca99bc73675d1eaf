"""HPCC, HPL-MxP, HPCG, and what is known of the nodes on which a tool ran."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from certify.evidence.facts import NodesTogether, check_against
from certify.evidence.output import ReaderOptions
from tests.certify.evidence.outputs import Row, hpcc, hpcg, hpl, mxp, nvidia, rate
from tests.certify.evidence.reader import edited, read, refusals

HPCC = hpcc()
EXACT = f"{rate(800, 0.00731) / 1000:g}"
HPCC_EDITS = {  # what was done -> the content, and the code that refuses the run
    "the table's rate": (edited(HPCC, f"{rate(800, 0.00731):.3e}", "9.999e+02"), "hpcc-summary-differs"),
    "the summary's rate": (edited(HPCC, EXACT, "0.99"), "hpcc-summary-differs"),
    "both rates": (edited(edited(HPCC, f"{rate(800, 0.00731):.3e}", "9.900e+02"), EXACT, "0.99"),
                   "hpcc-summary-differs"),
    "the summary's time": (edited(HPCC, "HPL_time=0.00731", "HPL_time=0.00631"), "hpcc-summary-differs"),
    "N of the summary": (edited(HPCC, "HPL_N=800", "HPL_N=900"), "hpcc-summary-differs"),
    "a norm": (edited(HPCC, "HPL_AnormI=198.5", "HPL_AnormI=298.5"), "hpcc-summary-differs"),
    "no summary": (HPCC[: HPCC.index(b"Begin of Summary")], "hpcc-summary-missing"),
    "cut off within it": (HPCC[: HPCC.index(b"HPL_time")], "hpcc-summary-missing"),
    "a test that failed": (hpcc(success=0), "hpcc-not-successful"),
    "more ranks than processes": (hpcc(processes=1), "hpl-grid-does-not-fit"),
}  # fmt: skip
MXP_EDITS = {
    "FP8": (mxp(sloppy=1), "hpl-mxp-below-16-bits"),
    "the rate": (edited(mxp(), "GFLOPS = 3.2000e+05", "GFLOPS = 6.2000e+05"), "hpl-rate-differs"),
    "faster than its factorisation": (mxp(whole=9.9e5).replace(b"2.4750e+06, per GPU =  309375.00",
                                                               b"8.0000e+05, per GPU =  100000.00"),
                                      "hpl-rate-differs"),
    "a greater EPS": (edited(mxp(), "2.000000E-16", "2.000000E-12"), "hpl-residual-differs"),
    "a norm": (edited(mxp(), "1.210000E+05", "2.210000E+05"), "hpl-residual-differs"),
    "too large": (mxp(residual=17.0), "hpl-residual-too-large"),
    "failed": (edited(mxp(), "PASSED", "FAILED"), "hpl-failed"),
    "no residual": (edited(mxp(), " ...... PASSED", ""), "hpl-residual-missing"),
    "no N": (edited(mxp(), "N = 120000", "N = -12000"), "hpl-row-unreadable"),
}  # fmt: skip
HPCG_EDITS = {
    "invalid": (hpcg(valid="INVALID"), "hpcg-invalid"),
    "a check that failed": (hpcg(check="FAILED"), "hpcg-invalid"),
    "the rating": (hpcg(rating=2222.0), "hpcg-rate-differs"),
    "the time": (edited(hpcg(), "Summary::Total=1861.4", "Summary::Total=1861.5"), "hpcg-rate-differs"),
    "the total gone": (edited(hpcg(), "Operations Summary::Total=", "Operations Summary="), "hpcg-incomplete"),
    "cut off before the end": (hpcg()[: hpcg().index(b"Final Summary")], "hpcg-invalid"),
}
CASES = {**HPCC_EDITS, **{f"MxP: {what}": case for what, case in MXP_EDITS.items()},
         **{f"HPCG: {what}": case for what, case in HPCG_EDITS.items()}}  # fmt: skip


def test_each_passes_unedited() -> None:
    for content, tool, kind in (
        (HPCC, "HPCC 1.5.0", "hpl"),
        (mxp(), "HPL-MxP-NVIDIA 25.9.0", "hpl-mxp"),
        (hpcg(), "HPCG 3.1", "hpcg"),
    ):
        output = read(content)
        assert (output.tool, output.kind, output.codes, len(output.runs)) == (tool, kind, (), 1)
        assert refusals(output) == [set()]


@pytest.mark.parametrize("what", CASES)
def test_an_edited_output_is_refused(what: str) -> None:
    content, code = CASES[what]
    output = read(content)
    assert output.runs == ()
    assert code in output.failed[0].codes


def test_nvidias_hpcg_names_itself() -> None:
    head = b"HPCG-NVIDIA 25.9.0  -- NVIDIA accelerated HPCG benchmark -- NVIDIA\n"
    assert read(head + hpcg()).tool == "HPCG-NVIDIA 25.9.0"


def test_hpccs_summary_makes_a_short_run_exact() -> None:
    (run,) = read(HPCC).runs
    assert (run.elapsed_ms, run.codes) == (7, ())  # the table says 0.01 s
    assert (run.started_at, run.ended_at) == ("2026-05-12T08:00:04.000000Z", "2026-05-12T08:00:05.000000Z")
    shorter = read(hpcc(seconds=0.0012, n=300))
    assert [run.elapsed_ms for run in shorter.runs] == [1]  # the table says 0.00 s


def test_mxp_says_what_it_does_not_print() -> None:
    (run,) = read(mxp()).runs
    assert run.codes == ("hpl-time-not-printed", "solve-times-unknown")
    for sloppy in ("SLOPPY-TYPE = 7", "OTHER = 1"):
        (run,) = read(edited(mxp(), "SLOPPY-TYPE = 2", sloppy)).runs
        assert "hpl-mxp-precision-unknown" in run.codes
    assert len(read(mxp() + mxp(n=121000)).runs) == 2


@pytest.mark.parametrize("content", [mxp(), hpcg(), HPCC])
def test_what_stands_twice_is_one_run(content: bytes) -> None:
    output = read(content + content)
    assert len(output.runs) == 1
    assert "hpl-run-twice" in output.failed[0].codes


def test_hpcg_below_the_official_time_is_noted() -> None:
    assert "hpcg-below-official-time" in read(hpcg(seconds=60.25)).runs[0].codes
    assert "hpcg-below-official-time" not in read(hpcg()).runs[0].codes
    assert read(hpcg(valid="INVALID")).failed[0].rate_mflop_s > 0  # its total, which is no result


FACTS = {
    "P x Q": (hpl(), NodesTogether(ranks=7), "hpl-grid-does-not-fit"),
    "memory": (hpl(), NodesTogether(memory_bytes=8 * 30000**2 - 1), "hpl-memory-does-not-fit"),
    "memory of factors in 16 bits": (mxp(), NodesTogether(memory_bytes=2 * 120000**2 - 1), "hpl-memory-does-not-fit"),
    "above the rating": (hpl(), NodesTogether(fp64_mflop_s=433_000), "hpl-rate-above-rating"),
    "HPCG above the rating": (hpcg(), NodesTogether(fp64_mflop_s=1_000_000), "hpl-rate-above-rating"),
    "emulated": (nvidia(Row(n=90000, seconds=2.25, start=None)), NodesTogether(fp64_mflop_s=8 * 16_000_000),
                 "hpl-rate-above-rating"),
}  # fmt: skip


@pytest.mark.parametrize("what", FACTS)
def test_facts_of_the_nodes_refuse(what: str) -> None:
    content, facts, code = FACTS[what]
    before = read(content)
    assert len(before.runs) == 1
    after = check_against(before, facts)
    assert after.runs == ()
    assert code in after.failed[0].codes


def test_facts_that_fit_change_nothing() -> None:
    output = read(hpl(), options=ReaderOptions(utc_offset_minutes=480))
    fitting = NodesTogether(8, 8 * 30000**2, 440_000, "2026-05-12T01:00:00.000000Z", "2026-05-12T01:00:41.000000Z")
    assert check_against(output, fitting) == output
    assert check_against(output, NodesTogether()) == output
    # HPL-MxP is above every FP64 rating, and no figure of FP64; HPCG holds no dense matrix
    assert check_against(read(mxp()), NodesTogether(fp64_mflop_s=1)) == read(mxp())
    assert check_against(read(hpcg()), NodesTogether(memory_bytes=10**9)) == read(hpcg())


@pytest.mark.parametrize(
    "facts",
    [NodesTogether(opened_at="2026-05-12T01:00:00.500000Z"), NodesTogether(ends_at="2026-05-12T01:00:40.000000Z")],
)
def test_a_run_outside_the_campaign_is_said_to_be(facts: NodesTogether) -> None:
    output = read(hpl(), options=ReaderOptions(utc_offset_minutes=480))
    assert check_against(output, facts).runs[0].codes == ("evidence-outside-campaign",)
    unknown = read(hpl())
    assert check_against(unknown, facts) == unknown


def test_the_real_hpcc(tmp_path: Path) -> None:
    """Debian's hpcc under Open MPI: its output is read, and its numbers agree as ours are told to."""
    if not (shutil.which("hpcc") and shutil.which("mpirun")):
        assert not os.environ.get("CI"), "hpcc and openmpi-bin are not installed"
        pytest.skip("hpcc and openmpi-bin are not installed")
    example = Path("/usr/share/doc/hpcc/examples/_hpccinf.txt").read_text()
    lines = example.splitlines()
    lines[4], lines[5], lines[6] = "2 sizes", "300 500 Ns", "1 # of NBs"
    lines[7], lines[10] = "64 NBs", "1 Ps"
    (tmp_path / "hpccinf.txt").write_text("\n".join(lines) + "\n")
    environment = {key: value for key, value in os.environ.items() if key != "OPENBLAS_CORETYPE"}
    environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = ["mpirun", "--allow-run-as-root", "--oversubscribe", "-np", "2", "hpcc"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    output = read((tmp_path / "hpccoutf.txt").read_bytes())
    assert (output.kind, output.codes) == ("hpl", ())
    runs = [*output.runs, *output.failed]
    assert sorted(run.n or 0 for run in runs) == [300, 500]
    best = max(runs, key=lambda run: run.rate_mflop_s)
    assert best in output.runs  # the summary says its exact time; the other may be too short for the table
    assert best.codes == ()
    assert all(set(run.codes) <= {"hpl-time-too-short"} for run in runs)
    assert best.started_at is not None
    rate_text = next(line.split()[-1] for line in done_table(tmp_path) if line.startswith(f"WR11C2R4{best.n:12d}"))
    forged = (tmp_path / "hpccoutf.txt").read_bytes().replace(rate_text.encode(), b"9.999e+03")
    assert all(run.n != best.n for run in read(forged).runs)


def done_table(folder: Path) -> list[str]:
    """Return the lines of a real output."""
    return (folder / "hpccoutf.txt").read_text().splitlines()
