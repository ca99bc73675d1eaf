"""An auditor's spot check of a signed statement, in two steps: who is drawn, and what measuring them again shows.

Between the two the drawn nodes are measured in a campaign of their own. Each step starts from files alone and gives the
same answer whenever it is run again. What is computed is `certify.fleet.spot_check`; formulas and
limits: docs/spot-check.md.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from bench.errors import InputError, PetasealError, RefusedError, public_text
from bench.record import RULES_VERSION, Campaign, PoolClass, Workload, digest, encode, read_bytes, write_atomic
from bench.record.files import state_dir
from bench.units import utc_text
from certify.documents.caps import CAPS
from certify.documents.kinds import open_record
from certify.documents.merkle import record_root
from certify.fleet.readings import Figures, Judged, Passed, Scopes, check_over, judge_figures, read_figures
from certify.fleet.spot_check import Claim, draw, judge
from certify.fleet.spot_check_report import (
    FORMAT,
    UNSIGNED,
    Checked,
    ClassCheck,
    Draw,
    DrawnClass,
    Evidence,
    SpotCheckReport,
    Stranger,
)
from certify.judge.aggregate import Scope, accepted_holds, accepted_with_witness, counting_of, enrolled_only
from certify.policy.policies import Policy
from certify.statement.attendance import MISSING, Absence, read_attendance
from certify.statement.build import CapacityStatement
from certify.statement.campaign import check_policies, find_profile, open_campaign
from certify.statement.closing import check_closing, read_closing
from certify.statement.records import PARALLEL_FROM_BYTES, RECORD_SUFFIX, Chunk, chunks_of, envelopes
from certify.trust.trusted_set import TrustedSet
from certify.verify.statement_checks import own_policies, own_ratings
from certify.verify.verifier import Request as Verification
from certify.verify.verifier import verify
from certify.workers import spread

RESULT = "spot-check.json"


@dataclass(frozen=True)
class Request:
    """What an auditor asks for. Time is passed in."""

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


class _Claimed(NamedTuple):
    """What one class of a statement claims of one node."""

    claim: Claim
    devices: tuple[Mapping[str, str], ...]  # identities of each device that counts, by field


Claims = dict[PoolClass, dict[str, _Claimed]]


class _Opened(NamedTuple):
    """A verified statement with what it claims."""

    statement: CapacityStatement
    payload_sha256: str
    policies: tuple[Policy, ...]
    scope: Scope
    trust: TrustedSet
    claims: Claims


def drawn(request: Request) -> Draw:
    """Verify a statement down to its records and return the nodes to measure again.

    Raises:
        InputError: `spot-check-invalid`, or the request is otherwise wrong.
        RefusedError: the statement does not hold, or `seed-known`.
    """
    return _draw(_open(request), request)


def judged(
    request: Request, collected: Path, campaign: Path, names: Mapping[str, str] | None = None, out: Path | None = None
) -> Checked:
    """Judge the re-measurement of the drawn nodes, and write what it shows.

    Args:
        request: the same as for the draw.
        collected: folder of the re-measurement's records; may lack some, or hold none.
        campaign: of the re-measurement, signed by the operator.
        names: the engine's own name of each node, where it is known.
        out: file to write; None for ``spot-check.json`` beside the records' folder.

    Raises:
        InputError: the request is wrong.
        RefusedError: the statement does not hold, or the campaign is not the spot check of this statement.
    """
    opened = _open(request)
    wanted = _draw(opened, request)
    at = utc_text(request.now_ns)
    again = open_campaign(campaign, opened.trust, at)
    check_spot_campaign(again, opened.statement, wanted, campaign)
    check_policies(again, opened.policies)
    find_profile(again, request.profiles)  # its windows are as long as the profile says
    starts_at, figures = _measured(collected, again, opened, at)
    checks, strangers = [], []
    for one in wanted.classes:
        claims = opened.claims[one.pool_class]
        workload = Workload(one.precision, one.choice)
        found = {node.node_id: _of_class(node, one.pool_class, workload) for node in figures.judged}
        rates = {}
        for node_id in one.drawn:
            rate, others = matched(claims[node_id].devices, found.get(node_id, ()))
            strangers += [Stranger(node_id=node_id, device=device) for device in others]
            if rate is not None:
                rates[node_id] = rate
        check = judge({node_id: claimed.claim for node_id, claimed in claims.items()}, one.drawn, rates)
        checks.append(ClassCheck(pool_class=one.pool_class, precision=one.precision, choice=one.choice, check=check))
    counted = {str(Workload(one.precision, one.choice)) for one in wanted.classes}
    report = SpotCheckReport(
        format=FORMAT,
        note=UNSIGNED,
        rules=RULES_VERSION,
        statement_sha256=opened.payload_sha256,
        statement_issued_at=opened.statement.issue.issued_at,
        records_root=opened.statement.records_root,
        centre_id=opened.statement.centre.centre_id,
        seed=request.seed,
        fraction_ppm=request.fraction_ppm,
        campaign_id=again.campaign_id,
        campaign_sha256=digest(again),
        campaign_issued_at=again.issued_at,
        attempts_before=len(again.earlier),
        starts_at=starts_at,
        simulated=wanted.simulated or figures.simulated,
        passed=all(one.check.passed for one in checks),
        classes=tuple(checks),
        left_out=tuple(node.node_id for node in again.left_out),
        absent=_absent(collected, again, figures),
        records=tuple(
            sorted(
                (Evidence(node_id=one.node_id, payload_sha256=one.payload_sha256) for one in figures.judged),
                key=lambda one: one.node_id,
            )
        ),
        refused=tuple(figures.refused),
        not_counted=tuple(n for one in figures.judged for n in one.not_counted if n.workload in counted),
        strangers=tuple(strangers),
    )
    file = out or collected.parent / RESULT
    write_atomic(file, encode(report) + b"\n")
    return Checked(report, file, names or {})


def _open(request: Request) -> _Opened:
    """Verify the statement, and read of its records what it claims of each node."""
    asked = Verification(
        statement=request.statement,
        at_ns=request.now_ns,
        now_ns=request.now_ns,
        trust=request.trust,
        state=state_dir(),
        public_key=request.public_key,
        records=request.records,
        require=("recomputed",),
        baseline=request.baseline,
        policies=request.policies,
        profiles=request.profiles,
        ratings=request.ratings,
        accept_simulated=request.accept_simulated,
        demand_witnesses=False,  # a spot check shows more than a witness does
    )
    report = verify(asked)
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
    at, trust = utc_text(request.now_ns), report.trusted
    policies = tuple(own_policies(statement, asked))
    scope = Scope(
        centre=statement.centre,
        campaign=statement.campaign,
        campaign_sha256=statement.campaign_sha256,
        starts_at=statement.starts_at,
        profile=find_profile(statement.campaign, request.profiles),
        profile_sha256=statement.profile_sha256,
        ratings=own_ratings(statement, asked),
        counting=counting_of(policies, statement.centre),
        accept=accepted_holds(policies),
        accept_with_witness=accepted_with_witness(policies),
        existing=frozenset(),  # what stood there before counts as well
        enrolled_only=enrolled_only(policies),
        closing=statement.closing,
    )
    claims = _claims(Claimer(request.records, Scopes(scope), trust, at), statement)
    return _Opened(statement, sha256, policies, scope, trust, claims)


@dataclass(frozen=True)
class Claimer:
    """Reads of one share of a statement's records what counts; runs in a worker process."""

    source: Path
    scopes: Scopes
    trust: TrustedSet
    at: str

    def __call__(self, chunk: Chunk) -> list[Judged]:
        """Return the share's records, each with the figures that count in the statement and no others."""
        found = []
        counting = self.scopes.own.counting
        for where, content in envelopes(self.source, chunk):
            opened = open_record(content, self.trust, self.at, where)
            one = judge_figures(opened.predicate, self.scopes, opened.payload_sha256)
            counted = [p for p in one.passed if p.workload == counting[p.pool_class].workload]
            found.append(one._replace(passed=counted, not_counted=[], devices=[]))
        return found


