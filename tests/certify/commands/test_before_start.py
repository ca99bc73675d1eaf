"""A launch that must not start: real processes on this machine, each trouble said by its name and its reason."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from bench.record.folder import Folder
from tests.bad_input.command import Answer, petaseal, process
from tests.certify.commands.test_prospects import AI, place
from tests.certify.measured import centre_yaml
from tests.disks import small_disk

__all__ = ["place"]
BAD = {"pool": "bad", "class": "intelligent", "nodes": ["b1", "b2"], "devices": "all"}
SMOKE = ("--profile", "smoke", "--precision", "fp16")
QUICK = ("--lead", "1", "--retries", "0", "--finish", "60")


def create(place: Path, out: Path, **devices: str) -> Folder:
    """Create a campaign of two nodes for each pool that is given devices."""
    pools = [pool for pool in (AI, BAD) if pool["pool"] in devices]
    (place / "centre.yaml").write_text(yaml.safe_dump(centre_yaml(pools=pools), allow_unicode=True))
    given = [text for pool, device in devices.items() for text in ("--device", f"{pool}={device}")]
    answer = petaseal(
        *("campaign", "create", "--centre", place / "centre.yaml", "--key", place / "operator.pem"),
        *("--out", out, *SMOKE, *given),
    )
    assert answer.status == 0, answer.err
    return Folder(out)


def launch(folder: Folder, *more: object, **options: object) -> Answer:
    return process("campaign", "launch", folder.root, *QUICK, *more, **options)


def last(answer: Answer) -> str:
    return answer.err.splitlines()[-1]


def message_of(folder: Folder, name: str) -> str:
    status = folder.status(folder.roster().node_named(name).node_id)
    assert status is not None
    assert status.state == "failed"
    return str(status.message)


def test_a_pool_that_failed_stops_the_launch_and_leaves_its_reasons(place: Path) -> None:
    folder = create(place, place / "c", ai="fake:2", bad="cuda")
    answer = launch(folder)
    assert answer.status == 1
    assert "pool bad: 0 of 2 nodes are ready (1 needed)" in last(answer)
    assert "--least bad=0" in last(answer)
    assert last(answer).endswith("[campaign-not-ready]")
    (said,) = [line for line in answer.err.splitlines() if line.startswith("not ready: ")]
    assert said.startswith("not ready: b1, b2: failed: ")
    reason = message_of(folder, "b1")
    assert said.endswith(reason)
    assert "cuda" in reason
    assert folder.started() is None
    assert not list((folder.root / "records").rglob("*.dsse.json"))
    status = petaseal("campaign", "status", folder.root)
    assert status.out.startswith("did not start: ")
    assert f"  b1: failed: {reason}" in status.out.splitlines()
    people = status.out.splitlines()
    assert people.index(f"  b2: failed: {reason}") < next(i for i, line in enumerate(people) if "a1: " in line)


@pytest.mark.long
def test_it_goes_on_without_a_pool_where_that_is_asked(place: Path) -> None:
    folder = create(place, place / "c", ai="fake:2", bad="cuda")
    assert launch(folder).status == 1
    answer = launch(folder, "--least", "bad=0")  # the launch that was stopped is launched again
    assert any(line.startswith("starts without: b1, b2: failed: ") for line in answer.err.splitlines())
    assert "2 of 4 nodes are ready; all start at" in answer.err
    assert last(answer).endswith("[campaign-incomplete]")
    collected = json.loads(petaseal("campaign", "collect", folder.root, "--json").out)
    assert collected["collected"] == 2
    assert {one["code"] for one in collected["absent"]} == {"node-not-ready"}
    assert {one["detail"] for one in collected["absent"]} == {message_of(folder, "b1")}


def test_with_every_node_nothing_starts_where_one_fails(place: Path) -> None:
    folder = create(place, place / "c", ai="fake:2", bad="cuda")
    answer = launch(folder, "--require-all")
    assert "pool bad: 0 of 2 nodes are ready (2 needed)" in last(answer)
    for wrong in (("--least", "x=1"), ("--least", "ai=3"), ("--require-all", "--least", "50%")):
        refused = petaseal("campaign", "launch", folder.root, *wrong)
        assert (refused.code, refused.status) == ("usage", 2)


def test_a_system_error_on_a_node_says_what_it_was(place: Path) -> None:
    """So few files may be open that the node cannot start the workers of its devices."""
    folder = create(place, place / "c", ai="fake:40")
    command = ["campaign", "join", str(folder.root), "--node", "a1"]
    few = "import os, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (30, 30)); "
    code = f"{few}os.execv(sys.executable, [sys.executable, '-m', 'certify', *sys.argv[1:]])"
    answer = process_of(code, command)
    assert answer.status != 0
    assert message_of(folder, "a1").endswith("Too many open files [OSError]")


def process_of(code: str, command: list[str]) -> Answer:
    ran = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, timeout=120)
    return Answer(ran.returncode, ran.stdout, ran.stderr)


def test_a_node_that_cannot_even_make_its_key_says_why(place: Path) -> None:
    folder = create(place, place / "c", ai="fake:2")
    (place / "file").write_bytes(b"")
    answer = launch(folder, env={**os.environ, "PETASEAL_STATE": str(place / "file" / "state")})
    assert last(answer).endswith("[campaign-not-ready]")
    assert f"{place}/file" in message_of(folder, "a1")
    assert f"not ready: a1, a2: failed: {message_of(folder, 'a1')}" in answer.err.splitlines()


def test_a_node_that_cannot_write_its_record_says_why_before_the_start(place: Path) -> None:
    folder = create(place, place / "c", ai="fake:2")
    folder.root.joinpath("records").write_bytes(b"")
    answer = launch(folder)
    assert last(answer).endswith("[campaign-not-ready]")
    assert message_of(folder, "a1").endswith("[output-not-folder]")
    assert folder.started() is None


@pytest.mark.parametrize("command", [pytest.param("launch", marks=pytest.mark.long), "check"])
def test_a_disk_without_room_for_the_records_stops_everything_before_a_node_is_asked(place: Path, command: str) -> None:
    with small_disk(place / "disk", "3m") as disk:
        folder = create(place, disk / "c", ai="fake:2")
        (disk / "filler").write_bytes(bytes(3 * 2**19))
        answer = petaseal("campaign", command, folder.root)
        assert (answer.code, answer.status) == ("no-room", 1)
        assert "MB left, and the records of 2 nodes need 2." in answer.err
        assert not folder.logs.exists()
        assert folder.started() is None
        (disk / "filler").unlink()
        if command == "launch":
            assert launch(folder).status == 0


def test_a_full_disk_stops_a_launch_too(place: Path) -> None:
    with small_disk(place / "disk", "3m") as disk:
        folder = create(place, disk / "c", ai="fake:2")
        with (disk / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(bytes(4096))
        answer = petaseal("campaign", "launch", folder.root)
        assert (answer.status, last(answer).endswith("[no-room]")) == (1, True), answer.err
        shutil.copytree(folder.root, place / "copy")  # and what was there can be read
