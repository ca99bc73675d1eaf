"""What the network's runs show, from records whose devices all reduced together, and from records that only say so."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bench.language import LANGUAGES
from bench.profile import load_profile
from bench.record import Campaign, NodeRecord, digest
from bench.record.network import NetworkMeasurement, SweepPoint
from bench.record.network.vector import ELEMENTS, VectorSum, contribution, reduced_sha256
from certify.documents.statement import BandwidthLine, Fabric, FabricGroup, NetworkLine
from certify.judge.fabric import CODES, fabric_of
from certify.judge.fabric.rows import add_network
from certify.judge.fabric.sums import FabricSums
from certify.judge.tally import Tally
from certify.policy.policies import load_policy
from certify.policy.reasons import reasons
from certify.statement.build import StatementInputs
from certify.statement.describe import describe_statement
from certify.statement.paper.page import render
from certify.statement.paper.verdict_rows import SINGLE_FACILITY, fabric_details, fabric_headline
from certify.statement.paper.view import view_of
from certify.statement.summary import statement_parts
from certify.verify.recompute import fabric_problem
from certify.verify.statement_checks import fabric_contradiction
from tests.certify.forged_fabric import FORGERIES, columns, runs, whole
from tests.certify.judged import basis_of, statement_of, tally_of
from tests.certify.measured import node_name, of_node, simulated, test_campaign
from tests.certify.networked import TOKENS, Network, changed_run, with_network
from tests.certify.signed import new_key

NODES, DEVICES = 4, 2
KEY = new_key()


@cache
def laid(
    groups: int = 0, rails: bool = False, expected: int = NODES, **changes: Any
) -> tuple[StatementInputs, tuple[NodeRecord, ...]]:
    """Return what records of a centre are judged against, and the records."""
    campaign = with_network(test_campaign(load_profile("standard"), ("fp16",), expected), groups, rails)
    return basis_of(campaign, "standard"), tuple(records_of(campaign, NODES, **changes))


def records_of(campaign: Campaign, nodes: int, **changes: Any) -> list[NodeRecord]:
    """Return records of so many nodes with their runs of the network."""
    template, sha256 = simulated(DEVICES, "standard", ("fp16",)).record, digest(campaign)
    network = Network(campaign, sha256, campaign.starts_from, **changes)
    return network.records([of_node(template, index, campaign, KEY, sha256) for index in range(nodes)])


def judged(records: Sequence[NodeRecord], basis: StatementInputs) -> Fabric:
    """Return what records show."""
    sums = FabricSums()
    for record in records:
        add_network(record, basis.scope, sums)
    fabric = fabric_of(sums, basis.scope, {record.node_id for record in records})
    assert fabric is not None
    return fabric


def test_all_devices_reduced_together() -> None:
    basis, records = laid()
    fabric = judged(records, basis)
    assert (fabric.state, fabric.devices, fabric.of_devices, fabric.codes) == ("connected", 8, 8, ())
    assert fabric.groups == (FabricGroup(group=None, nodes=NODES, devices=8),)
    assert [line.tokens for line in fabric.losses] == list(TOKENS)
    for line in fabric.losses:  # 15 % inside the node, 7 % of the rest between them
        assert line.devices == 8
        assert abs(line.network_loss_ppm - 70_000) < 1_000
        assert abs(line.contention_ppm - 150_000) < 1_000
        assert abs(line.retained_ppm - 790_500) < 1_000
    assert fabric.bandwidths[0] == BandwidthLine(size_bytes=2**20, ranks=8, algorithm_mb_s=1000, bus_mb_s=1750)


def test_a_statement_says_it_and_counts_the_same_without_it() -> None:
    basis, records = laid()
    stated, bare = (
        statement_of(records, basis),
        statement_of([replace(one, network=(), sweep=()) for one in records], basis),
    )
    assert stated.fabric == judged(records, basis)
    assert bare.fabric is not None
    assert (bare.fabric.state, bare.fabric.codes) == ("not-shown", ("fabric-run-missing",))
    assert replace(stated, fabric=None) == replace(bare, fabric=None)
    without = basis_of(test_campaign(load_profile("standard"), ("fp16",), NODES), "standard")
    assert fabric_of(FabricSums(), without.scope, set()) is None


def test_pods_are_groups_and_listed_by_size() -> None:
    basis, records = laid(groups=3)
    fabric = judged(records, basis)
    assert (fabric.state, fabric.devices, fabric.codes) == ("partly", 8, ())
    assert [(one.group, one.nodes, one.devices) for one in fabric.groups] == [
        ("pod-00", 2, 4),
        ("pod-01", 1, 2),
        ("pod-02", 1, 2),
    ]
    assert fabric.losses[0].devices == 8
    assert fabric.bandwidths[0].ranks == 2  # of groups that are equally fast, the smaller


def test_rails_are_groups_of_one_index() -> None:
    basis, records = laid(rails=True)
    fabric = judged(records, basis)
    assert (fabric.state, fabric.codes) == ("partly", ())
    assert [(one.group, one.nodes, one.devices) for one in fabric.groups] == [("rail-0", 4, 4), ("rail-1", 4, 4)]


@pytest.mark.parametrize("rails", [False, True])
def test_ranks_may_be_those_within_the_node_or_the_rail(rails: bool) -> None:
    basis, records = laid(rails=rails)

    def ranked(record: NodeRecord, m: NetworkMeasurement) -> NetworkMeasurement:
        if m.run == "compute" or (m.run == "fabric" and not rails):
            return m
        local = tuple(range(DEVICES)) if m.run == "node" else (records.index(record),) * len(m.device)
        return columns(replace(m, rank=local), ranks=DEVICES if m.run == "node" else NODES)

    changed = [replace(one, network=tuple(ranked(one, m) for m in one.network)) for one in records]
    assert changed != list(records)
    assert judged(changed, basis) == judged(records, basis)


def test_a_group_that_broke_leaves_the_rest() -> None:
    basis, records = laid(groups=2)
    forged = runs("fabric", nodes=slice(1), wrong_reductions=3)(list(records))
    fabric = judged(forged, basis)
    assert (fabric.state, fabric.devices, fabric.codes) == ("partly", 4, ("fabric-sums-wrong",))
    assert [one.group for one in fabric.groups] == ["pod-01"]
    assert [line.devices for line in fabric.losses] == [4, 4]


def test_a_run_for_one_t_is_evidence_enough() -> None:
    basis, records = laid()
    fabric = judged(runs("fabric", tokens=TOKENS[0], trouble="rank 3 was lost")(list(records)), basis)
    assert (fabric.state, fabric.codes) == ("connected", ("fabric-run-failed",))
    assert [line.tokens for line in fabric.losses] == [TOKENS[1]]


@pytest.mark.parametrize("rails", [False, True])
def test_a_node_without_a_record_is_a_missing_rank(rails: bool) -> None:
    basis, records = laid(rails=rails)
    fabric = judged(records[1:], basis)
    assert (fabric.state, fabric.codes) == ("not-shown", ("fabric-rank-missing",))


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forgery_shows_nothing(name: str) -> None:
    change, code = FORGERIES[name]
    basis, records = laid()
    forged = change(list(records))
    assert forged != list(records)
    fabric = judged(forged, basis)
    assert fabric.state == "not-shown", fabric
    assert fabric.codes[0] == code
    problem = fabric_problem(judged(records, basis), fabric)
    assert problem is not None
    assert problem[0] == code


def test_every_code_stands_in_the_table() -> None:
    assert {code: reasons()[code].effect for code in CODES} == {
        code: "refuse" if code.startswith("fabric-") else "note" for code in CODES
    }
    assert {code for _, code in FORGERIES.values()} | {"fabric-run-missing"} == {
        code for code in CODES if code.startswith("fabric-")
    }


# What a forger would change who wants the network to cost little: the code, and how many devices are left in the sums.
BETTER: dict[str, tuple[Any, str, int]] = {
    "no run B": (
        lambda records: [replace(one, network=tuple(m for m in one.network if m.run != "node")) for one in records],
        "network-run-missing",
        0,
    ),
    "no run A on one device": (runs("compute", nodes=slice(1), trouble="hung"), "network-run-missing", 7),
    "run B whose vector is forged": (runs("node", nodes=slice(1), reduced_sha256="ab" * 32), "network-run-missing", 6),
    "run B in which a device stands twice": (
        runs("node", nodes=slice(1), row=1, device="fake:0"),
        "network-run-missing",
        6,
    ),
    "a short run C": (runs("fabric", elapsed_ns=4_900_000_000), "network-run-short", 4),
    "other products in run A": (whole("compute", lambda _, m: replace(m, m=m.m // 2)), "network-products-differ", 0),
    "products that no window counts": (
        lambda records: [
            replace(one, network=tuple(replace(m, kernel="sleep") for m in one.network)) for one in records
        ],
        "network-products-differ",
        0,
    ),
    "half of the bytes in run C": (
        whole("fabric", lambda _, m: replace(m, reduction_bytes=m.reduction_bytes // 2)),
        "network-reductions-differ",
        0,
    ),
    "twice the bytes in run B": (
        whole("node", lambda _, m: replace(m, reduction_bytes=m.reduction_bytes * 2)),
        "network-reductions-differ",
        0,
    ),
    "half of the reductions in run C": (
        whole("fabric", lambda _, m: replace(m, reductions=tuple(n // 2 for n in m.reductions))),
        "network-reductions-differ",
        0,
    ),
    "run A of three times the rate": (
        whole("compute", lambda _, m: replace(m, launches=tuple(n * 3 for n in m.launches))),
        "network-run-differs",
        0,
    ),
    "run A 20 % below the counted figure": (
        whole("compute", lambda _, m: replace(m, launches=tuple(n * 8 // 10 for n in m.launches))),
        "network-run-differs",
        8,
    ),
}


@pytest.mark.parametrize("name", BETTER)
def test_what_would_make_the_network_cost_little_is_seen(name: str) -> None:
    change, code, devices = BETTER[name]
    basis, records = laid()
    fabric = judged(change(list(records)), basis)
    assert fabric.state == "connected"  # the vector is right all the same
    assert code in fabric.codes
    assert [line.devices for line in fabric.losses] == ([devices] * 2 if devices else [])


@pytest.mark.parametrize(
    ("node_ppm", "fabric_ppm", "codes"),
    [
        (850_000, 880_000, ("network-rate-rises",)),
        (1_030_000, 900_000, ("network-rate-rises",)),
        (1_000_000, 1_015_000, ()),  # noise
        (590_000, 580_000, ("network-contention-high",)),
    ],
)
def test_rates_that_hide_what_the_network_costs(node_ppm: int, fabric_ppm: int, codes: tuple[str, ...]) -> None:
    basis, records = laid(node_ppm=node_ppm, fabric_ppm=fabric_ppm)
    fabric = judged(records, basis)
    assert fabric.codes == codes
    assert abs(fabric.losses[0].network_loss_ppm - (10**6 - fabric_ppm * 10**6 // node_ppm)) < 1_000


def test_a_t_that_the_profile_does_not_fix_gives_no_share() -> None:
    campaign = with_network(test_campaign(load_profile("standard"), ("fp16",), NODES), tokens=(10**6,))
    fabric = judged(records_of(campaign, NODES), basis_of(campaign, "standard"))
    assert (fabric.state, fabric.losses, fabric.codes) == ("connected", (), ("network-tokens-differ",))


def test_windows_far_shorter_than_the_profiles_give_no_share() -> None:
    basis, records = laid()
    plan = basis.scope.profile.network
    assert plan
    longer = replace(basis.scope.profile, network=replace(plan, window_ns=3 * plan.window_ns))
    fabric = judged(records, dataclasses.replace(basis, scope=dataclasses.replace(basis.scope, profile=longer)))
    assert (fabric.state, fabric.losses, fabric.codes) == ("connected", (), ("network-run-short",))


def test_a_campaign_without_run_c_shows_nothing() -> None:
    campaign = with_network(test_campaign(load_profile("standard"), ("fp16",), NODES), tokens=())
    fabric = judged(records_of(campaign, NODES), basis_of(campaign, "standard"))
    assert (fabric.state, fabric.codes) == ("not-shown", ("fabric-run-missing",))


def test_the_slowest_node_makes_the_bandwidth_and_a_wrong_sum_none() -> None:
    basis, records = laid()

    def swept(record: NodeRecord, **changes: Any) -> NodeRecord:
        points = tuple(replace(one, **changes) if one.size_bytes == 2**20 else one for one in record.sweep)
        return replace(record, sweep=points)

    slow = judged([swept(records[0], elapsed_ns=2**20 * 40), *records[1:]], basis)
    assert [(one.algorithm_mb_s, one.bus_mb_s) for one in slow.bandwidths] == [(250, 437), (1000, 1750)]
    wrong = judged([swept(records[0], wrong_reductions=1), *records[1:]], basis)
    assert [one.size_bytes for one in wrong.bandwidths] == [2**28]
    assert wrong.codes == ("network-sweep-wrong",)
    impossible = judged([swept(record, elapsed_ns=1) for record in records], basis)
    assert ([one.size_bytes for one in impossible.bandwidths], impossible.codes) == ([2**28], wrong.codes)
    missing = judged([replace(records[0], sweep=records[0].sweep[1:]), *records[1:]], basis)
    assert [one.size_bytes for one in missing.bandwidths] == [2**28]
    foreign = SweepPoint(group="x", ranks=99, size_bytes=2**20, reductions=2**40, elapsed_ns=1, wrong_reductions=0)
    assert judged([replace(records[0], sweep=(*records[0].sweep, foreign)), *records[1:]], basis) == judged(
        records, basis
    )


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(NODES)), st.integers(0, NODES), st.randoms(use_true_random=False))
def test_neither_the_order_of_records_nor_their_shares_matter(order: list[int], cut: int, draw: random.Random) -> None:
    basis, records = laid(groups=2)
    shuffled = [records[index] for index in order]
    shuffled = [replace(one, network=tuple(draw.sample(one.network, len(one.network)))) for one in shuffled]
    tally = Tally()
    for share in (shuffled[:cut], shuffled[cut:]):
        tally.add(tally_of(share, basis))
    assert fabric_of(tally.fabric, basis.scope, tally.node_ids) == judged(records, basis)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, NODES - 1),
    st.integers(0, DEVICES - 1),
    st.sampled_from(["nonce", "reduced_sha256", "uuid", "serial", "node_id"]),
    st.integers(0, 63),
)
def test_any_changed_letter_is_seen(node: int, row: int, field: str, place: int) -> None:
    basis, records = laid()

    def other(text: str) -> str:
        at = place % len(text)
        return text[:at] + ("0" if text[at] != "0" else "1") + text[at + 1 :]

    def of_row(column: tuple[Any, ...]) -> tuple[Any, ...]:
        return (*column[:row], other(column[row]), *column[row + 1 :])

    record = records[node]
    if field in ("nonce", "reduced_sha256"):
        changed = changed_run(record, "fabric", lambda m: replace(m, **{field: of_row(getattr(m, field))}))
    elif field == "node_id":
        changed = replace(record, node_id=node_name(9))
    else:
        devices = list(record.devices)
        devices[row] = replace(devices[row], **{field: other(getattr(devices[row], field))})
        changed = replace(record, devices=tuple(devices))
    fabric = judged([changed if one is record else one for one in records], basis)
    assert fabric.state == "not-shown"
    assert fabric.codes


@settings(max_examples=30, deadline=None)
@given(st.lists(st.binary(min_size=ELEMENTS, max_size=ELEMENTS), min_size=1, max_size=5), st.integers(0, 5))
def test_lanes_add_up_as_numbers_do(values: list[bytes], cut: int) -> None:
    first, second = VectorSum(), VectorSum()
    for part, total in ((values[:cut], first), (values[cut:], second)):
        for one in part:
            total.add_contribution(one)
    first.add(second)
    assert first.sha256() == reduced_sha256(map(sum, zip(*values, strict=True)))


def test_what_a_device_contributes_is_fixed() -> None:
    """Another implementation must draw the very numbers: a change of one would make every record of before forged."""
    (record, *_), device = laid()[1], simulated(DEVICES, "standard", ("fp16",)).record.devices[0]
    place = ("node-1", replace(device, device="cuda:0", uuid="gpu-1", serial="1", die_id=None))
    values = contribution("ab" * 32, "2026-03-01T08:00:00.000000Z", 7, place, "cd" * 32)
    assert len(values) == ELEMENTS
    assert max(values) <= 127
    assert values[:8].hex() == "0476637a556d5e54"
    assert record.network


LOSS = NetworkLine(
    tokens=TOKENS[0],
    devices=8,
    compute_mflop_s=100,
    node_mflop_s=80,
    fabric_mflop_s=60,
    contention_ppm=200_000,
    network_loss_ppm=10_000,
    retained_ppm=600_000,
)
STATED: dict[str, dict[str, Any]] = {
    "connected, of two groups": {"groups": (FabricGroup(group=None, nodes=1, devices=4),) * 2},
    "connected, of fewer devices": {"devices": 7},
    "connected, and no group": {"groups": (), "devices": 0},
    "more devices than there are": {"of_devices": 7},
    "a share that is not that of its rates": {"losses": (LOSS,)},
    "a group of more nodes than devices": {"groups": (FabricGroup(group=None, nodes=9, devices=8),)},
}


@pytest.mark.parametrize("name", STATED)
def test_a_fabric_that_contradicts_itself(name: str) -> None:
    basis, records = laid()
    honest = statement_of(records, basis)
    assert honest.fabric is not None
    assert fabric_contradiction(honest) is None
    changed = replace(honest.fabric, **STATED[name])
    assert fabric_contradiction(replace(honest, fabric=changed)) is not None
    assert fabric_problem(changed, honest.fabric) is not None


def test_a_fabric_against_its_campaign_contradicts_itself() -> None:
    basis, records = laid()
    honest = statement_of(records, basis)
    assert fabric_contradiction(replace(honest, fabric=None)) is not None
    bare = replace(honest, campaign=replace(honest.campaign, network=()))
    assert fabric_contradiction(bare) is not None
    assert fabric_contradiction(replace(bare, fabric=None)) is None


def test_a_failed_run_of_all_ranks() -> None:
    basis, records = laid()
    lost = {"rank": None, "nonce": None, "reduced_sha256": None, "opened_ns": None, "trouble": "gpu-00002 was lost"}
    fabric = judged(whole("fabric", lambda _, m: columns(m, **lost))(list(records)), basis)
    assert (fabric.state, fabric.codes) == ("not-shown", ("fabric-run-failed",))


@pytest.mark.parametrize(
    ("state", "codes", "said", "code"),
    [
        ("connected", (), "fabric: connected, network loss 7.0 %", "fabric-shown"),
        ("connected", ("network-run-missing",), "fabric: connected, network loss 7.0 %", "fabric-shown"),
        ("partly", ("fabric-rank-missing",), "fabric: partly (2 groups), network loss 7.0 %", "fabric-rank-missing"),
        ("not-shown", ("fabric-vector-differs",), "fabric: not shown", "fabric-vector-differs"),
        (None, (), "fabric: not shown", "fabric-not-measured"),
    ],
)
def test_the_fabric_stands_beside_the_condition_of_one_facility(
    state: Any, codes: tuple[str, ...], said: str, code: str
) -> None:
    basis, records = laid()
    stated = statement_of(records, basis)
    fabric = stated.fabric
    assert fabric is not None
    if state != "connected":
        groups = (FabricGroup(group="pod-1", nodes=1, devices=2),) * 2 if state == "partly" else ()
        fabric = replace(fabric, state=state or "not-shown", groups=groups, losses=fabric.losses if groups else ())
    fabric = replace(fabric, codes=codes) if state else None
    shown = replace(stated, fabric=fabric)
    assert next(one.verdict for one in stated.verdicts if one.condition == SINGLE_FACILITY) == "declared"
    for lang in LANGUAGES:
        line = f"  {fabric_headline(fabric, lang)} [{code}]"
        lines = describe_statement(shown, lang=lang)
        at = next(i for i, one in enumerate(lines) if one.startswith("guangzhou-2000p/single-facility:"))
        assert lines[at + 1] == line
        parts = [one for part in statement_parts(shown, False, lang) for one in part.forms[0]]
        assert (line.strip() in parts) == (fabric is not None)
    assert fabric_headline(fabric, "en") == said
    page = render(view_of(shown, (load_policy("guangzhou-2000p"),), "ab" * 32, "cd" * 32))
    assert f"{said}</span> <code>[{code}]</code>" in page
    assert ("By the records&#39; word it is a connection, and no building" in page) == (fabric is not None)
    has_loss = fabric is not None and bool(fabric.losses)
    for said_of_network in (
        "beyond one run&#39;s loss at a fixed T",
        "the network beyond one run under a fixed assumption",
    ):
        assert (said_of_network in page) == has_loss


def test_losses_are_printed_with_their_assumption_and_never_too_low() -> None:
    basis, records = laid()
    fabric = judged(records, basis)
    exact = replace(fabric.losses[0], network_loss_ppm=70_001, contention_ppm=-30_999, retained_ppm=960_900)
    lines = {code: said for said, code in fabric_details(replace(fabric, losses=(exact,)), "en", 5)}
    assert lines["network-loss"] == (
        "T = 16,384 (an assumption): network loss 7.1 %, contention -3.0 %, retained 96.0 % (8 devices)"
    )
    assert lines["fabric-groups"] == "groups by size: all nodes (4 nodes, 8 devices)"
    assert lines["network-bandwidth"].startswith("all-reduce of 256 MiB over 8 ranks: bus bandwidth 1.750 GB/s")
