"""A job that waits, one that cannot start, and nodes that report nothing: the engine's and the logs' words are said."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.campaign.launch.plan import gang_name
from bench.errors import InputError
from tests.slurm.cluster import Cluster, until
from tests.slurm.conftest import Try
from tests.slurm.trial import N1, N3, NODES, Trial, opened

UNWRITABLE = """
import errno, os, sys
def full(*args, **options):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
for name in ("fsync", "replace", "link", "mkdir"):
    setattr(os, name, full)
from certify.__main__ import main
main()
"""


@contextlib.contextmanager
def busy(cluster: Cluster, *options: str) -> Iterator[str]:
    """Hold all nodes for another job, and yield its number."""
    command = [
        "salloc",
        "--nodes=4",
        "--exclusive",
        "--job-name=another",
        "--kill-command=TERM",
        *options,
        "sleep",
        "600",
    ]
    with subprocess.Popen(command, env={**os.environ, **cluster.env}, stderr=subprocess.DEVNULL) as process:
        asked = ("squeue", "--noheader", "--name=another", "--states=RUNNING", "--format=%i")
        until(lambda: cluster.run(*asked).strip())
        try:
            yield cluster.run(*asked).strip()
        finally:
            cluster.run("scancel", "--name=another")
            process.terminate()


def name_of(trial: Trial, checks: bool = False) -> str:
    """Return the name of a trial's job."""
    return gang_name(opened("campaign", trial.folder().campaign).campaign_id, "ai", checks)


@pytest.mark.long
def test_a_campaign_that_waits_says_so_everywhere_and_goes_on(cluster: Cluster, trial: Trial) -> None:
    trial.create()
    with busy(cluster):
        checked = trial.run("check", "--on", "slurm", "--timeout", "8")
        assert checked.status == 1
        text = r"pool ai: job \d+ waits in the queue of slurm since 20\S+Z \(0 min\): nodes that it asks for are in use"
        assert re.search(text + r" by other jobs \(pending: Resources\)", checked.out), checked.out
        assert "told nothing" not in checked.out
        launch = trial.launch()
        until(lambda: "waits in the queue of slurm since" in launch.said, 60)
        (job,) = trial.jobs("PENDING")
        status = trial.run("status")
        assert status.out.startswith("waiting in the engine's queue\n")
        assert f"waiting    pool ai: job {job} waits in the queue of slurm since" in status.out
        (line,) = json.loads(trial.run("status", "--json").out)["waiting"]
        assert "(pending: Resources)" in line
        cluster.run("scontrol", "uhold", job)
        until(lambda: f"it will never start as it is: let it go with: scontrol release {job}" in launch.said, 60)
        cluster.run("scontrol", "release", job)
    assert launch.end().status == 0
    assert "next       petaseal campaign collect" in launch.said
    over = trial.run("status").out
    assert over.startswith("is over: every node has ended\n")
    assert "waiting" not in over


@pytest.mark.long
def test_status_goes_on_where_the_engine_does_not_answer(cluster: Cluster, trial: Trial) -> None:
    trial.create()
    with busy(cluster):
        launch = trial.launch()
        until(lambda: trial.jobs("PENDING"))
        launch.kill()
        cluster.stop_controller()
        status = trial.run("status")
        cluster.start_controller()
    assert status.status == 0
    assert "slurm could not be asked whether jobs wait: Slurm does not answer" in status.out


def test_from_within_an_allocation_of_its_nodes_a_launch_is_refused_at_once(cluster: Cluster, trial: Trial) -> None:
    trial.create()
    petaseal = (sys.executable, "-m", "certify", "campaign", "launch", str(trial.root / "c1"), "--on", "slurm")
    own = ["salloc", "--nodes=1", "--nodelist=node3", "--exclusive", *petaseal]
    began = time.monotonic()
    inside = subprocess.run(own, env=trial.env, capture_output=True, text=True, timeout=60, check=False)
    assert inside.returncode == 2, inside.stderr
    assert "[inside-allocation]" in inside.stderr
    assert "which holds 1 of the 4 nodes, such as node3" in inside.stderr
    assert time.monotonic() - began < 30
    assert trial.jobs("RUNNING", "PENDING") == []


def test_an_allocation_of_other_nodes_is_no_hindrance(cluster: Cluster, attempt: Try) -> None:
    gang = attempt.named(attempt.gang.name, ("node1",))
    with busy_on(cluster, "node4") as job, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_JOB_ID", job)
        attempt.launcher.submit(gang)
        until(lambda: attempt.launcher.state(gang).phase == "running")
        with pytest.raises(InputError, match="such as node4") as caught:
            attempt.launcher.submit(attempt.named(f"{gang.name}-4", ("node4",)))
        assert caught.value.code == "inside-allocation"


