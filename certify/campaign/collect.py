"""``petaseal campaign collect``: from the shared folder, or what was posted, to one flat folder of checked records.

Whatever is wrong with one node's record is said of that node and stops no other; what is collected can be certified as
it is. Nothing is judged here: a record that is whole counts or not by the rules, later.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from bench.errors import InputError, PetasealError, RefusedError, one_line
from bench.record import Campaign, SharedFile, digest, encode, exclusive_lock, read_bytes, write_atomic
from bench.record.closing import Closing
from bench.record.folder import CLOSING, Folder, Roster, Status, check_belongs, shards, survey
from bench.record.identities import DeviceKeys, Uniqueness, device_keys
from bench.units import utc_ns, utc_text
from certify.documents.caps import CAPS
from certify.documents.dsse import parse_envelope
from certify.documents.kinds import open_record
from certify.judge.aggregate import (
    Scope,
    accepted_holds,
    accepted_with_witness,
    counting_of,
    enrolled_only,
)
from certify.judge.aggregate import check_belongs as check_record
from certify.policy.centre import load_centre
from certify.policy.policies import load_policy
from certify.policy.ratings import installed_ratings
from certify.statement.attendance import ABSENCES, MISSING, Absence, Attendance, write_attendance
from certify.statement.campaign import check_centre, find_profile, policies_of, read_campaign
from certify.statement.closing import check_closing, read_closing
from certify.statement.records import RECORD_SUFFIX, check_file_name
from certify.trust.trusted_set import Delegation, TrustedSet
from certify.workers import spread

SAMPLES_SUFFIX = ".samples.csv.gz"
SHARE = 128  # files
LINE = 1000  # characters
PARALLEL_FROM = 1000  # files: below, starting processes costs more than it saves


class Candidate(NamedTuple):
    """A file that may be a node's record."""

    path: Path
    posted: bool  # from outside the shared folder, under any name


class Gathered(NamedTuple):
    """What became of one candidate."""

    path: Path
    node_id: str | None  # None where it cannot be told
    payload_sha256: str | None = None
    samples: bool = False  # beside it, and those that it binds
    devices: tuple[DeviceKeys, ...] = ()
    problem: str | None = None
    signer: str | None = None  # id of the key


class Refused(msgspec.Struct, frozen=True):
    """A file that is no record of this campaign, and why."""

    file: str
    node_id: str | None
    why: str