def _claims(claimer: Claimer, statement: CapacityStatement) -> Claims:
    """Return what a statement claims of each node, by class; a node that claims nothing is in no claim."""
    shares, size = chunks_of(claimer.source)
    digests = []
    claims: Claims = defaultdict(dict)
    for part in spread(claimer, shares, parallel=size >= PARALLEL_FROM_BYTES, where=claimer.source):
        for record in part:
            digests.append(record.payload_sha256)
            for pool_class in {one.pool_class for one in record.passed}:
                mine = [one for one in record.passed if one.pool_class == pool_class]
                claim = Claim(
                    sum(one.reading.sustained_mflop_s for one in mine),
                    sum(one.reading.certified_mflop_s for one in mine),
                )
                if min(claim) > 0:
                    claims[pool_class][record.node_id] = _Claimed(claim, tuple(one.identities for one in mine))
    if record_root(sorted(digests)) != statement.records_root:
        raise RefusedError("record-changed", "changed while it was being read", where=claimer.source)
    return claims


def _draw(opened: _Opened, request: Request) -> Draw:
    statement = opened.statement
    if request.seed == statement.campaign.challenge:
        what = "is the challenge of the statement's own campaign, which was known before it was signed"
        raise RefusedError("seed-known", what, where="--seed", fix="take a new one from: openssl rand -hex 32")
    lines_of = [line for line in statement.classes if opened.claims.get(line.pool_class)]
    if not lines_of:
        raise InputError("spot-check-invalid", "claims nothing that could be checked", where=request.statement)
    return Draw(
        statement_sha256=opened.payload_sha256,
        records_root=statement.records_root,
        centre_id=statement.centre.centre_id,
        seed=request.seed,
        fraction_ppm=request.fraction_ppm,
        simulated=statement.simulated,
        classes=tuple(
            DrawnClass(
                pool_class=line.pool_class,
                precision=line.precision,
                choice=line.choice,
                nodes=len(claims := opened.claims[line.pool_class]),
                drawn=draw(claims, request.seed, statement.records_root, request.fraction_ppm),
            )
            for line in lines_of
        ),
    )


