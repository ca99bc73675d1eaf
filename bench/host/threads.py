"""How many threads compute on the host: set for each worker, whatever its launcher's environment says, and read back.

Launchers set ``OMP_NUM_THREADS=1`` for programs that start a process for each core; a figure of the whole machine would
be one of a single core.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

BLAS_VARIABLES = (
    "OPENBLAS_NUM_THREADS",
    "GOTO_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
OPENMP_VARIABLE = "OMP_NUM_THREADS"
# What else limits the threads of OpenMP or BLAS, or puts them all on the CPUs of one.
WITHOUT = (
    "OMP_THREAD_LIMIT",
    "OMP_DYNAMIC",
    "OMP_PROC_BIND",
    "OMP_PLACES",
    "GOMP_CPU_AFFINITY",
    "KMP_AFFINITY",
    "MKL_DYNAMIC",
    "MKL_DOMAIN_NUM_THREADS",
)


def worker_environment(environ: Mapping[str, str], threads: int, computes: bool) -> dict[str, str]:
    """Return the environment of a worker, with the number of its threads in place of what the launcher set.

    Args:
        environ: of this process.
        threads: the worker's share of the host's cores.
        computes: whether the host's BLAS computes the figure. Where an accelerator does, as many threads make and check
            operands, and each of them calls BLAS for itself alone.
    """
    rest = {name: value for name, value in environ.items() if name not in WITHOUT}
    return rest | {OPENMP_VARIABLE: str(threads)} | dict.fromkeys(BLAS_VARIABLES, str(threads if computes else 1))


def set_threads(threads: int) -> None:
    """Let every library of this process that computes on the host use so many threads, as far as it can."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(threads)
    torch = sys.modules.get("torch")  # its own copy of a BLAS may be out of threadpoolctl's sight
    if torch is not None:
        torch.set_num_threads(threads)


def computing_threads(kernel: str) -> int | None:
    """Return how many threads a kernel computes with on the host; None where its library does not say."""
    library = kernel.partition("-")[2]
    if library == "torch":
        return int(sys.modules["torch"].get_num_threads())
    if library != "numpy":
        return None
    from threadpoolctl import threadpool_info

    return min((int(pool["num_threads"]) for pool in threadpool_info() if pool["user_api"] == "blas"), default=None)
