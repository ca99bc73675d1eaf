"""Statements of every sort for the forms that people read: what counts and what does not, few pools and many, and
hostile names. From sums that no measurement stands behind, since words and layout alone are looked at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from msgspec.structs import replace

from bench.record import ExpectedNode, Grade, PoolClass, Workload
from bench.record.campaign import Attempt
from certify.documents.statement import BandwidthLine, CapacityStatement, Fabric, FabricGroup, NetworkLine
from certify.judge.tally import CeilingKey, CeilingSum, Key, Tally
from certify.policy.capacity import CapacitySum, NodeMost
from certify.policy.policies import Policy, load_policy
from certify.policy.reasons import reasons
from certify.statement.build import build
from tests.certify.judged import ISSUE, ROOT, basis_of, centre_of
from tests.certify.measured import node_name
from tests.certify.statement.test_build import CAMPAIGN, CERTIFICATION, DECLARED, OLD, P, amount

GUANGZHOU = (load_policy("guangzhou-2000p"),)
ALL_POLICIES = tuple(map(load_policy, ("guangzhou-2000p", "guangzhou-2027", "wuhan-2025")))
LONG_NAME = "粤港澳大湾区人工智能与科学计算融合创新公共算力服务中心" * 8
BEYOND_FONTS = "\U00020bb7野家算力"  # a character that few fonts have
STEERING = "\u202egnitupmoc\u202c \x1b[31mred\x1b[0m\u2066a\u2069"  # overrides of direction, and a terminal's escapes
HEBREW = "\u05de\u05d7\u05e9\u05d5\u05d1"  # letters that run from right to left
LONG_WORD = "H" * 240


BEFORE = Attempt(campaign_id="before", campaign_sha256="ab" * 32, issued_at=CAMPAIGN.issued_at, outcome="aborted")


class Case(NamedTuple):
    """A statement, and the policies that it was judged by."""

    statement: CapacityStatement
    policies: tuple[Policy, ...] = GUANGZHOU


class PoolSum(NamedTuple):
    """What a pool adds."""

    counted: CapacitySum
    pool_class: PoolClass = "intelligent"
    precision: str = "fp16"
    model: tuple[str, str] = ("Huawei", "Ascend 910B3")
    old: CapacitySum | None = None
    untested: CapacitySum | None = None


def made(
    pools: dict[str, PoolSum],
    policies: tuple[Policy, ...] = GUANGZHOU,
    nodes: int = 1,
    missing: int = 0,
    grade: Grade = "certification",
    baseline: bool = True,
    simulated: bool = False,
    not_counted: int = 0,
    findings: Counter[tuple[str, str]] | None = None,
    earlier: int = 0,
    **centre: Any,
) -> Case:
    """Return the statement of pools whose sums are given."""
    places = [{"pool": name, "class": one.pool_class, "nodes": "all", "partition": name} for name, one in pools.items()]
    everywhere = [{**place, "devices": "all"} for place in places]
    found = Tally(
        node_ids={node_name(i) for i in range(nodes)},
        grades={grade} if any(one.counted.devices for one in pools.values()) else set(),
        simulated=simulated,
        measured_from="2026-03-01T08:00:00.000000Z",
        measured_until="2026-03-01T09:00:00.000000Z",
        findings=findings or Counter(),
        not_counted=[(node_name(i), "npu:0", "fp16", ("throttled",)) for i in range(not_counted)],
    )
    for name, one in pools.items():
        workload = Workload(one.precision)  # type: ignore[arg-type]
        for old, total in ((False, one.counted), (True, one.old)):
            if total is not None and total.devices:
                found.sums[Key(name, workload, old, "clean")] = total
        if one.untested is not None:
            found.untested[name, False] = one.untested
        counted = [total for total in (one.counted, one.old) if total is not None]
        devices = sum(total.devices for total in counted)
        certified = sum(total.certified_mflop_s for total in counted)
        found.devices[name] = devices + (one.untested.devices if one.untested else 0)
        found.nodes[name] = nodes
        found.largest[name] = NodeMost(2 * P)
        found.in_baseline += one.old.devices if one.old else 0
        found.inventory[(name, *one.model, "card")] = found.devices[name]
        key = CeilingKey(name, workload, *one.model, "rating", "rating")
        found.ceilings[key] = CeilingSum(devices, devices, certified, 328_650_000)
    campaign = replace(
        CAMPAIGN,
        nodes=tuple(ExpectedNode(node_id=node_name(i), pool=next(iter(pools))) for i in range(nodes + missing)),
        earlier=tuple(
            Attempt(
                campaign_id=f"before-{i}", campaign_sha256="ab" * 32, issued_at=CAMPAIGN.issued_at, outcome="aborted"
            )
            for i in range(earlier)
        ),
    )
    place = centre_of(**{**(DECLARED if baseline else {}), "pools": everywhere, **centre})
    basis = basis_of(campaign, CERTIFICATION, place, policies, OLD if baseline else None)
    return Case(build(found, ROOT, basis, ISSUE), policies)


def split(certified: int, sustained: int, upper: int, nominal: int, devices: int = 6144) -> CapacitySum:
    """Return a sum of which each figure is another one, in units of 10^12 FLOP/s."""
    total = amount(certified * 10**6, upper * 10**6, nominal * 10**6, devices)
    total.sustained_mflop_s = sustained * 10**6
    return total


WHOLE = PoolSum(split(1_909_123, 1_924_345, 1_940_567, 2_310_789))


def hostile() -> Case:
    """Return a statement in which everybody's words are as they should not be."""
    sha = "ab" * 32
    return made(
        {"zone-a.row-17.training-accelerators.of-the-first-phase-2026": WHOLE._replace(model=(HEBREW, LONG_WORD))},
        name={"zh": LONG_NAME[:200], "en": STEERING},
        operator=BEYOND_FONTS,
        uscc=None,
        district=STEERING,
        project_id=HEBREW,
        park={"name": LONG_WORD, "evidence_sha256": sha},
        facility={"id": HEBREW, "definition": f"{HEBREW} 1", "evidence_sha256": sha},
        other_subsidies=[{"name": f"{LONG_NAME[:60]} {i}", "evidence_sha256": sha} for i in range(40)],
    )


