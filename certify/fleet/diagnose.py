"""``petaseal campaign diagnose``: which nodes of a collected campaign are slow, drifted or absent (docs/fleet.md).

I/O only: the findings are computed in `certify.fleet.fleet`. Nothing here changes what counts; nothing is signed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from bench.errors import InputError, RefusedError, one_line
from bench.language import Language, text_in
from bench.record import Campaign, digest, encode, write_atomic
from bench.record.files import state_dir
from bench.record.folder import Folder, check_belongs
from bench.record.roster import Roster
from bench.terminal.summary import Part
from bench.units import utc_text
from certify.campaign.collect import scope_of
from certify.documents.kinds import RECORD_SUFFIX
from certify.fleet.describe import describe, summary_of
from certify.fleet.findings import Diagnosis, FleetReading
from certify.fleet.fleet import diagnose
from certify.fleet.readings import FolderFigures, check_over, read_figures
from certify.fleet.report import FleetReport, Picture
from certify.policy.centre import Centre
from certify.statement.attendance import MISSING, Absence, read_attendance
from certify.statement.campaign import open_campaign
from certify.statement.describe import PROVES_NOTHING
from certify.trust.opening import Verifier
from certify.trust.store import Anchor, open_anchor
from certify.trust.trusted_set import TrustedSet

FOLDER = "diagnosis"
PAGE, RESULT = "index.html", "diagnosis.json"


@dataclass(frozen=True)
class Diagnosed:
    """A diagnosis that was made and written, for the command line to show."""

    report: FleetReport
    out: Path

    def as_json(self) -> dict[str, Any]:
        """Return the result as the JSON value of ``--json``."""
        fields: dict[str, Any] = msgspec.to_builtins(self.report)
        return {**fields, "page": str(self.out / PAGE)}

    def lines(self, lang: Language = "en") -> list[str]:
        """Return the whole result as printed lines."""
        return [*describe(self.report, lang), self._written(lang)]

    def summary(self, lang: Language) -> list[Part]:
        """Return the parts of the result's summary."""
        return summary_of(self.report, lang, self._written(lang))

    def _written(self, lang: Language) -> str:
        return text_in(lang, "statement_lines", "written", place=self.out / PAGE)


class _Read(NamedTuple):
    """A campaign's folder, read and judged."""

    campaign: Campaign
    centre: Centre
    roster: Roster
    starts_at: str
    figures: FolderFigures
    absences: Mapping[str, Absence]

    @property
    def readings(self) -> list[FleetReading]:
        """The figures that no rule holds or voids."""
        return [passed.reading for one in self.figures.judged for passed in one.passed]


def diagnose_campaign(
    folder: Path,
    *,
    now_ns: int,
    public_key: Path | None = None,
    trust: Path | None = None,
    previous: Path | None = None,
    out: Path | None = None,
    progress: Callable[[int], None] = lambda records: None,
) -> Diagnosed:
    """Diagnose a campaign from its collected records, and write the result, the pictures and their page.

    Args:
        folder: of the campaign, after ``petaseal campaign collect``.
        now_ns: the present, UTC ns.
        public_key: the operator's; or
        trust: a signed trust root. One of the two.
        previous: an earlier campaign's folder of the same centre, to compare with.
        out: folder to write to; None for ``diagnosis`` in the campaign's.
        progress: called with the number of files done so far.

    Raises:
        InputError: the folder is no campaign's, or nothing is collected in it; the result cannot be written.
        RefusedError: the campaign is not signed by a trusted key, or the earlier one is of another centre.
    """
    at = utc_text(now_ns)
    keys = open_anchor(Anchor(public_key=public_key, trust=trust, state=state_dir()), at).trusted
    read = _read(Folder(folder), keys, at, progress)
    before = _read(Folder(previous), keys, at, progress) if previous else None
    if before is not None:
        check_previous(read.campaign, before.campaign, previous)
    # A node's group is in the roster alone: a record is signed by its node, which need not know its rack.
    readings, old = read.readings, before.readings if before else []
    groups = {node.node_id: node.group for node in read.roster.nodes if node.group is not None}
    diagnosis = diagnose(readings, groups, old)
    names = {node.node_id: one_line(node.name, 256) for node in read.roster.nodes}
    files = file_names([(spread.model, spread.workload) for spread in diagnosis.spreads])
    report = FleetReport(
        centre_id=read.centre.centre_id,
        campaign_id=read.campaign.campaign_id,
        campaign_sha256=digest(read.campaign),
        starts_at=read.starts_at,
        simulated=read.figures.simulated,
        previous=before.campaign.campaign_id if before else None,
        remarks=remarks(read.campaign, before.campaign if before else None, diagnosis),
        names=names,
        expected=len(read.campaign.nodes),
        absent=absent(read.campaign, read.figures, read.absences),
        refused=tuple(read.figures.refused),
        not_counted=tuple(one for judged in read.figures.judged for one in judged.not_counted),
        diagnosis=diagnosis,
        pictures=tuple(Picture(model=m, workload=w, file=file) for (m, w), file in files.items()),
    )
    target = out or folder / FOLDER
    _write(target, report, readings, read.centre)
    return Diagnosed(report, target)


