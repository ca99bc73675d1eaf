"""One cluster for all tests of a module, and gangs that are ended after each test."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.launchers.base import Gang, GangState, Phase
from bench.launchers.slurm import SlurmLauncher
from tests.slurm.cluster import Cluster, private_slurm, until
from tests.slurm.trial import Trial

# Tells where it runs, waits for the file "go", and tells that it is done.
TASK = """\
cd {out}
env > $SLURMD_NODENAME.tmp && mv $SLURMD_NODENAME.tmp $SLURMD_NODENAME.$SLURM_STEP_ID
while [ ! -e go ]; do sleep 0.1; done
mv $SLURMD_NODENAME.$SLURM_STEP_ID $SLURMD_NODENAME.$SLURM_STEP_ID.done
"""
STUBBORN = """\
trap '' TERM
cd {out}
touch $SLURMD_NODENAME.0
while :; do date +%s > $SLURMD_NODENAME.tmp && mv $SLURMD_NODENAME.tmp $SLURMD_NODENAME.beat; sleep 0.1; done
"""


class Try:
    """One gang of a test, with the folder in which its tasks leave their marks."""

    def __init__(self, cluster: Cluster, folder: Path, name: str) -> None:
        self.cluster = cluster
        self.out = folder / name
        (self.out / "logs").mkdir(parents=True)
        self.launcher = SlurmLauncher()
        self.gang = self.named(name, cluster.names)

    def named(self, name: str, nodes: tuple[str, ...], task: str = TASK) -> Gang:
        """Return a gang that runs a task."""
        command = ("/bin/sh", "-c", task.replace("{out}", shlex.quote(str(self.out))))
        return Gang(name, "pool", nodes, command, self.out / "logs", 600, gres="gpu:8")

    def started(self, step: int = 0) -> set[str]:
        """Return the nodes whose task waits."""
        return {path.stem for path in self.out.glob(f"*.{step}")}

    def done(self, step: int = 0) -> set[str]:
        """Return the nodes whose task has ended."""
        return {path.name.split(".")[0] for path in self.out.glob(f"*.{step}.done")}

    def seen_by(self, node: str, step: int = 0) -> dict[str, str]:
        """Return the environment of a task."""
        lines = (self.out / f"{node}.{step}").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def go(self) -> None:
        """Let all tasks end."""
        (self.out / "go").touch()

    def state(self) -> GangState:
        """Return the gang's state."""
        return self.launcher.state(self.gang)

    def reaches(self, *phases: Phase, limit_s: float = 30) -> GangState:
        """Wait until the gang is in one of some phases and return its state."""
        until(lambda: self.state().phase in phases, limit_s)
        return self.state()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Return a cluster of four nodes with eight GPUs each."""
    with private_slurm(4, gpus=8, slurmd_timeout_s=3) as started, pytest.MonkeyPatch.context() as patch:
        for name, value in started.env.items():
            patch.setenv(name, value)
        yield started


@pytest.fixture
def attempt(cluster: Cluster, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Try]:
    """Return a gang of all nodes that is not submitted yet; afterwards the cluster is empty and whole again."""
    one = Try(cluster, tmp_path, f"petaseal-{os.getpid()}-{request.node.originalname}")
    yield one
    one.go()
    one.launcher.cancel(one.gang)
    for name in cluster.names:
        if name not in cluster.daemons:
            cluster.start_node(name)
    cluster.run("scancel", f"--user={os.getuid()}")
    until(lambda: all(cluster.state(name) == "idle" for name in cluster.names), 60)


@pytest.fixture
def trial(cluster: Cluster, tmp_path: Path) -> Iterator[Trial]:
    """Return a centre of all nodes without a campaign; afterwards the cluster is empty and whole again."""
    one = Trial(cluster, tmp_path)
    yield one
    one.end_launches()
    for name in cluster.names:
        cluster.hold_tasks(name, False)
        cluster.set_environment(name, {})
    if "slurmctld" not in cluster.daemons:
        cluster.start_controller()
    one.cancel_jobs()
    for name in cluster.names:
        if name not in cluster.daemons:
            cluster.start_node(name)
        if cluster.state(name).startswith("drain"):
            cluster.resume(name)
    until(lambda: all(cluster.state(name) == "idle" for name in cluster.names), 60)
