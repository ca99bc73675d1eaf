"""What a verification is asked: the files that are given, whose keys count, and the moment that the answer is for.

Time is passed in, and nothing is read here but the names in a folder.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from certify.statement.paper.opening import FILE
from certify.trust.dating import Attestations
from certify.trust.store import Anchor

if TYPE_CHECKING:
    from certify.documents.statement import CapacityStatement
    from certify.statement.brought.opening import Brought
    from certify.statement.paper.opening import StatementPdf
    from certify.statement.paper.qr import QrCode
    from certify.statement.records import RecordSummary
    from certify.trust.opening import Verifier


@dataclass(frozen=True)
class Evidence:
    """The files of one statement, and further tables that it may be judged by."""

    statement: Path
    records: Path | None = None  # records.jsonl, or a folder of record envelopes
    samples: Path | None = None
    baseline: Path | None = None
    brought: Path | None = None  # folder with the evidence documents of other tools' results
    attestations: Attestations = field(default_factory=Attestations)
    policies: tuple[str, ...] = ()  # files, beside the installed ones and those of releases
    profiles: tuple[str, ...] = ()
    ratings: tuple[str, ...] = ()
    others: tuple[Path, ...] = ()  # other statements, or folders of them, to compare with
    paper: StatementPdf | None = None  # the PDF that is the statement's file, or lies beside it
    unread_pdf: bool = False  # such a PDF lies there, and nobody asked for it
    code: QrCode | None = None  # that somebody read from a page

    def in_folder(self, place: Path) -> Evidence:
        """Return the evidence of a folder with a statement's files: what was not given is taken from it.

        Args:
            place: the folder (`certify.statement.package`), or the statement's file, which changes nothing.
        """
        if not place.is_dir():
            return self

        def given_or_there(given: Path | None, name: str) -> Path | None:
            # A broken link counts as there: it is refused when it is read, and not left out in silence.
            return (place / name) if given is None and os.path.lexists(place / name) else given

        return replace(
            self,
            statement=place / "statement.dsse.json",
            records=given_or_there(self.records, "records.jsonl"),
            samples=given_or_there(self.samples, "samples"),
            baseline=given_or_there(self.baseline, "baseline.dsse.json"),
            brought=given_or_there(self.brought, "evidence"),
            unread_pdf=os.path.lexists(place / FILE),
            attestations=Attestations.around(place, self.attestations.witnesses, self.attestations.receipts),
        )

    def open_brought(self, statement: CapacityStatement, verifier: Verifier) -> tuple[Brought, ...] | None:
        """Return the evidence documents that a statement may bind, opened; None where none were given.

        Raises:
            RefusedError: with the code of the first fault of a document.
        """
        if self.brought is None:
            return None
        from certify.statement.brought.opening import Belonging, documents_in, open_all

        of = Belonging(statement.campaign, statement.campaign_sha256, statement.centre, statement.issue.issued_at)
        return open_all(documents_in([self.brought]), verifier, of)


@dataclass(frozen=True)
class VerifyRequest:
    """What ``petaseal verify`` was asked for."""

    evidence: Evidence
    anchor: Anchor  # whose keys count
    at_ns: int  # the moment that the answer is for
    at_present: bool = False  # that moment is the present, as this machine's clock shows it
    now_ns: int | None = None  # the present, at which a trust root must be fresh; None: the same moment
    seen_at: str | None = None  # when the verifier itself, a registry, saw the statement first
    demand_witnesses: bool = True  # False: for the witness itself
    require: tuple[str, ...] = ()
    accept_simulated: bool = False
    collect: Callable[[RecordSummary], None] | None = None  # called with each judged record, its node's sums with it

    @property
    def where(self) -> Path:
        """The statement, as error texts name it."""
        return self.evidence.statement
