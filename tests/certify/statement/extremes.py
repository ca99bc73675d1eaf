"""Statements as no centre should have them: of 40 pools and 10,000 nodes, with the conditions of twelve policies."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from bench.record import ExpectedNode, PoolClass, Precision
from certify.documents.statement import CapacityStatement, Finding, NotCounted
from certify.policy.centre import Bilingual
from certify.policy.verdicts import BasisVerdict, Verdict
from tests.certify.statement.test_build import P, amount, statement, tally

NODES, POOLS, POLICIES, FINDINGS = 10_000, 40, 12, 50
CHINESE = "算" * 200  # a name
BEYOND = "\U00020bb7"  # a character that fonts lack
RTL = "‮evil‬ \x1b[31mred\x1b[0m"
COUNTED: tuple[tuple[PoolClass, Precision], ...] = (
    ("intelligent", "fp16"),
    ("supercomputing", "fp64"),
    ("general", "fp32"),
    ("edge", "fp16"),
)
OUTCOMES = ("met", "not_met", "insufficient_evidence")


def huge() -> CapacityStatement:
    """Return a valid-looking statement of which everything is there often; its sums are nobody's."""
    base = statement(tally(amount(3 * P), held=amount(P, devices=2), untested=amount(P, devices=7)), nodes=2)
    (of_class,) = base.classes
    classes = tuple(
        replace(of_class, pool_class=name, precision=precision, nodes_missing=NODES // 4, with_witness=of_class.counted)
        for name, precision in COUNTED
    )
    pools = tuple(replace(base.pools[0], pool=f"pool-{number:02}-of-a-centre") for number in range(POOLS))
    nodes = tuple(ExpectedNode(node_id=f"node-{number:05}", pool=pools[number % POOLS].pool) for number in range(NODES))
    return replace(
        base,
        centre=replace(base.centre, name=Bilingual(zh=CHINESE, en=f"{BEYOND} {RTL}")),
        campaign=replace(base.campaign, nodes=nodes, self_issued=False),
        records=NODES // 2,
        simulated=True,
        grade="smoke",
        classes=classes,
        pools=pools,
        findings=findings(),
        not_counted=tuple(absent(number) for number in range(NODES // 2)),
        ceilings=tuple(replace(one, pool=pool.pool) for pool in pools for one in base.ceilings[:1]),
        verdicts=tuple(verdict for number in range(POLICIES) for verdict in verdicts(f"policy-{number:02}-of-a-city")),
    )


def findings() -> tuple[Finding, ...]:
    effects = ("hold", "void", "note")
    return tuple(
        Finding(code=f"code-{number:02}", effect=effects[number % 3], workload="fp16", devices=10 * number + 1)
        for number in range(FINDINGS)
    )


def absent(number: int) -> NotCounted:
    code = ("node-lost", "node-missing", "node-failed", "record-refused")[number % 4]
    return NotCounted(node_id=f"node-{number:05}", device=None, workload=None, codes=(code,))


def verdicts(policy: str) -> tuple[Verdict, ...]:
    """Return three thresholds of a policy, one of each outcome, and a condition without a number."""
    basis = BasisVerdict(
        basis="certified",
        observed_mflop_s=1900 * P,
        whole_mflop_s=None,
        observed_ppm=None,
        verdict="not_met",
        reason=None,
    )

    def one(condition: str, outcome: Any, **more: Any) -> Verdict:
        return Verdict(
            policy=policy,
            condition=condition,
            clause="二(六)",
            document_status="draft",
            attribute=None,
            verdict=outcome,
            reason="within-bounds" if outcome == "insufficient_evidence" else None,
            **more,
        )

    limit: dict[str, Any] = {"threshold_mflop_s": 2000 * P, "operator": ">=", "without_rating": 0, "classes": ("edge",)}
    bases = tuple(replace(basis, basis=name) for name in ("certified", "sustained", "nominal"))
    scales = [one(f"scale-{outcome.replace('_', '-')}", outcome, bases=bases, **limit) for outcome in OUTCOMES]
    return (*scales, one("park", "declared"))
