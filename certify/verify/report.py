"""One statement on its way through the numbered steps, and what is answered of it: what was checked, and what was not.

For people as lines, for machines as a dictionary; nothing is judged here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args

import msgspec

from bench.errors import PetasealError
from bench.units import utc_text
from certify.documents.kinds import Level, OpenedDocument
from certify.documents.statement import CapacityStatement
from certify.policy.lines import line
from certify.policy.policies import Policy
from certify.policy.released import Table
from certify.policy.tools import ToolCount
from certify.trust.dating import DatedReceipt, Witnessed
from certify.trust.opening import Verifier
from certify.trust.trusted_set import TrustedSet
from certify.verify.evidence import VerifyRequest
from certify.verify.statement_checks import TrustLimit

if TYPE_CHECKING:
    from certify.statement.brought.opening import Brought
    from certify.statement.build import StatementInputs
    from certify.statement.claim import DeviceIndex
    from certify.statement.paper.opening import PageCheck
    from certify.statement.records import Examined


LEVELS: tuple[Level, ...] = get_args(Level)  # ascending


@dataclass
class VerificationReport:
    """What was checked, what was not, and the answer."""

    at: str
    statement: CapacityStatement | None = None
    payload_sha256: str | None = None
    signers: tuple[str, ...] = ()
    named: frozenset[str] = frozenset()  # ids of all keys that the statement's envelope names, known or not
    trusted: TrustedSet | None = None
    trust_root: str | None = None  # id, version and fingerprint
    witnesses: tuple[Witnessed, ...] = ()
    receipt: DatedReceipt | None = None  # the earliest
    attested_before: str | None = None  # when somebody who is trusted had seen the statement
    level: Level | None = None
    limits: tuple[TrustLimit, ...] = ()  # why it is at most `trusted`
    tables: tuple[Table, ...] = ()  # of earlier releases, that it was verified with
    self_asserted: int | None = None  # records under a key that nobody enrolled
    signers_of_records: int | None = None  # distinct keys; fewer than records means that nodes shared one
    tools: tuple[ToolCount, ...] = ()  # that made the records
    page: PageCheck | None = None  # of a statement that came as a PDF
    checked: list[str] = field(default_factory=list)
    not_checked: list[str] = field(default_factory=list)
    notes: tuple[str, ...] = ()  # what refuses nothing and must be known
    unmet: list[str] = field(default_factory=list)  # what was required and is not so
    refusal: PetasealError | None = None

    @property
    def refused(self) -> bool:
        """Whether the answer is no."""
        return self.refusal is not None or bool(self.unmet)

    def as_json(self) -> dict[str, Any]:
        """Return the report as the JSON value of ``--json``."""
        return {
            "accepted": not self.refused,
            "at": self.at,
            "checked": self.checked,
            "code": self.refusal.code if self.refusal else ("requirement-unmet" if self.unmet else None),
            "level": self.level,
            "not_checked": self.not_checked,
            "notes": list(self.notes),
            "page": None if self.page is None else self.page._asdict(),
            "payload_sha256": self.payload_sha256,
            "reason": str(self.refusal) if self.refusal else "; ".join(self.unmet) or None,
            "self_asserted_records": self.self_asserted,
            "signers_of_records": self.signers_of_records,
            "signers": list(self.signers),
            "receipt": None if self.receipt is None else self.receipt._asdict(),
            "tables": [
                {"kind": one.kind, "name": one.name, "release": one.release, "sha256": one.sha256}
                for one in self.tables
            ],
            "tools": [one.as_json() for one in self.tools],
            "trust_root": self.trust_root,
            "trusted_at_most": [limit._asdict() for limit in self.limits],
            "with_witness": list(self._with_witness()),
            "witnesses": [{"keyid": one.keyid, "witnessed_at": one.witnessed_at} for one in self.witnesses],
            "predicate": None if self.statement is None or self.refusal else msgspec.to_builtins(self.statement),
        }

    def _with_witness(self) -> Iterator[dict[str, Any]]:
        """Yield what of each class counts with a witness of the statement only, and whether it does."""
        for entry in () if self.statement is None or self.refusal else self.statement.classes:
            if (totals := entry.with_witness).devices:
                yield {
                    "pool_class": entry.pool_class,
                    "precision": entry.precision,
                    "choice": entry.choice,
                    "devices": totals.devices,
                    "certified_mflop_s": totals.certified_mflop_s,
                    "counts": bool(self.witnesses),
                }


def steps_of(report: VerificationReport) -> tuple[str, ...]:
    """Return what was checked, as names that a document can hold."""
    return tuple(re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:63] for text in report.checked)


class Verification:
    """What a step is given: it reads what the steps before it left, and adds to the report or refuses.

    A field without a value is set by the step whose number it bears, and read by later steps only.
    """

    content: bytes  # 1
    verifier: Verifier  # 4, and since 9 that of what the statement binds
    opened: OpenedDocument[CapacityStatement]  # 2 to 8, and since 9 with the signers that count
    policies: tuple[Policy, ...]  # 10: the verifier's own, of the digests that the statement binds
    inputs: StatementInputs  # 13
    examined: Examined  # 13 to 15
    again: CapacityStatement  # 20: as its records give it

    def __init__(self, request: VerifyRequest, progress: Callable[[int], None]) -> None:
        self.request = request
        self.evidence = request.evidence
        self.where = request.evidence.statement  # as error texts name it
        self.progress = progress  # called with the number of records done so far
        self.at = utc_text(request.at_ns)  # the one moment of the answer; no step reads a clock
        self.report = VerificationReport(at=self.at)
        self.brought: tuple[Brought, ...] | None = None  # 13 or 21: the evidence documents, where they are given
        self.device_index: DeviceIndex | None = None  # 13: what the records show, where it is to be compared

    @property
    def statement(self) -> CapacityStatement:
        """The statement, since it was parsed."""
        return self.opened.predicate

    @property
    def judges_records(self) -> bool:
        """Whether there are records, and this verifier's rules and tables are those of the statement."""
        return self.evidence.records is not None and not self.report.limits

    def not_checked(self, code: str, **values: object) -> None:
        """Report that something was not checked."""
        self.report.not_checked.append(line(code, **values))
