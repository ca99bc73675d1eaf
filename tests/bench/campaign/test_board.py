"""What a campaign looks like at a moment: places, sums against thresholds, who is late and who is slow."""

from __future__ import annotations

import io
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from rich.console import Console

from bench.campaign import show
from bench.campaign.board import OVER, PLACES, CampaignProgress, Overview, Place, overview, place_of, silent_ns
from bench.campaign.node.reporter import sums_of
from bench.record import ExpectedPool
from bench.record.campaign import network_windows
from bench.record.judged import Explained
from bench.record.roster import ThresholdTarget
from bench.record.status import NodeFacts, Published, ReportedSums, State, Status
from tests.bench.campaigns import PROFILE, SECOND_NS, at, campaign_of, done, node_id, pool_of, roster_of, told
from tests.bench.fleet import BEGIN_NS
from tests.certify.measured import simulated

STARTS = Published(at(100), at(85), 4)
STATES: tuple[State, ...] = get_args(State)


def view_of(
    nodes: int,
    known: dict[str, Status] | list[Status],
    second: float = 100,
    published: Published | None = STARTS,
    lost: set[str] | frozenset[str] = frozenset(),
    ramp_s: float = 0,
    **roster: Any,
) -> Overview:
    campaign = campaign_of(nodes, ramp_s)
    told_by = known if isinstance(known, dict) else {status.node_id: status for status in known}
    now = BEGIN_NS + int(second * SECOND_NS)
    return overview(roster_of(campaign, **roster), campaign, CampaignProgress(told_by, published, lost), now)


def phase_of(second: float, *known: Status, **more: Any) -> str:
    """Return the phase of a campaign of two nodes that has not started."""
    campaign = campaign_of(2)
    told_by = {status.node_id: status for status in known}
    now = BEGIN_NS + int(second * SECOND_NS)
    return overview(roster_of(campaign), campaign, CampaignProgress(told_by, **more), now).phase


def test_what_is_over_says_so_and_how() -> None:
    assert phase_of(10, waiting=("pool main: job 7 waits",)) == "waiting in the engine's queue"
    assert phase_of(10, told(0, "ready")) == "waiting for all nodes to be ready"
    assert phase_of(3601, told(0, "ready")) == f"is over: it was to start until {at(3600)}, and did not"
    assert phase_of(10, told(0, "aborted"), ended="it was aborted") == "is over: it was aborted"
    late = {"published": STARTS}
    assert phase_of(90, told(0, "ready"), ended="it was aborted", **late) == "is over: it was aborted"
    told_of_one = "is over: every node that took part has ended; 1 of 2 never reported"
    assert phase_of(600, done(0, 10**6), **late) == told_of_one
    assert phase_of(600, told(0, "concluding"), **late) == "windows are over; records are being written"
    assert phase_of(600, done(0, 10**6), told(1, "failed"), **late) == "is over: every node has ended"


# --- places ---


@pytest.mark.parametrize(
    ("status", "lost", "place"),
    [
        (None, False, "expected"),
        (None, True, "lost"),
        (told(0, "checked"), False, "expected"),
        (told(0, "arrived"), False, "arrived"),
        (told(0, "measuring"), True, "lost"),
        (told(0, "failed"), False, "failed"),
        (told(0, "aborted"), False, "aborted"),
        (done(0, 7), False, "done"),
        (done(0, 7), True, "done"),  # its record is there, whoever was lost meanwhile
        (done(0, 0, devices=0), False, "void"),
        (done(0, 7, workload="fp64"), False, "void"),  # nothing of what counts in its pool
        (told(0, "done"), False, "void"),
    ],
)
def test_places(status: Status | None, lost: bool, place: Place) -> None:
    assert place_of(status, lost, ("fp16",)) == place


