"""Where a figure's ceiling went: shares that add up, and nothing where nothing is known."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from bench.devices.libraries import cndev_api, mxsml_api
from bench.devices.libraries.nvidia.telemetry import REASONS
from bench.profile import load_profile
from certify.judge.case import MeasurementPlan, Setting
from certify.judge.rules import figures_of
from certify.policy.ratings import installed_ratings
from certify.report.losses import Ceiling, cause_of, ceiling_of, clock_use, waves_ppm, why
from tests.bench.fleet import simulate
from tests.certify.measured import test_campaign as campaign_of

PROFILE = load_profile("standard")
CAMPAIGN = campaign_of(PROFILE, ("fp16",), 1)
RECORD = simulate({}, 1, PROFILE, ("fp16",), "gpu-00000", CAMPAIGN)
JUDGED = next(
    iter(figures_of(RECORD, installed_ratings(), MeasurementPlan(CAMPAIGN, PROFILE)).judged["fake:0"].values())
)
SETTING, FIGURE = JUDGED.setting, JUDGED.figure
SILICON = Ceiling("silicon", 2048 * 128 * 1800, 1800)


def with_model(**changes: object) -> Setting:
    return SETTING._replace(model=replace(SETTING.model, **changes))


def test_shares_add_up_to_the_ceiling_exactly() -> None:
    figure = FIGURE._replace(clock_mean_mhz=1620, duty_ppm=970_000)
    because = why(SILICON, figure, (30_000, 50_000), 990_000)
    assert because is not None
    lost = {one.name: one.ppm for one in because.losses}
    # each of what is left: a tenth to the clock, then 3 % to checks, 1 % to gaps, 3 % to waves
    assert lost == {"clock": 100_000, "checks": 27_000, "gaps": 8_730, "waves": 25_929}
    assert because.reached_ppm + sum(ppm or 0 for ppm in lost.values()) + because.rest_ppm == 10**6
    assert because.reached_ppm == FIGURE.sustained_mflop_s * 10**6 // (2048 * 128 * 1800)
    assert because.waves_most_ppm == 50_000


def test_what_nothing_shows_stays_in_the_rest() -> None:
    figure = FIGURE._replace(clock_mean_mhz=None, duty_ppm=10**6)
    because = why(SILICON, figure, None, None)
    assert because is not None
    assert {one.name: one.ppm for one in because.losses} == {"clock": None, "checks": 0, "gaps": None, "waves": None}
    assert because.rest_ppm == 10**6 - because.reached_ppm
    assert why(None, figure, None, None) is None
    # an estimate that is too high makes the rest negative, and is shown so
    over = why(Ceiling("nominal", FIGURE.sustained_mflop_s, None), FIGURE, (100_000, 100_000), None)
    assert over is not None
    assert over.rest_ppm < 0


def test_the_ceiling_is_the_silicon_s_else_nominal_else_what_is_not_known() -> None:
    assert ceiling_of(SETTING, FIGURE) == SILICON
    cpu = with_model(kind="cpu", instruction_set="avx2", units=4, max_clock_mhz=3000)
    assert ceiling_of(cpu, FIGURE) == ("cpu", 1024 * 4 * 3000, 3000)  # 16-bit operands computed natively
    silent = with_model(kind="cpu", units=4, max_clock_mhz=None)
    assert ceiling_of(silent, FIGURE._replace(clock_max_mhz=2900)) == ("cpu_observed", 1024 * 4 * 2900, 2900)
    assert ceiling_of(silent, FIGURE._replace(clock_max_mhz=None)) == "clock"
    assert ceiling_of(with_model(kind="cpu", units=None), FIGURE) == "units"
    unknown = SETTING._replace(
        limits_of_model=SETTING.limits_of_model._replace(flop_per_clock=None),
    )
    assert ceiling_of(unknown, FIGURE) == ("nominal", 460_062_720, 1755)
    assert ceiling_of(unknown._replace(row=SETTING.row._replace(rating=None)), FIGURE) == "model"


def test_flop_in_a_clock_for_each_unit() -> None:
    use = clock_use(SETTING, FIGURE._replace(clock_mean_mhz=1755, sustained_mflop_s=1755 * 128 * 1024))
    assert (use.milli_flop, use.most_flop, use.ppm, use.is_certain) == (1_024_000, 2048, 500_000, True)
    assert clock_use(SETTING, FIGURE._replace(clock_mean_mhz=None)).ppm is None
    bare = SETTING._replace(row=SETTING.row._replace(rating=None))
    assert clock_use(bare, FIGURE).most_flop is None
    assert clock_use(bare, FIGURE).milli_flop is not None


def test_waves_are_those_of_the_profile_s_shapes() -> None:
    assert waves_ppm(9728, 8192, 304) == (0, 0)  # tiles divide evenly (docs/run-rules.md)
    assert waves_ppm(8448, 8192, 132) == (0, 0)
    least, most = waves_ppm(8192, 8192, 304)
    assert (least, most) == (37_594, 157_895)  # a sixth of the last wave with the largest tiles
    assert waves_ppm(1, 1, 304)[0] > 999_000


@pytest.mark.parametrize(
    ("reasons", "cause"),
    [
        ("none", "unreported"),
        ("sw_power_cap", "power"),
        ("hw_slowdown+hw_thermal_slowdown", "thermal"),
        ("hw_thermal_slowdown+sw_power_cap", "power"),
        ("tdp", "power"),
        ("chip_over_temperature", "thermal"),
        ("applications_clocks_setting", "other"),
        ("thermal", "thermal"),
    ],
)
def test_causes_are_told_by_the_vendors_words(reasons: str, cause: str) -> None:
    assert cause_of(reasons) == cause


def test_every_vendor_s_words_of_power_and_heat_are_known() -> None:
    words = (*REASONS.values(), *cndev_api.THROTTLE_REASONS, *mxsml_api.REASONS.values())
    assert {word for word in words if "therm" in word or "temperature" in word} == {
        word for word in words if cause_of(word) == "thermal"
    }
    assert {word for word in words if "power" in word or word in ("tdp", "peak_current")} == {
        word for word in words if cause_of(word) == "power"
    }
