"""``petaseal campaign hpl``: write a run of HPL or HPCC for nodes of a campaign."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.errors import InputError
from certify.commands.launch import Dir, shared_campaign
from certify.commands.options import Json
from certify.commands.output import report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.campaign.hpl.job import HplJob
    from bench.campaign.hpl.problem import Library
    from bench.campaign.opening import OpenCampaign
    from bench.record.roster import RosterNode

app = typer.Typer()


@app.command(epilog="Example: petaseal campaign hpl campaign --ranks-per-node 8 --binary /opt/hpl/xhpl --out hpl")
def hpl(
    folder: Dir,
    binary: Annotated[str, typer.Option(help="The centre's own xhpl or hpcc, as the nodes see it.")],
    ranks_per_node: Annotated[int, typer.Option(min=1, max=1024, help="MPI ranks on each node; one for each GPU.")],
    out: Annotated[Path, typer.Option(help="Folder to make, on a file system that all nodes share.")],
    benchmark: Annotated[str, typer.Option(help="hpl or hpcc.")] = "hpl",
    library: Annotated[str, typer.Option(help="openblas, mkl, nvidia or rocm: chooses NB.")] = "openblas",
    nb: Annotated[int | None, typer.Option(min=1, max=8192, help="Blocking factor, in place of the library's.")] = None,
    nodes: Annotated[str | None, typer.Option(help='Such as "gpu[001-016]" (default: all of the pool).')] = None,
    pool: Annotated[str | None, typer.Option(help="Pool of the campaign (default: its only one).")] = None,
    memory: Annotated[
        str | None, typer.Option(help='Of each node, such as "512GiB" (default: what "campaign check" saw).')
    ] = None,
    memory_share: Annotated[int, typer.Option(min=1, max=95, help="Per cent of it that the matrix takes.")] = 80,
    threads: Annotated[int, typer.Option(min=1, max=1024, help="Threads of each rank.")] = 1,
    launch: Annotated[str, typer.Option(help="mpirun or srun, as the binary's MPI wants it.")] = "mpirun",
    minutes: Annotated[int, typer.Option(min=1, max=10_080, help="Time limit.")] = 120,
    as_json: Json = False,
) -> None:
    """Write the input and the Slurm script of an HPL or HPCC run; what it prints is imported with `import hpl`."""
    from bench.campaign.hpl.job import INPUTS, HplJob, write_job
    from bench.campaign.hpl.memory import parse_size
    from bench.campaign.hpl.problem import LIBRARIES, NB, problem_of
    from bench.campaign.opening import OpenCampaign

    for word, known, option in (
        (benchmark, tuple(INPUTS), "--benchmark"),
        (library, LIBRARIES, "--library"),
        (launch, ("mpirun", "srun"), "--launch"),
    ):
        if word not in known:
            raise InputError("unknown-name", f"there is no {word!r}", where=option, fix=f"use {', '.join(known)}")
    opened = OpenCampaign.at(folder, shared_campaign)
    chosen = _nodes(opened, nodes, pool)
    each_bytes = parse_size(memory) if memory is not None else _memory(opened, chosen, library)  # type: ignore[arg-type]
    ranks = ranks_per_node * len(chosen)
    problem = problem_of(each_bytes * len(chosen), memory_share * 10_000, ranks, nb or NB[library])  # type: ignore[index]
    asked = opened.roster.pool_of(chosen[0])
    job = HplJob(
        benchmark=benchmark,  # type: ignore[arg-type]
        campaign_id=opened.campaign.campaign_id,
        nodes=tuple(node.name for node in chosen),
        partition=asked.partition,
        gres=asked.gres,
        ranks_per_node=ranks_per_node,
        threads=threads,
        problem=problem,
        share_ppm=memory_share * 10_000,
        binary=binary,
        launch=launch,  # type: ignore[arg-type]
        minutes=minutes,
    )
    where = ["--campaign", str(folder), "--pool", chosen[0].pool, *(["--nodes", nodes] if nodes else [])]
    report(as_json, *_outcome(job, write_job(job, out), out, where))


def _outcome(job: HplJob, files: Sequence[Path], out: Path, where: list[str]) -> tuple[dict[str, object], list[str]]:
    """Return what was written, for machines, and for people with the two commands that come next."""
    from bench.campaign.hpl.job import OUTPUTS

    problem, output = job.problem, str(out / OUTPUTS[job.benchmark])
    value: dict[str, object] = {
        "files": [str(path) for path in files],
        "nodes": len(job.nodes),
        "ranks": job.ranks,
        **{name: getattr(problem, name) for name in ("n", "nb", "p", "q", "matrix_bytes", "work_flop")},
        "output": output,
    }
    lines = [
        f"{len(job.nodes)} node(s), {job.ranks} rank(s) of {job.threads} thread(s): N {problem.n:,}, NB {problem.nb}, "
        f"{problem.p} x {problem.q}; the matrix takes {problem.matrix_bytes / 1e9:,.3g} GB",
        *(f"wrote {path}" for path in files),
        f"next: {shlex.join(['sbatch', str(files[-1])])}",
        f"then: {shlex.join(['petaseal', 'import', 'hpl', output, *where])} --key KEY --out DIR",
    ]
    return value, lines


def _nodes(opened: OpenCampaign, nodes: str | None, pool: str | None) -> tuple[RosterNode, ...]:
    """Return the nodes that are to run it: those named, or all of the pool."""
    from certify.policy.hostlists import expand

    pools = sorted({one for node in opened.roster.nodes for one in node.pools})
    if pool is not None and pool not in pools:
        fix = f"use {', '.join(pools)}"
        raise InputError("unknown-name", f"the campaign has no pool {pool!r}", where="--pool", fix=fix)
    if pool is None and nodes is None and len(pools) > 1:
        fix = f"choose one of {', '.join(pools)}"
        raise InputError("usage", "is needed: the campaign has several pools", where="--pool", fix=fix)
    named = None if nodes is None else [opened.roster.node_named(name) for name in expand([nodes], "--nodes")]
    chosen = tuple(node for node in named or opened.roster.nodes if pool is None or pool in node.pools)
    if named is not None and len(chosen) < len(named):
        raise InputError("usage", f"names nodes that are not of the pool {pool}", where="--nodes")
    if len(set(chosen)) < len(chosen):
        raise InputError("usage", "names a node twice", where="--nodes")
    if len(partitions := {node.pool for node in chosen}) > 1:
        what = f"the nodes are of the pools {', '.join(sorted(partitions))}: one job runs in one partition"
        raise InputError("usage", what, where="--nodes")
    return chosen


def _memory(opened: OpenCampaign, nodes: tuple[RosterNode, ...], library: Library) -> int:
    """Return the memory of the node that has least, bytes, as the nodes themselves reported it."""
    from bench.campaign.hpl.memory import ON_DEVICES, node_memory

    known = []
    for node in nodes:
        status = opened.folder.status(node.node_id)
        size = node_memory(() if status is None or status.facts is None else status.facts.found, library)
        if size is None:
            whose = "its accelerators" if library in ON_DEVICES else "its host"
            what = f"no report of {node.name} says the memory of {whose}, where HPL keeps its matrix with {library}"
            fix = 'give it with --memory, or ask the nodes with "petaseal campaign check"'
            raise InputError("hpl-memory-unknown", what, where=opened.folder.root, fix=fix)
        known.append(size)
    return min(known)
