"""Records that are judged without files or keys: what they are judged against, and the statement that they give."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from bench.profile import load_profile
from bench.record import Campaign, NodeRecord, Profile, digest
from bench.units import utc_text
from certify.documents.kinds import Baseline
from certify.documents.statement import CapacityStatement, Issue
from certify.judge.identities import identities_of
from certify.judge.record import tally_record
from certify.judge.scope import Scope
from certify.judge.tally import Tally
from certify.policy.centre import Centre
from certify.policy.policies import Policy, load_policy
from certify.policy.ratings import Ratings, installed_ratings
from certify.statement.build import StatementInputs, build
from tests.certify.measured import BEGIN_NS, centre_yaml, test_closing

ROOT = "00" * 32  # of a record set that is not looked at
ISSUE = Issue(
    sequence=1,
    previous_sha256=None,
    supersedes=(),
    issued_at=utc_text(BEGIN_NS + 86_400 * 10**9),
    valid_until=utc_text(BEGIN_NS + 100 * 86_400 * 10**9),
)


def centre_of(**changes: Any) -> Centre:
    """Return the centre of `centre_yaml`."""
    return msgspec.convert(centre_yaml(**changes), Centre)


def policy_of(**changes: Any) -> Policy:
    """Return guangzhou-2000p with changes, under a name of its own."""
    return msgspec.structs.replace(load_policy("guangzhou-2000p"), policy="changed", **changes)


def basis_of(
    campaign: Campaign,
    profile: str | Profile,
    centre: Centre | None = None,
    policies: tuple[Policy, ...] | None = None,
    baseline: Baseline | None = None,
    ratings: Ratings | None = None,
) -> StatementInputs:
    """Return what a statement is computed from besides its records."""
    plan = profile if isinstance(profile, Profile) else load_profile(profile)
    centre = centre or centre_of()
    policies = policies or (load_policy("guangzhou-2000p"),)
    scope = Scope.of(
        campaign,
        campaign.starts_from,
        centre=centre,
        profile=plan,
        ratings=ratings or installed_ratings(),
        policies=policies,
        in_baseline=identities_of(baseline) if baseline else frozenset(),
        closing=None if campaign.self_issued else test_closing(campaign),
    )
    return StatementInputs(
        scope, policies, digest(baseline) if baseline else None, len(baseline.devices) if baseline else 0
    )


def tally_of(records: Iterable[NodeRecord], basis: StatementInputs) -> Tally:
    """Return the tally of records."""
    tally = Tally()
    for record in records:
        tally_record(record, basis.scope, tally)
    return tally


def statement_of(records: Iterable[NodeRecord], basis: StatementInputs) -> CapacityStatement:
    """Return the statement of records, as ``certify`` and ``verify`` compute it."""
    return build(tally_of(records, basis), ROOT, basis, ISSUE)
