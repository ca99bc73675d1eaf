"""The device models of each pool out of rows: pure, as the feed of pools shows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from certify.documents.statement import EvidenceLine
from certify.judge.ceilings import STEPS
from certify.registry.api.nodes import ModelLine, RmaxLine, StepSum
from certify.registry.storage.node_tables import evidence_lines, inventory_lines, model_lines, model_step_lines

MOST_MODELS = 64  # of one pool: a feed of all centres must not be as long as one of them wishes
_NAMES = ("vendor", "model", "count_unit")
_OF_RECORDS = tuple(name for name in ModelLine.__struct_fields__ if name not in (*_NAMES, "devices", "steps"))
INVENTORY_COLUMNS = tuple(inventory_lines.c[name] for name in ("statement", "pool", *_NAMES, "devices"))
MODEL_COLUMNS = tuple(model_lines.c[name] for name in ("statement", "pool", *_NAMES, "devices", *_OF_RECORDS))
MODEL_STEP_COLUMNS = tuple(
    model_step_lines.c[name] for name in ("statement", "pool", "vendor", "model", *StepSum.__struct_fields__)
)
_UNKNOWN: Mapping[str, Any] = dict.fromkeys(_OF_RECORDS)
_ORDER: dict[str, int] = {name: place for place, name in enumerate(STEPS)}


EVIDENCE_COLUMNS = tuple(evidence_lines.c[name] for name in ("statement", "pool", "number", "content"))


def rmax_by_pool(rows: Iterable[Any]) -> dict[tuple[str, str], RmaxLine]:
    """Return the highest HPL run that was brought for each pool, by statement and pool.

    Args:
        rows: of `EVIDENCE_COLUMNS`.
    """
    highest: dict[tuple[str, str], RmaxLine] = {}
    for statement, pool, _, content in sorted(rows):
        line = msgspec.json.decode(content, type=EvidenceLine)
        if not line.is_rmax or line.rate_mflop_s is None:
            continue
        before = highest.get((statement, pool))
        if before is None or line.rate_mflop_s > before.rate_mflop_s:
            highest[statement, pool] = RmaxLine(
                rate_mflop_s=line.rate_mflop_s,
                by=line.by,
                tool=line.tool,
                n=line.n,
                nodes=line.nodes,
                codes=line.codes,
                evidence_sha256=line.evidence_sha256,
            )
    return highest


class PoolModels(NamedTuple):
    """The models that are shown of a pool, and how many further ones there are."""

    lines: tuple[ModelLine, ...] = ()
    left_out: int = 0


def steps_by_key(rows: Iterable[Any]) -> dict[tuple[Any, ...], tuple[StepSum, ...]]:
    """Return what rests on each step of evidence, the strongest first.

    Args:
        rows: any key, then the fields of `StepSum`.
    """
    steps: dict[tuple[Any, ...], list[StepSum]] = {}
    for row in rows:
        *key, step, devices, certified_mflop_s = row
        one = StepSum(step=step, devices=devices, certified_mflop_s=certified_mflop_s)
        steps.setdefault(tuple(key), []).append(one)
    return {key: tuple(sorted(each, key=lambda one: _ORDER.get(one.step, len(_ORDER)))) for key, each in steps.items()}


def models_by_pool(
    inventory: Iterable[Any], of_records: Iterable[Any], steps: Iterable[Any]
) -> Mapping[tuple[str, str], PoolModels]:
    """Return the models of pools, by statement and pool.

    Args:
        inventory: rows of `INVENTORY_COLUMNS`: what a statement lists.
        of_records: rows of `MODEL_COLUMNS`, where its records were read: they take the place of the inventory.
        steps: rows of `MODEL_STEP_COLUMNS`.
    """
    resting = steps_by_key(steps)
    pools: dict[tuple[str, str], list[ModelLine]] = {}
    for row in of_records:
        pools.setdefault((row[0], row[1]), []).append(_line(row, dict(zip(_OF_RECORDS, row[6:], strict=True)), resting))
    recorded = set(pools)
    for row in inventory:
        if (row[0], row[1]) not in recorded:
            pools.setdefault((row[0], row[1]), []).append(_line(row, _UNKNOWN, resting))
    return {pool: _most(lines) for pool, lines in pools.items()}


def _line(row: Any, of_records: Mapping[str, Any], resting: Mapping[tuple[Any, ...], tuple[StepSum, ...]]) -> ModelLine:
    statement, pool, vendor, model, count_unit, devices = row[:6]
    steps = resting.get((statement, pool, vendor, model), ())
    return ModelLine(vendor=vendor, model=model, count_unit=count_unit, devices=devices, steps=steps, **of_records)


def _most(lines: list[ModelLine]) -> PoolModels:
    lines.sort(key=lambda one: (-one.devices, one.vendor, one.model, one.count_unit))
    return PoolModels(tuple(lines[:MOST_MODELS]), max(0, len(lines) - MOST_MODELS))