class Collected(msgspec.Struct, frozen=True):
    """What was collected."""

    folder: str
    campaign_id: str
    starts_at: str | None
    expected: int
    collected: int
    refused: tuple[Refused, ...]
    absent: tuple[Absence, ...]
    left_out: tuple[str, ...]  # names and reasons
    samples_missing: tuple[str, ...]  # nodes whose samples are not there or not those that the record binds
    earlier: tuple[str, ...]  # attempts of the series that were opened before
    signers: int  # distinct keys
    enrolled: int  # records under the key that the campaign names; any other shows integrity, not whose it is
    names: dict[str, str]

    @property
    def complete(self) -> bool:
        """Return whether every expected node's record is there and nothing was refused."""
        return not self.refused and not self.absent

    def as_json(self) -> dict[str, Any]:
        """Return the result for machines."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return {**found, "complete": self.complete}

    def lines(self) -> list[str]:
        """Return the result for people."""
        lines = [f"{self.campaign_id}: {self.collected} of {self.expected} records collected into {self.folder}"]
        if self.collected:
            lines.append(f"keys       {self.signers} signed them; {self.enrolled} records under enrolled keys")
        if self.enrolled < self.collected:
            unknown = self.collected - self.enrolled
            lines.append(f"keys       {unknown} records under keys that nobody has vouched for (self-asserted)")
        if self.starts_at:
            lines.append(f"all nodes were to start at {self.starts_at}")
        for refused in self.refused:
            lines.append(f"refused    {refused.file}: {refused.why}")
        for absence in sorted(self.absent, key=lambda one: ABSENCES.index(one.code)):
            detail = f" ({absence.detail})" if absence.detail else ""
            lines.append(f"absent     {self.names[absence.node_id]}: {absence.code}{detail}")
        lines += [f"left out   {text}" for text in self.left_out]
        lines += [f"no samples {self.names[node]}: the record cannot be audited" for node in self.samples_missing]
        lines += [f"earlier    {text}" for text in self.earlier]
        return [one_line(line, LINE) for line in lines]  # nodes' own words and anybody's file names are among them


def collect(
    folder: Folder, posted: Sequence[Path] = (), progress: Callable[[int], None] = lambda records: None
) -> Collected:
    """Check every record of a campaign and gather those that are whole.

    Args:
        folder: of the campaign.
        posted: further folders with records, in any depth.
        progress: called with the number of files done so far.

    Raises:
        InputError: the folder is no campaign's, no start was published, or the result cannot be written.
        RefusedError: the folder holds files of two campaigns.
    """
    campaign, roster = read_campaign(folder), folder.roster()
    check_belongs(folder, roster, campaign)
    published = folder.started()
    if published is None:
        fix = f"launch it with: {folder.command('launch')}"
        raise InputError("campaign-not-started", "has not started: no start was published", where=folder.root, fix=fix)
    if (problem := campaign.start_problem(published.starts_at)) is not None:
        raise RefusedError(
            "window-invalid", f"the published start is not the campaign's: it {problem}", where=folder.root
        )
    launched, over = folder.launched(), utc_ns(published.starts_at) + campaign.closes_ns
    if launched is not None and launched.ended_at is None and time.time_ns() < over:
        what = f"is still measuring, until {utc_text(over)}"
        raise InputError("campaign-running", what, where=folder.root, fix="collect when the launch has ended")
    _restore(folder)
    earlier = (folder.collected,) if folder.collected.is_dir() else ()  # what was posted then may be gone now
    given = [*_posted(posted), *_posted(earlier)]
    scope = scope_of(folder, campaign, published.starts_at)
    gatherer = Gatherer(scope, operators_only(folder), frozenset(one.path for one in given))
    found: list[Gathered] = []
    paths = [candidate.path for candidate in (*_shared(folder), *given)]
    shares = [paths[i : i + SHARE] for i in range(0, len(paths), SHARE)]
    for part in spread(gatherer, shares, parallel=len(paths) >= PARALLEL_FROM, where=folder.root):
        found += part
        progress(len(found))
    kept, refused = sort_out(found)
    absent = absences(folder, roster, kept, refused)
    with only_collection(folder):
        _write(folder, kept.values(), Attendance(campaign_sha256=digest(campaign), absent=absent), scope.closing)
    return Collected(
        folder=str(folder.collected),
        campaign_id=campaign.campaign_id,
        starts_at=published.starts_at,
        expected=len(roster.nodes),
        collected=len(kept),
        refused=tuple(refused),
        absent=absent,
        left_out=tuple(f"{node.name}: {node.reason}" for node in roster.left_out),
        samples_missing=tuple(node_id for node_id, one in kept.items() if not one.samples),
        signers=len({one.signer for one in kept.values()}),
        enrolled=sum(gatherer.scope.enrolled.get(node_id) == one.signer for node_id, one in kept.items()),
        earlier=tuple(f"{a.campaign_id}, opened at {a.issued_at}: {a.outcome}" for a in campaign.earlier),
        names={node.node_id: node.name for node in roster.nodes},
    )


def scope_of(folder: Folder, campaign: Campaign, starts_at: str) -> Scope:
    """Return what a campaign's records are held against.

    Raises:
        RefusedError: its closing document is damaged or of another campaign, or the centre file or profile is another.
    """
    centre = load_centre(SharedFile(folder.centre))
    policies = tuple(load_policy(name) for name in policies_of(folder, campaign))
    check_centre(campaign, centre)
    profile = find_profile(campaign, folder.own_profile)
    closing = _closing_of(folder, campaign, starts_at)
    return Scope(
        centre=centre,
        campaign=campaign,
        campaign_sha256=digest(campaign),
        starts_at=starts_at,
        profile=profile,
        profile_sha256=campaign.profile_sha256,
        ratings=installed_ratings(),
        counting=counting_of(policies, centre),
        accept=accepted_holds(policies),
        accept_with_witness=accepted_with_witness(policies),
        existing=frozenset(),
        enrolled_only=enrolled_only(policies),
        closing=closing,
    )


def _closing_of(folder: Folder, campaign: Campaign, starts_at: str) -> Closing | None:
    """Return a campaign's closing document; whoever writes the folder can have left another in its place."""
    try:
        closing = read_closing(folder.root)
        check_closing(closing, campaign, digest(campaign), starts_at, folder.closing_file)
    except PetasealError as error:
        fix = "remove it, and no clock was compared (clock-not-compared, a note)"
        raise type(error)(error.code, error.what, where=error.where, fix=fix) from None
    return closing


