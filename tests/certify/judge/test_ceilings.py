"""R12 at its edges: each limit is passed by one MFLOP/s and kept by none; all apply together, and the lowest binds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from bench.record import Precision
from certify.judge.ceilings import (
    STEPS,
    WHOLE,
    CeilingFacts,
    Ceilings,
    Issued,
    UnitShare,
    ceilings,
    cpu_ceilings,
    notes,
    power_too_low,
    ratio_impossible,
)
from certify.policy.rating import Rate, Rating
from certify.policy.reasons import effect_of

# 100 units x 1000 FLOP/clock: 10^5 MFLOP/s a MHz; nominal at 1000 MHz, boards up to 1200 MHz.
NOMINAL = 100_000_000
FP16 = Rate(nominal_mflop_s=NOMINAL, flop_per_clock_per_unit=1000, rating_clock_mhz=1000, silicon_confidence="high")
FP64 = Rate(
    nominal_mflop_s=NOMINAL // 10, flop_per_clock_per_unit=100, rating_clock_mhz=1000, silicon_confidence="high"
)


def rating_of(fp16: Rate | None = FP16, **changes: Any) -> Rating:
    values: dict[str, Any] = {
        "accelerator": "x",
        "name": "X",
        "vendor": "V",
        "confidence": "high",
        "count_unit": "card",
        "dies_per_unit": 1,
        "part": "unit",
        "units": 100,
        "highest_clock_mhz": 1200,
        "memory_bytes": None,
        "tdp_mw": 400_000,
        "rates": {"fp64": FP64, **({"fp16": fp16} if fp16 else {})},
    }
    return Rating(**{**values, **changes})


RATING = rating_of()
RATED_ONLY = rating_of(Rate(nominal_mflop_s=NOMINAL, flop_per_clock_per_unit=None, rating_clock_mhz=None))
FACTS = CeilingFacts(
    precision="fp16",
    rate_mflop_s=80_000_000,
    units=100,
    max_clock_mhz=1200,
    clock_max_mhz=1000,
    clock_mean_mhz=990,
    clock_samples=600,
)
HIGHEST = 300_000_000


def limits(
    facts: CeilingFacts = FACTS, rating: Rating | None = RATING, share: UnitShare = WHOLE, **more: Any
) -> dict[str, int]:
    return {one.name: one.mflop_s for one in ceilings(facts, rating, HIGHEST, share, **more).limits}


def test_an_honest_figure_has_no_code() -> None:
    found = ceilings(FACTS, RATING, HIGHEST)
    assert found.step == "silicon"
    assert found.passed(FACTS.rate_mflop_s) == notes(FACTS, RATING, found) == ()


def test_all_limits_stand_beside_each_other() -> None:
    facts = replace(FACTS, issued=(Issued(98_000_000, 1000),))
    known = rating_of(replace(FP16, best_known_mflop_s=90_000_000))
    assert limits(facts, known) == {
        "silicon": 120_000_000,  # L1
        "observed-clock": 102_000_000,  # L2
        "mean-clock": 103_950_000,  # L2b
        "issue-rate": 98_960_400,  # L3: 1.02 x 98,000,000 x 990 / 1000
        "best-known": 103_500_000,  # L5
        "highest-rating": 375_000_000,  # L6
    }
    found = ceilings(facts, known, HIGHEST)
    assert found.step == "measured"
    assert found.binding is not None
    assert found.binding.name == "issue-rate"


@pytest.mark.parametrize(
    ("name", "code", "effect"),
    [
        ("silicon", "above-silicon-ceiling", "void"),
        ("observed-clock", "above-observed-clock-ceiling", "void"),
        ("mean-clock", "above-mean-clock", "note"),
        ("issue-rate", "above-measured-ceiling", "hold"),
        ("rating", "above-rating-unproven", "hold"),
        ("best-known", "above-best-known", "hold"),
        ("highest-rating", "above-every-rating", "void"),
        ("cpu", "above-cpu-ceiling", "void"),
    ],
)
def test_each_limit_is_passed_by_one_mflop_s(name: str, code: str, effect: str) -> None:
    known = replace(RATED_ONLY.rates["fp16"], best_known_mflop_s=10**7)
    found = {
        one.name: one
        for of in (
            ceilings(replace(FACTS, issued=(Issued(99_000_000, 1000),)), RATING, HIGHEST),
            ceilings(FACTS, rating_of(known), HIGHEST),
            cpu_ceilings("fp64", "native", "avx2", 64, 3000),
        )
        for one in of.limits
    }
    limit = found[name]  # type: ignore[index]
    alone = Ceilings("none", (limit,))
    assert alone.passed(limit.mflop_s) == ()
    assert alone.passed(limit.mflop_s + 1) == (code,)
    assert effect_of(code) == effect


def test_l1_takes_the_fewer_units_and_the_lower_clock() -> None:
    assert limits(replace(FACTS, units=1000))["silicon"] == 120_000_000
    assert limits(replace(FACTS, units=75))["silicon"] == 90_000_000
    assert limits(replace(FACTS, max_clock_mhz=9000))["silicon"] == 120_000_000
    assert limits(replace(FACTS, max_clock_mhz=1100))["silicon"] == 110_000_000
    untold = replace(FACTS, units=None, max_clock_mhz=None)
    assert limits(untold)["silicon"] == 120_000_000
    assert notes(untold, RATING, ceilings(untold, RATING, HIGHEST)) == ("units-not-told", "clock-not-told")


def test_l2_needs_sixty_readings_of_the_clock() -> None:
    assert "observed-clock" in limits(replace(FACTS, clock_samples=60))
    few = limits(replace(FACTS, clock_samples=59))
    assert "observed-clock" not in few
    assert "mean-clock" not in few


@pytest.mark.parametrize(("rate", "exists"), [(94_999_999, False), (95_000_000, True)])
def test_l3_needs_a_kernel_that_reached_the_silicon(rate: int, exists: bool) -> None:
    facts = replace(FACTS, issued=(Issued(rate, 1000),))
    assert ("issue-rate" in limits(facts)) is exists
    assert ceilings(facts, RATING, HIGHEST).step == ("measured" if exists else "silicon")


def test_l3_never_raises_a_limit_and_takes_the_fastest_kernel() -> None:
    slow, fast = Issued(95_000_000, 1000), Issued(99_000_000, 1000)
    assert limits(replace(FACTS, issued=(slow, fast)))["issue-rate"] == 99_970_200
    invented = limits(replace(FACTS, issued=(Issued(10**12, 1000),)))
    assert {k: v for k, v in invented.items() if k != "issue-rate"} == limits()
    assert "issue-rate" not in limits(replace(FACTS, issued=(fast,), clock_mean_mhz=None))


@pytest.mark.parametrize("confidence", ["high", "medium", "low", "none"])
def test_l4_exists_without_certain_silicon_and_with_a_good_rating(confidence: str) -> None:
    rating = rating_of(RATED_ONLY.rates["fp16"], confidence=confidence)
    found = ceilings(FACTS, rating, HIGHEST)
    good = confidence in ("high", "medium")
    assert found.step == ("rating" if good else "none")
    assert limits(rating=rating).get("rating") == (105_000_000 if good else None)
    assert notes(FACTS, rating, found) == (() if good else ("no-ceiling",))


@pytest.mark.parametrize(
    "changes",
    [
        {"highest_clock_mhz": None},
        {"units": None},
        {"fp16": replace(FP16, silicon_confidence="uncertain")},
    ],
    ids=["no highest clock", "no units", "uncertain"],
)
def test_silicon_that_is_not_certain_bounds_nothing(changes: dict[str, Any]) -> None:
    found = ceilings(replace(FACTS, issued=(Issued(99_000_000, 1000),)), rating_of(**changes), HIGHEST)
    assert {one.name for one in found.limits} == {"rating", "highest-rating"}
    assert found.step == "rating"


@pytest.mark.parametrize(("rate", "said"), [(110_000_000, False), (110_000_001, True)])
def test_above_uncertain_silicon_is_a_note_at_what_the_device_tells(rate: int, said: bool) -> None:
    uncertain = rating_of(replace(FP16, silicon_confidence="uncertain"))
    facts = replace(FACTS, rate_mflop_s=rate, max_clock_mhz=1100)
    found = notes(facts, uncertain, ceilings(facts, uncertain, HIGHEST))
    assert ("above-uncertain-silicon" in found) is said
    assert effect_of("above-uncertain-silicon") == "note"


@pytest.mark.parametrize(
    ("known", "most"), [(90_000_000, 103_500_000), (50_000_000, 60_000_000), (52_173_914, 60_000_001), (None, None)]
)
def test_l5_is_the_best_known_or_a_poor_share_of_the_rating(known: int | None, most: int | None) -> None:
    rate = Rate(nominal_mflop_s=NOMINAL, flop_per_clock_per_unit=None, rating_clock_mhz=None, best_known_mflop_s=known)
    assert limits(rating=rating_of(rate)).get("best-known") == most


def test_without_a_row_nothing_but_the_highest_rating_bounds() -> None:
    found = ceilings(FACTS, None, HIGHEST)
    assert found.step == "none"
    assert [one.name for one in found.limits] == ["highest-rating"]
    assert notes(FACTS, None, found) == ("no-ceiling",)
    assert effect_of("no-ceiling") == "hold"
    assert ceilings(replace(FACTS, issued=(Issued(99_000_000, 1000),)), None, HIGHEST).step == "none"


def test_a_part_has_its_share_of_each_limit() -> None:
    half = UnitShare(1, 2)
    facts = replace(FACTS, units=None)
    assert limits(facts, share=half)["silicon"] == 60_000_000
    assert limits(facts, RATED_ONLY, half)["rating"] == 52_500_000
    assert limits(replace(facts, units=50), share=half, lone=False).keys() == {
        "silicon",
        "observed-clock",
        "mean-clock",
    }
    told = replace(facts, rate_mflop_s=NOMINAL // 2, units=50)
    assert notes(told, RATING, ceilings(told, RATING, HIGHEST, half), half) == ()
    above = replace(told, rate_mflop_s=NOMINAL // 2 + 1)
    assert notes(above, RATING, ceilings(above, RATING, HIGHEST, half), half) == ("above-nominal",)


def test_a_cpu_has_the_limit_of_its_instruction_set() -> None:
    found = cpu_ceilings("fp64", "native", "avx2", 64, 3000)
    assert found.step == "silicon"
    assert [(one.name, one.mflop_s) for one in found.limits] == [("cpu", 64 * 16 * 3000 * 105 // 100)]


@pytest.mark.parametrize(
    ("rate", "power_mw", "low"),
    [(50_000_000, 99_999, True), (50_000_000, 100_000, False), (49_999_999, 1, False), (50_000_000, None, False)],
)
def test_little_power_at_a_high_rate(rate: int, power_mw: int | None, low: bool) -> None:
    assert power_too_low("fp16", rate, power_mw, RATING) is low
    assert not power_too_low("fp16", rate, power_mw, rating_of(tdp_mw=None))


@pytest.mark.parametrize(("each", "low"), [(31, False), (32, True)])
def test_a_precision_of_little_silicon_loads_no_device(each: int, low: bool) -> None:
    fp64 = Rate(nominal_mflop_s=NOMINAL // 10, flop_per_clock_per_unit=each, rating_clock_mhz=1000)
    rating = rating_of(
        rates={"fp16": Rate(nominal_mflop_s=NOMINAL, flop_per_clock_per_unit=1024, rating_clock_mhz=1000), "fp64": fp64}
    )
    assert power_too_low("fp64", NOMINAL // 10, 1, rating) is low
    by_rating = rating_of(
        rates={
            "fp16": Rate(nominal_mflop_s=1024, flop_per_clock_per_unit=None, rating_clock_mhz=None),
            "fp64": Rate(nominal_mflop_s=each, flop_per_clock_per_unit=each, rating_clock_mhz=1000),
        }
    )
    assert power_too_low("fp64", each, 1, by_rating) is low


@pytest.mark.parametrize(
    ("precision", "rate", "other", "impossible"),
    [
        ("fp16", 80_000_000, 2_000_000, False),
        ("fp16", 80_000_001, 2_000_000, True),
        ("fp64", 8_000_001, 20_000_000, True),
    ],
)
def test_two_precisions_of_one_device(precision: Precision, rate: int, other: int, impossible: bool) -> None:
    beside: Precision = "fp64" if precision == "fp16" else "fp16"
    assert ratio_impossible(precision, rate, beside, other, RATING) is impossible
    assert not ratio_impossible(precision, rate, beside, None, RATING)


RATES = st.integers(1, 4 * 10**8)


@given(
    rate=RATES,
    units=st.none() | st.integers(1, 10**6),
    clock=st.none() | st.integers(1, 10**5),
    seen=st.none() | st.integers(1, 10**5),
    issued=st.lists(st.builds(Issued, RATES, st.integers(1, 10**4)), max_size=3),
    known=st.none() | st.integers(1, 10**9),
)
def test_nothing_that_a_record_tells_raises_the_limit(
    rate: int, units: int | None, clock: int | None, seen: int | None, issued: list[Issued], known: int | None
) -> None:
    row = rating_of(replace(FP16, best_known_mflop_s=known))
    honest = ceilings(replace(FACTS, units=None, max_clock_mhz=None, clock_samples=0), row, HIGHEST)
    told = ceilings(
        replace(FACTS, rate_mflop_s=rate, units=units, max_clock_mhz=clock, clock_max_mhz=seen, issued=tuple(issued)),
        row,
        HIGHEST,
    )
    assert told.step in STEPS[:2]
    assert honest.binding is not None
    assert told.binding is not None
    assert told.binding.mflop_s <= honest.binding.mflop_s
