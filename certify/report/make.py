"""``petaseal report html``: from a folder to one page (docs/report.md). I/O and order only."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import InputError, one_line
from bench.record import write_atomic
from bench.record.files import refuse_existing, state_dir
from bench.units import utc_text
from certify.fleet.findings import Diagnosis
from certify.fleet.fleet import diagnose
from certify.policy.hostlists import natural_key
from certify.report.canvas import check_library
from certify.report.figures import DrawnRecord
from certify.report.page import ReportContent, SampleState, frames_of, numbers_of, render_report, timed_nodes
from certify.report.reading import SampledRecord, read_records, read_samples
from certify.report.series import COLUMNS
from certify.report.source import GivenFiles, ReportSource, SourceProblem, find_source
from certify.report.timeline import TimedNode, TimeFrame, node_plot
from certify.trust.store import Anchor, open_anchor
from certify.workers import spread

PAGE = "report.html"
MOST_NODES = 64  # that are drawn over time in one page
FINE_PLOTS = 64  # of more plots each has fewer points: a page stays one that a browser opens at once
LEAST_COLUMNS = 45
PARALLEL_PLOTS = 8  # below, starting processes costs more than it saves


@dataclass(frozen=True)
class ReportRequest:
    """What to draw, and where to write it.

    Args:
        folder: of a campaign, or with records.
        out: the page's file, or a folder for it.
        given: further files.
        public_key: the operator's; or
        trust: a signed trust root; neither: the campaign's signature is not checked.
        nodes: to draw over time, by id or by the engine's name; none: those with findings, then the first.
        now_ns: the present, UTC ns: keys must be valid now. Nothing of it is in the page.
    """

    folder: Path
    out: Path
    given: GivenFiles
    now_ns: int
    public_key: Path | None = None
    trust: Path | None = None
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReportMade:
    """A report that was written."""

    page: Path
    sha256: str
    size: int
    records: int
    drawn: int  # nodes with plots over time
    problems: tuple[SourceProblem, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the result as the JSON value of ``--json``."""
        return {
            "page": str(self.page),
            "sha256": self.sha256,
            "bytes": self.size,
            "records": self.records,
            "nodes_drawn": self.drawn,
            "problems": [problem._asdict() for problem in self.problems],
        }

    @property
    def is_whole(self) -> bool:
        """Whether nothing was refused: what is merely away is no fault of the source."""
        return all(problem.code == "samples-missing" for problem in self.problems)


def make_report(request: ReportRequest, progress: Callable[[int], None] = lambda records: None) -> ReportMade:
    """Draw a report and write its page.

    Args:
        request: what to draw, and where to write it.
        progress: called with the number of records that were read, then of those whose samples were, then drawn.

    Raises:
        InputError: matplotlib is not installed; there are no records, or the page is there already.
        RefusedError: no record can be read.
    """
    check_library()
    page = page_file(request.out)
    refuse_existing(page)
    at = utc_text(request.now_ns)
    trusted = None
    if request.public_key or request.trust:
        trusted = open_anchor(Anchor(public_key=request.public_key, trust=request.trust, state=state_dir()), at).trusted
    source = find_source(request.folder, request.given, trusted, at)
    read = read_records(source, at, progress)
    records = sorted(read.records, key=lambda record: natural_key(source.names.get(record.node_id, record.node_id)))
    present = {record.node_id for record in records}
    compared = [one.reading for record in records for one in record.figures if not one.blocking]
    diagnosis = diagnose(compared, source.groups)
    chosen = chosen_nodes(source, records, diagnosis, request.nodes)
    samples, problems = _samples(source, records, chosen, progress)
    content = ReportContent(
        source=source,
        records=records,
        diagnosis=diagnosis,
        samples=samples,
        plots=_plots(source, records, samples, progress),
        problems=(*source.problems, *read.problems, *problems),
        absent=tuple(node.node_id for node in source.campaign.nodes if node.node_id not in present),
    )
    text = render_report(content).encode()
    write_atomic(page, text, new=True)
    digest = hashlib.sha256(text).hexdigest()
    return ReportMade(page, digest, len(text), len(records), len(chosen), tuple(content.problems))


def page_file(out: Path) -> Path:
    """Return the page's file: the one that was named, or one in a folder that is there."""
    return out / PAGE if out.is_dir() else out


def chosen_nodes(
    source: ReportSource, records: Sequence[DrawnRecord], diagnosis: Diagnosis, wanted: Sequence[str]
) -> list[str]:
    """Return the nodes to draw over time, in the order of the records: those wanted, else at most `MOST_NODES`.

    Raises:
        InputError: `usage`, a node that was asked for is not there.
    """
    known = [record.node_id for record in records]
    by_name = {source.names.get(node_id, node_id): node_id for node_id in known} | {one: one for one in known}
    if wanted:
        for name in wanted:
            if name not in by_name:
                raise InputError("usage", f"has no record of the node {one_line(name, 80)}", where="--node")
        asked = {by_name[name] for name in wanted}
        return [node_id for node_id in known if node_id in asked]
    if len(known) <= MOST_NODES:
        return known
    odd = [one.node_id for one in diagnosis.take_out] + [one.node_id for one in diagnosis.outliers]
    odd += [one.node_id for one in diagnosis.throttling]
    first = set(list(dict.fromkeys([*odd, *known]))[:MOST_NODES])
    return [node_id for node_id in known if node_id in first]


def _samples(
    source: ReportSource, records: Sequence[DrawnRecord], chosen: Sequence[str], progress: Callable[[int], None]
) -> tuple[dict[str, SampleState], list[SourceProblem]]:
    """Return what the samples of the chosen nodes show, and what is wrong with them."""
    paths = {path.name: path for path in source.records}
    wanted_nodes = set(chosen)
    drawn = [record for record in records if record.node_id in wanted_nodes]
    plots = sum(len({one.kind for one in record.figures}) for record in drawn)
    columns = max(LEAST_COLUMNS, min(COLUMNS, COLUMNS * FINE_PLOTS // max(1, plots)))
    wanted = [SampledRecord.of(record, paths[record.file], columns) for record in drawn]
    samples, problems = {}, []
    for record, read in zip(drawn, read_samples(wanted, source.folder, progress), strict=True):
        series = {(one.device, one.workload): one for one in read.series}
        state = "samples_read" if read.problem is None else "samples_bad"
        if read.problem is not None:
            problems.append(read.problem)
            state = "samples_away" if read.problem.code == "samples-missing" else state
        samples[record.node_id] = SampleState(state, series)
    return samples, problems


def _plots(
    source: ReportSource,
    records: Sequence[DrawnRecord],
    samples: Mapping[str, SampleState],
    progress: Callable[[int], None],
) -> dict[str, str]:
    """Return the plots of all chosen nodes by their prefix."""
    frames, numbers = frames_of(records, samples), numbers_of(records)
    tasks = [
        (number, node, frames[kind])
        for number, record in enumerate((one for one in records if one.node_id in samples), 1)
        for kind, node in timed_nodes(record, samples[record.node_id], numbers[record.node_id])
    ]
    shares = [(node, frame) for _, node, frame in tasks]
    plots: dict[str, str] = {}
    drawn = spread(_draw, shares, parallel=len(shares) >= PARALLEL_PLOTS, where=source.folder)
    for (number, node, _), plot in zip(tasks, drawn, strict=True):
        plots[node.prefix] = plot
        progress(number)
    return plots


def _draw(task: tuple[TimedNode, TimeFrame]) -> str:
    return node_plot(*task)
