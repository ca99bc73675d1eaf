"""A whole certification of eight simulated devices in simulated time, by the real sessions, judged by all rules.

A fake has no host time of its own: what it costs to prepare and to conclude is what `bench.campaign.estimate` says.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
import yaml
from msgspec.structs import replace

from bench.campaign.estimate import CONCLUDE_NS, Load, estimate_of
from bench.campaign.launch.plan import LaunchPlan
from bench.clock import SimulatedClock
from bench.devices.fake import Fake
from bench.engine.assemble import RecordParts, Shares, node_record, samples_gz
from bench.engine.compute import DeviceRequest
from bench.engine.schedule import preheats_ns, utc_window
from bench.engine.session import Result, Session
from bench.profile import load_profile
from bench.record import Campaign, ExpectedNode, ExpectedPool, NodeRecord, Workload
from bench.record.campaign import BEFORE_THE_NEXT_WINDOW, windows
from bench.scenario import Scenario
from bench.units import utc_ns
from certify.documents import dsse
from certify.documents.kinds import PAYLOAD_TYPE, make_document
from certify.documents.statement import CapacityStatement
from certify.fleet.readings import Scopes, judge_figures
from certify.judge.scope import Scope
from certify.keys.files import load_private, new_key
from certify.keys.signers import PrivateKey, load_scheme, spki_text
from certify.policy.policies import load_policy
from certify.policy.ratings import installed_ratings
from certify.statement.describe import judge_record
from tests.bench.fleet import CACHE_BYTES
from tests.certify import measured as m

SECOND_NS, MINUTE_NS = 10**9, 60 * 10**9
DEVICES = 8
CERTIFICATION = load_profile("certification")
FP16, FP64 = Workload("fp16"), Workload("fp64")
SCENARIO = msgspec.convert({"default": {}, "cache_bytes": CACHE_BYTES}, Scenario)


class Run(NamedTuple):
    """What a whole run of one node leaves, and how long it took."""

    record: NodeRecord
    samples: bytes
    elapsed_ns: int


def campaign_of(*pools: ExpectedPool, workloads: tuple[Workload, ...], ramp_ns: int = 0) -> Campaign:
    """Return a campaign of one node for each pool."""
    base = m.test_campaign(CERTIFICATION, ("fp16",), len(pools))
    nodes = tuple(ExpectedNode(node_id=m.node_name(i), pool=pool.pool) for i, pool in enumerate(pools))
    own = windows(CERTIFICATION, workloads, ramp_ns)
    return replace(base, windows=own, pools=pools, nodes=nodes, ramp_ns=ramp_ns)


def run(campaign: Campaign, place: int, cores: int, key: PrivateKey, starts_ns: int = 0) -> Run:
    """Run one node from its start to its record, with all that costs time; T0 is agreed once it is ready, or later."""
    node_id, own = m.node_name(place), campaign.windows_of(m.node_name(place))
    prepare_ns = estimate_of(campaign, CERTIFICATION, [Load(1, DEVICES, None, own, cores)]).prepare_ns
    found = Fake(SCENARIO).find(str(DEVICES))
    clocks = [SimulatedClock(m.BEGIN_NS) for _ in found]
    sessions = [
        Session(DeviceRequest(one, CERTIFICATION, campaign.challenge, node_id), Fake(SCENARIO).open(one, clock), clock)
        for one, clock in zip(found, clocks, strict=True)
    ]
    for session, clock in zip(sessions, clocks, strict=True):
        clock.sleep_ns(prepare_ns)
        for left, window in enumerate(reversed(own), 1):
            session.prepare(window.workload, left)
    ready_ns = max(clock.utc_ns() for clock in clocks)
    plan = LaunchPlan("local", ())
    starts_ns = max(starts_ns, -(-(ready_ns + plan.refresh_ns + plan.lead_ns) // SECOND_NS) * SECOND_NS)
    results: list[Result] = []
    for slot, (session, clock) in enumerate(zip(sessions, clocks, strict=True)):
        clock.sleep_ns(starts_ns - plan.lead_ns - clock.utc_ns())
        for window in own:
            whole = utc_window(window, CERTIFICATION, starts_ns, campaign.slot_ns(node_id), slot)
            begins_ns = preheats_ns(whole, campaign, CERTIFICATION, slot, clock.utc_ns())
            whole = replace(whole, preheats_ns=begins_ns)
            session.measure(window.workload, whole)
            session.measure_references(window.workload, whole, roles=BEFORE_THE_NEXT_WINDOW)
        results += [session.conclude(window.workload) for window in own]
        # a fake has no reference measurements: their time passes all the same
        clock.sleep_ns(sum(CERTIFICATION.references_ns(window.workload) for window in own) + CONCLUDE_NS)
    ended_ns = max(clock.utc_ns() for clock in clocks)
    node_clock = Fake(SCENARIO).node_clock()
    assert node_clock is not None
    rows = [row for session in sessions for row in session.rows]
    facts = RecordParts(
        node_id=node_id,
        signer_spki=spki_text(key.public),
        profile=CERTIFICATION,
        campaign=campaign,
        starts_ns=starts_ns,
        started_ns=m.BEGIN_NS,
        ready_ns=ready_ns,
        ended_ns=ended_ns,
        clock=node_clock,
        libraries={},
        switches=sessions[0].compute.switches(),
        devices=found,
        results=results,
        references=[],
        failures=[],
        shares={window.workload: Shares(0, 1_000) for window in own},
        rows=rows,
    )
    return Run(node_record(facts), samples_gz(rows), ended_ns - m.BEGIN_NS)


@pytest.mark.parametrize("cores", [pytest.param(96, marks=pytest.mark.long), 16])
def test_an_intelligent_node_is_certified_within_twenty_minutes(cores: int, tmp_path: Path) -> None:
    pool = ExpectedPool(pool="main", workloads=("fp16",))
    campaign, key = campaign_of(pool, workloads=(FP16,)), load_scheme("ed25519").generate()
    one = run(campaign, 0, cores, key)
    assert one.elapsed_ns <= 20 * MINUTE_NS
    expected = estimate_of(campaign, CERTIFICATION, [Load(1, DEVICES, None, campaign.windows, cores)])
    assert expected.duration_ns == pytest.approx(one.elapsed_ns, abs=20 * SECOND_NS)
    judged = judge_record(one.record, campaign, CERTIFICATION)
    assert len(judged) == DEVICES
    assert {effect for figure in judged.values() for effect in figure.effects.values()} <= {"note"}
    (measurement,) = one.record.measurements
    assert min(measurement.warmup_ns) > CERTIFICATION.warmup_ns - 4 * SECOND_NS
    assert all(10 * SECOND_NS < ns < 20 * SECOND_NS for ns in measurement.preheat_ns)  # from the publication of T0 on

    statement = certified(tmp_path, campaign, key, one)
    assert (statement.grade, statement.not_counted) == ("certification", ())
    assert statement.classes[0].counted.devices == DEVICES


@pytest.mark.long
def test_nodes_of_two_classes_measure_what_counts_in_theirs_alone(tmp_path: Path) -> None:
    """Nobody misses the other class's figures: not the judge, nor the statement, nor its verifier."""
    pools = ExpectedPool(pool="main", workloads=("fp16",)), ExpectedPool(pool="hpc", workloads=("fp64",))
    campaign, key = campaign_of(*pools, workloads=(FP16, FP64)), load_scheme("ed25519").generate()
    last = run(campaign, 1, 96, key)  # the node that is ready last
    runs = [run(campaign, 0, 96, key, utc_ns(last.record.starts_at)), last]
    assert [[str(x.workload) for x in one.record.measurements] for one in runs] == [["fp16"], ["fp64"]]
    for one in runs:
        judged = judge_record(one.record, campaign, CERTIFICATION)
        assert {effect for figure in judged.values() for effect in figure.effects.values()} <= {"note"}
    (preheat_s,) = {ns // SECOND_NS for ns in last.record.measurements[0].preheat_ns}
    assert preheat_s * SECOND_NS == CERTIFICATION.preheat_ns  # it is ready a whole window before its slot

    kinds = {"main": "intelligent", "hpc": "supercomputing"}
    lines = [
        {"pool": name, "class": kind, "nodes": [m.node_name(i)], "devices": "all"}
        for i, (name, kind) in enumerate(kinds.items())
    ]
    statement = certified(tmp_path, campaign, key, *runs, pools=lines)
    assert (statement.grade, statement.not_counted) == ("certification", ())
    assert {(str(c.pool_class), c.precision, c.counted.devices) for c in statement.classes} == {
        ("intelligent", "fp16", DEVICES),
        ("supercomputing", "fp64", DEVICES),
    }
    policies = (load_policy("guangzhou-2000p"),)
    scopes = Scopes(Scope.of_statement(statement, policies, CERTIFICATION, installed_ratings()))
    for place, one in enumerate(runs):
        seen = judge_figures(own_record(one, place, campaign, key), scopes, "00" * 32)
        assert (len(seen.passed), list(seen.not_counted)) == (DEVICES, [])


@pytest.mark.long
def test_a_campaign_with_a_ramp_has_no_preheating() -> None:
    pool = ExpectedPool(pool="main", workloads=("fp16",))
    campaign = campaign_of(pool, workloads=(FP16,), ramp_ns=15 * SECOND_NS)
    one = run(campaign, 0, 16, load_scheme("ed25519").generate())
    assert set(one.record.measurements[0].preheat_ns) == {0}
    assert one.elapsed_ns <= 20 * MINUTE_NS


def own_record(one: Run, place: int, campaign: Campaign, key: PrivateKey) -> NodeRecord:
    """Return a run's record with devices of its own."""
    return replace(m.of_node(one.record, place, campaign, key), pool=campaign.nodes[place].pool)


def certified(folder: Path, campaign: Campaign, key: PrivateKey, *runs: Run, **centre: object) -> CapacityStatement:
    """Lay out a measured centre, certify it, verify the statement, and return it."""
    new_key(folder / "operator.pem", None)
    (folder / "records").mkdir()
    for place, one in enumerate(runs):
        record = own_record(one, place, campaign, key)
        name = folder / "records" / record.node_id
        name.with_suffix(".record.dsse.json").write_bytes(m.seal_record(record, key, one.samples))
        name.with_suffix(".samples.csv.gz").write_bytes(one.samples)
    sealed = dsse.seal(make_document("campaign", campaign), PAYLOAD_TYPE, [load_private(folder / "operator.pem")])
    (folder / "campaign.dsse.json").write_bytes(sealed)
    (folder / "centre.yaml").write_text(yaml.safe_dump(m.centre_yaml(**centre), allow_unicode=True))
    laid = m.Measured.at(folder)
    started = runs[0].record.starts_at
    laid.close(campaign, starts_at=started, published_at=started)
    statement = laid.certify().statement
    report = laid.verify(samples=folder / "records")
    assert report.refusal is None
    return statement
