"""Record and samples: their place is kept from the start, and what was measured outlives a full or vanished disk."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.campaign.node.join import only_process
from bench.campaign.node.task import NodeTask
from bench.clock import SystemClock
from bench.errors import InputError, Interrupted
from bench.output import WRITE_NS, NodeFiles, reserved, write_patiently
from tests.bench.campaigns import PROFILE, campaign_of, lay
from tests.bench.processes import workers
from tests.bench.test_run import quick, scenario, smoke, start, until
from tests.disks import small_disk

RECORD, SAMPLES = b"record", b"samples" * 1000


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PETASEAL_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    with small_disk(tmp_path / "disk", "256k") as folder:
        yield folder


def fill(folder: Path) -> Path:
    """Leave no room on a disk."""
    file = folder / "filler"
    with file.open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(bytes(4096))
    return file


def kept_in(text: str) -> Path:
    """Return the folder that a sentence says a record is kept in, which holds one with its samples."""
    found = re.search(r"the signed record and its samples are kept in ([^;]+); .* \[record-rescued\]$", text.strip())
    assert found is not None, text
    folder = Path(found[1])
    names = sorted(path.name.partition(".")[2] for path in folder.iterdir())
    assert names == ["record.dsse.json", "samples.csv.gz"]
    return folder


def running(tmp_path: Path, out: Path) -> subprocess.Popen[str]:
    """Start a run, and return once it measures."""
    options = ("--profile", quick(tmp_path), "--scenario", scenario(tmp_path))
    process = start(tmp_path, *smoke(tmp_path, "--out", out, *options))
    until(lambda: len(workers(str(tmp_path))) == 3)
    return process


@pytest.mark.long
def test_a_second_run_into_the_same_folder_is_refused_at_its_start(tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = running(tmp_path, out)
    begun = time.monotonic()
    second = start(tmp_path, *smoke(tmp_path, "--out", out))
    _, error = second.communicate(timeout=60)
    assert first.poll() is None, "the second was refused when the first was over"
    assert time.monotonic() - begun < 20
    assert "is being measured by another run, which began before" in error
    assert error.strip().endswith("[output-exists]")
    _, error = first.communicate(timeout=60)
    names = sorted(path.name.partition(".")[2] for path in out.iterdir())
    assert names == ["record.dsse.json", "samples.csv.gz"], error


def test_a_run_that_was_killed_blocks_nobody(tmp_path: Path) -> None:
    first = running(tmp_path, tmp_path / "out")
    first.kill()
    first.communicate(timeout=30)
    (name,) = (path.name for path in (tmp_path / "out").iterdir())  # its lock, which it does not hold any more
    with reserved(NodeFiles(tmp_path / "out", name.removeprefix(".").partition(".")[0])) as kept:
        kept.write(RECORD, SAMPLES)


@pytest.mark.parametrize("fault", ["full", pytest.param("unmounted", marks=pytest.mark.long)])
def test_a_disk_that_is_full_or_gone_at_the_end(tmp_path: Path, disk: Path, fault: str) -> None:
    out = disk if fault == "unmounted" else disk / "out"
    process = running(tmp_path, out)
    if fault == "full":
        fill(disk)
    else:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 2
    assert kept_in(error).parent == tmp_path / "state" / "rescued"
    assert [path for path in disk.rglob("*") if "record.dsse" in path.name and path.name[0] != "."] == []


def test_a_folder_that_was_removed_is_not_made_anew(tmp_path: Path) -> None:
    with reserved(place := NodeFiles(tmp_path / "out", "n")) as kept:
        place.lock.unlink()
        place.folder.rmdir()
        with pytest.raises(InputError) as told:
            kept.write_or_rescue(RECORD, SAMPLES)
    kept_in(str(told.value))
    assert not place.folder.exists()


def test_a_full_disk_is_refused_before_anything_is_measured(disk: Path) -> None:
    fill(disk)
    with pytest.raises(InputError, match="No space left on device") as refused, reserved(NodeFiles(disk, "n")):
        raise AssertionError("it was kept")
    assert refused.value.code == "output-not-writable"


def test_where_the_state_folder_is_full_too_it_goes_to_a_temporary_one(
    tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PETASEAL_STATE", str(disk / "state"))
    with reserved(NodeFiles(disk / "out", "n")) as kept:
        fill(disk)
        with pytest.raises(InputError) as told:
            kept.write_or_rescue(RECORD, SAMPLES)
    folder = kept_in(str(told.value))
    assert folder.parent == tmp_path / f"petaseal-rescued-{os.geteuid()}"  # another user's could not be written to
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "n.record.dsse.json").read_bytes() == RECORD
    assert list((disk / "state" / "rescued").iterdir()) == []


def test_where_nothing_takes_it_the_sentence_says_so(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("PETASEAL_STATE", "TMPDIR"):
        monkeypatch.setenv(variable, str(disk))
    monkeypatch.setattr("tempfile.tempdir", str(disk))
    with reserved(NodeFiles(disk / "out", "n")) as kept:
        fill(disk)
        with pytest.raises(InputError, match="neither the state folder nor a temporary one takes the record") as told:
            kept.write_or_rescue(RECORD, SAMPLES)
    assert told.value.code == "output-not-writable"


def test_the_first_record_stays_where_there_are_no_locks(tmp_path: Path) -> None:
    """As on a network file system without them: whoever ends second is kept beside."""
    place = NodeFiles(tmp_path / "out", "n")
    with reserved(place) as kept:
        unlocked = kept._replace(is_locked=False)
        unlocked.write_or_rescue(b"first", b"first samples")
        with pytest.raises(InputError) as told:
            unlocked.write_or_rescue(RECORD, SAMPLES)
    assert (place.record.read_bytes(), place.samples.read_bytes()) == (b"first", b"first samples")
    assert "move both into a folder of their own" in str(told.value)
    kept_in(str(told.value))


def test_nothing_is_left_of_a_place_that_was_not_used(tmp_path: Path) -> None:
    with contextlib.suppress(Interrupted), reserved(NodeFiles(tmp_path / "a" / "b", "n")):
        assert (tmp_path / "a" / "b").is_dir()
        raise Interrupted
    assert not (tmp_path / "a").exists()


class Waiting(SystemClock):
    """A clock whose sleep takes no time, and at whose second sleep something happens."""

    def __init__(self, then: threading.Event | Path) -> None:
        super().__init__()
        self.then, self.slept_ns = then, 0

    def monotonic_ns(self) -> int:
        return super().monotonic_ns() + self.slept_ns

    def sleep_ns(self, duration_ns: int) -> None:
        self.slept_ns += duration_ns
        if self.slept_ns == 2 * duration_ns:
            if isinstance(self.then, Path):
                self.then.unlink()
            elif self.then.is_set():
                raise Interrupted


def test_a_node_of_a_campaign_keeps_its_record_elsewhere_until_the_shared_folder_takes_it(
    tmp_path: Path, disk: Path
) -> None:
    place = NodeFiles(disk / "records" / "7f", "n")
    with reserved(place) as kept:
        write_patiently(kept, RECORD, SAMPLES, Waiting(fill(disk)))
    assert place.record.read_bytes() == RECORD
    assert list((tmp_path / "state" / "rescued").iterdir()) == []


def test_a_node_of_a_campaign_takes_part_once_wherever_the_second_process_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in two containers, which share the campaign's folder and not the folder of temporary files."""
    campaign = campaign_of(1)
    folder = lay(tmp_path / "campaign", campaign)
    roster = folder.roster()
    part = NodeTask(folder, roster, roster.nodes[0], campaign, PROFILE)
    with only_process(part, check_only=False):
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "elsewhere"))
        with pytest.raises(InputError) as refused, only_process(part, check_only=False):
            raise AssertionError("it took part")
        assert refused.value.code == "node-joined-twice"
        with only_process(part, check_only=True) as kept:
            assert kept is None


@pytest.mark.parametrize("is_ended", [False, True])
def test_a_node_of_a_campaign_whose_shared_folder_stays_full(disk: Path, is_ended: bool) -> None:
    ended = threading.Event()
    ended.set() if is_ended else None
    clock = Waiting(ended)
    with reserved(NodeFiles(disk / "records" / "7f", "n")) as kept:
        fill(disk)
        with pytest.raises(InputError) as told:
            write_patiently(kept, RECORD, SAMPLES, clock)
    assert (clock.slept_ns >= WRITE_NS) is not is_ended
    assert (kept_in(str(told.value)) / "n.samples.csv.gz").read_bytes() == SAMPLES
