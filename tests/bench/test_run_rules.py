"""Every run rule that the harness carries out, broken on the fake device: what matters are the recorded facts."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
from msgspec.structs import replace

from bench.engine.measure import WindowResult, measure
from bench.engine.progress import SoFar
from bench.engine.schedule import self_issued
from bench.profile import load_profile
from bench.record import Figure, Measurement, NodeRecord, Shape, Workload, throughput_bounds
from bench.reference.checks import worse
from bench.scenario import Scenario, Script
from bench.units import gemm_mflop
from tests.bench.fleet import BEGIN_NS, NODE, simulate, simulate_node

# what the fakes' scripts do, they do at moments of a window of 4 s
SMOKE = replace(load_profile("smoke"), window_ns=4_000_000_000, launches_per_subwindow=20)
WINDOW_NS = SMOKE.window_ns
TEMPERATURE = {"temperature_rise_c": 60, "temperature_rise_s": 2.0}


def run(script: dict[str, Any] | None = None, **kwargs: Any) -> NodeRecord:
    return simulate(script or {}, profile=kwargs.pop("profile", SMOKE), precisions=("fp16",), **kwargs)


def one(record: NodeRecord) -> tuple[Measurement, Figure]:
    (measurement,) = record.measurements
    (figure,) = measurement.figures()
    assert record.failures == ()
    return measurement, figure


def figure_of(script: dict[str, Any] | None = None, **kwargs: Any) -> Figure:
    return one(run(script, **kwargs))[1]


def test_an_undisturbed_run_is_what_the_script_says() -> None:
    record = run()
    measurement, figure = one(record)
    assert record.models[0].simulated
    assert figure.sustained_mflop_s == pytest.approx(300_000_000, rel=0.002)
    assert figure.certified_mflop_s < figure.sustained_mflop_s < (figure.upper_mflop_s or 0)
    assert figure.warmup_end == "steady"
    assert figure.warmup_ns == pytest.approx(SMOKE.warmup_ns, rel=0.01)
    assert measurement.kernel == "gemm-fake"
    assert (measurement.accumulate, measurement.method) == ("fp32", "native")


# R1
def test_r1_switches_are_recorded_as_they_read_after_being_set_off() -> None:
    assert run().environment.switches == {"environment": "off", "fake.emulation": "off"}


def test_r1_a_precision_that_a_device_has_not_is_a_failure_and_the_next_is_measured() -> None:
    record = simulate({"rate_gflop_s": {"fp64": 40_000}}, profile=SMOKE)
    assert [(f.precision, f.code) for f in record.failures] == [("fp16", "unsupported-precision")]
    assert [m.precision for m in record.measurements] == ["fp64"]


# R2
def test_r2_every_operand_leaves_its_digest_bound_to_the_challenge() -> None:
    def digests(node: str) -> list[str]:
        rows = simulate_node({}, 1, SMOKE, ("fp64",), node).rows
        return [str(r.value) for r in rows if r.quantity.startswith("operand_")]

    first = digests(NODE)
    assert len(first) == 3 * one(simulate({}, profile=SMOKE, precisions=("fp64",)))[0].operand_sets  # a, b, grading
    assert digests(NODE) == first
    assert not set(digests("node-other")) & set(first)


# R3
@pytest.mark.parametrize(("cache", "least"), [(50 * 2**20, 100 * 2**20), (300 * 2**20, 600 * 2**20), (None, 2**30)])
def test_r3_operands_are_twice_the_cache_in_two_sets_at_least(cache: int | None, least: int) -> None:
    measurement, figure = one(run(scenario(cache_bytes=cache)))
    assert measurement.operand_bytes >= least
    assert measurement.operand_sets >= 2
    assert figure.verified_launches == measurement.operand_sets * SMOKE.verified_launches


def scenario(**fields: Any) -> Any:
    return Scenario(**fields)


# R4
@pytest.mark.parametrize(("gflop_s", "size"), [(300_000, 8192), (3_000, 2048), (400, 1024), (6, 256)])
def test_r4_the_shape_follows_the_trial_rate(gflop_s: int, size: int) -> None:
    record = run({"rate_gflop_s": {"fp16": gflop_s}})
    measurement, figure = one(record)
    assert (measurement.m, measurement.n, measurement.k) == (size, size, size)
    assert figure.launches % 30 == 0
    assert figure.launches >= 30 * SMOKE.launches_per_subwindow * 9 // 10


def test_r4_trials_are_samples_and_not_the_figure() -> None:
    rows = simulate_node({}, 1, SMOKE, ("fp16",)).rows
    trials = [row.quantity for row in rows if row.phase == "trial" and row.quantity.startswith("launch_")]
    assert trials[0] == "launch_128x128x128_ns"
    assert trials[-1] == "launch_8192x8192x8192_ns"


@pytest.mark.parametrize("broken", [{"rate_gflop_s": {"fp16": 1}}, {"memory_bytes": 2**20}])
def test_r4_no_registered_shape_is_a_failure(broken: dict[str, Any]) -> None:
    slow = replace(SMOKE, shapes={"fp16": (Shape(m=4096, n=4096, k=4096),)})
    given = broken if "rate_gflop_s" in broken else scenario(**broken)
    record = run(given, profile=slow)
    assert record.measurements == ()
    assert [f.code for f in record.failures] == ["no-shape"]


# R5
HONEST_ROW_PPM, HONEST_RMS_PPM = 3_500_000, 650_000


def test_r5_an_honest_product_is_within_the_bounds() -> None:
    figure = figure_of()
    assert 0 < (figure.row_error_ppm or 0) <= HONEST_ROW_PPM
    assert 0 < (figure.rms_error_ppm or 0) <= HONEST_RMS_PPM


@pytest.mark.parametrize("wrong", ["nan", "stale"])
def test_r5_a_product_that_is_no_number_dominates_all_others(wrong: str) -> None:
    figure = figure_of({"wrong": wrong})
    assert (figure.row_error_ppm, figure.rms_error_ppm) == (None, None)


@pytest.mark.parametrize("wrong", ["zero", "bf16", "element"])
def test_r5_a_wrong_product_is_beyond_the_bounds(wrong: str) -> None:
    assert (figure_of({"wrong": wrong}).row_error_ppm or 0) > HONEST_ROW_PPM


def test_r5_products_that_go_wrong_in_the_middle_of_the_window_are_seen() -> None:
    assert (figure_of({"wrong": "zero", "wrong_from_s": 2.0}).row_error_ppm or 0) > HONEST_ROW_PPM


def test_r5_a_product_that_goes_wrong_after_the_window_is_seen_on_the_host() -> None:
    assert figure_of({"wrong": "nan", "wrong_from_s": 4.1}).row_error_ppm is None


def test_r5_only_the_precision_that_is_wrong_is_wrong() -> None:
    record = simulate({"wrong": "nan", "only": "fp64"}, profile=SMOKE)
    errors = {m.precision: next(m.figures()).row_error_ppm is None for m in record.measurements}
    assert errors == {"fp16": False, "fp64": True}


def test_r5_none_is_worse_than_any_number() -> None:
    assert worse(1, 2) == 2
    assert worse(None, 2) is None
    assert worse(2, None) is None


# R6
@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ({"curve": ((-2.0, 1_000_000), (0.0, 600_000), (4.0, 600_000))}, "rate-trend"),
        (TEMPERATURE, "temperature-trend"),
        ({"telemetry": False}, "steady"),
    ],
)
def test_r6_the_reason_is_recorded_and_the_window_does_not_move(script: dict[str, Any], reason: str) -> None:
    figure = figure_of(script)
    assert figure.warmup_end == reason
    assert 0 <= figure.opened_ns < 20_000_000


def test_r6_a_warm_up_without_samples_proves_nothing() -> None:
    assert figure_of({"late_s": 1.5}).warmup_end == "too-few-samples"


# R7
def test_r7_the_counted_time_is_what_the_grade_needs_even_for_the_longest_launch() -> None:
    for name, least in (("smoke", 3), ("standard", 60), ("certification", 600)):
        profile = load_profile(name)
        longest = replace(profile, tuned_shapes={}, shapes={"fp16": (Shape(m=8192, n=8192, k=8192),)})
        launch_s = profile.window_ns / 1e9 / 30 / profile.launches_per_subwindow
        gflop_s = int(2 * 8192**3 / launch_s / 1e9) + 1
        figure = figure_of({"rate_gflop_s": {"fp16": gflop_s}}, profile=longest)
        assert sum(figure.subwindow_ns) >= least * 10**9


# R8
def test_r8_throttled_stretches_are_counted() -> None:
    whole = figure_of()
    half = figure_of({"throttle": ({"from_s": 1.0, "to_s": 3.0, "rate_ppm": 500_000},)})
    assert half.sustained_mflop_s == pytest.approx(whole.sustained_mflop_s * 3 / 4, rel=0.01)
    assert half.throttled_ppm == pytest.approx(500_000, abs=60_000)


def test_r8_work_over_all_time_between_the_first_and_the_last_counted_launch() -> None:
    measurement, figure = one(run({"noise_ppm": 50_000, "noise_interval_s": 0.1}))
    elapsed = sum(figure.subwindow_ns)
    assert elapsed == figure.counted_until_ns - figure.opened_ns
    work = gemm_mflop(measurement.m, measurement.n, measurement.k, figure.launches)
    assert figure.sustained_mflop_s == work * 10**9 // elapsed


# R9
def test_r9_the_bounds_are_those_of_the_thirty_numbers() -> None:
    measurement, figure = one(run({"noise_ppm": 20_000, "noise_correlation": 0.5, "noise_interval_s": 0.13}))
    work = gemm_mflop(measurement.m, measurement.n, measurement.k, figure.launches)
    assert throughput_bounds(work, figure.subwindow_ns)[:3] == figure[4:7]
    assert len(figure.subwindow_over_ns) == 30
    assert min(figure.subwindow_over_ns) == 0


def test_r9_a_slow_wave_is_autocorrelated() -> None:
    wave = tuple((float(second), 1_000_000 - 200_000 * (second % 2)) for second in range(5))
    measurement, figure = one(run({"curve": wave}))
    work = gemm_mflop(measurement.m, measurement.n, measurement.k, figure.launches)
    assert throughput_bounds(work, figure.subwindow_ns).autocorrelation_ppm > 500_000


def test_r9_too_few_launches_for_thirty_subwindows_are_a_failure() -> None:
    record = run({"throttle": ({"from_s": -1.0, "to_s": 9.0, "rate_ppm": 10_000},)})
    assert [f.code for f in record.failures] == ["device-failed"]
    assert "30 are needed" in (record.failures[0].detail or "")


# R10
def test_r10_whole_launches_within_the_core_window_only() -> None:
    figure = figure_of()
    assert 0 <= figure.opened_ns <= figure.counted_until_ns <= figure.covered_until_ns <= WINDOW_NS
    assert figure.covered_until_ns - figure.opened_ns >= WINDOW_NS * 99 // 100


def test_r10_a_late_device_does_not_cover_the_window() -> None:
    figure = figure_of({"late_s": SMOKE.warmup_ns / 1e9 + 1.0})
    assert figure.opened_ns >= 1_000_000_000
    assert figure.covered_until_ns - figure.opened_ns < WINDOW_NS * 80 // 100


def test_r10_devices_start_one_after_another_and_open_together() -> None:
    record = simulate(devices=4, profile=SMOKE, precisions=("fp16",))
    (measurement,) = record.measurements
    ends = [opened - warm for opened, warm in zip(measurement.opened_ns, measurement.warmup_ns, strict=True)]
    assert ends == [-SMOKE.warmup_ns + slot * SMOKE.stagger_ns for slot in range(4)]
    assert max(measurement.opened_ns) < 20_000_000


def test_r10_the_uncertainty_of_the_clock_is_that_of_the_campaign() -> None:
    assert run().clock == replace(run().clock, source="self", uncertainty_ns=0)
    own = self_issued(SMOKE, (Workload("fp16"),), NODE, "ab" * 16, BEGIN_NS)
    centre = replace(own, self_issued=False, campaign_id="c1", centre_id="centre")
    for uncertainty in (None, 5_000_000):
        record = run(scenario(clock_uncertainty_ns=uncertainty), campaign=centre)
        assert (record.clock.source, record.clock.uncertainty_ns) == ("fake", uncertainty)
        assert record.campaign is None
        assert record.pool == "self"
        assert record.centre_id == "centre"


# R11
@pytest.mark.parametrize(("ppm", "longer"), [(0, 0), (20_000, 20_000), (-20_000, -20_000)])
def test_r11_the_devices_own_time_is_recorded(ppm: int, longer: int) -> None:
    figure = figure_of({"event_ppm": ppm})
    elapsed = sum(figure.subwindow_ns)
    assert (figure.event_over_ns or 0) * 10**6 // elapsed == pytest.approx(longer, abs=2)


def test_r11_a_device_without_its_own_time() -> None:
    assert figure_of({"event_ppm": None}).event_over_ns is None


@pytest.mark.parametrize("by_s", [-2.0, 2.0])
def test_r11_a_jump_of_utc_shows_against_the_host_time(by_s: float) -> None:
    figure = figure_of({"utc_step_at_s": 2.0, "utc_step_s": by_s})
    assert figure.counted_until_ns - figure.opened_ns - sum(figure.subwindow_ns) == by_s * 10**9


def test_r11_a_drift_of_utc_shows_against_the_host_time() -> None:
    record = simulate_node({}, 1, SMOKE, ("fp16",), drift_ppm=30_000).record
    figure = next(record.measurements[0].figures())
    elapsed = sum(figure.subwindow_ns)
    assert (figure.counted_until_ns - figure.opened_ns) / elapsed == pytest.approx(1.03, rel=1e-6)


# R12
def test_r12_what_plausibility_needs_is_recorded_and_null_where_it_is_unknown() -> None:
    record = run({"rate_gflop_s": {"fp16": 900_000}, "clock_mhz": 1_500})
    figure = one(record)[1]
    assert figure.sustained_mflop_s > 890_000_000
    assert (figure.clock_mean_mhz, figure.clock_max_mhz) == (1_500, 1_500)
    assert (record.models[0].units, record.models[0].max_clock_mhz) == (128, 1_800)
    bare = run(scenario(units=None, max_clock_mhz=None, default=Script(telemetry=False)))
    assert (bare.models[0].units, bare.models[0].max_clock_mhz, one(bare)[1].clock_max_mhz) == (None, None, None)


# R13
def test_r13_readings_of_clock_and_power() -> None:
    figure = figure_of()
    assert figure.samples == figure.clock_samples == figure.power_samples >= 19
    assert figure.clock_gap_ns == figure.power_gap_ns
    assert 0 < (figure.clock_gap_ns or 0) <= 10**9
    assert (figure.power_mean_mw, figure.temperature_max_c) == (650_000, 62)
    assert (figure.ecc_uncorrected, figure.foreign_processes, figure.throttled_ppm) == (0, 0, 0)


def test_r13_slow_telemetry_leaves_gaps() -> None:
    figure = figure_of({"telemetry_interval_s": 1.9})
    assert figure.samples == figure.clock_samples == 2
    assert (figure.clock_gap_ns or 0) >= 1_900_000_000


def test_r13_no_telemetry_is_null() -> None:
    figure = figure_of({"telemetry": False})
    assert (figure.samples, figure.clock_samples, figure.clock_gap_ns) == (0, 0, None)
    assert (figure.power_mean_mw, figure.ecc_uncorrected, figure.foreign_processes) == (None, None, None)


@pytest.mark.parametrize(
    ("script", "column", "value"),
    [
        ({"ecc_error_at_s": 2.0}, "ecc_uncorrected", 1),
        ({"foreign_before": 1}, "foreign_processes", 1),
        ({"foreign_from_s": 1.0}, "foreign_processes", 1),
        ({"ecc_error_at_s": 4.05}, "ecc_uncorrected", 0),
    ],
)
def test_r13_errors_and_foreign_processes(script: dict[str, Any], column: str, value: int) -> None:
    assert getattr(figure_of(script), column) == value


def test_r13_throttle_reasons_are_named_once_for_the_measurement() -> None:
    throttle = ({"from_s": 1.0, "to_s": 2.0, "rate_ppm": 900_000, "reason": "power-cap"},)
    both = scenario(default=Script(), devices={"1": {"throttle": throttle}})
    record = run(both, devices=2)
    (measurement,) = record.measurements
    assert measurement.throttle_reasons == ("power-cap",)
    assert measurement.throttled_ppm == (0, 250_000)


# R14
@pytest.mark.parametrize(
    ("script", "code"),
    [({"hang_at_s": 1.0}, "device-hung"), ({"fail_at_s": -1.0}, "device-failed"), ({"die_at_s": 2.0}, "device-lost")],
)
def test_r14_a_broken_device_is_recorded_and_its_neighbours_finish(script: dict[str, Any], code: str) -> None:
    record = simulate(scenario(devices={"1": {**script, "only": "fp16"}}), 3, SMOKE)
    assert {(f.device, f.code) for f in record.failures} == {("fake:1", code)}
    measured = {m.precision: m.device for m in record.measurements}
    assert measured["fp16"] == ("fake:0", "fake:2")
    goes_on = code == "device-failed"
    assert measured["fp64"] == (("fake:0", "fake:1", "fake:2") if goes_on else ("fake:0", "fake:2"))


def test_r14_a_record_of_failures_only_is_a_record() -> None:
    record = run({"fail_at_s": 0.5})
    assert record.measurements == ()
    assert len(record.failures) == 1
    assert "illegal memory access" in (record.failures[0].detail or "")


# Identity (docs/formats.md)
def test_fakes_have_stable_identities_of_their_own() -> None:
    first, second = run(devices=8).devices, run(devices=8).devices
    assert first == second
    assert len({d.uuid for d in first}) == len({d.serial for d in first}) == 8


@pytest.mark.parametrize("placeholder", [None, "N/A", "0", "Unknown", "00000000-0000-0000-0000-000000000000"])
def test_a_placeholder_is_no_identity(placeholder: str | None) -> None:
    record = run({"identity": {"uuid": placeholder, "serial": placeholder}})
    assert (record.devices[0].uuid, record.devices[0].serial) == (None, None)


def test_two_devices_may_claim_one_identity_and_the_record_shows_it() -> None:
    record = run(
        scenario(devices={"1": {"identity": {"uuid": " FAKE-1\n"}}, "0": {"identity": {"uuid": "FAKE-1"}}}), devices=2
    )
    assert record.devices[0].uuid == record.devices[1].uuid == "FAKE-1"


# Samples
def test_samples_are_the_same_bytes_for_the_same_run() -> None:
    first, second = simulate_node({}, 2, SMOKE), simulate_node({}, 2, SMOKE)
    assert first.samples == second.samples
    assert first.samples[4:8] == b"\0\0\0\0"  # no time in the header
    lines = gzip.decompress(first.samples).decode().splitlines()
    assert lines[0] == "device,workload,phase,offset_ns,quantity,value"
    assert len(lines) == 1 + len(first.rows)
    marks = [line.split(",") for line in lines if line.startswith("fake:1,fp16,window") and "subwindow_" in line]
    figure = list(first.record.measurements[0].figures())[1]
    assert [int(mark[5]) for mark in marks] == figure.subwindow_ns
    assert int(marks[-1][3]) == figure.counted_until_ns


def test_times_of_the_record_are_those_of_the_campaign() -> None:
    record = run()
    assert record.campaign is not None
    window = record.campaign.windows[0]
    assert window.closes_ns - window.opens_ns == WINDOW_NS
    assert record.campaign.self_issued
    assert record.challenge == record.campaign.challenge


def test_r9_what_is_shown_meanwhile_is_the_interval_of_what_is_over() -> None:
    """At the last look it is near the figure's; before 30 units of launches there is none."""
    looks: list[SoFar] = []

    def report(phase: str, rate_mflop_s: int, look: Callable[[], SoFar] | None = None) -> None:
        if look is not None and phase in ("warmup", "window"):
            looks.append(look())

    def watched(prepared: Any, task: Any, clock: Any, sampler: Any, timer: Any, _: object) -> WindowResult:
        return measure(prepared, task, clock, sampler, timer, report)

    with mock.patch("bench.engine.session.measure", watched):
        figure = figure_of({"noise_ppm": 3000})
    before = [look for look in looks if not look.parts_ns]
    within = [look for look in looks if look.parts_ns]
    assert len(before) >= SMOKE.steady_state.min_samples
    assert all(look.bounds() is None and look.sustained_mflop_s() is None for look in before)
    last = within[-1].bounds()
    assert last is not None
    assert last.sustained_mflop_s == pytest.approx(figure.sustained_mflop_s, rel=0.005)
    assert last.certified_mflop_s < last.sustained_mflop_s
    assert 0 < within[-1].verified <= figure.verified_launches
    assert within[-1].row_error_ppm is not None
    assert within[-1].reading.temperature_c == 62
    counts = [look.verified for look in within]
    assert counts == sorted(counts)
    few = [look for look in within if len(look.parts_ns) == 1]
    assert all(look.bounds() is None and look.sustained_mflop_s() for look in few)
