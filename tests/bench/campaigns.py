"""Campaigns without records, for the tests of `bench.campaign` and `bench.record.folder`: values and scripted nodes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from bench.profile import load_profile
from bench.record import Campaign, ExpectedNode, ExpectedPool, Precision, Profile, Shape, Workload, digest, encode
from bench.record.campaign import windows
from bench.record.folder import Folder
from bench.record.roster import LeftOut, Roster, RosterNode, RosterPool, ThresholdTarget
from bench.record.shapes import ChosenShape, Product
from bench.record.status import ReportedSums, State, Status
from bench.units import utc_text
from tests.bench.fleet import BEGIN_NS

SECOND_NS = 10**9
PROFILE = load_profile("smoke")
FP16 = (Workload("fp16"),)


def node_id(index: int) -> str:
    return f"node-{index:05d}"


def at(second: float) -> str:
    """Return a time, counted from the moment when the campaign was issued."""
    return utc_text(BEGIN_NS + int(second * SECOND_NS))


def campaign_of(
    nodes: int, ramp_s: float = 0, profile: Profile = PROFILE, pools: Sequence[str] | None = None, **changes: Any
) -> Campaign:
    """Return a campaign that may start within an hour after `BEGIN_NS`; `pools` names each node's."""
    campaign = Campaign(
        campaign_id="c1",
        self_issued=False,
        purpose="capacity",
        centre_id="gz-test",
        centre_sha256=None,
        challenge="5eed" * 8,
        challenge_source="self",
        profile=profile.profile,
        profile_sha256=digest(profile),
        policies={},
        issued_at=at(0),
        starts_from=at(0),
        starts_until=at(3600),
        ramp_ns=int(ramp_s * SECOND_NS),
        windows=windows(profile, FP16, int(ramp_s * SECOND_NS)),
        pools=tuple(ExpectedPool(pool=name, workloads=("fp16",)) for name in dict.fromkeys(pools or ("main",))),
        nodes=tuple(ExpectedNode(node_id=node_id(i), pool=pools[i] if pools else "main") for i in range(nodes)),
        left_out=(),
        series="c1",
        earlier=(),
    )
    return replace(campaign, **changes)


def pool_of(name: str = "main", **changes: Any) -> RosterPool:
    """Return a pool whose nodes have two devices of 700 W."""
    pool = RosterPool(name, "intelligent", "fp16", "fake:2", None, None, 2, 700_000)
    return replace(pool, **changes)


def roster_of(campaign: Campaign, pools: tuple[RosterPool, ...] | None = None, **changes: Any) -> Roster:
    """Return a campaign's roster; the engine calls its nodes n0, n1, ..."""
    roster = Roster(
        campaign_sha256=digest(campaign),
        salt="5a" * 16,
        nodes=tuple(RosterNode(node.node_id, f"n{i}", node.pool, None) for i, node in enumerate(campaign.nodes)),
        left_out=(LeftOut("node-x", "nx", "main", "drained: bad DIMM"),),
        pools=pools or (pool_of(),),
        targets=(ThresholdTarget("guangzhou-2000p/capacity", ("intelligent",), 2 * 10**12),),
        heartbeat_ns=5 * SECOND_NS,
    )
    return replace(roster, **changes)


def lay(root: Path, campaign: Campaign, roster: Roster | None = None) -> Folder:
    """Write a campaign's roster into a folder."""
    root.mkdir(parents=True, exist_ok=True)
    folder = Folder(root)
    folder.roster_file.write_bytes(encode(roster or roster_of(campaign)))
    return folder


def product(**changes: Any) -> Product:
    return replace(Product("gpu", "NVIDIA", "NVIDIA H200", None, "card", None, False, None), **changes)


def chose(size: int, devices: int = 2, precision: Precision = "fp16", **changes: Any) -> ChosenShape:
    """Return that devices of a product chose a cube."""
    return ChosenShape(product(**changes), precision, Shape(m=size, n=size, k=size), devices)


def told(index: int, state: State, second: float = 0, ready: float | None = None, **more: Any) -> Status:
    """Return what a node tells at a time."""
    ready_at = None if ready is None else at(ready)
    return Status(node_id(index), state, at(second), at(0), ready_at=ready_at, **more)


def done(index: int, mflop_s: int, second: float = 60, devices: int = 2, workload: str = "fp16") -> Status:
    """Return what a node tells that has finished."""
    return told(index, "done", second, 1, sums={workload: ReportedSums(devices, mflop_s, 0, 0)}, ended_at=at(second))
