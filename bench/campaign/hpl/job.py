"""The files of an HPL run: HPL.dat or hpccinf.txt, and the script that Slurm runs."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Mapping
from pathlib import Path
from string import Template
from typing import Literal, NamedTuple

from bench.campaign.hpl.problem import HplProblem
from bench.environment import VARIABLES
from bench.errors import InputError, OutputExistsError
from bench.record import write_atomic
from bench.record.configs import config_path

Benchmark = Literal["hpl", "hpcc"]
Launch = Literal["mpirun", "srun"]
# Read by position: both tools take their input from a file of this name in the folder that they are started in.
INPUTS: dict[Benchmark, str] = {"hpl": "HPL.dat", "hpcc": "hpccinf.txt"}
OUTPUTS: dict[Benchmark, str] = {"hpl": "hpl.txt", "hpcc": "hpccoutf.txt"}
SCRIPT = "job.sh"
_GRES = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:,_-]*")
_NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # of a directive, which no quoting protects
_CORETYPE = "OPENBLAS_CORETYPE"


class HplJob(NamedTuple):
    """A run of HPL or HPCC on nodes of a campaign."""

    benchmark: Benchmark
    campaign_id: str
    nodes: tuple[str, ...]  # by the engine's names
    partition: str | None
    gres: str | None  # accelerators of a node, such as "gpu:8", which a whole node does not bring with it
    ranks_per_node: int
    threads: int  # of each rank
    problem: HplProblem
    share_ppm: int  # of the memory that the matrix may take
    binary: str
    launch: Launch
    minutes: int

    @property
    def ranks(self) -> int:
        """Ranks on all nodes together."""
        return self.ranks_per_node * len(self.nodes)


def write_job(job: HplJob, folder: Path) -> tuple[Path, ...]:
    """Write a run's input and script into a folder, which must not be there, and return them.

    Raises:
        InputError: `output-exists`, `output-not-writable`, `hpl-node-name`: a name that no directive can hold, or
            `usage`: the binary's name is an option.
    """
    texts = {INPUTS[job.benchmark]: input_text(job), SCRIPT: script_text(job, folder.absolute())}
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        fix = "choose another with --out: an earlier run's output may be in it"
        raise OutputExistsError(folder, "is there already", fix) from None
    except OSError as error:
        raise InputError("output-not-writable", f"cannot be made ({error.strerror})", where=folder) from None
    for name, text in texts.items():
        write_atomic(folder / name, text.encode(), 0o755 if name == SCRIPT else 0o644)
    return tuple(folder / name for name in texts)


def input_text(job: HplJob) -> str:
    """Return HPL.dat, or hpccinf.txt, whose first 31 lines are the same."""
    problem = job.problem
    values = {"n": problem.n, "nb": problem.nb, "p": problem.p, "q": problem.q, "ranks": job.ranks}
    text = _filled("HPL.dat", {**values, "nodes": len(job.nodes), "share": job.share_ppm // 10_000})
    return text + _filled("hpcc.txt", {}) if job.benchmark == "hpcc" else text


def script_text(job: HplJob, folder: Path) -> str:
    """Return the Slurm script of a run that lies in a folder."""
    named = [*((name, _NODE) for name in (*job.nodes, job.partition)), (job.gres, _GRES)]
    for name, form in named:
        if name is not None and not form.fullmatch(name):
            what = f"the node, partition or gres {name!r} has a character that a directive of Slurm cannot hold"
            raise InputError("hpl-node-name", what, fix="name other nodes with --nodes")
    asked = {"partition": job.partition, "gres": job.gres}
    output = OUTPUTS[job.benchmark]
    to = f" >{output}" if job.benchmark == "hpl" else ""
    return _filled(
        "job.sh",
        {
            "kind": job.benchmark,
            "campaign": job.campaign_id,
            "nodes": len(job.nodes),
            "nodelist": ",".join(job.nodes),
            "ranks": job.ranks,
            "ranks_per_node": job.ranks_per_node,
            "threads": job.threads,
            "minutes": job.minutes,
            "more": "\n".join(f"#SBATCH --{name}={value}" for name, value in asked.items() if value is not None),
            "folder": shlex.quote(str(folder)),
            "output": output,
            "unset": " ".join(sorted(unset_variables())),
            "launch": f"{_launcher(job)} {shlex.quote(_program(job.binary))}{to}",
        },
    )


def unset_variables() -> Collection[str]:
    """Return the environment variables that a run must not have (R1), and the one that forces OpenBLAS's kernels."""
    return {*(variable.name for variable in VARIABLES), _CORETYPE}


def _program(binary: str) -> str:
    """Return a binary as the script names it, which runs in another folder than the one that it was named in."""
    if binary.startswith("-") or not binary:
        raise InputError("usage", f"is no program: {binary[:40]!r}", where="--binary", fix="name its path")
    return str(Path(binary).absolute()) if "/" in binary else binary


def _launcher(job: HplJob) -> str:
    if job.launch == "srun":
        return f"srun --ntasks={job.ranks} --cpus-per-task={job.threads} --cpu-bind=cores"
    # By slots of cores: a rank's threads stay where its memory is.
    return f"mpirun -np {job.ranks} --map-by ppr:{job.ranks_per_node}:node:PE={job.threads} --bind-to core"


def _filled(name: str, values: Mapping[str, object]) -> str:
    """Return a template of ``configs/hpl`` with its values."""
    return Template(config_path("hpl", name).read_text(encoding="utf-8")).substitute(values)
