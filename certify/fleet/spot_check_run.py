"""An auditor's spot check of a signed statement, in two steps: the draw, and the judgement of what was re-measured.

Between the two the drawn nodes are measured in a campaign of their own. Each step starts from files alone and gives the
same answer whenever it is run again. What is computed is `certify.fleet.spot_check`; formulas and
limits: docs/spot-check.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bench.errors import InputError, PetasealError, RefusedError, public_text
from bench.record import RULES_VERSION, Campaign, PoolClass, Workload, digest, encode, read_bytes, write_atomic
from bench.units import utc_text
from certify.documents.caps import CAPS
from certify.documents.kinds import RECORD_SUFFIX
from certify.documents.statement import CapacityStatement
from certify.fleet.readings import FolderFigures, JudgedRecord, Passed, check_over, read_figures
from certify.fleet.spot_check import draw, judge
from certify.fleet.spot_check_claims import ClaimedStatement, Claims, SpotCheckRequest, open_claims
from certify.fleet.spot_check_report import (
    FORMAT,
    UNSIGNED,
    ClassCheck,
    Draw,
    DrawnClass,
    SpotCheckEvidence,
    SpotCheckReport,
    SpotCheckResult,
    Stranger,
)
from certify.statement.attendance import MISSING, Absence, read_attendance
from certify.statement.campaign import check_closing, check_policies, find_profile, open_campaign, read_closing
from certify.trust.opening import Verifier

RESULT = "spot-check.json"


def draw_spot_check(request: SpotCheckRequest) -> Draw:
    """Verify a statement down to its records and return the nodes to measure again.

    Raises:
        InputError: `spot-check-invalid`, or the request is otherwise wrong.
        RefusedError: the statement does not hold, or `seed-known`.
    """
    return _draw(open_claims(request), request)


def judge_spot_check(
    request: SpotCheckRequest,
    collected: Path,
    campaign: Path,
    names: Mapping[str, str] | None = None,
    out: Path | None = None,
) -> SpotCheckResult:
    """Judge the re-measurement of the drawn nodes, and write what it shows.

    Args:
        request: the same as for the draw.
        collected: folder of the re-measurement's records; may lack some, or hold none.
        campaign: of the re-measurement, signed by the operator.
        names: the engine's name of each node, where it is known.
        out: file to write; None for ``spot-check.json`` next to the records' folder.

    Raises:
        InputError: the request is wrong.
        RefusedError: the statement does not hold, or the campaign is not the spot check of this statement.
    """
    # The draw is made again from the statement rather than read from a file that the checked centre could have changed.
    opened = open_claims(request)
    wanted = _draw(opened, request)
    at = utc_text(request.now_ns)
    again = open_campaign(campaign, Verifier(opened.trust, at))
    check_spot_campaign(again, opened.statement, wanted, campaign)
    check_policies(again, opened.policies)
    find_profile(again, request.profiles)  # its windows are as long as the profile says
    starts_at, figures = _measured(collected, again, opened, at)
    checks, strangers = _compared(wanted, opened.claims, figures)
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
                (SpotCheckEvidence(node_id=one.node_id, payload_sha256=one.payload_sha256) for one in figures.judged),
                key=lambda one: one.node_id,
            )
        ),
        refused=tuple(figures.refused),
        not_counted=tuple(n for one in figures.judged for n in one.not_counted if n.workload in counted),
        strangers=tuple(strangers),
    )
    file = out or collected.parent / RESULT
    write_atomic(file, encode(report) + b"\n")
    return SpotCheckResult(report, file, names or {})


def _draw(opened: ClaimedStatement, request: SpotCheckRequest) -> Draw:
    """Return the draw of a verified statement, which the same seed gives again whenever it is made.

    Raises:
        RefusedError: `seed-known`.
        InputError: `spot-check-invalid`, no class claims anything.
    """
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


def _compared(wanted: Draw, claims: Claims, figures: FolderFigures) -> tuple[list[ClassCheck], list[Stranger]]:
    """Return what the re-measurement shows of each class, and the devices that it measured and no claim counts."""
    checks: list[ClassCheck] = []
    strangers: list[Stranger] = []
    for drawn in wanted.classes:
        claimed = claims[drawn.pool_class]
        workload = Workload(drawn.precision, drawn.choice)
        measured = {record.node_id: _of_class(record, drawn.pool_class, workload) for record in figures.judged}
        rates = {}
        for node_id in drawn.drawn:
            rate, unclaimed = matched(claimed[node_id].devices, measured.get(node_id, ()))
            strangers += [Stranger(node_id=node_id, device=device) for device in unclaimed]
            if rate is not None:
                rates[node_id] = rate
        check = judge({node_id: node.claim for node_id, node in claimed.items()}, drawn.drawn, rates)
        checks.append(
            ClassCheck(pool_class=drawn.pool_class, precision=drawn.precision, choice=drawn.choice, check=check)
        )
    return checks, strangers


def check_spot_campaign(campaign: Campaign, statement: CapacityStatement, wanted: Draw, where: object) -> None:
    """Refuse a campaign that does not measure exactly the draw, as the claim was measured, after the seed was given.

    A drawn node that the operator left out is listed as such, and counts as not measured.

    Raises:
        RefusedError: `centre-differs`, `challenge-differs`, `profile-differs`, `pool-differs`, `spot-check-differs`.
    """
    # Each condition closes a way to answer with other machines than those that were claimed: another pool, another
    # number of devices, another node key, fewer nodes than drawn, or a campaign that was known before the seed.
    pools_of = {node.node_id: node.pools for node in statement.campaign.nodes}
    moved = [node.node_id for node in campaign.nodes if node.pools != pools_of.get(node.node_id)]
    moved += [node.node_id for node in campaign.left_out if node.pool not in pools_of.get(node.node_id, ())]
    devices = {pool.pool: pool.devices for pool in statement.campaign.pools}
    resplit = [pool.pool for pool in campaign.pools if pool.devices != devices.get(pool.pool)]
    enrolled = {node.node_id: node.keyid for node in statement.campaign.nodes}
    same_keys = all(node.keyid == enrolled.get(node.node_id) for node in campaign.nodes)
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
            same_keys,
            "names other node keys than the statement's campaign: other machines may answer",
        ),
        ("spot-check-differs", not unmeasured, f"does not measure {', '.join(unmeasured)}, which the claim counts"),
    ):
        if not holds:
            raise RefusedError(code, what, where=where)


def _measured(
    collected: Path, campaign: Campaign, opened: ClaimedStatement, at: str
) -> tuple[str | None, FolderFigures]:
    """Return T0, as most records state it, and the judged records of the re-measurement."""
    if not collected.is_dir():
        raise InputError("records-not-folder", "is not a folder of node records", where=collected)
    campaign_sha256 = digest(campaign)
    starts: Counter[str] = Counter()
    verifier = Verifier(opened.trust, at)
    files = [p for p in collected.iterdir() if p.name.endswith(RECORD_SUFFIX) and not p.name.startswith(".")]
    for path in files:
        try:
            record = verifier.record(read_bytes(path, CAPS.record_bytes), path).predicate
        except PetasealError:
            continue  # reported when it is judged; here it has no vote
        starts[record.starts_at] += record.campaign_sha256 == campaign_sha256
    # No signed document names T0 of a re-measurement: the start that most records agree on is it, the later of two.
    starts_at = max(+starts, key=lambda text: (starts[text], text), default=None)
    if starts_at is not None:
        check_over(campaign, opened.statement.centre.centre_id, starts_at, at)
    elif at <= campaign.starts_until:
        what = f"holds no record of the campaign, which may still start until {campaign.starts_until}"
        raise InputError("no-records", what, where=collected, fix="measure the drawn nodes first")
    closing = read_closing(collected)
    if starts_at is not None:
        check_closing(closing, campaign, campaign_sha256, starts_at, collected)
    scope = replace(
        opened.scope,
        campaign=campaign,
        campaign_sha256=campaign_sha256,
        starts_at=starts_at or campaign.starts_from,
        closing=closing,
    )
    return starts_at, read_figures(collected, scope, opened.trust, at) if files else FolderFigures()


def _absent(collected: Path, campaign: Campaign, figures: FolderFigures) -> tuple[Absence, ...]:
    """Return the expected nodes without any file, and why, as `petaseal campaign collect` recorded it."""
    present = {record.node_id for record in figures.judged}
    present |= {refused.file.removesuffix(RECORD_SUFFIX) for refused in figures.refused}
    stated = read_attendance(collected, campaign)
    absences = []
    for node in campaign.nodes:
        if node.node_id not in present:
            absence = stated.get(node.node_id) or Absence(node_id=node.node_id, code=MISSING, detail=None)
            detail = None if absence.detail is None else public_text(absence.detail)  # the auditor sees no paths
            absences.append(Absence(node_id=node.node_id, code=absence.code, detail=detail))
    return tuple(absences)


def _of_class(record: JudgedRecord, pool_class: PoolClass, workload: Workload) -> list[Passed]:
    return [one for one in record.passed if (one.pool_class, one.workload) == (pool_class, workload)]


def matched(claimed: Sequence[Mapping[str, str]], measured: Sequence[Passed]) -> tuple[int | None, list[str]]:
    """Return the sustained sum of a node's claimed devices, MFLOP/s, and the measured devices that are not claimed.

    Each claimed device is met by one measured device at most, and the other way round.

    Args:
        claimed: identities of each device that counts in the claim, as `bench.record.identities` gives them.
        measured: figures that count.

    Returns:
        The sum, None where no claimed device was measured; names of the devices that are none of the claimed.
    """
    unclaimed, rate = list(measured), None
    for identities in claimed:
        figure = next((one for one in unclaimed if same_device(identities, one.identities)), None)
        if figure is not None:
            unclaimed.remove(figure)
            rate = (rate or 0) + figure.reading.sustained_mflop_s
    return rate, [one.reading.device for one in unclaimed]


def same_device(a: Mapping[str, str], b: Mapping[str, str]) -> bool:
    """Return whether identities are of one device: they share one in any field, and no field contradicts."""
    # By value, whatever the field: two releases of a driver may report one number under different names.
    shared = not set(a.values()).isdisjoint(b.values())
    return shared and all(a[field] == b[field] for field in a.keys() & b.keys())
