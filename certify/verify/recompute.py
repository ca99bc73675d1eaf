"""From a statement's records to the statement that they give: steps 13 to 16 of docs/verification.md."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from bench.errors import RefusedError
from bench.record import Profile, encode
from certify.documents.merkle import record_root
from certify.judge.aggregate import Scope, accepted_holds, counting_of, enrolled_only, identities_of
from certify.policy.policies import Policy
from certify.policy.ratings import installed_ratings
from certify.statement.baseline import baseline_facts, open_baseline
from certify.statement.build import Basis, CapacityStatement, absences_of, build
from certify.statement.campaign import find_profile
from certify.statement.claim import Holdings, Shown
from certify.statement.records import Examined, Examiner, Seen, examine
from certify.trust.trusted_set import TrustedSet

if TYPE_CHECKING:
    from certify.verify.verifier import Request


def recompute(
    request: Request,
    statement: CapacityStatement,
    policies: tuple[Policy, ...],
    trust: TrustedSet,
    at: str,
    progress: Callable[[int], None],
    holdings: Holdings | None = None,
    dated: str | None = None,
) -> Examined:
    """Open, judge and add up all records, build the statement anew and compare: steps 13 to 16.

    Args:
        request: what was asked for.
        statement: as it is signed.
        policies: the verifier's own of the names that the statement gives.
        trust: the verifier's keys.
        at: the moment of the answer.
        progress: called with the number of records done so far.
        holdings: what the records show is added to it.
        dated: when a witness saw the statement, which binds its records and its baseline.

    Raises:
        RefusedError: with the code of the first fault.
    """
    assert request.records is not None
    where, campaign = request.statement, statement.campaign
    profile: Profile = find_profile(campaign, request.profiles)
    ratings = installed_ratings()
    if statement.ratings_sha256 != ratings.digest:
        raise RefusedError("ratings-unknown", "was computed with other ratings than this verifier's", where=where)
    baseline = open_baseline(request.baseline, statement.centre, trust, at, dated)
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
        enrolled_only=enrolled_only(policies),
    )

    def collect(seen: Seen) -> None:
        if holdings is not None:
            holdings.see(Shown(seen.payload_sha256, seen.samples_sha256, seen.node_id, seen.signer, seen.devices))
        if request.collect is not None:
            request.collect(seen)

    examiner = Examiner(request.records, scope, trust, at, dated, by_node=request.collect is not None)
    examined = examine(examiner, progress, collect)  # 13, 14, 15
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
