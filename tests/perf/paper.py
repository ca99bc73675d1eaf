"""The PDF of a statement of many nodes, drawn by the command in a process of its own: seconds, memory, size."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

from msgspec.structs import replace

from bench.record import ExpectedNode
from certify.documents.dsse import seal
from certify.documents.kinds import PAYLOAD_TYPE, make_document
from certify.documents.statement import NotCounted
from certify.keys.files import load_private
from certify.statement.paper.pdf import ATTACHMENT, SignedStatement
from tests.certify.measured import measured

NODES = 10_000
LIMIT_S, LIMIT_MB = 3.0, 250


def measure(nodes: int = NODES, runs: int = 3) -> None:
    """Print what the PDF of a statement costs whose nodes are many, half of them absent."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        content = statement_of_nodes(folder, nodes)
        print(f"statement of {nodes:,} nodes, half of them absent: {len(content) / 1e6:.1f} MB")
        for run in range(runs):
            out = folder / f"{run}.pdf"
            seconds, peak_mb = drawn(folder / ATTACHMENT, out)
            print(
                f"  run {run + 1}: {seconds:.2f} s (limit {LIMIT_S}), peak memory {peak_mb} MB (limit {LIMIT_MB}),"
                f" {out.stat().st_size / 1e3:.0f} KB"
            )


def statement_of_nodes(folder: Path, nodes: int) -> bytes:
    """Return the signed file of a statement that lists so many nodes; it is written into the folder too."""
    centre = measured(folder, 2, 8)
    found = centre.certify().statement
    expected = tuple(ExpectedNode(node_id=f"gpu-rack-{i // 8:04d}-node-{i:05d}", pool="main") for i in range(nodes))
    absent = tuple(
        NotCounted(node_id=node.node_id, device=None, workload=None, codes=("node-missing",)) for node in expected[::2]
    )
    many = replace(found, campaign=replace(found.campaign, nodes=expected), not_counted=absent)
    payload = make_document("capacity-statement", many, many.records_root)
    content = seal(payload, PAYLOAD_TYPE, [load_private(centre.key)])
    SignedStatement.read(content)
    (folder / ATTACHMENT).write_bytes(content)
    return content


def drawn(statement: Path, out: Path) -> tuple[float, int]:
    """Return how many seconds ``petaseal report pdf`` takes, and its peak memory in MB."""
    command = [sys.executable, "-m", "certify", "report", "pdf", str(statement), "--out", str(out)]
    begin = time.perf_counter()
    process = os.posix_spawn(sys.executable, command, os.environ)
    _, status, usage = os.wait4(process, 0)
    assert status == 0, status
    return time.perf_counter() - begin, usage.ru_maxrss // 1024
