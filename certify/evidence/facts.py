"""What is known of the nodes that a run names, and what it refuses of another tool's output."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from msgspec.structs import replace

from bench.units import utc_ns
from certify.documents.evidence import EvidenceKind, SolveRun
from certify.evidence.output import ToolOutput, partition_runs

# Bytes of a matrix's element at least: HPL holds it whole in FP64, HPL-MxP its factors in 16 bits.
_ELEMENT_BYTES: dict[EvidenceKind, int] = {"hpl": 8, "hpl-mxp": 2}
_NATIVE_FP64: tuple[EvidenceKind, ...] = ("hpl", "hpcg")


class NodesTogether(NamedTuple):
    """What a campaign knows of the nodes on which a tool ran, all of them together. Null: not known, not checked.

    Args:
        ranks: most processes that can compute there: devices for a tool that runs one a device, else logical cores.
        memory_bytes: of hosts and devices.
        fp64_mflop_s: sum of the devices' FP64 ratings, the higher of vector and matrix.
        opened_at: when the campaign was opened, UTC as in documents.
        ends_at: when it ended, or its last window did.
    """

    ranks: int | None = None
    memory_bytes: int | None = None
    fp64_mflop_s: int | None = None
    opened_at: str | None = None
    ends_at: str | None = None


def check_against(output: ToolOutput, nodes: NodesTogether) -> ToolOutput:
    """Return an output with what the facts of the nodes say of its runs: those that they refuse are failed ones."""
    return partition_runs(
        output,
        [
            replace(run, codes=tuple(dict.fromkeys((*run.codes, *_codes(run, output.kind, nodes)))))
            for run in (*output.runs, *output.failed)
        ],
    )


def _codes(run: SolveRun, kind: EvidenceKind, nodes: NodesTogether) -> Iterator[str]:
    if nodes.ranks is not None and (run.p or 1) * (run.q or 1) > nodes.ranks:
        yield "hpl-grid-does-not-fit"
    if nodes.memory_bytes is not None and (run.n or 0) ** 2 * _ELEMENT_BYTES.get(kind, 0) > nodes.memory_bytes:
        yield "hpl-memory-does-not-fit"
    if kind in _NATIVE_FP64 and nodes.fp64_mflop_s is not None and run.rate_mflop_s > nodes.fp64_mflop_s:
        yield "hpl-rate-above-rating"
    early = run.started_at and nodes.opened_at and utc_ns(run.started_at) < utc_ns(nodes.opened_at)
    late = run.ended_at and nodes.ends_at and utc_ns(run.ended_at) > utc_ns(nodes.ends_at)
    if early or late:
        yield "evidence-outside-campaign"
