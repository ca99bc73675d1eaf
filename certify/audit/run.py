"""``petaseal audit DIR``: a statement compared with its raw samples, every fault listed.

The rules, sums and verdicts are those of `petaseal verify`, on figures that were rebuilt from the samples. Where a
verifier refuses at the first fault, an audit goes on and lists them all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from bench.errors import InputError, RefusedError
from bench.units import utc_text
from certify.documents.kinds import Baseline, OpenedDocument
from certify.documents.merkle import record_root
from certify.documents.statement import CapacityStatement
from certify.policy.lines import line
from certify.policy.policies import Policy
from certify.policy.released import given_policy
from certify.samples.summary import Issues, SampleIssue
from certify.statement.baseline import open_baseline
from certify.statement.build import StatementInputs, build
from certify.statement.campaign import check_campaign, find_profile
from certify.statement.claim import open_attested
from certify.statement.records import Audit, Examined, Examiner, examine, inspector_of
from certify.trust.dating import not_read_in
from certify.trust.opening import Verifier
from certify.trust.store import Anchor, open_anchor
from certify.verify.evidence import Evidence
from certify.verify.recompute import Difference, differences, plain
from certify.verify.statement_checks import bound_policies, bound_ratings, check_contents, limits

STATEMENT, RECORDS = "statement.dsse.json", "records.jsonl"
SUMS = frozenset(  # fields of a statement that add up; what else differs has a code of its own
    ["pools", "classes", "shown", "bookkeeping", "inventory", "grade", "simulated", "measured_from", "measured_until"]
)
BY_BASELINE = frozenset(  # fields of a verdict on what is newly added
    (
        "verdict",
        "reason",
        "bases",
        "growth",
        "upper_mflop_s",
        "on_hold_certified_mflop_s",
        "untested_nominal_mflop_s",
        "without_rating",
        "nodes_missing",
        "missing_at_most_mflop_s",
    )
)
KEYED = {  # lists whose entries are known by some of their fields, and the code where one differs
    "ceilings": (("pool", "precision", "choice", "vendor", "model", "step", "limit"), "sums-differ"),
    "findings": (("code", "workload"), "findings-differ"),
    "not_counted": (("node_id", "device", "workload"), "codes-differ"),
    "verdicts": (("policy", "condition"), "verdict-differs"),
}


@dataclass(frozen=True)
class AuditRequest:
    """The request of ``petaseal audit``. Time is passed in."""

    folder: Path
    at_ns: int
    anchor: Anchor
    now_ns: int | None = None  # the present, at which a trust root must be fresh; None: the same moment
    statement: Path | None = None
    records: Path | None = None
    samples: Path | None = None
    baseline: Path | None = None
    policies: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()
    ratings: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    witnesses: tuple[Path, ...] = ()  # beside those that lie with the statement
    receipts: tuple[Path, ...] = ()  # likewise


@dataclass
class AuditReport:
    """The recomputed statement, and every issue in which the signed one differs from it."""

    at: str
    statement: CapacityStatement
    payload_sha256: str
    signers: tuple[str, ...]
    policies: tuple[Policy, ...] = ()
    examined: Examined = field(default_factory=Examined)
    again: CapacityStatement | None = None  # the statement that records and samples give; None: no record is left
    not_checked: tuple[str, ...] = ()

    @property
    def all_issues(self) -> Issues:
        """All issues in the order of their report."""
        return self.examined.samples.issues

    @property
    def issues(self) -> list[SampleIssue]:
        """The listed issues, those that weigh first, each code together."""
        return sorted(self.all_issues.listed, key=lambda issue: (not issue.weighs, issue.code, issue.where))

    @property
    def against(self) -> int:
        """How many issues make the answer no: all but notes."""
        return self.all_issues.weighing


class Verified(NamedTuple):
    """A statement whose signature holds, the verifier that opened it, and what was not checked."""

    verifier: Verifier  # of what the statement binds
    opened: OpenedDocument[CapacityStatement]
    not_checked: tuple[str, ...]


def open_statement(
    path: Path,
    anchor: Anchor,
    at: str,
    now: str,
    witnesses: tuple[Path, ...] = (),
    policies: tuple[Policy, ...] = (),
    receipts: tuple[Path, ...] = (),
) -> Verified:
    """Return a statement after its signatures, form and revocation were checked; its numbers are not looked at.

    Raises:
        InputError: a file cannot be read.
        RefusedError: with the code of the first fault.
    """
    trust, _, not_checked = open_anchor(anchor, now)
    opened, verifier = open_attested(path, Verifier(trust, at), witnesses, policies, receipts=receipts)
    return Verified(verifier, opened, (*not_checked, *not_read_in(path.parent)))


def audit(request: AuditRequest, progress: Callable[[int], None] = lambda records: None) -> AuditReport:
    """Audit a folder with a statement, its records and their samples.

    Raises:
        InputError: files are missing or are not what they should be.
        RefusedError: the statement or a record is not whole, or was judged by what this auditor does not have.
    """
    at = utc_text(request.at_ns)
    now = at if request.now_ns is None else utc_text(request.now_ns)
    if not request.folder.is_dir():
        raise InputError("records-not-folder", "is not a folder", where=request.folder)
    file, given = request.statement or request.folder / STATEMENT, tuple(map(given_policy, request.policies))
    verified = open_statement(file, request.anchor, at, now, request.witnesses, given, request.receipts)
    opened, s = verified.opened, verified.opened.predicate
    if unknown := set(request.nodes) - {node.node_id for node in s.campaign.nodes}:
        raise InputError("unknown-name", f"the campaign has no node {min(unknown)}", where="--node")
    if exceeded := list(limits(s)):
        raise RefusedError(*exceeded[0], where=file)
    evidence = Evidence(file, policies=request.policies, ratings=request.ratings)
    policies, baseline = tuple(bound_policies(s, evidence)), _baseline(request, s, verified.verifier)
    profile = find_profile(s.campaign, request.profiles)
    inputs = StatementInputs.of_statement(s, policies, profile, bound_ratings(s, evidence), baseline)
    examiner = Examiner(
        find_records(request.folder, request.records),
        inputs.scope,
        verified.verifier,
        inspector=inspector_of(_folders(request), inputs.scope, audit=True),
        audit=Audit(frozenset(request.nodes)),
    )
    report = AuditReport(at, s, opened.payload_sha256, tuple(sorted(opened.signers)), policies)
    report.examined = examine(examiner, progress)
    # `dict.fromkeys`: one contradiction of a campaign may be met by its own check and by the statement's.
    for issue in dict.fromkeys((*_binding(opened, policies), *_records(report, examiner.source))):
        report.all_issues.report(*issue)
    if report.examined.tally.node_ids:  # of no record at all there is no sum to compare
        report.again = build(
            report.examined.tally, s.records_root, replace(inputs, baseline_sha256=s.baseline_sha256), s.issue
        )
        unknown_baseline = s.baseline_sha256 is not None and baseline is None
        for issue in compare(s, report.again, unknown_baseline):
            report.all_issues.report(*issue)
    report.not_checked = (*verified.not_checked, *_not_checked(report, baseline))
    return report


def _baseline(request: AuditRequest, s: CapacityStatement, verifier: Verifier) -> OpenedDocument[Baseline] | None:
    baseline = open_baseline(request.baseline, s.centre, verifier)
    if baseline is not None and baseline.payload_sha256 != s.baseline_sha256:
        what = "is not the baseline that the statement binds"
        raise RefusedError("baseline-differs", what, where=request.baseline)
    return baseline


def find_records(folder: Path, named: Path | None) -> Path:
    """Return where the records are: what was named, records.jsonl, or the folder ``records``.

    Raises:
        InputError: `records-missing`.
    """
    if named is not None:
        return named
    present = next((p for p in (folder / RECORDS, folder / "records") if p.exists()), None)
    if present is None:
        what = f"holds neither {RECORDS} nor a folder records"
        raise InputError("records-missing", what, where=folder, fix="name them with --records")
    return present


def _folders(request: AuditRequest) -> tuple[Path, ...]:
    """Return where samples may lie, in the order in which they are looked for."""
    if request.samples is not None:
        if not request.samples.is_dir():
            raise InputError("file-missing", "is not a folder", where=request.samples)
        return (request.samples,)
    return tuple(p for name in ("samples", "records", ".") if (p := request.folder / name).is_dir())


def _binding(opened: OpenedDocument[CapacityStatement], policies: tuple[Policy, ...]) -> Iterator[SampleIssue]:
    """Yield each contradiction within a statement or its campaign."""
    s = opened.predicate
    try:
        check_contents(s, opened.subject_digest, policies, "the statement")
    except RefusedError as error:
        yield SampleIssue(
            error.code, error.where or "the statement", error.what
        )  # perhaps what follows, which comes once
    try:
        check_campaign(s.campaign, s.centre, s.starts_at, s.issue.issued_at)
    except RefusedError as error:
        yield SampleIssue(error.code, error.where or "the campaign", error.what)


def _records(report: AuditReport, source: Path) -> Iterator[SampleIssue]:
    """Yield an issue for each way in which the records are not the set that the statement binds."""
    s, digests = report.statement, [seen.payload_sha256 for seen in report.examined.seen]
    ascending = sorted(digests)
    if len(digests) != s.records:
        yield SampleIssue(
            "records-count", "the records", f"the statement counts {s.records}, and there are {len(digests)}"
        )
    elif len(set(digests)) < len(digests) or record_root(ascending) != s.records_root:
        yield SampleIssue("records-root", "the records", "the statement binds others: the Merkle root differs")
    if digests != ascending and not source.is_dir():  # a folder has no order of its own
        yield SampleIssue("records-unsorted", "the records", "do not stand in the order of their digests")


def compare(s: CapacityStatement, again: CapacityStatement, unknown_baseline: bool = False) -> Iterator[SampleIssue]:
    """Yield an issue for every field in which a statement differs from the one that its records and samples give.

    Args:
        s: as it is signed.
        again: as it was recomputed.
        unknown_baseline: the statement binds a baseline that was not given, so that what is newly added is not known.
    """
    stated, made = plain(s), plain(again)
    for name, (fields, code) in KEYED.items():
        a, b = stated.pop(name), made.pop(name)
        yield from _entries(code, _by_key(a, fields), _by_key(b, fields), unknown_baseline)
        if [_key(entry, fields) for entry in a] != [_key(entry, fields) for entry in b]:
            yield SampleIssue(
                code, "the whole", f"{name} has other entries, one twice, or another order than its records give"
            )
    for difference in differences(stated, made):
        top = str(difference.path[0])
        if unknown_baseline and "existing" in difference.path:
            continue
        if top != "records":  # `records-count` says it
            yield _issue(difference, s, "sums-differ" if top in SUMS else "statement-differs")


Key = tuple[Any, ...]


def _key(entry: dict[str, Any], fields: tuple[str, ...]) -> Key:
    return tuple(entry[name] for name in fields)


def _by_key(entries: list[dict[str, Any]], fields: tuple[str, ...]) -> dict[Key, dict[str, Any]]:
    return {_key(entry, fields): entry for entry in entries}


def _entries(
    code: str, stated: dict[Key, dict[str, Any]], made: dict[Key, dict[str, Any]], unknown_baseline: bool
) -> Iterator[SampleIssue]:
    """Yield each entry of a list that differs, is missing or should not be there."""
    for key in sorted(stated.keys() | made.keys(), key=str):
        a, b = stated.get(key, {}), made.get(key, {})
        if a and b and unknown_baseline and _needs_baseline(b):
            a, b = ({field: value for field, value in entry.items() if field not in BY_BASELINE} for entry in (a, b))
        if a == b:
            continue
        where = "/".join(str(part) for part in key if part is not None)
        what = "; ".join(str(one) for one in differences(a, b)) if a and b else None
        yield SampleIssue(
            code, where, what or f"the statement says {_said(a)}, its records and samples give {_said(b)}"
        )


def _said(entry: dict[str, Any]) -> str:
    """Return an entry's codes or its number, for a sentence on an entry that only one side has."""
    if not entry:
        return "nothing"
    return (
        ", ".join(entry["codes"])
        if "codes" in entry
        else str(entry.get("devices", entry.get("figures", entry.get("verdict"))))
    )


