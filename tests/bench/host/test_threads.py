"""Threads that compute: what a launcher says does not count, and what is used is read back."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from bench.host.threads import worker_environment

LAUNCHER = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_PROC_BIND": "true", "OMP_THREAD_LIMIT": "1"}


def test_the_launchers_threads_are_not_those_of_a_worker() -> None:
    environ = worker_environment({"PATH": "/bin", "GOMP_CPU_AFFINITY": "0", **LAUNCHER}, 12, computes=True)
    assert environ["PATH"] == "/bin"
    assert {environ[f"{name}_NUM_THREADS"] for name in ("OMP", "OPENBLAS", "MKL", "GOTO", "BLIS")} == {"12"}
    assert not {"OMP_PROC_BIND", "OMP_THREAD_LIMIT", "GOMP_CPU_AFFINITY"} & environ.keys()
    other = worker_environment(LAUNCHER, 12, computes=False)
    assert (other["OMP_NUM_THREADS"], other["OPENBLAS_NUM_THREADS"]) == ("12", "1")


CODE = """
import json, numpy, torch
from bench.host.threads import computing_threads, set_threads
before = [computing_threads("gemm-numpy"), computing_threads("gemm-torch")]
set_threads(2)
print(json.dumps([before, computing_threads("gemm-numpy"), computing_threads("gemm-torch"), computing_threads("x")]))
"""


def test_threads_are_raised_above_what_the_libraries_were_loaded_with() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env={**os.environ, **LAUNCHER, "MKL_NUM_THREADS": "1", "OMP_THREAD_LIMIT": "2"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert json.loads(done.stdout) == [[1, 1], 2, 2, None]


MANY = """
import sys
from bench.clock import SystemClock
from bench.devices import load_backend
from bench.engine.compute import DeviceRequest
from bench.engine.session import Session
from bench.profile import load_profile
backend = load_backend("cpu")
(found,) = backend.find(None)
threads, given = int(sys.argv[1]), sys.argv[2] or None
opened = backend.open(found, SystemClock())
request = DeviceRequest(found, load_profile("smoke"), "ab" * 16, "node", given, threads)
session = Session(request, opened, SystemClock())
print(session.compute.kernel.name, session.compute.threads())
"""


@pytest.mark.parametrize(
    ("threads", "given", "expected"),
    [("2", "", "gemm-numpy 2"), ("96", "", "gemm-torch 96"), ("96", "gemm-numpy", "gemm-numpy 64")],
)
def test_more_cores_than_numpys_blas_takes_are_torchs(threads: str, given: str, expected: str) -> None:
    """The OpenBLAS in numpy's wheels is built for 64 threads: a node of 96 cores had 64 of them compute."""
    command = [sys.executable, "-c", MANY, threads, given]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == expected