@contextlib.contextmanager
def busy_on(cluster: Cluster, node: str) -> Iterator[str]:
    """Hold one node for another job, and yield its number."""
    with busy(cluster, "--nodes=1", f"--nodelist={node}") as job:
        yield job


def test_without_srun_nothing_is_handed_over(trial: Trial, tmp_path: Path) -> None:
    trial.create()
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("salloc", "sinfo", "squeue", "scontrol", "scancel"):
        (programs / name).symlink_to(str(shutil.which(name)))
    trial.env["PATH"] = str(programs)
    said = trial.run("check", "--on", "slurm")
    assert (said.status, said.code) == (2, "engine-missing")
    assert "srun: cannot be started" in said.err
    assert trial.jobs("RUNNING", "PENDING") == []


def test_a_node_that_does_not_see_the_folder_is_named_soon(cluster: Cluster, trial: Trial) -> None:
    trial.create()
    cluster.hide(N3, trial.root)
    began = time.monotonic()
    try:
        said = trial.run("check", "--on", "slurm")
    finally:
        cluster.hide(N3, trial.root, hidden=False)
    assert said.status == 1
    assert "3 of 4 nodes told of themselves" in said.out
    silent = rf"{N3} (failed: )?reported nothing and left no log in {trial.root}/c1/logs: it does not see that folder"
    assert re.search(silent, said.out), said.out
    assert re.search(r"the last line of the launch's log: srun: error: .*task 2", said.out), said.out
    assert time.monotonic() - began < 60


@pytest.mark.long
def test_nodes_without_petaseal_are_named_with_the_last_line_of_their_log(cluster: Cluster, trial: Trial) -> None:
    trial.create()
    programs = Path(sys.executable).parent
    for node in NODES:
        cluster.hide(node, programs)
    try:
        said = trial.run("check", "--on", "slurm")
        launched = trial.launch().end()
    finally:
        for node in NODES:
            cluster.hide(node, programs, hidden=False)
    assert said.status == 1
    assert f"{N1}, node2, {N3} and 1 more reported nothing; the last line of its log: slurmstepd-" not in said.out
    assert re.search(r"node1 reported nothing; the last line of its log: .*execve.*No such file or directory", said.out)
    assert launched.status == 2
    assert re.search(r"3 times \(.*; the last line of its log: .*No such file or directory", launched.out)


def test_an_abort_ends_the_job_though_the_folder_takes_nothing(trial: Trial) -> None:
    trial.create()
    trial.lasts(60)
    launch = trial.launch()
    trial.reach("ready", "measuring", nodes=[N1])
    (job,) = trial.jobs("RUNNING")
    launch.kill()
    command = [sys.executable, "-c", UNWRITABLE, "campaign", "abort", str(trial.root / "c1")]
    said = subprocess.run(command, env=trial.env, capture_output=True, text=True, timeout=60, check=False)
    assert f"slurm: job {job} ({name_of(trial)}), which was running, was ended" in said.stdout
    assert "the flag could not be written" in said.stdout
    assert said.returncode == 2
    assert "[output-not-writable]" in said.stderr
    until(lambda: trial.load() == [] and trial.jobs("RUNNING", "COMPLETING") == [], 30)


def test_an_abort_needs_neither_roster_nor_launch_file(trial: Trial) -> None:
    trial.create()
    launch = trial.launch()
    trial.reach("ready", "measuring", nodes=[N1])
    (job,) = trial.jobs("RUNNING")
    launch.kill()
    trial.folder().roster_file.unlink()
    trial.folder().launch_file.write_bytes(b"{")
    said = trial.run("abort")
    assert f"slurm: job {job} ({name_of(trial)}), which was running, was ended" in said.out
    assert said.status == 2
    assert trial.folder().aborted()
    until(lambda: trial.load() == [], 30)


@pytest.mark.long
def test_an_abort_ends_a_check_that_waits(cluster: Cluster, trial: Trial) -> None:
    trial.create()
    with busy(cluster):
        check = trial.checking()
        until(lambda: trial.jobs("PENDING"))
        (job,) = trial.jobs("PENDING")
        said = trial.run("abort")
        assert f"slurm: job {job} ({name_of(trial, checks=True)}), which was queued, was ended" in said.out
        assert said.status == 0
        assert check.end().status == 1


@pytest.mark.long
def test_the_estimate_is_what_a_campaign_takes(trial: Trial) -> None:
    trial.create()
    foreseen = json.loads(trial.run("launch", "--on", "slurm", "--lead", "10", "--dry-run", "--json").out)
    began = time.monotonic()
    assert trial.launch("--lead", "10").end().status == 0
    taken_s = time.monotonic() - began
    assert abs(foreseen["estimate"]["duration_ns"] / 1e9 - taken_s) < 0.2 * taken_s