def check_spot_campaign(campaign: Campaign, statement: CapacityStatement, wanted: Draw, where: object) -> None:
    """Refuse a campaign that does not measure exactly the draw, as the claim was measured, after the seed was told.

    A drawn node that the operator left out stands there as such, and counts as not measured.

    Raises:
        RefusedError: `centre-differs`, `challenge-differs`, `profile-differs`, `pool-differs`, `spot-check-differs`.
    """
    places = {node.node_id: node.pools for node in statement.campaign.nodes}
    moved = [node.node_id for node in campaign.nodes if node.pools != places.get(node.node_id)]
    moved += [node.node_id for node in campaign.left_out if node.pool not in places.get(node.node_id, ())]
    devices = {pool.pool: pool.devices for pool in statement.campaign.pools}
    resplit = [pool.pool for pool in campaign.pools if pool.devices != devices.get(pool.pool)]
    enrolled = {node.node_id: node.keyid for node in statement.campaign.nodes}
    own_keys = all(node.keyid == enrolled.get(node.node_id) for node in campaign.nodes)
    named = Counter(node.node_id for node in campaign.nodes) + Counter(node.node_id for node in campaign.left_out)
    undrawn = sorted((named - Counter(wanted.nodes)).keys())
    lacking = sorted((Counter(wanted.nodes) - named).keys())
    measured = {window.workload for window in campaign.windows}
    unmeasured = [str(w) for one in wanted.classes if (w := Workload(one.precision, one.choice)) not in measured]
    for code, holds, what in (
        ("centre-differs", campaign.centre_id == wanted.centre_id, f"is of the centre {campaign.centre_id}"),
        ("spot-check-differs", campaign.purpose == "spot-check", f"was opened for {campaign.purpose}, not to check"),
        (
            "spot-check-differs",
            campaign.issued_at > statement.issue.issued_at,
            f"was opened at {campaign.issued_at}, and the statement issued at {statement.issue.issued_at}",
        ),
        ("challenge-differs", campaign.challenge == wanted.seed, "answers another challenge than the seed"),
        (
            "profile-differs",
            campaign.profile_sha256 == statement.profile_sha256,
            f"uses another profile than the statement ({campaign.profile}, not {statement.profile})",
        ),
        ("spot-check-differs", not undrawn, f"measures {', '.join(undrawn[:1])}, which is not drawn, or twice"),
        ("spot-check-differs", not lacking, f"lacks {', '.join(lacking[:1])}, which is drawn"),
        (
            "pool-differs",
            not moved and not resplit,
            f"names other pools or devices for {', '.join((moved or resplit)[:1])} than the statement's campaign",
        ),
        (
            "spot-check-differs",
            own_keys,
            "names other node keys than the statement's campaign: other machines may answer",
        ),
        ("spot-check-differs", not unmeasured, f"does not measure {', '.join(unmeasured)}, which the claim counts"),
    ):
        if not holds:
            raise RefusedError(code, what, where=where)


