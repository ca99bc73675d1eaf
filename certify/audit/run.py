"""``petaseal audit DIR``: every number of a statement made anew from the raw samples, and the chain of reasoning.

The rim: reads files, spreads the records over the cores, compares what comes back with the statement.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from bench.errors import InputError, RefusedError
from bench.record import digest, identifier
from bench.units import utc_text
from certify.audit.ground import MOST_ISSUES, Ground, Issue, Part
from certify.audit.judging import NOT_RECOMPUTED
from certify.audit.node import audit_record
from certify.audit.sums import binding, compare, holds_not_split
from certify.audit.telemetry import Copies
from certify.audit.thresholds import Judged, judged
from certify.documents.kinds import Baseline, Opened, open_record
from certify.policy.policies import Policy, load_policy
from certify.policy.ratings import installed_ratings
from certify.statement.baseline import open_baseline
from certify.statement.build import CapacityStatement
from certify.statement.campaign import find_profile
from certify.statement.claim import open_dated
from certify.statement.records import Chunk, chunks_of, envelopes
from certify.trust.store import Anchor, open_anchor
from certify.trust.trusted_set import TrustedSet
from certify.workers import spread

STATEMENT, RECORDS = "statement.dsse.json", "records.jsonl"
FILES_AT_ONCE = 8  # records of one share: reading the samples of one takes up to a second
BYTES_AT_ONCE = 2**17
PARALLEL_FROM_RECORDS_BYTES = 2**18  # some thirty records: below, starting processes costs more than it saves


@dataclass(frozen=True)
class Request:
    """What ``petaseal audit`` was asked for. Time is passed in."""

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
    nodes: tuple[str, ...] = ()
    witnesses: tuple[Path, ...] = ()  # beside those that lie with the statement
    receipts: tuple[Path, ...] = ()  # likewise


@dataclass
class Report:
    """What the audit made anew, and where the statement says something else."""

    at: str
    statement: CapacityStatement
    payload_sha256: str
    signers: tuple[str, ...]
    part: Part = field(default_factory=Part)
    judged: tuple[Judged, ...] = ()
    not_checked: tuple[str, ...] = ()

    @property
    def issues(self) -> list[Issue]:
        """What was found, the graver first, each kind together."""
        return sorted(self.part.issues, key=lambda issue: (not issue.weighs, issue.code, issue.where))

    @property
    def against(self) -> int:
        """How many findings weigh: all but notes."""
        return sum(n for code, n in self.part.issue_counts.items() if Issue(code, "", "").weighs)


class Verified(NamedTuple):
    """A statement whose signature holds, the keys that count, and what was not checked of them."""

    trust: TrustedSet
    opened: Opened[CapacityStatement]
    not_checked: tuple[str, ...]
    dated: str | None = None  # when witnesses or a registry saw it


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
    trust, _, untold = open_anchor(anchor, now)
    opened, dated = open_dated(path, trust, at, witnesses, policies, receipts=receipts)
    return Verified(trust, opened, untold, dated)


def audit(request: Request, progress: Callable[[int], None] = lambda records: None) -> Report:
    """Audit a folder with a statement, its records and their samples.

    Raises:
        InputError: files are missing or are not what they should be.
        RefusedError: the statement or a record is not whole, or was judged by what this auditor does not have.
    """
    at = utc_text(request.at_ns)
    now = at if request.now_ns is None else utc_text(request.now_ns)
    if not request.folder.is_dir():
        raise InputError("records-not-folder", "is not a folder", where=request.folder)
    file, given = request.statement or request.folder / STATEMENT, tuple(map(load_policy, request.policies))
    trust, opened, untold, dated = open_statement(
        file, request.anchor, at, now, request.witnesses, given, request.receipts
    )
    ground = _ground(request, opened.predicate, trust, at, dated)
    if unknown := set(request.nodes) - ground.places.keys():
        raise InputError("unknown-name", f"the campaign has no node {min(unknown)}", where="--node")
    report = Report(at, opened.predicate, opened.payload_sha256, tuple(sorted(opened.signers)))
    examiner = Auditor(find_records(request.folder, request.records), _folders(request), ground, trust, at, dated)
    part = report.part
    copies, seen = Copies(), _Identities(part)
    for one in examiner.parts():
        part.add(one)
        for place, own, board in one.prints:
            for finding in copies.see(place, own, board):
                part.tell(finding.code, place, finding.detail)
        seen.see(one)
        progress(part.records)
    if not part.records:
        raise InputError("no-records", "there is no record", where=request.folder)
    seen.check_parents()
    for code, where, what in (*binding(ground), *compare(part, ground)):
        part.tell(code, where, what)
    report.judged = tuple(judged(ground, part))
    sure = not holds_not_split(ground)
    for one_of in report.judged:
        needs_baseline = getattr(one_of.condition, "counted", "all") == "newly_added" and ground.existing is None
        if sure and not needs_baseline and not one_of.agrees:
            what = f"made anew it is {_answer(one_of.answer)}, and the statement says {_answer(one_of.told)}"
            part.tell("verdict-differs", f"{one_of.policy.policy}/{one_of.condition.condition}", what)
    report.not_checked = (*untold, *_not_checked(ground, part))
    return report


def _answer(answer: tuple[str, str | None]) -> str:
    return answer[0] + (f" ({answer[1]})" if answer[1] else "")


def _ground(request: Request, s: CapacityStatement, trust: TrustedSet, at: str, dated: str | None) -> Ground:
    where = request.statement or request.folder
    if s.ratings_sha256 != installed_ratings().digest:
        raise RefusedError("ratings-unknown", "was computed with other ratings than this auditor's", where=where)
    baseline = open_baseline(request.baseline, s.centre, trust, at, dated)
    existing: frozenset[tuple[str, str]] | None = frozenset()
    if baseline is not None:
        if baseline.payload_sha256 != s.baseline_sha256:
            raise RefusedError(
                "baseline-differs", "is not the baseline that the statement binds", where=request.baseline
            )
        existing = frozenset(_existing(baseline.predicate))
    elif s.baseline_sha256 is not None:
        existing = None
    policies = tuple(_policies(request, s))
    counted = {name for policy in policies for name in policy.counting}
    if uncounted := {pool.pool_class for pool in s.centre.pools} - counted:
        what = f"has a pool of the class {min(uncounted)}, which its policies do not count"
        raise RefusedError("policy-unknown", what, where=where)
    return Ground(
        statement=s,
        profile=find_profile(s.campaign, request.profiles),
        policies=policies,
        existing=existing,
        nodes=frozenset(request.nodes),
    )


def _existing(baseline: Baseline) -> Iterator[tuple[str, str]]:
    for device in baseline.devices:
        for name in ("uuid", "serial", "die_id"):
            if (found := identifier(getattr(device, name))) is not None:
                yield name, found


def _policies(request: Request, s: CapacityStatement) -> Iterator[Policy]:
    given = {policy.policy: policy for policy in map(load_policy, request.policies)}
    for ref in s.policies:
        try:
            policy = given[ref.policy] if ref.policy in given else load_policy(str(ref.policy))
        except InputError:
            policy = None
        if policy is None or digest(policy) != ref.sha256:
            raise RefusedError(
                "policy-unknown",
                f"was judged by a policy {ref.policy} that this auditor does not have",
                where=request.statement or request.folder,
                fix="give its file with --policy",
            )
        yield policy


def find_records(folder: Path, named: Path | None) -> Path:
    """Return where the records are: what was named, records.jsonl, or the folder ``records``.

    Raises:
        InputError: `records-missing`.
    """
    if named is not None:
        return named
    found = next((p for p in (folder / RECORDS, folder / "records") if p.exists()), None)
    if found is None:
        what = f"holds neither {RECORDS} nor a folder records"
        raise InputError("records-missing", what, where=folder, fix="name them with --records")
    return found


def _folders(request: Request) -> tuple[Path, ...]:
    """Return where samples may lie, in the order in which they are looked for."""
    if request.samples is not None:
        if not request.samples.is_dir():
            raise InputError("file-missing", "is not a folder", where=request.samples)
        return (request.samples,)
    return tuple(p for name in ("samples", "records", ".") if (p := request.folder / name).is_dir())


@dataclass(frozen=True)
class Auditor:
    """Audits the records of one share; runs in a worker process."""

    source: Path
    folders: tuple[Path, ...]
    ground: Ground
    trust: TrustedSet
    at: str
    dated: str | None = None  # when witnesses or a registry saw the statement

    def __call__(self, chunk: Chunk) -> Part:
        """Return what was found in a share.

        Raises:
            RefusedError: a record is not whole.
        """
        part = Part()
        for where, content in envelopes(self.source, chunk):
            opened = open_record(content, self.trust, self.at, where, self.dated)
            audit_record(opened, self.folders, self.ground, part)
        return part

    def parts(self) -> Iterable[Part]:
        """Return what was found, share by share."""
        shares, size = chunks_of(self.source)
        small = [piece for share in shares for piece in _pieces(share)]
        return spread(self, small, parallel=size >= PARALLEL_FROM_RECORDS_BYTES, where=self.source)


def _pieces(share: Chunk) -> Iterator[Chunk]:
    for i in range(0, len(share.paths), FILES_AT_ONCE):
        yield Chunk(share.paths[i : i + FILES_AT_ONCE])
    if not share.paths:
        for at in range(share.start, share.end, BYTES_AT_ONCE):
            yield Chunk((), at, min(at + BYTES_AT_ONCE, share.end))


class _Identities:
    """Tells of a node or device that is there twice, and of a part beside its whole."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self._nodes: set[str] = set()
        self._seen: dict[str, str] = {}
        self._parents: dict[str, str] = {}

    def see(self, one: Part) -> None:
        """Look at some records."""
        for node in one.nodes:
            if node in self._nodes:
                self._part.tell("node-twice", node, "has two records")
            self._nodes.add(node)
        for place, own, parent in one.identities:
            for key in own:
                if (other := self._seen.setdefault(key, place)) != place:
                    self._part.tell("duplicate-device", place, f"is the same device as {other} ({key.split()[0]})")
            if parent is not None:
                self._parents[parent] = place

    def check_parents(self) -> None:
        """Look for wholes of which a part was seen."""
        for parent, place in self._parents.items():
            whole = next(
                (f for name in ("uuid", "serial", "die_id") if (f := self._seen.get(f"{name} {parent}"))), None
            )
            if whole is not None:
                self._part.tell("parent-and-slice", place, f"is a part of {whole}")


def _not_checked(ground: Ground, part: Part) -> Iterator[str]:
    yield f"rules taken from the statement: {'; '.join(NOT_RECOMPUTED)}"
    yield "how many launches there were: the samples hold their times, the record their number"
    yield "what was read before the load: ECC errors and foreign processes are checked as lower bounds"
    for what, count in sorted(part.not_checked.items()):
        yield f"{what} ({count})"
    if ground.existing is None:
        yield "what is newly added: give the signed inventory with --baseline"
    if holds := holds_not_split(ground):
        yield f"which devices are on the accepted holds {', '.join(holds)}, and verdicts that may rest on them"
    for policy in ground.policies:
        if policy.witnesses:
            yield f"witnesses: the policy {policy.policy} demands {policy.witnesses}; petaseal verify looks for them"
    if ground.statement.shown:
        yield "sums of workloads that are shown and do not count"
    if part.issue_counts.total() > MOST_ISSUES:
        yield f"only the first {MOST_ISSUES} findings are listed"
