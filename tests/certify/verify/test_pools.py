"""Where devices count: what the signed campaign says of pools and what the centre file says must be one (ADR 26)."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from bench.errors import RefusedError
from bench.profile import load_profile
from bench.record import Campaign, ExpectedNode, ExpectedPool, NodeRecord, columns
from bench.record.folder import Folder
from certify.documents.kinds import parse_payload
from certify.documents.statement import CapacityStatement
from certify.policy.centre import Centre
from certify.policy.policies import load_policy
from certify.policy.pools import Places, split_problem
from certify.statement import campaign as campaigns
from certify.statement.attendance import unrecorded_in
from certify.verify.report import VerificationReport
from tests.certify import attacks
from tests.certify.measured import Measured, centre_yaml, measured, node_name, of_node, seal_record, simulated
from tests.certify.measured import test_campaign as campaign_of
from tests.certify.signed import new_key
from tests.certify.verify.test_javascript import HONEST, agree, case_of
from tests.certify.verify.test_verifier import code
from tests.oracle import whole as oracle
from tests.oracle.ground import Part

SCRIPT = Path(__file__).resolve().parents[3] / "docs" / "independent_verifier.py"
N0, N1 = node_name(0), node_name(1)
AI = {"pool": "ai", "class": "intelligent", "nodes": [N0, N1], "devices": ["fake:0"]}
HPC = {"pool": "hpc", "class": "supercomputing", "nodes": [N0, N1], "devices": ["fake:1"]}
ALL_AI = {"pool": "ai", "class": "intelligent", "nodes": "all", "partition": "gpu"}
ALL_HPC = {"pool": "hpc", "class": "supercomputing", "nodes": "all", "partition": "cpu"}
Change = Callable[[Campaign], Campaign]


def nodes_in(*pools: tuple[str, ...]) -> Change:
    """Return what puts the nodes of a campaign into pools, each into its own and those that it is in too."""

    def change(campaign: Campaign) -> Campaign:
        pairs = zip(campaign.nodes, pools, strict=True)
        return replace(campaign, nodes=tuple(replace(node, pool=own, also=tuple(also)) for node, (own, *also) in pairs))

    return change


def lay(place: Path, *pools: dict[str, Any], **changes: Any) -> Measured:
    """Lay out two nodes with two devices each, measured in FP16 and FP64."""
    return measured(place, 2, 2, "smoke", ("fp16", "fp64"), pools=list(pools), **changes)


def found_in(statement: CapacityStatement) -> dict[str, tuple[int, int]]:
    """Return how many nodes and devices each pool has."""
    return {line.pool: (line.nodes_recorded, line.devices_found) for line in statement.pools}


def judged_by_oracle(place: Measured, report: VerificationReport) -> Part:
    """Return what the second rule book makes of a statement and its records."""
    statement = report.statement or parse_payload("capacity-statement", attacks.canonical(payload(place))).predicate
    return oracle.judge(place, statement, (load_policy("guangzhou-2000p"),))


def payload(place: Measured) -> Any:
    return attacks.payload_of(attacks.package(place).statement)


def check_all_verifiers(place: Measured, scratch: Path, *known: str) -> None:
    """Check that every verifier there is accepts the statement; `known` are codes that only an audit finds."""
    report = place.verify()
    assert code(report) is None
    assert {issue.code for issue in judged_by_oracle(place, report).issues} == set(known)
    agree({HONEST: case_of(place, attacks.package(place))}, scratch)
    out = place.folder / "out"
    files = (place.public_key, out / "statement.dsse.json", out / "records.jsonl")
    done = subprocess.run([sys.executable, SCRIPT, *files], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# --- what holds ---


def test_mixed_nodes_are_split_by_device_as_the_campaign_says(tmp_path: Path) -> None:
    place = lay(tmp_path, AI, HPC)
    statement = place.certify().statement
    assert [node.pools for node in statement.campaign.nodes] == [("ai", "hpc")] * 2
    assert found_in(statement) == {"ai": (2, 2), "hpc": (2, 2)}
    check_all_verifiers(place, tmp_path)


def test_two_pools_of_all_nodes_are_told_apart_by_the_campaign(tmp_path: Path) -> None:
    place = lay(tmp_path, ALL_AI, ALL_HPC, campaigned=nodes_in(("ai",), ("hpc",)))
    statement = place.certify().statement
    assert found_in(statement) == {"ai": (1, 2), "hpc": (1, 2)}
    check_all_verifiers(place, tmp_path)


def test_a_device_of_no_partition_that_a_pool_takes_counts_in_none(tmp_path: Path) -> None:
    pools = {**ALL_AI, "devices": ["fake:0"]}, {**ALL_HPC, "devices": ["fake:1"]}
    place = lay(tmp_path, *pools, campaigned=nodes_in(("ai",), ("ai", "hpc")))
    statement = place.certify().statement
    assert found_in(statement) == {"ai": (2, 2), "hpc": (1, 1)}
    assert [(one.node_id, one.device) for one in statement.not_counted if "no-pool" in one.codes] == [(N0, "fake:1")]
    check_all_verifiers(place, tmp_path)


# --- what is refused: the centre file's pools, the campaign's nodes, its pools, and the step that sees it ---
FORGED: dict[str, tuple[tuple[dict[str, Any], ...], Change, str, str]] = {
    "a node that was moved after it was measured": (
        ({**AI, "nodes": [N0], "devices": "all"}, {**HPC, "nodes": [N1], "devices": "all"}),
        nodes_in(("ai",), ("ai",)),
        "pool-differs",
        f"the node {N1} in the pool ai, and the centre file in hpc",
    ),
    "a device that was moved after it was measured": (
        (AI, HPC),
        nodes_in(("ai", "hpc"), ("ai",)),
        "pool-differs",
        "holds fake:1, which the campaign has in no pool, and the centre file in the pool hpc",
    ),
    "a listed node, taken for one of a partition": (
        ({**AI, "nodes": [N0], "devices": "all", "partition": "login"}, ALL_HPC),
        nodes_in(("hpc",), ("hpc",)),
        "pool-differs",
        "holds fake:0, which the campaign has in the pool hpc, and the centre file in the pool ai",
    ),
    "a pool with other devices": (
        (AI, HPC),
        lambda campaign: replace(campaign, pools=(replace(campaign.pools[0], devices=("fake:1",)), campaign.pools[1])),
        "pool-differs",
        "the devices fake:1 in the pool ai, and the centre file fake:0",
    ),
    "a pool that the centre has not": (
        (AI, HPC),
        lambda campaign: replace(campaign, pools=(*campaign.pools, replace(campaign.pools[0], pool="new"))),
        "pool-differs",
        "the pool new, which the centre has not",
    ),
    "a node in two pools that share its devices": (
        (ALL_AI, ALL_HPC),
        nodes_in(("ai",), ("ai", "hpc")),
        "campaign-invalid",
        f"the node {N1} in pools that share devices: ai, hpc",
    ),
}


@pytest.mark.parametrize("how", FORGED)
def test_a_campaign_that_the_centre_file_contradicts_is_neither_certified_nor_verified(
    tmp_path: Path, how: str
) -> None:
    pools, campaigned, expected, told = FORGED[how]
    place = lay(tmp_path, *pools, campaigned=campaigned)
    with pytest.raises(RefusedError) as refused:
        place.certify()
    assert (refused.value.code, told in str(refused.value)) == (expected, True), str(refused.value)
    assert not (tmp_path / "out").exists()
    with pytest.MonkeyPatch.context() as blind:  # as a dishonest operator's own build does
        blind.setattr(Places, "problem", lambda *_: None)
        blind.setattr(campaigns, "split_problem", lambda *_: None)
        blind.setattr(Campaign, "split_problem", lambda *_: None)
        place.certify()
    report = place.verify()
    assert report.refusal is not None
    assert (report.refusal.code, told in str(report.refusal)) == (expected, True)
    if "holds" in told:  # the second rule book has steps 13 to 16
        assert "pool-differs" in {issue.code for issue in judged_by_oracle(place, report).issues}


# --- a node that made its campaign itself: the centre file alone says where it is ---


def self_issued(place: Measured) -> None:
    """Replace the records by that of one node that issued its own campaign."""
    base, key = simulated(2, "smoke", ("fp16", "fp64")), new_key()
    place.record(1).unlink()
    campaign = replace(
        campaigns.read_campaign(Folder(place.folder)),
        self_issued=True,
        centre_id=None,
        pools=(ExpectedPool(pool="self", workloads=("fp16", "fp64")),),
        nodes=(ExpectedNode(node_id=N0, pool="self"),),
    )
    place.close(campaign)
    record = replace(of_node(base.record, 0, campaign, key), campaign=campaign)
    place.record(0).write_bytes(seal_record(record, key, base.samples))


def test_a_node_on_its_own_counts_where_the_centre_file_says(tmp_path: Path) -> None:
    place = lay(tmp_path, AI, HPC)
    self_issued(place)
    assert found_in(place.certify(campaign=None).statement) == {"ai": (1, 1), "hpc": (1, 1)}
    check_all_verifiers(place, tmp_path)


def test_the_campaign_that_a_record_holds_is_the_one_that_it_answers(tmp_path: Path) -> None:
    place = lay(tmp_path, AI, HPC)
    self_issued(place)
    made = place.certify(campaign=None).statement
    for name, held in {"another": replace(made.campaign, series="other"), "none": None}.items():

        def change(found: list[bytes], _: Measured, held: Campaign | None = held) -> list[bytes]:
            return [attacks.resealed(found[0], campaign=held)]

        case = case_of(place, attacks.records(change, bound=True)(place))
        assert case.first(tmp_path) == (False, "campaign-differs"), name
        agree({name: case}, tmp_path)


def test_a_node_on_its_own_in_two_pools_of_all_nodes_is_refused(tmp_path: Path) -> None:
    place = lay(tmp_path, ALL_AI, ALL_HPC, campaigned=nodes_in(("ai",), ("hpc",)))
    self_issued(place)
    with pytest.raises(RefusedError, match="list their nodes there") as refused:
        place.certify(campaign=None)
    assert refused.value.code == "node-in-two-pools"
    assert "holds fake:0, which the pools ai and hpc of the centre file both take" in str(refused.value)


# --- a node that hides devices ---


def hiding(device: str, *nodes: str) -> Callable[[int, NodeRecord], NodeRecord]:
    """Return what takes a device out of the records of some nodes, with all that was measured on it."""

    def change(_: int, record: NodeRecord) -> NodeRecord:
        if record.node_id not in nodes:
            return record
        return replace(
            record,
            devices=tuple(one for one in record.devices if one.device != device),
            measurements=tuple(
                replace(m, **columns(one for one in m.figures() if one.device != device)) for m in record.measurements
            ),
        )

    return change


def test_a_record_without_a_device_of_a_pool_that_its_node_is_in_leaves_the_node_missing_there(tmp_path: Path) -> None:
    """Else a share of intelligent compute of 100 % is had by records that tell nothing but accelerators."""
    place = lay(tmp_path, AI, HPC, change=hiding("fake:1", N1))
    statement = place.certify().statement
    assert found_in(statement) == {"ai": (2, 2), "hpc": (1, 1)}
    of_class = {line.pool_class: (line.nodes_missing, line.missing_at_most_mflop_s) for line in statement.classes}
    assert of_class["intelligent"] == (0, 0)
    (missing, at_most) = of_class["supercomputing"]
    assert (missing, at_most is not None and at_most > 0) == (1, True)
    check_all_verifiers(place, tmp_path, "samples-differ")


def test_records_that_all_hide_a_pool_leave_nobody_knowing_what_it_holds(tmp_path: Path) -> None:
    place = lay(tmp_path, AI, HPC, change=hiding("fake:1", N0, N1))
    (_, hpc) = place.certify().statement.classes
    assert (hpc.nodes_missing, hpc.missing_at_most_mflop_s) == (2, None)
    check_all_verifiers(place, tmp_path, "samples-differ")


# --- a statement that is made to cost its verifier time ---


def crowded(nodes: int) -> tuple[Centre, Campaign]:
    """Return a centre of 256 pools with a thousand devices each, and nodes that are each in 40 of them."""
    random, names = Random(1), [f"{one}{two}" for one in "abcdefghijklmnop" for two in "abcdefghijklmnop"]
    pools = [
        {**ALL_AI, "pool": name, "partition": name, "devices": [f"d{place}:{i}" for i in range(1000)]}
        for place, name in enumerate(names)
    ]
    centre = msgspec.convert(centre_yaml(pools=pools), Centre)
    base = campaign_of(load_profile("smoke"), ("fp16",), 1)
    own = tuple(ExpectedPool(pool=one.pool, devices=one.devices, workloads=("fp16",)) for one in centre.pools)
    drawn = [random.sample(names, 40) for _ in range(nodes)]
    placed = (ExpectedNode(node_id=f"n{i}", pool=first, also=tuple(more)) for i, (first, *more) in enumerate(drawn))
    return centre, replace(base, pools=own, nodes=tuple(placed))


@pytest.mark.long
def test_many_pools_with_many_devices_on_many_nodes_stop_no_verifier() -> None:
    """Each node in pools of its own choice: 4 MB took a verifier more than five minutes, and 200,000 nodes a day."""
    centre, campaign = crowded(2000)
    began_ns = time.process_time_ns()
    assert split_problem(campaign, centre) is None
    assert campaign.split_problem() is None
    (missing,) = unrecorded_in(centre, campaign.nodes, {}).values()
    assert time.process_time_ns() - began_ns < 60 * 10**9
    assert (missing.nodes, missing.at_most_mflop_s) == (2000, None)
    twice = replace(campaign, nodes=(ExpectedNode(node_id="n0", pool="aa", also=("ab", "aa")),))
    assert twice.split_problem() == "the campaign has the node n0 in pools that share devices: aa, ab, aa"