def many_pools(count: int = 40) -> Case:
    """Return a statement of so many pools, each with a model of its own."""
    kinds: tuple[tuple[PoolClass, str], ...] = (("intelligent", "fp16"), ("supercomputing", "fp64"))
    return made(
        {
            f"hall-{i:02d}.accelerators": PoolSum(
                split(250_000 + i, 251_000 + i, 252_000 + i, 300_000 + i, 800 + i), *kinds[i % 2], ("Vendor", f"X{i}")
            )
            for i in range(count)
        },
        ALL_POLICIES,
    )


def many_nodes(count: int = 10_000) -> Case:
    """Return a statement of so many nodes, hundreds of them without a record, and every code of the rules."""
    codes = [code for code, entry in reasons().items() if entry.effect in ("note", "hold", "void")]
    return made(
        {"main": WHOLE._replace(untested=amount(0, nominal=5 * P, devices=800))},
        nodes=count - 700,
        missing=700,
        not_counted=800,
        findings=Counter({(code, "fp16"): 8 + i for i, code in enumerate(codes)}),
        earlier=60,
    )


def with_fabric(groups: int, codes: tuple[str, ...] = (), name: str = "pod-{:02d}") -> Case:
    """Return a statement whose network's runs show so many groups, of sizes that fall."""
    sizes = [6144] if groups == 1 else [8 * (20 - i // 4) for i in range(groups)]
    shown = tuple(
        FabricGroup(group=None if groups == 1 else name.format(i), nodes=size // 8, devices=size)
        for i, size in enumerate(sizes)
    )
    rates = {16_384: (1_635_693, 1_521_194), 4_096: (1_539_476, 1_200_791)}  # of B and C, in 10^12 FLOP/s
    losses = tuple(
        NetworkLine(
            tokens=tokens,
            devices=sum(sizes),
            compute_mflop_s=1_924_345 * 10**6,
            node_mflop_s=node * 10**6,
            fabric_mflop_s=fabric * 10**6,
            contention_ppm=10**6 - node * 10**6 // 1_924_345,
            network_loss_ppm=10**6 - fabric * 10**6 // node,
            retained_ppm=fabric * 10**6 // 1_924_345,
        )
        for tokens, (node, fabric) in rates.items()
    )
    bandwidths = tuple(
        BandwidthLine(size_bytes=size, ranks=sizes[-1], algorithm_mb_s=rate, bus_mb_s=rate * 2)
        for size, rate in ((4096, 12), (2**20, 2_900), (2**28, 42_123))
    )
    case = made({"main": WHOLE})
    fabric = Fabric(
        state="connected" if groups == 1 else "partly",
        devices=sum(sizes),
        of_devices=6144,
        groups=shown,
        codes=codes,
        losses=losses,
        bandwidths=bandwidths,
    )
    return case._replace(statement=replace(case.statement, fabric=fabric))


CASES: dict[str, Callable[[], Case]] = {
    "counted": lambda: made({"main": WHOLE}),
    "met": lambda: made({"main": PoolSum(split(10_000_000, 10_100_000, 10_200_000, 12_345_678, 38_400))}, ALL_POLICIES),
    "baseline": lambda: made(
        {"main": WHOLE._replace(old=split(500_000, 501_000, 502_000, 600_000, 3), untested=amount(0, devices=7))},
        missing=2,
    ),
    "no-baseline": lambda: made({"main": WHOLE}, baseline=False, park=None),
    "low-grade": lambda: made({"main": WHOLE}, grade="standard"),
    "simulated": lambda: made({"main": WHOLE}, simulated=True, grade="smoke"),
    "smoke": lambda: made({"main": WHOLE}, grade="smoke"),
    "nothing": lambda: made({"main": PoolSum(CapacitySum(), untested=amount(0, nominal=9 * P, devices=80))}),
    "fp64-only": lambda: made({"hpc": PoolSum(split(41_000, 42_000, 43_000, 50_000), "supercomputing", "fp64")}),
    "both-classes": lambda: made(
        {"ai": WHOLE, "hpc": PoolSum(split(41_000, 42_000, 43_000, 50_000), "supercomputing", "fp64")}, ALL_POLICIES
    ),
    "no-rating": lambda: made({"main": PoolSum(CapacitySum(8, 8 * P, 8 * P, 9 * P, 0, 5 * P, 3))}),
    "one-group": lambda: with_fabric(1),
    "many-groups": lambda: with_fabric(40, ("fabric-rank-missing", "network-run-missing"), f"{'w' * 50}-{{:02d}}"),
    "hostile": hostile,
    "many-pools": many_pools,
    "many-nodes": many_nodes,
}