@given(st.lists(st.tuples(st.sampled_from([None, *STATES]), st.booleans()), min_size=1, max_size=12))
def test_every_node_has_exactly_one_place(nodes: list[tuple[State | None, bool]]) -> None:
    known = {node_id(i): told(i, state) for i, (state, _) in enumerate(nodes) if state is not None}
    lost = {node_id(i) for i, (_, gone) in enumerate(nodes) if gone}
    view = view_of(len(nodes), known, lost=lost)
    assert sum(view.places.values()) == view.expected == len(nodes)
    assert {place: sum(line.place == place for line in view.nodes) for place in PLACES} == view.places
    assert view.is_over == all(line.place in OVER for line in view.nodes)
    assert view.missing == sum(view.places[place] for place in ("expected", "failed", "aborted", "lost"))


def test_nobody_has_told_anything() -> None:
    view = view_of(3, [], published=None)
    assert (view.places["expected"], view.missing, view.is_over, view.starts_at) == (3, 3, False, None)
    assert view.phase == "no node has told anything yet"
    assert view.left_out == 1


# --- sums ---


def test_sums_are_of_what_counts_in_each_node_s_pool() -> None:
    campaign = campaign_of(4, pools="aabb")
    pools = (pool_of("a"), pool_of("b", pool_class="supercomputing", workload="fp64"))
    targets = (
        ThresholdTarget("p/one", ("intelligent",), 1000),
        ThresholdTarget("p/both", ("intelligent", "supercomputing"), 1000),
        ThresholdTarget("p/none", ("edge",), 1000),
    )
    roster = roster_of(campaign, pools, targets=targets)
    both = {"fp16": ReportedSums(2, 100, 0, 0), "fp64": ReportedSums(2, 7, 1, 0)}
    known = {node_id(i): told(i, "done", sums=both) for i in range(3)}
    known[node_id(3)] = told(3, "measuring", sums=both)
    view = overview(roster, campaign, CampaignProgress(known, STARTS), BEGIN_NS)
    assert view.certified_mflop_s == {"intelligent": 200, "supercomputing": 7}
    assert [(a.name, a.certified_mflop_s, a.threshold_mflop_s) for a in view.against] == [
        ("p/one", 200, 1000),
        ("p/both", 207, 1000),
        ("p/none", 0, 1000),
    ]


@pytest.mark.parametrize(("sum_mflop_s", "shown"), [(1_999_999_999_999, "99.9 %"), (2 * 10**12, "100.0 %")])
def test_a_share_is_never_rounded_up(sum_mflop_s: int, shown: str) -> None:
    view = view_of(1, [done(0, sum_mflop_s)])
    (line,) = [line for line in show.lines(view) if line.startswith("against")]
    assert shown in line
    assert ("2,000.0 of" in line or "2000.0 of" in line) == (sum_mflop_s == 2 * 10**12)


def test_no_sum_holds_what_collecting_will_refuse() -> None:
    facts = NodeFacts(2, (), (), "kernel", 1, 10**12, (), device_ids={"s1": "serial of cuda:0"})
    other = replace(facts, device_ids={"s1": "uuid of cuda:1"})
    known = [
        replace(done(0, 100), facts=facts),
        done(1, 10),
        replace(told(2, "measuring", rate_mflop_s=5, workload="fp16"), facts=other),
        told(3, "measuring", rate_mflop_s=7, workload="fp16"),
        replace(told(4, "failed"), facts=facts),
    ]
    view = view_of(5, known)
    assert [line.place for line in view.nodes] == ["void", "done", "measuring", "measuring", "failed"]
    assert view.certified_mflop_s == {"intelligent": 10}
    assert view.live_mflop_s == {"fp16": 7}
    assert view.nodes[0].message == "the serial of cuda:0 is the uuid of cuda:1 of n2 too [duplicate-device]"
    del known[2]
    assert view_of(5, known).certified_mflop_s == {"intelligent": 110}  # one record of the device can be collected


# --- late and slow ---


@pytest.mark.parametrize(("ready", "late"), [(99, False), (100, False), (100.5, True)])
def test_late_is_ready_after_its_slot(ready: float, late: bool) -> None:
    assert view_of(1, [told(0, "measuring", 110, ready)], 110).nodes[0].late is late
    assert view_of(1, [told(0, "ready", 99, ready)], 99, published=None).late == 0


