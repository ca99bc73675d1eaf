"""What a measurement will take: time, cards, energy and the step of power on the grid. Pure, from profile and pools.

The times of preparation are those of 8 H200 on a node of 96 cores (85 s) and in a pod of 16 (160 s), with an
`intelligent` node's one workload; what a node really takes stands in its record (`started_at`, `ready_at`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal, NamedTuple

import msgspec
from msgspec.structs import replace

from bench.record import Campaign, Profile, Window
from bench.record.campaign import BEFORE_THE_NEXT_WINDOW, LEAD_NS, load_ends_ns
from bench.record.roster import Roster, RosterNode
from bench.units import SECOND_NS

PREPARE_NS = 70 * SECOND_NS  # to start the processes and the libraries, and the references of the checks
OPERANDS_CORE_NS = 180 * SECOND_NS  # of one core, for the operands and trials of one workload on one device
FP64_NS = 80 * SECOND_NS  # more for FP64, whose references and products the host computes in FP64 too
USUAL_CORES = 2  # of the host for one device, where nobody says: a small pod
SEEN_NS = 2 * SECOND_NS  # until the coordinator sees that all nodes are ready
USUAL_LEAD_NS = 15 * SECOND_NS  # from then to T0
CONCLUDE_NS = 20 * SECOND_NS  # check on the host, record
# In a smoke campaign CPUs have small shapes, and simulated devices never compute much: seconds on two cores.
PREPARE_LIGHT_NS = 6 * SECOND_NS
OPERANDS_CPU_NS = 3 * SECOND_NS  # of one workload on a CPU
CONCLUDE_LIGHT_NS = 2 * SECOND_NS
RECORD_BYTES = 2**20  # of a node's record and status, and of the digests in its samples, with room
READING_BYTES = 12 * 8  # of one look at a device: quantities, and what compressed samples take for a value
USUAL_DEVICES = 8  # of a node, where nobody says
HOST_MW = 800_000  # of one node beside its accelerators: processors, memory, fans; a guess, said as one


Kind = Literal["accelerator", "cpu", "simulated"]


def kind_of(devices: str) -> Kind:
    """Return what a pool's devices are, by how they are named, such as "fake:8"; accelerators where that is open."""
    kinds = {name.strip().partition(":")[0] for name in devices.split(",")}
    return "simulated" if kinds == {"fake"} else "cpu" if kinds == {"cpu"} else "accelerator"


class Load(NamedTuple):
    """The nodes of one pool, as far as their load is concerned."""

    nodes: int
    devices: int | None  # of a node; None where it is not known
    power_mw: int | None  # rated, of one device
    windows: tuple[Window, ...]  # in which they take part
    cores: int | None = None  # of a node
    kind: Kind = "accelerator"


class Estimate(msgspec.Struct, frozen=True):
    """What a measurement will take. Power is null where the ratings of a pool's devices are not known beforehand."""

    nodes: int
    devices: int | None
    left_out: int
    duration_ns: int  # from the start of preparation to the last record
    prepare_ns: int  # of it, until all devices are ready
    load_ns: int  # of it, under full load
    device_s: int | None  # how long each device is taken, over all of them
    ramp_ns: int
    peak_power_mw: int | None
    step_mw_per_s: int | None  # the steepest rise of power, averaged over the ramp
    energy_j: int | None
    unknown_power: tuple[str, ...] = ()  # pools whose devices' power is not known

    def lines(self, unknown: str | None = None) -> list[str]:
        """Return the estimate as printed lines.

        Args:
            unknown: what to do where the power is not known; None for a campaign.
        """
        if unknown is None:
            pools = " ".join(f"--device-watts {pool}=WATTS" for pool in self.unknown_power or ("POOL",))
            unknown = f"give the devices' power with {pools}"
        devices = "an unknown number of" if self.devices is None else f"{self.devices:,}"
        lines = [
            f"nodes      {self.nodes:,} with {devices} devices, all at once; {self.left_out} left out",
            f"duration   about {self.duration_ns / 60e9:.1f} min, {self.prepare_ns / 60e9:.1f} min of it to prepare,"
            f" {self.load_ns / 60e9:.1f} min under full load",
        ]
        if self.device_s is not None:
            lines.append(f"cards      about {self.device_s / 3600:,.1f} card hours")
        if self.peak_power_mw is None or self.energy_j is None or self.step_mw_per_s is None:
            return [*lines, f"power      not known, nor the energy: {unknown}"]
        ramp = f"over a ramp of {self.ramp_ns / 1e9:g} s" if self.ramp_ns else "at once (no --ramp)"
        return [
            *lines,
            f"power      about {_scaled(self.peak_power_mw / 1e6, 'W')} at the peak, {ramp}",
            f"step       {_scaled(self.step_mw_per_s / 1e6, 'W/s')} on the grid",
            f"energy     about {_scaled(self.energy_j / 3.6e6, 'Wh')}",
        ]


