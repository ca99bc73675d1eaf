"""Campaigns of four nodes on a real Slurm that are launched again: what was lost before the start is done once more."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest

from bench.units import utc_text
from tests.fake_nvidia import built, gpu
from tests.slurm.cluster import until
from tests.slurm.trial import N1, N2, N3, N4, NODES, Trial, only

pytestmark = pytest.mark.long


def test_a_job_that_is_cancelled_before_the_start_is_launched_again(trial: Trial) -> None:
    trial.create("--starts-from", utc_text(time.time_ns() + 20 * 10**9))
    launch = trial.launch()
    trial.reach("ready")
    trial.cluster.hold_tasks(N4, True)
    trial.cancel_jobs()
    until(lambda: "ended before the start and is launched again" in launch.said, 60)
    trial.reach("ready", nodes=NODES[:3])
    launch.kill()
    trial.cancel_jobs()
    trial.cluster.hold_tasks(N4, False)
    answer = trial.launch().end()
    assert answer.status == 0, answer.out
    found = trial.stated()
    assert found.not_counted == {}
    assert found.counts_exactly(only(*NODES))
    assert len(trial.jobs()) == 3


def test_a_job_that_is_cancelled_in_the_window_is_over_and_is_measured_again(trial: Trial) -> None:
    trial.create()
    launch = trial.launch()
    trial.in_window()
    trial.cancel_jobs()
    answer = launch.end()
    assert answer.status == 1
    assert "4 aborted" in answer.out
    assert "petaseal campaign rerun" in answer.out
    again = trial.launch().end()
    assert again.status == 1
    assert "petaseal campaign rerun" in again.out
    first = trial.run("collect", "--json")
    assert first.status == 1
    assert [one["code"] for one in json.loads(first.out)["absent"]] == ["node-aborted"] * len(NODES)
    assert trial.certify().code == "no-records"
    rerun = trial.run("rerun", "--key", trial.key, "--out", trial.root / "c2")
    assert rerun.status == 0, rerun.err
    assert trial.launch(name="c2").end().status == 0
    found = trial.stated("c2")
    assert [(one.campaign_id, one.outcome) for one in found.statement.campaign.earlier] == [
        (json.loads(first.out)["campaign_id"], "not-submitted")
    ]
    assert found.counts_exactly(only(*NODES))


Moment = Callable[[Trial], object]
MOMENTS: dict[str, tuple[Moment, ...]] = {
    "before the start": (
        lambda trial: until(trial.folder().launch_file.exists),
        lambda trial: until(lambda: list(trial.folder().logs.glob("*.nodes"))),
        lambda trial: until(trial.jobs),
        lambda trial: trial.reach("arrived", "preparing", "prepared", "ready"),
        lambda trial: trial.reach("ready"),
        lambda trial: until(trial.folder().start_file.exists, 60),
    ),
    "in the window and after it": (
        lambda trial: trial.in_window(),
        lambda trial: trial.reach("done"),
    ),
}


@pytest.mark.parametrize("moments", MOMENTS.values(), ids=MOMENTS)
def test_a_launcher_that_is_killed_goes_on_with_the_same_command(trial: Trial, moments: tuple[Moment, ...]) -> None:
    trial.create()
    for moment in moments:
        launch = trial.launch()
        moment(trial)
        launch.kill()
    answer = trial.launch().end()
    assert answer.status == 0, answer.out
    found = trial.stated()
    assert found.not_counted == {}
    assert found.counts_exactly(only(*NODES))
    wrote = [line for log in trial.folder().logs.glob("node*.log") for line in log.read_text().splitlines()]
    assert sorted(line for line in wrote if "wrote" in line) == [f"{n}: wrote {n}.record.dsse.json" for n in NODES]
    until(lambda: trial.jobs("RUNNING", "PENDING") == [])


def test_a_node_that_fails_before_the_start_is_started_again_and_a_drained_one_is_left_out(trial: Trial) -> None:
    trial.cluster.drain(N4, "bad DIMM")
    trial.centre("all")
    trial.give(N2, {"0": {"no_such_thing": 1}})
    trial.create("--nodes", "slurm")
    roster = trial.folder().roster()
    ids = {node.name: node.node_id for node in roster.nodes} | {node.name: node.node_id for node in roster.left_out}
    launch = trial.launch("--retries", 3)
    until(lambda: trial.state(ids[N2]) == "failed", 60)
    trial.give(N2)
    answer = launch.end()
    assert answer.status == 0, answer.out
    assert f"{N2} failed (" in answer.out
    assert "no_such_thing" in answer.out
    found = trial.stated()
    assert found.collected["left_out"] == [f"{N4}: drained: bad DIMM"]
    assert [(one.node_id, one.reason) for one in found.statement.campaign.left_out] == [(ids[N4], "drained: bad DIMM")]
    assert found.not_counted == {(ids[N4], None): ("node-left-out",)}
    assert found.counts_exactly(only(ids[N1], ids[N2], ids[N3]))


def test_a_check_finds_an_unknown_clock_and_another_number_of_devices(trial: Trial) -> None:
    trial.give(N2, clock_uncertainty_ns=None)
    for node in NODES:
        script = trial.root / f"{node}.gpus"
        script.write_text("cuda_order 0\n" + gpu(0) if node != N3 else "cuda_order 1 0\n" + gpu(0) + gpu(1))
        trial.set(node, LD_LIBRARY_PATH=str(built()), FAKE_NVIDIA=str(script))
    trial.create(device="cuda,fake:1")
    said = trial.run("check", "--on", "slurm")
    assert said.status == 1
    assert "4 of 4 nodes told of themselves" in said.out
    assert f"{N2}: its clock is not known to be synchronised" in said.out
    assert f"{N3}: has 3 devices, 2 are expected" in said.out
    assert f"different numbers of devices: mostly 2; {N3}: 3" in said.out
    assert trial.folder().started() is None
    assert trial.jobs("RUNNING", "PENDING") == []
