"""A signed claim is drawn from and measured again, with real signed files: what passes, what fails, what is refused."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import replace as changed
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from bench.errors import PetasealError
from bench.record import (
    Attempt,
    Campaign,
    Device,
    ExpectedNode,
    LeftOutNode,
    NodeRecord,
    Precision,
    config_path,
    digest,
)
from bench.units import utc_ns, utc_text
from certify.documents import dsse
from certify.documents.kinds import PAYLOAD_TYPE, make_document
from certify.documents.statement import CapacityStatement
from certify.fleet.findings import FleetReading
from certify.fleet.readings import Passed
from certify.fleet.spot_check_claims import SpotCheckRequest
from certify.fleet.spot_check_report import Draw, SpotCheckReport, SpotCheckResult
from certify.fleet.spot_check_run import draw_spot_check, judge_spot_check, matched, same_device
from certify.keys.files import load_private, new_key
from certify.statement.attendance import Absence, Attendance, write_attendance
from tests.certify.fleet.test_diagnose import scaled, void
from tests.certify.measured import Measured, measured, node_name, of_node, seal_record, simulated, withdraw
from tests.certify.signed import new_key as fresh_key

SEED = "0123456789abcdef" * 2
NODES, FRACTION_PPM = 10, 300_000
HOUR_NS = 3600 * 10**9
NODE_KEY = fresh_key()
Change = Callable[[str, NodeRecord], NodeRecord | None]


@dataclass(frozen=True)
class Audit:
    """A statement that is audited, and where the re-measurement lies."""

    centre: Measured
    request: SpotCheckRequest
    draw: Draw
    folder: Path

    @property
    def collected(self) -> Path:
        return self.folder / "collected"

    @property
    def campaign_file(self) -> Path:
        return self.folder / "campaign.dsse.json"

    def campaign(self, **changes: Any) -> Campaign:
        """Return the campaign of the spot check, an hour after the statement's issue."""
        opened_ns = utc_ns(statement_of(self).issue.issued_at) + HOUR_NS
        values: dict[str, Any] = {
            "campaign_id": "check-1",
            "purpose": "spot-check",
            "challenge": self.request.seed,
            "issued_at": utc_text(opened_ns),
            "starts_from": utc_text(opened_ns),
            "starts_until": utc_text(opened_ns + HOUR_NS),
            "nodes": tuple(node for node in statement_of(self).campaign.nodes if node.node_id in self.draw.nodes),
            "left_out": (),
            "series": "check-1",
        }
        return replace(statement_of(self).campaign, **(values | changes))

    def measure(
        self,
        change: Change = lambda node_id, record: record,
        precisions: tuple[Precision, ...] = ("fp16",),
        **changes: Any,
    ) -> Campaign:
        """Measure the drawn nodes again: write the signed campaign and the signed records."""
        campaign = self.campaign(**changes)
        self.collected.mkdir(parents=True, exist_ok=True)
        sealed = dsse.seal(make_document("campaign", campaign), PAYLOAD_TYPE, [load_private(self.centre.key)])
        self.campaign_file.write_bytes(sealed)
        starts_ns = utc_ns(campaign.starts_from)
        for node_id in (node.node_id for node in campaign.nodes):
            base = of_node(simulated(2, "smoke", precisions).record, int(node_id.split("-")[1]), campaign, NODE_KEY)
            record = change(
                node_id,
                replace(
                    base,
                    challenge=campaign.challenge,
                    starts_at=utc_text(starts_ns),
                    started_at=utc_text(starts_ns - 10**9),
                    ready_at=utc_text(starts_ns - 10**9),
                    ended_at=utc_text(starts_ns + HOUR_NS),
                ),
            )
            if record is not None:
                self.file(node_id).write_bytes(seal_record(record, NODE_KEY, b"s"))
        return campaign

    def file(self, node_id: str) -> Path:
        return self.collected / f"{node_id}.record.dsse.json"

    def judge(self, **changes: Any) -> SpotCheckResult:
        return judge_spot_check(changed(self.request, **changes), self.collected, self.campaign_file)


def statement_of(audit: Audit) -> CapacityStatement:
    report = audit.centre.verify()
    assert report.statement is not None
    return report.statement


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """Return a certified centre of ten nodes with two fakes each."""
    made = measured(tmp_path_factory.mktemp("centre"), NODES, 2, "smoke", ("fp16",))
    made.certify()
    return made


def request_of(centre: Measured, fraction_ppm: int) -> SpotCheckRequest:
    return SpotCheckRequest(
        statement=centre.folder / "out" / "statement.dsse.json",
        records=centre.folder / "out" / "records.jsonl",
        seed=SEED,
        fraction_ppm=fraction_ppm,
        now_ns=time.time_ns() + 24 * HOUR_NS,
        public_key=centre.public_key,
        accept_simulated=True,
    )


