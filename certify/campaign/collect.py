"""``petaseal campaign collect``: from the shared folder, or what was posted, to one flat folder of checked records.

Whatever is wrong with one node's record is said of that node and stops no other; what is collected can be certified as
it is. Nothing is judged here: a record that is whole counts or not by the rules, later.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import msgspec

from bench.errors import InputError, PetasealError, RefusedError, one_line
from bench.record import Campaign, SharedFile, digest, encode, exclusive_lock, read_bytes, write_atomic
from bench.record.closing import Closing
from bench.record.folder import CLOSING, Folder, check_belongs, survey
from bench.record.roster import Roster
from bench.record.status import Status
from bench.units import utc_ns, utc_text
from certify.campaign.candidates import (
    SAMPLES_SUFFIX,
    Candidate,
    RecordCollector,
    RefusedFile,
    _posted,
    _shared,
    choose_records,
    samples_path,
)
from certify.documents.caps import CAPS
from certify.documents.dsse import parse_envelope
from certify.documents.kinds import RECORD_SUFFIX
from certify.judge.scope import Scope
from certify.policy.centre import load_centre
from certify.policy.policies import load_policy
from certify.policy.ratings import installed_ratings
from certify.statement.attendance import ABSENCES, MISSING, Absence, Attendance, write_attendance
from certify.statement.campaign import (
    check_centre,
    check_closing,
    find_profile,
    policies_of,
    read_campaign,
    read_closing,
)
from certify.trust.trusted_set import Delegation, TrustedSet
from certify.workers import spread

SHARE = 128  # files
LINE = 1000  # characters
PARALLEL_FROM = 1000  # files: below, starting processes costs more than it saves


class Collected(msgspec.Struct, frozen=True):
    """The result of collecting a campaign's records: which are there, refused or absent."""

    folder: str
    campaign_id: str
    starts_at: str | None
    expected: int
    collected: int
    refused: tuple[RefusedFile, ...]
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
        """Return the result as the JSON value of ``--json``."""
        result: dict[str, Any] = msgspec.to_builtins(self)
        return {**result, "complete": self.complete}

    def lines(self) -> list[str]:
        """Return the result as printed lines."""
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
    launched, over = folder.launched(), utc_ns(published.starts_at) + campaign.last_closes_ns
    # A coordinator that was killed leaves no end: after the last window its word is not waited for.
    if launched is not None and launched.ended_at is None and time.time_ns() < over:
        what = f"is still measuring, until {utc_text(over)}"
        raise InputError("campaign-running", what, where=folder.root, fix="collect when the launch has ended")
    _restore(folder)
    earlier = (folder.collected,) if folder.collected.is_dir() else ()  # what was posted then may be gone now
    given = [*_posted(posted), *_posted(earlier)]
    scope = scope_of(folder, campaign, published.starts_at)
    collector = RecordCollector(scope, operators_only(folder), frozenset(one.path for one in given))
    candidates: list[Candidate] = []
    paths = [candidate.path for candidate in (*_shared(folder), *given)]
    shares = [paths[i : i + SHARE] for i in range(0, len(paths), SHARE)]
    for part in spread(collector, shares, parallel=len(paths) >= PARALLEL_FROM, where=folder.root):
        candidates += part
        progress(len(candidates))
    chosen, refused = choose_records(candidates)
    absent = absences(folder, roster, chosen, refused)
    with only_collection(folder):
        _write(folder, chosen.values(), Attendance(campaign_sha256=digest(campaign), absent=absent), scope.closing)
    return Collected(
        folder=str(folder.collected),
        campaign_id=campaign.campaign_id,
        starts_at=published.starts_at,
        expected=len(roster.nodes),
        collected=len(chosen),
        refused=tuple(refused),
        absent=absent,
        left_out=tuple(f"{node.name}: {node.reason}" for node in roster.left_out),
        samples_missing=tuple(node_id for node_id, one in chosen.items() if not one.samples),
        signers=len({one.signer for one in chosen.values()}),
        enrolled=sum(collector.scope.enrolled.get(node_id) == one.signer for node_id, one in chosen.items()),
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
    profile = find_profile(campaign, folder.profile_files)
    closing = _closing_of(folder, campaign, starts_at)
    return Scope.of(
        campaign,
        starts_at,
        centre=centre,
        profile=profile,
        ratings=installed_ratings(),
        policies=policies,
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


def absences(
    folder: Folder, roster: Roster, chosen: Mapping[str, Candidate], refused: Sequence[RefusedFile]
) -> tuple[Absence, ...]:
    """Return why each expected node without a record has none, as far as the folder shows it."""
    known: dict[str, Status] = {}
    survey(folder, known, {node.node_id for node in roster.nodes} - chosen.keys())
    launched = folder.launched()
    lost = set(launched.lost) if launched else set()
    why = {one.node_id: one.why for one in refused}
    absences = []
    detail: str | None
    for node in roster.nodes:
        if node.node_id in chosen:
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
        absences.append(Absence(node_id=node.node_id, code=code, detail=None if detail is None else detail[:256]))
    return tuple(absences)


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


def _write(folder: Folder, chosen: Iterable[Candidate], attendance: Attendance, closing: Closing | None) -> None:
    """Lay the kept records, their samples, who is absent and what closes the campaign into one folder.

    It takes the earlier one's place.
    """
    new, old = folder.root / ".collected.new", folder.root / ".collected.old"
    try:
        for left in (new, old):
            shutil.rmtree(left, ignore_errors=True)
        new.mkdir(parents=True)
        for one in chosen:
            assert one.node_id is not None
            _link(one.path, new / f"{one.node_id}{RECORD_SUFFIX}")
            if one.samples:
                _link(samples_path(one.path), new / f"{one.node_id}{SAMPLES_SUFFIX}")
        write_attendance(new, attendance)
        if closing is not None:
            write_atomic(new / CLOSING, encode(closing) + b"\n")
        if folder.collected.exists():
            # No file system exchanges two folders in one step everywhere: `_restore` mends what is cut off between
            # these two.
            os.replace(folder.collected, old)
        os.replace(new, folder.collected)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        what = f"cannot be written ({error.strerror})"
        raise InputError("output-not-writable", what, where=folder.collected) from None


def _link(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the file system has none; never a link to somewhere else."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copyfile(source, target, follow_symlinks=False)
