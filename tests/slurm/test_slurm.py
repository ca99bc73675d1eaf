"""The launcher against a real Slurm that loses nodes, its controller and its own processes."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bench.errors import InputError
from bench.launchers.base import Gang
from bench.launchers.slurm import SlurmLauncher, hold_command
from bench.launchers.slurm_commands import start
from tests.slurm.cluster import Cluster, until
from tests.slurm.conftest import STUBBORN, Try

ALL = {"node1", "node2", "node3", "node4"}


def holders(name: str) -> list[int]:
    """Return the processes of this host that hold a gang's allocation or start its tasks."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            variables = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        is_one = f"--job-name={name}".encode() in words or f"SLURM_JOB_NAME={name}".encode() in variables
        if is_one and b"SLURM_STEP_ID" not in b"".join(variables):
            found.append(int(folder.name))
    return found


def test_nodes_are_discovered_each_once_with_what_is_wrong(cluster: Cluster, attempt: Try) -> None:
    cluster.drain("node2", "bad DIMM | slot 3")
    cluster.run("scontrol", "update", "nodename=node4", "state=down", "reason=no power")
    try:
        found = SlurmLauncher().discover([])
        assert [node.name for node in found] == ["node1", "node2", "node3", "node4"]
        assert [node.group for node in found] == ["rack1", "rack1", "rack2", "rack2"]
        assert {node.gres for node in found} == {"gpu:8"}
        assert {node.partition for node in found} == {"all"}
        assert {node.partition for node in SlurmLauncher().discover(["short", "all"])} == {"short"}
        assert [node.problem for node in found] == [None, "drained: bad DIMM | slot 3", None, "down: no power"]
        with pytest.raises(InputError, match=r"node2: cannot be used \(drained: bad DIMM \| slot 3\)"):
            attempt.launcher.submit(attempt.gang)
        assert attempt.state().phase == "absent"
    finally:
        cluster.resume("node2")
        cluster.resume("node4")


