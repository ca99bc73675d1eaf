"""Thresholds and shares, judged in two ways from the same sums: by `certify.policy.verdicts` and by the oracle."""

from __future__ import annotations

from collections import Counter
from functools import reduce
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from bench.profile import load_profile
from certify.documents.kinds import Baseline, BaselineDevice
from certify.documents.statement import CapacityStatement
from certify.judge.tally import Key, Tally
from certify.policy.capacity import CapacitySum, NodeMost
from certify.policy.centre import Bilingual
from certify.policy.policies import Clause, Domestic, Policy, Share, Threshold, load_policy
from certify.statement.build import build
from tests.certify.judged import ISSUE, ROOT, basis_of, centre_of
from tests.certify.measured import node_name, test_campaign
from tests.oracle.ground import Added, Ground, Group, Part
from tests.oracle.sums import compare
from tests.oracle.thresholds import judged, shares_shown

P = 10**9
POOLS: list[dict[str, Any]] = [
    {"pool": "main", "class": "intelligent", "nodes": [node_name(0)], "devices": "all"},
    {"pool": "second", "class": "intelligent", "nodes": [node_name(1)], "devices": "all"},
    {"pool": "super", "class": "supercomputing", "nodes": [node_name(2)], "devices": "all"},
    {"pool": "rest", "class": "general", "nodes": "all", "devices": "all"},
]
CLASSES = {pool["pool"]: pool["class"] for pool in POOLS}
TITLE, CLAUSE = Bilingual(zh="条件", en="Condition"), Clause(ref="1", text="条件")


def policy_of(random: Random) -> Policy:
    """Return a policy with thresholds and shares that the sums may or may not reach."""
    conditions: list[Any] = [
        Threshold(
            condition=f"t{i}",
            title=TITLE,
            clause=CLAUSE,
            classes=random.choice((("intelligent",), ("supercomputing",), ("intelligent", "general"))),
            operator=random.choice((">=", ">")),
            value=random.choice((1, 2, 3, 4, 6, 9)),
            unit="PFLOPS",
            basis=random.choice(("certified", "sustained", "nominal", "unstated")),
            counted=random.choice(("all", "newly_added")),
            requires=random.choice(((), ("project",), ("managed",))),
        )
        for i in range(4)
    ]
    conditions += [
        Share(
            condition=f"s{i}",
            title=TITLE,
            clause=CLAUSE,
            classes=("intelligent",),
            of=("intelligent", "supercomputing", "general"),
            operator=random.choice((">=", ">")),
            value_ppm=random.choice((0, 250_000, 500_000, 750_000, 10**6)),
            basis=random.choice(("certified", "sustained", "nominal", "unstated")),
        )
        for i in range(3)
    ]
    conditions.append(
        Domestic(
            condition="d",
            title=TITLE,
            clause=CLAUSE,
            classes=random.choice((("intelligent",), ("intelligent", "general"))),
            vendors=("Huawei", "Moore Threads"),
        )
    )
    return replace(
        load_policy("guangzhou-2000p"),
        policy="drawn",
        conditions=tuple(conditions),
        accept=("throttled",),
        minimum_grade=random.choice(("smoke", "standard")),
        jurisdiction=random.choice((None, "CN-440000", "CN-440100", "CN-110000")),
        scope=random.choice(("centre", "city")),
    )