@pytest.fixture
def audit(centre: Measured, tmp_path: Path) -> Audit:
    request = request_of(centre, FRACTION_PPM)
    return Audit(centre, request, draw_spot_check(request), tmp_path / "check")


def code(action: Callable[..., Any], *args: Any, **given: Any) -> str:
    with pytest.raises(PetasealError) as caught:
        action(*args, **given)
    return caught.value.code


def outcomes(checked: SpotCheckResult) -> dict[str, str]:
    (one,) = checked.report.classes
    return {node.node_id: node.outcome for node in one.check.drawn}


# The draw
def test_the_draw_can_be_repeated_and_changes_with_the_seed(audit: Audit) -> None:
    assert draw_spot_check(audit.request) == audit.draw
    assert len(audit.draw.nodes) == 3
    (one,) = audit.draw.classes
    assert (one.pool_class, one.precision, one.nodes) == ("intelligent", "fp16", NODES)
    others = {draw_spot_check(changed(audit.request, seed=f"{seed:032x}")).nodes for seed in range(6)}
    assert len(others) > 1
    more = draw_spot_check(changed(audit.request, fraction_ppm=500_000)).nodes
    assert more[:3] == audit.draw.nodes
    assert audit.draw.as_json()["nodes"] == list(audit.draw.nodes)
    said = audit.draw.lines({audit.draw.nodes[0]: "cn-a"})
    assert "  cn-a" in said
    assert any("3 of 10 nodes are drawn" in line for line in said)


def test_a_folder_of_records_serves_as_well(audit: Audit) -> None:
    assert draw_spot_check(changed(audit.request, records=audit.centre.records)) == audit.draw


@pytest.mark.parametrize("seed", ["", "5eed", "G" * 32, "A" * 32, "a" * 65, "a" * 31 + "\n"])
def test_a_seed_is_a_challenge(audit: Audit, seed: str) -> None:
    assert code(draw_spot_check, changed(audit.request, seed=seed)) == "spot-check-invalid"


def test_a_seed_that_was_known_before_the_signature_is_refused(audit: Audit) -> None:
    known = changed(audit.request, seed=statement_of(audit).campaign.challenge)
    assert code(draw_spot_check, known) == "seed-known"


@pytest.mark.parametrize("ppm", [0, -1, 1_000_001])
def test_a_fraction_is_above_nothing_and_at_most_all(audit: Audit, ppm: int) -> None:
    assert code(draw_spot_check, changed(audit.request, fraction_ppm=ppm)) == "spot-check-invalid"


def test_ratings_are_read_like_a_verifier_s(audit: Audit) -> None:
    assert code(draw_spot_check, changed(audit.request, ratings=("nowhere.yaml",))) == "file-missing"
    given = changed(audit.request, ratings=(str(config_path("accelerators.yaml")),))
    assert draw_spot_check(given) == draw_spot_check(audit.request)