def test_a_node_with_a_later_slot_is_late_later() -> None:
    known = [told(i, "measuring", 140, 110) for i in range(4)]
    view = view_of(4, known, 140, ramp_s=40)
    assert [line.late for line in view.nodes] == [True, False, False, False]  # slots at 100, 110, 120, 130 s
    assert view.late == 1


def test_stragglers_by_rate() -> None:
    rates = [100, 100, 100, 89, 90]
    known = [
        told(i, "measuring", 110, 90, rate_mflop_s=rate, workload="fp16", phase="load") for i, rate in enumerate(rates)
    ]
    known.append(told(5, "measuring", 110, 90, rate_mflop_s=10, workload="fp16", phase="warm-up"))  # another phase
    known.append(told(6, "ready", 110, 90, rate_mflop_s=1, workload="fp16", phase="load"))
    view = view_of(7, known, 110)
    assert {line.name: line.straggler for line in view.nodes if line.straggler} == {
        "n3": "at 89 % of its pool's median"
    }
    assert view.live_mflop_s == {"fp16": sum(rates) + 10}  # what is under load, whatever the phase; not who waits


def test_stragglers_that_hold_up_the_others() -> None:
    for still, expected in ((1, {"n0"}), (2, set())):
        known = [told(i, "ready" if i >= still else "preparing", 50, 50) for i in range(10)]
        view = view_of(10, known, 50, published=None)
        assert {line.name for line in view.nodes if line.straggler} == expected


# --- phases ---


def test_phases_of_the_networks_runs() -> None:
    campaign = campaign_of(1)
    campaign = replace(campaign, network=network_windows(PROFILE, campaign.windows))
    first, last = campaign.network[0], campaign.network[-1]

    def phase(after_ns: int) -> str:
        progress = CampaignProgress({node_id(0): told(0, "concluding")}, STARTS)
        return overview(roster_of(campaign), campaign, progress, BEGIN_NS + 100 * SECOND_NS + after_ns).phase

    meeting = 'figures are measured; devices meet for the network\'s run "compute", which begins in'
    assert phase(campaign.closes_ns + SECOND_NS).startswith(meeting)
    left = (first.closes_ns - first.opens_ns) // SECOND_NS
    assert phase(first.opens_ns) == f'the network\'s share is measured, run "compute", {left} s left'
    assert 'run "fabric"' in phase(last.closes_ns - 1)
    assert phase(last.closes_ns) == "windows are over; records are being written"


def test_phases() -> None:
    (window,) = campaign_of(1).windows
    opens, closes = 100 + window.opens_ns / SECOND_NS, 100 + window.closes_ns / SECOND_NS
    for second, phase in (
        (95, "starts in 6 s"),
        (100, "warming up for fp16"),
        (opens, "measuring fp16"),
        (closes - 0.5, "measuring fp16, 0 s left"),
        (closes, "windows are over; records are being written"),
    ):
        assert view_of(1, [], second).phase.startswith(phase)
    assert view_of(1, []).ends_at == at(closes)


# --- many ---


def test_ten_thousand_nodes() -> None:
    nodes = 10_000
    known = {node_id(i): done(i, 1000 + i) for i in range(nodes - 3)}
    known[node_id(nodes - 1)] = told(nodes - 1, "failed", message="out of memory")
    view = view_of(nodes, known, lost={node_id(nodes - 2)})
    assert view.places["done"] == nodes - 3
    assert view.certified_mflop_s == {"intelligent": sum(1000 + i for i in range(nodes - 3))}
    assert view.missing == 3
    assert len(show.lines(view)) < 10
    assert len(msgspec.json.encode(view)) < 3 * 2**20
    many = view_of(nodes, {node_id(i): told(i, "failed", message="no device") for i in range(nodes)})
    assert many.is_over
    assert f"  and {nodes - show.SHOWN} more; see --json" in show.lines(many)


