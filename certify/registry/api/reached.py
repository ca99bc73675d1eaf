"""Who reached the value that a policy names for one centre, and how a city's sums became what they are."""

from __future__ import annotations

from typing import Literal

from bench.record import Count, Name, PoolClass, Precision, Sha256, Text, UtcTime
from certify.documents.kinds import Level
from certify.policy.centre import Bilingual
from certify.policy.policies import Unit
from certify.policy.thresholds import Outcome
from certify.policy.verdicts import BasisVerdict
from certify.registry.api.common import ApiModel, State


class OtherCondition(ApiModel, frozen=True, kw_only=True):
    """Another condition of the same policy, by the statement's own verdict: what is `declared` nobody measured."""

    condition: Name
    title: Bilingual | None  # null: the registry does not hold the policy that the statement binds
    verdict: Outcome
    reason: Name | None


class ReachedLine(ApiModel, frozen=True, kw_only=True):
    """The newest statement of a centre or project in force, and its own verdict on the value, on each basis.

    Example: ``{"centre_id": "gz-nansha", "project_id": "phase-2", "verdict": "met", "reached_ppm": 1155000, ...}``
    """

    centre_id: Name
    project_id: Text | None
    name: Bilingual
    statement: Sha256
    level: Level
    state: State
    verdict: Outcome  # over all bases that the text leaves open
    reason: Name | None
    bases: tuple[BasisVerdict, ...]
    certified_mflop_s: Count  # of what the condition counts
    reached_ppm: Count  # of the value, on `certified` where that is judged; truncated
    conditions: tuple[OtherCondition, ...]


class Reached(ApiModel, frozen=True, kw_only=True):
    """One condition of a policy for single centres, and who met it. It is no decision, and nobody "passes" by it."""

    policy: Name
    title: Bilingual
    document_status: Literal["draft", "in_force"]
    condition: Name
    condition_title: Bilingual
    target: Count
    target_unit: Unit
    at: UtcTime
    rehearsal: bool = False  # simulated centres add up here, and they alone: it proves nothing
    met: tuple[ReachedLine, ...]  # recomputed here, the most first
    declared_only: tuple[ReachedLine, ...]  # met by a statement whose records nobody recomputed here
    below: tuple[ReachedLine, ...]  # at most 20, the nearest first
    below_count: Count
    not_judged: Count  # statements in force that bind another policy


class TrendPoint(ApiModel, frozen=True, kw_only=True):
    """The sums of one class at the end of a day (UTC), or now.

    Example: ``{"at": "2027-03-01T23:59:59.999999Z", "pool_class": "intelligent", "precision": "fp16",
    "certified_mflop_s": 6700000000000, "managed_mflop_s": 2000000000000, "schedulable_mflop_s": null}``
    """

    at: UtcTime
    pool_class: PoolClass
    precision: Precision
    certified_mflop_s: Count
    managed_mflop_s: Count
    schedulable_mflop_s: Count | None  # the last sample of the day; null: none was taken


class Trend(ApiModel, frozen=True, kw_only=True):
    """How a city's sums became what they are: derived from what is stored, as it is known at `at`.

    A statement counts from the moment at which its records were recomputed, until it was replaced, expired or was
    revoked; a revocation counts from when it says. Only `schedulable_mflop_s` is sampled, hourly, while the registry is
    served: nobody stores heartbeats.
    """

    policy: Name
    at: UtcTime
    rehearsal: bool = False  # simulated centres add up here, and they alone: it proves nothing
    points: tuple[TrendPoint, ...]  # by time, then in the order of classes
