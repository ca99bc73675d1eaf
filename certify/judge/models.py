"""What records show of the device models in each pool: names, numbers, memory. Nothing is judged here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from bench.record import Name, NodeRecord, Precision
from certify.judge.plausibility import row_of
from certify.policy.pools import Places
from certify.policy.ratings import Ratings


class ModelKey(NamedTuple):
    """What makes devices one line: those of one model of one vendor that count alike."""

    pool: Name
    vendor: str
    model: str
    count_unit: str


class NodeModel(NamedTuple):
    """The devices of one model that one node has in one pool."""

    key: ModelKey
    devices: int
    memory_bytes: int | None  # the least of them; None: one of them reports none
    memory_bytes_most: int | None
    devices_without_rating: int | None  # in the precision that counts; None: the table of ratings is not known


class ModelSum(NamedTuple):
    """The devices of one model in one pool, over nodes."""

    key: ModelKey
    nodes: int
    devices: int
    devices_per_node: int  # the least of its nodes
    devices_per_node_most: int
    memory_bytes: int | None
    memory_bytes_most: int | None
    devices_without_rating: int | None


def models_of(
    record: NodeRecord, places: Places, precisions: Mapping[str, Precision], ratings: Ratings | None
) -> tuple[NodeModel, ...]:
    """Return what one record shows, in the order of pools and models.

    Args:
        record: of a node.
        places: the pools of devices; what is in none is left out.
        precisions: pool -> the precision that it counts.
        ratings: that the statement binds; None where they are not known.
    """
    found: dict[ModelKey, NodeModel] = {}
    rows = () if ratings is None else [row_of(model, ratings) for model in record.models]
    for device in record.devices:
        pool = places.pool_of(record.node_id, device.device)
        if pool is None:
            continue
        model = record.models[device.model]
        key = ModelKey(pool.pool, model.vendor, model.model, model.count_unit)
        unrated = None
        if ratings is not None:
            unrated = int(rows[device.model].nominal_mflop_s(precisions[pool.pool]) is None)
        one = NodeModel(key, 1, model.memory_bytes, model.memory_bytes, unrated)
        before = found.get(key)
        found[key] = one if before is None else _joined(before, one)
    return tuple(found[key] for key in sorted(found))


def _joined(a: NodeModel, b: NodeModel) -> NodeModel:
    return NodeModel(
        a.key,
        a.devices + b.devices,
        _least(a.memory_bytes, b.memory_bytes),
        _most(a.memory_bytes_most, b.memory_bytes_most),
        _plus(a.devices_without_rating, b.devices_without_rating),
    )


def sum_models(nodes: Iterable[NodeModel]) -> tuple[ModelSum, ...]:
    """Return the sums over nodes, in the order of pools and models."""
    sums: dict[ModelKey, ModelSum] = {}
    for one in nodes:
        joined = ModelSum(one.key, 1, one.devices, one.devices, one.devices, *one[2:])
        before = sums.get(one.key)
        if before is not None:
            joined = ModelSum(
                one.key,
                before.nodes + 1,
                before.devices + one.devices,
                min(before.devices_per_node, one.devices),
                max(before.devices_per_node_most, one.devices),
                _least(before.memory_bytes, one.memory_bytes),
                _most(before.memory_bytes_most, one.memory_bytes_most),
                _plus(before.devices_without_rating, one.devices_without_rating),
            )
        sums[one.key] = joined
    return tuple(sums[key] for key in sorted(sums))


# what one device does not say is not known of all of them


def _least(a: int | None, b: int | None) -> int | None:
    return None if a is None or b is None else min(a, b)


def _most(a: int | None, b: int | None) -> int | None:
    return None if a is None or b is None else max(a, b)


def _plus(a: int | None, b: int | None) -> int | None:
    return None if a is None or b is None else a + b
