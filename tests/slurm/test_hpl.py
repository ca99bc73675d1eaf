"""The HPC Challenge with Debian's own binary, as ``campaign hpl`` writes it, on the private Slurm.

The nodes are one machine, so that each of their ranks is given a core by hand: Slurm would give all of them the first.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from shutil import which
from typing import Any

import msgspec
import pytest

from bench.record import Shape
from bench.units import rate_text
from certify.documents.statement import EvidenceLine
from tests.bad_input.command import petaseal
from tests.slurm import trial
from tests.slurm.cluster import Cluster, private_slurm, until
from tests.slurm.trial import Trial, opened

SMALL = Shape(m=256, n=256, k=256)
FP64 = msgspec.structs.replace(trial.BRIEF, measured={"supercomputing": ("fp64",)}, shapes={"fp64": (SMALL,)})
SCENARIO = {**trial.SCENARIO, "default": {"rate_gflop_s": {"fp64": 700}}}
# Open MPI between "nodes" that are one machine: no shared memory, and root as everywhere here.
OPEN_MPI = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_btl": "tcp,self",
    "OMPI_MCA_btl_tcp_if_include": "lo",
    "OMPI_MCA_oob_tcp_if_include": "lo",
    "OMPI_MCA_mpi_yield_when_idle": "1",
}
ON_A_CORE = """#!/bin/sh
HOSTNAME=$(hostname) env >"{folder}/seen.$OMPI_COMM_WORLD_RANK"
exec taskset -c $((OMPI_COMM_WORLD_RANK % $(nproc --all))) hpcc
"""
PAGE = Path(__file__).parents[2] / "docs" / "supercomputing.md"
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
AS_SMALL = {  # in the page's commands
    "--nodes slurm": "--nodes slurm --partition hpc=all --profile brief.yaml --device hpc=fake:1",
    "--ranks-per-node 2 --threads 32": "--ranks-per-node 1 --nodes 'node[2,4]' --memory 8M --nb 64 --benchmark hpcc",
    "sbatch --wait hpl/job.sh": 'sbatch hpl/job.sh && while [ -n "$(squeue -h)" ]; do sleep 0.2; done',  # sooner
    "--binary /opt/hpl/xhpl": "--binary ./one-core",
    "launch c1 --on slurm": f"launch c1 --on slurm --lead {trial.LEAD_S}",
    "import hpl hpl/hpl.txt": "import hpl hpl/hpccoutf.txt --nodes 'node[2,4]'",
    "petaseal certify": "petaseal certify --profile brief.yaml",
    "petaseal verify": "petaseal verify --profile brief.yaml --accept-simulated",
}
AS_ASKED = """#!/bin/sh
echo "rank $SLURM_PROCID of $SLURM_NTASKS on $SLURMD_NODENAME in $PWD:" \\
  "$OMP_NUM_THREADS ${NVIDIA_TF32_OVERRIDE-unset} $CUDA_VISIBLE_DEVICES"
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Return a cluster of four nodes with two GPUs each, which a job has only where it asks for them."""
    with private_slurm(4, gpus=2) as started, pytest.MonkeyPatch.context() as patch:
        for name, value in started.env.items():
            patch.setenv(name, value)
        yield started


@pytest.fixture
def fp64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let centres of `Trial` measure FP64."""
    monkeypatch.setattr(trial, "BRIEF", FP64)
    monkeypatch.setattr(trial, "SCENARIO", SCENARIO)


def centre_at(cluster: Cluster, place: Path) -> Trial:
    """Return a centre whose one pool counts FP64, without a campaign."""
    one = Trial(cluster, place)
    one.pools({"pool": "hpc", "class": "supercomputing", "nodes": "all", "devices": "all"})
    return one


@pytest.fixture
def centre(cluster: Cluster, tmp_path: Path, fp64: None) -> Trial:
    """Return such a centre with a campaign of all nodes."""
    one = centre_at(cluster, tmp_path)
    answer = petaseal(
        *("campaign", "create", "--centre", one.root / "centre.yaml", "--key", one.key, "--nodes", "slurm"),
        *("--partition", "hpc=all", "--profile", one.profile, "--device", "hpc=fake:1", "--out", one.folder().root),
    )
    assert answer.status == 0, answer.err
    return one


