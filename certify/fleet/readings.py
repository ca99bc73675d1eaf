"""The figures of records one by one, each with the judgement of the rules: for a comparison of devices, not for a sum.

The judgement is that of ``certify`` (`judge.tally.tally_record`), so that nothing is judged in two ways. A record of a
folder that is refused is reported, and the records after it are read all the same.
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
from bench.record.campaign import Campaign, ends_ns
from bench.record.fields import filled
from bench.record.identities import DeviceKeys, Uniqueness, device_keys, identities
from bench.units import full_name, utc_ns
from certify.documents.caps import CAPS
from certify.documents.kinds import RECORD_SUFFIX
from certify.documents.statement import NotCounted
from certify.fleet.findings import FleetReading
from certify.judge.products import ACCUMULATION
from certify.judge.record import tally_record
from certify.judge.scope import Scope
from certify.judge.tally import Tally
from certify.statement.records import PARALLEL_FROM_BYTES, check_file_name, chunks_of
from certify.trust.opening import Verifier
from certify.trust.trusted_set import TrustedSet
from certify.workers import spread


class Passed(NamedTuple):
    """A figure that counts wherever its workload does: no rule holds or voids it."""

    reading: FleetReading
    workload: Workload
    pool_class: PoolClass
    identities: Mapping[str, str]  # by field


class JudgedRecord(NamedTuple):
    """The figures of one record after the run rules: those that count, and those that do not."""

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
class FolderFigures:
    """The records of a folder in the order of their file names: the judged ones, and the refused files."""

    judged: list[JudgedRecord] = field(default_factory=list)
    refused: list[RefusedRecord] = field(default_factory=list)

    @property
    def simulated(self) -> bool:
        """Whether any device of a judged record was simulated."""
        return any(record.simulated for record in self.judged)


class Scopes:
    """A scope as it is, and as it would be if all classes counted in one workload."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.counting_in = {
            workload: replace(
                scope,
                counting={
                    name: entry
                    if entry.workload == workload
                    else msgspec.structs.replace(
                        entry,
                        precision=workload.precision,
                        choice=workload.choice,
                        accumulate=ACCUMULATION[workload.computed],
                    )
                    for name, entry in scope.counting.items()
                },
            )
            for workload in (Workload(p, c) for p in ACCUMULATION for c in get_args(Choice))  # type: ignore[arg-type]
        }


def judge_figures(record: NodeRecord, scopes: Scopes, payload_sha256: str) -> JudgedRecord:
    """Return what the rules make of each device of a record in each workload of its campaign.

    Raises:
        RefusedError: the record does not belong to the campaign, centre or profile.
    """
    scope = scopes.scope
    tally = Tally()
    tally_record(record, scope, tally)
    good: Counter[Workload] = Counter()
    for key, total in tally.sums.items():
        good[key.workload] += total.devices * (key.standing != "witness")
    figures = {(m.workload, f.device): f for m in record.measurements for f in m.figures()}
    windows = scope.campaign.windows_of(record.node_id)  # a workload that its pool does not measure is not missing
    wanted = dict.fromkeys([w.workload for w in windows] + [m.workload for m in record.measurements])
    passed: list[Passed] = []
    not_counted: list[NotCounted] = []
    for workload in wanted:
        blocked: dict[str, tuple[str, ...]] = {}
        # Sums count devices and do not name them. Only where one is missing, which is rare, is the record tallied again
        # as if this workload were the one that counts: that tally names it with its codes.
        if good[workload] < len(record.devices):
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
            reading = reading_of(record.node_id, model, workload, figure)
            passed.append(Passed(reading, workload, pool.pool_class, identities(device)))
    return JudgedRecord(
        record.node_id,
        payload_sha256,
        passed,
        not_counted,
        [device_keys(device) for device in record.devices],
        tally.simulated,
    )


def model_name(model: DeviceModel) -> str:
    """Return the name under which the devices of a model are compared: vendor, model and bin, each once."""
    name = full_name(model.vendor, model.model)
    return name if model.bin is None or model.bin in name else f"{name} {model.bin}"


def reading_of(node_id: str, model: DeviceModel, workload: Workload, figure: Figure) -> FleetReading:
    """Return a device's figure as it is compared with those of others."""
    return filled(FleetReading, figure, node_id=node_id, model=model_name(model), workload=str(workload))


@dataclass(frozen=True)
class FleetReader:
    """Opens and judges the records of one share; runs in a worker process."""

    scopes: Scopes
    trust: TrustedSet
    at: str

    def __call__(self, paths: Sequence[Path]) -> FolderFigures:
        """Return the judged share; a file that cannot be judged is in it with the reason."""
        result = FolderFigures()
        for path in paths:
            try:
                opened = Verifier(self.trust, self.at).record(read_bytes(path, CAPS.record_bytes), path)
                check_file_name(path, opened)
                result.judged.append(judge_figures(opened.predicate, self.scopes, opened.payload_sha256))
            except PetasealError as error:
                result.refused.append(refused(path, error))
        return result


def refused(path: Path, error: PetasealError) -> RefusedRecord:
    """Return the entry of a file that is no record of the campaign."""
    return RefusedRecord(file=one_line(path.name, 256), code=error.code, what=one_line(error.what))


def read_figures(
    folder: Path, scope: Scope, trust: TrustedSet, at: str, progress: Callable[[int], None] = lambda records: None
) -> FolderFigures:
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
    whole, unique, done = FolderFigures(), Uniqueness(), 0
    reader = FleetReader(Scopes(scope), trust, at)
    shares = [chunk.paths for chunk in chunks]
    for share, part in zip(
        shares, spread(reader, shares, parallel=size >= PARALLEL_FROM_BYTES, where=folder), strict=True
    ):
        whole.refused += part.refused
        for one in part.judged:
            # Here and not in the workers: two records with one device may lie in different shares.
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
    if problem is None and ends_ns(campaign, starts_at) > utc_ns(at):
        problem = "the campaign is not over"
    if problem is not None:
        raise RefusedError("window-invalid", problem, where=campaign.campaign_id)