def operators_only(folder: Folder) -> TrustedSet:
    """Return that who signed the campaign is an operator: `certify` refuses records that this key signed."""
    envelope = parse_envelope(read_bytes(folder.campaign, CAPS.campaign_bytes), CAPS.campaign_bytes, folder.campaign)
    keyids = tuple(signature.keyid for signature in envelope.signatures)
    operator = Delegation(role="operator", centre_ids=None, threshold=1, keys=keyids)
    return TrustedSet("signature", {}, {}, (operator,), {})


@dataclass(frozen=True)
class Gatherer:
    """Checks the files of one share; runs in a worker process."""

    scope: Scope
    trust: TrustedSet
    posted: frozenset[Path]

    def __call__(self, paths: Sequence[Path]) -> list[Gathered]:
        """Return what became of each file."""
        return [self.check(path) for path in paths]

    def check(self, path: Path) -> Gathered:
        """Return a file's record, or what is wrong with it."""
        node_id = path.name.removesuffix(RECORD_SUFFIX)
        known = node_id if node_id in self.scope.expected else None
        try:
            opened = open_record(read_bytes(path, CAPS.record_bytes), self.trust, self.scope.campaign.issued_at, path)
            record = opened.predicate
            check_record(record, self.scope)
            if "node-key-differs" in self.scope.key_codes(record):
                what = "is not signed by the key that the campaign names for this node"
                raise RefusedError("node-key-differs", what, where=path)
            if path not in self.posted:
                check_file_name(path, opened)
            keys = tuple(device_keys(device) for device in record.devices)
            alone = Uniqueness()  # a record that names one device twice would spoil the whole statement
            alone.see(record.node_id, keys)
            alone.check_parents()
        except PetasealError as error:
            return Gathered(path, known, problem=f"{error.what} [{error.code}]")
        samples = _is(samples_beside(path), opened.subject_digest)
        return Gathered(path, record.node_id, opened.payload_sha256, samples, keys, signer=next(iter(opened.signers)))


def sort_out(found: Iterable[Gathered]) -> tuple[dict[str, Gathered], list[Refused]]:
    """Return the records to keep, by node, and what is refused.

    Two different records of one node, and records that share a device, are all refused: nobody can say which is right.
    """
    refused = [Refused(str(one.path), one.node_id, one.problem) for one in found if one.problem is not None]
    by_node: dict[str, dict[str, Gathered]] = {}
    for one in found:
        if one.problem is None and one.node_id is not None and one.payload_sha256 is not None:
            equal = by_node.setdefault(one.node_id, {})  # equal ones are one, with the samples of any
            if one.samples or one.payload_sha256 not in equal:
                equal[one.payload_sha256] = one
    kept = {}
    for node_id, records in sorted(by_node.items()):
        if len(records) == 1:
            (kept[node_id],) = records.values()
            continue
        what = f"is one of {len(records)} different records of this node [node-twice]"
        refused += [Refused(str(one.path), node_id, what) for one in records.values()]
    for node_id, other in _sharing(kept).items():
        what = f"holds a device that stands in the record of {other} too [duplicate-device]"
        refused.append(Refused(str(kept.pop(node_id).path), node_id, what))
    return kept, sorted(refused, key=lambda one: one.file)


def _sharing(kept: Mapping[str, Gathered]) -> dict[str, str]:
    """Return the nodes whose records hold a device of another's too, or parts of one card, with that other node."""
    holders: dict[str, str] = {}
    shared: dict[str, str] = {}

    def meet(node_id: str, other: str) -> None:
        shared.setdefault(node_id, other)
        shared.setdefault(other, node_id)

    for node_id, one in kept.items():
        for keys in one.devices:
            for key in keys.known:
                if (other := holders.setdefault(key, node_id)) != node_id:
                    meet(node_id, other)
    return shared


