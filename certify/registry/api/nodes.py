"""What a scheduler needs to know of a centre's devices: the models of a pool, and each node with its alias."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from bench.record import Choice, Count, Grade, Name, PoolClass, Precision, Sha256, Text, UtcTime
from certify.documents.kinds import Level
from certify.registry.api.common import ApiModel, ApiRequest, State

MOST_ALIASES = 100_000  # of one centre, and of one request: twice as many nodes as the largest machine has
# A host name has 253 characters at most (RFC 1123); which of them are printable is looked at where names are set.
Alias = Annotated[str, Meta(min_length=1, max_length=253)]


class StepSum(ApiModel, frozen=True, kw_only=True):
    """The part of a certified sum that rests on one step of evidence: measured, silicon, rating or none."""

    step: Name
    devices: Count
    certified_mflop_s: Count

    def __str__(self) -> str:
        return f"{self.step}:{self.certified_mflop_s}"


class RmaxLine(ApiModel, frozen=True, kw_only=True):
    """The highest HPL run that was brought as evidence for a pool, as its statement says: in no sum of the registry."""

    rate_mflop_s: Count
    by: Literal["operator", "witness"]
    tool: Text
    n: Count | None
    nodes: Count
    codes: tuple[Name, ...]  # such as `emulation-not-excluded`
    evidence_sha256: Sha256  # of the document, which the registry does not have


class ModelLine(ApiModel, frozen=True, kw_only=True):
    """The devices of one model in a pool, those included that count nothing.

    Nodes, memory and ratings stand in the records: null where these were not recomputed here. `memory_bytes` is null
    too where one of the devices reports none. Between two numbers of devices a node, or two sizes of memory, the
    smaller one stands under the plain name.
    """

    vendor: str  # as the device's driver names it
    model: str
    count_unit: str  # card, package, die or slice: what counts as one device
    devices: Count
    nodes: Count | None
    devices_per_node: Count | None
    devices_per_node_most: Count | None
    memory_bytes: Count | None  # of a device
    memory_bytes_most: Count | None
    devices_without_rating: Count | None  # in the precision that counts
    steps: tuple[StepSum, ...]  # of what is certified of the model in the pool, the strongest first


class NodeModelLine(ApiModel, frozen=True, kw_only=True):
    """The devices of one model that a node has in a pool, those included that count nothing."""

    vendor: str
    model: str
    count_unit: str
    devices: Count
    memory_bytes: Count | None  # of a device, the least; null: one of them reports none
    memory_bytes_most: Count | None
    devices_without_rating: Count | None  # null: the table of ratings that its statement binds is not known here


class NodeLine(ApiModel, frozen=True, kw_only=True):
    """One node in one pool of the newest statement of a centre and project, as it stands at this moment.

    `state` is the node's own: `schedulable` where its pool is under management and the node was heard of a moment ago,
    with certified devices that may be scheduled. `seen_at` is of the moment at which the line was sent: a node that
    beats on is no change.
    """

    centre_id: Name
    project_id: Text | None
    pool: Name
    node_id: Name
    alias: str | None  # what the centre's own scheduler calls it
    jurisdiction: str | None
    city: str | None
    district: str | None
    pool_class: PoolClass
    precision: Precision
    choice: Choice
    state: State
    level: Level
    grade: Grade | None
    simulated: bool
    statement: Sha256
    valid_until: UtcTime
    devices: Count
    certified_mflop_s: Count
    sustained_mflop_s: Count
    nominal_mflop_s: Count
    never_scheduled_mflop_s: Count  # part of what is certified that nothing known bounds
    with_witness_mflop_s: Count  # beside what is certified: counts once a witness vouches for the statement
    witnessed: bool
    schedulable_mflop_s: Count
    online: bool
    seen_at: UtcTime | None
    models: tuple[NodeModelLine, ...]


class NodeName(ApiModel, frozen=True, kw_only=True):
    """A node of a centre."""

    centre_id: Name
    node_id: Name


class NodeFeed(ApiModel, frozen=True, kw_only=True):
    """The feed of nodes. `next` goes into ``?since=``: what has changed after it, in time too, is told then.

    A follower drops all lines that it holds of the centres in `changed`, and of the nodes in `changed_nodes`, and takes
    `items` in their place: a node may be gone, or no longer be what was asked for. Without ``since`` the answer is
    everything.
    """

    at: UtcTime
    next: str
    changed: tuple[Name, ...] | None  # centres; null: `items` are all there are
    changed_nodes: tuple[NodeName, ...]  # of further centres
    items: tuple[NodeLine, ...]


class AliasLine(ApiModel, frozen=True, kw_only=True):
    """The name that a centre's own scheduler has for a node."""

    node_id: Name
    alias: str


class AliasAsk(ApiRequest, frozen=True, kw_only=True):
    """A node and the name that it is to have; null takes its name away, where names are set one by one."""

    node_id: Name
    alias: Alias | None


class AliasesAsk(ApiRequest, frozen=True, kw_only=True):
    """The names of a centre's nodes: all of them (PUT), or those that change (PATCH)."""

    aliases: Annotated[tuple[AliasAsk, ...], Meta(max_length=MOST_ALIASES)]


class Aliases(ApiModel, frozen=True, kw_only=True):
    """The names of a centre's nodes, by node. `unknown` are those that no statement in force has a record of."""

    centre_id: Name
    aliases: tuple[AliasLine, ...]
    unknown: tuple[Name, ...]
