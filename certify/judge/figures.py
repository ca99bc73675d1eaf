"""All figures of one record, judged: what each rule says of them, whoever asks and wherever the devices stand.

What a centre, its pools and its policies make of the figures is `certify.judge.aggregate`'s to add.
"""

from __future__ import annotations

from typing import NamedTuple

from bench.record import Figure, NodeRecord, Precision, Workload
from certify.judge.case import Judgement, Plan, Setting, references_of
from certify.judge.parts import PARTS, Row, Whole, too_many_parts, wholes_of
from certify.judge.plausibility import row_of
from certify.judge.rules import judge, setting_of, timed_kinds
from certify.policy.ratings import Ratings


class Judged(NamedTuple):
    """One figure with what the rules made of it."""

    setting: Setting
    figure: Figure
    judgement: Judgement


class Figures(NamedTuple):
    """The figures of one record."""

    rows: tuple[Row, ...]  # of the record's models, in their order
    crowded: frozenset[str]  # devices that are more parts of one unit than it has
    judged: dict[str, dict[Workload, Judged]]  # by device


def figures_of(record: NodeRecord, ratings: Ratings, plan: Plan) -> Figures:
    """Return a record's figures, each judged with everything that the rules look at."""
    rows = tuple(row_of(model, ratings) for model in record.models)
    highest = {m.precision: ratings.highest_mflop_s(m.precision) for m in record.measurements}
    model_of = {device.device: device.model for device in record.devices}
    timed = timed_kinds(record)
    found: dict[str, dict[Workload, tuple[Setting, Figure]]] = {name: {} for name in model_of}
    rates: dict[tuple[str, str], dict[Precision, int]] = {}  # of one choice of shape: like is compared with like
    for measurement in record.measurements:
        settings: dict[int, Setting] = {}
        workload = measurement.workload
        for figure in measurement.figures():
            index = model_of[figure.device]
            if index not in settings:
                settings[index] = setting_of(
                    record, measurement, record.models[index], rows[index], plan, highest[workload.precision], timed
                )
            found[figure.device].setdefault(workload, (settings[index], figure))
            rates.setdefault((figure.device, workload.choice), {})[workload.precision] = figure.sustained_mflop_s
    beside = references_of(record)
    wholes: dict[tuple[str, Workload], Whole] = {}
    if any(model.count_unit in PARTS for model in record.models):
        wholes = wholes_of(record, rows, {d: {w: f for w, (_, f) in own.items()} for d, own in found.items()}, highest)
    return Figures(
        rows,
        too_many_parts(record, rows),
        {
            device: {
                workload: Judged(
                    setting,
                    figure,
                    judge(
                        setting,
                        figure,
                        rates[device, workload.choice],
                        beside.get((device, workload.precision), ()),
                        wholes.get((device, workload)),
                    ),
                )
                for workload, (setting, figure) in own.items()
            }
            for device, own in found.items()
        },
    )
