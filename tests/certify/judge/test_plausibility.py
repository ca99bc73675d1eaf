"""R12 at its edges: each ceiling is passed by one MFLOP/s and kept by none."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bench.record import config_path
from certify.judge.plausibility import MAX_SHARE_RATIO, Facts, check
from certify.policy.ratings import Confidence, Rate, Rating

# 100 units x 1000 FLOP/clock: 10^5 MFLOP/s a MHz; nominal at 1000 MHz.
NOMINAL = 100_000_000
RATING = Rating(
    accelerator="x",
    name="X",
    vendor="V",
    confidence="high",
    count_unit="card",
    dies_per_unit=1,
    part="unit",
    units=100,
    memory_bytes=None,
    tdp_mw=400_000,
    rates={
        "fp16": Rate(nominal_mflop_s=NOMINAL, flop_per_clock_per_unit=1000, rating_clock_mhz=1000),
        "fp64": Rate(nominal_mflop_s=NOMINAL // 10, flop_per_clock_per_unit=100, rating_clock_mhz=1000),
    },
)
FACTS = Facts(
    precision="fp16",
    rate_mflop_s=80_000_000,
    units=100,
    max_clock_mhz=1200,
    clock_max_mhz=1000,
    clock_samples=600,
    power_mean_mw=350_000,
    fp16_mflop_s=80_000_000,
    fp64_mflop_s=8_000_000,
)


def rated(confidence: Confidence, **fp16: int | None) -> Rating:
    rate = {"nominal_mflop_s": NOMINAL, "flop_per_clock_per_unit": 1000, "rating_clock_mhz": 1000, **fp16}
    return Rating(
        accelerator="x",
        name="X",
        vendor="V",
        confidence=confidence,
        count_unit="card",
        dies_per_unit=1,
        part="unit",
        units=100,
        memory_bytes=None,
        tdp_mw=400_000,
        rates={"fp16": Rate(**rate)},  # type: ignore[arg-type]
    )


def test_an_honest_figure_has_no_code() -> None:
    assert check(FACTS, RATING, "certification") == ()


@pytest.mark.parametrize(("rate", "voids"), [(120_000_000, False), (120_000_001, True)])
def test_the_silicon_ceiling(rate: int, voids: bool) -> None:
    codes = check(FACTS._replace(rate_mflop_s=rate), RATING, "standard")
    assert ("above-silicon-ceiling" in codes) is voids


@pytest.mark.parametrize(("rate", "voids"), [(102_000_000, False), (102_000_001, True)])
def test_the_observed_clock_ceiling(rate: int, voids: bool) -> None:
    codes = check(FACTS._replace(rate_mflop_s=rate), RATING, "standard")
    assert ("above-observed-clock-ceiling" in codes) is voids


def test_the_observed_clock_needs_sixty_samples() -> None:
    facts = FACTS._replace(rate_mflop_s=105_000_000, clock_samples=59)
    assert check(facts, RATING, "standard") == ("above-nominal", "plausibility-not-checked")
    assert "above-observed-clock-ceiling" in check(facts._replace(clock_samples=60), RATING, "standard")


def test_a_driver_cannot_add_units() -> None:
    facts = FACTS._replace(rate_mflop_s=200_000_001, units=1000)
    assert "above-silicon-ceiling" in check(facts, RATING, "standard")
    assert "above-silicon-ceiling" in check(FACTS._replace(rate_mflop_s=150_000_001, units=75), RATING, "standard")
    assert "above-silicon-ceiling" in check(facts._replace(units=None), RATING, "standard")


@pytest.mark.parametrize(
    ("rate", "clock", "confidence", "code"),
    [
        (100_000_000, 1000, "high", None),
        (100_000_001, 1000, "high", "above-nominal"),
        (110_000_000, 1000, "high", "above-nominal"),
        (110_000_001, 1000, "high", "above-rating"),
        (110_000_001, 1000, "medium", "rating-doubtful"),
        (110_000_001, 1000, "low", "rating-doubtful"),
        (110_000_001, 500, "high", "above-rating"),
        (110_000_000, 500, "high", "above-nominal"),  # a lower observed clock does not lower the bound
        (110_000_001, 1200, "high", "above-nominal"),
        (132_000_000, 1200, "high", "above-nominal"),
        (132_000_001, 1200, "high", "above-rating"),
        (137_500_001, 9000, "high", "above-rating"),  # no board boosts that far: the report is not believed
        (110_000_001, None, "high", "above-rating"),
    ],
)
def test_the_nominal_rating(rate: int, clock: int | None, confidence: Confidence, code: str | None) -> None:
    facts = FACTS._replace(rate_mflop_s=rate, clock_max_mhz=clock, max_clock_mhz=None)
    ratings = {"above-nominal", "above-rating", "rating-doubtful"}
    assert ratings.intersection(check(facts, rated(confidence), "standard")) == ({code} if code else set())


@pytest.mark.parametrize(
    ("facts", "rating"),
    [
        (FACTS, None),
        (FACTS._replace(max_clock_mhz=None), RATING),
        (FACTS._replace(clock_max_mhz=None), RATING),
        (FACTS._replace(clock_samples=0), RATING),
        (FACTS, rated("high", flop_per_clock_per_unit=None)),
        (FACTS._replace(precision="bf16"), RATING),
    ],
)
def test_a_missing_input_is_said_and_holds_at_certification(facts: Facts, rating: Rating | None) -> None:
    assert check(facts, rating, "smoke") == ("plausibility-not-checked",)
    assert check(facts, rating, "standard") == ("plausibility-not-checked",)
    assert check(facts, rating, "certification") == ("plausibility-unproven",)


@pytest.mark.parametrize(
    ("rate", "power_mw", "flagged"),
    [
        (50_000_000, 99_999, True),
        (50_000_000, 100_000, False),
        (49_999_999, 1, False),
        (80_000_000, None, False),
    ],
)
def test_low_power_at_a_high_rate(rate: int, power_mw: int | None, flagged: bool) -> None:
    facts = FACTS._replace(rate_mflop_s=rate, power_mean_mw=power_mw, fp64_mflop_s=None)
    assert ("power-too-low" in check(facts, RATING, "standard")) is flagged


@pytest.mark.parametrize(
    ("precision", "fp16", "fp64", "flagged"),
    [
        ("fp64", 20_000_000, 8_000_000, False),
        ("fp64", 20_000_000, 8_000_001, True),  # more than 4 x the share of the silicon that FP16 reaches
        ("fp16", 80_000_000, 2_000_000, False),
        ("fp16", 80_000_001, 2_000_000, True),
        ("fp16", 80_000_000, None, False),
        ("fp64", None, 8_000_000, False),
        ("fp32", 80_000_000, 2_000_000, False),
    ],
)
def test_the_ratio_of_the_precisions(precision: str, fp16: int | None, fp64: int | None, flagged: bool) -> None:
    rate = {"fp16": fp16, "fp64": fp64}.get(precision) or 1
    facts = FACTS._replace(precision=precision, rate_mflop_s=rate, fp16_mflop_s=fp16, fp64_mflop_s=fp64)  # type: ignore[arg-type]
    assert ("precision-ratio-impossible" in check(facts, RATING, "standard")) is flagged


def test_the_ratio_bound_spares_every_public_measurement() -> None:
    """The shares of their ratings that public measurements reach lie within MAX_SHARE_RATIO of each other."""
    shares = []
    for row in yaml.safe_load(config_path("accelerators.yaml").read_text(encoding="utf-8"))["accelerators"]:
        tflops = row["tflops"]
        for known in row.get("measured", ()):
            precision = known["precision"]
            rated_as = tflops.get(precision) or tflops.get(f"{precision}_matrix") or tflops.get(f"{precision}_vector")
            if rated_as and precision in ("fp16", "fp64"):
                shares.append(float(known["tflops"]) / float(rated_as))
    assert len(shares) > 8
    assert max(shares) / min(shares) < MAX_SHARE_RATIO


def test_the_gravest_code_stands_first() -> None:
    codes = check(FACTS._replace(rate_mflop_s=10**12, power_mean_mw=1), RATING, "standard")
    assert codes[:3] == ("above-silicon-ceiling", "above-observed-clock-ceiling", "above-rating")
    assert "power-too-low" in codes


@given(st.integers(0, 10**12), st.integers(1, 4000), st.integers(1, 4000), st.integers(0, 10**4))
def test_the_comparisons_are_exact(rate: int, top_mhz: int, seen_mhz: int, samples: int) -> None:
    facts = FACTS._replace(rate_mflop_s=rate, max_clock_mhz=top_mhz, clock_max_mhz=seen_mhz, clock_samples=samples)
    codes = check(facts, RATING, "standard")
    top_mhz, seen_mhz = min(top_mhz, 1250), min(seen_mhz, 1250)  # a clock beyond any boost is not believed
    assert ("above-silicon-ceiling" in codes) == (rate > 100_000 * top_mhz)
    assert ("above-observed-clock-ceiling" in codes) == (samples >= 60 and rate > 102_000 * seen_mhz)
    assert ("above-rating" in codes) == (rate > 110_000 * max(1000, seen_mhz))
