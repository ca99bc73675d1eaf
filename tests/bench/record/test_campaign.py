"""What the pools and windows of a campaign say together."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from bench.profile import load_profile
from bench.record import Campaign, ExpectedPool, Workload
from bench.record.windows import windows
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