def _needs_baseline(verdict: dict[str, Any]) -> bool:
    return verdict.get("counted") == "newly_added" or verdict.get("growth") is not None


def _issue(difference: Difference, s: CapacityStatement, code: str) -> SampleIssue:
    top, *rest = difference.path
    where = "the whole"
    if top in ("pools", "classes") and rest and isinstance(rest[0], int):
        pools = [f"pool {line.pool}" for line in s.pools], [f"class {line.pool_class}" for line in s.classes]
        where = pools[top == "classes"][rest[0]]
        difference = difference._replace(path=tuple(rest[1:]))
    return SampleIssue(code, where, str(difference))


def _not_checked(report: AuditReport, baseline: OpenedDocument[Baseline] | None) -> Iterator[str]:
    yield line("samples-blind")
    yield "validity and sequence: petaseal verify looks at them"
    yield "what was read before the load: ECC errors and foreign processes are checked as lower bounds"
    for what, count in sorted(report.examined.samples.not_checked.items()):
        yield f"{what} ({count})"
    if report.statement.baseline_sha256 is not None and baseline is None:
        yield "what is newly added: give the signed inventory with --baseline"
    for policy in report.policies:
        if policy.witnesses:
            yield f"witnesses: the policy {policy.policy} demands {policy.witnesses}; petaseal verify looks for them"
    if (count := report.all_issues.counts.total()) > len(report.all_issues.listed):
        yield f"only the first {len(report.all_issues.listed)} of {count} findings are listed"
