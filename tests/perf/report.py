"""`petaseal report html` of 64 nodes of eight devices with 20 minutes of samples: seconds, memory and size.

Beside it stands what any reader of the samples must do: unpack and hash them.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

from certify.campaign.candidates import SAMPLES_SUFFIX
from tests.certify.report.campaign import lay_campaign, profile_of
from tests.perf.campaign import MEGABYTE

NODES, DEVICES = 64, 8
PROFILE = profile_of(window_s=900, warmup_s=300, interval_s=0.5)  # twenty minutes, as often as certification reads
KINDS = {3: "throttled", 17: "slow", 40: "blind"}
LIMITS = "wished for: at most 20 s, 500 MB and 15 MB"
MEASURE = """
import json, resource, sys, time
from contextlib import suppress
from certify.__main__ import main
sys.argv = ["petaseal", *sys.argv[1:]]
begin = time.perf_counter()
with suppress(SystemExit):
    main()
own, workers = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
used = sum(one.ru_utime + one.ru_stime for one in (own, workers))
print(json.dumps([time.perf_counter() - begin, used, own.ru_maxrss, workers.ru_maxrss]))
"""


def bare_loop(records: Path) -> float:
    """Return the CPU time that it takes to unpack and hash all samples, seconds."""
    begin = time.process_time()
    for path in records.rglob(f"*{SAMPLES_SUFFIX}"):
        content = path.read_bytes()
        hashlib.sha256(content)
        zlib.decompress(content, wbits=31)
    return time.process_time() - begin


def measure(nodes: int = NODES, runs: int = 3) -> None:
    """Print what a report of so many nodes takes."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        laid = lay_campaign(root, nodes, DEVICES, kinds=KINDS, profile=PROFILE)
        print(f"report of {nodes} nodes of {DEVICES} devices with 20 minutes of samples; {LIMITS}")
        for run in range(runs):
            out = root / f"{run}.html"
            command = [sys.executable, "-c", MEASURE, "report", "html", str(laid.folder.root), "--out", str(out)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            wall_s, cpu_s, own_kb, worker_kb = json.loads(done.stdout.splitlines()[-1])
            print(
                f"  run {run + 1}: {wall_s:.1f} s, {cpu_s:.1f} s of CPU on {os.cpu_count()} cores, which is"
                f" {cpu_s / bare_loop(laid.folder.root):.1f} times unpacking the samples; peak memory"
                f" {own_kb * 1024 // MEGABYTE} MB, largest worker {worker_kb * 1024 // MEGABYTE} MB;"
                f" page {out.stat().st_size / 1e6:.1f} MB"
            )
