"""Every cap on size and count that a verifier applies to what it is given, each with its reason.

Numbers only. Depth needs no cap: documents are decoded into types of fixed depth, and what does not fit is refused at
the first bracket too many. The length of every text is bounded by its type.
"""

from __future__ import annotations

from dataclasses import dataclass

_KIB = 1024
_MIB = 1024 * _KIB


@dataclass(frozen=True, slots=True)
class Caps:
    """Limits of one verification. Sizes are those of the file or line as it is stored, base64 included."""

    record_bytes: int = 4 * _MIB  # 8 devices and 2 precisions take 16 KB; 1,024 devices on a node fit
    records_bytes: int = 16 * 1024 * _MIB  # `records` of 80 KB each; a sparse file claims terabytes
    statement_bytes: int = 128 * _MIB  # one line of some 300 bytes for each of 200,000 records, in base64
    campaign_bytes: int = 32 * _MIB  # 200,000 expected nodes with names of full length
    baseline_bytes: int = 64 * _MIB  # some 400,000 devices with uuid, serial and die id
    samples_bytes: int = 256 * _MIB  # compressed; ten minutes of telemetry of 8 devices take 1 MB
    samples_unpacked_bytes: int = 2048 * _MIB  # a gzip bomb unpacks to a thousand times its size
    samples_rows: int = 4_000_000  # of one device and workload: ten readings a second for half a day; held as a whole
    proof_bytes: int = 8 * _MIB  # a proof of inclusion: one record in base64, and 32 bytes for each level of the tree
    witness_bytes: int = 64 * _KIB  # a list of checks
    evidence_bytes: int = 24 * _MIB  # 200,000 names of nodes, and 3,000 runs of some 500 bytes, in base64
    evidence_output_bytes: int = 16 * _MIB  # of a copy of a tool's output; HPL prints 200 bytes for each run
    trust_bytes: int = 8 * _MIB  # `trust_keys` keys, and as many revocations
    trust_chain_bytes: int = 32 * _MIB  # of all versions in one file: a root of 1,000 keys takes 0.5 MB
    trust_versions: int = 64  # in one file: a registry that was away for a year of weekly versions catches up
    page_bytes: int = 64 * _MIB  # the page of a statement that may be as large; two nodes take 12 KB
    pdf_memory_bytes: int = 1024 * _MIB  # of the process that reads a PDF: the statement in it, unpacked, a few times
    pdf_cpu_s: int = 10  # of that process; a statement of 10,000 nodes takes 0.3 s
    pdf_wall_s: int = 60  # on a machine that has other work
    package_bytes: int = 32 * 1024 * _MIB  # `records_bytes` and as much of samples

    records: int = 200_000  # nodes of one centre; ten times the largest centre that is known
    package_members: int = 200_096  # samples of `records` nodes, and what belongs to the statement
    package_witnesses: int = 8  # beside one statement; a policy asks for one
    package_evidence: int = 32  # documents beside one statement; each brings the output of one tool
    package_receipts: int = 8  # of registries beside one statement; a platform has one
    package_ratio: int = 50  # of unpacked to packed: records that are all but copies reach 26, a gzip bomb 1,032
    signatures: int = 8  # on one envelope: operators up to a threshold; each costs a verification before any is trusted
    time_skew_s: int = 120  # a document from a machine whose clock is ahead; more is a clock that nobody looks after
    trust_keys: int = 10_000  # operators, witnesses and enrolled nodes; a centre's nodes are enrolled in its campaign


CAPS = Caps()
