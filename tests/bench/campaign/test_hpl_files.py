"""A run of HPL is written as both tools read it: by position, with a problem that fits memory and ranks."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.campaign.hpl.job import HplJob, input_text, unset_variables, write_job
from bench.campaign.hpl.memory import node_memory, parse_size
from bench.campaign.hpl.problem import LIBRARIES, NB, HplProblem, grid_of, problem_of
from bench.errors import InputError
from bench.record.node import DeviceModel
from bench.record.status import AlikeDevices
from tests.certify.campaign.laid_campaign import simulated

JOB = HplJob(
    benchmark="hpl",
    campaign_id="c20260301-0123abcd",
    nodes=("gpu01", "gpu02"),
    partition="gpu",
    gres="gpu:h100:8",
    ranks_per_node=3,
    threads=4,
    problem=HplProblem(4608, 192, 2, 3),
    share_ppm=800_000,
    binary="xhpl",
    launch="mpirun",
    minutes=30,
)


def read_by_position(lines: list[str]) -> dict[str, str]:
    """Return what HPL_pdinfo.c takes: the first word of each line, two lines skipped."""
    words = [line.split()[0] for line in lines]
    names = "out device ns n nbs nb pmap grids p q threshold pfacts pfact nbmins nbmin ndivs ndiv rfacts rfact"
    names += " bcasts bcast depths depth swap swap_at l1 u equilibration alignment"
    return dict(zip(names.split(), words[2:], strict=True))


@given(st.integers(1, 2**20))
def test_a_grid_is_as_square_as_its_ranks_allow(ranks: int) -> None:
    p, q = grid_of(ranks)
    assert p * q == ranks
    assert p <= q
    assert not any(ranks % better == 0 for better in range(p + 1, int(ranks**0.5) + 1))


@given(
    st.integers(2**28, 2**50), st.integers(10_000, 950_000), st.integers(1, 4096), st.sampled_from([*NB.values(), 1])
)
def test_n_is_the_largest_multiple_of_nb_that_fits(memory: int, share_ppm: int, ranks: int, nb: int) -> None:
    if 8 * (nb * grid_of(ranks)[1]) ** 2 * 10**6 > memory * share_ppm:
        with pytest.raises(InputError) as refused:
            problem_of(memory, share_ppm, ranks, nb)
        assert refused.value.code == "hpl-memory-too-small"
        return
    problem = problem_of(memory, share_ppm, ranks, nb)
    assert problem.n % nb == 0
    assert problem.n >= nb * problem.q
    assert 8 * problem.n**2 * 10**6 <= memory * share_ppm < 8 * (problem.n + nb) ** 2 * 10**6 + 8 * 10**6
    assert problem.matrix_bytes == 8 * problem.n**2


@pytest.mark.parametrize("ranks", [0, -1, 2**20 + 1])
def test_ranks_that_hpl_does_not_take_are_refused(ranks: int) -> None:
    with pytest.raises(InputError) as refused:
        grid_of(ranks)
    assert refused.value.code == "hpl-ranks-invalid"


def test_the_work_is_the_one_that_hpl_counts() -> None:
    assert HplProblem(1200, 64, 1, 2).work_flop == 1_154_160_000


@given(st.sampled_from(LIBRARIES), st.integers(1, 64), st.integers(2**37, 2**45))
def test_the_input_says_by_position_what_was_computed(library: str, ranks: int, memory: int) -> None:
    problem = problem_of(memory, 800_000, ranks, NB[library])  # type: ignore[index]
    lines = input_text(JOB._replace(problem=problem)).splitlines()
    assert len(lines) == 31
    read = read_by_position(lines)
    assert [int(read[name]) for name in ("n", "nb", "p", "q")] == list(problem)
    counts = ("ns", "nbs", "grids", "pfacts", "nbmins", "ndivs", "rfacts", "bcasts", "depths")
    assert {read[name] for name in counts} == {"1"}
    assert (float(read["threshold"]), read["device"], read["pmap"]) == (16.0, "6", "0")


def test_hpccs_input_is_hpls_and_the_rows_that_only_hpcc_reads() -> None:
    hpl, hpcc = (input_text(JOB._replace(benchmark=which)).splitlines() for which in ("hpl", "hpcc"))
    assert hpcc[:31] == hpl
    assert [line.split()[0] for line in hpcc[32:]] == ["0", "1200", "0", "40"]


NASTY = ("it's $(touch pwned)", "a b;touch pwned", 'q"`touch pwned`"', "new\nline\n#SBATCH --wrap=x", "-rf", "*")


@pytest.mark.parametrize("name", NASTY)
def test_no_path_is_run_as_a_command(tmp_path: Path, name: str) -> None:
    place = tmp_path / name
    binary = tmp_path / f"{name}.run"
    binary.write_text('#!/bin/sh\necho "ran in $PWD"\nenv\n')
    binary.chmod(0o755)
    launcher = tmp_path / "bin" / "mpirun"
    launcher.parent.mkdir()
    launcher.write_text('#!/bin/sh\nwhile [ "$1" != core ]; do shift; done; shift\nexec "$@"\n')
    launcher.chmod(0o755)
    _, script = write_job(JOB._replace(binary=str(binary)), place)
    sick = {**dict.fromkeys(unset_variables(), "1"), "PATH": f"{launcher.parent}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", str(script)], cwd=tmp_path, env={**os.environ, **sick}, check=False)
    assert done.returncode == 0, (place / "job.log").read_text()
    said = (place / "hpl.txt").read_text()
    assert f"ran in {place}\n" in said
    assert not {line.partition("=")[0] for line in said.splitlines()} & set(unset_variables())
    assert "OMP_NUM_THREADS=4" in said
    assert not list(tmp_path.rglob("pwned"))


@pytest.mark.parametrize("benchmark", ["hpl", "hpcc"])
def test_a_second_run_never_appends_to_the_first_ones_output(tmp_path: Path, benchmark: str) -> None:
    _, script = write_job(JOB._replace(benchmark=benchmark, binary="true"), tmp_path / "run")  # type: ignore[arg-type]
    output = tmp_path / "run" / ("hpl.txt" if benchmark == "hpl" else "hpccoutf.txt")
    output.write_text("earlier")
    assert subprocess.run(["bash", str(script)], check=False).returncode == 2
    assert output.read_text() == "earlier"
    assert "there already" in (tmp_path / "run" / "job.log").read_text()


@pytest.mark.parametrize("name", ["gpu01,gpu02", "a b", "x\n#SBATCH --wrap=y", "-x", "", "a;b"])
def test_a_name_that_a_directive_cannot_hold_is_refused(tmp_path: Path, name: str) -> None:
    for job in (JOB._replace(nodes=(name,)), JOB._replace(partition=name), JOB._replace(gres=f"gpu {name}")):
        with pytest.raises(InputError) as refused:
            write_job(job, tmp_path / "run")
        assert refused.value.code == "hpl-node-name"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("binary", ["", "-x", "--hostfile"])
def test_an_option_is_no_binary(tmp_path: Path, binary: str) -> None:
    with pytest.raises(InputError) as refused:
        write_job(JOB._replace(binary=binary), tmp_path / "run")
    assert (refused.value.code, (tmp_path / "run").exists()) == ("usage", False)


def test_a_relative_binary_is_the_one_that_was_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _, script = write_job(JOB._replace(binary="bin/xhpl"), tmp_path / "run")
    assert f" {tmp_path}/bin/xhpl >hpl.txt\n" in script.read_text()


def test_directives_come_before_the_first_command(tmp_path: Path) -> None:
    _, script = write_job(JOB, tmp_path / "run")
    lines = script.read_text().splitlines()
    directives = dict(re.findall(r"^#SBATCH --(\S+?)=(.*)$", script.read_text(), re.MULTILINE))
    assert directives == {
        "job-name": "petaseal-hpl",
        "nodes": "2",
        "nodelist": "gpu01,gpu02",
        "ntasks": "6",
        "ntasks-per-node": "3",
        "cpus-per-task": "4",
        "time": "30",
        "output": "/dev/null",
        "partition": "gpu",
        "gres": "gpu:h100:8",
    }
    first = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    assert not any(line.startswith("#SBATCH") for line in lines[first:])


@pytest.mark.parametrize(
    ("text", "size"),
    [("512GiB", 2**39), ("512G", 2**39), ("64 GB", 64 * 10**9), ("2TB", 2 * 10**12), ("20M", 20 * 2**20), ("0G", None)]
    + [(wrong, None) for wrong in ("", "512", "512 KiB", "-1G", "1.5T", "9999999999G", "512GiBs", "٥G")],
)
def test_sizes(text: str, size: int | None) -> None:
    if size is not None:
        assert parse_size(text) == size
        return
    with pytest.raises(InputError) as refused:
        parse_size(text)
    assert refused.value.code == "usage"


def _alike(kind: str, memory: int | None, count: int) -> AlikeDevices:
    record = simulated(0).record
    model: DeviceModel = msgspec.structs.replace(record.models[0], kind=kind, memory_bytes=memory)
    return AlikeDevices(model, record.devices[0], tuple(f"{kind}:{i}" for i in range(count)))


def test_memory_is_the_accelerators_or_the_hosts_as_the_library_keeps_its_matrix() -> None:
    found = (_alike("cpu", 2**40, 2), _alike("gpu", 80 * 2**30, 8))
    assert {library: node_memory(found, library) for library in LIBRARIES} == {
        "openblas": 2**40,  # which each of the two processors reports
        "mkl": 2**40,
        "nvidia": 640 * 2**30,
        "rocm": 640 * 2**30,
    }
    assert node_memory((_alike("gpu", 2**30, 1), _alike("gpu", None, 1)), "nvidia") is None
    assert node_memory((_alike("gpu", 2**30, 1),), "openblas") is None
    assert node_memory((), "rocm") is None
