"""The sum of each state, and what all statements in force say of a city's policy."""

from __future__ import annotations

from typing import Literal

from bench.record import Count, Name, PoolClass, Ppm, Precision, Sha256, Text, UtcTime
from certify.policy.centre import Bilingual
from certify.policy.policies import Unit
from certify.policy.verdicts import Verdict
from certify.registry.api.common import ApiModel, Rates, State, TrustStatus


class LifecycleLine(ApiModel, frozen=True, kw_only=True):
    """The sum of one state and class: every pool stands in exactly one; `reached` adds those that went further.

    Of ended states `reached` equals `own`. Precisions are never mixed in a line.
    """

    state: State
    pool_class: PoolClass
    precision: Precision
    pools: Count
    own: Rates
    reached: Rates


class Lifecycle(ApiModel, frozen=True, kw_only=True):
    """All states, each with its own sum. Simulated statements are in none."""

    at: UtcTime
    rehearsal: bool = False  # simulated centres add up here, and they alone: it proves nothing
    lines: tuple[LifecycleLine, ...]
    trust: TrustStatus | None = None


class Gap(ApiModel, frozen=True, kw_only=True):
    """What is missing to a threshold on one basis; 0 where it is reached. Of a share: in ppm.

    Example: ``{"basis": "certified", "gap_mflop_s": 93300000000001, "gap_ppm": null, "reached_ppm": 67000,
    "least_mflop_s": 6700000000000, "most_mflop_s": 31200000000000, "least_ppm": null, "most_ppm": null}``
    """

    basis: str
    gap_mflop_s: Count | None
    gap_ppm: Ppm | None
    reached_ppm: Count | None = None  # of the target, truncated: 999,999 is below it; may be more than 1,000,000
    least_mflop_s: Count | None = None  # proven, resting on no hold
    most_mflop_s: Count | None = None  # with all that is missing; null: nothing bounds it
    least_ppm: Ppm | None = None  # of a share
    most_ppm: Ppm | None = None


class CityCondition(ApiModel, frozen=True, kw_only=True):
    """A condition of a city's policy over all statements in force: value, gap and verdict on each basis."""

    title: Bilingual
    clause_text: str
    verdict: Verdict
    gaps: tuple[Gap, ...]
    target: Count | None = None  # in `target_unit`, as the text has it; null where it names no capacity
    target_unit: Unit | None = None
    absent_at_most_mflop_s: Count | None = None  # what absent centres could add to what is compared; null: unknown
    absent_at_most_nominal_mflop_s: Count | None = None


class Component(ApiModel, frozen=True, kw_only=True):
    """A class in the precision that the policy counts."""

    pool_class: PoolClass
    precision: Precision
    centres: Count
    counted: Rates
    managed: Rates
    schedulable_mflop_s: Count


class Missing(ApiModel, frozen=True, kw_only=True):
    """Statements that count nothing in the city's sum, and why."""

    code: str  # declared-only | grade-too-low | expired | revoked | simulated | precision-differs | duplicate-device
    statements: Count
    certified_mflop_s: Count
    examples: tuple[str, ...]  # centre ids, at most 20


Absence = Literal["expired", "revoked", "superseded", "never-submitted"]  # superseded: by a simulated statement


class AbsentClass(ApiModel, frozen=True, kw_only=True):
    """What an absent centre could at most add to a class, by its last valid statement.

    It is the upper bound of what counted and the rating of what was not tested, with what that statement's own missing
    nodes could add. Null: nobody knows.
    """

    pool_class: PoolClass
    at_most_mflop_s: Count | None  # on the bases `certified` and `sustained`
    at_most_nominal_mflop_s: Count | None


class AbsentCentre(ApiModel, frozen=True, kw_only=True):
    """A centre, or one of its projects, that is expected in a city and has no statement in force.

    Example: ``{"centre_id": "gz-nansha", "project_id": null, "code": "expired", "since": "2027-03-01T08:00:00.000000Z",
    "last_valid": "3f1c...", "could_add": [{"pool_class": "intelligent", "at_most_mflop_s": 2100000000000,
    "at_most_nominal_mflop_s": 2500000000000}]}``
    """

    centre_id: Name
    project_id: Text | None
    code: Absence
    since: UtcTime | None  # null: it never submitted
    last_valid: Sha256 | None  # the statement that bounds it; null: nothing does
    could_add: tuple[AbsentClass, ...]  # classes that it could add nothing to are left out


class City(ApiModel, frozen=True, kw_only=True):
    """The roll-up of one policy."""

    policy: Name
    title: Bilingual
    document_status: Literal["draft", "in_force"]
    jurisdiction: str | None
    at: UtcTime
    conditions: tuple[CityCondition, ...]
    components: tuple[Component, ...]
    bookkeeping: Rates | None = None  # the sum of `counted` over the components: it mixes precisions, no rate at all
    missing: tuple[Missing, ...]
    absent: tuple[AbsentCentre, ...] = ()
    trust: TrustStatus | None = None
    rehearsal: bool = False  # simulated centres add up here, and they alone: it proves nothing
    tiers: dict[str, Count]  # tier -> centres
    operators: Count  # distinct
    domestic_ppm: Ppm | None  # of certified intelligent compute, by the vendor of the devices
    devices_contested: Count  # that a refused submission claimed too: counted once, where they were first received
