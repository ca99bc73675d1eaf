"""The inventory of a baseline from many nodes at once: the `srun` of docs/centre-guide.md on a real Slurm."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from bench.record import read_yaml
from certify.documents.kinds import Baseline
from tests.bad_input.command import petaseal
from tests.certify.commands.test_way_to_2000p import commands, sections
from tests.slurm.cluster import Cluster


def test_the_devices_of_all_nodes_become_one_inventory(cluster: Cluster, tmp_path: Path) -> None:
    (line,) = [line for line in commands(sections()["The baseline"]) if line.startswith("srun ")]
    (tmp_path / "inventory").mkdir()
    for name in cluster.names:
        cluster.set_environment(name, {"PETASEAL_NODE": name})  # each node has its own fakes
    command = [word.replace("inventory/", f"{tmp_path}/inventory/") for word in shlex.split(line)]
    command[command.index("petaseal")] = str(Path(sys.executable).parent / "petaseal")
    cluster.run(*command, "--device", "fake:8")
    out = tmp_path / "inventory.yaml"
    arguments = ("--centre", "demo", "--date", "2025-12-31", "--out", out)
    answer = petaseal("centre", "baseline", "--from", tmp_path / "inventory", *arguments)
    assert answer.status == 0, answer.err
    assert len(read_yaml(out, Baseline).devices) == 8 * len(cluster.names)
    assert all(f"# {name}.json/fake:7" in out.read_text() for name in cluster.names)
