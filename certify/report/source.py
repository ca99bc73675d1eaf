"""What a report is drawn from: a campaign's folder, or a folder of records with their samples. I/O only.

Whatever is wrong with one file is a problem that the page and the command name; the others are drawn all the same.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from bench.errors import InputError, PetasealError, RefusedError, one_line
from bench.record import Campaign, Profile, read_bytes
from bench.record.folder import Folder, check_belongs, shards
from certify.campaign.collect import scope_of
from certify.documents.caps import CAPS
from certify.documents.kinds import RECORD_SUFFIX
from certify.judge.scope import Scope
from certify.statement.campaign import find_profile, open_campaign, parsed_campaign, read_campaign
from certify.trust.opening import Verifier
from certify.trust.trusted_set import TrustedSet

CAMPAIGN_FILE = "campaign.dsse.json"
# No key is trusted: a record's seal holds against the key that it names, and whose that key is stays open.
WITHOUT_KEYS = TrustedSet("signature", {}, {}, (), {})


class SourceProblem(NamedTuple):
    """One thing that is wrong with what the report is drawn from: its place, what it is and its reason code."""

    where: str
    what: str
    code: str

    @classmethod
    def of(cls, error: PetasealError, where: str) -> SourceProblem:
        """Return an error as a problem of one file, without the folder that it lies in."""
        return cls(where, one_line(error.what), error.code)

    def __str__(self) -> str:
        return one_line(f"{self.where}: {self.what} [{self.code}]")


@dataclass(frozen=True)
class ReportSource:
    """Everything that a report is drawn from, but for the content of records and samples."""

    folder: Path
    records: tuple[Path, ...]  # by name
    campaign: Campaign
    starts_at: str | None  # T0; None where it was not published, or every record says its own
    profile: Profile
    scope: Scope | None  # None: no centre is known, so that the run rules alone judge
    names: Mapping[str, str] = field(default_factory=dict)  # the engine's name of each node
    groups: Mapping[str, str] = field(default_factory=dict)  # rack or switch by node
    problems: tuple[SourceProblem, ...] = ()
    is_signed: bool = False  # the campaign's signature was checked with a key that the user gave


class GivenFiles(NamedTuple):
    """What the user names besides the folder."""

    campaign: Path | None = None
    profiles: tuple[str, ...] = ()


def find_source(folder: Path, given: GivenFiles, trust: TrustedSet | None, at: str) -> ReportSource:
    """Return what a report of a folder is drawn from.

    Args:
        folder: of a campaign, or with records.
        given: further files.
        trust: whose signature of the campaign counts; None: it is not checked.
        at: the time that keys must be valid at.

    Raises:
        InputError: `file-missing`, `no-records`, `campaign-missing`, `campaign-folder-invalid`.
        RefusedError: no record can be read, or the campaign is not signed by a trusted key.
    """
    if not folder.is_dir():
        raise InputError("file-missing", "no such folder", where=folder)
    whole = Folder(folder)
    if whole.campaign.exists() and whole.roster_file.exists():
        return _of_campaign(whole, given, trust, at)
    return _of_records(folder, given, trust, at)


def _of_campaign(folder: Folder, given: GivenFiles, trust: TrustedSet | None, at: str) -> ReportSource:
    campaign = open_campaign(folder.campaign, Verifier(trust, at), shared=True) if trust else read_campaign(folder)
    roster = folder.roster()
    check_belongs(folder, roster, campaign)
    records = record_files(folder.collected) or [
        path for shard in shards(folder.root / "records") for path in record_files(Path(shard))
    ]
    if not records:
        fix = f"measure, then collect them with: petaseal campaign collect {folder.root}"
        raise InputError("no-records", "the campaign has no record yet", where=folder.root, fix=fix)
    problems: list[SourceProblem] = []
    published, scope = folder.started(), None
    try:
        if published is not None:
            scope = scope_of(folder, campaign, published.starts_at)
    except PetasealError as error:  # what judges the centre is away: the run rules judge without it
        problems.append(SourceProblem.of(error, Path(error.where or folder.root).name))
    return ReportSource(
        folder.root,
        tuple(sorted(records, key=lambda path: path.name)),
        campaign,
        published.starts_at if published else None,
        scope.profile if scope else find_profile(campaign, (*given.profiles, *folder.profile_files)),
        scope,
        {node.node_id: one_line(node.name, 256) for node in roster.nodes},
        {node.node_id: node.group for node in roster.nodes if node.group is not None},
        tuple(problems),
        trust is not None,
    )


def _of_records(folder: Path, given: GivenFiles, trust: TrustedSet | None, at: str) -> ReportSource:
    records = record_files(folder) or record_files(folder / "records")
    if not records:
        fix = "give a campaign's folder, or one with *.record.dsse.json files"
        raise InputError("no-records", "holds no record", where=folder, fix=fix)
    # A centre's campaign is a file of its own; a node that measured for itself carries its campaign in its record.
    places = [given.campaign] if given.campaign else [folder / CAMPAIGN_FILE, records[0].parent.parent / CAMPAIGN_FILE]
    path = next((one for one in places if one is given.campaign or os.path.lexists(one)), None)
    if path is not None:
        campaign = open_campaign(path, Verifier(trust, at)) if trust else parsed_campaign(path)
    else:
        campaign = _carried(records, at)
    lying = () if path is None else Folder(path.parent).profile_files
    profile = find_profile(campaign, (*given.profiles, *lying))
    return ReportSource(
        folder, tuple(records), campaign, None, profile, None, is_signed=path is not None and bool(trust)
    )


def _carried(records: Sequence[Path], at: str) -> Campaign:
    """Return the campaign that the first readable record carries, by the order of names.

    Raises:
        InputError: `campaign-missing`.
        RefusedError: no record can be read; the error of the first.
    """
    first: PetasealError | None = None
    for path in records:
        try:
            record = Verifier(WITHOUT_KEYS, at).record(read_bytes(path, CAPS.record_bytes), path).predicate
        except PetasealError as error:
            first = first or error
            continue
        if record.campaign is not None:
            return record.campaign
        first = InputError(
            "campaign-missing", f"belongs to campaign {record.campaign_id}", where=path, fix="give it with --campaign"
        )
    raise first or RefusedError("no-records", "no record can be read", where=records[0].parent)


def record_files(folder: Path) -> list[Path]:
    """Return the record files of a folder by name; none where there is no such folder."""
    try:
        return sorted(p for p in folder.iterdir() if p.name.endswith(RECORD_SUFFIX) and not p.name.startswith("."))
    except OSError:
        return []
