"""Parts and their whole (R12): what the dies, partitions and shares of one unit may be together. Pure functions.

A part counts as its share of the row's unit: a die 1/`dies_per_unit`, a slice the units that it reports of the row's.
What bounds a whole unit is judged on the sum over its parts that were measured in one window; a part without a figure
adds 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

from bench.record import Device, DeviceModel, Figure, NodeRecord, Precision, Workload, identifier
from certify.judge.ceilings import PERCENT, WHOLE, CeilingFacts, Ceilings, UnitShare, ceilings
from certify.policy.rating import Rating

PARTS = ("die", "slice")
SAME_READING = 102  # percent: means over the same time, of a sensor that each part read for itself


class RatedModel(NamedTuple):
    """What the table of ratings says of a device model, and what in the record contradicts it."""

    rating: Rating | None  # of the whole unit that the device is, or is a part of
    share: UnitShare | None  # the device's part of it; None where it is not known
    codes: tuple[str, ...]

    @property
    def tdp_mw(self) -> int | None:
        """Return the device's share of its row's rated power; None where it is not known."""
        if self.rating is None or self.rating.tdp_mw is None or self.share is None:
            return None
        return self.rating.tdp_mw * self.share.part // self.share.of

    def nominal_mflop_s(self, precision: Precision) -> int | None:
        """Return the device's share of its row's dense rating; None where there is none."""
        nominal = None if self.rating is None else self.rating.nominal_mflop_s(precision)
        return None if nominal is None or self.share is None else nominal * self.share.part // self.share.of


class Whole(NamedTuple):
    """All parts of one unit of one node that gave a figure for one workload, together."""

    ceilings: Ceilings
    rate_mflop_s: int  # the sum over the parts
    power_mean_mw: int | None  # at least
    power_most_mw: int | None  # at most: differs where two parts may repeat one reading, or give their own alike
    power_with_parent: bool  # one reading stands for all parts


def share_of(model: DeviceModel, rating: Rating | None) -> UnitShare | None:
    """Return which part of its row's unit a device is; None where it is not known.

    Args:
        model: of the device.
        rating: its row, as matched: of the die where the row lists dies.
    """
    if rating is None:
        return None if model.count_unit in PARTS else WHOLE
    if model.count_unit == "slice":
        return UnitShare(model.units, rating.units) if model.units and rating.units else None
    return UnitShare(1, rating.dies_per_unit) if rating.part == "die" else WHOLE


def parenthood(model: DeviceModel, device: Device) -> tuple[str, ...]:
    """Return what is wrong with the unit that a device says that it is part of: a placeholder names none."""
    parent = identifier(device.parent)
    if (model.count_unit in PARTS) == (parent is not None):
        return ()
    return ("no-parent",) if parent is None else ("whole-with-parent",)


def too_many_parts(record: NodeRecord, rows: Sequence[RatedModel]) -> frozenset[str]:
    """Return the devices of a record that are together more than the unit that they are parts of.

    Args:
        record: of one node.
        rows: of the record's models.
    """
    crowded: set[str] = set()
    for parts in _families(record).values():
        shares = [share for part in parts if (share := rows[part.model].share) is not None]
        if sum((Fraction(*share) for share in shares), Fraction()) > 1:
            crowded.update(part.device for part in parts)
    return frozenset(crowded)


def _families(record: NodeRecord) -> dict[str, list[Device]]:
    """Return the parts of each unit of a node; a part without a parent is a family of its own."""
    families: dict[str, list[Device]] = {}
    for device in record.devices:
        model = record.models[device.model]
        if model.count_unit in PARTS and model.kind != "cpu":
            families.setdefault(identifier(device.parent) or f"/{device.device}", []).append(device)
    return families


def wholes_of(
    record: NodeRecord,
    rows: Sequence[RatedModel],
    measured: Mapping[str, Mapping[Workload, Figure]],
    highest_mflop_s: Mapping[Precision, int | None],
) -> dict[tuple[str, Workload], Whole]:
    """Return what the parts of each unit gave together, by each part's name and workload.

    Args:
        record: of one node.
        rows: of the record's models.
        measured: figures by device and workload.
        highest_mflop_s: the table's highest rating of each precision.
    """
    wholes: dict[tuple[str, Workload], Whole] = {}
    for parts in _families(record).values():
        if not identifier(parts[0].parent):
            continue
        for workload in dict.fromkeys(w for part in parts for w in measured.get(part.device, ())):
            figures = [(part, f) for part in parts if (f := measured.get(part.device, {}).get(workload)) is not None]
            models = [record.models[part.model] for part, _ in figures]
            of_unit, highest = [f for _, f in figures], highest_mflop_s[workload.computed]
            # Each part by its own row: one that the table does not know must not take the bounds off the others.
            by_row = {
                model: _whole(of_unit, models, rows[model].rating, workload.computed, highest)
                for model in {part.model for part, _ in figures}
            }
            wholes |= {(part.device, workload): by_row[part.model] for part, _ in figures}
    return wholes


def _whole(
    figures: list[Figure],
    models: list[DeviceModel],
    rating: Rating | None,
    precision: Precision,
    highest_mflop_s: int | None,
) -> Whole:
    facts = CeilingFacts(
        precision=precision,
        rate_mflop_s=sum(f.sustained_mflop_s for f in figures),
        units=_if_all(sum, [model.units or None for model in models]),
        max_clock_mhz=_if_all(max, [model.max_clock_mhz or None for model in models]),
        clock_max_mhz=_if_all(max, [f.clock_max_mhz for f in figures]),
        clock_mean_mhz=_if_all(max, [f.clock_mean_mhz for f in figures]),
        clock_samples=min(f.clock_samples for f in figures),
    )
    return Whole(ceilings(facts, rating, highest_mflop_s), facts.rate_mflop_s, *_power(figures))


def _power(figures: list[Figure]) -> tuple[int | None, int | None, bool]:
    """Return a whole unit's power, least and most, and whether it was reported once: what parts repeat is the unit's.

    Each part's mean is over readings of its own, so that repeated ones differ a little; and so may two parts' own.
    """
    reported = [f.power_mean_mw for f in figures if f.power_mean_mw is not None]
    if not reported:
        return None, None, False
    if len(figures) > 1 and (len(reported) < len(figures) or len(set(reported)) == 1):
        return max(reported), max(reported), True
    alike = len(figures) > 1 and max(reported) * PERCENT <= min(reported) * SAME_READING
    return max(reported) if alike else sum(reported), sum(reported), alike


def _if_all(add: Callable[[list[int]], int], values: Iterable[int | None]) -> int | None:
    """Return the sum or maximum of what every part reports; None where one does not."""
    reported = list(values)
    known = [value for value in reported if value is not None]
    return add(known) if len(known) == len(reported) else None
