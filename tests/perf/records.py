"""certify + verify of many records against one plain loop that reads, hashes, parses and signature-checks them."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cryptography.hazmat.primitives.serialization import load_der_public_key

from bench.record import NodeRecord, read_bytes
from certify.documents.caps import CAPS
from certify.documents.dsse import parse_envelope
from certify.documents.kinds import OpenedDocument, parse_payload
from tests.certify.measured import Measured, measured

DEVICES = 8
MEASURE = """
import resource, sys, time
from pathlib import Path
from tests.certify.measured import Measured
folder = Path(sys.argv[1])
centre = Measured.at(folder)
before = time.perf_counter()
centre.certify()
middle = time.perf_counter()
report = centre.verify(at_ns=time.time_ns())
after = time.perf_counter()
assert not report.refused, report.refusal
own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
workers = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(middle - before, after - middle, own, workers)
"""


def read_record(path: Path) -> NodeRecord:
    """Return a node record; its signature is not checked here."""
    envelope = parse_envelope(read_bytes(path, CAPS.record_bytes), CAPS.record_bytes, path)
    opened: OpenedDocument[NodeRecord] = parse_payload("node-record", envelope.payload, path)
    return opened.predicate


def bare_loop(records: Path) -> float:
    """Return the seconds that it takes to read, hash, parse and signature-check every record, and nothing else."""
    begin = time.perf_counter()
    for path in records.rglob("*.record.dsse.json"):
        check_bare(path.read_bytes())
    return time.perf_counter() - begin


def check_bare(content: bytes) -> None:
    """Hash, parse and signature-check one record."""
    envelope = json.loads(content)
    payload = base64.b64decode(envelope["payload"])
    hashlib.sha256(payload).hexdigest()
    spki = json.loads(payload)["predicate"]["signer_spki"]
    kind = envelope["payloadType"].encode()
    message = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
    key = load_der_public_key(base64.b64decode(spki))
    key.verify(base64.b64decode(envelope["signatures"][0]["sig"]), message)  # type: ignore[union-attr, call-arg]


def measure(nodes: int, runs: int) -> None:
    """Print the ratio and the memory for so many nodes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        centre: Measured = measured(folder, nodes, DEVICES)
        size = centre.record(0).stat().st_size
        workloads = ", ".join(str(m.workload) for m in read_record(centre.record(0)).measurements)
        print(f"{nodes} records of {DEVICES} devices in {workloads}: {size} bytes each (limit 16384)")
        for run in range(runs):
            bare = bare_loop(centre.records)
            done = subprocess.run(
                [sys.executable, "-c", MEASURE, name], capture_output=True, text=True, check=True
            ).stdout.split()
            certify, verify, own, workers = float(done[0]), float(done[1]), int(done[2]), int(done[3])
            print(
                f"  run {run + 1}: bare loop {bare:.2f} s; certify {certify:.2f} s, verify {verify:.2f} s;"
                f" (certify + verify) / bare = {(certify + verify) / bare:.2f} (limit 2);"
                f" peak memory {own // 1024} MB, largest worker {workers // 1024} MB (limit 300)"
            )
            for made in (folder / "out").iterdir():
                made.unlink()
