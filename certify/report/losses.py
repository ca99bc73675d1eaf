"""Why a figure is what it is: which share of its ceiling went to the clock, to waves, gaps and checks, and the rest.

Pure functions of values. The shares are taken one after another (clock, checks, gaps, waves), each from what is
left, so that they add up to the ceiling with what was sustained; what nothing shows is unknown and stays in the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from bench.record import Figure
from certify.judge.case import Setting
from certify.judge.ceilings import WHOLE, flop_per_clock_per_core

MILLION = 10**6
# Side lengths of the tiles that GEMM libraries cut a product into on accelerators; which one a library took is unknown.
TILES = ((128, 128), (128, 256), (256, 128), (256, 256))
POWER_WORDS = ("power", "tdp", "ppt", "tdc", "edc", "edp", "current")
THERMAL_WORDS = ("therm", "temp", "hot")

Cause = Literal["power", "thermal", "other", "unreported"]
CeilingKind = Literal["silicon", "cpu", "cpu_observed", "nominal"]
Lack = Literal["clock", "units", "model"]
LossName = Literal["clock", "checks", "gaps", "waves"]


class Ceiling(NamedTuple):
    """What the shares of a figure are taken of: a rate, and the clock and the work of a clock that make it."""

    kind: CeilingKind
    mflop_s: int
    clock_mhz: int | None


class ClockUse(NamedTuple):
    """What one device does in a clock: FLOP for each unit, against the most that its silicon does."""

    milli_flop: int | None  # thousandths of a FLOP for each clock and unit; None: clock or units are not known
    most_flop: int | None  # of its silicon; None where it is not known
    is_certain: bool

    @property
    def ppm(self) -> int | None:
        """The clock-normalised efficiency, ppm."""
        if self.milli_flop is None or not self.most_flop:
            return None
        return self.milli_flop * 1000 // self.most_flop


class Loss(NamedTuple):
    """A share of the ceiling, ppm; None: not known."""

    name: LossName
    ppm: int | None


class Why(NamedTuple):
    """A figure's share of its ceiling, and where the rest of the ceiling went; all of it ppm of the ceiling."""

    reached_ppm: int
    losses: tuple[Loss, ...]
    rest_ppm: int  # negative where one of the estimates is too high
    waves_most_ppm: int | None  # lost to waves with the worst of the tiles; `losses` has the best


def cause_of(reasons: str) -> Cause:
    """Return what lowers a clock, by the vendor's own reasons joined by "+"; "none": no reason is reported."""
    if reasons == "none":
        return "unreported"
    if any(word in reasons for word in POWER_WORDS):
        return "power"
    return "thermal" if any(word in reasons for word in THERMAL_WORDS) else "other"


def ceiling_of(setting: Setting, figure: Figure) -> Ceiling | Lack:
    """Return the ceiling of a figure: certain silicon at its highest clock, or nominal; else what of it is not known.

    A processor that does not report its highest clock is taken at the highest that was observed, and called so.
    """
    model, measurement = setting.model, setting.measurement
    if model.kind == "cpu":
        clock_mhz = model.max_clock_mhz or figure.clock_max_mhz
        if not (model.units and clock_mhz):
            return "clock" if model.units else "units"
        each = flop_per_clock_per_core(measurement.computed, measurement.method, model.instruction_set)
        return Ceiling("cpu" if model.max_clock_mhz else "cpu_observed", each * model.units * clock_mhz, clock_mhz)
    limits, work = setting.limits_of_model.ceilings.limits, setting.limits_of_model.flop_per_clock
    silicon = next((one for one in limits if one.name == "silicon"), None)
    if silicon is not None and work:
        return Ceiling("silicon", silicon.mflop_s, silicon.mflop_s // work)
    nominal = setting.row.nominal_mflop_s(measurement.computed)
    if not nominal:
        return "model"
    rating = setting.row.rating
    return Ceiling("nominal", nominal, rating.rating_clock_mhz(measurement.computed) if rating else None)


def clock_use(setting: Setting, figure: Figure) -> ClockUse:
    """Return what a figure's device did in a clock (FLOP/s over clock x units), and what its silicon does."""
    model, measurement, rating = setting.model, setting.measurement, setting.row.rating
    if model.kind == "cpu":
        most: int | None = flop_per_clock_per_core(measurement.computed, measurement.method, model.instruction_set)
        certain = model.instruction_set is not None
    else:
        most = rating.flop_per_clock_per_unit(measurement.computed) if rating else None
        certain = rating is not None and rating.silicon_is_certain(measurement.computed)
    units = model.units or (rating.units if rating and setting.row.share == WHOLE else None)
    clocks = (figure.clock_mean_mhz or 0) * (units or 0)
    return ClockUse(figure.sustained_mflop_s * 1000 // clocks if clocks else None, most, certain)


def waves_ppm(m: int, n: int, units: int) -> tuple[int, int]:
    """Return the least and the most share of the units' time that an m x n product leaves idle in tiles, ppm.

    The tiles of a product are dealt to the units in waves; the last wave is seldom full, nor are tiles at the edges.
    """
    lost = []
    for tall, wide in TILES:
        tiles = -(-m // tall) * -(-n // wide)
        waves = -(-tiles // units)
        lost.append(MILLION - m * n * MILLION // (tall * wide * waves * units))
    return min(lost), max(lost)


def why(
    ceiling: Ceiling | None, figure: Figure, waves: tuple[int, int] | None, utilisation_ppm: int | None
) -> Why | None:
    """Return where a figure's ceiling went; None where no ceiling is known.

    Args:
        ceiling: of its model.
        figure: of one device.
        waves: see `waves_ppm`; None where the units or the tiles are not known, or there are none.
        utilisation_ppm: mean share of the window in which the device was busy; None where it was not read.
    """
    if ceiling is None:
        return None
    mean, usual = figure.clock_mean_mhz, ceiling.clock_mhz
    factors: Mapping[LossName, int | None] = {
        "clock": mean * MILLION // usual if mean and usual else None,
        "checks": figure.duty_ppm,
        "gaps": utilisation_ppm,
        "waves": None if waves is None else MILLION - waves[0],
    }
    left, losses = MILLION, []
    for name, ppm in factors.items():
        lost = None if ppm is None else left - left * ppm // MILLION
        losses.append(Loss(name, lost))
        left -= lost or 0
    reached = figure.sustained_mflop_s * MILLION // ceiling.mflop_s
    most = None if waves is None else waves[1]
    return Why(reached, tuple(losses), left - reached, most)
