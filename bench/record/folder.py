"""The campaign's folder, which all its nodes share: where what lies, and how it is read and written.

Thousands of nodes on one file system: files lie in shards, each node writes its own status and nobody else's, and a
survey reads each status at most once (`survey`). Whatever can be half-read is taken as not yet written.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shlex
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import msgspec

from bench.errors import InputError, OutputExistsError, RefusedError
from bench.record.campaign import Campaign
from bench.record.fields import Count, PoolClass, UtcTime, digest, encode, in_words
from bench.record.files import replacing, write_atomic
from bench.record.node import Device, DeviceModel
from bench.record.reading import SharedFile, read_bytes
from bench.record.shapes import ChosenShape, Settled
from bench.units import utc_ns

SHARDS = 256
CLOSING = "closing.json"  # of the closing document, in the campaign's folder and beside its collected records
MAX_BYTES = 64 * 2**20
STATUS_BYTES = 2**20
UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)  # what bytes that somebody wrote may do to a parser

State = Literal[
    "arrived", "preparing", "prepared", "ready", "measuring", "concluding", "done", "checked", "failed", "aborted"
]
FINAL: frozenset[State] = frozenset({"done"})  # what failed or was aborted may be started again before T0
T = TypeVar("T")


class RosterNode(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An expected node, and the engine's name for it, which stands in no signed document."""

    node_id: str
    name: str
    pool: str
    group: str | None  # switch or rack, where the engine knows it
    also: tuple[str, ...] = ()  # other pools with devices on it, where a machine is split by device

    @property
    def pools(self) -> tuple[str, ...]:
        """All pools with devices on it, its own first."""
        return (self.pool, *self.also)