def test_silence_is_measured_in_heartbeats() -> None:
    assert silent_ns(roster_of(campaign_of(1), heartbeat_ns=SECOND_NS)) == 30 * SECOND_NS
    assert silent_ns(roster_of(campaign_of(1), heartbeat_ns=50 * SECOND_NS)) == 300 * SECOND_NS


# --- what is shown ---


def test_the_table_and_the_lines_show_the_same() -> None:
    view = view_of(3, [done(0, 3 * 10**11), told(1, "failed", message="[bold]no device[/bold]")], lost={node_id(2)})
    console = Console(width=150, file=io.StringIO())
    console.print(show.table(view))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    for part in ("300.0 of 2,000.0 PFLOPS", "n1: failed: [bold]no device[/bold]", "n2: lost", view.phase):
        assert part in text
    lines = show.lines(view)
    assert "nodes      3 expected: 1 done, 1 failed, 1 lost; 0 late, 1 left out" in lines
    assert "  n1: failed: [bold]no device[/bold]" in lines


def test_where_nobody_looks_a_launch_says_each_phase_once(capsys: pytest.CaptureFixture[str]) -> None:
    with show.Live(quiet=False) as live:
        for second in (90, 95, 100, 101, 102, 110, 300):
            live.show(view_of(1, [], second))
        live.remark("n0 is heard of again")
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "warming up for fp16",
        "measuring fp16",
        "windows are over; records are being written",
        "n0 is heard of again",
    ]
    with show.Live(quiet=True) as live:
        live.show(view_of(1, []))
        live.remark("nothing")
    assert capsys.readouterr().err == ""


def test_a_mixed_node_adds_to_the_classes_of_all_its_pools() -> None:
    campaign = campaign_of(2, pools=["ai"] * 2)
    hpc = pool_of("hpc", pool_class="supercomputing", workload="fp64")
    roster = roster_of(campaign, (pool_of("ai"), hpc))
    roster = replace(roster, nodes=(replace(roster.nodes[0], also=("hpc",)), roster.nodes[1]))
    sums = {"fp16": ReportedSums(2, 700, 0, 0), "fp64": ReportedSums(1, 60, 0, 0)}
    known = {node_id(0): replace(done(0, 0), sums=sums), node_id(1): replace(done(1, 0), sums=sums)}
    view = overview(roster, campaign, CampaignProgress(known, STARTS), BEGIN_NS + 200 * SECOND_NS)
    assert view.certified_mflop_s == {"intelligent": 1400, "supercomputing": 60}  # the second one's are shown only
    known = {
        node_id(0): replace(
            known[node_id(0)], sums={"fp16": ReportedSums(0, 0, 0, 2), "fp64": ReportedSums(1, 60, 0, 0)}
        )
    }
    view = overview(roster, campaign, CampaignProgress(known, STARTS), BEGIN_NS + 200 * SECOND_NS)
    assert view.nodes[0].place == "done"


def test_a_mixed_node_sums_what_counts_in_the_pool_of_each_device() -> None:
    record = simulated(3, "smoke", ("fp16", "fp64")).record
    figures = {(one.device, str(m.workload)): one for m in record.measurements for one in m.figures()}
    judged = {key: Explained({}, "silicon", None, None) for key in figures}
    campaign = campaign_of(1, pools=["ai"])
    devices = {"ai": ("fake:0",), "hpc": ("fake:1",)}
    pools = tuple(ExpectedPool(pool=name, devices=own, workloads=("fp16", "fp64")) for name, own in devices.items())
    campaign = replace(campaign, pools=pools, nodes=(replace(campaign.nodes[0], also=("hpc",)),))
    roster = roster_of(campaign, (pool_of("ai"), pool_of("hpc", pool_class="supercomputing", workload="fp64")))
    node = replace(roster.nodes[0], also=("hpc",))
    sums = sums_of(record, judged, campaign, node, roster)
    assert sums == {
        name: ReportedSums(1, figures[device, name].certified_mflop_s, 0, 0)
        for device, name in (("fake:0", "fp16"), ("fake:1", "fp64"))
    }