def page_commands() -> list[str]:
    """Return the commands of the page, on a centre that is small and of simulated devices."""
    (block,) = re.findall(r"^```console\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    commands = "\n".join(line.removeprefix("$ ") for line in block.splitlines())
    for there, here in AS_SMALL.items():
        assert there in commands, there
        commands = commands.replace(there, here)
    return commands.splitlines()


def program(place: Path, text: str) -> Path:
    """Write a program that stands for a centre's own start of its binary."""
    place.write_text(text.replace("{folder}", str(place.parent)))
    place.chmod(0o755)
    return place


def submitted(centre: Trial, run: Path, limit_s: float, more: Mapping[str, str]) -> str:
    """Submit a run's script as an operator does, wait for its end, and return Slurm's word for it."""
    env = {**os.environ, **OPEN_MPI, **more}
    env.pop("OPENBLAS_CORETYPE", None)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in env.items():
            patch.setenv(name, value)
        number = centre.cluster.run("sbatch", "--parsable", str(run / "job.sh")).strip()
    until(lambda: _state(centre, number) not in ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING"), limit_s)
    return _state(centre, number)


def _state(centre: Trial, number: str) -> str:
    shown = dict(word.partition("=")[::2] for word in centre.cluster.run("scontrol", "show", "job", number).split())
    return shown["JobState"]


def written(centre: Trial, run: Path, *more: object) -> dict[str, Any]:
    """Write a run with `campaign hpl` and return what it says."""
    own = ("--memory", "8M", "--nb", "64", "--ranks-per-node", 1, "--out", run, "--json")
    answer = petaseal("campaign", "hpl", centre.folder().root, *own, *more)
    assert answer.status == 0, answer.err
    said: dict[str, Any] = json.loads(answer.out)
    return said


def test_srun_starts_each_rank_on_its_node_with_its_devices_and_without_what_would_emulate(centre: Trial) -> None:
    run = centre.root / "a run's folder; true"
    binary = program(centre.root / "my xhpl", AS_ASKED)
    written(centre, run, "--launch", "srun", "--nodes", "node[2-4]", "--binary", binary, "--threads", 2)
    state = submitted(centre, run, 60, {"NVIDIA_TF32_OVERRIDE": "1"})
    assert state == "COMPLETED", (run / "job.log").read_text()
    said = (run / "hpl.txt").read_text().splitlines()
    assert sorted(said) == [f"rank {i} of 3 on node{i + 2} in {run}: 2 unset 0,1" for i in range(3)]
    assert _rerun(centre, run) == "FAILED"  # whose output is never appended to
    assert (run / "hpl.txt").read_text().splitlines() == said


def _rerun(centre: Trial, run: Path) -> str:
    return submitted(centre, run, 60, {})


@pytest.mark.long
def test_the_pages_commands_lead_from_a_run_of_hpcc_to_a_statement_that_verifies(
    cluster: Cluster, tmp_path: Path, fp64: None
) -> None:
    assert which("hpcc"), "HPCC is not installed (Debian: hpcc, openmpi-bin, libopenblas0-pthread)"
    centre = centre_at(cluster, tmp_path)
    program(tmp_path / "one-core", ON_A_CORE)
    wanted = {"NVIDIA_TF32_OVERRIDE": "1", "CUBLAS_EMULATE_DOUBLE_PRECISION": "1"}
    for command in page_commands():
        env = {**centre.env, **OPEN_MPI, "PATH": PATH, **(wanted if command.startswith("sbatch") else {})}
        env.pop("OPENBLAS_CORETYPE", None)
        done = subprocess.run(
            command, shell=True, cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=240
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}{done.stdout}"
    for rank, node in enumerate(("node2", "node4")):
        seen = dict(line.split("=", 1) for line in (tmp_path / f"seen.{rank}").read_text().splitlines())
        assert (seen["HOSTNAME"], seen["OMP_NUM_THREADS"]) == (node, "1")
        assert not set(wanted) & set(seen)
    statement = opened("capacity-statement", tmp_path / "statement/statement.dsse.json")
    line: EvidenceLine
    (line,) = statement.evidence
    order = int((tmp_path / "hpl/hpccinf.txt").read_text().splitlines()[5].split()[0])
    assert (line.tool, line.by, line.n, line.nodes, line.runs) == ("HPCC 1.5.0", "operator", order, 2, 1)
    assert "evidence-outside-campaign" not in line.codes
    assert (
        f"brought by the operator: Rmax (never mixed with the sum of the nodes) {rate_text(line.rate_mflop_s)}"
        in done.stdout
    )
    (total,) = statement.classes
    assert total.counted.devices == 4  # whose sum is the harness's own, whatever was brought
    (output,) = (tmp_path / "statement/evidence").glob("*.output.txt")
    output.write_bytes(output.read_bytes().replace(b"HPL_Tflops=0", b"HPL_Tflops=9"))
    refused = centre.verify("--evidence", output.parent, name=".")
    assert (refused.status, refused.code) == (1, "evidence-file-differs")
