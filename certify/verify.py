"""``petaseal verify``: is this statement true to its records, and who says so (docs/verification.md).

The numbered steps are those of ``docs/verification.md``. The first that fails refuses with its reason code; whatever
was not checked is reported as such. Neither numpy nor torch is ever imported here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import msgspec

from bench.errors import InputError, PetasealError, RefusedError
from bench.record import RULES_VERSION, Profile, config_names, digest, encode, read_bytes
from bench.units import utc_ns, utc_text
from certify import keys
from certify.aggregate import Scope, accepted_holds, counting_of, identities_of
from certify.baseline import baseline_facts, open_baseline
from certify.campaign import check_campaign, check_policies, find_profile, is_installed
from certify.caps import CAPS
from certify.centre import centre_problem
from certify.documents import Level, Opened, open_document
from certify.issue import DAY_NS
from certify.merkle import record_root
from certify.policy import Policy, load_policy
from certify.ratings import installed_ratings
from certify.records import Examined, Examiner, examine
from certify.statement import Basis, CapacityStatement, absences_of, build
from certify.trust import TrustedSet, load_trust_root

LEVELS: tuple[Level, ...] = get_args(Level)  # ascending


@dataclass(frozen=True)
class Request:
    """What ``petaseal verify`` was asked for. Time is passed in."""

    statement: Path
    at_ns: int  # the moment that the answer is for
    now_ns: int | None = None  # the present, at which a trust root must be fresh; None: the same moment
    trust: Path | None = None
    public_key: Path | None = None
    records: Path | None = None
    samples: Path | None = None
    baseline: Path | None = None
    require: tuple[str, ...] = ()
    policies: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()
    accept_simulated: bool = False


@dataclass
class Report:
    """What was checked, what was not, and the answer."""

    at: str
    statement: CapacityStatement | None = None
    payload_sha256: str | None = None
    signers: tuple[str, ...] = ()
    level: Level | None = None
    self_asserted: int | None = None  # records under a key that nobody enrolled
    signers_of_records: int | None = None  # distinct keys; fewer than records means that nodes shared one
    checked: list[str] = field(default_factory=list)
    not_checked: list[str] = field(default_factory=list)
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
            "payload_sha256": self.payload_sha256,
            "reason": str(self.refusal) if self.refusal else "; ".join(self.unmet) or None,
            "self_asserted_records": self.self_asserted,
            "signers_of_records": self.signers_of_records,
            "signers": list(self.signers),
            "predicate": None if self.statement is None or self.refusal else msgspec.to_builtins(self.statement),
        }

    def lines(self) -> list[str]:
        """Return the report for people."""
        from certify.describe import describe_report

        return describe_report(self)


def verify(request: Request, progress: Callable[[int], None] = lambda records: None) -> Report:
    """Verify a statement as far as what was given allows.

    Raises:
        InputError: the request itself is wrong: no key or two, a file that cannot be read, an unknown requirement.
    """
    if (request.trust is None) == (request.public_key is None):
        raise InputError("trust-missing", "needs exactly one of --trust and --public-key", where="verify")
    if request.samples is not None and request.records is None:
        raise InputError("records-missing", "--samples needs --records", where="verify")
    report = Report(at=utc_text(request.at_ns))
    try:
        _verify(request, report, progress)
    except RefusedError as error:
        report.refusal = error
        report.level = None
    if report.refusal is None:
        report.unmet = list(_unmet(request.require, report))
    return report


def _verify(request: Request, report: Report, progress: Callable[[int], None]) -> None:
    at = report.at
    content = read_bytes(request.statement, CAPS.statement_bytes)  # 1
    if request.trust is not None:
        now = at if request.now_ns is None else utc_text(request.now_ns)  # an old answer takes today's root
        _, trust = load_trust_root(read_bytes(request.trust, CAPS.trust_bytes), now, request.trust)  # 4
        report.checked.append("trust root")
    else:
        assert request.public_key is not None
        trust = TrustedSet.single(keys.load_public(request.public_key))
        report.not_checked.append("trust: the key was given by --public-key; its role, centre and validity are yours")
    # 1, 2, 3, 5, 6, 7, 8, 9, and the key's part of 10
    opened: Opened[CapacityStatement] = open_document("capacity-statement", content, trust, at, request.statement)
    statement = opened.predicate
    report.statement, report.payload_sha256 = statement, opened.payload_sha256
    report.signers = tuple(sorted(opened.signers))
    check_statement(statement, opened.subject_digest, at, request)
    report.checked += ["signature", "issue, validity and sequence", "campaign and windows"]
    report.level = trust.level
    report.not_checked.append("cross-centre duplicates: there is no registry")
    source = statement.campaign.challenge_source
    who = "nobody but the operator chose it" if source == "self" else f"that a {source} gave it is the operator's word"
    report.not_checked.append(f"the challenge: {who}")
    if not statement.campaign.self_issued:
        told = len(statement.campaign.earlier)
        report.not_checked.append(f"attempts before this one ({told} named): that there were no others")
    if absent := absences_of(statement):
        report.not_checked.append(f"why {len(absent)} expected node(s) have no record: that is the operator's word")
    if statement.issue.previous_sha256 is not None:
        report.not_checked.append("the statement before: only its digest is known")
    if request.records is None:
        report.not_checked.append("records, rules, sums and verdicts: give --records")
    else:
        examined = recompute(request, statement, trust, at, progress)
        report.self_asserted = sum(seen.self_asserted for seen in examined.seen)
        report.signers_of_records = len({seen.signer for seen in examined.seen})
        report.checked += ["records", "run rules", "devices", "sums and verdicts"]
        if not is_installed(statement.profile_sha256):
            what = "is none of petaseal's: you gave it, and what it demands is yours to judge"
            report.not_checked.append(f"the profile {statement.profile} {what}")
        report.level = "recomputed"
        if request.samples is not None:
            from certify.samples import audit

            audit(request.records, request.samples)  # 17
            report.checked.append("samples (their digests and the 30 numbers)")
            report.not_checked.append("operands made anew (R2), telemetry and steadiness against the samples")
            report.level = "audited"
    if request.samples is None:
        report.not_checked.append("samples: give --samples")


def check_statement(statement: CapacityStatement, root: str, at: str, request: Request) -> None:
    """Check what a statement says of itself: steps 10 to 12, and whether a simulated one is wanted.

    Raises:
        RefusedError: with the code of the first fault.
    """
    where, issue = request.statement, statement.issue
    if statement.rules != RULES_VERSION:
        raise RefusedError("rules-differ", f"follows the rules {statement.rules}, not {RULES_VERSION}", where=where)
    if statement.simulated and not request.accept_simulated:
        raise RefusedError("simulated", "was measured on simulated devices and proves nothing", where=where)
    if at < issue.issued_at:  # 10
        raise RefusedError("not-yet-valid", f"is issued at {issue.issued_at}, after {at}", where=where)
    if at >= issue.valid_until:
        raise RefusedError("expired", f"was valid until {issue.valid_until}", where=where)
    allowed = min((policy.valid_days_max for policy in _policies(statement, request)), default=366)
    if utc_ns(issue.valid_until) - utc_ns(issue.issued_at) > allowed * DAY_NS:
        raise RefusedError("validity-too-long", f"is valid for more than the {allowed} days allowed", where=where)
    if (issue.sequence == 1) != (issue.previous_sha256 is None):  # 11
        raise RefusedError("sequence-invalid", "a further statement names the one before, the first none", where=where)
    if not set(issue.supersedes) <= {issue.previous_sha256}:
        raise RefusedError("sequence-invalid", "supersedes another statement than the one before", where=where)
    if digest(statement.campaign) != statement.campaign_sha256 or digest(statement.centre) != statement.centre_sha256:
        raise RefusedError("campaign-differs", "binds another campaign or centre than it holds", where=where)  # 12
    if (problem := centre_problem(statement.centre)) is not None:
        raise RefusedError(*problem, where=where)
    check_campaign(statement.campaign, statement.centre, statement.starts_at, issue.issued_at)
    check_policies(statement.campaign, _policies(statement, request))
    if not statement.measured_from <= statement.measured_until <= issue.issued_at:
        raise RefusedError("times-reversed", "is issued before its measurement ended", where=where)
    if (statement.centre.baseline is None) != (statement.baseline_sha256 is None):
        raise RefusedError("baseline-differs", "binds a baseline, or none, against its centre file", where=where)
    if root != statement.records_root:
        raise RefusedError("records-root", "names one Merkle root as its subject and another inside", where=where)


def recompute(
    request: Request, statement: CapacityStatement, trust: TrustedSet, at: str, progress: Callable[[int], None]
) -> Examined:
    """Open, judge and add up all records, build the statement anew and compare: steps 13 to 16.

    Raises:
        RefusedError: with the code of the first fault.
    """
    assert request.records is not None
    where, campaign = request.statement, statement.campaign
    profile: Profile = find_profile(campaign, request.profiles)
    ratings = installed_ratings()
    if statement.ratings_sha256 != ratings.digest:
        raise RefusedError("ratings-unknown", "was computed with other ratings than this verifier's", where=where)
    policies = tuple(_policies(statement, request))
    baseline = open_baseline(request.baseline, statement.centre, trust, at)
    if statement.baseline_sha256 != (baseline.payload_sha256 if baseline else None):
        wanted = statement.baseline_sha256
        raise RefusedError(
            "baseline-differs",
            f"binds the baseline {wanted[:16]}…" if wanted else "binds no baseline",
            where=where,
            fix="give that file with --baseline" if wanted else "leave --baseline out",
        )
    scope = Scope(
        centre=statement.centre,
        campaign=campaign,
        campaign_sha256=statement.campaign_sha256,
        starts_at=statement.starts_at,
        profile=profile,
        profile_sha256=campaign.profile_sha256,
        ratings=ratings,
        counting=counting_of(policies, statement.centre),
        accept=accepted_holds(policies),
        existing=identities_of(baseline.predicate) if baseline else frozenset(),
    )
    examined = examine(Examiner(request.records, scope, trust, at), progress)  # 13, 14, 15
    digests = [seen.payload_sha256 for seen in examined.seen]
    if request.records.is_dir():
        digests.sort()  # a folder has no order of its own
    if len(digests) != statement.records:
        raise RefusedError(
            "records-count", f"counts {statement.records} records, and there are {len(digests)}", where=where
        )
    if record_root(digests) != statement.records_root:
        raise RefusedError("records-root", "binds other records: the Merkle root differs", where=where)
    basis = Basis(scope, policies, *baseline_facts(baseline), absences_of(statement))
    again = build(examined.tally, statement.records_root, basis, statement.issue)  # 16
    if encode(again) != encode(statement):
        raise RefusedError(
            "statement-differs", f"says something else than its records: {_difference(statement, again)}", where=where
        )
    return examined


def _policies(statement: CapacityStatement, request: Request) -> Iterator[Policy]:
    """Yield the verifier's own policies of the names that the statement gives."""
    given = {policy.policy: policy for policy in map(load_policy, request.policies)}
    installed = config_names("policies")  # the statement names a policy; it never chooses a file
    if len({ref.policy for ref in statement.policies}) != len(statement.policies):
        raise RefusedError("policy-twice", "was judged twice by one policy", where=request.statement)
    for ref in statement.policies:
        if ref.policy in given:
            policy = given[ref.policy]
        elif ref.policy in installed:
            policy = load_policy(ref.policy)
        else:
            raise RefusedError(
                "policy-unknown",
                f"was judged by the policy {ref.policy}, which this verifier does not have",
                where=request.statement,
                fix="give its file with --policy",
            )
        if digest(policy) != ref.sha256:
            raise RefusedError(
                "policy-unknown",
                f"was judged by another policy {ref.policy} than this verifier's",
                where=request.statement,
            )
        yield policy