@pytest.mark.parametrize(
    ("changes", "code", "told"),
    [
        ({"nodes": ("node1", "node5", "node6")}, "node-unusable", "2 of 3 nodes are not there, such as node5"),
        ({"partition": "nosuch"}, "partition-unknown", "choose from all, short"),
        ({"partition": "short"}, "partition-limit", "short: allows a job 120 s"),
        ({"gres": "gpu:9"}, "node-unusable", "node1: has gpu:8, and gpu:9 is asked for"),
        ({"reservation": "nosuch"}, "unknown-reservation", "'nosuch'"),
        ({"options": ("--constraint=nosuch",)}, "engine-failed", "Slurm refuses it: "),
    ],
)
def test_what_would_never_start_is_refused_at_once(attempt: Try, changes: dict[str, Any], code: str, told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        attempt.launcher.submit(attempt.gang._replace(**changes))
    assert caught.value.code == code
    assert attempt.state().phase == "absent"


SUBMIT = """\
import pickle, sys, time
from bench.launchers.slurm import SlurmLauncher
SlurmLauncher().submit(pickle.load(sys.stdin.buffer))
print("submitted", flush=True)
time.sleep(600)
"""


def submit_and_kill(gang: Gang) -> None:
    """Submit from a process of its own, which is then killed with all that belongs to its session."""
    with subprocess.Popen(
        [sys.executable, "-c", SUBMIT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(pickle.dumps(gang))
        process.stdin.close()
        assert process.stdout.readline() == b"submitted\n"
        os.killpg(process.pid, signal.SIGKILL)


def test_a_gang_survives_its_launcher_and_has_whole_nodes(
    cluster: Cluster, attempt: Try, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PETASEAL_STATE", "/shared/state")
    monkeypatch.setenv("SLURM_JOB_ID", "4711")  # as in a job: it is no part of that job
    monkeypatch.setenv("SLURM_NTASKS", "9")
    cluster.set_environment("node3", {"PETASEAL_SCENARIO": "/shared/hangs.yaml"})
    submit_and_kill(attempt.gang)
    until(lambda: attempt.started() == ALL)
    running = attempt.state()
    assert (running.phase, running.reason, running.lost) == ("running", None, ())
    seen = {name: attempt.seen_by(name) for name in ALL}
    cluster.set_environment("node3", {})
    for name, environment in seen.items():
        assert environment["SLURMD_NODENAME"] == name
        assert environment["PETASEAL_STATE"] == "/shared/state"
        assert environment["PATH"] == os.environ["PATH"]
        assert environment["CUDA_VISIBLE_DEVICES"] == "0,1,2,3,4,5,6,7"
        assert environment["SLURM_CPUS_ON_NODE"] == "2"  # srun --exclusive without salloc gives 1
        assert environment["SLURM_JOB_ID"] == attempt.state().job_id
        assert ("PETASEAL_SCENARIO" in environment) == (name == "node3")
    with pytest.raises(InputError, match="is running already") as caught:
        attempt.launcher.submit(attempt.gang)
    assert caught.value.code == "gang-exists"
    attempt.go()
    assert attempt.reaches("ended").reason == "completed"
    assert attempt.done() == ALL
    until(lambda: not holders(attempt.gang.name))
    logs = {path.name.split(".")[0] for path in (attempt.out / "logs").glob("node*.log")}
    assert logs == ALL


@pytest.mark.long
def test_all_processes_on_the_submit_host_are_killed_and_the_tasks_finish(attempt: Try) -> None:
    attempt.launcher.submit(attempt.gang)
    until(lambda: attempt.started() == ALL)
    for process in holders(attempt.gang.name):
        os.kill(process, signal.SIGSTOP)
    for process in holders(attempt.gang.name):
        os.kill(process, signal.SIGKILL)
    assert attempt.state().phase == "running"
    attempt.go()
    until(lambda: attempt.done() == ALL)
    assert attempt.state().phase == "running"  # nobody is there to give the nodes back
    attempt.launcher.cancel(attempt.gang)
    attempt.reaches("ended")


@pytest.mark.long
def test_a_node_that_restarts_at_once_ends_nobody_else(cluster: Cluster, attempt: Try) -> None:
    attempt.launcher.submit(attempt.gang)
    until(lambda: attempt.started() == ALL)
    until(lambda: b"srun" not in b"".join(Path(f"/proc/{p}/comm").read_bytes() for p in holders(attempt.gang.name)))
    cluster.kill_node("node3")
    cluster.start_node("node3")
    time.sleep(2)  # in which srun would have been told, and would have ended all
    attempt.go()
    until(lambda: attempt.done() == ALL - {"node3"})


@pytest.mark.long
def test_a_lost_node_is_named_another_is_retried_and_the_rest_finish(cluster: Cluster, attempt: Try) -> None:
    attempt.launcher.submit(attempt.gang)
    until(lambda: attempt.started() == ALL)
    cluster.kill_node("node3")
    attempt.launcher.retry(attempt.gang, ["node2", "node4"])
    until(lambda: attempt.started(step=1) == {"node2", "node4"})
    again = attempt.seen_by("node2", step=1)
    assert (again["CUDA_VISIBLE_DEVICES"], again["SLURM_CPUS_ON_NODE"]) == ("0,1,2,3,4,5,6,7", "2")
    until(lambda: attempt.state().lost == ("node3",), 60)
    with pytest.raises(InputError, match="node3: is no longer part of the gang"):
        attempt.launcher.retry(attempt.gang, ["node3"])
    attempt.go()
    until(lambda: attempt.done() == ALL - {"node3"})
    assert attempt.done(step=1) == {"node2", "node4"}
    assert attempt.reaches("ended").reason == "completed"  # in spite of the node: records are counted, not this
    with pytest.raises(InputError, match="is ended, so that nothing of it can be retried"):
        attempt.launcher.retry(attempt.gang, ["node2"])


@pytest.mark.parametrize("kill", [False, True])
@pytest.mark.long
def test_the_controller_restarts_in_the_middle(cluster: Cluster, attempt: Try, kill: bool) -> None:
    attempt.launcher.submit(attempt.gang)
    until(lambda: attempt.started() == ALL)
    before, since = attempt.state(), time.time()
    if kill:  # what slurmctld has not saved yet is lost with it, and it saves every 5 s
        until(lambda: (cluster.folder / "state/job_state").stat().st_mtime > since)
    cluster.stop_controller(kill=kill)
    try:
        if not kill:  # asking takes as long as MessageTimeout
            with pytest.raises(InputError) as caught:
                attempt.state()
            assert caught.value.code == "engine-unreachable"
    finally:
        cluster.start_controller()
    assert attempt.state() == before
    attempt.go()
    until(lambda: attempt.done() == ALL)
    assert attempt.reaches("ended", limit_s=60).reason == "completed"


@pytest.mark.long
def test_cancelling_kills_what_ignores_being_asked(attempt: Try) -> None:
    gang = attempt.named(attempt.gang.name, attempt.gang.nodes, task=STUBBORN)
    attempt.launcher.submit(gang)
    until(lambda: attempt.started() == ALL)
    began = time.time()
    attempt.launcher.cancel(gang)
    beats = {path.stem: int(path.read_text()) for path in attempt.out.glob("*.beat")}
    assert set(beats) == ALL
    assert max(beats.values()) < began + 15  # Slurm's own KillWait, which is 30 s in this cluster, was not waited for
    attempt.reaches("ended", limit_s=15)
    attempt.launcher.cancel(gang)
    until(lambda: not holders(gang.name))


def test_of_two_jobs_of_one_gang_the_one_that_runs_is_meant_and_both_are_cancelled(attempt: Try) -> None:
    attempt.launcher.submit(attempt.gang)
    until(lambda: attempt.started() == ALL)
    before, log = attempt.state(), attempt.gang.log_dir / "second.log"
    start(hold_command(attempt.gang), log)  # by a launcher that was killed before it saw the first
    until(lambda: "pending" in log.read_text().lower())
    assert attempt.state() == before
    attempt.launcher.cancel(attempt.gang)
    attempt.reaches("ended")
    assert attempt.started() == ALL
    until(lambda: not holders(attempt.gang.name))


def test_a_gang_waits_in_the_queue_and_leaves_it(attempt: Try) -> None:
    attempt.launcher.submit(attempt.gang)
    until(lambda: attempt.started() == ALL)
    second = attempt.named(f"{attempt.gang.name}-2", ("node1", "node2"))
    attempt.launcher.submit(second)
    state = attempt.launcher.state(second)
    assert (state.phase, state.lost) == ("queued", ())
    assert (state.reason or "").startswith("pending")
    attempt.launcher.cancel(second)
    until(lambda: attempt.launcher.state(second).phase == "ended")
    assert attempt.state().phase == "running"


def test_reserved_nodes_are_used_through_their_reservation_only(cluster: Cluster, attempt: Try) -> None:
    held = ("nodes=node1,node2", "users=root", "starttime=now", "duration=10", "flags=maint,ignore_jobs")
    cluster.run("scontrol", "create", "reservation", "reservationname=cert", *held)
    try:
        found = {node.name: (node.problem, node.reservation) for node in attempt.launcher.discover([])}
        assert found["node1"] == found["node2"] == (None, "cert")
        assert found["node3"] == (None, None)
        with pytest.raises(InputError, match=r"node1: is reserved \(cert\)"):
            attempt.launcher.submit(attempt.gang)
        with pytest.raises(InputError, match="node3: is not in the reservation cert"):
            attempt.launcher.submit(attempt.gang._replace(reservation="cert"))
        attempt.launcher.submit(attempt.gang._replace(reservation="cert", nodes=("node1", "node2")))
        until(lambda: attempt.started() == {"node1", "node2"})
        attempt.go()
        attempt.reaches("ended")
    finally:
        cluster.run("scontrol", "delete", "reservationname=cert")
