"""From a node's results to its documents: the record and the bytes of the samples. Pure: equal results, equal bytes."""

from __future__ import annotations

import csv
import io
import zlib
from collections.abc import Iterable, Mapping, Sequence
from secrets import token_hex
from typing import NamedTuple

import msgspec

from bench.devices.base import LocalDevice
from bench.engine.measure import SampleRow
from bench.engine.network import NetworkResult
from bench.engine.session import Result, WorkloadFacts
from bench.environment import derived_id, environment
from bench.record import (
    RULES_VERSION,
    Campaign,
    Device,
    DeviceModel,
    Failure,
    Measurement,
    NodeClock,
    NodeRecord,
    Precision,
    Profile,
    ReferenceFigure,
    ReferenceMeasurement,
    Workload,
    columns,
    digest,
)
from bench.record.identities import IDENTITY_FIELDS
from bench.record.plan import ReferenceRole
from bench.record.sources import tool
from bench.reference.measurements import ReferenceResult
from bench.units import utc_text

PHASES = ("prepare", "trial", "warmup", "window", "guard")

# No environment variable that enables emulation was set: `bench.environment.refuse_emulation` ran before anything else.
ENVIRONMENT_SWITCH = "environment"


class Shares(NamedTuple):
    """The node's CPU time in one window, ppm: taken by the hypervisor, and used by others."""

    steal_ppm: int | None
    other_load_ppm: int | None


class RecordParts(NamedTuple):
    """Everything that goes into a node's record."""

    node_id: str
    signer_spki: str
    profile: Profile
    campaign: Campaign
    starts_ns: int  # T0
    started_ns: int
    ready_ns: int
    ended_ns: int
    clock: NodeClock
    libraries: Mapping[str, str]
    switches: Mapping[str, str]
    devices: Sequence[LocalDevice]
    results: Sequence[Result]
    references: Sequence[ReferenceResult]
    failures: Sequence[Failure]
    shares: Mapping[Workload, Shares]
    rows: Sequence[SampleRow]
    replace_identities: bool = False
    unset: tuple[str, ...] = ()  # environment variables that the workers did not get
    network: NetworkResult = NetworkResult()


def node_record(facts: RecordParts) -> NodeRecord:
    """Return the record of one node: devices in their order, one measurement for each workload and shape."""
    campaign = facts.campaign
    pools = {node.node_id: node.pool for node in campaign.nodes}
    models, devices = _models(facts.devices)
    return NodeRecord(
        rules=RULES_VERSION,
        tool=tool(),
        node_id=facts.node_id,
        centre_id=campaign.centre_id,
        pool=pools.get(facts.node_id),
        campaign_id=campaign.campaign_id,
        campaign_sha256=digest(campaign),
        challenge=campaign.challenge,
        campaign=campaign if campaign.self_issued else None,
        profile=facts.profile.profile,
        profile_sha256=digest(facts.profile),
        signer_spki=facts.signer_spki,
        starts_at=utc_text(facts.starts_ns),
        started_at=utc_text(facts.started_ns),
        ready_at=utc_text(facts.ready_ns),
        ended_at=utc_text(facts.ended_ns),
        clock=facts.clock,
        environment=environment(facts.libraries, {ENVIRONMENT_SWITCH: "off", **facts.switches}, unset=facts.unset),
        models=models,
        devices=with_made_up_identities(devices) if facts.replace_identities else devices,
        measurements=tuple(_measurements(facts, [d.device for d in devices])),
        companions=tuple(_references(facts.references, [d.device for d in devices])),
        failures=tuple(facts.failures),
        identities_replaced=facts.replace_identities,
        network=facts.network.measurements,
        sweep=facts.network.sweep,
    )


def with_made_up_identities(devices: Iterable[Device]) -> tuple[Device, ...]:
    """Return devices whose identities are made up, for a record that is published: null stays null, equal stays equal.

    Args:
        devices: of one record.
    """
    secret = token_hex()  # never stored: who tries all serial numbers and places there are shall find none again

    def made_up(value: str | None) -> str | None:
        return None if value is None else f"replaced-{derived_id('replaced', f'{secret}/{value}')[:24]}"

    def published(device: Device) -> Device:
        return msgspec.structs.replace(device, **{name: made_up(getattr(device, name)) for name in IDENTITY_FIELDS})

    return tuple(map(published, devices))


def _models(detected: Iterable[LocalDevice]) -> tuple[tuple[DeviceModel, ...], tuple[Device, ...]]:
    """Return the models without repetition, and the devices with the index of theirs."""
    models: list[DeviceModel] = []
    devices = []
    for model, device, *_ in detected:
        if model not in models:
            models.append(model)
        devices.append(msgspec.structs.replace(device, model=models.index(model)))
    return tuple(models), tuple(devices)


def _measurements(facts: RecordParts, order: list[str]) -> Iterable[Measurement]:
    """Yield one measurement for each problem, with a place for each device that ran it, in the record's order."""
    groups: dict[WorkloadFacts, list[Result]] = {}
    for result in sorted(facts.results, key=lambda r: order.index(r.figure.device)):
        groups.setdefault(result.facts, []).append(result)
    windows = [window.workload for window in facts.campaign.windows]
    for problem, results in sorted(groups.items(), key=lambda item: windows.index(item[0].workload)):
        shares = facts.shares.get(problem.workload, Shares(None, None))
        yield Measurement(
            **msgspec.structs.asdict(problem),
            steal_ppm=shares.steal_ppm,
            other_load_ppm=shares.other_load_ppm,
            throttle_reasons=tuple(sorted({reason for r in results for reason in r.throttle_reasons})),
            **columns(r.figure for r in results),
        )


def _references(results: Iterable[ReferenceResult], order: list[str]) -> Iterable[ReferenceMeasurement]:
    """Yield one reference measurement for each kernel and precision, with a place for each device."""
    groups: dict[tuple[str, ReferenceRole, Precision], list[ReferenceFigure]] = {}
    for one in sorted(results, key=lambda result: order.index(result.figure.device)):
        groups.setdefault((one.kernel, one.role, one.precision), []).append(one.figure)
    for (kernel, role, precision), figures in groups.items():
        yield ReferenceMeasurement(kernel=kernel, role=role, precision=precision, **columns(figures))


def samples_gz(rows: Iterable[SampleRow]) -> bytes:
    """Return samples as gzip-compressed CSV, one reading a line, the same bytes for the same readings in any order.

    Columns: device, workload, phase, offset_ns (from the opening of the core window), quantity, value.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    ordered: list[SampleRow] = sorted(set(rows), key=_place)  # a trial that ran again may have read the same once more
    writer.writerow(SampleRow._fields)
    writer.writerows(ordered)
    deflate = zlib.compressobj(6, zlib.DEFLATED, 31)  # 31: a gzip header without name or time
    return deflate.compress(text.getvalue().encode()) + deflate.flush()


def _place(row: SampleRow) -> tuple[str, str, int, int, str, str]:
    return row.device, row.workload, PHASES.index(row.phase), row.offset_ns, row.quantity, str(row.value)