def _difference(stated: CapacityStatement, computed: CapacityStatement) -> str:
    """Return the path of the first field that differs, and both values."""

    def walk(a: Any, b: Any, path: str) -> str | None:
        if type(a) is not type(b):
            return f"{path} is {a!r}, computed {b!r}"
        if isinstance(a, dict):
            keys = sorted(a.keys() | b.keys())
            return next((d for k in keys if (d := walk(a.get(k), b.get(k), f"{path}.{k}".lstrip(".")))), None)
        if isinstance(a, list | tuple) and len(a) == len(b):
            return next(
                (d for i, (x, y) in enumerate(zip(a, b, strict=True)) if (d := walk(x, y, f"{path}[{i}]"))), None
            )
        if isinstance(a, list | tuple):
            return f"{path} has {len(a)} entries, computed {len(b)}"
        return None if a == b else f"{path} is {a!r}, computed {b!r}"

    return walk(msgspec.to_builtins(stated), msgspec.to_builtins(computed), "") or "nothing"


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
                yield f"{wanted} is required to be met, and was not recomputed: give --records"
            elif verdicts[wanted] != "met":
                yield f"{wanted} is required to be met, and is {verdicts[wanted]}"
        else:
            known = ", ".join([*LEVELS, *verdicts])
            raise InputError("unknown-name", f"there is no {wanted!r}", where="--require", fix=f"use one of {known}")
