"""What a campaign will take: time, energy and the step of power on the grid. Pure, from the profile and the roster."""

from __future__ import annotations

import msgspec

from bench.record import Campaign, Profile
from bench.record.folder import Roster

SECOND_NS = 10**9
PREPARE_NS = 120 * SECOND_NS  # operands, trials: a guess, said as one
CONCLUDE_NS = 60 * SECOND_NS
HOST_MW = 800_000  # of one node beside its accelerators: processors, memory, fans; a guess, said as one


class Estimate(msgspec.Struct, frozen=True):
    """What a campaign will take. Power is null where the ratings of a pool's devices are not known beforehand."""

    nodes: int
    devices: int | None
    left_out: int
    duration_ns: int  # from the start of preparation to the last record
    load_ns: int  # of it, under full load
    ramp_ns: int
    peak_power_mw: int | None
    step_mw_per_s: int | None  # the steepest rise of power, averaged over the ramp
    energy_j: int | None

    def lines(self) -> list[str]:
        """Return the estimate for people."""
        devices = "an unknown number of" if self.devices is None else f"{self.devices:,}"
        lines = [
            f"nodes      {self.nodes:,} with {devices} devices, all at once; {self.left_out} left out",
            f"duration   about {self.duration_ns / 60e9:.0f} min, {self.load_ns / 60e9:.1f} min of it under full load",
        ]
        if self.peak_power_mw is None or self.energy_j is None or self.step_mw_per_s is None:
            return [*lines, "power      not known: give the devices' power with --device-watts POOL=WATTS"]
        ramp = f"over a ramp of {self.ramp_ns / 1e9:g} s" if self.ramp_ns else "at once (no --ramp)"
        return [
            *lines,
            f"power      about {_scaled(self.peak_power_mw / 1e6, 'W')} at the peak, {ramp}",
            f"step       {_scaled(self.step_mw_per_s / 1e6, 'W/s')} on the grid",
            f"energy     about {_scaled(self.energy_j / 3.6e6, 'Wh')}",
        ]


def estimate(campaign: Campaign, profile: Profile, roster: Roster) -> Estimate:
    """Return what a campaign will take, with each device at its rated power and each host at a guess."""
    loads = [window.closes_ns + profile.guard_ns - window.load_ns for window in campaign.windows]
    companions_ns = sum(profile.accompanied_ns(window.workload) for window in campaign.windows)
    load_ns = sum(loads) + companions_ns
    duration_ns = PREPARE_NS + campaign.closes_ns + profile.guard_ns + companions_ns + CONCLUDE_NS
    nodes = {pool.pool: sum(node.pool == pool.pool for node in roster.nodes) for pool in roster.pools}
    used = [pool for pool in roster.pools if nodes[pool.pool]]
    devices = power = None
    if all(pool.devices_per_node is not None for pool in used):
        devices = sum(nodes[pool.pool] * (pool.devices_per_node or 0) for pool in used)
        if all(pool.power_mw is not None for pool in used):
            power = sum(
                nodes[pool.pool] * (HOST_MW + (pool.devices_per_node or 0) * (pool.power_mw or 0)) for pool in used
            )
    return Estimate(
        nodes=len(roster.nodes),
        devices=devices,
        left_out=len(roster.left_out),
        duration_ns=duration_ns,
        load_ns=load_ns,
        ramp_ns=campaign.ramp_ns,
        peak_power_mw=power,
        step_mw_per_s=None if power is None else power * SECOND_NS // max(SECOND_NS, campaign.ramp_ns),
        energy_j=None if power is None else power * load_ns // 10**12,
    )


def _scaled(kilo: float, unit: str) -> str:
    """Return a quantity in thousands of a unit, or in millions where it is as large."""
    return f"{kilo / 1000:.2f} M{unit}" if kilo >= 1000 else f"{kilo:.1f} k{unit}"
