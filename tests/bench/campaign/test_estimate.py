"""Before a campaign: what it will take, and what is wrong with its nodes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

import bench.campaign.node.facts
from bench.campaign.estimate import CONCLUDE_NS, HOST_MW, PREPARE_NS, Estimate, Load, estimate, estimate_of
from bench.campaign.launch.preflight import fleet_problems, seen, twins
from bench.campaign.node.facts import facts_of_node, with_identities
from bench.campaign.show import show_check
from bench.devices import select_devices
from bench.devices.base import Faulty, LocalDevice
from bench.profile import load_profile
from bench.record import ExpectedPool, NodeClock, Profile
from bench.record.campaign import named_workloads, network_windows, windows
from bench.record.status import NodeFacts, alike_devices
from tests.bench.campaigns import FP16, SECOND_NS, campaign_of, node_id, pool_of, roster_of

STANDARD = load_profile("standard")
NEEDED_BYTES = 2 * 10**6


def estimated(nodes: int = 4, ramp_s: float = 0, **pool: Any) -> Estimate:
    campaign = campaign_of(nodes, ramp_s)
    return estimate(campaign, load_profile("smoke"), roster_of(campaign, (pool_of(**pool),)))


# --- the estimate ---


def test_power_is_that_of_all_devices_and_hosts_at_once() -> None:
    found = estimated(4)
    assert (found.nodes, found.devices, found.left_out) == (4, 8, 1)
    assert found.peak_power_mw == 4 * (HOST_MW + 2 * 700_000)
    assert found.energy_j == found.peak_power_mw * found.load_ns // 10**12  # mW x ns


@pytest.mark.parametrize(("ramp_s", "parts"), [(0, 1), (0.5, 1), (1, 1), (60, 60), (0.001, 1)])
def test_the_step_is_averaged_over_the_ramp_and_never_over_less_than_a_second(ramp_s: float, parts: int) -> None:
    found = estimated(1000, ramp_s)
    assert found.peak_power_mw is not None
    assert found.step_mw_per_s == found.peak_power_mw // parts


def test_a_thousand_nodes_of_eight_cards_are_megawatts() -> None:
    text = "\n".join(estimated(1000, 60, devices_per_node=8).lines())
    assert "1,000 with 8,000 devices" in text
    assert "about 6.40 MW at the peak, over a ramp of 60 s" in text
    assert "106.7 kW/s" in text


def test_what_is_not_known_is_said() -> None:
    found = estimated(devices_per_node=None)
    assert (found.devices, found.peak_power_mw, found.step_mw_per_s, found.energy_j) == (None, None, None, None)
    assert "an unknown number of devices" in found.lines()[0]
    assert "--device-watts" in found.lines()[-1]
    found = estimated(power_mw=None)
    assert (found.devices, found.peak_power_mw) == (8, None)


def test_a_pool_without_nodes_hides_nothing() -> None:
    campaign = campaign_of(4)
    unknown = pool_of("empty", devices_per_node=None, power_mw=None)
    found = estimate(campaign, load_profile("smoke"), roster_of(campaign, (pool_of(), unknown)))
    assert found == estimated(4)


def test_pools_add_up() -> None:
    campaign = campaign_of(3, pools="aab")
    pools = (pool_of("a"), pool_of("b", devices_per_node=8, power_mw=400_000))
    found = estimate(campaign, load_profile("smoke"), roster_of(campaign, pools))
    assert found.devices == 12
    assert found.peak_power_mw == 3 * HOST_MW + 4 * 700_000 + 8 * 400_000


def test_the_networks_runs_take_their_time_and_energy() -> None:
    before = estimated(4)
    campaign = campaign_of(4)
    smoke = load_profile("smoke")
    networked = replace(campaign, network=network_windows(smoke, campaign.windows))
    found = estimate(networked, smoke, roster_of(campaign, (pool_of(),)))
    runs_ns = sum(window.closes_ns - window.load_ns for window in networked.network)
    assert found.load_ns == before.load_ns + runs_ns
    assert found.duration_ns > before.duration_ns + networked.network[-1].closes_ns - networked.network[0].load_ns
    assert found.energy_j is not None
    assert before.energy_j is not None
    assert found.energy_j > before.energy_j


def test_duration_covers_everything_and_load_is_a_part_of_it() -> None:
    campaign = campaign_of(2, 30, STANDARD)
    found = estimate(campaign, STANDARD, roster_of(campaign, (pool_of(device="all"),)))
    assert campaign.closes_ns == windows(STANDARD, FP16, 30 * SECOND_NS)[-1].closes_ns
    assert found.duration_ns >= PREPARE_NS + campaign.closes_ns + CONCLUDE_NS
    assert 0 < found.load_ns < found.duration_ns
    without = estimate(campaign_of(2, 0, STANDARD), STANDARD, roster_of(campaign, (pool_of(device="all"),)))
    assert found.duration_ns - without.duration_ns == 30 * SECOND_NS * len(campaign.windows)


def test_simulated_devices_and_cpus_of_a_smoke_campaign_prepare_in_seconds() -> None:
    smoke = load_profile("smoke")
    campaign = campaign_of(2)

    def lasts(device: str, profile: Profile = smoke, lead_s: int = 15) -> float:
        own = replace(campaign, windows=windows(profile, FP16, 0))
        taken = estimate(own, profile, roster_of(own, (pool_of(device=device),)), lead_ns=lead_s * SECOND_NS)
        return taken.duration_ns / SECOND_NS

    window_s = (smoke.warmup_ns + smoke.window_ns + smoke.guard_ns) / SECOND_NS
    assert lasts("fake:2") == pytest.approx(window_s + 25)
    assert lasts("fake:2", lead_s=3) == pytest.approx(window_s + 13)
    assert lasts("cpu") == pytest.approx(window_s + 28)
    assert lasts("all") > lasts("cpu") + 60
    assert lasts("cpu", STANDARD) == lasts("all", STANDARD)  # its shapes are large there


# --- what a certification of eight cards costs (facts of 8 x H200) ---

CERTIFICATION = load_profile("certification")


def certification(cores: int, *names: str, ramp_s: int = 15, power_mw: int | None = 700_000) -> Estimate:
    measured = windows(CERTIFICATION, named_workloads(CERTIFICATION, names), ramp_s * SECOND_NS)
    pools = (ExpectedPool(pool="main", workloads=names),)
    campaign = replace(campaign_of(1, ramp_s, CERTIFICATION), windows=measured, pools=pools)
    return estimate_of(campaign, CERTIFICATION, [Load(1, 8, power_mw, measured, cores)])


def minutes(found: Estimate) -> float:
    return found.duration_ns / 60e9


@pytest.mark.parametrize(("cores", "prepare_s", "expected"), [(96, 85, 16.5), (16, 160, 17.8)])
def test_an_intelligent_node_takes_less_than_twenty_minutes(cores: int, prepare_s: int, expected: float) -> None:
    found = certification(cores, "fp16")
    assert found.prepare_ns == prepare_s * SECOND_NS
    assert minutes(found) == pytest.approx(expected, abs=0.05)
    assert (found.device_s or 0) / 3600 == pytest.approx(8 * minutes(found) / 60, abs=0.01)
    assert f"about {expected} min" in "\n".join(found.lines())


def test_the_cards_of_a_centre_are_taken_for_27_800_hours() -> None:
    assert 100_800 * certification(96, "fp16").duration_ns / 3600e9 == pytest.approx(27_800, rel=0.005)


def test_a_supercomputing_node_takes_18_to_19_minutes() -> None:
    assert [round(minutes(certification(cores, "fp64"))) for cores in (96, 16)] == [18, 19]


def test_another_precision_or_the_tuned_shape_takes_its_window_again_and_its_operands() -> None:
    one = certification(96, "fp16", ramp_s=0)
    window_ns = CERTIFICATION.warmup_ns + CERTIFICATION.window_ns + CERTIFICATION.guard_ns
    assert window_ns / 60e9 == pytest.approx(13.75)
    for more, least_s, most_s in (("fp16-tuned", 15, 16), ("fp64", 135, 136)):
        extra_ns = certification(96, "fp16", more, ramp_s=0).duration_ns - one.duration_ns - window_ns
        assert least_s * SECOND_NS <= extra_ns <= most_s * SECOND_NS


def test_in_a_mixed_centre_each_card_is_loaded_and_taken_for_its_own_windows_alone() -> None:
    both = windows(CERTIFICATION, named_workloads(CERTIFICATION, ("fp16", "fp64")))
    pools = ExpectedPool(pool="a", workloads=("fp16",)), ExpectedPool(pool="b", workloads=("fp64",))
    campaign = replace(campaign_of(3, 0, CERTIFICATION, pools="aab"), windows=both, pools=pools)
    rosters = pool_of("a"), pool_of("b", devices_per_node=8, power_mw=400_000)
    found = estimate(campaign, CERTIFICATION, roster_of(campaign, rosters))
    powers = 2 * (HOST_MW + 2 * 700_000), HOST_MW + 8 * 400_000
    loads_ns = [
        w.closes_ns - w.load_ns + CERTIFICATION.guard_ns + CERTIFICATION.references_ns(w.workload) for w in both
    ]
    assert found.peak_power_mw == max(powers)
    assert found.energy_j == sum(mw * ns for mw, ns in zip(powers, loads_ns, strict=True)) // 10**12
    assert found.device_s is not None
    assert found.device_s < found.duration_ns // SECOND_NS * 12


# --- one node ---


def clock(uncertainty_ns: int | None) -> NodeClock:
    return NodeClock(source="chrony", uncertainty_ns=uncertainty_ns)


def looked(folder: Path, uncertainty_ns: int | None = 1000, **pool: Any) -> NodeFacts:
    return facts_of_node(select_devices("fake:2"), pool_of(**pool), folder, clock(uncertainty_ns), NEEDED_BYTES)


def test_a_node_in_order(tmp_path: Path) -> None:
    facts = looked(tmp_path)
    assert facts.problems == ()
    assert (facts.devices, facts.clock_source, facts.clock_uncertainty_ns) == (2, "chrony", 1000)
    assert len(facts.models) == 1
    (found,) = facts.found
    assert found.names == ("fake:0", "fake:1")
    assert found.device.device == "fake:0"


def test_a_lost_device_is_said_of_its_node_and_is_no_model_of_it(tmp_path: Path) -> None:
    sound, other = select_devices("fake:2")
    lost = Faulty(replace(other.model, model="unknown"), other.device, "device-lost", "has fallen off the bus")
    facts = facts_of_node([sound, lost], pool_of(), tmp_path, clock(1000), NEEDED_BYTES)
    assert facts.problems == ("fake:1: has fallen off the bus (device-lost)",)
    assert facts.models == (f"{sound.model.vendor} {sound.model.model}",)
    assert [found.names for found in facts.found] == [("fake:0",)]


def test_devices_are_alike_that_differ_only_in_the_values_of_their_identities() -> None:
    def names(*found: LocalDevice) -> list[tuple[str, ...]]:
        return [one.names for one in alike_devices((one.model, one.device) for one in found)]

    one, two, three = select_devices("fake:3")
    nameless = three._replace(device=replace(three.device, uuid=None))
    other = two._replace(model=replace(two.model, memory_bytes=1))
    assert names(one, two, three) == [("fake:0", "fake:1", "fake:2")]
    assert names(one, two, nameless) == [
        ("fake:0", "fake:1"),
        ("fake:2",),
    ]
    assert names(one, other, three) == [
        ("fake:0", "fake:2"),
        ("fake:1",),
    ]
    assert alike_devices(()) == ()


@pytest.mark.parametrize(
    ("uncertainty_ns", "pool", "problem"),
    [
        (None, {}, "clock-unknown"),
        (SECOND_NS + 1, {}, "clock-uncertain"),
        (1000, {"devices_per_node": 8}, "has 2 devices, 8 are expected"),
    ],
)
def test_a_node_s_problems(tmp_path: Path, uncertainty_ns: int | None, pool: dict[str, Any], problem: str) -> None:
    (found,) = looked(tmp_path, uncertainty_ns, **pool).problems
    assert problem in found


def test_what_is_at_the_limit_is_no_problem(tmp_path: Path) -> None:
    assert looked(tmp_path, SECOND_NS, devices_per_node=None).problems == ()


def test_a_full_disk_and_a_folder_that_is_not_writable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.campaign.node.facts, "free_bytes", lambda folder: NEEDED_BYTES - 1)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    facts = looked(tmp_path)
    assert facts.disk_free_bytes == NEEDED_BYTES - 1
    assert [problem.split()[0] for problem in facts.problems] == ["has", "cannot"]


# --- all of them ---

FACTS = NodeFacts(2, ("nvidia H200",), ("570.86",), "chrony", 1000, 10**12, ())


def test_a_uniform_fleet_has_no_problem() -> None:
    roster = roster_of(campaign_of(5))
    assert fleet_problems({node_id(i): FACTS for i in range(5)}, roster) == []
    assert fleet_problems({}, roster) == []


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"drivers": ("535.1",)}, "pool main has different drivers: mostly 570.86; n3: 535.1"),
        ({"models": ("nvidia H100",)}, "pool main has different models: mostly nvidia H200; n3: nvidia H100"),
        ({"devices": 7}, "pool main has different numbers of devices: mostly 2; n3: 7"),
    ],
)
def test_what_is_not_uniform(changes: dict[str, Any], sentence: str) -> None:
    facts = {node_id(i): FACTS for i in range(5)} | {node_id(3): replace(FACTS, **changes)}
    assert fleet_problems(facts, roster_of(campaign_of(5))) == [sentence]


def test_mixed_nodes_are_like_each_other_and_not_like_the_rest_of_their_pool() -> None:
    roster = roster_of(campaign_of(5, pools=["ai"] * 5), (pool_of("ai"), pool_of("hpc")))
    roster = replace(roster, nodes=tuple(replace(n, also=("hpc",)) for n in roster.nodes[:2]) + roster.nodes[2:])
    mixed = replace(FACTS, devices=3, models=("nvidia H200", "petaseal CPU"))
    facts = {node_id(i): mixed if i < 2 else FACTS for i in range(5)}
    assert fleet_problems(facts, roster) == []
    assert [line for line in seen(facts, roster) if "pool" in line] == [
        "pool ai+hpc: 2 nodes with 6 devices (nvidia H200, petaseal CPU), driver 570.86",
        "pool ai: 3 nodes with 6 devices (nvidia H200), driver 570.86",
    ]
    (said,) = fleet_problems(facts | {node_id(1): replace(mixed, devices=2)}, roster)
    assert said == "pool ai+hpc has different numbers of devices: mostly 3; n1: 2"


def test_of_nodes_alike_the_first_by_name_is_called_the_worst() -> None:
    """Ids are drawn anew in each campaign, and what is said of the same nodes is the same."""
    roster = roster_of(campaign_of(3))
    roster = replace(roster, nodes=tuple(replace(n, name=name) for n, name in zip(roster.nodes, "cab", strict=True)))
    facts = {node_id(i): replace(FACTS, disk_free_bytes=10**12 - i) for i in range(3)}
    assert seen(facts, roster)[-2:] == [
        "clocks: 3 known, the worst within 0.001 ms (a, by chrony)",
        "disk: at least 1000.0 GB free in the campaign's folder (a)",
    ]


def test_nodes_that_share_a_machine_or_a_device() -> None:
    own = {
        node_id(i): replace(FACTS, device_ids={f"d{i}": "uuid of cuda:0"}, machine_ids={f"m{i}": "machine id"})
        for i in range(6)
    }
    assert fleet_problems(own, roster_of(campaign_of(6))) == []
    assert twins(own, {}) == {}
    clone = {"d1": "uuid of cuda:3", "m": "serial of cuda:3"}
    facts = {
        **own,
        node_id(1): replace(own[node_id(1)], device_ids={"d1": "uuid of cuda:0", "m": "serial of cuda:1"}),
        node_id(2): replace(own[node_id(2)], device_ids=clone, machine_ids={"m1": "machine id"}),
        node_id(5): replace(own[node_id(5)], device_ids={"d4": "board of npu:0"}),
    }
    machine, cards, parts = fleet_problems(facts, roster_of(campaign_of(6)))
    assert machine == "n1, n2 have one machine id: they are one machine, or copies of one image"
    assert cards.startswith("uuid of cuda:0 on n1, uuid of cuda:3 on n2 are the same (2 identities): none of")
    assert parts.startswith("uuid of cuda:0 on n4, board of npu:0 on n5 are the same (one identity): none of")
    refused = twins(facts, {node_id(1): "n1"})
    assert refused.keys() == {node_id(i) for i in (1, 2, 4, 5)}
    assert refused[node_id(2)] == "the uuid of cuda:3 is the uuid of cuda:0 of n1 too [duplicate-device]"


def test_what_a_node_tells_of_its_identities_is_of_one_campaign(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.campaign.node.facts, "machine_identities", lambda: {"machine id": "ab" * 16})
    fakes, real = select_devices("fake:2"), select_devices("cpu")
    one, again, other = (with_identities(FACTS, fakes + real, challenge) for challenge in ("5eed", "5eed", "5eef"))
    assert one == again
    assert sorted(one.device_ids.values()) == [
        *("serial of fake:0", "serial of fake:1", "uuid of cpu:0", "uuid of fake:0", "uuid of fake:1")
    ]
    assert list(one.machine_ids.values()) == ["machine id"]
    assert one.device_ids.keys().isdisjoint(other.device_ids)
    assert one.machine_ids.keys().isdisjoint(other.machine_ids)
    assert with_identities(FACTS, fakes, "5eed").machine_ids == {}  # each plays a machine of its own
    die = replace(fakes[0].device, serial="165012", parent="par1")
    parts = [fakes[0]._replace(device=die), fakes[1]._replace(device=replace(die, device="fake:1", uuid="f2"))]
    assert sorted(with_identities(FACTS, parts, "5eed").device_ids.values()) == [
        *("board of fake:0", "parent of fake:0", "uuid of fake:0", "uuid of fake:1")
    ]


def test_one_problem_of_many_nodes_is_one_sentence() -> None:
    bad = replace(FACTS, problems=("has no time",))
    facts = {node_id(i): bad if i < 5 else FACTS for i in range(8)}
    assert fleet_problems(facts, roster_of(campaign_of(8))) == ["n0, n1, n2 and 2 more: has no time"]


def test_pools_may_differ_from_each_other() -> None:
    campaign = campaign_of(4, pools="aabb")
    facts = {node_id(i): FACTS if i < 2 else replace(FACTS, models=("nvidia H100",), devices=4) for i in range(4)}
    assert fleet_problems(facts, roster_of(campaign, (pool_of("a"), pool_of("b")))) == []


def test_what_a_check_shows() -> None:
    assert show_check([], [], 3, 3) == ["3 of 3 nodes told of themselves", "  no problem was found"]
    shown = show_check(["n0 is slow"], ["disk: plenty"], 2, 3)
    assert shown == ["2 of 3 nodes told of themselves", "  disk: plenty", "  n0 is slow"]


def test_a_check_says_what_it_saw() -> None:
    roster = roster_of(campaign_of(3))
    told = {
        node_id(index): NodeFacts(2, (f"NVIDIA {model}",), ("570.1",), "chrony", bound_ns, free, ())
        for index, (model, bound_ns, free) in enumerate([("H200", 10, 3 * 10**9), ("H200", 2_500_000, 10**12)])
    }
    told[node_id(2)] = NodeFacts(2, ("NVIDIA H100",), ("550.9",), "none", None, 10**12, ())
    assert seen(told, roster) == [
        "pool main: 3 nodes with 6 devices (NVIDIA H100, NVIDIA H200), driver 550.9, 570.1",
        "clocks: 2 known, the worst within 2.500 ms (n1, by chrony)",
        "disk: at least 3.0 GB free in the campaign's folder (n0)",
    ]
    assert seen({}, roster) == []
