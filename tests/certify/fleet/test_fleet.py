"""Findings over fleets that are made up from fixed seeds: what is planted is found, what is not there is not."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from itertools import permutations
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from bench.errors import RefusedError
from certify.fleet.describe import describe_findings as lines
from certify.fleet.findings import Diagnosis, FleetReading
from certify.fleet.fleet import diagnose, sums_without
from certify.fleet.plots import DOTS, plots
from certify.fleet.statistics import LEAST_VALUES, limits, median, two_populations

BASE = 245_000_000  # MFLOP/s
Tweak = Callable[[int, int], float]


def fleet(
    nodes: int,
    devices: int = 8,
    tweak: Tweak = lambda n, d: 1.0,
    *,
    sd: float = 0.004,
    seed: int = 1,
    model: str = "X1",
) -> list[FleetReading]:
    """Return readings of a fleet: normal, each rate multiplied by `tweak(node, device)`."""
    rng, found = Random(seed), []
    for n in range(nodes):
        for d in range(devices):
            rate = int(BASE * rng.gauss(1, sd) * tweak(n, d))
            found.append(
                FleetReading(
                    f"n{n:05d}", f"cuda:{d}", model, "fp16", rate, rate - rate // 200, int(1400 * tweak(n, d)), 65
                )
            )
    return found


def racks(readings: list[FleetReading], size: int) -> dict[str, str]:
    return {one.node_id: f"rack-{int(one.node_id[1:]) // size:03d}" for one in readings}


def named(diagnosis: Diagnosis) -> list[tuple[str, str, str, str]]:
    return [(one.node_id, one.device, one.side, one.scope) for one in diagnosis.outliers]


def share(count: int, found: Callable[[Random], bool]) -> float:
    """Return how often something is found, over fixed seeds."""
    return sum(found(Random(seed)) for seed in range(count)) / count


# Limits
@given(st.lists(st.integers(1, 10**12), min_size=1, max_size=40))
def test_limits_lie_around_the_median_and_at_least_two_per_cent_off(values: list[int]) -> None:
    ascending = sorted(values)
    usual = limits(ascending)
    assert usual is not None
    assert usual.median == median(ascending)
    assert usual.low <= usual.median * 0.98 * (1 + 1e-12)
    assert usual.high >= usual.median * 1.02 * (1 - 1e-12)


def test_a_tenth_of_a_per_cent_is_never_an_outlier() -> None:
    usual = limits([1_000_000] * 99 + [1_001_000])
    assert usual is not None
    assert usual.side(1_001_000) == 0
    assert usual.side(1_020_001) == 1
    assert usual.side(979_999) == -1


def test_steps_of_which_most_are_equal_are_no_outliers() -> None:
    """60 % equal: the median absolute deviation is 0, and the mean one stands in for it."""
    usual = limits([970] * 20 + [1000] * 60 + [1030] * 20)
    assert usual is not None
    assert [usual.side(value) for value in (970, 1030, 900)] == [0, 0, -1]


def test_no_limits_without_a_rate() -> None:
    assert limits([0, 0, 0]) is None


@pytest.mark.parametrize("size", [6, 8, 16, 64, 256, 2048])
def test_normal_values_have_an_outlier_by_chance_in_at_most_one_of_twenty_sets(size: int) -> None:
    def some(rng: Random) -> bool:
        values = sorted(rng.gauss(100, 10) for _ in range(size))
        usual = limits(values)
        return usual is not None and bool(usual.side(values[0]) or usual.side(values[-1]))

    assert share(400 if size < 1000 else 100, some) <= 0.08  # 0.05 and the chance of the simulation


# Two populations
UNIMODAL: dict[str, Callable[[Random], float]] = {
    "normal": lambda rng: rng.gauss(100, 5),
    "uniform": lambda rng: rng.uniform(80, 120),
    "skewed to the slow side": lambda rng: 120 - rng.expovariate(0.1),
    "lognormal": lambda rng: 100 * rng.lognormvariate(0, 0.3),
    "healthy ones and a long tail": lambda rng: rng.gauss(100, 0.05) if rng.random() < 0.8 else rng.uniform(80, 100),
    "scattered faults": lambda rng: rng.gauss(100, 0.5) if rng.random() < 0.93 else rng.uniform(40, 95),
}


@pytest.mark.parametrize("size", [6, 16, 40, 200, 1000])
@pytest.mark.parametrize("shape", UNIMODAL)
def test_one_population_is_seldom_taken_for_two(shape: str, size: int) -> None:
    def two(rng: Random) -> bool:
        return two_populations(sorted(int(10**4 * UNIMODAL[shape](rng)) for _ in range(size))) is not None

    limit = 0.08 if shape in ("healthy ones and a long tail", "scattered faults") else 0.02
    assert share(200 if size < 500 else 40, two) <= limit


@pytest.mark.parametrize(
    ("size", "part", "apart", "least"),
    [(24, 0.5, 12, 0.95), (40, 0.3, 12, 0.95), (100, 0.5, 6, 0.95), (100, 0.3, 8, 0.95), (1000, 0.08, 8, 0.95)],
)
def test_two_populations_are_found(size: int, part: float, apart: float, least: float) -> None:
    """`apart` is the distance of the means in standard deviations within."""

    def two(rng: Random) -> bool:
        slower = [rng.random() < part for _ in range(size)]
        cut = two_populations(sorted(int(10**4 * rng.gauss(100 - slow * apart, 1)) for slow in slower))
        return cut is not None and abs(cut - sum(slower)) <= size // 50

    assert share(100, two) >= least


def test_parts_that_are_too_small_too_near_or_too_few_are_no_populations() -> None:
    assert two_populations([1000] * 98 + [2000] * 2) is None  # 2 devices
    assert two_populations([1000] * 96 + [2000] * 4) is None  # below 5 %
    assert two_populations([1000] * 94 + [1019] * 6) is None  # below 2 %
    assert two_populations([1000] * 3 + [2000] * 2) is None
    assert two_populations([1000] * 94 + [1050] * 6) == 94
    assert two_populations([900] * 6 + [1000] * 94) == 6
    assert two_populations([5] * 100) is None
    assert two_populations([1000 + n for n in range(300)] + [2000] * 14) is None  # 4.5 %, and nothing is added to them


def test_a_few_dead_devices_do_not_hide_two_populations() -> None:
    rng = Random(3)
    values = [int(10**6 * rng.gauss(100 - 9 * (n % 2), 0.5)) for n in range(200)] + [10**7, 2 * 10**7, 3 * 10**7]
    assert two_populations(sorted(values)) == 103


# Devices and nodes
def test_a_fleet_without_faults_has_no_findings() -> None:
    readings = fleet(40)
    found = diagnose(readings, racks(readings, 8), fleet(40, seed=2))
    assert (found.outliers, found.odd_nodes, found.slow_groups, found.drifted, found.take_out) == ((), (), (), (), ())
    assert len(found.spreads[0].populations) == 1


@pytest.mark.parametrize(("factor", "side"), [(0.9, "slow"), (1.1, "fast")])
def test_one_device_is_told_from_a_whole_node(factor: float, side: str) -> None:
    device = diagnose(fleet(20, tweak=lambda n, d: factor if (n, d) == (3, 2) else 1))
    assert named(device) == [("n00003", "cuda:2", side, "device")]
    assert device.odd_nodes == ()
    assert [(one.node_id, one.devices, one.reasons) for one in device.take_out] == [
        ("n00003", ("cuda:2",), (f"{side}-device",))
    ]
    node = diagnose(fleet(20, tweak=lambda n, d: factor if n == 3 else 1))
    assert named(node) == [("n00003", f"cuda:{d}", side, "node") for d in sorted_by_distance(node)]
    assert [(one.node_id, one.side, one.devices) for one in node.odd_nodes] == [("n00003", side, 8)]
    assert [(one.node_id, one.reasons) for one in node.take_out] == [("n00003", (f"{side}-node",))]


def sorted_by_distance(found: Diagnosis) -> list[int]:
    assert sorted(one.device for one in found.outliers) == [f"cuda:{d}" for d in range(8)]
    assert [abs(one.off_ppm) for one in found.outliers] == sorted(
        (abs(o.off_ppm) for o in found.outliers), reverse=True
    )
    return [int(one.device.removeprefix("cuda:")) for one in found.outliers]


def test_a_node_that_is_a_little_slow_in_all_its_devices_is_found_though_few_of_them_are_outliers() -> None:
    found = diagnose(fleet(40, tweak=lambda n, d: 0.97 if n == 5 else 1, sd=0.01))
    assert len(found.outliers) < 2
    assert [one.node_id for one in found.odd_nodes] == ["n00005"]
    assert found.take_out[0].reasons == ("slow-node",)


def test_where_a_node_has_one_device_nobody_can_tell_which_it_is() -> None:
    found = diagnose(fleet(20, 1, lambda n, d: 0.8 if n == 7 else 1))
    assert named(found) == [("n00007", "cuda:0", "slow", "only")]


def test_the_outlier_tells_what_else_was_seen() -> None:
    readings = fleet(4, tweak=lambda n, d: 0.8 if (n, d) == (1, 1) else 1)
    readings = [replace(one, throttled_ppm=0, power_mean_mw=None) for one in readings]
    (outlier,) = diagnose(readings).outliers
    assert (outlier.clock_off_ppm, outlier.power_off_ppm, outlier.throttled_ppm) == (-200_000, None, 0)
    assert outlier.temperature_max_c == 65


def test_too_few_devices_are_said_to_be_too_few() -> None:
    few = diagnose(fleet(LEAST_VALUES - 1, 1, lambda n, d: 0.5 if n == 0 else 1))
    assert few.outliers == ()
    assert few.spreads[0].populations[0].low_mflop_s is None
    assert any("too few devices" in line for line in lines(few, {}))
    enough = diagnose(fleet(LEAST_VALUES, 1, lambda n, d: 0.5 if n == 0 else 1))
    assert [one.node_id for one in enough.outliers] == ["n00000"]


def test_identical_figures_have_no_findings_and_one_that_differs_is_found() -> None:
    same = fleet(5, sd=0)
    assert diagnose(same).take_out == ()
    other = [replace(same[0], sustained_mflop_s=BASE * 9 // 10), *same[1:]]
    assert named(diagnose(other)) == [("n00000", "cuda:0", "slow", "device")]


def test_models_and_workloads_are_not_mixed() -> None:
    slower = [
        replace(one, model="X2", node_id="m" + one.node_id, sustained_mflop_s=10**6 + n)
        for n, one in enumerate(fleet(4))
    ]
    fp64 = [replace(one, workload="fp64", sustained_mflop_s=one.sustained_mflop_s // 2) for one in fleet(4)]
    found = diagnose([*fleet(4), *slower, *fp64])
    assert [(one.model, one.workload) for one in found.spreads] == [("X1", "fp16"), ("X1", "fp64"), ("X2", "fp16")]
    assert found.take_out == ()


def test_all_zero_rates_are_survived() -> None:
    assert diagnose([replace(one, sustained_mflop_s=0) for one in fleet(4)]).take_out == ()


def test_one_device_twice_is_refused() -> None:
    with pytest.raises(RefusedError) as caught:
        diagnose([*fleet(2), *fleet(1)])
    assert caught.value.code == "duplicate-device"


def test_no_readings_are_no_findings() -> None:
    found = diagnose([])
    assert (found.spreads, found.sums, lines(found, {})) == ((), (), [])


# Populations in a fleet
def test_two_populations_are_told_with_the_racks_that_the_slower_is_in() -> None:
    readings = fleet(48, tweak=lambda n, d: 0.92 if n >= 40 else 0.7 if (n, d) == (2, 2) else 1)
    found = diagnose(readings, racks(readings, 8))
    slower, faster = found.spreads[0].populations
    assert (slower.devices, faster.devices, slower.nodes) == (65, 319, 9)
    assert abs(slower.median_mflop_s - BASE * 0.92) < BASE * 0.005
    assert slower.groups == ("rack-000", "rack-005")
    assert faster.groups == ()
    assert [one.node_id for one in found.take_out] == ["n00002"]


def test_what_is_slow_in_one_or_two_nodes_is_a_fault_and_no_population() -> None:
    found = diagnose(fleet(2, tweak=lambda n, d: 0.85 if n == 0 else 1))
    assert len(found.spreads[0].populations) == 1
    assert [(one.node_id, one.side) for one in found.odd_nodes] == [("n00000", "slow")]
    half = diagnose(fleet(1, tweak=lambda n, d: 0.85 if d < 4 else 1))
    assert {one.device for one in half.outliers} == {f"cuda:{d}" for d in range(4)}
    assert half.odd_nodes == ()


# Racks and switches
def test_a_slow_rack_is_found_and_its_nodes_are_not_taken_out_one_by_one() -> None:
    readings = fleet(128, tweak=lambda n, d: 0.97 if 16 <= n < 24 else 0.8 if n == 60 else 1)
    found = diagnose(readings, racks(readings, 8))
    assert [(one.group, one.nodes) for one in found.slow_groups] == [("rack-002", 8)]
    assert -33_000 < found.slow_groups[0].off_ppm < -27_000
    assert [one.node_id for one in found.take_out] == ["n00060"]


def test_a_node_much_slower_than_its_slow_rack_is_taken_out() -> None:
    readings = fleet(128, tweak=lambda n, d: 0.8 if n == 18 else 0.97 if 16 <= n < 24 else 1)
    found = diagnose(readings, racks(readings, 8))
    assert [one.group for one in found.slow_groups] == ["rack-002"]
    assert [one.node_id for one in found.take_out] == ["n00018"]


def test_one_dead_node_does_not_make_a_slow_rack_and_one_good_node_does_not_hide_one() -> None:
    dead = fleet(64, tweak=lambda n, d: 0.5 if n == 16 else 1)
    assert diagnose(dead, racks(dead, 8)).slow_groups == ()
    good = fleet(64, tweak=lambda n, d: 0.95 if 17 <= n < 24 else 1)
    assert [one.group for one in diagnose(good, racks(good, 8)).slow_groups] == ["rack-002"]


def test_two_nodes_are_no_group_and_a_small_difference_is_none() -> None:
    pair = fleet(40, tweak=lambda n, d: 0.9 if n in (4, 5) else 1)
    assert diagnose(pair, racks(pair, 2)).slow_groups == ()
    near = fleet(64, tweak=lambda n, d: 0.995 if 16 <= n < 24 else 1, sd=0.0001)
    assert diagnose(near, racks(near, 8)).slow_groups == ()


def test_racks_are_called_slow_by_chance_in_at_most_one_of_twenty_campaigns() -> None:
    def some(rng: Random) -> bool:
        readings = fleet(64, 1, sd=0.05, seed=rng.getrandbits(32))
        return bool(diagnose(readings, racks(readings, 4)).slow_groups)

    assert share(300, some) <= 0.08


def test_the_chance_of_a_rack_is_that_of_all_placings() -> None:
    """Nine nodes, three to a rack: of 84 placings one has the three slowest together, and 1/84 x 3 racks < 5 %."""
    rates = [BASE * (100 - n) // 100 for n in range(9)]
    found = 0
    for chosen in permutations(range(9), 3):
        order = [*chosen, *(n for n in range(9) if n not in chosen)]
        readings = [
            FleetReading(f"n{at:05d}", "cuda:0", "X1", "fp16", rates[n], rates[n]) for at, n in enumerate(order)
        ]
        slow = diagnose(readings, racks(readings, 3)).slow_groups
        found += "rack-000" in [one.group for one in slow]
    assert found == 6  # one set of three, in its six orders


# Throttling and drift
def test_throttling_nodes_are_listed_with_their_worst_device() -> None:
    readings = [replace(one, throttled_ppm=0) for one in fleet(3)]
    readings[8] = replace(readings[8], throttled_ppm=10_001)
    readings[9] = replace(readings[9], throttled_ppm=500_000)
    readings[0] = replace(readings[0], throttled_ppm=10_000)
    readings[1] = replace(readings[1], throttled_ppm=None)
    found = diagnose(readings)
    assert [(one.node_id, one.devices, one.worst_ppm) for one in found.throttling] == [("n00001", 2, 500_000)]
    assert found.throttling_untold == 1
    assert found.take_out == ()


def test_drift_is_that_of_the_same_devices() -> None:
    now = fleet(20, tweak=lambda n, d: 0.98 * (0.9 if (n, d) == (4, 1) else 1), seed=5)
    before = fleet(22, seed=6)
    found = diagnose(now, before=before)
    (drift,) = found.drifts
    assert drift.pairs == 160
    assert -22_000 < drift.median_ppm < -18_000
    (drifted,) = found.drifted
    assert (drifted.node_id, drifted.devices, drifted.side) == ("n00004", ("cuda:1",), "slow")
    assert found.take_out[0].reasons == ("drifted", "slow-device")


def test_another_model_in_the_same_place_is_no_drift() -> None:
    assert diagnose(fleet(4), before=fleet(4, model="X0")).drifts == ()
    assert diagnose(fleet(4), before=[replace(one, sustained_mflop_s=0) for one in fleet(4)]).drifts == ()


def test_a_node_that_became_faster_is_told_and_not_taken_out() -> None:
    now = fleet(20, sd=0.001)
    before = [
        replace(one, sustained_mflop_s=one.sustained_mflop_s * 9 // 10) if one.node_id == "n00003" else one
        for one in fleet(20, sd=0.001, seed=2)
    ]
    found = diagnose(now, before=before)
    assert [(one.node_id, one.side, len(one.devices)) for one in found.drifted] == [("n00003", "fast", 8)]
    assert found.take_out == ()


# Sums
def test_sums_are_exact_and_of_what_was_measured() -> None:
    readings = fleet(20, tweak=lambda n, d: 0.8 if n == 3 else 1)
    readings += [replace(one, workload="fp64", certified_mflop_s=2**53 - 1) for one in fleet(20)]
    found = diagnose(readings)
    stays = [one for one in readings if one.node_id != "n00003"]
    for line in found.sums:
        assert line.certified_mflop_s == sum(o.certified_mflop_s for o in readings if o.workload == line.workload)
        assert line.certified_without_mflop_s == sum(o.certified_mflop_s for o in stays if o.workload == line.workload)
        assert (line.devices, line.devices_without) == (160, 152)
    assert found.sums == sums_without(readings, {one.node_id for one in found.take_out})
    assert [one.workload for one in found.sums] == ["fp16", "fp64"]


def test_the_order_of_readings_does_not_matter() -> None:
    readings = fleet(30, tweak=lambda n, d: 0.9 if n in (3, 4) else 1.1 if (n, d) == (9, 1) else 1)
    mixed = list(readings)
    Random(1).shuffle(mixed)
    assert diagnose(mixed, racks(mixed, 5)) == diagnose(readings, racks(readings, 5))


def test_a_diagnosis_goes_through_json() -> None:
    readings = fleet(20, tweak=lambda n, d: 0.9 if n == 3 else 1)
    found = diagnose(readings, racks(readings, 4), fleet(20, seed=3))
    assert msgspec.json.decode(msgspec.json.encode(found), type=Diagnosis) == found
    assert not re.search(rb"\d\.\d|NaN|Infinity", msgspec.json.encode(found))


# For people
def test_lines_use_the_engines_names_and_say_how_many_more() -> None:
    readings = fleet(60, tweak=lambda n, d: 0.8 if d == 0 and n < 13 else 1)
    found = diagnose(readings, racks(readings, 10), fleet(60, seed=9))
    said = lines(found, {"n00000": "gpu-a\n\x1b[31m"})
    assert "Devices slow or fast by themselves (13):" in said
    assert sum(": slow, -" in line for line in said) == 13  # each of them
    assert any("gpu-a\\x0a\\x1b[31m" in line for line in said)
    assert all(line.isprintable() for line in said)
    assert said[-1].startswith("fp16: 480 devices, ")
    assert "without the nodes to take out 376 devices" in said[-1]


# Pictures
SVG = "{http://www.w3.org/2000/svg}"
PLAIN = re.compile(
    "viewBox|role|font-(family|size)|width|height|fill(-opacity)?|x|y|d|stroke(-width|-dasharray)?|text-anchor"
    "|paint-order|cx|cy|r"
)


def drawn(readings: list[FleetReading], names: dict[str, str] | None = None, warning: str | None = None) -> ET.Element:
    (picture,) = plots(diagnose(readings), readings, names or {}, warning).values()
    return ET.fromstring(picture)


def texts(picture: ET.Element) -> list[str]:
    return [one.text or "" for one in picture.iter(f"{SVG}text")]


def test_small_fleets_are_dots_and_large_ones_bars() -> None:
    small, large = fleet(4), fleet(DOTS // 8 + 1)
    assert len(list(drawn(small).iter(f"{SVG}circle"))) == 32
    picture = drawn(large)
    assert not list(picture.iter(f"{SVG}circle"))
    assert len(list(picture.iter(f"{SVG}rect"))) > 10


def test_outliers_are_marked_and_named_the_worst_first() -> None:
    readings = fleet(40, tweak=lambda n, d: 0.7 - n / 1000 if d == 0 and n < 14 else 1.1 if (n, d) == (20, 3) else 1)
    said = texts(drawn(readings, {"n00013": "gpu-13"}))
    assert any(re.fullmatch(r"gpu-13 cuda:0 -3\d\.\d %", text) for text in said)
    assert sum(bool(re.search(r"cuda:0 -\d", text)) for text in said) == 12
    assert "and 3 more, not named here" in said


def test_what_lies_far_out_is_counted_at_the_edge() -> None:
    readings = fleet(40, tweak=lambda n, d: 0.1 if (n, d) in ((1, 1), (2, 2)) else 1)
    picture = drawn(readings)
    assert "◀ 2" in texts(picture)
    places = [float(x) for one in picture.iter(f"{SVG}circle") if (x := one.get("cx"))]
    assert all(0 <= x <= 960 for x in places)


def test_hostile_names_stay_text_and_nothing_is_fetched_or_run() -> None:
    model = "<script>alert(1)</script>\x00\x1b'\"&"
    readings = fleet(20, tweak=lambda n, d: 0.8 if n == 3 else 1, model=model)
    (picture,) = plots(diagnose(readings), readings, {"n00003": "</text><image href='x'/>\ud800"}, "A & B").values()
    root = ET.fromstring(picture.encode())
    assert {one.tag.removeprefix(SVG) for one in root.iter()} <= {"svg", "title", "rect", "path", "text", "circle"}
    assert all(PLAIN.fullmatch(name) for one in root.iter() for name in one.attrib)
    assert "A & B" in texts(root)


@pytest.mark.parametrize("rates", [[5, 5], [0, 0, 0], [1], [0] * 300, [10**15] * 6, list(range(1, 40))])
def test_every_set_of_rates_can_be_drawn(rates: list[int]) -> None:
    readings = [FleetReading(f"n{n}", "cuda:0", "X1", "fp16", rate, rate) for n, rate in enumerate(rates)]
    assert drawn(readings).get("viewBox")


def test_a_picture_of_many_devices_stays_small() -> None:
    readings = fleet(2500, tweak=lambda n, d: 0.5 + n / 10_000 if d == 0 and n % 10 == 0 else 1)
    (picture,) = plots(diagnose(readings), readings, {}).values()
    assert len(picture) < 100_000


def test_each_model_and_workload_has_its_picture() -> None:
    readings = [*fleet(3), *(replace(one, workload="fp64") for one in fleet(3))]
    assert list(plots(diagnose(readings), readings, {})) == [("X1", "fp16"), ("X1", "fp64")]
