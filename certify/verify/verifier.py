"""``petaseal verify``: is this statement true to its records, and who says so (docs/verification.md).

The numbered steps, here, in `statement_checks` and in `recompute`, are those of ``docs/verification.md``. The first
that fails refuses with its reason code; whatever was not checked is reported as such. torch is never imported here, and
numpy only where samples are read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import msgspec

from bench.errors import InputError, PetasealError, RefusedError
from bench.record import read_given
from bench.units import utc_text
from certify.documents.caps import CAPS
from certify.documents.kinds import Level, Opened, open_document
from certify.policy.policies import Policy
from certify.policy.released import Table, earlier, is_ours
from certify.statement.age import check_age, late_text
from certify.statement.build import CapacityStatement, absences_of
from certify.trust.receipt import Received, earliest_receipt, receipts_in
from certify.trust.store import Anchor, open_anchor
from certify.trust.trusted_set import TrustedSet
from certify.trust.witness import Witnessed, check_witnesses, dated_by, documents_in, gather_witnesses, most_witnesses
from certify.verify.statement_checks import Limit, bound_tables, check_statement, check_sums, limits, own_policies

if TYPE_CHECKING:
    from certify.statement.claim import Holdings
    from certify.statement.records import Seen

LEVELS: tuple[Level, ...] = get_args(Level)  # ascending
MOST_NOTES = 30  # on samples
NOT_OURS = "is none of petaseal's: you gave it, and what it says is yours to judge"
NOT_IN_SAMPLES = "operands made anew (R2), the number of launches, trends of the warm-up (R6): samples do not show them"


@dataclass(frozen=True)
class Request:
    """What ``petaseal verify`` was asked for. Time is passed in."""

    statement: Path
    at_ns: int  # the moment that the answer is for
    at_present: bool = False  # that moment is the present, as this machine's clock tells it
    now_ns: int | None = None  # the present, at which a trust root must be fresh; None: the same moment
    trust: Path | None = None
    public_key: Path | None = None
    records: Path | None = None
    samples: Path | None = None
    baseline: Path | None = None
    fingerprint: str | None = None  # of the trust root, obtained out of band
    state: Path | None = None  # where accepted trust roots are remembered
    revocations: Path | None = None
    witnesses: tuple[Path, ...] = ()
    witnesses_beside: tuple[Path, ...] = ()  # documents that lie in the statement's folder: nobody vouched for them
    witness_keys: tuple[Path, ...] = ()
    demand_witnesses: bool = True  # False: for the witness itself
    receipts: tuple[Path, ...] = ()  # of registries
    receipts_beside: tuple[Path, ...] = ()  # that lie in the statement's folder
    seen_at: str | None = None  # when the verifier itself, a registry, saw the statement first
    require: tuple[str, ...] = ()
    policies: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()
    ratings: tuple[str, ...] = ()
    accept_simulated: bool = False
    others: tuple[Path, ...] = ()  # other statements, or folders of them, to compare with
    collect: Callable[[Seen], None] | None = None  # called with each record that was judged, its node's sums with it

    @property
    def anchor(self) -> Anchor:
        """Where trust begins."""
        return Anchor(
            self.public_key, self.trust, self.fingerprint, self.revocations, tuple(self.witness_keys), self.state
        )


def in_folder(request: Request, place: Path) -> Request:
    """Return a request for a folder with a statement's files: what was not given is taken from it.

    Args:
        request: as it was asked for.
        place: the statement's file, which leaves the request as it is, or the folder (`certify.statement.package`).
    """
    if not place.is_dir():
        return request

    def there(given: Path | None, name: str) -> Path | None:
        return (place / name) if given is None and os.path.lexists(place / name) else given

    return replace(
        request,
        statement=place / "statement.dsse.json",
        records=there(request.records, "records.jsonl"),
        samples=there(request.samples, "samples"),
        baseline=there(request.baseline, "baseline.dsse.json"),
        witnesses_beside=documents_in(place),
        receipts_beside=receipts_in(place),
    )


@dataclass
class Report:
    """What was checked, what was not, and the answer."""

    at: str
    statement: CapacityStatement | None = None
    payload_sha256: str | None = None
    signers: tuple[str, ...] = ()
    named: frozenset[str] = frozenset()  # ids of all keys that the statement's envelope names, known or not
    trusted: TrustedSet | None = None
    trust_root: str | None = None  # id, version and fingerprint
    witnesses: tuple[Witnessed, ...] = ()
    receipt: Received | None = None  # the earliest
    dated: str | None = None  # when somebody who is trusted saw the statement
    level: Level | None = None
    limits: tuple[Limit, ...] = ()  # why it is at most `trusted`
    tables: tuple[Table, ...] = ()  # of earlier releases, that it was verified with
    self_asserted: int | None = None  # records under a key that nobody enrolled
    signers_of_records: int | None = None  # distinct keys; fewer than records means that nodes shared one
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
        """Return the report for machines."""
        return {
            "accepted": not self.refused,
            "at": self.at,
            "checked": self.checked,
            "code": self.refusal.code if self.refusal else ("requirement-unmet" if self.unmet else None),
            "level": self.level,
            "not_checked": self.not_checked,
            "notes": list(self.notes),
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
            "trust_root": self.trust_root,
            "trusted_at_most": [limit._asdict() for limit in self.limits],
            "with_witness": list(self._with_witness()),
            "witnesses": [{"keyid": one.keyid, "witnessed_at": one.witnessed_at} for one in self.witnesses],
            "predicate": None if self.statement is None or self.refusal else msgspec.to_builtins(self.statement),
        }

    def _with_witness(self) -> Iterator[dict[str, Any]]:
        """Yield what of each class counts with a witness of the statement only, and whether it does."""
        for line in () if self.statement is None or self.refusal else self.statement.classes:
            if (totals := line.with_witness).devices:
                yield {
                    "pool_class": line.pool_class,
                    "precision": line.precision,
                    "choice": line.choice,
                    "devices": totals.devices,
                    "certified_mflop_s": totals.certified_mflop_s,
                    "counts": bool(self.witnesses),
                }

    def lines(self) -> list[str]:
        """Return the report for people."""
        from certify.statement.describe import describe_report

        return describe_report(self)


def verify(request: Request, progress: Callable[[int], None] = lambda records: None) -> Report:
    """Verify a statement as far as what was given allows.

    Raises:
        InputError: the request itself is wrong: no key or two, a file that cannot be read, an unknown requirement.
    """
    anchor = request.anchor
    if request.samples is not None and request.records is None:
        raise InputError("records-missing", "--samples needs --records", where="verify")
    report = Report(at=utc_text(request.at_ns))
    try:
        _verify(request, anchor, report, progress)
    except RefusedError as error:
        report.refusal = error
        report.level = None
    if report.refusal is None:
        report.unmet = list(_unmet(request.require, report))
    return report


def foreign_tables(statement: CapacityStatement) -> Iterator[str]:
    """Yield the tables that a statement binds and no release of petaseal shipped: the user gave them."""
    tables = {f"the policy {ref.policy}": ref.sha256 for ref in statement.policies}
    tables |= {
        f"the profile {statement.profile}": statement.profile_sha256,
        "the table of ratings": statement.ratings_sha256,
    }
    yield from (name for name, sha256 in tables.items() if not is_ours(sha256))


def steps_of(report: Report) -> tuple[str, ...]:
    """Return what was checked, as names that a document can hold."""
    return tuple(re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:63] for text in report.checked)


def _verify(request: Request, anchor: Anchor, report: Report, progress: Callable[[int], None]) -> None:
    at = report.at
    content = read_given(request.statement, CAPS.statement_bytes)  # 1
    now = at if request.now_ns is None else utc_text(request.now_ns)  # an old answer takes today's root
    trust, root, not_checked = open_anchor(anchor, now)  # 4
    report.trusted = trust
    report.not_checked += not_checked
    if root is not None:
        report.checked.append("trust root")
        report.trust_root = f"{root.root.trust_id}, version {root.root.version}, fingerprint {root.fingerprint}"

    def dated(opened: Opened[CapacityStatement]) -> str | None:
        dates = [request.seen_at]
        if request.witnesses or request.witnesses_beside:
            given, beside = request.witnesses, request.witnesses_beside
            report.witnesses, passed_over = gather_witnesses(given, beside, opened, trust, at)
            for path, code in passed_over:
                report.not_checked.append(f"the witness document {path.name}, which lies there: {code}")
            dates.append(dated_by(report.witnesses, most_witnesses(own_policies(opened.predicate, request))))
        if request.receipts or request.receipts_beside:
            given, beside = request.receipts, request.receipts_beside
            report.receipt, passed_over = earliest_receipt(given, beside, opened, trust, at)
            for path, code in passed_over:
                report.not_checked.append(f"the receipt {path.name}, which lies there: {code}")
            dates.append(report.receipt.received_at if report.receipt else None)
        report.dated = min((date for date in dates if date is not None), default=None)
        return report.dated

    # 1, 2, 3, 5, 6, 7, 8, 9, and the key's part of 10
    opened: Opened[CapacityStatement] = open_document(
        "capacity-statement", content, trust, at, request.statement, dated
    )
    statement = opened.predicate
    trust.check_withdrawn(opened.payload_sha256, at, request.statement)  # 10
    report.statement, report.payload_sha256 = statement, opened.payload_sha256
    report.signers, report.named = tuple(sorted(opened.signers)), opened.named
    for keyid in report.signers:
        if (entry := trust.revoked.get(keyid)) is not None:
            saved = f"accepted only because somebody who is trusted saw the statement before, at {report.dated}"
            report.notes += (f"key {keyid} was revoked at {entry.revoked_at} ({entry.reason}): {saved}",)
    policies = tuple(own_policies(statement, request))
    check_statement(statement, opened.subject_digest, at, policies, request)
    report.checked += ["signature", "issue, validity and sequence", "campaign and windows"]
    if request.demand_witnesses:
        check_witnesses(report.witnesses, policies, request.statement)
    if report.witnesses:
        report.checked.append(f"{len(report.witnesses)} witness(es)")
    if report.receipt is not None:
        report.checked.append("receipt of a registry")
    report.level, report.limits = trust.level, limits(statement)
    report.tables = earlier(ref.sha256 for ref in statement.policies)
    source = statement.campaign.challenge_source
    who = "nobody but the operator chose it" if source == "self" else f"that a {source} gave it is the operator's word"
    report.not_checked.append(f"the challenge: {who}")
    if not statement.campaign.self_issued:
        told = len(statement.campaign.earlier)
        if statement.campaign.centre_sha256 is None or not statement.campaign.policies:
            what = "for which centre file and policies the campaign was opened: they may have been chosen afterwards"
            report.not_checked.append(what)
        report.not_checked.append(f"attempts before this one ({told} named): that there were no others")
    if absent := absences_of(statement):
        report.not_checked.append(f"why {len(absent)} expected node(s) have no record: that is the operator's word")
    holdings = None
    if report.limits:  # its records are not judged
        report.not_checked += [f"records, rules, sums and verdicts: {what} [{code}]" for code, what in report.limits]
    elif request.records is None:
        check_sums(statement, request.statement)
        report.not_checked.append("records, rules, sums and verdicts: give --records")
    else:
        from certify.statement.claim import Holdings
        from certify.verify.recompute import recompute

        holdings = Holdings(statement.places) if request.others else None
        examined = recompute(request, statement, policies, trust, at, progress, holdings, report.dated)
        report.self_asserted = sum(seen.self_asserted for seen in examined.seen)
        report.signers_of_records = len({seen.signer for seen in examined.seen})
        report.tables = earlier(bound_tables(statement))
        report.checked += ["records", "run rules", "devices", "sums and verdicts"]
        report.not_checked += (f"{name} {NOT_OURS}" for name in foreign_tables(statement))
        report.level = "recomputed"
        if request.samples is not None:
            report.checked.append("samples (their digests, the 30 numbers, telemetry)")
            report.not_checked.append(NOT_IN_SAMPLES)
            report.not_checked += [f"{what} ({n})" for what, n in sorted(examined.samples.not_checked.items())]
            notes = examined.samples.issues
            report.notes += tuple(str(issue) for issue in notes.listed[:MOST_NOTES])
            if (count := notes.counts.total()) > MOST_NOTES:
                report.not_checked.append(f"only the first {MOST_NOTES} of {count} notes on samples are listed")
            report.level = "audited"
    if request.samples is None:
        report.not_checked.append("samples: give --samples")
    if request.others:
        _compare(opened, holdings, request, policies, report)
        return
    report.not_checked += late_text(check_age(statement, lambda sha256: None, policies, request.statement))
    report.not_checked.append("cross-centre duplicates: no other statement was given, and no registry asked")
    if statement.issue.previous_sha256 is not None:
        report.not_checked.append("the statement before: only its digest is known")


def _compare(
    opened: Opened[CapacityStatement],
    holdings: Holdings | None,
    request: Request,
    policies: tuple[Policy, ...],
    report: Report,
) -> None:
    """Hold the statement against the others that were given: step 18."""
    from certify.statement.claim import Claim
    from certify.statement.conflicts import compare

    assert report.trusted is not None
    unread = "its records were not judged" if report.limits else "its records were not given"
    mine = Claim(str(request.statement), opened.predicate, opened.payload_sha256, holdings, unread)
    outcome = compare(mine, request.others, report.trusted, report.at, request.accept_simulated, policies)  # 18
    if outcome.refusal is not None:
        raise outcome.refusal
    report.checked.append("other statements")
    report.notes += outcome.notes
    report.not_checked += outcome.not_checked


def _unmet(require: tuple[str, ...], report: Report) -> Iterator[str]:
    """Yield what was required and is not so: a level not reached, a condition that is not `met`."""
    assert report.statement is not None
    assert report.level is not None
    verdicts = {f"{v.policy}/{v.condition}": v.verdict for v in report.statement.verdicts}
    for wanted in require:
        if wanted in LEVELS:
            reached = LEVELS.index(report.level) >= LEVELS.index(wanted)
            if not reached or (wanted == "trusted" and "trust root" not in report.checked):
                yield f"level {wanted} is required, and {report.level} was reached"
        elif wanted in verdicts:
            if LEVELS.index(report.level) < LEVELS.index("recomputed"):  # so far it is only what the signer says
                why = report.limits[0].what if report.limits else "give --records"
                yield f"{wanted} is required to be met, and was not recomputed: {why}"
            elif verdicts[wanted] != "met":
                yield f"{wanted} is required to be met, and is {verdicts[wanted]}"
        else:
            known = ", ".join([*LEVELS, *verdicts])
            raise InputError("unknown-name", f"there is no {wanted!r}", where="--require", fix=f"use one of {known}")
