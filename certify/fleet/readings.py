"""The figures of records one by one, with what the rules make of each: for who compares devices and adds nothing up.

The judgement is that of ``certify`` (`aggregate.tally_record`), so that nothing is judged in two ways. Of a folder, a
record that is not whole is told and stops no other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, get_args

import msgspec

from bench.errors import PetasealError, RefusedError, one_line
from bench.record import Choice, DeviceModel, Document, Figure, Name, NodeRecord, PoolClass, Text, Workload, read_bytes
from bench.record.campaign import Campaign, over_ns
from bench.record.identities import DeviceKeys, Uniqueness, device_keys, identities
from bench.units import full_name, utc_ns
from certify.documents.caps import CAPS
from certify.documents.kinds import open_record
from certify.fleet.findings import Reading
from certify.judge.aggregate import Scope, Tally, tally_record
from certify.judge.software import ACCUMULATION
from certify.statement.build import NotCounted
from certify.statement.records import PARALLEL_FROM_BYTES, RECORD_SUFFIX, check_file_name, chunks_of
from certify.trust.trusted_set import TrustedSet
from certify.workers import spread


class Passed(NamedTuple):
    """A figure that counts wherever its workload does: no rule holds or voids it."""

    reading: Reading
    workload: Workload
    pool_class: PoolClass
    identities: Mapping[str, str]  # by field


class Judged(NamedTuple):
    """One record's figures."""

    node_id: str
    payload_sha256: str
    passed: list[Passed]
    not_counted: list[NotCounted]  # void, held, failed or not measured
    devices: list[DeviceKeys]
    simulated: bool


class RefusedRecord(Document, frozen=True, kw_only=True):
    """A file that is no record of the campaign, and why."""

    file: Text
    code: Name
    what: str


@dataclass
class Figures:
    """A folder's records, those that are whole and the others, by file name."""

    judged: list[Judged] = field(default_factory=list)
    refused: list[RefusedRecord] = field(default_factory=list)

    @property
    def simulated(self) -> bool:
        """Whether any device was."""
        return any(one.simulated for one in self.judged)


class Scopes:
    """A scope as it is, and as it would be if all classes counted in one workload."""

    def __init__(self, own: Scope) -> None:
        self.own = own
        self.counting_in = {
            workload: replace(
                own,
                counting={
                    name: entry
                    if entry.workload == workload
                    else msgspec.structs.replace(
                        entry,
                        precision=workload.precision,
                        choice=workload.choice,
                        accumulate=ACCUMULATION[workload.precision],
                    )
                    for name, entry in own.counting.items()
                },
            )
            for workload in (Workload(p, c) for p in ACCUMULATION for c in get_args(Choice))  # type: ignore[arg-type]
        }


def judge_figures(record: NodeRecord, scopes: Scopes, payload_sha256: str) -> Judged:
    """Return what the rules make of each device of a record in each workload of its campaign.

    Raises:
        RefusedError: the record does not belong to the campaign, centre or profile.
    """
    scope = scopes.own
    tally = Tally()
    tally_record(record, scope, tally)
    good: Counter[Workload] = Counter()
    for key, total in tally.sums.items():
        good[key.workload] += total.devices * (key.standing != "witness")
    figures = {(m.workload, f.device): f for m in record.measurements for f in m.figures()}
    windows = scope.campaign.windows_of(record.node_id)  # what its pool does not measure, nobody misses
    wanted = dict.fromkeys([w.workload for w in windows] + [m.workload for m in record.measurements])
    passed: list[Passed] = []
    not_counted: list[NotCounted] = []
    for workload in wanted:
        blocked: dict[str, tuple[str, ...]] = {}
        if good[workload] < len(record.devices):  # one tally says which: this is the rare case
            whole = Tally()
            tally_record(record, scopes.counting_in[workload], whole)
            blocked = {str(device): codes for _, device, _, codes in whole.not_counted}
        for device in record.devices:
            name = device.device
            pool = scope.places.pool_of(record.node_id, name)
            if name in blocked or pool is None:
                not_counted.append(
                    NotCounted(node_id=record.node_id, device=name, workload=str(workload), codes=blocked[name])
                )
                continue
            figure, model = figures[workload, name], record.models[device.model]
            reading = _reading(record.node_id, model, workload, figure)
            passed.append(Passed(reading, workload, pool.pool_class, identities(device)))
    return Judged(
        record.node_id,
        payload_sha256,
        passed,
        not_counted,
        [device_keys(device) for device in record.devices],
        tally.simulated,
    )


