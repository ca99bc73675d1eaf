"""The campaign's folder, which all its nodes share: where each file lies, and how it is read and written.

Thousands of nodes on one file system: files lie in shards, each node writes its own status only, and a
survey reads each status at most once (`survey`). Whatever can be half-read is taken as not yet written.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shlex
from collections.abc import Collection
from pathlib import Path
from typing import TypeVar

import msgspec

from bench.errors import InputError, OutputExistsError, RefusedError
from bench.record.campaign import Campaign
from bench.record.fields import digest, encode, in_words
from bench.record.files import replacing, write_atomic
from bench.record.reading import SharedFile, read_bytes
from bench.record.roster import Roster
from bench.record.shapes import Settled
from bench.record.status import FINAL, Launched, Published, Question, Status

SHARDS = 256  # of a folder with a file a node: a network file system locks a folder for every change in it
CLOSING = "closing.json"  # of the closing document, in the campaign's folder and with its collected records
MAX_BYTES = 64 * 2**20
STATUS_BYTES = 2**20
CLOCK_BYTES = 32 * 2**20  # of the question after the clocks, and of the closing document that holds the answers
UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)  # what a parser raises for bytes of any writer

T = TypeVar("T")


class FolderFile:
    """A file of fixed name in a campaign's folder, as an attribute of `Folder`.

    Args:
        name: of the file.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, folder: Folder, kind: type[Folder]) -> Path:
        return folder.root / self._name


class Folder(msgspec.Struct, frozen=True):
    """The folder of one campaign: the path of each file in it, and what it holds."""

    root: Path

    campaign = FolderFile("campaign.dsse.json")
    profile = FolderFile("profile.yaml")
    centre = FolderFile("centre.yaml")
    submitted_file = FolderFile("submitted")  # the digest of the payload of the statement that was made of it
    roster_file = FolderFile("roster.json")
    shapes_file = FolderFile("shapes.json")
    start_file = FolderFile("start.json")
    clock_file = FolderFile("clock.json")  # the coordinator's latest question (`bench.record.status.Question`)
    closing_file = FolderFile(CLOSING)  # its closing document (`bench.record.closing`)
    abort_file = FolderFile("abort")
    launch_file = FolderFile("launch.json")
    lock_file = FolderFile(".launch.lock")
    logs = FolderFile("logs")
    collected = FolderFile("collected")

    def command(self, verb: str) -> str:
        """Return a command on this folder as it can be pasted, such as that of "status"."""
        return f"petaseal campaign {verb} {shlex.quote(str(self.root))}"

    @property
    def profile_files(self) -> tuple[str, ...]:
        """The profile file in the folder; none where the campaign uses an installed profile."""
        return (SharedFile(self.profile),) if self.profile.exists() else ()

    def policy(self, name: str) -> Path:
        """Return where a policy lies that is not an installed one."""
        return self.root / "policies" / f"{name}.yaml"

    def status_file(self, node_id: str) -> Path:
        """Return where a node writes its status."""
        return self.root / "nodes" / shard_of(node_id) / f"{node_id}.json"

    def rendezvous_file(self, group: str | None) -> Path:
        """Return where it stands at which store the ranks of a group meet (docs/network.md)."""
        return self.root / "network" / f"{'all' if group is None else f'group-{group}'}.json"

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
        # Its own writer never makes these: a file that was edited by hand must not be believed halfway.
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
        """Write a value where none is, and return the one that is there: of two coordinators one wins, for both."""
        with contextlib.suppress(OutputExistsError):
            write_atomic(path, encode(value) + b"\n", new=True)
        if not path.exists():  # another publishes just now, or was killed when it was about to
            raise InputError(
                "launch-running", "is being started by another process", where=self.root, fix="run it again"
            )
        return _read(path, type(value))

    def aborted(self) -> bool:
        """Return whether the campaign was aborted."""
        return self.abort_file.exists()

    def launched(self) -> Launched | None:
        """Return what the coordinator noted of the last launch; None before the first."""
        return _read(self.launch_file, Launched) if self.launch_file.exists() else None

    def write_launched(self, launched: Launched) -> None:
        """Note a launch for the next one."""
        write_atomic(self.launch_file, encode(launched) + b"\n")

    def write_status(self, status: Status) -> None:
        """Write a node's status: others see it whole or not at all. It is not flushed: after a crash it is worthless.

        Raises:
            InputError: the folder cannot be written.
        """
        with replacing(self.status_file(status.node_id), mode=None, flush="nothing") as file:
            file.write(encode(status))

    def status(self, node_id: str) -> Status | None:
        """Return a node's latest status; None before its first."""
        return read_status(str(self.status_file(node_id)))


_STATUS = msgspec.json.Decoder(Status)


def read_status(path: str) -> Status | None:
    """Return a status by one open, read and close; None where there is none, or none that can be read."""
    # Without `read_bytes`: a survey opens thousands each second, and what cannot be read will be whole the next time.
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
            # The name says whose it is; one that holds another node's status is a copy, and counts as none.
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


def read_question(folder: Folder) -> Question | None:
    """Return the coordinator's latest question; None where there is none, or the folder is away for a while."""
    with contextlib.suppress(OSError, InputError, *UNREADABLE):
        return msgspec.json.decode(read_bytes(folder.clock_file, CLOCK_BYTES), type=Question)
    return None


def check_belongs(folder: Folder, roster: Roster, campaign: Campaign) -> None:
    """Refuse a roster of another campaign than the signed one in its folder, or of other nodes.

    Raises:
        RefusedError: `campaign-differs`.
    """
    # The roster is not signed: only what agrees with the signed campaign may be launched.
    where = folder.roster_file
    if roster.campaign_sha256 != digest(campaign):
        raise RefusedError("campaign-differs", "is of another campaign than the signed one beside it", where=where)
    if [(node.node_id, node.pool) for node in roster.nodes] != [(node.node_id, node.pool) for node in campaign.nodes]:
        raise RefusedError("campaign-differs", "names other nodes than the campaign", where=where)
