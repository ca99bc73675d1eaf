"""The inventory of a baseline, made of what lists devices already: ``petaseal devices --json``, or signed records."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.errors import InputError, RefusedError, one_line
from bench.record import Device, NodeRecord, identifier, read_bytes, read_given, replacing
from bench.record.folder import Folder
from bench.units import shortened_list
from certify.documents.caps import CAPS
from certify.documents.kinds import RECORD_SUFFIX, Baseline, BaselineDevice, OpenedDocument
from certify.documents.listing import decode_listing
from certify.statement.claim import ClaimReader, read_all
from certify.statement.describe import SHOWN
from certify.trust.opening import Verifier
from certify.trust.trusted_set import TrustedSet


class Sighting(NamedTuple):
    """A device, and where it was listed."""

    device: Device
    where: str  # node or file, and the device's name there


class DeviceList(NamedTuple):
    """What a baseline lists, and what was left out of it."""

    devices: tuple[BaselineDevice, ...]
    names: tuple[str, ...]  # where each of `devices` was listed
    wholes: int = 0  # of `devices`, those that only parts (slices, dies) were listed of
    repeated: tuple[str, ...] = ()  # where a device was listed that stands in `devices` already
    unknowable: tuple[str, ...] = ()  # where a device was listed that reports no stable identity

    def lines(self) -> list[str]:
        """Return printed lines of the devices that were merged or left out."""
        lines = []
        if self.wholes:
            lines.append(f"{self.wholes} of them are whole devices, of which only slices or dies were listed")
        if self.repeated:
            lines.append(f"listed more than once, and taken over once: {shortened_list(self.repeated, SHOWN)}")
        if self.unknowable:
            what = "no stable identity is reported, so that the device could never be recognised again"
            lines.append(f"left out: {shortened_list(self.unknowable, SHOWN)}: {what}")
        return lines

    def as_json(self) -> dict[str, object]:
        """Return the devices that were merged or left out, as a JSON value of ``--json``."""
        return {"repeated": list(self.repeated), "left_out": list(self.unknowable)}


def list_devices(sources: Sequence[Path], at: str) -> DeviceList:
    """Return every device that files or folders list.

    Args:
        sources: files of ``petaseal devices --json``, records, ``records.jsonl``, or folders of these (of a campaign:
            its collected records).
        at: present time, UTC, at which the keys of records must be valid.

    Raises:
        InputError: a source lists nothing, or no device has a stable identity.
        RefusedError: a record is not whole, or was published under identities that are made up.
    """
    listed = unique(sighting for source in sources for sighting in _sightings(source, at))
    if not listed.devices:
        fix = "where nothing stood before, say so with --empty"
        raise InputError("no-device", "lists no device with a stable identity", where=shortened_paths(sources), fix=fix)
    return listed


class _Entries:
    """The entries of an inventory, found by the identities that no other device has."""

    def __init__(self) -> None:
        self.fields: list[dict[str, str | None]] = []
        self.names: list[str] = []
        self._index: dict[str, int] = {}  # identity as it is compared -> the entry that has it

    def add(self, fields: dict[str, str | None], name: str, of_board: frozenset[str] = frozenset()) -> bool:
        """Add a device, or to its entry what is new of it; return whether it is new.

        Args:
            fields: what it reports.
            name: where it was listed.
            of_board: fields that it shares with other parts of its board.
        """
        keys = {field: key for field, value in fields.items() if (key := identifier(value)) is not None}
        device_keys_only = [key for field, key in keys.items() if field not in of_board]
        at = next((self._index[key] for key in device_keys_only if key in self._index), None)
        if at is None or any(self.fields[at][field] is not None and self._differs(at, field, keys) for field in keys):
            at = len(self.fields)  # what contradicts an entry is listed too: no identity is lost
            self.fields.append(dict.fromkeys(fields))
            self.names.append(name)
            is_new = True
        else:
            is_new = False
        for field in keys:
            self.fields[at][field] = self.fields[at][field] or fields[field]
        for key in device_keys_only:
            self._index.setdefault(key, at)
        return is_new

    def _differs(self, at: int, field: str, keys: dict[str, str]) -> bool:
        return identifier(self.fields[at][field]) != keys[field]


def unique(sightings: Iterable[Sighting]) -> DeviceList:
    """Return each device once, under all identities that were reported of it, and the whole of each part. Pure."""
    entries, repeated, unknowable = _Entries(), [], []
    wholes: dict[str, Sighting] = {}
    for sighting in sightings:
        device, where = sighting
        fields = {"uuid": device.uuid, "serial": device.serial, "die_id": device.die_id}
        if not any(identifier(value) for value in fields.values()):
            unknowable.append(where)
            continue
        parent = identifier(device.parent)
        if not entries.add(fields, where, frozenset() if parent is None else frozenset({"serial"})):
            repeated.append(where)
        if parent is not None:
            wholes.setdefault(parent, sighting)
    parts = len(entries.fields)
    for device, where in wholes.values():  # sliced otherwise, or not at all, it is the same device
        entries.add({"uuid": device.parent, "serial": device.serial, "die_id": None}, f"{where}, its whole")
    devices = tuple(BaselineDevice(**entry) for entry in entries.fields)
    return DeviceList(devices, tuple(entries.names), len(devices) - parts, tuple(repeated), tuple(unknowable))


def write_inventory(baseline: Baseline, listed: DeviceList, out: Path) -> Baseline:
    """Write an inventory that is not signed, and return it.

    Raises:
        InputError: `out` exists.
    """
    with replacing(out, mode=None, new=True, folder_mode=None) as file:
        file.write(inventory_text(baseline, listed.names).encode())
    return baseline


def inventory_text(baseline: Baseline, names: Sequence[str]) -> str:
    """Return an inventory as YAML, which people read and `sign_baseline` signs."""
    lines = [
        f"# What stood in {baseline.centre_id} on {baseline.taken_at[:10]}. Take out what came later, and sign it:",
        "#   petaseal centre baseline THIS_FILE --key operator.pem --out baseline.dsse.json",
        f"centre_id: {json.dumps(baseline.centre_id)}",
        f"taken_at: {json.dumps(baseline.taken_at)}",
        "devices:",
    ]
    for device, name in zip(baseline.devices, names, strict=True):
        fields = {"uuid": device.uuid, "serial": device.serial, "die_id": device.die_id}
        text = ", ".join(f"{field}: {json.dumps(value, ensure_ascii=False)}" for field, value in fields.items())
        lines.append(f"  - {{{text}}}  # {one_line(name, 120)}")
    return "\n".join(lines) + "\n"


def shortened_paths(sources: Sequence[Path]) -> str:
    """Return the first of many paths."""
    return shortened_list(map(str, sources), SHOWN)


def _sightings(source: Path, at: str) -> Iterator[Sighting]:
    if not source.is_dir():
        return _of_records(source, at) if _holds_records(source) else _of_listing(source)
    collected = Folder(source).collected
    folder = collected if collected.is_dir() else source
    if (folder / "records.jsonl").exists():
        return _of_records(folder / "records.jsonl", at)
    names = sorted(path for path in folder.iterdir() if path.name.endswith(".json") and not path.name.startswith("."))
    if any(path.name.endswith(RECORD_SUFFIX) for path in names):
        return _of_records(folder, at)
    if not names:
        fix = "give files of petaseal devices --json, or a folder of records"
        raise InputError("no-device", "holds no list of devices and no record", where=source, fix=fix)
    return (sighting for path in names for sighting in _of_listing(path, read_bytes))


def _holds_records(source: Path) -> bool:
    return source.name.endswith((RECORD_SUFFIX, ".jsonl"))


def _of_listing(path: Path, read: Callable[[Path, int], bytes] = read_given) -> Iterator[Sighting]:
    listing = decode_listing(read(path, CAPS.record_bytes), path)
    unusable = (one for problem in listing.problems for one in problem.devices)  # they stand there all the same
    for one in (*listing.devices, *unusable):
        yield Sighting(one.identity, f"{path.name}/{one.device}")


def _of_records(source: Path, at: str) -> Iterator[Sighting]:
    verifier = Verifier(TrustedSet.named(()), at)  # a record names its own key; whose it is decides nothing here
    if source.is_dir() or source.name.endswith(".jsonl"):
        of_records: Iterable[tuple[Sighting, ...]] = read_all(ClaimReader(source, verifier, _of_record))
    else:
        of_records = [_of_record(verifier.record(read_given(source, CAPS.record_bytes), source))]
    return (sighting for sightings in of_records for sighting in sightings)


def _of_record(opened: OpenedDocument[NodeRecord]) -> tuple[Sighting, ...]:
    record = opened.predicate
    if record.identities_replaced:
        what = "was published under identities that are made up: no device could be recognised by them"
        raise RefusedError("published-record", what, where=record.node_id, fix="take the record as it was measured")
    return tuple(Sighting(device, f"{record.node_id}/{device.device}") for device in record.devices)
