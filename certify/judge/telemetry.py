"""R13: what a device's own readings must show, by the table of sources and not by the record's word. Pure functions."""

from __future__ import annotations

from typing import NamedTuple

from bench.record import DeviceModel, Grade, Measurement
from certify.judge.case import SECOND_NS, Case, Codes, kind_of
from certify.judge.parts import PARTS
from certify.policy.sources import exposed_by


class Readings(NamedTuple):
    """R13: how many readings of a quantity a window has at least, and the longest time without one."""

    least: int
    gap_ns: int


READINGS: dict[Grade, Readings] = {  # none are demanded of a smoke run, which proves nothing
    "certification": Readings(60, 30 * SECOND_NS),
    "standard": Readings(10, 10 * SECOND_NS),
}
# R13: what others may take of the CPUs' time unnoticed: daemons and interrupts of an idle system take less
UNNOTICED_LOAD_PPM = 10_000
# R13: of a quantity that nothing reads
UNWATCHED = {"clock": "clock-not-watched", "power": "power-not-watched"}


def r13_telemetry(case: Case) -> Codes:
    """R13: what was seen of an accelerator while it ran, and whether its clock and power were watched."""
    f, codes = case.figure, []
    if f.ecc_uncorrected:
        codes.append("ecc-errors")
    if f.foreign_processes:
        codes.append("foreign-process")
    if f.throttled_ppm:
        codes.append("throttled")
    if case.setting.model.kind == "cpu":
        return (*codes, "foreign-load") if has_foreign_load(case.setting.measurement) else tuple(codes)
    if None in (f.temperature_max_c, f.throttled_ppm, f.ecc_uncorrected, f.foreign_processes):
        codes.append("telemetry-not-exposed")
    return (*codes, *_readings(case))


def has_foreign_load(m: Measurement) -> bool:
    """Return whether other processes and the hypervisor took more of the CPUs' time than those of an idle system."""
    return (m.other_load_ppm or 0) + (m.steal_ppm or 0) > UNNOTICED_LOAD_PPM


def _readings(case: Case) -> Codes:
    """R13: clock and power, each alone, as often as the grade demands, where the table says that its source has them.

    What a source exposes and a record lacks was left out, and with it what could have bounded the rate. Too few
    readings hold where the source exposes the clock: it answers fast. A tool that does not is slow, and bounds no rate.
    """
    f, model = case.figure, case.setting.model
    wanted = READINGS.get(case.grade) if case.grade else None
    exposed, codes = exposed_of(f.device, model)
    # a count without the values that it counts is no reading
    clock_samples = 0 if f.clock_mean_mhz is None or f.clock_max_mhz is None else f.clock_samples
    power_samples = 0 if f.power_mean_mw is None else f.power_samples
    for quantity, samples, gap_ns in (
        ("clock", clock_samples, f.clock_gap_ns),
        ("power", power_samples, f.power_gap_ns),
    ):
        if not samples:
            codes.append(_unread(quantity, exposed, case.grade))
        elif wanted and (samples < wanted.least or gap_ns is None or gap_ns > wanted.gap_ns):
            codes.append("telemetry-incomplete" if {quantity, "clock"} <= exposed else "telemetry-slow")
    return tuple(dict.fromkeys(codes))


def r13_beforehand(device: str, model: DeviceModel, grade: Grade) -> Codes:
    """R13 as far as it is known before a measurement: the clock or the power that the node's reader does not give."""
    if model.kind == "cpu":
        return ()
    exposed, codes = exposed_of(device, model)
    codes += [_unread(quantity, exposed, grade) for quantity in UNWATCHED if quantity not in model.exposes]
    return tuple(dict.fromkeys(codes))


def exposed_of(device: str, model: DeviceModel) -> tuple[frozenset[str], list[str]]:
    """Return what the source of a device's telemetry always exposes, and a note where the table does not have its kind.

    A part's power may be reported with its unit.
    """
    listed = exposed_by(kind_of(device), model.source)
    exposed = frozenset(model.exposes) if listed is None else listed
    if model.count_unit in PARTS:
        exposed -= {"power"}
    return exposed, ["source-unknown"] if listed is None else []


def _unread(quantity: str, exposed: frozenset[str], grade: Grade | None) -> str:
    """Return what a quantity without any reading is at a grade."""
    return "telemetry-incomplete" if grade in READINGS and quantity in exposed else UNWATCHED[quantity]
