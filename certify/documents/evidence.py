"""The evidence document: what another tool printed, as an operator or a witness brings and signs it.

The tool's own output is bound by its digest. Nothing of it is a figure of this harness, and nothing of it is ever added
to one.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from bench.record import Count, Document, Name, Positive, Sha256, Text, Tool, UtcTime

EvidenceKind = Literal["hpl", "hpl-mxp", "hpcg", "nccl-tests", "hccl-test"]


class SolveRun(Document, frozen=True, kw_only=True):
    """One run of an HPL, HPL-MxP or HPCG benchmark. Null is what the tool does not print."""

    n: Positive | None
    nb: Positive | None
    p: Positive | None
    q: Positive | None
    elapsed_ms: Positive | None
    rate_mflop_s: Count  # printed
    residual_ppm: Count | None  # scaled residual, in millionths; passed below 16
    started_at: UtcTime | None
    ended_at: UtcTime | None
    codes: tuple[Name, ...]  # what is said of it; one that refuses makes it a failed run


class BusRun(Document, frozen=True, kw_only=True):
    """One size of a collective benchmark. Bandwidths are 10^6 byte/s."""

    collective: Name
    size_bytes: Positive
    ranks: Positive | None
    elapsed_ns: Positive | None
    algorithm_mb_s: Count
    bus_mb_s: Count | None
    wrong: Count | None  # values; null: not checked
    in_place: bool | None = None  # null: the tool does not say
    codes: tuple[Name, ...]


class ImportedEvidence(Document, frozen=True, kw_only=True):
    """The predicate of an evidence document: what one output of another tool says, and who brings it."""

    kind: EvidenceKind
    by: Literal["operator", "witness"]  # the role of the key that signs it
    centre_id: Name
    campaign_sha256: Sha256
    pool: Name | None  # whose devices computed; null: of several
    # of the campaign, on which the tool ran, ascending
    nodes: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=200_000)]
    tool: Text  # as its output names itself
    is_per_device: bool = False  # whether the tool runs one process a device, so that P x Q counts devices
    # what the output does not say, and who brings it does; null: nobody does
    utc_offset_minutes: Annotated[int, Meta(ge=-1440, le=1440)] | None = None
    collective: Name | None = None
    ranks: Positive | None = None
    file_sha256: Sha256  # of that output
    file_bytes: Positive
    imported_at: UtcTime
    importer: Tool
    codes: Annotated[tuple[Name, ...], Meta(max_length=64)] = ()  # notes about the file as a whole
    runs: Annotated[tuple[SolveRun, ...], Meta(max_length=1000)] = ()  # that passed
    failed: Annotated[tuple[SolveRun, ...], Meta(max_length=1000)] = ()
    buses: Annotated[tuple[BusRun, ...], Meta(max_length=1000)] = ()
