"""What the registry's API takes and gives, version 1: one type for the server, the client and the OpenAPI document.

Rates are integers in MFLOP/s (`certify.statement.build`); `*_pflops` beside them are the same truncated to six
decimals, as text, for people and spreadsheets. Times have the one form of documents. Public views carry counts, never
identities.
"""

from __future__ import annotations

from typing import Annotated, Generic, Literal, TypeVar

from msgspec import Meta, Struct

from bench.record import Choice, Count, Grade, Name, PoolClass, Ppm, Precision, Sha256, Text, UtcTime
from certify.documents.kinds import Level
from certify.policy.centre import Bilingual
from certify.policy.verdicts import Verdict
from certify.statement.build import CeilingLine

T = TypeVar("T")
State = Literal[
    "declared",  # signed by who may sign it; its records were not recomputed here: the centre's word
    "certified",  # recomputed here from its records
    "registered",  # and entered in the register by the platform
    "managed",  # and under the platform's management (纳管)
    "schedulable",  # and heard of a moment ago: what can be scheduled now
    "expired",
    "superseded",
    "revoked",
]
REACHED: tuple[State, ...] = ("declared", "certified", "registered", "managed", "schedulable")  # ascending
ENDED: tuple[State, ...] = ("expired", "superseded", "revoked")
Scope = Literal["operator", "platform", "reader", "metrics"]
Act = Literal["register", "deregister", "manage", "release"]


class Api(Struct, frozen=True, kw_only=True):
    """Base of every type here. Unknown fields are passed over: a later server may tell more."""


