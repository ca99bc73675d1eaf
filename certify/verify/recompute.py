"""From a statement's records and samples to the statement that they give: steps 13 to 17 of docs/verification.md."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from bench.errors import RefusedError
from bench.record import Profile, encode
from certify.documents.kinds import Baseline, Opened
from certify.documents.merkle import record_root
from certify.judge.aggregate import (
    Scope,
    accepted_holds,
    accepted_with_witness,
    counting_of,
    enrolled_only,
)
from certify.judge.identities import identities_of
from certify.policy.policies import Policy
from certify.policy.ratings import Ratings
from certify.statement.baseline import baseline_facts, open_baseline
from certify.statement.build import Basis, CapacityStatement, absences_of, build
from certify.statement.campaign import find_profile
from certify.statement.claim import Holdings, Shown
from certify.statement.records import Examined, Examiner, Seen, examine
from certify.trust.trusted_set import TrustedSet
from certify.verify.statement_checks import own_ratings

if TYPE_CHECKING:
    from certify.samples.rebuild import Inspector
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
    """Open, judge and add up all records, build the statement anew and compare: steps 13 to 17.

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
    ratings = own_ratings(statement, request)
    baseline = open_baseline(request.baseline, statement.centre, trust, at, dated)
    if statement.baseline_sha256 != (baseline.payload_sha256 if baseline else None):
        wanted = statement.baseline_sha256
        given = "no baseline was given" if baseline is None else "the one given is another"
        raise RefusedError(
            "baseline-differs",
            f"binds the baseline {wanted[:16]}…, and {given}" if wanted else "binds no baseline, and one was given",
            where=where,
            fix="give that file with --baseline" if wanted else "leave --baseline out",
        )
    scope = scope_of(statement, policies, profile, ratings, baseline)

    def collect(seen: Seen) -> None:
        if holdings is not None:
            holdings.see(Shown(seen.payload_sha256, seen.samples_sha256, seen.node_id, seen.signer, seen.devices))
        if request.collect is not None:
            request.collect(seen)

    inspector = None if request.samples is None else inspector_of((request.samples,), scope)
    examiner = Examiner(request.records, scope, trust, at, dated, request.collect is not None, inspector)
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
    if (issue := examined.samples.issues.first) is not None:  # 17
        raise RefusedError(issue.code, issue.what, where=issue.where)
    return examined


def scope_of(
    statement: CapacityStatement,
    policies: tuple[Policy, ...],
    profile: Profile,
    ratings: Ratings,
    baseline: Opened[Baseline] | None,
) -> Scope:
    """Return what the records of a statement are judged against.

    Raises:
        InputError: `policies-differ`, `class-not-counted`.
    """
    return Scope(
        centre=statement.centre,
        campaign=statement.campaign,
        campaign_sha256=statement.campaign_sha256,
        starts_at=statement.starts_at,
        profile=profile,
        profile_sha256=statement.campaign.profile_sha256,
        ratings=ratings,
        counting=counting_of(policies, statement.centre),
        accept=accepted_holds(policies),
        accept_with_witness=accepted_with_witness(policies),
        existing=identities_of(baseline.predicate) if baseline else frozenset(),
        enrolled_only=enrolled_only(policies),
        closing=statement.closing,
    )


def inspector_of(folders: tuple[Path, ...], scope: Scope, audit: bool = False) -> Inspector:
    """Return what holds the records of a statement against their samples in some folders."""
    from certify.samples.rebuild import Inspector

    return Inspector(folders, scope.campaign, scope.profile, scope.ratings, audit)


class Difference(NamedTuple):
    """One field of a statement that is not what its records give."""

    path: tuple[str | int, ...]
    stated: Any
    computed: Any

    def __str__(self) -> str:
        path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in self.path).lstrip(".")
        if isinstance(self.stated, list) and isinstance(self.computed, list):
            return f"{path} has {len(self.stated)} entries, computed {len(self.computed)}"
        return f"{path} is {self.stated!r}, computed {self.computed!r}"


def differences(stated: Any, computed: Any, path: tuple[str | int, ...] = ()) -> Iterator[Difference]:
    """Yield every field in which two plain values differ; of lists of different length, the lists."""
    if isinstance(stated, dict) and isinstance(computed, dict):
        for key in sorted(stated.keys() | computed.keys()):
            yield from differences(stated.get(key), computed.get(key), (*path, key))
    elif isinstance(stated, list) and isinstance(computed, list) and len(stated) == len(computed):
        for i, (a, b) in enumerate(zip(stated, computed, strict=True)):
            yield from differences(a, b, (*path, i))
    elif stated != computed or type(stated) is not type(computed):
        yield Difference(path, stated, computed)


def plain(statement: CapacityStatement) -> Any:
    """Return a statement as plain dictionaries, lists and values."""
    return msgspec.json.decode(encode(statement))


def _difference(stated: CapacityStatement, computed: CapacityStatement) -> Difference | str:
    """Return the first field that differs."""
    return next(differences(plain(stated), plain(computed)), "nothing")
