"""A node of scripted devices measured in simulated time, by the real loop, in the test's own process."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec
from msgspec.structs import replace

from bench.clock import SimulatedClock
from bench.devices.fake import Fake
from bench.engine.assemble import RecordParts, Shares, node_record, samples_gz
from bench.engine.compute import DeviceRequest, failure_of
from bench.engine.measure import SampleRow
from bench.engine.schedule import self_issued, utc_window
from bench.engine.session import Result, Session
from bench.environment import worst_switches
from bench.profile import load_profile
from bench.record import Campaign, Failure, NodeClock, NodeRecord, Profile, Workload
from bench.record.fields import workload_of
from bench.record.node import FailureCode
from bench.reference.measurements import ReferenceResult
from bench.scenario import Scenario
from bench.units import utc_ns

FIXED = replace(load_profile("standard"), tuned_shapes={})  # half the work of `standard`
SPKI = "MCowBQYDK2VwAyEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
NODE = "node-0123456789ab"
CACHE_BYTES = 2**20  # so that a small shape has few operand sets, each of which is verified with real products
BEGIN_NS = 1_772_352_000_000_000_000  # 2026-03-01T08:00:00Z


@dataclass(frozen=True)
class Simulated:
    """What a simulated node leaves: its record and its samples."""

    record: NodeRecord
    rows: list[SampleRow]

    @cached_property
    def samples(self) -> bytes:
        return samples_gz(self.rows)


def workloads_in(profile: Profile, precisions: Sequence[str]) -> tuple[Workload, ...]:
    """Return each precision in the fixed shape and, where the profile has a list of them, in the tuned.

    A solve is named by its text, such as fp64-solve.
    """
    named = (workload_of(text) for text in precisions)
    both = ((one, Workload(one.precision, "tuned")) if one.choice == "fixed" else (one,) for one in named)
    return tuple(workload for workloads in both for workload in workloads if profile.registered(workload))


def simulate_node(
    scenario: Scenario | Mapping[str, Any] | None = None,
    devices: int = 1,
    profile: str | Profile = FIXED,
    precisions: tuple[str, ...] = ("fp16", "fp64"),
    node_id: str = NODE,
    campaign: Campaign | None = None,
    *,
    drift_ppm: int = 0,
    begin_ns: int = BEGIN_NS,
) -> Simulated:
    """Measure fakes with the real loop under simulated time: about 20 ms for each device and precision.

    Args:
        scenario: what the fakes do; a mapping is taken as the script of all of them (`bench.scenario.Script`).
        devices: how many.
        profile: by name, or as it is.
        precisions: to measure; those of the campaign's windows where there is one.
        node_id: of the node.
        campaign: None for one that the node issues itself.
        drift_ppm: how much faster UTC runs than the monotonic clock.
        begin_ns: when a node without a campaign arrives; with one it arrives a minute before that may start.
    """
    if not isinstance(scenario, Scenario):
        scenario = msgspec.convert({"default": dict(scenario or {}), "cache_bytes": CACHE_BYTES}, Scenario)
    plan = profile if isinstance(profile, Profile) else load_profile(profile)
    backend = Fake(scenario)
    found = backend.find(str(devices))
    challenge = campaign.challenge if campaign else hashlib.sha256(node_id.encode()).hexdigest()
    given = campaign or self_issued(plan, workloads_in(plan, precisions), node_id, challenge, begin_ns + 60 * 10**9)
    starts_ns = utc_ns(given.starts_from)
    begin_ns = starts_ns - 60 * 10**9
    wanted = tuple(window.workload for window in given.windows)
    results: list[Result] = []
    failures: list[Failure] = []
    references: list[ReferenceResult] = []
    rows: list[SampleRow] = []
    libraries: dict[str, str] = {}
    switches: dict[str, str] = {}
    for slot, one in enumerate(found):
        clock = SimulatedClock(begin_ns, drift_ppm)
        session = Session(DeviceRequest(one, plan, challenge, node_id), backend.open(one, clock), clock)
        figures, troubles = _measure_device(session, plan, given, node_id, slot)
        results += figures
        failures += [
            Failure(device=one.device.device, precision=w.precision, choice=w.choice, code=code, detail=detail)
            for w, (code, detail) in troubles.items()
        ]
        rows += session.rows
        references += session.references
        switches = worst_switches(switches, session.compute.switches())
        libraries |= session.compute.libraries()
    node_clock = NodeClock(source="self", uncertainty_ns=0) if given.self_issued else backend.node_clock()
    assert node_clock is not None
    facts = RecordParts(
        node_id=node_id,
        signer_spki=SPKI,
        profile=plan,
        campaign=given,
        starts_ns=starts_ns,
        started_ns=begin_ns,
        ready_ns=begin_ns,
        ended_ns=max(begin_ns + 3600 * 10**9, starts_ns + given.windows[-1].closes_ns + 60 * 10**9),
        clock=node_clock,
        libraries=libraries,
        switches=switches,
        devices=found,
        results=results,
        references=references,
        failures=failures,
        shares={workload: Shares(0, 1_000) for workload in wanted},
        rows=rows,
    )
    return Simulated(node_record(facts), rows)


def simulate(
    scenario: Scenario | Mapping[str, Any] | None = None,
    devices: int = 1,
    profile: str | Profile = FIXED,
    precisions: tuple[str, ...] = ("fp16", "fp64"),
    node_id: str = NODE,
    campaign: Campaign | None = None,
) -> NodeRecord:
    """Return the record of `simulate_node`."""
    return simulate_node(scenario, devices, profile, precisions, node_id, campaign).record


def _measure_device(
    session: Session, plan: Profile, campaign: Campaign, node_id: str, place: int
) -> tuple[list[Result], dict[Workload, tuple[FailureCode, str]]]:
    """Do what a worker does; one that hangs or dies takes with it what it had not handed over."""
    wanted = tuple(window.workload for window in campaign.windows)
    troubles: dict[Workload, tuple[FailureCode, str]] = {}
    for done, workload in enumerate(wanted):
        try:
            session.prepare(workload, len(wanted) - done)
        except Exception as error:
            troubles[workload] = failure_of(error)
    for window in campaign.windows:
        if window.workload in troubles:
            continue
        try:
            own = utc_window(window, plan, utc_ns(campaign.starts_from), campaign.slot_ns(node_id), place)
            session.measure(window.workload, own)
            session.measure_references(window.workload, own)
        except Exception as error:
            code, detail = failure_of(error)
            if code in ("device-hung", "device-lost"):
                return [], {w: troubles.get(w, (code, detail)) for w in wanted}
            troubles[window.workload] = code, detail
    return [session.conclude(workload) for workload in wanted if workload not in troubles], troubles