def numbers(random: Random) -> dict[str, Any]:
    devices = random.randrange(1, 4)
    certified = random.choice((0, P, 2 * P, 3 * P))
    sustained = certified + random.choice((0, P // 10))
    return {
        "devices": devices,
        "certified_mflop_s": certified,
        "sustained_mflop_s": sustained,
        "upper_mflop_s": sustained + random.choice((0, P)),
        "unbounded": int(random.random() < 0.1),
        "nominal_mflop_s": random.choice((0, P, 4 * P)),
        "without_rating": int(random.random() < 0.15),
    }


def machines(random: Random) -> list[list[tuple[int | None, int | None]]]:
    """Return the devices of some nodes of a pool: the upper bound of each one's figure, and its rating."""
    rates = (0, P // 4, P // 2, P, 3 * P) if random.random() < 0.6 else (0, P // 50)
    nothing = (None,) if random.random() < 0.1 else ()
    return [
        [(random.choice((*rates, None)), random.choice((*rates, *nothing))) for _ in range(random.randrange(1, 4))]
        for _ in range(random.randrange(0 if random.random() < 0.2 else 1, 4))
    ]


def drawn(seed: int) -> tuple[CapacityStatement, Ground, Part]:
    """Return a statement made by the ordinary path, and what an audit would have added up to."""
    random = Random(seed)
    policy = policy_of(random)
    nodes = 4
    campaign = test_campaign(load_profile("standard"), ("fp16", "fp32", "fp64"), nodes)
    campaign = replace(
        campaign, nodes=tuple(replace(n, pool=POOLS[min(i, 3)]["pool"]) for i, n in enumerate(campaign.nodes))
    )
    inventory = Baseline(
        centre_id="gz-test",
        taken_at="2026-01-01T00:00:00.000000Z",
        devices=(BaselineDevice(uuid="gpu-0123456789a", serial=None, die_id=None),),
    )
    has_baseline = random.random() < 0.5
    dated = {"baseline": "b.json", "baseline_date": "2026-01-01"} if has_baseline else {}
    basis = basis_of(
        campaign, "standard", centre_of(pools=POOLS, **dated), (policy,), inventory if has_baseline else None
    )
    there = {node_name(i) for i in range(nodes) if random.random() < 0.9}
    tally, part = Tally(node_ids=set(there)), Part(nodes=sorted(there), records=len(there))
    for pool in CLASSES:
        part.machines[pool] = machines(random)
        for machine in part.machines[pool]:
            most = reduce(NodeMost.plus, (NodeMost.of_device(*device) for device in machine))
            tally.largest[pool] = most.or_other(tally.largest.get(pool))
        workload = basis.scope.counting[CLASSES[pool]].workload
        for existing in (False, True) if has_baseline else (False,):
            for held in (False, True):
                if random.random() < 0.5:
                    own = numbers(random)
                    tally.sums[Key(pool, workload, existing, "on_hold" if held else "clean")] = CapacitySum(**own)
                    part.sums[Group(pool, True, held, existing)] = Added(**own)
                    vendor = random.choice(("HUAWEI", "moore  threads", "MooreThreads", "NVIDIA", "AMD"))
                    tally.vendors.setdefault((pool, vendor), CapacitySum()).add(CapacitySum(**own))
                    part.vendors.setdefault((pool, vendor), Added()).add(Added(**own))
            if random.random() < 0.3:
                rest = {
                    k: v for k, v in numbers(random).items() if k in ("devices", "nominal_mflop_s", "without_rating")
                }
                tally.untested[pool, existing] = CapacitySum(**rest)
                part.sums[Group(pool, False, False, existing)] = Added(**rest)
    if tally.sums:
        tally.grades = part.grades = {random.choice(("smoke", "standard", "certification"))}
    tally.simulated = part.simulated = random.random() < 0.05
    statement = build(tally, ROOT, basis, ISSUE)
    ground = Ground(
        statement=statement,
        profile=basis.scope.profile,
        policies=(policy,),
        ratings=basis.scope.ratings,
        existing=frozenset({"123456789a"}) if has_baseline else frozenset(),
    )
    return statement, ground, part


@pytest.mark.parametrize("batch", range(4))
def test_two_ways_to_one_verdict(batch: int) -> None:
    answers: Counter[tuple[str, str | None]] = Counter()
    for seed in range(batch * 300, (batch + 1) * 300):
        statement, ground, part = drawn(seed)
        found = list(judged(ground, part))
        assert len(found) == len(statement.verdicts) - 1 == 7
        ((shown, lines),) = shares_shown(ground, part)
        assert [(b.observed_mflop_s, b.whole_mflop_s, b.observed_ppm) for b in shown.bases] == lines, seed
        assert shown.verdict == "insufficient_evidence"
        for one in found:
            assert one.agrees, (seed, one.condition, one.answer, one.told)
            answers[one.answer] += 1
        sums = [what for code, where, what in compare(part, ground) if code == "sums-differ"]
        assert sums == [], seed
    assert len(answers) >= 11, answers


def test_a_verdict_that_is_changed_no_longer_agrees() -> None:
    _, ground, part = drawn(5)
    (first, *_) = judged(ground, part)
    other = replace(first.stated, verdict="met" if first.stated.verdict != "met" else "not_met")
    assert first.agrees
    assert not first._replace(stated=other).agrees
