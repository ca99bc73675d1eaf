"""The private Slurm leaves nothing behind, however its owner ends."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster, free_ports, missing, require, short_folder, until

OWNER = """\
import sys, time
from pathlib import Path
from tests.slurm.cluster import Cluster
Cluster(Path(sys.argv[1]), 2).start()
print("started", flush=True)
time.sleep(600)
"""


def running(folder: Path) -> list[str]:
    """Return the processes that name a cluster's folder in their command line or environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:
            continue
        if str(folder).encode() in words:
            found.append(process.name)
    return found


def test_two_clusters_at_once_and_nothing_is_left_of_them() -> None:
    require()
    folders = [short_folder(), short_folder()]
    try:
        with Cluster(folders[0], 2) as first, Cluster(folders[1], 3, gpus=2) as second:
            for cluster in (first, second):
                where = cluster.run("srun", f"-N{len(cluster.names)}", "hostname").split()
                assert sorted(where) == list(cluster.names)
            second.kill_node("node2")
            assert second.run("srun", "-wnode3", "sh", "-c", "echo $SLURMD_NODENAME").strip() == "node3"
            assert all(map(running, folders))
            second.stop()
            second.stop()
        until(lambda: not any(map(running, folders)), 10)  # what was killed takes a moment to go
    finally:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)


def test_a_cluster_ends_with_its_owner() -> None:
    require()
    folder = short_folder()
    try:
        with subprocess.Popen([sys.executable, "-c", OWNER, folder], stdout=subprocess.PIPE) as owner:
            assert owner.stdout is not None
            assert owner.stdout.readline() == b"started\n"
            owner.send_signal(signal.SIGKILL)
        until(lambda: not running(folder), 10)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_without_slurm_a_test_is_skipped_and_in_ci_it_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tests.slurm.cluster.PROGRAMS", ("no-such-daemon",))
    assert "no-such-daemon" in (missing() or "") or os.geteuid() != 0
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception):
        require()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(AssertionError):
        require()


def test_ports_are_free_and_differ() -> None:
    ports = free_ports(50)
    assert len(set(ports)) == 50
    assert all(20000 <= port < 32000 for port in ports)