def _measured(collected: Path, campaign: Campaign, opened: _Opened, at: str) -> tuple[str | None, Figures]:
    """Return T0, as most records tell it, and the judged records of the re-measurement."""
    if not collected.is_dir():
        raise InputError("records-not-folder", "is not a folder of node records", where=collected)
    own = digest(campaign)
    starts: Counter[str] = Counter()
    files = [p for p in collected.iterdir() if p.name.endswith(RECORD_SUFFIX) and not p.name.startswith(".")]
    for path in files:
        try:
            record = open_record(read_bytes(path, CAPS.record_bytes), opened.trust, at, path).predicate
        except PetasealError:
            continue  # said when it is judged
        starts[record.starts_at] += record.campaign_sha256 == own
    starts_at = max(+starts, key=lambda text: (starts[text], text), default=None)
    if starts_at is not None:
        check_over(campaign, opened.statement.centre.centre_id, starts_at, at)
    elif at <= campaign.starts_until:
        what = f"holds no record of the campaign, which may still start until {campaign.starts_until}"
        raise InputError("no-records", what, where=collected, fix="measure the drawn nodes first")
    closing = read_closing(collected)
    if starts_at is not None:
        check_closing(closing, campaign, own, starts_at, collected)
    scope = replace(
        opened.scope,
        campaign=campaign,
        campaign_sha256=own,
        starts_at=starts_at or campaign.starts_from,
        closing=closing,
    )
    return starts_at, read_figures(collected, scope, opened.trust, at) if files else Figures()


def _absent(collected: Path, campaign: Campaign, figures: Figures) -> tuple[Absence, ...]:
    """Return the expected nodes without any file, and why, as it was collected beside the records."""
    there = {one.node_id for one in figures.judged}
    there |= {one.file.removesuffix(RECORD_SUFFIX) for one in figures.refused}
    said = read_attendance(collected, campaign)
    found = []
    for node in campaign.nodes:
        if node.node_id not in there:
            absence = said.get(node.node_id) or Absence(node_id=node.node_id, code=MISSING, detail=None)
            detail = None if absence.detail is None else public_text(absence.detail)  # the auditor sees no paths
            found.append(Absence(node_id=node.node_id, code=absence.code, detail=detail))
    return tuple(found)


def _of_class(record: Judged, pool_class: PoolClass, workload: Workload) -> list[Passed]:
    return [one for one in record.passed if (one.pool_class, one.workload) == (pool_class, workload)]


def matched(claimed: Sequence[Mapping[str, str]], measured: Sequence[Passed]) -> tuple[int | None, list[str]]:
    """Return the sustained sum of a node's claimed devices, MFLOP/s, and what was measured of others.

    Each claimed device is met by one measured device at most, and the other way round.

    Args:
        claimed: identities of each device that counts in the claim, as `bench.record.identities` gives them.
        measured: figures that count.

    Returns:
        The sum, None where no claimed device was measured; names of the devices that are none of the claimed.
    """
    others, rate = list(measured), None
    for identities in claimed:
        found = next((one for one in others if same_device(identities, one.identities)), None)
        if found is not None:
            others.remove(found)
            rate = (rate or 0) + found.reading.sustained_mflop_s
    return rate, [one.reading.device for one in others]


def same_device(a: Mapping[str, str], b: Mapping[str, str]) -> bool:
    """Tell whether two devices' identities are of one: they share one, whatever its field, and no field contradicts."""
    shared = not set(a.values()).isdisjoint(b.values())
    return shared and all(a[field] == b[field] for field in a.keys() & b.keys())
