"""Verifying a statement with its records, against the plain loop that reads, hashes, parses and checks signatures.

One core and all cores, run by run in turn; then a statement alone, against the interpreter's own start; and one whose
devices all reduced together, of which the verifier makes every contribution anew.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median

from tests.certify.golden.test_golden import HERE
from tests.certify.measured import Measured, measured
from tests.certify.networked import TOKENS, lay_network, with_network
from tests.perf.records import check_bare

NODES, DEVICES = 12_600, 8  # a city's centre of a hundred thousand devices
LIMIT_S = 5  # of so many nodes, on two cores
ROUNDS = 15
RANK_NODES, RANKS_LIMIT_S = 250, 2  # of 8 ranks each: runs B and C, for two T
VERIFY = """
import sys, time
from pathlib import Path
from tests.certify.measured import Measured
centre = Measured.at(Path(sys.argv[1]))
begin = time.perf_counter()
report = centre.verify(at_ns=time.time_ns())
assert not report.refused, report.refusal
print(time.perf_counter() - begin)
"""
ALONE = """
import sys, time
from pathlib import Path
from certify.trust.store import Anchor
from certify.verify.evidence import Evidence, VerifyRequest
from certify.verify.verifier import verify
folder, at_ns = Path(sys.argv[1]), 1772438400000000000
evidence = Evidence(folder / "statement.dsse.json")
request = VerifyRequest(evidence, Anchor(folder / "operator.pem.pub"), at_ns, accept_simulated=True)
verify(request)  # imports what it needs
begin = time.perf_counter()
report = verify(request)
assert not report.refused, report.refusal
print(time.perf_counter() - begin)
"""


def bare_loop(records: Path) -> float:
    """Return the seconds that it takes to read, hash, parse and signature-check every record, and nothing else."""
    begin = time.perf_counter()
    with records.open("rb") as lines:
        for line in lines:
            check_bare(line)
    return time.perf_counter() - begin


def measure(nodes: int, runs: int) -> None:
    """Print the ratios for so many nodes."""
    cores = os.sched_getaffinity(0)
    with tempfile.TemporaryDirectory() as name:
        centre: Measured = measured(Path(name), nodes, DEVICES, "smoke", ("fp16",))
        centre.certify()
        lines = centre.folder / "out" / "records.jsonl"
        print(f"{nodes} records of {DEVICES} devices, one workload: {lines.stat().st_size // nodes} bytes each")
        taken = []
        for run in range(runs):
            bare = bare_loop(lines)
            one, all_cores = timed(VERIFY, name, {min(cores)}), timed(VERIFY, name, cores)
            taken.append(all_cores)
            print(
                f"  run {run + 1}: bare loop {bare:.2f} s; verify on one core {one:.2f} s,"
                f" on {len(cores)} {all_cores:.2f} s; one core / bare = {one / bare:.2f} (limit 1.3);"
                f" one / all = {one / all_cores:.2f} (limit 1.7 on two)"
            )
        limit = f" (limit {LIMIT_S} on two)" if nodes == NODES else ""
        print(f"verify of {nodes} nodes on {len(cores)} cores: {median(taken):.2f} s{limit}, median of {runs}")
    inside, whole, bare_start = [], [], []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        inside.append(timed(ALONE, str(HERE), cores))
        whole.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        bare_start.append(time.perf_counter() - begin)
    start = median(whole) - median(bare_start)
    print(
        f"a statement alone: {1e3 * median(inside):.1f} ms (limit 20) where everything is imported,"
        f" {1e3 * start:.0f} ms with all imports, beside the interpreter's own {1e3 * median(bare_start):.0f} ms"
    )


def measure_ranks(runs: int) -> None:
    """Print how long it takes to verify a statement with runs A, B and C over 2,000 simulated ranks."""
    cores = os.sched_getaffinity(0)
    taken = {}
    for name in ("with", "without"):
        with tempfile.TemporaryDirectory() as folder:
            tokens = TOKENS if name == "with" else ()
            campaigned = partial(with_network, tokens=tokens)
            centre = measured(Path(folder), RANK_NODES, DEVICES, "smoke", ("fp16",), campaigned=campaigned)
            lay_network(centre)
            centre.certify()
            # of the processor: what else runs on the machine is no part of it
            taken[name] = median(
                timed(VERIFY.replace("perf_counter", "process_time"), folder, {min(cores)}) for _ in range(runs)
            )
    print(
        f"verify of {RANK_NODES * DEVICES} ranks that reduced together: {taken['with']:.2f} s of one core"
        f" (limit {RANKS_LIMIT_S}), without runs B and C {taken['without']:.2f} s; median of {runs}"
    )


def timed(code: str, argument: str, cores: set[int]) -> float:
    """Return the seconds that a process says it took, on some cores."""
    done = subprocess.run(
        [sys.executable, "-c", code, argument],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    return float(done.stdout)
