"""Campaigns with samples as real devices leave them, for reports: simulated, noisy, with faults that are planted.

A few nodes are simulated by the real loop; the rest are those with further identities, so that hundreds are quick.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from msgspec.structs import replace

from bench.engine.assemble import samples_gz
from bench.engine.measure import SampleRow
from bench.profile import load_profile
from bench.record import Campaign, NodeRecord, Profile
from bench.record.folder import Folder
from bench.record.roster import EngineNode
from bench.record.status import Published
from bench.units import SECOND_NS, utc_text
from certify.campaign.candidates import SAMPLES_SUFFIX
from certify.campaign.opening import open_folder
from certify.campaign.workloads import CreateOptions
from certify.documents.kinds import RECORD_SUFFIX
from certify.keys.files import load_private, new_key
from tests.bench.fleet import simulate_node
from tests.certify.measured import BEGIN_NS, centre_yaml, of_node, seal_record
from tests.certify.signed import new_key as fresh_key

NOISE = {"power_mw": 6_000, "clock_mhz": 4, "temperature_c": 1}  # standard deviation of a reading
POWER_CAP = {"from_s": 20.0, "to_s": 60.0, "rate_ppm": 880_000, "reason": "sw_power_cap"}
HEAT = {"from_s": 30.0, "to_s": 50.0, "rate_ppm": 800_000, "reason": "hw_thermal_slowdown"}
KINDS: Mapping[str, Mapping[str, Any]] = {  # what each kind of node does; "" is as it should be
    "": {"temperature_rise_c": 20, "temperature_rise_s": 40.0},
    "throttled": {"devices": {"1": {"throttle": [POWER_CAP]}, "2": {"throttle": [HEAT], "temperature_c": 88}}},
    "slow": {"rate_gflop_s": {"fp16": 262_000, "fp32": 40_000, "fp64": 35_000}, "clock_mhz": 1_540},
    "blind": {"telemetry": False},
    "dead": {"fail_at_s": 5.0},
}
KEY = fresh_key()


@dataclass(frozen=True)
class Laid:
    """A campaign's folder, and the operator's key that signed the campaign."""

    folder: Folder
    key: Path
    campaign: Campaign
    names: tuple[str, ...]  # the engine's, by the campaign's order of nodes


def profile_of(window_s: int, warmup_s: int, interval_s: float) -> Profile:
    """Return a profile with windows of some length, whose telemetry is read so often."""
    return replace(
        load_profile("standard"),
        profile="report-test",
        window_ns=window_s * SECOND_NS,
        warmup_ns=warmup_s * SECOND_NS,
        telemetry_interval_ns=int(interval_s * SECOND_NS),
        tuned_shapes={},
    )


def lay_campaign(
    root: Path,
    nodes: int = 4,
    devices: int = 4,
    *,
    kinds: Mapping[int, str] | None = None,
    precisions: tuple[Any, ...] = ("fp16",),
    profile: Profile | None = None,
    names: Sequence[str] = (),
) -> Laid:
    """Lay out a campaign of so many nodes after its window; nothing is collected.

    Args:
        root: where everything lies.
        nodes: how many.
        devices: of each.
        kinds: by the place of a node among the engine's names, one of `KINDS`; the others are as they should be.
        precisions: that are measured.
        profile: of the windows; of a minute with a reading each half second by default.
        names: of the first nodes, as the engine has them.
    """
    plan = profile or profile_of(90, 20, 0.5)
    new_key(root / "operator.pem", None)
    (root / "centre.yaml").write_text(yaml.safe_dump(centre_yaml(), allow_unicode=True))
    opening = CreateOptions(
        str(root / "centre.yaml"),
        plan,
        ("guangzhou-2000p",),
        root / "campaign",
        precisions=precisions,
        starts_from=utc_text(BEGIN_NS + 60 * SECOND_NS),
    )
    known = (*names, *(f"gpu-{index:04d}" for index in range(len(names), nodes)))
    engine = [EngineNode(name, f"rack-{i // 8}", f"gpu:{devices}", None, None) for i, name in enumerate(known)]
    opened = open_folder(opening, load_private(root / "operator.pem"), engine, BEGIN_NS - 3600 * SECOND_NS)
    folder, campaign = opened.folder, opened.campaign
    folder.publish(Published(campaign.starts_from, campaign.starts_from, nodes))
    place = {node.node_id: known.index(node.name) for node in folder.roster().nodes}
    made: dict[str, tuple[NodeRecord, bytes, Path]] = {}
    for index, node in enumerate(campaign.nodes):
        kind = (kinds or {}).get(place[node.node_id], "")
        shard = folder.records(node.node_id)
        shard.mkdir(parents=True, exist_ok=True)
        target = shard / f"{node.node_id}{SAMPLES_SUFFIX}"
        if kind not in made:
            record, samples = noisy_node(campaign, node.node_id, devices, plan, precisions, kind)
            target.write_bytes(samples)
            made[kind] = record, samples, target
        else:
            os.link(made[kind][2], target)
        record, samples, _ = made[kind]
        own = replace(of_node(record, index, campaign, KEY), node_id=node.node_id, pool=node.pool)
        (shard / f"{node.node_id}{RECORD_SUFFIX}").write_bytes(seal_record(own, KEY, samples))
    return Laid(folder, root / "operator.pem", campaign, known)


def noisy_node(
    campaign: Campaign, node_id: str, devices: int, plan: Profile, precisions: tuple[Any, ...], kind: str
) -> tuple[NodeRecord, bytes]:
    """Return a simulated node's record and samples, whose readings scatter as those of real sensors do."""
    script = dict(KINDS[kind])
    per_device = {str(i): {"power_mw": 640_000 + 4_000 * i, "noise_ppm": 800} for i in range(devices)}
    for name, changes in script.pop("devices", {}).items():
        per_device.setdefault(name, {}).update(changes)
    scenario = _scenario(script, per_device)
    simulated = simulate_node(scenario, devices, plan, precisions, node_id, campaign)
    rng = random.Random(hashlib.sha256(kind.encode()).hexdigest())
    rows = [row._replace(value=_scattered(row, rng)) for row in simulated.rows]
    return simulated.record, samples_gz(rows)


def _scenario(script: dict[str, Any], per_device: dict[str, Any]) -> Any:
    import msgspec

    from bench.scenario import Scenario
    from tests.bench.fleet import CACHE_BYTES

    return msgspec.convert({"default": script, "devices": per_device, "cache_bytes": CACHE_BYTES}, Scenario)


def _scattered(row: SampleRow, rng: random.Random) -> Any:
    noise = NOISE.get(row.quantity)
    return row.value if noise is None else max(0, round(int(row.value) + rng.gauss(0, noise)))
