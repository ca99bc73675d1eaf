"""What differs between the nodes of a campaign, and how findings of many nodes are put together and named."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from bench.devices.base import described_device, described_model
from bench.doctor.fleet_checks import FLEET_CHECKS, FleetView
from bench.doctor.names import device_names, node_names
from bench.doctor.report import DoctorReport, lacks, report_of
from bench.doctor.table import doctor_table
from bench.record.status import DoctorFinding, Examination, NodeFacts, alike_devices
from certify.commands.launch import code_rows
from tests.bench.campaigns import campaign_of, node_id, roster_of

NODES = 4
ROSTER = roster_of(campaign_of(NODES))


def facts(**model: Any) -> NodeFacts:
    known = {"driver": "550", "firmware": "96.1", "source_version": "12.550", "library_sha256": "ab" * 32, **model}
    described = described_model(kind="gpu", vendor="NVIDIA", model="H200", obtained={}, count_unit="card", **known)
    one = described_device(device="cuda:0", uuid="x")
    return NodeFacts(
        *(1, ("NVIDIA H200",), (str(known["driver"]),), "kernel", 10**6, 10**12, ()),
        found=alike_devices([(described, one)]),
        tool_sha256="ab" * 32,
        examination=Examination(),
    )


def view(odd: NodeFacts | None, clocks: tuple[str, ...] = ()) -> FleetView:
    """Return the nodes of a campaign of which the last is another one than the rest, or has reported nothing."""
    known = {node_id(index): facts() for index in range(NODES - 1)}
    return FleetView({**known, **({} if odd is None else {node_id(NODES - 1): odd})}, ROSTER, clocks)


FIRST_IDS = {"ff" * 16: "uuid of cuda:0"}
# check -> (the odd node, values, whose finding it is)
ODD: dict[str, tuple[NodeFacts | None, dict[str, str]]] = {
    "node-problem": (
        replace(facts(), unexamined=("has 1 devices, 8 are expected",)),
        {"what": "has 1 devices, 8 are expected"},
    ),
    "fleet-devices": (replace(facts(), devices=7), {"value": "7", "usual": "1"}),
    "fleet-models": (replace(facts(), models=("NVIDIA A100",)), {"value": "NVIDIA A100", "usual": "NVIDIA H200"}),
    "fleet-drivers": (facts(driver="535"), {"value": "535", "usual": "550"}),
    "fleet-firmware": (facts(firmware="95.9"), {"value": "95.9", "usual": "96.1", "model": "NVIDIA H200"}),
    "fleet-libraries": (facts(source_version="12.535"), {"value": f"12.535 {'ab' * 6}", "usual": f"12.550 {'ab' * 6}"}),
    "fleet-tool": (replace(facts(), tool_sha256="cd" * 32), {"value": "cd" * 6, "usual": "ab" * 6}),
    "fleet-silent": (None, {"count": "1", "expected": "4"}),
}


@pytest.mark.parametrize("check", ODD)
def test_an_odd_node_among_many_is_named(check: str) -> None:
    odd, values = ODD[check]
    (case,) = FLEET_CHECKS[check](view(odd))
    assert values.items() <= case.values.items()
    assert case.nodes == (node_id(NODES - 1),)
    row = doctor_table().checks[check]
    assert not lacks(row.finding, case.values)
    assert list(FLEET_CHECKS[check](view(facts()))) == []


def test_one_device_or_one_machine_on_two_nodes() -> None:
    twins = {
        node_id(index): replace(facts(), device_ids=FIRST_IDS, machine_ids={"aa": "machine id"}) for index in (0, 1)
    }
    fleet = FleetView(twins, ROSTER)
    (device,), (machine,) = (list(FLEET_CHECKS[check](fleet)) for check in ("fleet-identity", "fleet-machine"))
    assert "[duplicate-device]" in device.values["what"]
    assert "one machine, or copies of one image" in machine.values["what"]
    assert not [*FLEET_CHECKS["fleet-identity"](view(facts())), *FLEET_CHECKS["fleet-machine"](view(facts()))]


def test_clocks_that_differ_are_as_the_coordinator_says_them() -> None:
    (case,) = FLEET_CHECKS["fleet-clock"](view(facts(), ("n1: its clock is ahead",)))
    assert case.values == {"what": "n1: its clock is ahead"}
    assert list(FLEET_CHECKS["fleet-clock"](view(facts()))) == []


def test_every_check_of_a_fleet_is_tried() -> None:
    assert {*ODD, "fleet-identity", "fleet-machine", "fleet-clock"} == set(FLEET_CHECKS)


def together(*examinations: Examination) -> DoctorReport:
    return report_of(
        code_rows(), {f"gpu{place:03d}": its for place, its in enumerate(examinations)}, fleet=view(facts())
    )


CAP = DoctorFinding("power-cap", {"limit": "500", "default": "700"}, ("cuda:0", "cuda:1"))
BUSY = DoctorFinding("foreign-process", {"count": "1"}, ("cuda:3",), counts_0=True)


def test_equal_findings_of_nodes_are_one_and_the_gravest_first() -> None:
    report = together(Examination((CAP,)), Examination((BUSY, CAP)), Examination((CAP,)))
    assert [one.check for one in report.findings] == ["foreign-process", "power-cap"]
    assert [one.where for one in report.findings] == ["gpu001 cuda:3", "gpu[000-002] cuda:0-1"]
    assert report.counts_0 is True
    assert together(Examination((CAP,))).counts_0 is False


def test_a_check_is_fine_only_where_no_node_has_a_finding_or_cannot_make_it() -> None:
    one, other = (
        Examination(fine=("governor", "boost", "smt")),
        Examination((CAP,), ("smt",), {"governor": "not-shown"}),
    )
    report = together(one, other)
    assert report.unread == {"governor": "not-shown"}
    assert {"boost", "smt"} <= set(report.fine)
    assert "power-cap" not in report.fine


def test_what_a_node_made_up_is_left_out_or_escaped() -> None:
    """A status is anybody's who may write into the shared folder."""
    unknown = DoctorFinding("no-such-check", {}, counts_0=True)
    unfilled = DoctorFinding("power-cap", {"limit": "5"})
    ugly = DoctorFinding("power-cap", {"limit": "\x1b[31m5\n", "default": "{0.__class__}"}, ("cuda:0\x07",))
    report = together(Examination((unknown, unfilled, ugly), unread={"smt": "\x1b[2J"}))
    (one,) = report.findings
    assert one.sentence("en") == "power limit \\x1b[31m5\\x0a W, by default {0.__class__} W"
    assert one.devices == ("cuda:0\\x07",)
    assert report.unread["smt"] == "not-reported"


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        ([], ""),
        (["cuda:0"], "cuda:0"),
        ([f"cuda:{i}" for i in range(12)], "cuda:0-11"),
        (["cuda:0", "cuda:2", "cuda:3", "rocm:0"], "cuda:0,2-3, rocm:0"),
    ],
)
def test_devices_are_shortened(names: list[str], shown: str) -> None:
    assert device_names(names) == shown


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["login"], "login"),
        (["gpu001", "gpu002", "gpu010"], "gpu[001-002,010]"),
        (["n8", "n9", "n10", "n11"], "n[8-9], n[10-11]"),
        (["r1-n1.x", "r1-n2.x"], "r1-n[1-2].x"),
        ([f"a{2 * i:03d}" for i in range(20)], "a[000,002,004,006 and 16 more]"),
        (["a", "b", "c", "d"], "a, b, c and 1 more"),
    ],
)
def test_nodes_are_shortened_as_host_lists(names: list[str], shown: str) -> None:
    assert node_names(names) == shown
