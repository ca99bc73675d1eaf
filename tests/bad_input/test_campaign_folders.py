"""A campaign's folder that is full, read-only or another user's: load is ended all the same, and status is shown."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.record.folder import Folder
from tests.bad_input.command import Answer, petaseal, process, started
from tests.bad_input.test_campaigns import creating, prepared
from tests.bench.processes import workers
from tests.bench.test_run import until
from tests.disks import small_disk

STRANGER = 65534  # a user who owns nothing


@pytest.fixture
def open_place() -> Iterator[Path]:
    """Return an empty folder that every user may enter."""
    place = Path(tempfile.mkdtemp(prefix="petaseal rights "))
    place.chmod(0o755)
    yield place
    shutil.rmtree(place)


def as_stranger(*args: object) -> Answer:
    """Run a command as another user; skip where that user cannot run Python here at all."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("another user can be played by root alone")
    who = ("setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups", sys.executable)
    env = {**os.environ, "HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1"}
    if subprocess.run([*who, "-c", "import certify"], env=env, capture_output=True, check=False).returncode:
        pytest.skip("another user may not read this checkout")
    command = [*who, "-m", "certify", *map(str, args)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    return Answer(done.returncode, done.stdout, done.stderr)


def test_a_colleague_sees_the_status_without_the_private_roster(open_place: Path) -> None:
    prepared(open_place)
    assert petaseal(*creating(open_place)).status == 0
    root = open_place / "c"
    seen = as_stranger("campaign", "status", root)
    assert seen.status == 0, seen.err
    assert "nodes      2 expected: 2 expected" in seen.out
    assert "nodes are named by their ids: cannot be read (Permission denied: " in seen.out
    assert f"{root}/roster.json belongs to root, mode 0600, and this is nobody)" in seen.out
    refused = as_stranger("campaign", "launch", root, "--dry-run")
    assert refused.code == "file-unreadable"
    assert "roster.json belongs to root, mode 0600, and this is nobody" in refused.err
    denied = as_stranger("campaign", "abort", root)
    assert denied.code == "output-not-writable"
    assert f"{root} belongs to root, mode 0755, and this is nobody" in denied.err
    root.chmod(0o700)
    locked = as_stranger("campaign", "status", root)
    assert locked.code == "file-unreadable", locked.err
    assert f"{root} belongs to root, mode 0700, and this is nobody" in locked.err


@pytest.mark.long
@pytest.mark.parametrize("how", ["full", "read-only"])
def test_an_abort_ends_the_load_whatever_the_folder_allows(place: Path, how: str) -> None:
    prepared(place)
    with small_disk(place / "disk", "16m") as disk:
        root = created(place, disk)
        launch = started("campaign", "launch", root, "--lead", "1", "--finish", "60")
        until(lambda: Folder(root).started() is not None)
        until(lambda: workers(str(disk)) != [])
        if how == "full":
            fill(disk)
        else:
            subprocess.run(["mount", "--bind", str(disk), str(disk)], check=True)
            subprocess.run(["mount", "-o", "remount,bind,ro", str(disk)], check=True)
        said = process("campaign", "abort", root)
        until(lambda: workers(str(disk)) == [], 20)
        assert "local: the processes of petaseal-" in said.out
        assert "which was running, was ended" in said.out
        if how == "full":
            assert said.status == 0, said.err
            assert Folder(root).aborted()
        else:
            assert (said.status, said.code) == (2, "output-not-writable")
            assert "the flag could not be written" in said.out
        launch.communicate(timeout=60)
        if how == "read-only":
            subprocess.run(["umount", str(disk)], check=True)


def created(place: Path, disk: Path) -> Path:
    """Open a campaign on a disk and return its folder."""
    words = [disk / "c" if word == place / "c" else word for word in creating(place)]
    assert petaseal(*words).status == 0
    return disk / "c"


def fill(disk: Path) -> None:
    """Leave no room on a disk."""
    with (disk / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass


def test_a_disk_that_fills_up_before_the_start_leaves_no_process(place: Path) -> None:
    prepared(place)
    with small_disk(place / "disk", "16m") as disk:
        root = created(place, disk)
        fill(disk)
        launched = process("campaign", "launch", root, "--lead", "1", "--finish", "60")
        assert launched.status != 0
        assert launched.code in ("output-not-writable", "no-room")
        until(lambda: workers(str(disk)) == [], 20)


@pytest.mark.long
def test_the_next_commands_can_be_pasted_from_a_folder_with_a_blank(open_place: Path) -> None:
    """Each command is run as the one before it printed it."""
    prepared(open_place)
    made = petaseal(*creating(open_place))
    said = following(made)
    assert "can count" in said.out or "problem" in said.out
    root = open_place / "c"
    foreseen = json.loads(petaseal("campaign", "launch", root, "--finish", "60", "--dry-run", "--json").out)
    began = time.monotonic()
    launched = process("campaign", "launch", root, "--finish", "60")
    taken_s = time.monotonic() - began
    assert launched.status == 0, launched.err
    assert abs(foreseen["estimate"]["duration_ns"] / 1e9 - taken_s) < 0.2 * taken_s
    collected = following(launched)
    assert collected.status == 0, collected.err
    command = next_of(collected).replace("KEY.pem", shlex.quote(str(open_place / "operator.pem")))
    certified = petaseal(*shlex.split(command)[1:])
    assert certified.status == 0, certified.err
    verified = following(certified)
    assert verified.status == 0, verified.err


def next_of(answer: Answer) -> str:
    """Return the command that an answer says is next."""
    (line,) = (line for line in answer.out.splitlines() if line.startswith("next "))
    return line.removeprefix("next").strip()


def following(answer: Answer) -> Answer:
    """Run the command that an answer says is next."""
    program, *words = shlex.split(next_of(answer))
    assert program == "petaseal"
    return process(*words)
