"""R12 judged anew from its text: the limits that exist for a figure, and what no device can be. Pure, in fractions.

The table of ratings is read by the product (`Ratings.match`); what follows from a row is worked out here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from functools import cached_property
from typing import NamedTuple

from bench.record import Device, DeviceModel, Figure, Measurement, NodeRecord, Precision, Profile, Workload, identifier
from certify.policy.rating import Rating
from certify.policy.ratings import Ratings, installed_ratings

PERCENT = Fraction(1, 100)
FP64_FLOP_PER_CLOCK = [  # of one core; the most that any family does
    (16, {"sse2", "avx", "avx2", "neon", "sve128", "sve256", "lsx", "lasx"}),
    (32, {"avx512", "sve512"}),
    (128, None),  # whatever else
]
CPU_MHZ, CPU_CORES = 6200, 2048  # beyond which nothing that a record says of a processor is believed


class Row(NamedTuple):
    """What the table says of one model of a record."""

    rating: Rating | None  # by the model's name
    by_bin: Rating | None  # by its bin, as if that were the name


def rows_of(record: NodeRecord, ratings: Ratings) -> tuple[Row, ...]:
    """Return the rows of a record's models, in their order."""
    return tuple(
        Row(
            ratings.match(m.vendor, m.model, m.memory_bytes, m.count_unit, simulated=m.simulated, plays=m.plays),
            ratings.match(m.vendor, m.bin, m.memory_bytes, m.count_unit) if m.bin else None,
        )
        for m in record.models
    )


class Piece(NamedTuple):
    """A device of the record, whole or not, with its row and, where there is one, its figure in one workload."""

    device: Device
    model: DeviceModel
    row: Row
    figure: Figure | None

    @property
    def rating(self) -> Rating | None:
        """The row that limits the device: a processor's gives nominal rates alone."""
        return None if self.row.rating is None or self.row.rating.kind == "cpu" else self.row.rating

    @property
    def share(self) -> Fraction | None:
        """What part of a count unit the device is; None where that is not known."""
        rating, told = self.row.rating, self.model.units
        if self.model.count_unit in ("card", "package", "die") and rating is not None:
            return Fraction(1, rating.dies_per_unit) if rating.part == "die" else Fraction(1)
        if self.model.count_unit in ("card", "package"):
            return Fraction(1)
        if rating is None or not rating.units or not told:
            return None
        return Fraction(told, rating.units)

    def nominal_mflop_s(self, precision: Precision) -> int | None:
        """Return the device's share of its row's dense rating; None where either is not known."""
        nominal = None if self.row.rating is None else self.row.rating.whole().nominal_mflop_s(precision)
        return None if nominal is None or self.share is None else int(nominal * self.share)

    @property
    def parent(self) -> str | None:
        """Return what the device is a part of."""
        is_part = self.model.count_unit in ("die", "slice") and self.model.kind != "cpu"
        return identifier(self.device.parent) if is_part else None


class Amount(NamedTuple):
    """A figure, or the sum of those of one parent: what it is held against."""

    rate: int
    units: Fraction  # that can have worked
    clock: int  # the highest it can have run at
    readings: int  # of the clock, of the part that has fewest
    seen: int | None  # the highest clock that was read; None where it was not read of each part
    mean: int | None


class Facts(NamedTuple):
    """One figure and everything in its record that R12 looks at."""

    record: NodeRecord
    rows: tuple[Row, ...]
    measurement: Measurement
    device: Device
    figures: Mapping[tuple[str, Workload], Figure]  # all of the record
    profile: Profile

    @property
    def figure(self) -> Figure:
        """The figure that is judged."""
        return self.figures[self.device.device, self.measurement.workload]


def codes(facts: Facts) -> tuple[list[str], str]:
    """Return the codes that R12 gives to a figure, and the step of the evidence that bounds it."""
    judge = _Judge(facts)
    return sorted(set(judge.codes())), judge.step


