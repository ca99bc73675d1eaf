"""The smoke figure of this machine's CPUs against the HPC Challenge's StarDGEMM, one process a core, as a ratio.

Needs Debian's packages hpcc, openmpi-bin and libopenblas0-pthread, and says so where one is not there.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import subprocess
from pathlib import Path
from shutil import which
from statistics import mean, median
from tempfile import TemporaryDirectory
from typing import Any

from bench.devices import select_devices
from kernels.base import load_kernel
from tests.perf.commands import PETASEAL

ROUNDS = 3
LIMIT = 0.95
ORDER = 4800  # of HPL's matrix; that of StarDGEMM is this over the root of 3 x processes
EXAMPLE = Path("/usr/share/doc/hpcc/examples/_hpccinf.txt")
INSTALL = "apt-get install hpcc openmpi-bin libopenblas0-pthread"


def measure(rounds: int = ROUNDS) -> None:
    """Print the ratio of rates, interleaved: each figure to the mean of the two runs of HPCC around it."""
    if (missing := what_is_missing()) is not None:
        print(f"smoke figure / StarDGEMM: NOT MEASURED, {missing}; {INSTALL}")
        return
    (cpu,) = select_devices("cpu")
    processes = cpu.model.units or 1
    around = [star_dgemm_mflop_s(processes)]
    figures = []
    for _ in range(rounds):
        figures.append(smoke_figure())
        around.append(star_dgemm_mflop_s(processes))
    ratios = [f["sustained_mflop_s"] / mean(around[i : i + 2]) for i, f in enumerate(figures)]
    print(
        f"smoke figure / StarDGEMM, fp64 on {processes} cores: median {median(ratios):.3f} of"
        f" {', '.join(f'{ratio:.3f}' for ratio in ratios)} (limit {LIMIT});"
        f" StarDGEMM itself drifted by {max(around) / min(around) - 1:.1%}"
    )
    for figure in figures:
        codes, rate = ", ".join(figure["codes"]) or "none", figure["sustained_mflop_s"] / 1000
        print(f"  {' x '.join(map(str, figure['shape']))}: {rate:.1f} GFLOPS; codes: {codes}")
    if any("foreign-load" in figure["codes"] for figure in figures):
        print("  with foreign load this ratio says little: threads wait for their slowest, HPCC's processes for none")
    print(f"  {', '.join(load_kernel('gemm-numpy').switches().values())} against HPCC's {blas_of_hpcc()}")


def what_is_missing() -> str | None:
    """Return what HPCC lacks here, as a clause, or None."""
    if which("hpcc") is None or which("mpirun") is None or not EXAMPLE.exists():
        return "HPCC is not installed"
    return None if blas_of_hpcc() else "HPCC calls a BLAS that is not OpenBLAS"


def blas_of_hpcc() -> str | None:
    """Return version and instruction set of the OpenBLAS that HPCC calls; None where it calls another BLAS."""
    linked = subprocess.run(["ldd", which("hpcc") or "hpcc"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"libblas\S* => (\S+)", linked)
    if found is None:
        return None
    library = ctypes.CDLL(found.group(1))
    if not hasattr(library, "openblas_get_config"):
        return None
    library.openblas_get_config.restype = ctypes.c_char_p
    return str(library.openblas_get_config().decode())


def star_dgemm_mflop_s(processes: int) -> float:
    """Return the rate of all processes together, which multiply at once, one thread each."""
    text = EXAMPLE.read_text()
    for pattern, value in ((r"\S+(\s+Ns)", ORDER), (r"\S+(\s+Ps)", 1), (r"\S+(\s+Qs)", processes)):
        text = re.sub(rf"^{pattern}$", rf"{value}\1", text, count=1, flags=re.MULTILINE)
    with TemporaryDirectory() as folder:
        Path(folder, "hpccinf.txt").write_text(text)
        subprocess.run(
            ["mpirun", "--allow-run-as-root", "--oversubscribe", "-np", str(processes), "hpcc"],
            cwd=folder,
            check=True,
            capture_output=True,
            env=environment(),
        )
        output = Path(folder, "hpccoutf.txt").read_text()
    (each,) = re.findall(r"^StarDGEMM_Gflops=(\S+)$", output, re.MULTILINE)
    return float(each) * 1000 * processes


def environment() -> dict[str, str]:
    """Return what HPCC finds: one thread a process, OpenBLAS's own choice of kernels, and ranks that yield."""
    own = {name: value for name, value in os.environ.items() if name != "OPENBLAS_CORETYPE"}
    return {**own, "OPENBLAS_NUM_THREADS": "1", "OMPI_MCA_mpi_yield_when_idle": "1"}


def smoke_figure() -> dict[str, Any]:
    """Return the figure that a smoke run of the CPUs gives, with its codes."""
    with TemporaryDirectory() as folder:
        command = [str(PETASEAL), "run", "--profile", "smoke", "--device", "cpu", "--precision", "fp64", "--json"]
        run = subprocess.run([*command, "--out", folder], capture_output=True, text=True, check=False)
    (figure,) = json.loads(run.stdout)["figures"]
    return dict(figure)
