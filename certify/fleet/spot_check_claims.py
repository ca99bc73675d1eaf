"""What a statement claims of each node, read from its verified records: what a spot check draws from.

Only what counts in the statement is read: a void or held figure claims nothing, and cannot be overstated.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from bench.errors import RefusedError
from bench.record import PoolClass
from bench.record.files import state_dir
from bench.units import utc_text
from certify.documents.merkle import record_root
from certify.documents.statement import CapacityStatement
from certify.fleet.readings import JudgedRecord, Scopes, judge_figures
from certify.fleet.spot_check import NodeClaim
from certify.judge.scope import Scope
from certify.policy.policies import Policy
from certify.statement.campaign import find_profile
from certify.statement.records import PARALLEL_FROM_BYTES, Chunk, chunks_of, envelopes
from certify.trust.opening import Verifier
from certify.trust.store import Anchor
from certify.trust.trusted_set import TrustedSet
from certify.verify.evidence import Evidence, VerifyRequest
from certify.verify.statement_checks import bound_policies, bound_ratings
from certify.verify.verifier import verify
from certify.workers import spread


@dataclass(frozen=True)
class SpotCheckRequest:
    """The auditor's request for a draw or a judgement. Time is passed in."""

    statement: Path
    records: Path
    seed: str  # the auditor's challenge, told after the statement was signed
    fraction_ppm: int  # of the nodes of each class
    now_ns: int
    public_key: Path | None = None  # one of these two
    trust: Path | None = None
    baseline: Path | None = None
    policies: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()
    ratings: tuple[str, ...] = ()
    accept_simulated: bool = False


class NodeClaimed(NamedTuple):
    """What one class of a statement claims of one node."""

    claim: NodeClaim
    devices: tuple[Mapping[str, str], ...]  # identities of each device that counts, by field


Claims = dict[PoolClass, dict[str, NodeClaimed]]


class ClaimedStatement(NamedTuple):
    """A verified statement with what it claims."""

    statement: CapacityStatement
    payload_sha256: str
    policies: tuple[Policy, ...]
    scope: Scope
    trust: TrustedSet
    claims: Claims


def open_claims(request: SpotCheckRequest) -> ClaimedStatement:
    """Verify the statement, and read from its records what it claims of each node.

    Raises:
        RefusedError: the statement does not hold, exceeds a limit of this verifier, or is self-issued.
        InputError: the request is wrong.
    """
    evidence = Evidence(
        request.statement,
        records=request.records,
        baseline=request.baseline,
        policies=request.policies,
        profiles=request.profiles,
        ratings=request.ratings,
    )
    report = verify(
        VerifyRequest(
            evidence,
            Anchor(request.public_key, request.trust, state=state_dir()),
            at_ns=request.now_ns,
            require=("recomputed",),
            accept_simulated=request.accept_simulated,
            demand_witnesses=False,  # a spot check shows more than a witness does
        )
    )
    if report.refusal is not None:
        raise report.refusal
    for code, what in report.limits:
        raise RefusedError(code, what, where=request.statement)
    if report.unmet:
        raise RefusedError("requirement-unmet", "; ".join(report.unmet), where=request.statement)
    statement, sha256 = report.statement, report.payload_sha256
    assert statement is not None
    assert sha256 is not None
    if statement.campaign.self_issued:
        what = "rests on a campaign that a node issued for itself: there is nothing to draw from"
        raise RefusedError("campaign-self-issued", what, where=request.statement)
    assert report.trusted is not None
    verifier = Verifier(report.trusted, utc_text(request.now_ns))
    policies = tuple(bound_policies(statement, evidence))
    # without the baseline: a device that stood there before counts here as well
    profile = find_profile(statement.campaign, request.profiles)
    scope = Scope.of_statement(statement, policies, profile, bound_ratings(statement, evidence))
    claims = _claims(NodeClaimReader(request.records, Scopes(scope), verifier), statement)
    return ClaimedStatement(statement, sha256, policies, scope, report.trusted, claims)


@dataclass(frozen=True)
class NodeClaimReader:
    """Reads what counts from one share of a statement's records; runs in a worker process."""

    source: Path
    scopes: Scopes
    verifier: Verifier

    def __call__(self, chunk: Chunk) -> list[JudgedRecord]:
        """Return the share's records, each with the figures that count in the statement and no others."""
        records = []
        counting = self.scopes.scope.counting
        for where, content in envelopes(self.source, chunk):
            opened = self.verifier.record(content, where)
            judged = judge_figures(opened.predicate, self.scopes, opened.payload_sha256)
            counted = [p for p in judged.passed if p.workload == counting[p.pool_class].workload]
            records.append(judged._replace(passed=counted, not_counted=[], devices=[]))
        return records


def _claims(reader: NodeClaimReader, statement: CapacityStatement) -> Claims:
    """Return what a statement claims of each node, by class; a node that claims nothing is in no claim."""
    shares, size = chunks_of(reader.source)
    digests = []
    claims: Claims = defaultdict(dict)
    for part in spread(reader, shares, parallel=size >= PARALLEL_FROM_BYTES, where=reader.source):
        for record in part:
            digests.append(record.payload_sha256)
            for pool_class in {one.pool_class for one in record.passed}:
                in_class = [figure for figure in record.passed if figure.pool_class == pool_class]
                claim = NodeClaim(
                    sum(figure.reading.sustained_mflop_s for figure in in_class),
                    sum(figure.reading.certified_mflop_s for figure in in_class),
                )
                if min(claim) > 0:  # a node that claims nothing would always pass
                    devices = tuple(figure.identities for figure in in_class)
                    claims[pool_class][record.node_id] = NodeClaimed(claim, devices)
    # The records were verified by another pass over the same files: only the root shows that these are still they.
    if record_root(sorted(digests)) != statement.records_root:
        raise RefusedError("record-changed", "changed while it was being read", where=reader.source)
    return claims