def absences(
    folder: Folder, roster: Roster, kept: Mapping[str, Gathered], refused: Sequence[Refused]
) -> tuple[Absence, ...]:
    """Return why each expected node without a record has none, as far as it can be told."""
    known: dict[str, Status] = {}
    survey(folder, known, {node.node_id for node in roster.nodes} - kept.keys())
    launched = folder.launched()
    lost = set(launched.lost) if launched else set()
    why = {one.node_id: one.why for one in refused}
    found = []
    detail: str | None
    for node in roster.nodes:
        if node.node_id in kept:
            continue
        status = known.get(node.node_id)
        if node.node_id in why:
            code, detail = "record-refused", why[node.node_id]
        elif status is None or status.state == "checked":
            code, detail = MISSING, "never heard of"
        elif status.state == "aborted":
            code, detail = "node-aborted", status.message or None
        elif status.state == "failed":
            code = "node-failed" if status.ready_at else "node-not-ready"
            detail = status.message or None
        elif status.state == "done":
            code, detail = MISSING, f"was done at {status.at}, and its record is not there"
        elif node.node_id in lost or status.ready_at is not None:
            code, detail = "node-lost", f"last heard of at {status.at}, {status.state}"
        else:
            code, detail = "node-not-ready", f"last heard of at {status.at}, {status.state}"
        found.append(Absence(node_id=node.node_id, code=code, detail=None if detail is None else detail[:256]))
    return tuple(found)


def _shared(folder: Folder) -> Iterator[Candidate]:
    """Yield every file in the shared folder that bears a record's name: also those of nobody, which are said."""
    for shard in shards(folder.root / "records"):
        with os.scandir(shard) as entries:
            names = sorted(entry.name for entry in entries)
        yield from (Candidate(Path(shard) / n, False) for n in names if n.endswith(RECORD_SUFFIX) and n[0] != ".")


def _posted(folders: Sequence[Path]) -> Iterator[Candidate]:
    for folder in folders:
        if not folder.is_dir():
            raise InputError("records-not-folder", "is not a folder of posted records", where=folder)
        yield from (Candidate(path, True) for path in sorted(folder.rglob(f"*{RECORD_SUFFIX}")) if path.name[0] != ".")


def _restore(folder: Folder) -> None:
    """Put the earlier collection back in its place, where a run was killed between the two renames of `_write`."""
    old = folder.root / ".collected.old"
    if old.exists() and not folder.collected.exists():
        os.replace(old, folder.collected)


def only_collection(folder: Folder) -> AbstractContextManager[bool]:
    """Keep a second collection of one campaign out, where the file system has locks.

    Raises:
        InputError: `collect-running`.
    """
    what = "its records are being collected by another process"
    held = InputError("collect-running", what, where=folder.root, fix="wait for it")
    return exclusive_lock(folder.root / ".collect.lock", held, needed=False)


def _write(folder: Folder, kept: Iterable[Gathered], attendance: Attendance, closing: Closing | None) -> None:
    """Lay the kept records, their samples, who is absent and what closes the campaign into one folder.

    It takes the earlier one's place.
    """
    new, old = folder.root / ".collected.new", folder.root / ".collected.old"
    try:
        for left in (new, old):
            shutil.rmtree(left, ignore_errors=True)
        new.mkdir(parents=True)
        for one in kept:
            assert one.node_id is not None
            _link(one.path, new / f"{one.node_id}{RECORD_SUFFIX}")
            if one.samples:
                _link(samples_beside(one.path), new / f"{one.node_id}{SAMPLES_SUFFIX}")
        write_attendance(new, attendance)
        if closing is not None:
            write_atomic(new / CLOSING, encode(closing) + b"\n")
        if folder.collected.exists():
            os.replace(folder.collected, old)
        os.replace(new, folder.collected)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        what = f"cannot be written ({error.strerror})"
        raise InputError("output-not-writable", what, where=folder.collected) from None


def samples_beside(record: Path) -> Path:
    """Return where the samples of a record lie."""
    return record.with_name(record.name.removesuffix(RECORD_SUFFIX) + SAMPLES_SUFFIX)


def _is(path: Path, sha256: str | None) -> bool:
    with contextlib.suppress(PetasealError):
        return hashlib.sha256(read_bytes(path, CAPS.samples_bytes)).hexdigest() == sha256
    return False


def _link(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the file system has none; never a link to somewhere else."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copyfile(source, target, follow_symlinks=False)
