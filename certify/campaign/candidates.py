"""The files that may be records of a campaign: which there are, which are whole, and which of those can be kept.

Nobody can say which of two different records of one node, or of one device, is right: all of them are refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec

from bench.errors import InputError, PetasealError, RefusedError
from bench.record import read_bytes
from bench.record.folder import Folder, shards
from bench.record.identities import DeviceKeys, Uniqueness, device_keys
from certify.documents.caps import CAPS
from certify.documents.kinds import RECORD_SUFFIX
from certify.judge.scope import Scope
from certify.judge.scope import check_belongs as check_record
from certify.statement.records import check_file_name
from certify.trust.opening import Verifier
from certify.trust.trusted_set import TrustedSet

SAMPLES_SUFFIX = ".samples.csv.gz"


class RecordFile(NamedTuple):
    """A file that may be a node's record."""

    path: Path
    posted: bool  # from outside the shared folder, under any name


class Candidate(NamedTuple):
    """A file that may be a node's record, with what reading it showed."""

    path: Path
    node_id: str | None  # None where it cannot be told
    payload_sha256: str | None = None
    samples: bool = False  # beside it, and those that it binds
    devices: tuple[DeviceKeys, ...] = ()
    problem: str | None = None
    signer: str | None = None  # id of the key


class RefusedFile(msgspec.Struct, frozen=True):
    """A file that is no record of this campaign, and why."""

    file: str
    node_id: str | None
    why: str


@dataclass(frozen=True)
class RecordCollector:
    """Checks the files of one share; runs in a worker process."""

    scope: Scope
    trust: TrustedSet
    posted: frozenset[Path]

    def __call__(self, paths: Sequence[Path]) -> list[Candidate]:
        """Return what became of each file."""
        return [self.check(path) for path in paths]

    def check(self, path: Path) -> Candidate:
        """Return a file's record, or what is wrong with it."""
        node_id = path.name.removesuffix(RECORD_SUFFIX)
        known = node_id if node_id in self.scope.expected else None
        try:
            verifier = Verifier(self.trust, self.scope.campaign.issued_at)
            opened = verifier.record(read_bytes(path, CAPS.record_bytes), path)
            record = opened.predicate
            check_record(record, self.scope)
            if "node-key-differs" in self.scope.key_codes(record):
                what = "is not signed by the key that the campaign names for this node"
                raise RefusedError("node-key-differs", what, where=path)
            # Nodes write their own names into the shared folder; whoever posts a file may have renamed it.
            if path not in self.posted:
                check_file_name(path, opened)
            keys = tuple(device_keys(device) for device in record.devices)
            uniqueness = Uniqueness()  # a record that names one device twice would spoil the whole statement
            uniqueness.see(record.node_id, keys)
            uniqueness.check_parents()
        except PetasealError as error:
            return Candidate(path, known, problem=f"{error.what} [{error.code}]")
        samples = _has_digest(samples_path(path), opened.subject_digest)
        return Candidate(path, record.node_id, opened.payload_sha256, samples, keys, signer=next(iter(opened.signers)))


def choose_records(candidates: Iterable[Candidate]) -> tuple[dict[str, Candidate], list[RefusedFile]]:
    """Return the records to keep, by node, and what is refused.

    Two different records of one node, and records that share a device, are all refused: no rule says which is right.
    """
    refused = [RefusedFile(str(one.path), one.node_id, one.problem) for one in candidates if one.problem is not None]
    by_node: dict[str, dict[str, Candidate]] = {}
    for one in candidates:
        if one.problem is None and one.node_id is not None and one.payload_sha256 is not None:
            equal = by_node.setdefault(one.node_id, {})  # equal ones are one, with the samples of any
            if one.samples or one.payload_sha256 not in equal:
                equal[one.payload_sha256] = one
    chosen = {}
    for node_id, records in sorted(by_node.items()):
        if len(records) == 1:
            (chosen[node_id],) = records.values()
            continue
        what = f"is one of {len(records)} different records of this node [node-twice]"
        refused += [RefusedFile(str(one.path), node_id, what) for one in records.values()]
    for node_id, other in _sharing(chosen).items():
        what = f"holds a device that stands in the record of {other} too [duplicate-device]"
        refused.append(RefusedFile(str(chosen.pop(node_id).path), node_id, what))
    return chosen, sorted(refused, key=lambda one: one.file)


def _sharing(chosen: Mapping[str, Candidate]) -> dict[str, str]:
    """Return the nodes whose records hold a device of another's too, or parts of one card, with that other node."""
    holders: dict[str, str] = {}
    shared: dict[str, str] = {}

    def meet(node_id: str, other: str) -> None:
        shared.setdefault(node_id, other)
        shared.setdefault(other, node_id)

    for node_id, one in chosen.items():
        for keys in one.devices:
            for key in keys.known:
                if (other := holders.setdefault(key, node_id)) != node_id:
                    meet(node_id, other)
    return shared


def _shared(folder: Folder) -> Iterator[RecordFile]:
    """Yield every file in the shared folder that bears a record's name: also those of nobody, which are said."""
    for shard in shards(folder.root / "records"):
        with os.scandir(shard) as entries:
            names = sorted(entry.name for entry in entries)
        yield from (RecordFile(Path(shard) / n, False) for n in names if n.endswith(RECORD_SUFFIX) and n[0] != ".")


def _posted(folders: Sequence[Path]) -> Iterator[RecordFile]:
    for folder in folders:
        if not folder.is_dir():
            raise InputError("records-not-folder", "is not a folder of posted records", where=folder)
        yield from (RecordFile(path, True) for path in sorted(folder.rglob(f"*{RECORD_SUFFIX}")) if path.name[0] != ".")


def samples_path(record: Path) -> Path:
    """Return where the samples of a record lie."""
    return record.with_name(record.name.removesuffix(RECORD_SUFFIX) + SAMPLES_SUFFIX)


def _has_digest(path: Path, sha256: str | None) -> bool:
    with contextlib.suppress(PetasealError):
        return hashlib.sha256(read_bytes(path, CAPS.samples_bytes)).hexdigest() == sha256
    return False