def test_nothing_is_drawn_by_a_withdrawn_table(audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    withdraw(monkeypatch, statement_of(audit).profile_sha256, "its window was too short")
    assert code(draw_spot_check, audit.request) == "table-withdrawn"


def test_nothing_is_drawn_from_what_does_not_hold(audit: Audit, tmp_path: Path) -> None:
    lines = audit.request.records.read_bytes().splitlines(keepends=True)
    (tmp_path / "fewer.jsonl").write_bytes(b"".join(lines[1:]))
    assert code(draw_spot_check, changed(audit.request, records=tmp_path / "fewer.jsonl")) == "records-count"
    new_key(tmp_path / "thief.pem", None)
    assert code(draw_spot_check, changed(audit.request, public_key=tmp_path / "thief.pem.pub")) == "key-not-trusted"
    assert code(draw_spot_check, changed(audit.request, accept_simulated=False)) == "simulated"
    assert code(draw_spot_check, changed(audit.request, public_key=None)) == "trust-missing"


def test_what_counts_nothing_is_in_no_draw(tmp_path: Path) -> None:
    """A node whose figures are void claims nothing, and is not drawn; with one void device the other is the claim."""

    def change(index: int, record: NodeRecord) -> NodeRecord:
        if index == 0:
            return replace(
                record, measurements=tuple(replace(m, verified_launches=(0, 0)) for m in record.measurements)
            )
        return void(record) if index == 1 else record

    made = measured(tmp_path, 4, 2, "smoke", ("fp16",), change)
    made.certify()
    request = request_of(made, 10**6)
    draw = draw_spot_check(request)
    assert set(draw.nodes) == {node_name(1), node_name(2), node_name(3)}
    audit = Audit(made, request, draw, tmp_path / "check")
    audit.measure()
    checked = audit.judge()
    (one,) = checked.report.classes
    assert checked.report.passed
    assert one.check.certified_mflop_s == statement_of(audit).classes[0].counted.certified_mflop_s
    assert [(s.node_id, s.device) for s in checked.report.strangers] == [(node_name(1), "fake:0")]


def test_each_class_is_drawn_and_judged_by_itself(tmp_path: Path) -> None:
    pools = [
        {"pool": "main", "class": "intelligent", "nodes": "all", "devices": ["fake:0"]},
        {"pool": "hpc", "class": "supercomputing", "nodes": "all", "devices": ["fake:1"]},
    ]
    made = measured(tmp_path, 4, 2, "smoke", ("fp16", "fp64"), pools=pools)
    made.certify()
    request = request_of(made, 500_000)
    draw = draw_spot_check(request)
    assert [(one.pool_class, one.precision, len(one.drawn)) for one in draw.classes] == [
        ("intelligent", "fp16", 2),
        ("supercomputing", "fp64", 2),
    ]
    assert draw.classes[0].drawn == draw.classes[1].drawn == draw.nodes
    audit = Audit(made, request, draw, tmp_path / "check")
    audit.measure(lambda node_id, record: scaled(record, 950_000, ("fake:1",)), ("fp16", "fp64"))
    report = audit.judge().report
    assert [one.check.passed for one in report.classes] == [True, False]
    assert not report.passed
    stated = statement_of(audit).classes
    assert [c.check.certified_mflop_s for c in report.classes] == [line.counted.certified_mflop_s for line in stated]
    assert {one.device for one in report.strangers} == set()


# What passes and what fails
def test_an_honest_claim_passes(audit: Audit) -> None:
    campaign = audit.measure()
    checked = audit.judge()
    assert checked.report.passed
    assert checked.refusal is None
    assert set(outcomes(checked).values()) == {"good"}
    (one,) = checked.report.classes
    assert (one.check.nodes, one.check.bad) == (NODES, 0)
    assert one.check.certified_mflop_s == statement_of(audit).classes[0].counted.certified_mflop_s
    assert checked.report.campaign_sha256 == digest(campaign)
    assert [one.node_id for one in checked.report.records] == sorted(audit.draw.nodes)
    assert checked.report.starts_at == campaign.starts_from
    said = "\n".join(checked.lines())
    assert "The claim passes" in said
    assert "not signed" in said
    assert "SIMULATED" in said


def test_the_report_lies_beside_the_records_and_is_the_same_every_time(audit: Audit) -> None:
    audit.measure()
    checked = audit.judge()
    assert checked.file == audit.folder / "spot-check.json"
    content = checked.file.read_bytes()
    assert msgspec.json.decode(content, type=SpotCheckReport) == checked.report
    later = audit.judge(now_ns=audit.request.now_ns + HOUR_NS)
    assert later.report == checked.report
    assert checked.file.read_bytes() == content


@pytest.mark.parametrize(("ppm", "outcome"), [(985_000, "good"), (970_000, "overstated")])
def test_a_node_below_its_claim(audit: Audit, ppm: int, outcome: str) -> None:
    slow = audit.draw.nodes[1]
    audit.measure(lambda node_id, record: scaled(record, ppm) if node_id == slow else record)
    checked = audit.judge()
    assert outcomes(checked)[slow] == outcome
    assert checked.report.passed == (outcome == "good")
    assert (checked.refusal is None) == (outcome == "good")
    if checked.refusal:
        assert checked.refusal.code == "spot-check-failed"
        assert checked.file.exists()


def test_one_slow_device_of_two_is_enough(audit: Audit) -> None:
    slow = audit.draw.nodes[0]
    audit.measure(lambda node_id, record: scaled(record, 940_000, ("fake:1",)) if node_id == slow else record)
    assert outcomes(audit.judge())[slow] == "overstated"


def test_a_node_that_is_missing_was_not_measured(audit: Audit) -> None:
    gone = audit.draw.nodes[2]
    campaign = audit.measure(lambda node_id, record: None if node_id == gone else record)
    checked = audit.judge()
    assert outcomes(checked)[gone] == "not-measured"
    assert not checked.report.passed
    assert [(one.node_id, one.code) for one in checked.report.absent] == [(gone, "node-missing")]
    for detail, said in ((None, "node-failed"), ("/home/x/lib.so: not there", "node-failed (<path>: not there)")):
        failed = Absence(node_id=gone, code="node-failed", detail=detail)
        write_attendance(audit.collected, Attendance(campaign_sha256=digest(campaign), absent=(failed,)))
        assert f"{gone}: {said}" in audit.judge().lines()


def test_a_node_that_the_operator_left_out_was_not_measured(audit: Audit) -> None:
    gone = audit.draw.nodes[0]
    nodes = audit.campaign().nodes
    audit.measure(
        nodes=tuple(node for node in nodes if node.node_id != gone),
        left_out=(LeftOutNode(node_id=gone, pool="main", reason="drained"),),
    )
    checked = audit.judge()
    assert outcomes(checked)[gone] == "not-measured"
    assert checked.report.left_out == (gone,)


@pytest.mark.parametrize("broken", [b"x", b"{}", None])
def test_a_tampered_record_was_not_measured_and_stops_nothing(audit: Audit, broken: bytes | None) -> None:
    audit.measure()
    bad = audit.draw.nodes[1]
    content = audit.file(bad).read_bytes()
    at = content.index(b'"payload":"') + 1000
    audit.file(bad).write_bytes(
        broken or content[:at] + (b"A" if content[at : at + 1] != b"A" else b"B") + content[at + 1 :]
    )
    checked = audit.judge()
    assert outcomes(checked) == {node: "not-measured" if node == bad else "good" for node in audit.draw.nodes}
    assert [one.file for one in checked.report.refused] == [audit.file(bad).name]
    assert any(f"{bad}: its record is refused" in line for line in checked.lines())


def test_a_figure_that_is_void_was_not_measured(audit: Audit) -> None:
    bad = audit.draw.nodes[0]
    audit.measure(lambda node_id, record: void(record) if node_id == bad else record)
    checked = audit.judge()
    assert outcomes(checked)[bad] == "overstated"  # one device of two is left
    assert [(one.node_id, one.device) for one in checked.report.not_counted] == [(bad, "fake:0")]


@pytest.mark.parametrize("devices", [("fake:0",), ("fake:0", "fake:1")])
def test_other_devices_of_the_same_kind_are_not_what_was_claimed(audit: Audit, devices: tuple[str, ...]) -> None:
    bad = audit.draw.nodes[0]

    def other(device: Device) -> Device:
        return replace(device, uuid=f"new-{device.device}-abcdef", serial=None) if device.device in devices else device

    def change(node_id: str, record: NodeRecord) -> NodeRecord:
        return replace(record, devices=tuple(map(other, record.devices))) if node_id == bad else record

    audit.measure(change)
    checked = audit.judge()
    assert outcomes(checked)[bad] == ("not-measured" if len(devices) == 2 else "overstated")
    assert [(one.node_id, one.device) for one in checked.report.strangers] == [(bad, device) for device in devices]
    assert not checked.report.passed


def test_good_devices_of_a_node_that_was_not_drawn_do_not_help(audit: Audit) -> None:
    bad = audit.draw.nodes[0]
    spare = next(i for i in range(NODES) if node_name(i) not in audit.draw.nodes)
    campaign = audit.campaign()
    theirs = of_node(simulated(2, "smoke", ("fp16",)).record, spare, campaign, NODE_KEY).devices
    audit.measure(lambda node_id, record: replace(record, devices=theirs) if node_id == bad else record)
    assert outcomes(audit.judge())[bad] == "not-measured"


def test_a_record_with_another_start_is_not_the_campaign_s(audit: Audit) -> None:
    bad = audit.draw.nodes[0]

    def change(node_id: str, record: NodeRecord) -> NodeRecord:
        later = utc_text(utc_ns(record.starts_at) + 10**9)
        return replace(record, starts_at=later) if node_id == bad else record

    audit.measure(change)
    checked = audit.judge()
    assert outcomes(checked)[bad] == "not-measured"
    assert [one.code for one in checked.report.refused] == ["start-differs"]


def test_no_record_at_all_fails_once_the_campaign_can_start_no_more(audit: Audit) -> None:
    campaign = audit.measure(lambda node_id, record: None)
    assert code(audit.judge, now_ns=utc_ns(campaign.starts_until)) == "no-records"
    checked = audit.judge()
    assert set(outcomes(checked).values()) == {"not-measured"}
    assert checked.report.starts_at is None


def test_earlier_attempts_are_told(audit: Audit) -> None:
    before = audit.campaign(campaign_id="check-0")
    attempt = Attempt(
        campaign_id="check-0", campaign_sha256=digest(before), issued_at=before.issued_at, outcome="not-submitted"
    )
    audit.measure(earlier=(attempt,))
    checked = audit.judge()
    assert checked.report.attempts_before == 1
    assert any("before: 1" in line for line in checked.lines())


# What is not the spot check of this statement
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"purpose": "capacity"}, "spot-check-differs"),
        ({"challenge": "ff" * 16}, "challenge-differs"),
        ({"profile_sha256": "00" * 32}, "profile-differs"),
        ({"issued_at": "2026-03-01T07:00:00.000000Z"}, "spot-check-differs"),
        ({"windows": "fp64"}, "spot-check-differs"),
        ({"nodes": "fewer"}, "spot-check-differs"),
        ({"nodes": "more"}, "spot-check-differs"),
        ({"nodes": "twice"}, "spot-check-differs"),
        ({"nodes": "other pool"}, "pool-differs"),
        ({"nodes": "another too"}, "pool-differs"),
        ({"pools": "other devices"}, "pool-differs"),
    ],
)
def test_a_campaign_that_is_not_this_spot_check(audit: Audit, changes: dict[str, Any], expected: str) -> None:
    campaign = audit.campaign()
    nodes = campaign.nodes
    spare = next(node_name(i) for i in range(NODES) if node_name(i) not in audit.draw.nodes)
    given: dict[Any, Any] = {
        "fewer": nodes[1:],
        "more": (*nodes, ExpectedNode(node_id=spare, pool="main")),
        "twice": (*nodes, nodes[0]),
        "other pool": (replace(nodes[0], pool="elsewhere"), *nodes[1:]),
        "another too": (replace(nodes[0], also=("elsewhere",)), *nodes[1:]),
        "other devices": (replace(campaign.pools[0], devices=("fake:0",)),),
        "fp64": tuple(replace(window, precision="fp64") for window in campaign.windows),
    }
    audit.measure(**{name: given.get(value, value) for name, value in changes.items()})
    assert code(audit.judge) == expected
    assert not (audit.folder / "spot-check.json").exists()


