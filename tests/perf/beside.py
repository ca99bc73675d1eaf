"""The figure between the nominal rating and what the silicon was seen to issue, with clocks and power."""

from __future__ import annotations

from typing import Any

from bench.profile import load_profile
from bench.record import Kernels, ReferenceFigure
from bench.units import rate_text
from certify.policy.ratings import installed_ratings
from kernels.base import REFERENCES
from tests.perf.rig import Part, Rig, Setup, profile_of


class Beside(Part, frozen=True, kw_only=True):
    """One figure, judged, and what was measured beside it."""

    shape: str
    sustained_mflop_s: int
    nominal_mflop_s: int | None
    clock_mean_mhz: int | None
    power_mean_mw: int | None
    temperature_max_c: int | None
    throttled_ppm: int | None
    throttle_reasons: tuple[str, ...]
    codes: dict[str, str]
    companions: dict[str, dict[str, Any]]  # by kernel: the fields of `ReferenceFigure`


def measure(setup: Setup) -> Beside:
    """Return the figure with the companions that ``certification`` names for the device, or with all there are."""
    kind = setup.device.partition(":")[0]
    named = load_profile("certification").kernels.get(kind)
    profile = profile_of(setup)
    if named is None:
        kernel = Rig(setup, profile).opened.kernel().name
        named = Kernels(figure=kernel, companions={setup.precision: tuple(REFERENCES)})
    rig = Rig(setup, profile_of(setup, kernels={kind: named}))
    rig.prepare()
    run = rig.run()
    f, model = run.figure, rig.found.model
    rating = installed_ratings().match(model.vendor, model.model, model.memory_bytes, model.count_unit)
    nominal = None if rating is None else rating.nominal_mflop_s(setup.precision)
    of_nominal = "" if nominal is None else f" ({run.rate / nominal:.1%} of nominal)"
    lines = [
        f"figure, {setup.precision} {run.text()}{of_nominal}; nominal {rate_text(nominal)}",
        f"  codes: {', '.join(f'{code} ({effect})' for code, effect in run.codes.items()) or 'none'}",
    ]
    companions = {one.kernel: one.figure for one in run.beside}
    lines += [f"  beside: {_line(name, figure, run.rate, f.clock_mean_mhz)}" for name, figure in companions.items()]
    return Beside(
        part="beside",
        precision=setup.precision,
        lines=tuple(lines),
        shape=run.shape,
        sustained_mflop_s=run.rate,
        nominal_mflop_s=nominal,
        clock_mean_mhz=f.clock_mean_mhz,
        power_mean_mw=f.power_mean_mw,
        temperature_max_c=f.temperature_max_c,
        throttled_ppm=f.throttled_ppm,
        throttle_reasons=run.throttle_reasons,
        codes=run.codes,
        companions={name: figure._asdict() for name, figure in companions.items()},
    )


def _line(name: str, one: ReferenceFigure, rate: int, clock_mhz: int | None) -> str:
    """Return what one companion gave, and the figure as a share of it, clock for clock where both are known."""
    if one.trouble is not None:
        return f"{name}: not measured, {one.trouble}"
    clock = "" if one.clock_mean_mhz is None else f" at {one.clock_mean_mhz} MHz"
    exact = "" if one.exact is None else ", results exact" if one.exact else ", RESULTS WRONG"
    if one.rate_mb_s is not None:
        return f"{name}: {one.rate_mb_s / 1000:.1f} GB/s{clock}{exact}"
    if not one.rate_mflop_s:
        return f"{name}: no rate"
    share = f"; the figure is {rate / one.rate_mflop_s:.1%} of it"
    if clock_mhz and one.clock_mean_mhz:
        share += f", {rate * one.clock_mean_mhz / (one.rate_mflop_s * clock_mhz):.1%} clock for clock"
    return f"{name}: {rate_text(one.rate_mflop_s)}{clock}{exact}{share}"
