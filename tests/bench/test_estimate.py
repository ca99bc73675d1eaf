"""Before a campaign: what it will take, and what is wrong with its nodes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

import bench.campaign.preflight
from bench.campaign.estimate import CONCLUDE_NS, HOST_MW, PREPARE_NS, Estimate, estimate
from bench.campaign.preflight import NEEDED_BYTES, fleet_problems, look, some
from bench.campaign.show import show_check
from bench.devices import select_devices
from bench.profile import load_profile
from bench.record import NodeClock
from bench.record.folder import Facts, alike
from bench.record.windows import windows
from tests.bench.campaigns import FP16, SECOND_NS, campaign_of, node_id, pool_of, roster_of

STANDARD = load_profile("standard")


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


def test_duration_covers_everything_and_load_is_a_part_of_it() -> None:
    campaign = campaign_of(2, 30, STANDARD)
    found = estimate(campaign, STANDARD, roster_of(campaign))
    assert campaign.closes_ns == windows(STANDARD, FP16, 30 * SECOND_NS)[-1].closes_ns
    assert found.duration_ns >= PREPARE_NS + campaign.closes_ns + CONCLUDE_NS
    assert 0 < found.load_ns < found.duration_ns
    without = estimate(campaign_of(2, 0, STANDARD), STANDARD, roster_of(campaign))
    assert found.duration_ns - without.duration_ns == 30 * SECOND_NS * len(campaign.windows)


# --- one node ---


def clock(uncertainty_ns: int | None) -> NodeClock:
    return NodeClock(source="chrony", uncertainty_ns=uncertainty_ns)


def looked(folder: Path, uncertainty_ns: int | None = 1000, **pool: Any) -> Facts:
    return look(select_devices("fake:2"), pool_of(**pool), folder, clock(uncertainty_ns))


def test_a_node_in_order(tmp_path: Path) -> None:
    facts = looked(tmp_path)
    assert facts.problems == ()
    assert (facts.devices, facts.clock_source, facts.clock_uncertainty_ns) == (2, "chrony", 1000)
    assert len(facts.models) == 1
    (found,) = facts.found
    assert found.names == ("fake:0", "fake:1")
    assert found.device.device == "fake:0"


def test_devices_are_alike_that_differ_only_in_the_values_of_their_identities() -> None:
    one, two, three = select_devices("fake:3")
    nameless = three._replace(device=replace(three.device, uuid=None))
    other = two._replace(model=replace(two.model, memory_bytes=1))
    assert [found.names for found in alike((one, two, three))] == [("fake:0", "fake:1", "fake:2")]
    assert [found.names for found in alike((one, two, nameless))] == [("fake:0", "fake:1"), ("fake:2",)]
    assert [found.names for found in alike((one, other, three))] == [("fake:0", "fake:2"), ("fake:1",)]
    assert alike(()) == ()


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
    monkeypatch.setattr(bench.campaign.preflight, "free_bytes", lambda folder: NEEDED_BYTES - 1)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    facts = looked(tmp_path)
    assert facts.disk_free_bytes == NEEDED_BYTES - 1
    assert [problem.split()[0] for problem in facts.problems] == ["has", "cannot"]


# --- all of them ---

FACTS = Facts(2, ("nvidia H200",), ("570.86",), "chrony", 1000, 10**12, ())


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


def test_one_problem_of_many_nodes_is_one_sentence() -> None:
    bad = replace(FACTS, problems=("has no time",))
    facts = {node_id(i): bad if i < 5 else FACTS for i in range(8)}
    assert fleet_problems(facts, roster_of(campaign_of(8))) == ["n0, n1, n2 and 2 more has no time"]


def test_pools_may_differ_from_each_other() -> None:
    campaign = campaign_of(4, pools="aabb")
    facts = {node_id(i): FACTS if i < 2 else replace(FACTS, models=("nvidia H100",), devices=4) for i in range(4)}
    assert fleet_problems(facts, roster_of(campaign, (pool_of("a"), pool_of("b")))) == []


def test_some_of_many() -> None:
    assert some("abc") == "a, b, c"
    assert some("abcd") == "a, b, c and 1 more"


def test_what_a_check_shows() -> None:
    assert show_check([], 3, 3) == ["3 of 3 nodes told of themselves", "  no problem was found"]
    assert show_check(["n0 is slow"], 2, 3) == ["2 of 3 nodes told of themselves", "  n0 is slow"]