class LeftOut(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A node that the campaign leaves out, and why."""

    node_id: str
    name: str
    pool: str
    reason: str


class RosterPool(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A pool as the engine needs it, and what counts in it."""

    pool: str
    pool_class: PoolClass
    workload: str  # that counts, such as fp16
    device: str  # as `petaseal run --device` takes it
    partition: str | None
    gres: str | None
    # What the ratings say of one node's accelerators, for estimates; null where they cannot be known beforehand.
    devices_per_node: int | None
    power_mw: int | None  # of one device


class Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A threshold that the campaign's sum is shown against."""

    name: str  # policy/condition
    classes: tuple[PoolClass, ...]
    value_mflop_s: int


def _known(joined: Callable[[list[int]], int], values: Collection[int | None]) -> int | None:
    """Return what values give together, where all are known."""
    known = [value for value in values if value is not None]
    return joined(known) if len(known) == len(values) else None


class Roster(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the centre keeps to itself about a campaign: its nodes' names, and how its engine is asked for them."""

    campaign_sha256: str
    salt: str  # node ids are drawn with it, so that nobody guesses names from them
    nodes: tuple[RosterNode, ...]
    left_out: tuple[LeftOut, ...]
    pools: tuple[RosterPool, ...]
    targets: tuple[Target, ...]
    heartbeat_ns: int  # from one sign of life to the next
    engine: str | None = None  # that the nodes were taken from, and that launches where nothing else is said

    def pool_of(self, node: RosterNode) -> RosterPool:
        """Return a node's pool; of a mixed node with the devices of its other pools, since it measures all at once."""
        pools = {pool.pool: pool for pool in self.pools}
        parts: dict[str, RosterPool] = {}
        for name in node.pools:
            parts.setdefault(pools[name].device, pools[name])
        counts, powers = [part.devices_per_node for part in parts.values()], [part.power_mw for part in parts.values()]
        return msgspec.structs.replace(
            pools[node.pool], device=",".join(parts), devices_per_node=_known(sum, counts), power_mw=_known(max, powers)
        )

    def node_named(self, name: str) -> RosterNode:
        """Return a node by the engine's name for it, or by its id.

        Raises:
            InputError: `node-not-expected`.
        """
        for wanted in (name, name.lower()):  # a node whose centre file spells it otherwise than its engine
            for node in self.nodes:
                if wanted in (node.name, node.node_id):
                    return node
        known = f"knows {len(self.nodes)} nodes, such as {self.nodes[0].name}" if self.nodes else "knows no node"
        raise InputError(
            "node-not-expected", f"there is no node {name!r} in the campaign, which {known}", where="--node"
        )


class Published(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """T0, as the coordinator published it."""

    starts_at: UtcTime
    published_at: UtcTime
    ready: Count  # nodes
    refused: dict[str, str] = {}  # nodes that are not to measure, and why

    def __post_init__(self) -> None:
        utc_ns(self.starts_at)


class FoundModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Devices of one node that differ in nothing but the values of their identities."""

    model: DeviceModel
    device: Device  # one of them
    names: tuple[str, ...]  # of all of them, such as cuda:0


def alike(found: Iterable[tuple[DeviceModel, Device]]) -> tuple[FoundModel, ...]:
    """Return a node's devices, those together that are of one model, of one kind, and tell the same identities."""
    groups: dict[tuple[object, ...], list[tuple[DeviceModel, Device]]] = {}
    for model, device in found:
        told = tuple(value is None for value in (device.uuid, device.serial, device.die_id, device.parent))
        key = (encode(model), device.device.partition(":")[0], told)
        groups.setdefault(key, []).append((model, device))
    return tuple(FoundModel(*same[0], tuple(device.device for _, device in same)) for same in groups.values())


class Facts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a node tells of itself before T0 (`bench.campaign.preflight`)."""

    devices: int
    models: tuple[str, ...]
    drivers: tuple[str, ...]
    clock_source: str
    clock_uncertainty_ns: int | None
    disk_free_bytes: int
    problems: tuple[str, ...]  # each a sentence
    found: tuple[FoundModel, ...] = ()  # what its devices are, for whoever says what they can expect
    # Digest of an identity, salted by the campaign's challenge -> whose it is: what other nodes' are compared with.
    machine_ids: dict[str, str] = {}
    device_ids: dict[str, str] = {}
    remarks: tuple[str, ...] = ()  # as problems, and costs nothing


class Sums(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a node says that it measured in one workload; collecting recomputes all of it."""

    devices: Count  # that count
    certified_mflop_s: Count
    held: Count
    void: Count  # failed ones included


class ClockAnswer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a node's clock said when it answered the coordinator's question (`bench.campaign.clocks`)."""

    round: Count
    answered_at: UtcTime

    def __post_init__(self) -> None:
        utc_ns(self.answered_at)


class Status(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The latest sign of life of one node."""

    node_id: str
    state: State
    at: UtcTime
    arrived_at: UtcTime
    ready_at: UtcTime | None = None  # these four are looked at as times when they are read
    ended_at: UtcTime | None = None
    clock: ClockAnswer | None = None
    facts: Facts | None = None
    chosen: tuple[ChosenShape, ...] = ()  # once its operands are in place
    ready_devices: int = 0
    workload: str | None = None
    phase: str | None = None
    rate_mflop_s: Count | None = None  # of all its devices, just now
    sums: dict[str, Sums] = {}  # by workload, once it is done
    message: str | None = None

    def __post_init__(self) -> None:
        for moment in (self.at, self.arrived_at, self.ready_at, self.ended_at):
            if moment is not None:
                utc_ns(moment)


class Launched(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the coordinator remembers from one launch to the next."""

    engine: str
    options: tuple[str, ...]
    reservation: str | None
    command: tuple[str, ...]
    launched_at: UtcTime
    ended_at: UtcTime | None = None
    lost: tuple[str, ...] = ()  # nodes that gave no sign of life any more
    least: dict[str, int] = {}  # pool -> how many of its nodes must be ready
    times_ns: dict[str, Count] = {}  # how long is waited for what, by the plan's names: for a coordinator elsewhere
    refused: str | None = None  # why the launch ended before T0
    unready: tuple[str, ...] = ()  # which nodes were not ready then, by reason


class Folder(NamedTuple):
    """Where everything of one campaign lies."""

    root: Path

    def command(self, verb: str) -> str:
        """Return a command on this folder as it can be pasted, such as that of "status"."""
        return f"petaseal campaign {verb} {shlex.quote(str(self.root))}"

    @property
    def campaign(self) -> Path:
        return self.root / "campaign.dsse.json"

    @property
    def profile(self) -> Path:
        return self.root / "profile.yaml"

    @property
    def centre(self) -> Path:
        return self.root / "centre.yaml"

    @property
    def own_profile(self) -> tuple[str, ...]:
        """The profile file in the folder, where the campaign has one of its own."""
        return (SharedFile(self.profile),) if self.profile.exists() else ()

    @property
    def submitted_file(self) -> Path:
        """What is left of a statement that was made of the campaign: the digest of its payload."""
        return self.root / "submitted"

    def policy(self, name: str) -> Path:
        """Return where a policy lies that is not an installed one."""
        return self.root / "policies" / f"{name}.yaml"

    @property
    def roster_file(self) -> Path:
        return self.root / "roster.json"

    @property
    def shapes_file(self) -> Path:
        return self.root / "shapes.json"

    @property
    def start_file(self) -> Path:
        return self.root / "start.json"

    @property
    def clock_file(self) -> Path:
        """The coordinator's latest question after the nodes' clocks (`bench.campaign.clocks`)."""
        return self.root / "clock.json"

    @property
    def closing_file(self) -> Path:
        """The campaign's closing document (`bench.record.closing`)."""
        return self.root / CLOSING

    @property
    def abort_file(self) -> Path:
        return self.root / "abort"

    @property
    def launch_file(self) -> Path:
        return self.root / "launch.json"

    @property
    def lock_file(self) -> Path:
        return self.root / ".launch.lock"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def collected(self) -> Path:
        return self.root / "collected"

    def status_file(self, node_id: str) -> Path:
        """Return where a node tells of itself."""
        return self.root / "nodes" / shard_of(node_id) / f"{node_id}.json"

    def records(self, node_id: str) -> Path:
        """Return the folder of a node's record and samples."""
        return self.root / "records" / shard_of(node_id)

    def roster(self) -> Roster:
        """Return the campaign's roster.

        Raises:
            InputError: this is no campaign's folder, or the file is damaged.
        """
        if not self.roster_file.exists():
            what = "is not the folder of a campaign: it holds no roster.json"
            raise InputError(
                "campaign-folder-invalid", what, where=self.root, fix="make one with: petaseal campaign create"
            )
        roster = _read(self.roster_file, Roster)
        pools = [pool.pool for pool in roster.pools]
        if len(set(pools)) != len(pools):
            raise InputError(
                "campaign-folder-invalid", "is damaged (a pool stands there twice)", where=self.roster_file
            )
        unknown = {pool for node in roster.nodes for pool in node.pools} - set(pools)
        if unknown:
            what = f"is damaged (a node is in the pool {min(unknown)}, which there is not)"
            raise InputError("campaign-folder-invalid", what, where=self.roster_file)
        return roster

    def started(self) -> Published | None:
        """Return T0 where it was published."""
        return _read(self.start_file, Published) if self.start_file.exists() else None

    def settled(self) -> Settled | None:
        """Return the shapes of the campaign where they are settled."""
        return _read(self.shapes_file, Settled) if self.shapes_file.exists() else None

    def publish(self, published: Published) -> Published:
        """Publish T0, once for ever: return what was published, by this call or by one before it."""
        return self._once(self.start_file, published)

    def settle(self, settled: Settled) -> Settled:
        """Publish the shapes, once for ever, as T0."""
        return self._once(self.shapes_file, settled)

    def _once(self, path: Path, value: T) -> T:
        with contextlib.suppress(OutputExistsError):
            write_atomic(path, encode(value) + b"\n", new=True)
        if not path.exists():  # another publishes just now, or was killed when it was about to
            raise InputError(
                "launch-running", "is being started by another process", where=self.root, fix="run it again"
            )
        return _read(path, type(value))

    def aborted(self) -> bool:
        """Return whether somebody has ended the campaign."""
        return self.abort_file.exists()

    def launched(self) -> Launched | None:
        """Return what the last launch left behind."""
        return _read(self.launch_file, Launched) if self.launch_file.exists() else None

    def write_launched(self, launched: Launched) -> None:
        """Remember a launch."""
        write_atomic(self.launch_file, encode(launched) + b"\n")

    def write_status(self, status: Status) -> None:
        """Tell of a node: seen whole or not at all. Not flushed to the disk: it is worth nothing after a crash.

        Raises:
            InputError: the folder cannot be written.
        """
        with replacing(self.status_file(status.node_id), mode=None, flush="nothing") as file:
            file.write(encode(status))

    def status(self, node_id: str) -> Status | None:
        """Return what a node last told, None where it has not told anything yet."""
        return read_status(str(self.status_file(node_id)))


_STATUS = msgspec.json.Decoder(Status)


def read_status(path: str) -> Status | None:
    """Return a status by one open, read and close; None where there is none, or none that can be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return _STATUS.decode(os.read(descriptor, STATUS_BYTES))
    except (OSError, *UNREADABLE):
        return None
    finally:
        os.close(descriptor)


def survey(folder: Folder, known: dict[str, Status], expected: Collection[str]) -> None:
    """Bring what is known of all nodes up to date: a listing for each shard, at most one file opened for each node.

    Args:
        folder: of the campaign.
        known: node -> its latest status; changed in place. Nodes whose status is final are not read again.
        expected: ids of the campaign's nodes; files of others are not looked at.
    """
    for shard in shards(folder.root / "nodes"):
        for name in _names(shard):
            node_id = name.removesuffix(".json")
            before = known.get(node_id)
            if name == node_id or node_id not in expected or (before is not None and before.state in FINAL):
                continue
            status = read_status(f"{shard}/{name}")
            if status is not None and status.node_id == node_id:
                known[node_id] = status


def shards(base: Path) -> list[str]:
    """Return the paths of the shards in a folder, sorted: nothing of another name, and no links."""
    try:
        with os.scandir(base) as entries:
            return sorted(e.path for e in entries if _SHARD.match(e.name) and e.is_dir(follow_symlinks=False))
    except OSError:
        return []


_SHARD = re.compile("^[0-9a-f]{2}$")


def _names(path: str) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return [entry.name for entry in entries if not entry.name.startswith(".")]
    except OSError:
        return []


def shard_of(node_id: str) -> str:
    """Return the part of the folder that a node's files lie in: no folder holds thousands that all change at once."""
    return f"{hashlib.sha256(node_id.encode()).digest()[0] % SHARDS:02x}"


def _read(path: Path, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(read_bytes(path, MAX_BYTES), type=kind)
    except UNREADABLE as error:
        raise InputError("campaign-folder-invalid", f"is damaged ({in_words(error)})", where=path) from None


def check_belongs(folder: Folder, roster: Roster, campaign: Campaign) -> None:
    """Refuse a roster of another campaign than the signed one beside it, or of other nodes.

    Raises:
        RefusedError: `campaign-differs`.
    """
    where = folder.roster_file
    if roster.campaign_sha256 != digest(campaign):
        raise RefusedError("campaign-differs", "is of another campaign than the signed one beside it", where=where)
    if [(node.node_id, node.pool) for node in roster.nodes] != [(node.node_id, node.pool) for node in campaign.nodes]:
        raise RefusedError("campaign-differs", "names other nodes than the campaign", where=where)
