"""`petaseal audit` of nodes of eight devices with four ten-minute windows: seconds of a core for each node.

The telemetry is that of honest accelerators (`tests.certify.audit.audited`), so that all of the plausibility is looked
at. Beside it stands what any reader of the samples must do: unpack and hash them.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
import zlib
from pathlib import Path

from bench.units import utc_ns
from certify.audit.run import AuditRequest, audit
from certify.trust.store import Anchor
from tests.certify.audit.audited import audited
from tests.certify.measured import Measured

DEVICES = 8
AT_NS = utc_ns("2026-06-01T00:00:00.000000Z")


def bare_loop(centre: Measured) -> float:
    """Return the seconds that it takes to unpack and hash all samples."""
    begin = time.process_time()
    for path in centre.records.glob("*.samples.csv.gz"):
        content = path.read_bytes()
        hashlib.sha256(content)
        zlib.decompress(content, wbits=31)
    return time.process_time() - begin


def measure(nodes: int, runs: int) -> None:
    """Print seconds and ratios for so many nodes."""
    with tempfile.TemporaryDirectory() as name:
        centre = audited(Path(name), nodes, DEVICES, profile="certification", precisions=("fp16", "fp64"))
        request = AuditRequest(
            centre.folder / "out", AT_NS, Anchor(public_key=centre.public_key), samples=centre.records
        )
        print(f"{nodes} node(s) of {DEVICES} devices in four windows of ten minutes")
        for run in range(runs):
            begin, before = time.perf_counter(), os.times()
            report = audit(request)
            after, seconds = os.times(), time.perf_counter() - begin
            assert not report.against, report.issues
            core = sum(after[:4]) - sum(before[:4])
            print(
                f"  run {run + 1}: {core / nodes:.3f} s of a core for each node (limit 0.3), {seconds:.2f} s in all;"
                f" core / bare = {core / bare_loop(centre):.1f}"
            )
