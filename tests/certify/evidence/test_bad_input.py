"""Files that are no output of one tool: one clear sentence each, and memory that does not grow with them."""

from __future__ import annotations

import random
import time
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import InputError
from certify.evidence.lines import LONGEST_LINE, MOST_BYTES
from certify.evidence.output import Family, ToolOutput, is_refused
from certify.evidence.reading import read_output
from tests.certify.evidence.outputs import Row, hccl, hpcc, hpcg, hpl, mxp, nccl, nvidia
from tests.certify.evidence.reader import read
from tests.fuzz.mutate import mutated

GOOD: dict[str, tuple[Family, bytes]] = {
    "hpl": ("hpl", hpl(Row(), Row(n=9000, seconds=1.25, residual=70.0, verdict="FAILED", start=None))),
    "nvidia": ("hpl", nvidia(Row(n=90000, seconds=40.25, start=None))),
    "hpcc": ("hpl", hpcc()),
    "mxp": ("hpl", mxp()),
    "hpcg": ("hpl", hpcg()),
    "nccl": ("nccl-tests", nccl()),
    "hccl": ("hccl-test", hccl()),
}
HPL = hpl()
REFUSED = {
    "nothing": (b"", "evidence-not-recognised"),
    "another program": (b"all is well\n", "evidence-not-recognised"),
    "a header alone": (HPL[: HPL.index(b"T/V  ")], "evidence-not-recognised"),
    "NUL bytes": (HPL[:900] + bytes(512) + HPL[900:], "evidence-not-text"),
    "UTF-16": (HPL.decode().encode("utf-16"), "evidence-not-text"),
    "UTF-16 without a mark": (HPL.decode().encode("utf-16-le"), "evidence-not-text"),
    "HPL and HPCG": (HPL + hpcg(), "evidence-two-tools"),
    "HPL and NVIDIA's": (nvidia(Row(n=90000, seconds=40.25, start=None)) + HPL, "evidence-two-tools"),
    "two versions": (HPL + HPL.replace(b"HPLinpack 2.3", b"HPLinpack 2.2"), "evidence-two-tools"),
    "HPCC and HPL": (hpcc() + HPL, "evidence-two-tools"),
    "HPL and HPL-MxP": (HPL + mxp(), "evidence-two-tools"),
    "HPL and nccl-tests": (HPL + nccl(), "evidence-two-tools"),
    "nccl-tests": (nccl(), "evidence-not-recognised"),
    "too many runs": (hpl(*[Row(n=100 + at, seconds=0.5, start=None) for at in range(1001)]), "evidence-too-many-runs"),
    "too many results": (b"".join(mxp(n=1000 + at) for at in range(1001)), "evidence-too-many-runs"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_file_is_refused_with_one_sentence(what: str) -> None:
    content, code = REFUSED[what]
    with pytest.raises(InputError) as caught:
        read(content)
    assert caught.value.code == code
    assert str(caught.value).startswith("job.out: ")
    assert "\n" not in str(caught.value)


def test_the_sentence_names_the_right_command() -> None:
    with pytest.raises(InputError, match="petaseal import nccl-tests"):
        read(nccl())
    with pytest.raises(InputError, match="petaseal import hpl"):
        read(HPL, "hccl-test")
    with pytest.raises(InputError, match=r"two tools, nccl-tests 2\.17\.6 and hccl-test"):
        read(nccl() + hccl(), "nccl-tests")


def test_memory_does_not_grow_with_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    content = HPL + b"NCCL INFO a line of sixty letters, as they are printed for days\n" * 2**15
    read(HPL)  # which loads the table of reasons
    tracemalloc.start()
    try:
        assert isinstance(attempt(content, "hpl"), ToolOutput)
        _, peak = tracemalloc.get_traced_memory()
        monkeypatch.setattr("certify.evidence.lines.MOST_BYTES", 2**20)
        assert attempt(content, "hpl") == "evidence-too-large"
    finally:
        tracemalloc.stop()
    assert peak < 2**20


def attempt(content: bytes, family: Family) -> ToolOutput | str:
    """Return what is read of a file, or the code that it is refused with."""
    try:
        return read_output(family, content, "job.out")
    except InputError as error:
        return error.code


def test_a_line_of_ten_megabytes_is_passed_by() -> None:
    long = b"A" * 10_000_000 + b"\n"
    output = read(long + HPL[:1500] + long + HPL[1500:])
    assert "evidence-lines-skipped" in output.codes
    assert len(read(HPL.replace(b"\nHPL_pdgesv() end", b"\n" + long + b"HPL_pdgesv() end", 1)).runs) == 1
    for family, content in (("nccl-tests", nccl()), ("hccl-test", hccl())):
        assert read(long + content, family).codes == ("evidence-lines-skipped",)  # type: ignore[arg-type]
    assert LONGEST_LINE < 10_000_000 < MOST_BYTES


def prefixes(content: bytes) -> Iterator[bytes]:
    """Yield a content cut off after every byte of its second half, and after some of its first."""
    middle = len(content) // 2
    yield from (content[:at] for at in (*range(0, middle, 17), *range(middle, len(content))))


@pytest.mark.parametrize("what", GOOD)
def test_cut_off_at_any_byte(what: str) -> None:
    """What is left never says more than the whole: a run that passes is one of the whole file, figure by figure."""
    family, content = GOOD[what]
    whole = read(content, family)
    good = {figures(run) for run in (*whole.runs, *whole.buses)}
    for part in prefixes(content):
        output = attempt(part, family)
        if isinstance(output, str):
            assert output == "evidence-not-recognised"
            continue
        for run in (*output.runs, *(bus for bus in output.buses if not is_refused(bus.codes))):
            # the last row of a table without checks of its own may end within a number that still agrees
            assert figures(run) in good or run == output.buses[-1], part[-80:]
        if not part.endswith(content[-20:]) and what in ("hpl", "nvidia") and output.runs:
            assert "evidence-cut-off" in output.codes or b"End of Tests" in part


def figures(run: object) -> tuple[object, ...]:
    """Return what a run says, without what is said of it."""
    names = ("n", "nb", "p", "q", "rate_mflop_s", "residual_ppm", "size_bytes", "algorithm_mb_s", "bus_mb_s", "wrong")
    return tuple(getattr(run, name, None) for name in names)


@given(seed=st.integers(0, 2**32), what=st.sampled_from(sorted(GOOD)))
@settings(max_examples=150, deadline=None)
def test_changed_outputs_are_read_or_refused(seed: int, what: str) -> None:
    rng = random.Random(seed)
    family, content = GOOD[what]
    for _ in range(rng.randint(1, 4)):
        content = mutated(content, rng)
    output = attempt(content, family)
    if isinstance(output, str):
        assert output.startswith("evidence-")
        return
    assert all(not is_refused(run.codes) for run in output.runs)
    assert all(is_refused(run.codes) for run in output.failed)
    assert read(content, family) == output


def test_hostile_lines_take_no_time() -> None:
    """Lines that patterns could fall back over again and again."""
    hostile = [b"||Ax-b||_oo/(eps*(" * 3000, b"        " + b"1 " * 30_000, b"        " + b"1" * 60_000 + b"x",
               b"N : " + b"9" * 60_000, b"HPLinpack " + b"9" * 60_000, b"1,234" * 12_000, b"# Rank " + b"1" * 60_000,
               b"||A||_oo" + b"." * 60_000, b"WR" + b"0" * 60_000, b"HPCG result is" * 4000,
               b"A::" * 20_000 + b"=", b"Finished " + b"9" * 60_000 + b" tests with the following results"]  # fmt: skip
    start = time.monotonic()
    for line in hostile:
        content = HPL[:1500] + b"\n" + line + b"\n" + HPL[1500:]
        assert isinstance(attempt(content, "hpl"), ToolOutput)
        assert attempt(content, "nccl-tests") == attempt(content, "hccl-test") == "evidence-not-recognised"
    assert time.monotonic() - start < 5