class Ask(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of what is asked for: strict."""


class Rates(Api, frozen=True, kw_only=True):
    """Sum over devices."""

    devices: Count = 0
    certified_mflop_s: Count = 0
    sustained_mflop_s: Count = 0
    nominal_mflop_s: Count = 0


class Page(Api, Generic[T], frozen=True, kw_only=True):
    """A part of a list, newest first; `next` is the cursor of the part after it, null at the end."""

    items: tuple[T, ...]
    next: str | None


class Problem(Api, frozen=True, kw_only=True):
    """RFC 9457. `code` is a reason code (``petaseal explain CODE``); `receipt` is there where a refusal was decided."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    instance: str  # id of the request, which the registry's log bears too
    receipt: str | None = None


class Service(Api, frozen=True, kw_only=True):
    """What this registry is."""

    name: Bilingual
    version: str
    api: Literal["v1"]
    registry_keyid: Sha256  # signs its receipts
    registry_spki: str  # base64 DER
    trust_root: Text  # id, version and fingerprint of what it trusts
    accepts_simulated: bool
    public_read: bool
    stale_after_s: Count  # a node that was not heard of for so long is not schedulable


class Decided(Api, frozen=True, kw_only=True):
    """The answer to a submission."""

    decision: Literal["accepted", "refused"]
    at: UtcTime  # of the decision; of the first one where the same was accepted before
    code: Name | None
    detail: str | None
    level: Level | None
    payload_sha256: Sha256 | None
    receipt: str | None  # base64 of the signed receipt (a DSSE envelope)
    repeated: bool = False  # nothing new was stored
    notes: tuple[str, ...] = ()


class Decision(Api, frozen=True, kw_only=True):
    """A line of the list of decisions."""

    id: Count
    at: UtcTime
    kind: str
    decision: Literal["accepted", "refused"]
    code: str | None
    detail: str | None
    level: Level | None
    payload_sha256: Sha256 | None
    centre_id: str | None


class ExternalIdentifier(Api, frozen=True, kw_only=True):
    """An identifier that somebody else issued (算力标识)."""

    scheme: Text
    value: Text
    issued_by: Text | None = None
    centre_id: Name
    project_id: Text | None = None
    pool: Name | None = None
    source: Literal["statement", "platform"]


class StepSum(Api, frozen=True, kw_only=True):
    """The part of a pool's certified sum that rests on one step of evidence: measured, silicon, rating or none."""

    step: Name
    devices: Count
    certified_mflop_s: Count

    def __str__(self) -> str:
        return f"{self.step}:{self.certified_mflop_s}"


class PoolCapacity(Api, frozen=True, kw_only=True):
    """A line of the feed: one pool of the newest statement of a centre and project, as it stands at this moment.

    `schedulable_mflop_s` is what stands on nodes heard of a moment ago, where the statement holds and the pool is under
    management; else 0. It is of `certified_mflop_s` less `never_scheduled_mflop_s` (which nothing known bounds), and,
    where the registry accepted a witness of the statement (`witnessed`), of `with_witness_mflop_s` beside it.
    """

    centre_id: Name
    project_id: Text | None
    pool: Name
    pool_class: PoolClass
    precision: Precision
    choice: Choice
    accumulate: Precision
    state: State
    level: Level
    grade: Grade | None
    simulated: bool  # proves nothing: in no sum
    statement: Sha256
    sequence: Count
    issued_at: UtcTime
    valid_until: UtcTime
    ended_at: UtcTime | None  # since when it is expired or revoked
    ended_code: str | None
    district: str | None
    devices: Count
    certified_mflop_s: Count
    certified_pflops: str
    sustained_mflop_s: Count
    sustained_pflops: str
    nominal_mflop_s: Count
    nominal_pflops: str
    steps: tuple[StepSum, ...]  # of `certified_mflop_s`, the strongest first
    never_scheduled_mflop_s: Count
    with_witness_mflop_s: Count
    witnessed: bool
    schedulable_mflop_s: Count
    schedulable_pflops: str
    nodes: Count
    nodes_online: Count
    external_ids: tuple[str, ...]  # "scheme:value"
    alarms: Count


class Capacity(Api, frozen=True, kw_only=True):
    """The feed. `next` goes into ``?since=``: what has changed after it, in time too, is told then.

    A follower drops all lines that it holds of the centres in `changed` and takes `items` in their place: a pool may be
    gone from the newest statement, or no longer be what was asked for. Without ``since`` the answer is everything.
    """

    at: UtcTime
    next: str
    changed: tuple[Name, ...] | None  # centres; null: `items` are all there are
    items: tuple[PoolCapacity, ...]


class NodeCapacity(Api, frozen=True, kw_only=True):
    """What one node contributes to a pool; for the platform and for the centre's own operator."""

    centre_id: Name
    pool: Name
    node_id: Name
    devices: Count
    certified_mflop_s: Count
    sustained_mflop_s: Count
    nominal_mflop_s: Count
    never_scheduled_mflop_s: Count  # part of what is certified that nothing known bounds
    with_witness_mflop_s: Count  # beside what is certified: counts once a witness vouches for the statement
    online: bool
    seen_at: UtcTime | None


class ClassCapacity(Api, frozen=True, kw_only=True):
    """One class of a statement in the workload that it counts."""

    pool_class: PoolClass
    precision: Precision
    choice: Choice
    devices: Count
    certified_mflop_s: Count
    sustained_mflop_s: Count
    upper_mflop_s: Count | None
    nominal_mflop_s: Count
    never_scheduled_mflop_s: Count
    with_witness_mflop_s: Count
    untested_devices: Count
    nodes_missing: Count


class StatementSummary(Api, frozen=True, kw_only=True):
    """A statement as the registry knows it."""

    payload_sha256: Sha256
    centre_id: Name
    name: Bilingual
    project_id: Text | None
    sequence: Count
    previous_sha256: Sha256 | None
    issued_at: UtcTime
    valid_until: UtcTime
    received_at: UtcTime
    state: State  # the furthest that any of its pools reached
    ended_at: UtcTime | None
    ended_code: str | None
    level: Level
    grade: Grade | None
    simulated: bool
    district: str | None
    classes: tuple[ClassCapacity, ...]
    alarms: Count


class StatementDetail(Api, frozen=True, kw_only=True):
    """One statement, with what was decided of it."""

    summary: StatementSummary
    operator: str
    measured_from: UtcTime
    measured_until: UtcTime
    campaign_id: str
    challenge_source: str
    records: Count
    signers: tuple[Sha256, ...]
    verdicts: tuple[Verdict, ...]
    ceilings: tuple[CeilingLine, ...]  # what bounds its figures
    decisions: tuple[Decision, ...]
    superseded_by: Sha256 | None
    links: dict[str, str]  # envelope, receipt, page, and where one has the right: records, nodes


class CentreSummary(Api, frozen=True, kw_only=True):
    """A centre: its newest statements in force, added up. `state` is the furthest that any of its pools reached."""

    centre_id: Name
    name: Bilingual
    operator: str
    district: str | None
    jurisdiction: str | None
    tier: str
    domestic: bool | None
    state: State
    statements: Count
    in_force: Count
    simulated: bool  # one in force is: it is in no sum
    valid_until: UtcTime | None  # the earliest of those in force
    classes: tuple[ClassCapacity, ...]
    schedulable_mflop_s: Count
    alarms: Count


class CentreDetail(Api, frozen=True, kw_only=True):
    """A centre, with its pools now, its statements, newest first, and its attempts."""

    summary: CentreSummary
    pools: tuple[PoolCapacity, ...]
    statements: tuple[StatementSummary, ...]  # the newest 100
    attempts: tuple[AttemptLine, ...]
    external_ids: tuple[ExternalIdentifier, ...]


class AttemptLine(Api, frozen=True, kw_only=True):
    """A measurement that was opened: a challenge that was drawn, or a campaign that was shown."""

    centre_id: Name
    challenge: str
    opened_at: UtcTime
    expires_at: UtcTime | None
    campaign_id: str | None
    campaign_sha256: Sha256 | None
    records: Count  # posted here
    statement: Sha256 | None  # the first that answers it
    state: Literal["open", "submitted", "not-submitted"]  # not-submitted: its time is over, and no statement came


class LifecycleLine(Api, frozen=True, kw_only=True):
    """The sum of one state and class: every pool stands in exactly one; `reached` adds those that went further.

    Of ended states `reached` equals `own`. Precisions are never mixed in a line.
    """

    state: State
    pool_class: PoolClass
    precision: Precision
    pools: Count
    own: Rates
    reached: Rates


class Lifecycle(Api, frozen=True, kw_only=True):
    """All states, each with its own sum. Simulated statements are in none."""

    at: UtcTime
    lines: tuple[LifecycleLine, ...]


class Gap(Api, frozen=True, kw_only=True):
    """What is missing to a threshold on one basis; 0 where it is reached. Of a share: in ppm."""

    basis: str
    gap_mflop_s: Count | None
    gap_ppm: Ppm | None


class CityCondition(Api, frozen=True, kw_only=True):
    """A condition of a city's policy over all statements in force: value, gap and verdict on each basis."""

    title: Bilingual
    clause_text: str
    verdict: Verdict
    gaps: tuple[Gap, ...]


class Component(Api, frozen=True, kw_only=True):
    """A class in the precision that the policy counts."""

    pool_class: PoolClass
    precision: Precision
    centres: Count
    counted: Rates
    managed: Rates
    schedulable_mflop_s: Count


class Missing(Api, frozen=True, kw_only=True):
    """Statements that count nothing in the city's sum, and why."""

    code: str  # declared-only | grade-too-low | expired | revoked | simulated | precision-differs | duplicate-device
    statements: Count
    certified_mflop_s: Count
    examples: tuple[str, ...]  # centre ids, at most 20


class City(Api, frozen=True, kw_only=True):
    """The roll-up of one policy."""

    policy: Name
    title: Bilingual
    document_status: Literal["draft", "in_force"]
    jurisdiction: str | None
    at: UtcTime
    conditions: tuple[CityCondition, ...]
    components: tuple[Component, ...]
    missing: tuple[Missing, ...]
    tiers: dict[str, Count]  # tier -> centres
    operators: Count  # distinct
    domestic_ppm: Ppm | None  # of certified intelligent compute, by the vendor of the devices
    devices_contested: Count  # that a refused submission claimed too: counted once, where they were first received


class Alarm(Api, frozen=True, kw_only=True):
    """What two statements cannot both be right about, or what an official should look at."""

    id: Count
    at: UtcTime
    code: str
    title: Bilingual  # of the reason code
    centre_id: str
    payload_sha256: Sha256
    other_centre_id: str | None
    other_sha256: Sha256 | None
    devices: Count
    what: str | None  # names nodes: for the platform, and the operators of both centres


class ChallengeAsk(Ask, frozen=True, kw_only=True):
    """Draw a challenge for a campaign."""

    centre_id: Name


class Drawn(Api, frozen=True, kw_only=True):
    """A challenge: it opens one campaign of one centre, which is issued between these times."""

    challenge: str
    centre_id: Name
    issued_at: UtcTime
    expires_at: UtcTime


class Nonce(Api, frozen=True, kw_only=True):
    """What the next heartbeat of a node must carry; good once."""

    centre_id: Name
    node_id: Name
    nonce: str


class Beat(Api, frozen=True, kw_only=True):
    """The answer to a heartbeat."""

    centre_id: Name
    node_id: Name
    online: bool  # False: it was heard, and its devices are not those that were certified
    code: str | None
    seen_at: UtcTime
    nonce: str  # for the next one
    stale_at: UtcTime


class IdentifierAsk(Ask, frozen=True, kw_only=True):
    """An identifier that was issued elsewhere."""

    scheme: Text
    value: Text
    issued_by: Text | None = None


class ActAsk(Ask, frozen=True, kw_only=True):
    """What the platform does with a pool."""

    act: Act
    centre_id: Name
    project_id: Text | None = None
    pool: Name
    reason: Text
    external_ids: Annotated[tuple[IdentifierAsk, ...], Meta(max_length=16)] = ()


class ActDone(Api, frozen=True, kw_only=True):
    """An act as it stands in the register."""

    id: Count
    at: UtcTime
    act: Act
    centre_id: Name
    project_id: Text | None
    pool: Name
    reason: Text


class DeviceSighting(Api, frozen=True, kw_only=True):
    """A statement whose records show a device."""

    statement: Sha256
    centre_id: Name
    project_id: Text | None
    place: str  # node/device
    kind: Literal["device", "parent"]
    claimed: bool
    state: State
    issued_at: UtcTime
    valid_until: UtcTime


class DeviceHistory(Api, frozen=True, kw_only=True):
    """Where a uuid, serial or die id was counted."""

    id: str
    counted_in: Sha256 | None  # the statement in force that it counts in now
    sightings: tuple[DeviceSighting, ...]


class Health(Api, frozen=True, kw_only=True):
    """Whether the service answers, and what it waits for."""

    status: Literal["ok", "unavailable"]
    checks: dict[str, str]
