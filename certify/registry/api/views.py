"""How much stands where: statements, centres and devices, and the feed of pools."""

from __future__ import annotations

from typing import Literal

from bench.record import Choice, Count, Grade, Name, PoolClass, Precision, Sha256, Signed, Text, UtcTime
from certify.documents.kinds import Level
from certify.documents.statement import CeilingLine, EvidenceLine, Fabric
from certify.policy.centre import Bilingual
from certify.policy.verdicts import Verdict
from certify.registry.api.common import ApiModel, State, TrustStatus
from certify.registry.api.nodes import ModelLine, RmaxLine, StepSum
from certify.registry.api.oversight import Acknowledgement

FabricState = Literal["connected", "partly", "not-shown"]


class PoolCapacity(ApiModel, frozen=True, kw_only=True):
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
    name: Bilingual  # of the centre
    jurisdiction: str | None
    city: str | None  # in which that lies, by the code of GB/T 2260
    devices_without_rating: Count  # of those that count; each line of `models` says it of all that were found
    models: tuple[ModelLine, ...]  # those with the most devices first
    models_left_out: Count  # further ones, of which there are too many to show
    rmax_mflop_s: Count | None = None  # beside `certified_mflop_s`, of another tool and never added to it
    rmax_pflops: str | None = None
    rmax: RmaxLine | None = None  # whose it is
    fabric: FabricState | None = None  # of the whole statement's devices; null: its campaign had no runs of the network
    fabric_groups: Count | None = None
    network_loss_ppm: Signed | None = None  # for the profile's first T, an assumption


class CapacityFeed(ApiModel, frozen=True, kw_only=True):
    """The feed. `next` goes into ``?since=``: what has changed after it, in time too, is told then.

    A follower drops all lines that it holds of the centres in `changed` and takes `items` in their place: a pool may be
    gone from the newest statement, or no longer be what was asked for. Without ``since`` the answer is everything.
    """

    at: UtcTime
    next: str
    changed: tuple[Name, ...] | None  # centres; null: `items` are all there are
    rehearsal: bool = False  # simulated centres add up here, and they alone: it proves nothing
    items: tuple[PoolCapacity, ...]
    trust: TrustStatus | None = None


class NodeCapacity(ApiModel, frozen=True, kw_only=True):
    """What one node contributes to a pool; for the platform and for the centre's own operator."""

    centre_id: Name
    pool: Name
    node_id: Name
    alias: str | None  # what the centre's own scheduler calls it
    devices: Count
    certified_mflop_s: Count
    sustained_mflop_s: Count
    nominal_mflop_s: Count
    never_scheduled_mflop_s: Count  # part of what is certified that nothing known bounds
    with_witness_mflop_s: Count  # beside what is certified: counts once a witness vouches for the statement
    online: bool
    seen_at: UtcTime | None


class Decision(ApiModel, frozen=True, kw_only=True):
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
    object_sha256: Sha256 | None = None  # of what was submitted; for the platform, and the centre's operator
    body_dropped_at: UtcTime | None = None  # since when what was refused is no longer stored


class ExternalIdentifier(ApiModel, frozen=True, kw_only=True):
    """An identifier that somebody else issued (算力标识)."""

    scheme: Text
    value: Text
    issued_by: Text | None = None
    centre_id: Name
    project_id: Text | None = None
    pool: Name | None = None
    source: Literal["statement", "platform"]


class ClassCapacity(ApiModel, frozen=True, kw_only=True):
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


class StatementSummary(ApiModel, frozen=True, kw_only=True):
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


class RecordTool(ApiModel, frozen=True, kw_only=True):
    """Which petaseal made how many records of a statement; unknown: of no release, and not the one that runs here."""

    version: Text  # as the records tell it
    sha256: Sha256  # of its sources, as they tell it
    records: Count
    known: bool
    release: str | None  # of a known one
    note: Literal["tool-unknown"] | None  # of an unknown one


class SharedKey(ApiModel, frozen=True, kw_only=True):
    """A key that signed the records of several nodes, so that it tells no machine from another."""

    keyid: Sha256
    nodes: Count
    note: Literal["node-key-shared"] = "node-key-shared"


class StatementDetail(ApiModel, frozen=True, kw_only=True):
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
    records_root: Sha256 | None = None  # that a revocation of it names
    tools: tuple[RecordTool, ...] = ()  # that made its records, the most first; empty until they were recomputed here
    shared_keys: tuple[SharedKey, ...] = ()  # of its records
    fabric: Fabric | None = None  # what the network's runs show; null: the campaign had none
    evidence: tuple[EvidenceLine, ...] = ()  # other tools' results, as stated: registries take no evidence documents
    # envelope, receipt (the first), receipt_first, receipt_highest, page, and where one has the right: records, nodes
    links: dict[str, str]


class CentreSummary(ApiModel, frozen=True, kw_only=True):
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


class CentreDetail(ApiModel, frozen=True, kw_only=True):
    """A centre, with its pools now, its statements, newest first, and its attempts."""

    summary: CentreSummary
    pools: tuple[PoolCapacity, ...]
    statements: tuple[StatementSummary, ...]  # the newest 100
    attempts: tuple[AttemptLine, ...]
    external_ids: tuple[ExternalIdentifier, ...]


class AttemptLine(ApiModel, frozen=True, kw_only=True):
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


class Alarm(ApiModel, frozen=True, kw_only=True):
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
    acknowledgement: Acknowledgement | None = None  # the platform's last word on it


class DeviceSighting(ApiModel, frozen=True, kw_only=True):
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


class DeviceHistory(ApiModel, frozen=True, kw_only=True):
    """Where a uuid, serial or die id was counted."""

    id: str
    counted_in: Sha256 | None  # the statement in force that it counts in now
    sightings: tuple[DeviceSighting, ...]
