"""Ctrl-C, kill -9 and a jumping clock: nothing half-written, no process left, and the same command works again."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

import certify.statement.records
from tests.bad_input.command import Answer, contents, petaseal, started
from tests.bad_input.crash import NOT_REACHED, crashing
from tests.bad_input.laid_out import certified, laid_out, verified, widened
from tests.bench.processes import workers
from tests.bench.test_run import quick, until
from tests.certify.measured import Measured, measured

RATES = {"rate_gflop_s": {"fp16": 700, "fp64": 700}}


def certifying(centre: Measured, records: Path | None = None) -> tuple[object, ...]:
    return (
        *("certify", records or centre.records, "--centre", centre.centre, "--key", centre.key),
        *("--campaign", centre.campaign, "--out", centre.folder / "out"),
    )


def visible(folder: Path) -> dict[str, bytes | str]:
    """Return what a user sees in a folder."""
    return {name: what for name, what in contents(folder).items() if not Path(name).name.startswith(".")}


def finished(process: subprocess.Popen[str]) -> Answer:
    out, err = process.communicate(timeout=60)
    return Answer(process.returncode, out, err)


@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", ["SIGINT", "SIGKILL"])
def test_certify_is_stopped_at_every_write(place: Path, name: str, every: int) -> None:
    """Whatever call it is stopped at: a statement that exists is whole, and the same command works afterwards."""
    centre = laid_out(place)
    before = contents(place)
    with crashing() as crash:
        for step in range(0, 100, every):
            answer = crash(name, step, *certifying(centre))
            if answer.status == NOT_REACHED:
                break
            if name == "SIGKILL":
                assert answer.status == -signal.SIGKILL
            else:
                assert (answer.code, answer.status) == ("interrupted", 130)
                assert {k: v for k, v in contents(place).items() if k != "out"} == before
            if not (place / "out" / "statement.dsse.json").exists():
                assert certified(centre).status == 0
            assert verified(centre).status == 0
            shutil.rmtree(place / "out")
    assert answer.status == NOT_REACHED
    assert 8 < step < 99


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A measured centre of enough records for worker processes."""
    folder = tmp_path_factory.mktemp("many")
    centre = measured(folder, nodes=300, devices=1, precisions=("fp16",), change=widened(24))
    for samples in centre.records.glob("*.samples.csv.gz"):  # nobody reads them here
        samples.unlink()
    return folder


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("certify", "SIGINT"),
        ("verify", "SIGKILL"),
        pytest.param("certify", "SIGKILL", marks=pytest.mark.long),
        pytest.param("verify", "SIGINT", marks=pytest.mark.long),
    ],
)
def test_a_signal_at_any_moment_ends_every_worker(many: Path, place: Path, name: str, command: str) -> None:
    """Enough records for worker processes; the signal comes from outside, to the whole group as a terminal sends it."""
    centre = Measured.at(shutil.copytree(many, place / "many"))
    place = centre.folder
    size = sum(path.stat().st_size for path in centre.records.iterdir() if path.name.endswith(".dsse.json"))
    assert size > certify.statement.records.PARALLEL_FROM_BYTES
    arguments = certifying(centre)
    if command == "verify":
        assert certified(centre).status == 0
        out = place / "out"
        arguments = (
            *("verify", out / "statement.dsse.json", "--records", out / "records.jsonl"),
            *("--public-key", centre.public_key, "--accept-simulated"),
        )
    before = contents(place)
    dice = random.Random(f"{name} {command}")
    marker = str(centre.folder)
    environment = {**os.environ, "PETASEAL_TEST": marker}
    for wait in (None, dice.uniform(0.0, 0.5)):
        running = started(*arguments, env=environment)
        if wait is None:
            time.sleep(0.15 + dice.random() / 4)  # before any worker
        else:
            until(lambda running=running: len(workers(marker)) >= 3 or running.poll() is not None)  # type: ignore[misc]
            time.sleep(wait)
        os.killpg(running.pid, signal.SIGINT) if name == "SIGINT" else running.kill()
        answer = finished(running)
        if answer.status == 0:  # it was quicker
            shutil.rmtree(place / "out") if command == "certify" else None
            continue
        if name == "SIGINT" and wait is not None:
            assert (answer.code, answer.status, answer.out) == ("interrupted", 130, "")
        until(lambda: workers(marker) == [])
        if command == "verify":
            assert contents(place) == before
        else:
            assert not (place / "out" / "statement.dsse.json").exists()
            assert {k: v for k, v in visible(place).items() if not k.startswith("out")} == before
    again = finished(started(*arguments))
    assert again.status == 0, again.err


