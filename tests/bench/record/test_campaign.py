"""What the pools and windows of a campaign say together."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import UNSET
from msgspec.structs import replace

from bench.profile import load_profile
from bench.record import Campaign, ExpectedNode, ExpectedPool, Workload
from bench.record.campaign import ends_ns, load_ends_ns, network_windows, windows
from bench.record.network import NetworkWindow
from tests.bench.campaigns import campaign_of, node_id

SMOKE = load_profile("smoke")
FP16, FP64 = Workload("fp16"), Workload("fp64")
AI, HPC = ExpectedPool(pool="ai", workloads=("fp16",)), ExpectedPool(pool="hpc", workloads=("fp64",))


def mixed(**changes: Any) -> Campaign:
    """Return a campaign of two pools, a node each."""
    both = campaign_of(2, pools=["ai", "hpc"], windows=windows(SMOKE, (FP16, FP64)))
    return replace(both, **{"pools": (AI, HPC), **changes})


def test_a_node_takes_part_in_the_windows_of_its_pool() -> None:
    campaign = mixed()
    assert campaign.windows_problem() is None
    first, second = campaign.windows
    assert [campaign.windows_of(name) for name in (node_id(0), node_id(1), "x")] == [(first,), (second,), ()]
    assert campaign.load_ns(node_id(1)) == second.load_ns


@pytest.mark.parametrize(
    ("pools", "problem"),
    [
        ((AI,), "what the pool hpc measures"),
        ((AI, HPC, HPC), "a pool twice"),
        ((AI, replace(HPC, workloads=("fp16",))), "windows for ['fp16', 'fp64'], and its pools measure ['fp16']"),
        ((AI, replace(HPC, workloads=("fp64", "fp32"))), "measure ['fp16', 'fp32', 'fp64']"),
    ],
)
def test_pools_and_windows_that_do_not_fit(pools: tuple[ExpectedPool, ...], problem: str) -> None:
    """A window that no pool has would put off the end of the campaign, and with it its age."""
    assert problem in (mixed(pools=pools).windows_problem() or "")


# --- the network's windows ---


def networked(**changes: Any) -> Campaign:
    """Return a campaign of two pools with the network's windows."""
    campaign = mixed()
    return replace(campaign, **{"network": network_windows(SMOKE, campaign.windows), **changes})


def test_the_network_is_measured_after_all_that_figures_need_and_dates_nothing() -> None:
    campaign = networked()
    assert campaign.windows_problem() is None
    runs = [(window.run, window.tokens) for window in campaign.network]
    assert runs == [("compute", None), *((run, t) for t in (16384, 4096) for run in ("node", "fabric"))]
    assert SMOKE.network
    assert campaign.network[0].load_ns >= campaign.closes_ns + SMOKE.guard_ns + SMOKE.network.join_ns
    assert campaign.closes_ns == mixed().closes_ns < campaign.last_closes_ns == campaign.network[-1].closes_ns
    assert ends_ns(campaign, campaign.starts_from) == ends_ns(mixed(), campaign.starts_from)
    assert load_ends_ns(campaign, SMOKE) > campaign.last_closes_ns
    assert mixed().closes_ns < load_ends_ns(mixed(), SMOKE) < campaign.network[0].load_ns


def test_a_profile_without_a_plan_has_no_windows_of_the_network() -> None:
    assert network_windows(replace(SMOKE, network=UNSET), mixed().windows) == ()


def changed(place: int, **changes: Any) -> tuple[NetworkWindow, ...]:
    """Return the network's windows, of which one is another."""
    network = list(networked().network)
    network[place] = replace(network[place], **changes)
    return tuple(network)


@pytest.mark.parametrize(
    ("network", "problem"),
    [
        (changed(0, load_ns=0), "begins before the window before it ends"),
        (changed(2, opens_ns=1), "begins before the window before it ends"),
        (changed(1, closes_ns=networked().network[1].opens_ns), "is reversed"),
        (changed(3, tokens=16384), "two windows for one run"),
        (changed(0, tokens=5), "tokens where nothing is reduced"),
        (changed(1, tokens=None), "or none where it is"),
        (changed(4, closes_ns=25 * 3600 * 10**9), "more than a day"),
    ],
)
def test_windows_of_the_network_that_do_not_fit(network: tuple[NetworkWindow, ...], problem: str) -> None:
    assert problem in (networked(network=network).windows_problem() or "")


# --- mixed nodes ---

AI_CARDS, HPC_CARDS = replace(AI, devices=("cuda:0", "cuda:1")), replace(HPC, devices=("cuda:2",))
SPLIT = ExpectedNode(node_id="both", pool="ai", also=("hpc",)), ExpectedNode(node_id="cards", pool="ai")


def test_a_mixed_node_takes_part_in_the_windows_of_all_its_pools_and_the_others_in_their_own() -> None:
    campaign = mixed(pools=(AI_CARDS, HPC_CARDS), nodes=SPLIT)
    assert (campaign.windows_problem(), campaign.split_problem()) == (None, None)
    assert campaign.windows_of("both") == campaign.windows
    assert campaign.windows_of("cards") == campaign.windows[:1]


def test_the_pool_of_a_device() -> None:
    campaign = mixed(pools=(AI_CARDS, HPC_CARDS), nodes=SPLIT)
    places = {
        ("both", "cuda:0"): "ai",
        ("both", "cuda:2"): "hpc",
        ("both", "cuda:3"): None,
        ("cards", "cuda:1"): "ai",
        ("cards", "cuda:2"): None,  # the campaign names no pool for it
        ("x", "cuda:0"): None,
    }
    assert {place: campaign.pool_of(*place) for place in places} == places
    assert mixed().pool_of(node_id(1), "anything:7") == "hpc"


@pytest.mark.parametrize(
    ("pools", "also"),
    [
        ((AI, HPC_CARDS), ("hpc",)),
        ((AI_CARDS, HPC), ("hpc",)),
        ((AI_CARDS, replace(HPC_CARDS, devices=("cuda:1",))), ("hpc",)),
        ((AI_CARDS, HPC_CARDS), ("ai",)),
        ((AI_CARDS, HPC_CARDS), ("hpc", "hpc")),
    ],
    ids=["all and some", "some and all", "one in both", "its own again", "another twice"],
)
def test_pools_of_a_node_that_share_devices(pools: tuple[ExpectedPool, ...], also: tuple[str, ...]) -> None:
    campaign = mixed(pools=pools, nodes=(ExpectedNode(node_id="both", pool="ai", also=also),))
    assert "the node both in pools that share devices" in (campaign.split_problem() or "")


def test_a_pool_of_which_nothing_is_said() -> None:
    campaign = mixed(nodes=(ExpectedNode(node_id="both", pool="ai", also=("x",)),))
    assert "what the pool x measures" in (campaign.windows_problem() or "")
