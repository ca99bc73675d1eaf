"""The rules that numbers decide, judged in two ways, by the product and by the oracle: figures of every kind."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from bench.engine.measure import Row
from bench.profile import load_profile
from bench.record import Campaign, Figure, Measurement, NodeClock, NodeRecord, throughput_bounds
from bench.units import gemm_mflop
from certify.judge import rules
from certify.keys.signers import load_scheme
from certify.policy.ratings import Rating, installed_ratings
from tests.certify.audit.audited import PROFILE, node_of
from tests.certify.measured import of_node, simulated, test_campaign
from tests.oracle.bounds import interval
from tests.oracle.judging import CODES, Case, judge

S = 10**9
# What a figure may say, where the rules change their mind and beyond.
FIGURES: dict[str, tuple[Any, ...]] = {
    "launches": (30, 90, 119, 120, 121, 8000),
    "opened_ns": (-1, 0, 10**6, S, 2 * S),
    "covered_until_ns": (0, 60 * S, 65 * S, 66 * S, 67 * S),
    "event_over_ns": (None, 0, -S, S // 2, S),
    "warmup_ns": (0, 60 * S, 147 * S, 150 * S, 153 * S),
    "verified_launches": (0, 1, 2, 100),
    "row_error_ppm": (None, 0, 3_500_000, 3_500_001),
    "rms_error_ppm": (None, 0, 199_999, 200_000, 650_000, 650_001, 1_100_000, 1_100_001),
    "samples": (0, 1, 2, 59, 60, 66, 200),
    "coverage_ppm": (None, 0, 949_999, 950_000, 10**6),
    "power_mean_mw": (None, 0, 100_000, 187_500, 650_000),
    "power_counter_mw": (None, 0, 585_000, 584_999, 715_000, 715_001),
    "temperature_max_c": (None, 60),
    "clock_mean_mhz": (None, 1700),
    "clock_max_mhz": (None, 100, 500, 2100, 5000),
    "throttled_ppm": (None, 0, 1),
    "ecc_uncorrected": (None, 0, 1),
    "foreign_processes": (None, 0, 1),
    "sustained_mflop_s": (1, 300_000_000, 1_307_400_000, 1_307_400_001, 1_438_140_000, 1_500_000_000, 2 * S),
}
MEASUREMENTS: dict[str, tuple[Any, ...]] = {
    "operand_sets": (1, 2, 8),
    "operand_bytes": (1, 2**30, 2**31, 2**32),
    "precision": ("fp16", "fp64"),
}
MODELS: dict[str, tuple[Any, ...]] = {
    "kind": ("gpu", "npu", "cpu"),
    "cache_bytes": (None, 0, 50 * 2**20, 2**31),
    "units": (None, 200, 304, 1000),
    "max_clock_mhz": (None, 100, 2100, 9000),
    "simulated": (False, True),
}
CLOCKS = (
    NodeClock(source="chrony", uncertainty_ns=10**6),
    NodeClock(source="chrony", uncertainty_ns=None),
    NodeClock(source="kernel", uncertainty_ns=S + 1),
    NodeClock(source="self", uncertainty_ns=0),
    NodeClock(source="fake", uncertainty_ns=0),
)
CAMPAIGN = test_campaign(load_profile(PROFILE), ("fp16", "fp64"), 3)
ROWS: list[Row] = []
RECORD = node_of(
    1,
    of_node(simulated(1, PROFILE, ("fp16", "fp64")).record, 1, CAMPAIGN, load_scheme("ed25519").generate()),
    lambda node, device, raw: None,
    ROWS,
)
RATINGS: tuple[Rating | None, ...] = (
    None,
    installed_ratings().match("AMD", "AMD Instinct MI300X", 192 * S),
    installed_ratings().match("MetaX", "MXC500"),
    next(rating for rating in installed_ratings().units if rating.confidence == "medium" and rating.rates),
)


def drawn(random: Random, choices: dict[str, tuple[Any, ...]], most: int) -> dict[str, Any]:
    names = random.sample(sorted(choices), random.randrange(most + 1))
    return {name: random.choice(choices[name]) for name in names}


def times_of(random: Random, f: Figure) -> list[int]:
    """Return 30 times: steady, noisy, drifting, short or as they were."""
    base = sum(f.subwindow_ns) // 30
    kind = random.randrange(5)
    if kind == 0:
        return [max(1, round(random.gauss(base, base / 5))) for _ in range(30)]
    if kind == 1:
        return [base + i * base // 60 for i in range(30)]
    if kind == 2:
        by = random.choice((0.01, 0.5, 12))  # too short for any grade; below the profile's; as long as `certification`
        return [round(x * by) for x in f.subwindow_ns]
    return f.subwindow_ns


def mutated(seed: int) -> tuple[NodeRecord, Measurement, Figure, Rating | None, Campaign, dict[Any, int]]:
    random = Random(seed)
    m = random.choice(RECORD.measurements)
    figure = next(m.figures())
    times = times_of(random, figure)
    m = replace(m, **drawn(random, MEASUREMENTS, 2))
    record = replace(
        RECORD,
        models=tuple(replace(model, **drawn(random, MODELS, 2)) for model in RECORD.models),
        clock=random.choice(CLOCKS) if random.random() < 0.4 else RECORD.clock,
        ended_at=random.choice((RECORD.ended_at, RECORD.ready_at)) if random.random() < 0.1 else RECORD.ended_at,
    )
    changes = drawn(random, FIGURES, 4)
    figure = figure._replace(**{k: v for k, v in changes.items() if k == "launches"})
    b = throughput_bounds(gemm_mflop(m.m, m.n, m.k, figure.launches), times)
    least = min(times) - (random.random() < 0.02)
    total = sum(times)
    figure = figure._replace(
        subwindow_min_ns=max(1, least),
        subwindow_over_ns=tuple(x - max(1, least) for x in times),
        counted_until_ns=figure.opened_ns + total + (random.choice((0, S, -S)) if random.random() < 0.1 else 0),
        covered_until_ns=max(figure.covered_until_ns, figure.opened_ns + total),
        sustained_mflop_s=b.sustained_mflop_s,
        certified_mflop_s=b.certified_mflop_s,
        upper_mflop_s=b.upper_mflop_s,
    )._replace(**changes)
    campaign = replace(CAMPAIGN, self_issued=True) if random.random() < 0.2 else CAMPAIGN
    beside = {p: random.choice((1, 30_000_000, 300_000_000)) for p in ("fp16", "fp64") if random.random() < 0.7}
    return record, m, figure, random.choice(RATINGS), campaign, beside


@pytest.mark.parametrize("part", range(4))
def test_two_ways_to_one_judgement(part: int) -> None:
    profile = load_profile(PROFILE)
    seen: Counter[str] = Counter()
    for seed in range(part * 1000, (part + 1) * 1000):
        record, m, figure, rating, campaign, beside = mutated(seed)
        model = record.models[0]
        setting = rules.setting_of(record, m, model, rating, rules.Plan(campaign, profile))
        ordinary, grade = rules.judge(setting, figure, beside)
        work = 2 * m.m * m.n * m.k * figure.launches // 10**6
        made, own_grade = judge(
            Case(
                record=record,
                measurement=m,
                figure=figure,
                rates=interval(work, figure.subwindow_ns),
                device=record.devices[0],
                model=model,
                rating=rating,
                campaign=campaign,
                profile=profile,
                slot_ns=0,
                place=0,
                other_rates=beside,
            )
        )
        assert sorted(made) == sorted(code for code in ordinary if code in CODES), seed
        assert own_grade == grade, seed
        seen.update(made)
    assert len(seen) >= len(CODES) - 4, CODES - seen.keys()


def test_every_code_is_reached_by_some_figure() -> None:
    seen: set[str] = set()
    profile = load_profile(PROFILE)
    for seed in range(4000):
        record, m, figure, rating, campaign, beside = mutated(seed)
        setting = rules.setting_of(record, m, record.models[0], rating, rules.Plan(campaign, profile))
        seen.update(rules.judge(setting, figure, beside)[0])
    assert seen >= CODES, CODES - seen