def estimate(
    campaign: Campaign,
    profile: Profile,
    roster: Roster,
    kinds: Mapping[str, Kind] = MappingProxyType({}),
    lead_ns: int = USUAL_LEAD_NS,
) -> Estimate:
    """Return what a campaign will take, with each device at its rated power and each host at a guess.

    Args:
        campaign: signed.
        profile: that it names.
        roster: its nodes and pools.
        kinds: pool -> what its devices are, where more is known than how they are named.
        lead_ns: from the moment when all nodes are ready to T0.
    """
    alike: dict[tuple[str, ...], list[RosterNode]] = {}  # by their pools
    for node in roster.nodes:
        alike.setdefault(node.pools, []).append(node)
    loads = []
    for nodes in alike.values():
        pool, its_windows = roster.pool_of(nodes[0]), campaign.windows_of(nodes[0].node_id)
        kind = kinds.get(pool.pool, kind_of(pool.device))
        loads.append(Load(len(nodes), pool.devices_per_node, pool.power_mw, its_windows, kind=kind))
    used = {node.pool for node in roster.nodes}
    unknown = tuple(pool.pool for pool in roster.pools if pool.power_mw is None and pool.pool in used)
    return replace(estimate_of(campaign, profile, loads, len(roster.left_out), lead_ns), unknown_power=unknown)


def estimate_of(
    campaign: Campaign,
    profile: Profile,
    loads: Sequence[Load],
    left_out: int = 0,
    lead_ns: int = USUAL_LEAD_NS,
) -> Estimate:
    """Return what a measurement of some pools' nodes will take."""
    prepare_ns = max(_prepare_ns(load, _is_light(load, profile)) for load in loads)
    agree_ns = LEAD_NS if campaign.self_issued else SEEN_NS + lead_ns
    network_ends_ns = load_ends_ns(campaign, profile) if campaign.network else 0  # for all, whatever they measured
    taken_ns = [
        prepare_ns + agree_ns + max(network_ends_ns, _ends_ns(profile, load.windows) + _conclude_ns(load, profile))
        for load in loads
    ]
    network_load_ns = sum(window.closes_ns - window.load_ns for window in campaign.network)
    under_load_ns = [_load_ns(profile, load.windows) + network_load_ns for load in loads]
    devices = device_s = power = energy = None
    if all(load.devices is not None for load in loads):
        devices = sum(load.nodes * (load.devices or 0) for load in loads)
        device_s = sum(
            load.nodes * (load.devices or 0) * ns // SECOND_NS for load, ns in zip(loads, taken_ns, strict=True)
        )
        if all(load.power_mw is not None for load in loads):
            powers = [load.nodes * (HOST_MW + (load.devices or 0) * (load.power_mw or 0)) for load in loads]
            power = max(
                sum(mw for mw, load in zip(powers, loads, strict=True) if window in load.windows)
                for window in campaign.windows
            )
            energy = sum(mw * ns for mw, ns in zip(powers, under_load_ns, strict=True)) // 10**12
    return Estimate(
        nodes=sum(load.nodes for load in loads),
        devices=devices,
        left_out=left_out,
        duration_ns=max(taken_ns),
        prepare_ns=prepare_ns,
        load_ns=_load_ns(profile, campaign.windows) + network_load_ns,
        device_s=device_s,
        ramp_ns=campaign.ramp_ns,
        peak_power_mw=power,
        step_mw_per_s=None if power is None else power * SECOND_NS // max(SECOND_NS, campaign.ramp_ns),
        energy_j=energy,
    )


def room_bytes(campaign: Campaign, profile: Profile, devices: int | None) -> int:
    """Return what a node writes into the shared folder at most, bytes: 2.5 MB for a certification of 8 devices."""
    references_ns = sum(profile.references_ns(window.workload) for window in campaign.windows)
    readings = (campaign.closes_ns + profile.guard_ns + references_ns) // profile.telemetry_interval_ns
    return RECORD_BYTES + readings * (devices or USUAL_DEVICES) * READING_BYTES


def _is_light(load: Load, profile: Profile) -> bool:
    """Return whether a node prepares little: simulated devices, and CPUs in a smoke campaign."""
    return load.kind == "simulated" or (load.kind == "cpu" and profile.grade == "smoke")


def _prepare_ns(load: Load, is_light: bool) -> int:
    """Return how long a node's devices take to be ready, each with its share of the host's cores, ns."""
    if is_light:
        return PREPARE_LIGHT_NS + (OPERANDS_CPU_NS * len(load.windows) if load.kind == "cpu" else 0)
    devices = load.devices or 1
    cores = load.cores or USUAL_CORES * devices
    operands_ns = len(load.windows) * OPERANDS_CORE_NS * devices // cores
    return PREPARE_NS + operands_ns + FP64_NS * any(window.precision == "fp64" for window in load.windows)


def _conclude_ns(load: Load, profile: Profile) -> int:
    """Return how long a node takes from the end of its load to its record, ns."""
    return CONCLUDE_LIGHT_NS if _is_light(load, profile) else CONCLUDE_NS


def _load_ns(profile: Profile, windows: Sequence[Window]) -> int:
    """Return how long devices that take part in some windows are under load, ns."""
    core_ns = sum(window.closes_ns + profile.guard_ns - window.load_ns for window in windows)
    return core_ns + sum(profile.references_ns(window.workload) for window in windows)


def _ends_ns(profile: Profile, windows: Sequence[Window]) -> int:
    """Return when devices end their last load, ns after T0: second paths follow their window, the rest the last one."""
    references_ns = sum(profile.references_ns(window.workload) for window in windows)
    between_ns = sum(profile.references_ns(window.workload, BEFORE_THE_NEXT_WINDOW) for window in windows[:-1])
    return windows[-1].closes_ns + profile.guard_ns + references_ns - between_ns


def _scaled(kilo: float, unit: str) -> str:
    """Return a quantity in thousands of a unit, or in millions where it is as large."""
    return f"{kilo / 1000:.2f} M{unit}" if kilo >= 1000 else f"{kilo:.1f} k{unit}"