def _read(folder: Folder, trust: TrustedSet, at: str, progress: Callable[[int], None]) -> _Read:
    roster = folder.roster()
    campaign = open_campaign(folder.campaign, Verifier(trust, at), shared=True)
    check_belongs(folder, roster, campaign)
    published = folder.started()
    if published is None or not folder.collected.is_dir():
        fix = "collect them with: petaseal campaign collect"
        raise InputError("no-records", "has no collected records", where=folder.root, fix=fix)
    scope = scope_of(folder, campaign, published.starts_at)
    check_over(campaign, scope.centre.centre_id, published.starts_at, at)
    figures = read_figures(folder.collected, scope, trust, at, progress)
    absences = read_attendance(folder.collected, campaign)
    return _Read(campaign, scope.centre, roster, published.starts_at, figures, absences)


def check_previous(campaign: Campaign, before: Campaign, where: object) -> None:
    """Refuse a campaign to compare with that is of another centre, or not an earlier one.

    Raises:
        RefusedError: `centre-differs`.
        InputError: `previous-not-earlier`.
    """
    if before.centre_id != campaign.centre_id:
        raise RefusedError("centre-differs", f"is of the centre {before.centre_id}", where=where)
    if before.issued_at >= campaign.issued_at:
        what = f"was opened at {before.issued_at}, and is compared with as the earlier one of {campaign.issued_at}"
        raise InputError("previous-not-earlier", what, where=where, fix="give the earlier campaign with --previous")


def remarks(campaign: Campaign, before: Campaign | None, diagnosis: Diagnosis) -> tuple[str, ...]:
    """Return sentences on what a comparison with the campaign before lacks."""
    sentences = []
    if before is not None and before.profile_sha256 != campaign.profile_sha256:
        sentences.append(text_in("en", "remark", "profile", before=before.profile, now=campaign.profile))
    if before is not None and not diagnosis.drifts:
        sentences.append(text_in("en", "remark", "no-pair"))
    return tuple(sentences)


def absent(campaign: Campaign, figures: FolderFigures, absences: Mapping[str, Absence]) -> tuple[Absence, ...]:
    """Return the expected nodes without a record that can be judged, and why."""
    present = {judged.node_id for judged in figures.judged}
    refused = {one.file.removesuffix(RECORD_SUFFIX): one.what for one in figures.refused}
    return tuple(
        Absence(node_id=node_id, code="record-refused", detail=one_line(refused[node_id], 256))
        if node_id in refused
        else absences.get(node_id) or Absence(node_id=node_id, code=MISSING, detail=None)
        for node_id in (node.node_id for node in campaign.nodes)
        if node_id not in present
    )


def file_names(kinds: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Return a file name for each model and workload: plain, and no two alike whatever the models are called."""
    taken: dict[str, tuple[str, str]] = {}
    for model, workload in kinds:
        # A model's name is the record's word: nothing of it but letters and digits reaches the file system.
        plain = re.sub("[^a-z0-9]+", "-", f"{model[:60]} {workload}".lower()).strip("-")
        name, number = f"{plain}.svg", 2
        while name in taken:
            name, number = f"{plain}-{number}.svg", number + 1
        taken[name] = model, workload
    return {kind: name for name, kind in taken.items()}


def _write(out: Path, report: FleetReport, readings: Sequence[FleetReading], centre: Centre) -> None:
    """Write the pictures, the result and last the page: a page that exists links to files that exist."""
    from certify.fleet.plots import plots
    from certify.fleet.report import render_fleet

    warning = PROVES_NOTHING["simulated"] if report.simulated else None
    pictures = plots(report.diagnosis, readings, report.names, warning)
    for picture in report.pictures:
        write_atomic(out / picture.file, pictures[picture.model, picture.workload].encode())
    write_atomic(out / RESULT, encode(report) + b"\n")
    page = render_fleet(report, [pictures[p.model, p.workload] for p in report.pictures], centre)
    write_atomic(out / PAGE, page.encode())
