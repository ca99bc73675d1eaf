"""What a statement says of itself, and by which policies it may be judged: steps 10 to 12 of docs/verification.md.

Nothing here looks at a record; what follows from the records is `certify.verify.recompute`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from bench.errors import RefusedError
from bench.record import RULES_VERSION, Sha256, digest
from bench.units import ratio_ppm
from certify.documents.statement import CapacityStatement, ClassLine, PoolLine, ShownLine, StepLine
from certify.policy.centre import centre_problem
from certify.policy.policies import Policy
from certify.policy.ratings import Ratings
from certify.policy.released import policy_of, ratings_of, withdrawn
from certify.statement.age import check_age, check_validity
from certify.statement.campaign import check_campaign, check_closing, check_policies
from certify.trust.trusted_set import skewed

if TYPE_CHECKING:
    from certify.verify.evidence import Evidence, VerifyRequest


class TrustLimit(NamedTuple):
    """Why the records of a statement are not judged, so that it is at most `trusted`."""

    code: str
    what: str


def bound_tables(statement: CapacityStatement) -> tuple[Sha256, ...]:
    """Return the digests of the tables that a statement is computed with: ratings, profile, policies."""
    policies = (ref.sha256 for ref in statement.policies)
    return (statement.ratings_sha256, statement.campaign.profile_sha256, *policies)


def limits(statement: CapacityStatement) -> tuple[TrustLimit, ...]:
    """Return why a statement is at most `trusted`: rules that are not this verifier's, tables that were withdrawn."""
    reasons = []
    if statement.rules != RULES_VERSION:
        reasons.append(
            TrustLimit("rules-differ", f"follows the rules {statement.rules}, and this verifier {RULES_VERSION}")
        )
    for table in withdrawn(bound_tables(statement)):
        what = f"binds the {table.kind} {table.name} of petaseal {table.release}, which is withdrawn: {table.withdrawn}"
        reasons.append(TrustLimit("table-withdrawn", what))
    return tuple(reasons)


def check_times(statement: CapacityStatement, at: str, request: VerifyRequest) -> None:
    """Check that a statement holds at a time: step 10, and whether a simulated one is wanted.

    Args:
        statement: whose signature holds.
        at: the moment of the answer.
        request: what was asked for.

    Raises:
        RefusedError: `simulated`, `not-yet-valid` or `expired`.
    """
    where, issue = request.evidence.statement, statement.issue
    if statement.simulated and not request.accept_simulated:
        raise RefusedError("simulated", "was measured on simulated devices and proves nothing", where=where)
    # Clocks differ a little, which excuses a present a moment early; a past that is asked for is exact.
    if (skewed(at) if request.at_present else at) < issue.issued_at:  # 10
        raise RefusedError("not-yet-valid", f"is issued at {issue.issued_at}, after {at}", where=where)
    if at >= issue.valid_until:
        raise RefusedError("expired", f"was valid until {issue.valid_until}", where=where)


def check_sequence(statement: CapacityStatement, where: object) -> None:
    """Check that a statement's number and its predecessors fit: step 11.

    Raises:
        RefusedError: `sequence-invalid`.
    """
    issue = statement.issue
    if (issue.sequence == 1) != (issue.previous_sha256 is None):  # 11
        raise RefusedError("sequence-invalid", "a further statement names the one before, the first none", where=where)
    if not set(issue.supersedes) <= {issue.previous_sha256}:
        raise RefusedError("sequence-invalid", "supersedes another statement than the one before", where=where)


def check_contents(statement: CapacityStatement, root: str, policies: tuple[Policy, ...], where: object) -> None:
    """Check what a statement says of itself whenever it is asked: step 12, and that its parts fit together.

    Raises:
        RefusedError: with the code of the first fault.
    """
    issue = statement.issue
    # Records bind the digest and not the document: a campaign that was exchanged here would still have them all.
    if digest(statement.campaign) != statement.campaign_sha256 or digest(statement.centre) != statement.centre_sha256:
        raise RefusedError("campaign-differs", "binds another campaign or centre than it holds", where=where)  # 12
    if (problem := centre_problem(statement.centre)) is not None:
        raise RefusedError(*problem, where=where)
    check_campaign(statement.campaign, statement.centre, statement.starts_at, issue.issued_at)
    check_policies(statement.campaign, policies)
    check_closing(statement.closing, statement.campaign, statement.campaign_sha256, statement.starts_at, where)
    # A verdict that is left out would hide that a condition is not met.
    if {verdict.policy for verdict in statement.verdicts} != {policy.policy for policy in policies}:
        raise RefusedError("verdict-differs", "gives verdicts of other policies than it names", where=where)
    if not statement.measured_from <= statement.measured_until <= issue.issued_at:
        raise RefusedError("times-reversed", "is issued before its measurement ended", where=where)
    check_validity(statement, policies, where)
    check_age(statement, lambda sha256: None, policies, where)  # alone; the verifier follows a chain of reissues
    # Without its baseline every device of a centre would be "newly added".
    if (statement.centre.baseline is None) != (statement.baseline_sha256 is None):
        raise RefusedError("baseline-differs", "binds a baseline, or none, against its centre file", where=where)
    # The subject is what an in-toto tool shows; two roots would let it show other records than are recomputed.
    if root != statement.records_root:
        raise RefusedError("records-root", "names one Merkle root as its subject and another inside", where=where)


def check_sums(statement: CapacityStatement, where: object) -> None:
    """Check what can be of a statement's sums without its records: those by step and limit are of what it counts.

    Raises:
        RefusedError: `statement-differs`, `fabric-differs`.
    """
    if (problem := next(_sums_problems(statement), None)) is not None:
        raise RefusedError("statement-differs", problem, where=where)
    if (problem := fabric_contradiction(statement)) is not None:
        raise RefusedError("fabric-differs", problem, where=where)  # 20


