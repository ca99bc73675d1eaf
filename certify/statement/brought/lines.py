"""What a statement says of evidence that others bring: one line for each document, and Rmax of each class. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

from bench.record import PoolClass
from certify.documents.evidence import BusRun, ImportedEvidence, SolveRun
from certify.documents.statement import WITHOUT_RECORD, BusLine, EvidenceLine, Fabric
from certify.evidence.facts import check_against
from certify.evidence.output import ToolOutput, is_refused
from certify.judge.nodes import facts_of
from certify.judge.scope import Scope
from certify.judge.tally import Tally
from certify.policy.thresholds import Rmax
from certify.statement.brought.opening import Brought, node_pools

T = TypeVar("T")
ALL_REDUCE = "all-reduce"  # of which this harness has a sweep of its own
NOT_NATIVE = "emulation-not-excluded"
MOST_BUSES = 64


def evidence_lines(
    brought: Sequence[Brought], tally: Tally, scope: Scope, fabric: Fabric | None
) -> tuple[EvidenceLine, ...]:
    """Return the lines of evidence documents, by ascending digest.

    Args:
        brought: that were opened, each once.
        tally: of the statement's records: it has the means of the nodes that the documents name.
        scope: of these records.
        fabric: with the sweep that bandwidths are compared with.
    """
    pools = node_pools(scope.campaign, scope.centre)
    classes = {pool.pool: pool.pool_class for pool in scope.centre.pools}
    lines = []
    for one in sorted(brought, key=lambda one: one.sha256):
        document = one.document
        named = {document.pool} if document.pool else {pool for node in document.nodes for pool in pools[node]}
        of_class = {classes[pool] for pool in named if pool in classes}
        place = _CountedIn(_only(named), _only(of_class))
        lines.append(_line(one, place, tally, scope, fabric))
    return tuple(lines)


class _CountedIn(NamedTuple):
    """Where the devices of one document count, if that is one place."""

    pool: str | None
    pool_class: PoolClass | None


def _only(values: set[T]) -> T | None:
    """Return the one value that there is; None where there are more or none."""
    return next(iter(values)) if len(values) == 1 else None


def _line(brought: Brought, place: _CountedIn, tally: Tally, scope: Scope, fabric: Fabric | None) -> EvidenceLine:
    document = brought.document
    judged = judged_runs(document, tally, scope)
    best = max(judged.runs, key=lambda run: run.rate_mflop_s, default=None)
    good = [one for one in document.buses if not is_refused(one.codes)]
    bad = [one for one in document.buses if is_refused(one.codes)]
    codes = {*document.codes, *_codes_of(judged.runs), *_codes_of(good)}
    if not tally.node_ids.issuperset(document.nodes):
        codes.add(WITHOUT_RECORD)
    return EvidenceLine(
        evidence_sha256=brought.sha256,
        kind=document.kind,
        by=document.by,
        tool=document.tool,
        file_sha256=document.file_sha256,
        pool=place.pool,
        pool_class=place.pool_class,
        nodes=len(document.nodes),
        runs=len(judged.runs) + len(good),
        failed=len(judged.failed) + len(bad),
        n=None if best is None else best.n,
        rate_mflop_s=None if best is None else best.rate_mflop_s,
        native_mflop_s=_native_mflop_s(document, judged.runs),
        codes=tuple(sorted(codes)),
        failed_codes=tuple(sorted(_codes_of([*judged.failed, *bad]))),
        buses=tuple(bus_lines(good, fabric)),
    )


def judged_runs(document: ImportedEvidence, tally: Tally, scope: Scope) -> ToolOutput:
    """Return the runs of a document with what the records of its nodes say of them."""
    output = ToolOutput(document.tool, document.kind, document.runs, document.failed)
    means = facts_of(document.nodes, tally.means, scope.campaign, is_per_device=document.is_per_device)
    return check_against(output, means)


def _codes_of(runs: Iterable[SolveRun | BusRun]) -> set[str]:
    return {code for run in runs for code in run.codes}


def _native_mflop_s(document: ImportedEvidence, runs: Sequence[SolveRun]) -> int | None:
    """Return the highest rate of HPL that is surely one of native FP64."""
    if document.kind != "hpl":
        return None
    return max((run.rate_mflop_s for run in runs if NOT_NATIVE not in run.codes), default=None)


def bus_lines(buses: Sequence[BusRun], fabric: Fabric | None) -> Iterator[BusLine]:
    """Yield the bandwidths of each collective's fastest size, and of the sizes that this harness measured too."""
    measured = {} if fabric is None else {one.size_bytes: one.bus_mb_s for one in fabric.bandwidths}
    best: dict[tuple[str, int], BusRun] = {}  # of a size in place and out of place, the faster
    fastest: dict[str, tuple[str, int]] = {}
    for run in sorted((one for one in buses if one.bus_mb_s is not None), key=lambda one: one.bus_mb_s or 0):
        place = run.collective, run.size_bytes
        best[place] = run
        fastest[run.collective] = place
    both = [place for place in best if place[0] == ALL_REDUCE and place[1] in measured]
    for place in sorted({*fastest.values(), *both})[:MOST_BUSES]:
        bus_mb_s = best[place].bus_mb_s or 0
        ours = measured.get(place[1]) if place[0] == ALL_REDUCE else None
        yield BusLine(
            collective=place[0],
            size_bytes=place[1],
            ranks=best[place].ranks,
            bus_mb_s=bus_mb_s,
            measured_mb_s=ours,
            difference_ppm=bus_mb_s * 10**6 // ours - 10**6 if ours else None,
        )


def rmax_of(lines: Iterable[EvidenceLine], pool_class: PoolClass) -> Rmax:
    """Return the highest passed HPL rate over nodes of a class; of several runs the highest, and never a sum."""
    of_class = [line for line in lines if line.is_rmax and line.pool_class == pool_class]
    return Rmax(
        max((line.native_mflop_s for line in of_class if line.native_mflop_s is not None), default=None),
        max((line.rate_mflop_s for line in of_class if line.rate_mflop_s is not None), default=None),
    )