def _reading(node_id: str, model: DeviceModel, workload: Workload, figure: Figure) -> Reading:
    name = full_name(model.vendor, model.model)
    return Reading(
        node_id=node_id,
        device=figure.device,
        model=name if model.bin is None or model.bin in name else f"{name} {model.bin}",
        workload=str(workload),
        sustained_mflop_s=figure.sustained_mflop_s,
        certified_mflop_s=figure.certified_mflop_s,
        clock_mean_mhz=figure.clock_mean_mhz,
        temperature_max_c=figure.temperature_max_c,
        power_mean_mw=figure.power_mean_mw,
        throttled_ppm=figure.throttled_ppm,
    )


@dataclass(frozen=True)
class Reader:
    """Opens and judges the records of one share; runs in a worker process."""

    scopes: Scopes
    trust: TrustedSet
    at: str

    def __call__(self, paths: Sequence[Path]) -> Figures:
        """Return the judged share: what is wrong with one file is said of it."""
        result = Figures()
        for path in paths:
            try:
                opened = open_record(read_bytes(path, CAPS.record_bytes), self.trust, self.at, path)
                check_file_name(path, opened)
                result.judged.append(judge_figures(opened.predicate, self.scopes, opened.payload_sha256))
            except PetasealError as error:
                result.refused.append(refused(path, error))
        return result


def refused(path: Path, error: PetasealError) -> RefusedRecord:
    """Return what is said of a file that is no record of the campaign."""
    return RefusedRecord(file=one_line(path.name, 256), code=error.code, what=one_line(error.what))


def read_figures(
    folder: Path, scope: Scope, trust: TrustedSet, at: str, progress: Callable[[int], None] = lambda records: None
) -> Figures:
    """Return the figures of a folder of records of one campaign.

    Of two records that hold one device the second is refused, by the order of their names.

    Args:
        folder: with files as ``petaseal campaign collect`` lays them out.
        scope: what they are judged against.
        trust: the verifier's keys, which may know those of nodes.
        at: the time that known keys must be valid at.
        progress: called with the number of files done so far.

    Raises:
        InputError: there is no record, or no such folder.
    """
    chunks, size = chunks_of(folder)
    whole, unique, done = Figures(), Uniqueness(), 0
    reader = Reader(Scopes(scope), trust, at)
    shares = [chunk.paths for chunk in chunks]
    for share, part in zip(
        shares, spread(reader, shares, parallel=size >= PARALLEL_FROM_BYTES, where=folder), strict=True
    ):
        whole.refused += part.refused
        for one in part.judged:
            try:
                unique.see(one.node_id, one.devices)
            except RefusedError as error:
                whole.refused.append(refused(folder / f"{one.node_id}{RECORD_SUFFIX}", error))
            else:
                whole.judged.append(one._replace(devices=[]))
        done += len(share)
        progress(done)
    return whole


def check_over(campaign: Campaign, centre_id: str, starts_at: str, at: str) -> None:
    """Refuse a campaign of another centre, and one whose times contradict each other or are not over.

    Raises:
        RefusedError: `centre-differs`, `window-invalid`.
    """
    if campaign.centre_id != centre_id:
        what = f"is of the centre {campaign.centre_id}, not {centre_id}"
        raise RefusedError("centre-differs", what, where=campaign.campaign_id)
    problem = campaign.windows_problem() or campaign.start_problem(starts_at)
    if problem is None and over_ns(campaign, starts_at) > utc_ns(at):
        problem = "the campaign is not over"
    if problem is not None:
        raise RefusedError("window-invalid", problem, where=campaign.campaign_id)
