"""What a statement says of itself, and by which policies it may be judged: steps 10 to 12 of docs/verification.md.

Nothing here looks at a record; what follows from the records is `certify.verify.recompute`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bench.errors import RefusedError
from bench.record import RULES_VERSION, config_names, digest
from bench.units import DAY_NS, utc_ns
from certify.policy.centre import centre_problem
from certify.policy.policies import Policy, load_policy
from certify.statement.build import CapacityStatement
from certify.statement.campaign import check_campaign, check_policies
from certify.trust.trusted_set import skewed

if TYPE_CHECKING:
    from certify.verify.verifier import Request


def check_statement(
    statement: CapacityStatement, root: str, at: str, policies: tuple[Policy, ...], request: Request
) -> None:
    """Check what a statement says of itself: steps 10 to 12, and whether a simulated one is wanted.

    Args:
        statement: whose signature holds.
        root: Merkle root that is its subject.
        at: the moment of the answer.
        policies: the verifier's own of the names that the statement gives.
        request: what was asked for.

    Raises:
        RefusedError: with the code of the first fault.
    """
    where, issue = request.statement, statement.issue
    if statement.rules != RULES_VERSION:
        raise RefusedError("rules-differ", f"follows the rules {statement.rules}, not {RULES_VERSION}", where=where)
    if statement.simulated and not request.accept_simulated:
        raise RefusedError("simulated", "was measured on simulated devices and proves nothing", where=where)
    if (skewed(at) if request.at_present else at) < issue.issued_at:  # 10
        raise RefusedError("not-yet-valid", f"is issued at {issue.issued_at}, after {at}", where=where)
    if at >= issue.valid_until:
        raise RefusedError("expired", f"was valid until {issue.valid_until}", where=where)
    allowed = min((policy.valid_days_max for policy in policies), default=366)
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
    check_policies(statement.campaign, policies)
    if {verdict.policy for verdict in statement.verdicts} != {policy.policy for policy in policies}:
        raise RefusedError("verdict-differs", "gives verdicts of other policies than it names", where=where)
    if not statement.measured_from <= statement.measured_until <= issue.issued_at:
        raise RefusedError("times-reversed", "is issued before its measurement ended", where=where)
    if (statement.centre.baseline is None) != (statement.baseline_sha256 is None):
        raise RefusedError("baseline-differs", "binds a baseline, or none, against its centre file", where=where)
    if root != statement.records_root:
        raise RefusedError("records-root", "names one Merkle root as its subject and another inside", where=where)


def own_policies(statement: CapacityStatement, request: Request) -> Iterator[Policy]:
    """Yield the verifier's own policies of the names that the statement gives.

    Raises:
        RefusedError: `policy-twice`, or `policy-unknown`: it has none of that name, or another.
    """
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