def fabric_contradiction(statement: CapacityStatement) -> str | None:
    """Return what of a statement's fabric contradicts itself or its campaign; None where nothing does."""
    fabric = statement.fabric
    if (fabric is None) != (not statement.campaign.network):
        return "says what the network's runs show, or not, against its campaign"
    if fabric is None:
        return None
    devices = [group.devices for group in fabric.groups]
    state = "connected" if devices == [fabric.of_devices] else "partly" if devices else "not-shown"
    if sum(devices) != fabric.devices or fabric.devices > fabric.of_devices or state != fabric.state:
        return f"calls the fabric {fabric.state}, and its groups are not so"
    if devices != sorted(devices, reverse=True) or any(group.nodes > group.devices for group in fabric.groups):
        return "lists groups of the fabric that are none, or not by size"
    for line in fabric.losses:
        a, b, c = line.compute_mflop_s, line.node_mflop_s, line.fabric_mflop_s
        shares = 10**6 - line.contention_ppm, 10**6 - line.network_loss_ppm, line.retained_ppm
        if shares != (ratio_ppm(b, a), ratio_ppm(c, b), ratio_ppm(c, a)):
            return f"gives shares of the network for T = {line.tokens} that are not those of its rates"
    return None


def _sums_problems(statement: CapacityStatement) -> Iterator[str]:
    lines: tuple[PoolLine | ClassLine, ...] = (*statement.pools, *statement.classes)
    for line in lines:
        name = f"pool {line.pool}" if isinstance(line, PoolLine) else f"class {line.pool_class}"
        if _added(line.steps) != (line.counted.devices, line.counted.certified_mflop_s):
            yield f"the sums by step of {name} are not what it counts"
        for totals in (line.counted, line.in_baseline, line.with_witness):
            # Without records a forger chooses the parts freely, but they must still contain one another.
            held = totals.on_accepted_hold_mflop_s
            if not totals.never_scheduled_mflop_s <= held <= totals.certified_mflop_s:
                yield f"what is never scheduled, rests on holds and is certified of {name} do not contain one another"
        if line.with_witness.devices > line.untested.devices:
            yield f"{name} has more devices that count with a witness only than devices that count 0"
        if _added(line.steps, "none")[1] > line.counted.never_scheduled_mflop_s:
            yield f"{name} has more on the step none than what it says is never scheduled"
    for pool in statement.pools:
        limits = _under_limits(statement, pool)
        for step in {one.step for one in limits} | {one.step for one in pool.steps}:
            if _added(limits, step) != _added(pool.steps, step):
                yield f"the figures of pool {pool.pool} under their limits are not those on the step {step}"
    for shown in statement.shown:
        if _added(_under_limits(statement, shown)) != (shown.shown.devices, shown.shown.certified_mflop_s):
            yield f"the figures of pool {shown.pool} under their limits are not those that are shown"
    for of_class in statement.classes:
        if not of_class.nodes_missing and of_class.missing_at_most_mflop_s != 0:
            yield f"no node of class {of_class.pool_class} is missing, and it says what missing nodes could add"
        parts = [one for pool in statement.pools if pool.pool_class == of_class.pool_class for one in pool.steps]
        for step in {one.step for one in (*parts, *of_class.steps)}:
            if _added(parts, step) != _added(of_class.steps, step):
                yield f"the sum of class {of_class.pool_class} on the step {step} is not that of its pools"


class _StepSum(NamedTuple):
    """What counts of a pool on one step."""

    step: str
    devices: int
    certified_mflop_s: int


def _under_limits(statement: CapacityStatement, line: PoolLine | ShownLine) -> list[_StepSum]:
    """Return what counts of a pool in one workload, under each limit."""
    return [
        _StepSum(one.step, one.counted, one.certified_mflop_s)
        for one in statement.ceilings
        if (one.pool, one.precision, one.choice) == (line.pool, line.precision, line.choice)
    ]


def _added(lines: Iterable[StepLine | _StepSum], step: str | None = None) -> tuple[int, int]:
    """Return how many devices stand on one step or on all, and their certified sum."""
    sums = [(line.devices, line.certified_mflop_s) for line in lines if step in (None, line.step)]
    return sum(devices for devices, _ in sums), sum(certified for _, certified in sums)


def bound_policies(statement: CapacityStatement, evidence: Evidence) -> Iterator[Policy]:
    """Yield the verifier's own policies of the digests that the statement binds.

    Raises:
        RefusedError: `policy-twice`, or `policy-unknown`: it has none of that digest and name.
    """
    # Of two verdicts of one policy a reader would take the better one.
    if len({ref.policy for ref in statement.policies}) != len(statement.policies):
        raise RefusedError("policy-twice", "was judged twice by one policy", where=evidence.statement)
    for ref in statement.policies:
        policy = policy_of(ref.sha256, evidence.policies)
        if policy is None or policy.policy != ref.policy:
            raise RefusedError(
                "policy-unknown",
                f"was judged by a policy {ref.policy} that this verifier does not have",
                where=evidence.statement,
                fix="install a newer petaseal, or give its file with --policy",
            )
        yield policy


def bound_ratings(statement: CapacityStatement, evidence: Evidence) -> Ratings:
    """Return the verifier's own ratings of the digest that the statement binds.

    Raises:
        RefusedError: `ratings-unknown`: it has none of that digest.
    """
    ratings = ratings_of(statement.ratings_sha256, evidence.ratings)
    if ratings is None:
        what, fix = (
            "was computed with ratings that this verifier does not have",
            "install a newer petaseal, or give their file with --ratings",
        )
        raise RefusedError("ratings-unknown", what, where=evidence.statement, fix=fix)
    return ratings
