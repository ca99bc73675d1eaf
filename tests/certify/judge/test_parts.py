"""Dies and slices: each has its share of its unit's limits, and all of one unit together no more than the unit."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from msgspec.structs import replace

from bench.profile import load_profile
from bench.record import NodeRecord, Workload, columns
from certify.judge.case import MeasurementPlan
from certify.judge.rules import RecordFigures, figures_of
from certify.policy.rating import Match, Rate, Rating
from certify.policy.ratings import Ratings
from tests.bench.fleet import simulate
from tests.certify.measured import node_name, test_campaign

FP16 = Workload("fp16", "fixed")
PROFILE = load_profile("smoke")
CAMPAIGN = test_campaign(PROFILE, ("fp16",), 1)
# Two dies of 64 units x 2048 FLOP/clock at 1,800 MHz at most: 235.9 TFLOPS each by L1; rated at 200 each.
RATING = Rating(
    accelerator="twin",
    name="Twin",
    vendor="V",
    confidence="high",
    count_unit="package",
    dies_per_unit=2,
    part="unit",
    units=128,
    highest_clock_mhz=1800,
    memory_bytes=None,
    tdp_mw=700_000,
    rates={
        "fp16": Rate(
            nominal_mflop_s=400_000_000,
            flop_per_clock_per_unit=2048,
            rating_clock_mhz=1700,
            silicon_confidence="high",
            best_known_mflop_s=300_000_000,  # L5: 345 TFLOPS for the whole
        )
    },
)
DIES = Ratings([(RATING, (Match(name="Twin", part="die"),))])
WHOLES = Ratings([(RATING, (Match(name="Twin"),))])
DIE: dict[str, Any] = {"vendor": "V", "model": "Twin", "count_unit": "die", "units": 64}
SLICE: dict[str, Any] = {"vendor": "V", "model": "Twin", "count_unit": "slice", "units": 32}


@cache
def simulated(devices: int, rate_tflops: int, power_mw: int = 300_000) -> NodeRecord:
    script = {"rate_gflop_s": {"fp16": rate_tflops * 1000}, "power_mw": power_mw}
    return simulate(script, devices, PROFILE, ("fp16",), node_name(0), CAMPAIGN)


def parts(rate_tflops: int, parents: tuple[str | None, ...], power_mw: int = 300_000, **model: Any) -> NodeRecord:
    """Return a record of one device for each parent."""
    record = simulated(len(parents), rate_tflops, power_mw)
    return replace(
        record,
        models=(replace(record.models[0], **{**DIE, **model}),),
        devices=tuple(replace(d, parent=p) for d, p in zip(record.devices, parents, strict=True)),
    )


def judged(record: NodeRecord, ratings: Ratings = DIES) -> tuple[RecordFigures, list[set[str]]]:
    found = figures_of(record, ratings, MeasurementPlan(CAMPAIGN, PROFILE))
    return found, [set(found.judged[d.device][FP16].judgement.codes) for d in record.devices]


def with_power(record: NodeRecord, *power_mw: int | None) -> NodeRecord:
    (m,) = record.measurements
    rows = [f._replace(power_mean_mw=p) for f, p in zip(m.figures(), power_mw, strict=True)]
    return replace(record, measurements=(replace(m, **columns(rows)),))


def test_two_dies_of_one_package_are_honest() -> None:
    found, codes = judged(parts(160, ("P", "P"), 200_000))
    assert [c - {"autocorrelated"} for c in codes] == [
        {"power-with-parent"}
    ] * 2  # both tell the same power: it is the package's
    assert found.crowded == frozenset()
    assert [row.share for row in found.rows] == [(1, 2)]
    assert found.rows[0].nominal_mflop_s("fp16") == 200_000_000


def test_one_card_told_as_many_dies_counts_nothing() -> None:
    record = parts(160, ("P",) * 5)
    found, _ = judged(record)
    assert found.crowded == {d.device for d in record.devices}


def test_a_die_of_a_unit_that_is_not_listed_by_dies_is_void() -> None:
    _, codes = judged(parts(160, ("P",)), WHOLES)
    assert "die-not-rated" in codes[0]


@pytest.mark.parametrize(("rate", "code"), [(236, "above-silicon-ceiling"), (174, "above-best-known")])
def test_the_sum_over_a_unit_is_bounded_as_the_unit(rate: int, code: str) -> None:
    _, together = judged(parts(rate, ("P", "P")))
    assert all(code in codes for codes in together)
    _, apart = judged(parts(rate, ("P", "Q")))  # each alone stays below what the package has
    assert all(("above-best-known" in codes) is False for codes in apart)


def test_a_part_without_a_figure_adds_nothing() -> None:
    record = parts(174, ("P", "P"))
    (m,) = record.measurements
    alone = replace(record, measurements=(replace(m, **columns(list(m.figures())[:1])),))
    found = figures_of(alone, DIES, MeasurementPlan(CAMPAIGN, PROFILE))
    assert "above-best-known" not in found.judged[record.devices[0].device][FP16].judgement.codes


def test_a_part_without_a_parent_is_judged_by_its_share() -> None:
    _, codes = judged(parts(174, (None,)))
    assert "above-best-known" in codes[0]  # 345 / 2 = 172.5


def test_a_slice_has_the_units_that_it_tells() -> None:
    found, codes = judged(parts(60, ("P",) * 4, **SLICE), WHOLES)
    assert [row.share for row in found.rows] == [(32, 128)]
    assert found.crowded == frozenset()
    assert all("share-unknown" not in c and "above-silicon-ceiling" not in c for c in codes)
    assert found.rows[0].nominal_mflop_s("fp16") == 100_000_000
    _, fast = judged(parts(118, ("P",) * 2, **SLICE), WHOLES)
    assert all("above-silicon-ceiling" in c for c in fast)


def test_slices_are_no_more_than_their_whole() -> None:
    found, _ = judged(parts(60, ("P",) * 5, **SLICE), WHOLES)
    assert len(found.crowded) == 5


def test_a_slice_that_does_not_tell_its_units_is_held() -> None:
    found, codes = judged(parts(60, ("P",), **{**SLICE, "units": None}), WHOLES)
    assert "share-unknown" in codes[0]
    assert found.rows[0].nominal_mflop_s("fp16") is None


@pytest.mark.parametrize(
    ("told", "codes"),
    [
        ((1_000_000, None), {"power-with-parent"}),  # at most 1,050 W for the package
        ((1_060_000, None), {"power-with-parent", "power-impossible"}),
        ((1_060_000, 1_060_000), {"power-with-parent", "power-impossible"}),
        ((690_000, 700_000), {"power-with-parent"}),  # each repeats the package's, by readings of its own
        ((1_050_000, 1_060_000), {"power-with-parent", "power-impossible"}),
        ((99_000, 100_000), {"power-with-parent"}),  # or each gives its own
        ((86_000, 87_000), {"power-with-parent", "power-too-low"}),
        ((500_000, 540_000), set()),
        ((500_000, 560_000), {"power-impossible"}),
        ((170_000, None), {"power-with-parent", "power-too-low"}),  # below a quarter of 700 W
        ((None, None), set()),
    ],
)
def test_power_of_a_unit_is_compared_with_all_its_parts(told: tuple[int | None, ...], codes: set[str]) -> None:
    of_power = {"power-with-parent", "power-impossible", "power-too-low"}
    _, found = judged(with_power(parts(160, ("P", "P")), *told))
    assert [c & of_power for c in found] == [codes, codes]


def test_a_forger_gains_nothing_by_splitting() -> None:
    """The same silicon told as a whole, as dies and as slices has one limit."""
    whole = parts(300, (None,), count_unit="package", units=128)
    limit = (
        figures_of(whole, WHOLES, MeasurementPlan(CAMPAIGN, PROFILE))
        .judged[whole.devices[0].device][FP16]
        .judgement.limit
    )
    assert limit is not None
    assert (limit.name, limit.mflop_s) == ("best-known", 345_000_000)
    for record, ratings in ((parts(160, ("P", "P")), DIES), (parts(60, ("P",) * 4, **SLICE), WHOLES)):
        figures = figures_of(record, ratings, MeasurementPlan(CAMPAIGN, PROFILE))
        limits = [figures.judged[d.device][FP16].judgement.limit for d in record.devices]
        assert sum(one.mflop_s for one in limits if one is not None) <= limit.mflop_s