class _Judge:
    def __init__(self, facts: Facts) -> None:
        self.step = "none"
        self.facts, self.f, self.precision = facts, facts.figure, facts.measurement.precision
        if facts.measurement.choice == "mixed":
            self.precision = "fp16"
        parts = [
            Piece(d, facts.record.models[d.model], facts.rows[d.model], facts.figures.get((d.device, self.workload)))
            for d in facts.record.devices
        ]
        self.piece = next(part for part in parts if part.device.device == facts.device.device)
        parent = self.piece.parent
        self.family = [part for part in parts if part.parent == parent] if parent else [self.piece]
        self.measured = [part for part in self.family if part.figure is not None]
        self.sum = sum(part.figure.sustained_mflop_s for part in self.measured if part.figure)

    @property
    def workload(self) -> Workload:
        return self.facts.measurement.workload

    @cached_property
    def whole(self) -> Rating | None:
        return self.piece.rating.whole() if self.piece.rating else None

    def codes(self) -> Iterator[str]:
        yield from self._impossible()
        named = self.piece.row.rating
        nominal = named.whole().nominal_mflop_s(self.precision) if named else None
        if self._ratio_is_off():
            yield "precision-ratio-impossible"
        if self.piece.model.kind == "cpu":
            self.step = "silicon"
            if self.f.sustained_mflop_s > self._cpu():
                yield "above-cpu-ceiling"
            return
        if nominal and self.f.sustained_mflop_s > nominal * (self.piece.share or 1):
            yield "above-nominal"
        yield from self._contradicts()
        yield from self._unit()
        yield from self._limits() if self.whole is not None else ["no-ceiling"]
        yield from self._power()

    # --- what can be of no device ---

    def _impossible(self) -> Iterator[str]:
        f = self.f
        if f.row_error_ppm is not None and f.rms_error_ppm is not None and f.rms_error_ppm - f.row_error_ppm > 1:
            yield "errors-impossible"
        # no more than fit into the load and the covered time, at the pace of the window
        time_ns = f.warmup_ns + f.covered_until_ns - f.opened_ns
        if f.verified_launches - 1 > Fraction(101, 100) * f.launches * time_ns / sum(f.subwindow_ns):
            yield "verified-impossible"
        if f.duty_ppm == 0:
            yield "duty-zero"
        if f.event_over_ns is None and self._stack_gives_events():
            yield "events-missing"

    def _stack_gives_events(self) -> bool:
        """Return whether any device of the same stack ("cuda:0", "rocm:1") gave its own time."""
        stack = self.f.device.split(":")[0]
        return any(
            figure.event_over_ns is not None and name.split(":")[0] == stack
            for (name, _), figure in self.facts.figures.items()
        )

    # --- a processor ---

    def _cpu(self) -> Fraction:
        m, model = self.facts.measurement, self.piece.model
        each = next(n for n, sets in FP64_FLOP_PER_CLOCK if sets is None or model.instruction_set in sets)
        flop = each if self.precision == "fp64" else 2 * each
        if self.precision in ("fp16", "bf16") and m.method == "native":
            flop = 1024
        cores, clock = min(model.units or 1, CPU_CORES), min(model.max_clock_mhz or CPU_MHZ, CPU_MHZ)
        return 105 * PERCENT * flop * cores * clock

    # --- what contradicts the row ---

    def _own_units(self) -> Fraction | None:
        """Return how many units the row gives the device at most."""
        if self.whole is None or self.whole.units is None:
            return None
        return self.whole.units * (
            Fraction(1) if self.piece.model.count_unit == "slice" else self.piece.share or Fraction(1)
        )

    def _contradicts(self) -> Iterator[str]:
        rating, model, f = self.piece.rating, self.piece.model, self.f
        is_slice, units = model.count_unit == "slice", self._own_units()
        if is_slice and self.piece.share is None:
            yield "share-unknown"
        if rating is None:
            return
        if model.count_unit == "die" and rating.part != "die":
            yield "die-not-rated"
        if units is not None and model.units:
            if model.units > units:
                yield "units-above-row"
            elif model.units < units and not is_slice:
                yield "units-below-row"
        sizes, memory = rating.memory_sizes_bytes, model.memory_bytes
        if sizes and memory and not is_slice:
            bounds = [(85 * PERCENT * size, 102 * PERCENT * Fraction(size, 10**9) * 2**30) for size in sizes]
            if not any(least <= memory <= most for least, most in bounds):
                yield "memory-differs"
        if self.piece.row.by_bin is not None and self.piece.row.by_bin.accelerator != rating.accelerator:
            yield "bin-differs"
        if rating.highest_clock_mhz and f.clock_max_mhz and f.clock_max_mhz > 101 * PERCENT * rating.highest_clock_mhz:
            yield "clock-impossible"

    def _unit(self) -> Iterator[str]:
        """Judge all parts of the parent, with or without a figure."""
        if self.piece.model.count_unit in ("die", "slice"):
            dies = [p for p in self.family if p.model.count_unit == "die"]
            taken = sum((p.share or 0 for p in self.family), Fraction())
            if taken > 1 or any(len(dies) > (p.rating.dies_per_unit if p.rating else len(dies)) for p in dies):
                yield "too-many-parts"
        sixth = _highest(self.precision)
        if sixth is not None and self.sum > 125 * PERCENT * sixth:
            yield "above-every-rating"

    # --- limits ---

    def _limits(self) -> Iterator[str]:
        rating = self.whole
        assert rating is not None
        flop = rating.flop_per_clock_per_unit(self.precision)
        rate = rating.rates.get(self.precision)
        units, highest = rating.units, rating.highest_clock_mhz
        if flop and units and highest and rate is not None and rate.silicon_confidence == "high":
            self.step = "silicon"
            if not self.piece.model.units:
                yield "units-not-told"
            if not self.piece.model.max_clock_mhz:
                yield "clock-not-told"
            for one in self._amounts(units, highest):
                yield from _above(one, flop)
            yield from self._clock_for_clock(flop * self._units(self.piece, units))
        else:
            if self._above_uncertain(rating, flop):
                yield "above-uncertain-silicon"
            if rate is None or rating.confidence not in ("high", "medium"):
                yield "no-ceiling"
            else:
                self.step = "rating"
                own = rate.nominal_mflop_s * (self.piece.share or 1)
                unit = self.sum if self.piece.parent is not None else 0
                if self.f.sustained_mflop_s > 105 * PERCENT * own or unit > 105 * PERCENT * rate.nominal_mflop_s:
                    yield "above-rating-unproven"
        best = max((n for n in self._best() if n), default=None)
        if best is not None and rate is not None:
            share = 1 if self.piece.parent is not None else self.piece.share or 1
            if self.sum > share * max(115 * PERCENT * best, 60 * PERCENT * rate.nominal_mflop_s):
                yield "above-best-known"

    def _above_uncertain(self, rating: Rating, flop: int | None) -> bool:
        """Return whether a figure is above the silicon of a row that is not certain of it, by what the device tells."""
        units = self.piece.model.units or self._own_units()
        clock = self.piece.model.max_clock_mhz or rating.highest_clock_mhz or rating.rating_clock_mhz(self.precision)
        return bool(flop and units and clock and self.f.sustained_mflop_s > flop * units * clock)

    def _units(self, piece: Piece, row: int) -> Fraction:
        most = Fraction(row) if piece.model.count_unit == "slice" else row * (piece.share or 1)
        return Fraction(min(piece.model.units, most)) if piece.model.units else Fraction(most)

    def _amounts(self, units: int, highest: int) -> Iterator[Amount]:
        """Yield the figure, and the sum over its parent."""
        f = self.f
        clock, own = min(self.piece.model.max_clock_mhz or highest, highest), self._units(self.piece, units)
        yield Amount(f.sustained_mflop_s, own, clock, f.clock_samples, f.clock_max_mhz, f.clock_mean_mhz)
        if self.piece.parent is None:
            return
        told = [p.model.units for p in self.measured]
        figures = [p.figure for p in self.measured if p.figure]
        yield Amount(
            self.sum,
            Fraction(min(sum(n or 0 for n in told), units) if all(told) else units),
            max(min(p.model.max_clock_mhz or highest, highest) for p in self.measured),
            min(x.clock_samples for x in figures),
            _most([x.clock_max_mhz for x in figures]),
            _most([x.clock_mean_mhz for x in figures]),
        )

    def _clock_for_clock(self, flop_per_clock: Fraction) -> Iterator[str]:
        """Judge a figure by what was issued beside it."""
        f, mean = self.f, self.f.clock_mean_mhz
        if not mean:
            return
        kernels = self.facts.profile.kernels.get(f.device.split(":")[0])
        wanted = kernels.companions.get(self.precision, ()) if kernels else ()
        issued = [
            Fraction(one.rate_mflop_s, one.clock_mean_mhz)  # FLOP in one clock, in millions of a second's
            for reference in self.facts.record.companions
            if reference.kernel in wanted and reference.role == "ceiling" and reference.precision == self.precision
            for one in reference.figures()
            if one.device == f.device and one.exact and one.rate_mflop_s and one.clock_mean_mhz
        ]
        proved = [each for each in issued if each >= 95 * PERCENT * flop_per_clock]
        if not proved:
            return
        self.step = "measured"
        if Fraction(f.sustained_mflop_s, mean) > 102 * PERCENT * max(proved):
            yield "above-measured-ceiling"

    def _best(self) -> Iterator[int | None]:
        assert self.whole is not None
        rates = self.whole.rates
        halves = [rates[p] for p in ("fp16", "bf16") if p in rates]
        alike = len(halves) == 2 and halves[0].nominal_mflop_s == halves[1].nominal_mflop_s
        if self.precision in ("fp16", "bf16") and alike:
            yield from (rate.best_known_mflop_s for rate in halves)
        elif self.precision in rates:
            yield rates[self.precision].best_known_mflop_s

    # --- power and the other precision ---

    def _power(self) -> Iterator[str]:
        rating = self.whole
        told = [p.figure.power_mean_mw for p in self.measured if p.figure and p.figure.power_mean_mw is not None]
        if not told:
            return
        power, least, rate = Fraction(sum(told)), Fraction(sum(told)), Fraction(self.sum)
        if len(self.measured) > 1 and (len(told) < len(self.measured) or max(told) <= 102 * PERCENT * min(told)):
            yield "power-with-parent"
            least = Fraction(max(told))  # each may have read the unit's
            if len(told) < len(self.measured) or min(told) == max(told):
                power = least
        if self.piece.parent is None:
            power, least, rate = (value / (self.piece.share or 1) for value in (power, least, rate))
        if rating is None or rating.tdp_mw is None:
            return
        if least > Fraction(3, 2) * rating.tdp_mw:
            yield "power-impossible"
        nominal = rating.nominal_mflop_s(self.precision)
        if nominal and 2 * rate >= nominal and 4 * power < rating.tdp_mw and not self._is_slow_path(rating):
            yield "power-too-low"

    def _is_slow_path(self, rating: Rating) -> bool:
        """Return whether the precision runs on so little of the chip that it draws little: below 1/32 of FP16's."""
        mine, half = (rating.flop_per_clock_per_unit(p) for p in (self.precision, "fp16"))
        if mine is None or half is None:
            mine, half = (rating.nominal_mflop_s(p) for p in (self.precision, "fp16"))
        return mine is not None and half is not None and Fraction(mine, half) < Fraction(1, 32)

    def _ratio_is_off(self) -> bool:
        """Return whether FP16 and FP64 of one device stand further apart than four times what its silicon does."""
        named, mine = self.piece.row.rating, self.precision
        rating = named.whole() if named else None
        if mine not in ("fp16", "fp64") or rating is None:
            return False
        other: Precision = "fp64" if mine == "fp16" else "fp16"
        beside = self.facts.figures.get((self.f.device, Workload(other, self.workload.choice)))
        a, b = rating.flop_per_clock_per_unit(mine), rating.flop_per_clock_per_unit(other)
        if a is None or b is None:
            a, b = rating.nominal_mflop_s(mine), rating.nominal_mflop_s(other)
        if not a or not b or beside is None:
            return False
        return self.f.sustained_mflop_s * b > 4 * beside.sustained_mflop_s * a


def _highest(precision: Precision) -> int | None:
    """Return the highest rating of any accelerator of the installed table, whatever table the user gave."""
    return max(
        (
            rating.rates[precision].nominal_mflop_s
            for rating in installed_ratings().units
            if rating.kind == "accelerator" and not rating.simulated and precision in rating.rates
        ),
        default=None,
    )


def _above(one: Amount, flop: int) -> Iterator[str]:
    """Judge a figure or sum by certain silicon: by the highest clock that can be, that was read, and by the mean."""
    if one.rate > flop * one.units * one.clock:
        yield "above-silicon-ceiling"
    if one.readings < 60 or one.seen is None:
        return
    if one.rate > 102 * PERCENT * flop * one.units * one.seen:
        yield "above-observed-clock-ceiling"
    if one.mean is not None and one.rate > 105 * PERCENT * flop * one.units * one.mean:
        yield "above-mean-clock"


def _most(readings: list[int | None]) -> int | None:
    return None if None in readings else max(n for n in readings if n is not None)
