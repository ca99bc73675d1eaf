"""Level ``audited``: samples that are missing, edited, cut, follow-ups, bombs; a small file may hold a large one."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import os
import shutil
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bench.errors import PetasealError
from bench.profile import load_profile
from bench.record import NodeRecord
from certify.documents.caps import CAPS
from certify.documents.kinds import OpenedDocument
from certify.policy.ratings import installed_ratings
from certify.samples import table as samples
from certify.samples.block import MAX_NAMES
from certify.samples.rebuild import Inspector
from certify.samples.summary import Samples
from tests.bench.fleet import NODE, Simulated, simulate_node
from tests.certify.measured import Measured, measured

MADE: Simulated = simulate_node({}, 2, "smoke", ("fp16", "fp64"))
HEAD = b"device,workload,phase,offset_ns,quantity,value\n"


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    found = measured(tmp_path_factory.mktemp("centre"), devices=1, profile="smoke", precisions=("fp16",))
    found.certify()
    return found


def code_of(centre: Measured, folder: Path) -> str | None:
    """Return the code that samples are refused with by ``verify``, whichever way."""
    try:
        report = centre.verify(samples=folder)
    except PetasealError as error:
        return error.code
    assert (report.level == "audited") == (report.refusal is None)
    return report.refusal.code if report.refusal else None


def edited(content: bytes) -> bytes:
    return gzip.compress(gzip.decompress(content).replace(b"rate_mflop_s", b"rate_mflop_x", 1))


HARM: dict[str, tuple[Callable[[Path], object], str | None]] = {
    "nothing": (lambda path: None, None),
    "missing": (lambda path: path.unlink(), "samples-missing"),
    "edited": (lambda path: path.write_bytes(edited(path.read_bytes())), "samples-differ"),
    "packed again": (
        lambda path: path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), 1)),
        "samples-differ",
    ),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:-9]), "samples-differ"),
    "followed by something": (lambda path: path.write_bytes(path.read_bytes() + b"\0"), "samples-differ"),
    "empty": (lambda path: path.write_bytes(b""), "file-empty"),
    "another node's": (lambda path: path.write_bytes(MADE.samples), "samples-differ"),
    "a link": (lambda path: os.symlink(path.rename(f"{path}.real"), path), "not-regular-file"),
}


@pytest.mark.parametrize("how", HARM)
def test_samples_that_are_not_the_record_s(centre: Measured, tmp_path: Path, how: str) -> None:
    folder = tmp_path / "samples"
    shutil.copytree(centre.records, folder)
    harm, expected = HARM[how]
    harm(folder / "gpu-00001.samples.csv.gz")
    assert code_of(centre, folder) == expected


def audit(tmp_path: Path, content: bytes, record: NodeRecord = MADE.record) -> str | None:
    """Audit samples that the record binds, whatever they are: an operator who made them so."""
    (tmp_path / f"{NODE}.samples.csv.gz").write_bytes(content)
    sha = hashlib.sha256(content).hexdigest()
    assert record.campaign is not None
    inspector, found = (
        Inspector((tmp_path,), record.campaign, load_profile("smoke"), installed_ratings(), True),
        Samples(),
    )
    inspector.inspect(OpenedDocument(record, sha, b"", "", frozenset()), found)
    return found.issues.first.code if found.issues.first else None


def packed(text: bytes) -> bytes:
    return gzip.compress(text)


def rows(change: Callable[[list[list[str]]], object]) -> bytes:
    """Return the true samples with their rows changed."""
    found = list(csv.reader(io.StringIO(gzip.decompress(MADE.samples).decode())))
    change(found)
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(found)
    return packed(text.getvalue().encode())


def first_mark(found: list[list[str]]) -> list[str]:
    return next(row for row in found if row[4] == "subwindow_01_ns")


def last_reading(found: list[list[str]]) -> list[str]:
    return found[-1]


def reading(found: list[list[str]], quantity: str) -> list[str]:
    return next(row for row in found if row[4] == quantity)


def swap_marks(found: list[list[str]]) -> None:
    marks = [row for row in found if row[4].startswith("subwindow_") and row[0] == "fake:0" and row[1] == "fp16"]
    a = marks[0]
    b = next(row for row in marks if row[5] != a[5])
    a[5], b[5] = b[5], a[5]


TRUE = gzip.decompress(MADE.samples)
SPELLED = "samples-invalid"  # one spelling for one value
TRUE_QUOTED = packed(TRUE.replace(b"fake:0", b'"fake:0"'))
BOUND: dict[str, tuple[bytes, str | None]] = {
    "true": (MADE.samples, None),
    "another compression": (gzip.compress(TRUE, 1), None),
    "one number edited": (rows(lambda r: first_mark(r).__setitem__(5, "7")), "samples-differ"),
    "one number left out": (rows(lambda r: r.remove(first_mark(r))), "samples-differ"),
    "one number more": (rows(lambda r: r.append(first_mark(r))), "samples-invalid"),
    "two numbers swapped": (rows(swap_marks), "samples-differ"),
    "another device's": (rows(lambda r: first_mark(r).__setitem__(0, "fake:7")), "samples-invalid"),
    "no numbers": (packed(HEAD), "samples-differ"),
    "no header": (packed(TRUE.split(b"\n", 1)[1]), "samples-invalid"),
    "nothing": (packed(b""), "samples-invalid"),
    "a number that is none": (rows(lambda r: first_mark(r).__setitem__(5, "many")), "samples-invalid"),
    "a number of 10,000 digits": (rows(lambda r: first_mark(r).__setitem__(5, "9" * 10_000)), "samples-invalid"),
    "a column more": (rows(lambda r: first_mark(r).append("x")), "samples-invalid"),
    "a column less": (rows(lambda r: first_mark(r).pop()), "samples-invalid"),
    "no newline at the end": (packed(TRUE[:-1]), "samples-invalid"),
    "not ASCII": (packed(TRUE + "fake:0,fp16,window,0,rate,１\n".encode()), "samples-invalid"),
    "a quote that never closes": (packed(TRUE + b'"fake:0\n'), "samples-invalid"),
    "a row twice": (rows(lambda r: r.insert(r.index(last_reading(r)), list(last_reading(r)))), "samples-invalid"),
    "two readings at one time": (
        rows(lambda r: r.insert(r.index(last_reading(r)), [*last_reading(r)[:5], "0"])),
        "samples-invalid",
    ),
    "rows out of order": (rows(lambda r: r.append(r.pop(-2))), "samples-invalid"),
    "the window in the warm-up": (packed(TRUE.replace(b",window,", b",warmup,")), "samples-invalid"),
    "the warm-up in the window": (packed(TRUE.replace(b",warmup,", b",window,")), "samples-invalid"),
    "the guard in the window": (packed(TRUE.replace(b",guard,", b",window,")), "samples-invalid"),
    "a reason of throttling of its own in each row": (
        packed(HEAD + b"".join(b"fake:0,fp16,window,%d,throttled,r%d\n" % (i, i) for i in range(MAX_NAMES + 1))),
        "samples-invalid",
    ),
    "a name of 65 letters": (rows(lambda r: r[1].__setitem__(4, "x" * 65)), "samples-invalid"),
    "another phase": (rows(lambda r: last_reading(r).__setitem__(2, "after")), "samples-invalid"),
    "a number with a sign": (rows(lambda r: first_mark(r).__setitem__(3, f"+{first_mark(r)[3]}")), "samples-invalid"),
    "a number with zeros": (rows(lambda r: first_mark(r).__setitem__(5, f"0{first_mark(r)[5]}")), "samples-invalid"),
    "a number with a gap": (rows(lambda r: first_mark(r).__setitem__(5, "131_876_136")), "samples-invalid"),
    "a number with spaces": (rows(lambda r: first_mark(r).__setitem__(5, f" {first_mark(r)[5]}")), "samples-invalid"),
    "minus nothing": (rows(lambda r: last_reading(r).__setitem__(3, "-0")), "samples-invalid"),
    "a number beyond all": (rows(lambda r: first_mark(r).__setitem__(5, "9" * 19)), "samples-invalid"),
    "quotes": (TRUE_QUOTED, "samples-invalid"),
    "a row twice before the warm-up": (rows(lambda r: r.insert(1, list(r[1]))), "samples-invalid"),
    "an empty offset": (rows(lambda r: r[1].__setitem__(3, "")), "samples-invalid"),
    "an empty device": (packed(HEAD + b",fp16,prepare,0,launch_1x1x1_ns,1\n"), "samples-invalid"),
    "an empty workload": (packed(HEAD + b"fake:0,,prepare,0,launch_1x1x1_ns,1\n"), "samples-invalid"),
    "an empty quantity": (rows(lambda r: last_reading(r).__setitem__(4, "")), "samples-invalid"),
    "an empty value": (rows(lambda r: last_reading(r).__setitem__(5, "")), "samples-invalid"),
    "a terminal's escape": (rows(lambda r: r[1].__setitem__(4, "\x1b[31moperand_sha256")), "samples-invalid"),
    "a zero byte": (rows(lambda r: last_reading(r).__setitem__(5, "0\x00")), "samples-invalid"),
    "a reading in another spelling": (rows(lambda r: reading(r, "power_mw").__setitem__(5, "0650000")), SPELLED),
    "a reading as a fraction": (rows(lambda r: reading(r, "power_mw").__setitem__(5, "650000.0")), SPELLED),
    "a digest in capitals": (rows(lambda r: r[1].__setitem__(5, r[1][5].upper())), SPELLED),
    "a digest cut short": (rows(lambda r: r[1].__setitem__(5, r[1][5][:-1])), SPELLED),
    "reasons out of order": (rows(lambda r: reading(r, "throttled").__setitem__(5, "thermal+power")), SPELLED),
    "a reason twice": (rows(lambda r: reading(r, "throttled").__setitem__(5, "power+power")), SPELLED),
    "a reason and none": (rows(lambda r: reading(r, "throttled").__setitem__(5, "none+power")), SPELLED),
    "no reason at all": (rows(lambda r: reading(r, "throttled").__setitem__(5, "+power")), SPELLED),
    "reasons in order": (rows(lambda r: reading(r, "throttled").__setitem__(5, "power+thermal")), None),
    "out of memory in a trial": (
        rows(lambda r: next(row for row in r if row[2] == "trial").__setitem__(5, "out-of-memory")),
        None,
    ),
    "out of memory in a window": (rows(lambda r: last_reading(r).__setitem__(5, "out-of-memory")), SPELLED),
    "a carriage return": (packed(TRUE.replace(b"value\n", b"value\r\n", 1)), "samples-invalid"),
    "not gzip": (b"device,precision", "samples-invalid"),
    "gzip cut": (MADE.samples[:-1], "samples-invalid"),
    "gzip cut in the middle": (MADE.samples[: len(MADE.samples) // 2], "samples-invalid"),
    "a wrong check sum": (MADE.samples[:-8] + bytes([MADE.samples[-8] ^ 1]) + MADE.samples[-7:], "samples-invalid"),
    "something behind it": (MADE.samples + b"\0", "samples-invalid"),
    "a second member": (MADE.samples + packed(b"x\n"), "samples-invalid"),
    "zlib instead of gzip": (zlib.compress(TRUE), "samples-invalid"),
}


@pytest.mark.parametrize("how", BOUND)
def test_samples_that_the_record_binds(tmp_path: Path, how: str) -> None:
    content, expected = BOUND[how]
    assert audit(tmp_path, content) == expected


def test_a_bomb_is_never_unpacked_beyond_the_cap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "CAPS", replace(CAPS, samples_unpacked_bytes=len(TRUE)))
    assert audit(tmp_path, MADE.samples) is None
    monkeypatch.setattr(samples, "CAPS", replace(CAPS, samples_unpacked_bytes=len(TRUE) - 1))
    assert audit(tmp_path, MADE.samples) == "samples-too-large"


def test_a_small_file_does_not_unpack_to_a_large_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """100 kB of rows that are all but copies would keep a verifier busy for minutes."""
    monkeypatch.setattr(samples, "FLOOR_BYTES", 0)
    padded = packed(HEAD + b"".join(b"%s:%02d,fp16,window,0,power_mw,1\n" % (b"z" * 4000, i) for i in range(99)))
    assert len(gzip.decompress(padded)) > CAPS.package_ratio * len(padded)
    assert audit(tmp_path, padded) == "samples-too-large"
    monkeypatch.setattr(samples, "FLOOR_BYTES", 1 << 20)
    assert audit(tmp_path, padded) == "samples-differ"


def test_honest_samples_are_far_below_the_ratio() -> None:
    for profile in ("smoke", "standard"):
        made = simulate_node({}, 1, profile, ("fp16",)).samples
        assert 4 * len(gzip.decompress(made)) < CAPS.package_ratio * len(made)


def test_rows_of_one_figure_have_a_cap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    most = max(TRUE.count(f"fake:{i},{w},".encode()) for i in range(2) for w in ("fp16", "fp64"))
    monkeypatch.setattr(samples, "CAPS", replace(CAPS, samples_rows=most))
    assert audit(tmp_path, MADE.samples) is None
    monkeypatch.setattr(samples, "CAPS", replace(CAPS, samples_rows=most - 1))
    assert audit(tmp_path, MADE.samples) == "samples-too-large"


def test_figures_have_a_cap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "MAX_FIGURES", 300)  # the cap itself takes seconds to reach
    lines = sorted(f"fake:{i:05d},fp16,window,0,power_mw,1" for i in range(samples.MAX_FIGURES + 1))
    content = packed(HEAD + b"".join(f"{line}\n".encode() for line in lines))
    assert audit(tmp_path, content) == "samples-invalid"
    assert audit(tmp_path, packed(gzip.decompress(content).rsplit(b"\n", 2)[0] + b"\n")) == "samples-differ"


def test_many_names_are_read_in_time(tmp_path: Path) -> None:
    """Thousands of long names in one file, each new: none is compared with all others."""
    names = [f"x{'y' * 58}{i:05d}" for i in range(MAX_NAMES)]
    lines = [f"fake:0,fp16,window,0,{name},1" for name in names]
    content = packed(HEAD + "\n".join([*lines, ""]).encode())
    assert [line for table in samples.figures(content, tmp_path) for line in table.lines()] == lines
    more = packed(HEAD + "\n".join([*lines, "fake:0,fp16,window,0,z,1", ""]).encode())
    assert audit(tmp_path, more) == "samples-invalid"


def test_blocks_may_end_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for size in (64, 100, 1000, 4097):
        monkeypatch.setattr(samples, "BLOCK_BYTES", size)
        read = samples.figures(MADE.samples, tmp_path)
        assert [line for table in read for line in table.lines()] == TRUE.decode().splitlines()[1:]


def test_the_rows_are_those_that_were_written(tmp_path: Path) -> None:
    read = list(samples.figures(MADE.samples, tmp_path))
    assert [line for rows in read for line in rows.lines()] == TRUE.decode().splitlines()[1:]
    assert [(rows.device, rows.workload) for rows in read] == [
        (f"fake:{i}", w) for i in range(2) for w in ("fp16", "fp64")
    ]


def test_a_bomb_in_one_line_takes_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """64 MiB in one line pack to 64 KB: the line is refused long before it is whole."""
    bomb = packed(HEAD + b"0" * (64 * 2**20))
    assert len(bomb) < 100_000
    monkeypatch.setattr(samples, "CAPS", replace(CAPS, samples_bytes=100_000))  # a reader may allocate as much
    tracemalloc.start()
    try:
        assert audit(tmp_path, bomb) == "samples-invalid"
        assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    finally:
        tracemalloc.stop()


def test_a_file_beyond_the_cap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "CAPS", replace(CAPS, samples_bytes=len(MADE.samples) - 1))
    assert audit(tmp_path, MADE.samples) == "file-too-large"