def test_a_campaign_of_another_centre(audit: Audit) -> None:
    audit.measure(centre_id="other")
    assert code(audit.judge) == "centre-differs"


def test_a_campaign_that_somebody_else_signed(audit: Audit, tmp_path: Path) -> None:
    audit.measure()
    new_key(tmp_path / "thief.pem", None)
    sealed = dsse.seal(
        make_document("campaign", audit.campaign()), PAYLOAD_TYPE, [load_private(tmp_path / "thief.pem")]
    )
    audit.campaign_file.write_bytes(sealed)
    assert code(audit.judge) == "key-not-trusted"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({"seed": "ab" * 16}, "challenge-differs"), ({"fraction_ppm": 200_000}, "spot-check-differs")],
)
def test_another_seed_or_fraction_than_was_drawn_with(audit: Audit, changes: dict[str, Any], expected: str) -> None:
    audit.measure()
    assert code(audit.judge, **changes) == expected


def test_a_campaign_that_is_not_over(audit: Audit) -> None:
    campaign = audit.measure()
    assert code(audit.judge, now_ns=utc_ns(campaign.starts_from)) == "window-invalid"


# Devices
def passed(device: str, rate: int, **identities: str) -> Passed:
    reading = FleetReading("n", device, "m", "fp16", rate, rate)
    return Passed(reading, ("fp16", "fixed"), "intelligent", identities)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ({"uuid": "a", "serial": "1"}, {"uuid": "a", "serial": "1"}, True),
        ({"uuid": "a", "serial": "1"}, {"uuid": "a"}, True),
        ({"uuid": "a", "serial": "1"}, {"uuid": "a", "serial": "2"}, False),
        ({"uuid": "a"}, {"serial": "a"}, True),
        ({"uuid": "a"}, {"serial": "b"}, False),
        ({"uuid": "a"}, {}, False),
        ({}, {}, False),
    ],
)
def test_devices_are_the_same_by_an_identity_that_nothing_contradicts(
    a: dict[str, str], b: dict[str, str], same: bool
) -> None:
    assert same_device(a, b) == same
    assert same_device(b, a) == same


def test_one_measured_device_answers_for_one_claimed_device() -> None:
    """A device that the claim lists twice under different identities is met once."""
    claimed = ({"uuid": "a"}, {"serial": "1"})
    assert matched(claimed, [passed("fake:0", 5, uuid="a", serial="1")]) == (5, [])
    assert matched(claimed[:1], [passed("fake:0", 5, uuid="a"), passed("fake:1", 7, uuid="b")]) == (5, ["fake:1"])
    assert matched(claimed, [passed("fake:0", 5, uuid="b")]) == (None, ["fake:0"])
    assert matched(claimed, []) == (None, [])
