"""What the records of nodes say that another tool's output is held against: processes, memory, FP64 rating."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from bench.record import Campaign, Device, NodeRecord
from bench.units import utc_ns, utc_text
from certify.evidence.facts import NodesTogether
from certify.judge.ceilings import most_mflop_s
from certify.judge.parts import RatedModel


class NodeMeans(NamedTuple):
    """What one node can hold and compute at most. None: its record does not say."""

    cpus: int  # logical, that its processes may use
    devices: int  # accelerators, dies counted one by one
    host_bytes: int | None
    device_bytes: int | None
    fp64_mflop_s: int | None  # of the accelerators, or of the processors where there is none


def means_of(record: NodeRecord, rows: Sequence[RatedModel]) -> NodeMeans:
    """Return what a record says that its node can hold and compute.

    Args:
        record: of the node.
        rows: of each of its models, what the table of ratings says.
    """
    processors = [one for one in record.devices if record.models[one.model].kind == "cpu"]
    devices = [one for one in record.devices if record.models[one.model].kind != "cpu"]
    memory = [record.models[one.model].memory_bytes for one in devices]
    # each processor of a node reports the memory of the whole node
    host = [record.models[one.model].memory_bytes for one in processors]
    rates = [_fp64_mflop_s(one, record, rows) for one in devices or processors]
    return NodeMeans(
        cpus=record.environment.cpus,
        devices=sum(_dies(rows[one.model]) for one in devices),
        host_bytes=max((size for size in host if size is not None), default=None),
        device_bytes=sum(size or 0 for size in memory) if devices and all(memory) else None,
        fp64_mflop_s=None if None in rates or not rates else sum(rate or 0 for rate in rates),
    )


def _dies(row: RatedModel) -> int:
    """Return how many processes of a tool that runs one a device a device may have: one for each of its dies."""
    rating = row.rating
    return 1 if rating is None or rating.part == "die" else rating.dies_per_unit


def _fp64_mflop_s(device: Device, record: NodeRecord, rows: Sequence[RatedModel]) -> int | None:
    model = record.models[device.model]
    if (nominal := rows[device.model].nominal_mflop_s("fp64")) is not None:
        return nominal
    # a processor without a rating is bounded by its instruction set (L7), all of them together by their cores
    if model.kind != "cpu" or model.instruction_set is None:
        return None
    return most_mflop_s("fp64", "native", model.instruction_set, model.units, model.max_clock_mhz)


def facts_of(
    nodes: Iterable[str], means: Mapping[str, NodeMeans], campaign: Campaign, *, is_per_device: bool
) -> NodesTogether:
    """Return what is known of some nodes together; what one of them does not say is not known of all.

    Args:
        nodes: on which a tool ran.
        means: of the nodes that have a record.
        campaign: in whose time the tool ran.
        is_per_device: whether the tool runs one process a device, in the device's memory.
    """
    known = [means.get(node) for node in nodes]
    opened_at, ends_at = campaign.issued_at, campaign_end(campaign)
    if not known or None in known:
        return NodesTogether(opened_at=opened_at, ends_at=ends_at)
    each = [one for one in known if one is not None]
    ranks = [one.devices if is_per_device and one.devices else one.cpus for one in each]
    return NodesTogether(
        ranks=sum(ranks),
        memory_bytes=_total([_memory_bytes(one, is_per_device=is_per_device) for one in each]),
        fp64_mflop_s=_total([one.fp64_mflop_s for one in each]),
        opened_at=opened_at,
        ends_at=ends_at,
    )


def _memory_bytes(means: NodeMeans, *, is_per_device: bool) -> int | None:
    if means.host_bytes is None:
        return means.device_bytes if is_per_device else None
    return means.host_bytes + (means.device_bytes or 0)


def _total(values: Sequence[int | None]) -> int | None:
    return None if None in values else sum(value or 0 for value in values)


def campaign_end(campaign: Campaign) -> str:
    """Return when the last window of a campaign closes at the latest: whoever runs it has time until then."""
    return utc_text(utc_ns(campaign.starts_until) + campaign.last_closes_ns)