def scenario(place: Path, name: str = "scenario", **script: Any) -> Path:
    file = place / f"{name}.yaml"
    file.write_text(yaml.safe_dump({"default": {**RATES, **script}}))
    return file


def run(place: Path, *more: object) -> tuple[object, ...]:
    return (
        *("run", "--profile", quick(place), "--device", "fake:2", "--precision", "fp16"),
        *("--scenario", scenario(place), "--out", place / "out", *more),
    )


def test_run_is_stopped_at_any_moment_and_works_again(place: Path) -> None:
    dice = random.Random(11)
    environment = {**os.environ, "PETASEAL_TEST": str(place)}
    for name in ("SIGINT", "SIGKILL"):
        running = started(*run(place), env=environment)
        until(lambda: len(workers(str(place))) == 3)
        time.sleep(dice.uniform(0, 2))
        os.killpg(running.pid, signal.SIGINT) if name == "SIGINT" else running.kill()
        answer = finished(running)
        if name == "SIGINT":
            assert (answer.code, answer.status, answer.out) == ("interrupted", 130, "")
        else:
            assert (answer.status, answer.err) == (-signal.SIGKILL, "")
        until(lambda: workers(str(place)) == [])
        assert not visible(place).keys() & {"out"} or name == "SIGKILL"
        assert not any(path.startswith("out/") for path in visible(place))
    again = finished(started(*run(place, "--json"), env=environment))
    assert again.status == 0, again.err
    assert Path(json.loads(again.out)["record"]).exists()
    assert workers(str(place)) == []


def test_run_is_killed_while_it_writes(place: Path) -> None:
    """The samples are written before the record: what a killed run leaves is no record, or a whole one."""
    seen = set()
    with crashing() as crash:
        for step in range(100):
            answer = crash("SIGKILL", step, "write-record", place)
            left = visible(place)
            seen.add(tuple(sorted(left)))
            assert left.items() <= {"n.samples.csv.gz": b"samples", "n.record.dsse.json": b"record"}.items()
            if answer.status == NOT_REACHED:
                break
            shutil.rmtree(place)
            place.mkdir()
    assert seen == {(), ("n.samples.csv.gz",), ("n.record.dsse.json", "n.samples.csv.gz")}


def test_a_record_that_cannot_be_written_takes_its_samples_along(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bench import output
    from bench.errors import InputError

    (place / "r.record.dsse.json").mkdir()
    (place / "r.record.dsse.json" / "x").write_text("")
    with pytest.raises(InputError):
        output.write_record(place / "r.record.dsse.json", b"{}", place / "r.samples.csv.gz", b"x")
    assert visible(place).keys() == {"r.record.dsse.json", "r.record.dsse.json/x"}


def test_an_operators_key_that_measures_and_a_clock_that_jumps(place: Path) -> None:
    """Two faults of one real run: UTC jumps in the window, and the operator's key signed the record."""
    assert petaseal("keys", "new", "--no-passphrase", "--out", place / "operator.pem").status == 0
    more = ("--key", place / "operator.pem", "--scenario", scenario(place, "jump", utc_step_at_s=1.5, utc_step_s=0.5))
    answer = finished(started(*run(place), *more, "--all"))
    assert answer.status == 1, answer.err  # the clock jumped: its figure is void
    assert "utc-clock-disagrees (void)" in answer.out
    arguments = ("certify", place / "out", "--centre", "demo", "--out", place / "stated", "--key")
    before = contents(place)
    mine = petaseal(*arguments, place / "operator.pem", "--profile", place / "quick.yaml")
    assert (mine.code, mine.status) == ("role-not-allowed", 1)
    assert contents(place) == before
    assert petaseal("keys", "new", "--no-passphrase", "--out", place / "other.pem").status == 0
    other = petaseal(*arguments, place / "other.pem", "--profile", place / "quick.yaml", "--all")
    assert other.status == 0, other.err
    assert "utc-clock-disagrees x 2" in other.out
    assert "NOTHING COUNTS" in other.out
