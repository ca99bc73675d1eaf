"""What a pod tells of its machine, its key and its host's view before anything is measured."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from bench.campaign.launch.preflight import fleet_problems, fleet_remarks
from bench.campaign.node import facts as facts_module
from bench.campaign.node.facts import with_examination, with_identities, with_key_problems, with_network_remarks
from bench.devices import load_backend
from bench.devices.base import LocalDevice
from bench.doctor.examine import CHECKS, OF_THE_HOST
from bench.doctor.gather import ReadFor
from bench.environment import machine_id
from bench.profile import load_profile
from bench.record import NodeClock
from bench.record.campaign import network_windows
from bench.record.status import NodeFacts
from tests.bench.campaigns import campaign_of, node_id, roster_of
from tests.bench.devices.test_devices import tree
from tests.bench.host.test_mounts import OVERLAY, POD, STATE, mount

KEY, OTHER = "aa" * 32, "bb" * 32
MACHINE = "0123456789abcdef0123456789abcdef"
IN_POD = {"proc/self/cgroup": "0::/kubepods.slice/x\n"}
EMPTY = [OVERLAY, mount(f"{POD}/kubernetes.io~empty-dir/state", str(STATE))]
LASTING = [OVERLAY, mount("/var/lib/petaseal", str(STATE))]
FACTS = NodeFacts(1, ("Acme CPU",), ("unknown",), "kernel", 1_000_000, 10**12, ())
CPU = load_backend("cpu").find(None)
FAKES = load_backend("fake").find("1")


def told(
    root: Path, mounts: list[str], machine: str | None = MACHINE, enrolled: str | None = None, simulated: bool = False
) -> NodeFacts:
    files = {**IN_POD, "proc/self/mountinfo": "\n".join(mounts)}
    files |= {} if machine is None else {"etc/machine-id": machine}
    return with_key_problems(FACTS, FAKES if simulated else CPU, KEY, enrolled, STATE, tree(root, files))


def test_a_pod_that_keeps_its_state_says_nothing(tmp_path: Path) -> None:
    assert told(tmp_path, LASTING, enrolled=KEY) == FACTS
    assert told(tmp_path / "none", LASTING, machine=None, enrolled=KEY) == FACTS  # its id is made once and stays


@pytest.mark.parametrize(
    ("machine", "why"),
    [(None, "cannot be read (ENOENT)"), ("", "is empty"), ("none yet\n", "holds no id"), ("0" * 32, "holds no id")],
)
def test_an_id_that_is_made_anew_in_every_pod(tmp_path: Path, machine: str | None, why: str) -> None:
    (problem,) = told(tmp_path, EMPTY, machine).problems
    assert problem.startswith(f"{tmp_path}/etc/machine-id {why}: the id that is made in its place is gone")
    assert "the option state=FOLDER of the host on Kubernetes" in problem
    assert told(tmp_path, EMPTY, machine, simulated=True).problems == ()


def test_a_machine_id_that_may_not_be_read(tmp_path: Path) -> None:
    """As SELinux leaves a file of the host: here a folder in its place, which root cannot read either."""
    (tmp_path / "etc/machine-id").mkdir(parents=True)
    (problem,) = told(tmp_path, EMPTY, None).problems
    assert "etc/machine-id cannot be read (EISDIR)" in problem


def test_a_key_that_is_gone_with_the_pod(tmp_path: Path) -> None:
    facts = told(tmp_path, EMPTY)
    assert facts.problems == ()
    (remark,) = facts.remarks
    assert remark.startswith("signs with a key that is gone with its container, so that none can be enrolled; give")
    (problem,) = told(tmp_path, EMPTY, enrolled=OTHER).problems
    assert "(node-key-differs): its key is gone with each container; give the option state=" in problem
    (problem,) = told(tmp_path / "lasting", LASTING, enrolled=OTHER).problems
    assert problem.endswith("(node-key-differs); enrol it: petaseal keys node")


def test_lxcfs_is_a_remark(tmp_path: Path) -> None:
    facts = told(tmp_path, [*LASTING, mount("/proc/stat", "/proc/stat", "fuse.lxcfs")])
    assert facts.remarks == ("sees /proc/stat through lxcfs, which hides others' load and cores",)


def test_what_keeps_a_node_from_reducing_is_a_remark(monkeypatch: pytest.MonkeyPatch) -> None:
    campaign = campaign_of(1)
    networked = replace(campaign, network=network_windows(load_profile("smoke"), campaign.windows))
    assert with_network_remarks(FACTS, networked) == FACTS
    monkeypatch.setattr(facts_module, "find_spec", lambda name: None)
    monkeypatch.setenv("PETASEAL_NETWORK_INTERFACE", "ib9")
    without_torch, without_interface = with_network_remarks(FACTS, networked).remarks
    assert without_torch.startswith("torch is not installed")
    assert "[network-interface-unknown]" in without_interface
    assert with_network_remarks(FACTS, campaign) == FACTS


def test_remarks_are_no_problems_of_the_fleet(tmp_path: Path) -> None:
    facts = {node_id(0): told(tmp_path, EMPTY), node_id(1): told(tmp_path / "b", EMPTY)}
    roster = roster_of(campaign_of(2))
    assert fleet_problems(facts, roster) == []
    (remark,) = fleet_remarks(facts, roster)
    assert remark.startswith("n0, n1: signs with a key")


def test_pods_of_cloned_images_are_found_over_all_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pod mounts its host's machine id: hosts that are copies of one image have one."""
    facts = {}
    for index, machine in enumerate((MACHINE, "f" * 32, MACHINE)):
        own = machine_id(tree(tmp_path / str(index), {"etc/machine-id": machine}) / "etc/machine-id")
        monkeypatch.setattr(facts_module, "machine_identities", lambda own=own: {"machine id": own})
        facts[node_id(index)] = replace(with_identities(FACTS, CPU, "5eed"), device_ids={})
    problems = fleet_problems(facts, roster_of(campaign_of(3)))
    assert problems == ["n0, n2 have one machine id: they are one machine, or copies of one image"]


# --- the doctor's checks ---

QUICK = ReadFor(None, 0, True, NodeClock(source="fake", uncertainty_ns=10**6), is_quick=True)


@pytest.mark.parametrize(("devices", "without"), [(FAKES, OF_THE_HOST), (CPU, frozenset[str]())])
def test_a_node_says_what_the_checks_come_to_and_scripted_devices_nothing_of_their_host(
    devices: list[LocalDevice], without: frozenset[str]
) -> None:
    its = with_examination(FACTS, devices, QUICK).examination
    assert its is not None
    assert {*(one.check for one in its.findings), *its.fine, *its.unread, *its.absent} == CHECKS.keys() - without
    # What takes seconds is not read while all others wait for this node.
    assert {"folder", "disk", "file-clock"} <= set(its.absent)
    assert "foreign-process" not in its.fine


def test_a_node_takes_part_where_nothing_can_be_read_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("bench.doctor.gather.gather", fails)
    assert with_examination(FACTS, CPU, QUICK) == FACTS


def test_what_no_check_is_about_is_kept_apart(tmp_path: Path) -> None:
    assert told(tmp_path, LASTING, enrolled=OTHER).unexamined == told(tmp_path / "2", LASTING, enrolled=OTHER).problems
