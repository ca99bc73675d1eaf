"""What a spot check draws and shows: the types of ``spot-check.json``, and lines of them for people.

Only types and words may enter this room. The report is not signed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from bench.errors import RefusedError
from bench.record import Challenge, Choice, Count, Document, Name, PoolClass, Precision, Sha256, Text, UtcTime, Workload
from bench.units import percent_text
from certify.documents.kinds import RECORD_SUFFIX
from certify.documents.statement import NotCounted
from certify.fleet.readings import RefusedRecord
from certify.fleet.spot_check import CONFIDENCE_PPM, SpotCheck, lines, most_bad
from certify.statement.attendance import Absence
from certify.statement.describe import PROVES_NOTHING

FORMAT = "petaseal/spot-check/v0.2"
UNSIGNED = "This report is not signed. A witness who watched may sign the digest of this file."


class DrawnClass(Document, frozen=True, kw_only=True):
    """The draw from one class of the claim, in its order."""

    pool_class: PoolClass
    precision: Precision
    choice: Choice
    nodes: Count  # of the claim
    drawn: tuple[Name, ...]


class Draw(Document, frozen=True, kw_only=True):
    """The nodes to measure again, by class, with what the draw rests on."""

    statement_sha256: Sha256  # of its payload
    records_root: Sha256
    centre_id: Name
    seed: Challenge
    fraction_ppm: Count
    simulated: bool
    classes: tuple[DrawnClass, ...]

    @property
    def nodes(self) -> tuple[str, ...]:
        """All drawn nodes, each once, in the order of the draw."""
        return tuple(dict.fromkeys(node_id for one in self.classes for node_id in one.drawn))

    def as_json(self) -> dict[str, Any]:
        """Return the drawn nodes as the JSON value of ``--json``."""
        fields: dict[str, Any] = msgspec.to_builtins(self)
        return {**fields, "nodes": list(self.nodes)}

    def lines(self, names: Mapping[str, str] | None = None) -> list[str]:
        """Return the drawn nodes as printed lines.

        Args:
            names: the engine's name of each node, where it is known.
        """
        text = [PROVES_NOTHING["simulated"]] if self.simulated else []
        for one in self.classes:
            count, sure = len(one.drawn), percent_text(CONFIDENCE_PPM)
            text.append(
                f"{one.pool_class} {Workload(one.precision, one.choice)}: {count:,} of {one.nodes:,} nodes are drawn; "
                f"if none is bad, at most {most_bad(one.nodes, count, 0):,} of all are, with {sure} confidence"
            )
            text += [f"  {(names or {}).get(node_id, node_id)}" for node_id in one.drawn]
        return text


class ClassCheck(Document, frozen=True, kw_only=True):
    """What the spot check showed of one class."""

    pool_class: PoolClass
    precision: Precision
    choice: Choice
    check: SpotCheck


class SpotCheckEvidence(Document, frozen=True, kw_only=True):
    """A record of the re-measurement that was judged."""

    node_id: Name
    payload_sha256: Sha256


class Stranger(Document, frozen=True, kw_only=True):
    """A device that was measured at a drawn node and that the claim does not count there."""

    node_id: Name
    device: Text


class SpotCheckReport(Document, frozen=True, kw_only=True):
    """``spot-check.json``: a reader can repeat it from the files that it names by their digests."""

    format: Text
    note: Text
    rules: Text
    statement_sha256: Sha256  # of its payload
    statement_issued_at: UtcTime
    records_root: Sha256
    centre_id: Name
    seed: Challenge
    fraction_ppm: Count
    campaign_id: Name
    campaign_sha256: Sha256
    campaign_issued_at: UtcTime
    attempts_before: Count  # campaigns of the same series: one draw for one claim
    starts_at: UtcTime | None  # null: no record told
    simulated: bool
    passed: bool
    classes: tuple[ClassCheck, ...]
    left_out: tuple[Name, ...]  # drawn, and left out by the operator before the start: not measured
    absent: tuple[Absence, ...]  # the others without a record, in the operator's words
    records: tuple[SpotCheckEvidence, ...]
    refused: tuple[RefusedRecord, ...]
    not_counted: tuple[NotCounted, ...]
    strangers: tuple[Stranger, ...]


@dataclass(frozen=True)
class SpotCheckResult:
    """A spot check that was judged and written, for the command line to show."""

    report: SpotCheckReport
    file: Path
    names: Mapping[str, str]

    @property
    def refusal(self) -> RefusedError | None:
        """The answer no, for an exit status; None where the claim passes."""
        if self.report.passed:
            return None
        failed = [str(Workload(c.precision, c.choice)) for c in self.report.classes if not c.check.passed]
        return RefusedError("spot-check-failed", f"the claim fails in {', '.join(failed)}", where=self.file)

    def as_json(self) -> dict[str, Any]:
        """Return the result as the JSON value of ``--json``."""
        fields: dict[str, Any] = msgspec.to_builtins(self.report)
        return {**fields, "file": str(self.file)}

    def lines(self) -> list[str]:
        """Return the result as printed lines."""
        return [*describe(self.report, self.names), f"written to {self.file}"]


def describe(report: SpotCheckReport, names: Mapping[str, str]) -> list[str]:
    """Return a spot check as printed lines."""
    text = [f"Spot check of {report.centre_id}, the statement issued at {report.statement_issued_at}"]
    text.append(f"seed {report.seed}, {report.starts_at or 'not started'}, campaign {report.campaign_id}")
    if report.simulated:
        text.append(PROVES_NOTHING["simulated"])
    for one in report.classes:
        text.append(f"{one.pool_class} {Workload(one.precision, one.choice)}:")
        text += [f"  {line}" for line in lines(one.check, names)]
    text += [f"{name}: {why}" for name, why in _reasons(report, names)]
    if report.attempts_before:
        text.append(f"Campaigns of this series before: {report.attempts_before}. One claim has one draw: ask why.")
    return [*text, report.note]


def _reasons(report: SpotCheckReport, names: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield why nodes and devices were not measured."""
    for node_id in report.left_out:
        yield names.get(node_id, node_id), "left out by the operator"
    for absence in report.absent:
        detail = f" ({absence.detail})" if absence.detail else ""
        yield names.get(absence.node_id, absence.node_id), f"{absence.code}{detail}"
    for refused in report.refused:
        node_id = refused.file.removesuffix(RECORD_SUFFIX)
        yield names.get(node_id, node_id), f"its record is refused: {refused.what} [{refused.code}]"
    for one in report.not_counted:
        yield f"{names.get(one.node_id, one.node_id)} {one.device} {one.workload}", ", ".join(one.codes)
    for stranger in report.strangers:
        yield f"{names.get(stranger.node_id, stranger.node_id)} {stranger.device}", "is no device that the claim counts"
