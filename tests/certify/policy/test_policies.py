"""Policies are data: the installed ones say what the texts say, and a bad one is refused with one sentence."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from bench.errors import InputError
from bench.record import config_names, config_path, digest
from bench.units import percent_text, ratio_ppm
from certify.policy.policies import (
    MAX_VALID_DAYS,
    Condition,
    Declared,
    Guide,
    NewlyAdded,
    NotMeasured,
    Policy,
    Share,
    Threshold,
    demand,
    describe,
    is_altered,
    load_policy,
    policy_problem,
)

NAMES = ("guangzhou-2000p", "guangzhou-2027", "wuhan-2025")
P = 10**9  # MFLOP/s in one PFLOPS
GOOD = """
policy: mine
title: {zh: 我的, en: Mine}
document: {title: {zh: 甲, en: A}, issuer: {zh: 乙, en: B}, number: null, status: draft, date: null, guide_year: null,
  target_year: null}
scope: centre
jurisdiction: null
minimum_grade: standard
counting:
  intelligent: {precision: fp16, accumulate: fp32, choice: fixed, assumption: {zh: 假设, en: assumed}}
conditions:
  - {kind: threshold, condition: scale, title: {zh: 规模, en: Scale}, clause: {ref: 一, text: 规模},
     classes: [intelligent], operator: ">=", value: 1, unit: PFLOPS, basis: certified}
"""


def of(name: str, condition: str) -> Condition:
    (one,) = (c for c in load_policy(name).conditions if c.condition == condition)
    return one


def threshold(name: str, condition: str) -> Threshold:
    one = of(name, condition)
    assert isinstance(one, Threshold)
    return one


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "policy.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_the_installed_policies_load_and_describe_themselves() -> None:
    assert tuple(config_names("policies")) == NAMES
    for name in NAMES:
        policy = load_policy(name)
        assert policy.policy == name
        assert policy_problem(policy) is None
        assert not is_altered(policy)
        text = "\n".join(describe(policy))
        assert all(c.condition in text and c.clause.ref in text and demand(c) in text for c in policy.conditions)


def test_all_installed_policies_count_alike() -> None:
    """One statement can be judged by all of them: a device counts in one precision."""
    counted = {
        (name, entry.precision, entry.accumulate) for p in NAMES for name, entry in load_policy(p).counting.items()
    }
    assert counted == {
        ("intelligent", "fp16", "fp32"),
        ("supercomputing", "fp64", "fp64"),
        ("general", "fp32", "fp32"),
        ("edge", "fp16", "fp32"),
    }


def test_drafts_say_so() -> None:
    assert load_policy("guangzhou-2000p").document.status == "draft"
    assert load_policy("guangzhou-2000p").document.date is None
    assert "if issued as drafted" in "\n".join(describe(load_policy("guangzhou-2027")))
    wuhan = load_policy("wuhan-2025").document
    assert (wuhan.status, wuhan.number, wuhan.date) == ("in_force", "武政办〔2024〕9号", "2024-01-25")


def test_2000p_has_five_conditions_of_their_own() -> None:
    policy = load_policy("guangzhou-2000p")
    assert policy.scope == "centre"
    assert [type(c) for c in policy.conditions] == [Declared, NewlyAdded, Declared, Threshold, Guide]
    scale = threshold("guangzhou-2000p", "scale-2000p")
    assert (scale.operator, scale.value_mflop_s, scale.basis) == (">=", 2 * 10**12, "unstated")
    assert scale.counted == "newly_added"
    assert set(scale.requires) == {"project", "park", "facility"}


@pytest.mark.parametrize(
    ("name", "condition", "operator", "petaflops", "classes"),
    [
        ("guangzhou-2027", "intelligent-scale", ">", 100_000, ("intelligent",)),
        ("guangzhou-2027", "under-management", ">", 80_000, ("intelligent",)),
        ("wuhan-2025", "intelligent-annex", ">=", 4100, ("intelligent",)),
        ("wuhan-2025", "intelligent-text", ">", 4100, ("intelligent",)),
        ("wuhan-2025", "supercomputing-annex", ">=", 400, ("supercomputing",)),
        ("wuhan-2025", "high-performance-text", ">", 4500, ("intelligent", "supercomputing")),
        ("wuhan-2025", "total-annex", ">=", 5000, ("intelligent", "supercomputing", "general", "edge")),
    ],
)
def test_thresholds_as_printed(
    name: str, condition: str, operator: str, petaflops: int, classes: tuple[str, ...]
) -> None:
    one = threshold(name, condition)
    assert (one.operator, one.value_mflop_s, one.classes) == (operator, petaflops * P, classes)
    assert one.basis == "unstated"  # neither text says nominal or measured
    assert load_policy(name).scope == "city"


def test_capacity_is_expected_and_latency_binding() -> None:
    attributes = {c.condition: c.attribute for c in load_policy("wuhan-2025").conditions}
    assert all(attributes[name] == "expected" for name in ("intelligent-annex", "supercomputing-annex", "total-annex"))
    binding = ("latency-city", "latency-province", "latency-hubs", "pue", "green-grade")
    assert all(attributes[name] == "binding" for name in binding)
    assert {name for name, a in attributes.items() if a == "binding"} == set(binding)
    assert all(isinstance(of("wuhan-2025", name), NotMeasured) for name in binding)


def test_arithmetic_of_the_texts() -> None:
    """Section 8 of the requirements: the texts' own numbers agree with each other."""
    intelligent = threshold("wuhan-2025", "intelligent-annex").value_mflop_s
    supercomputing = threshold("wuhan-2025", "supercomputing-annex").value_mflop_s
    high = threshold("wuhan-2025", "high-performance-text").value_mflop_s
    total = threshold("wuhan-2025", "total-annex").value_mflop_s
    assert intelligent == threshold("wuhan-2025", "intelligent-text").value_mflop_s
    assert intelligent + supercomputing == high  # 4.1 + 0.4 = 4.5 EFLOPS
    assert total - high == 500 * P  # left for general and edge
    assert percent_text(ratio_ppm(intelligent, total)) == "82.0 %"

    city = threshold("guangzhou-2027", "intelligent-scale").value_mflop_s
    share = of("guangzhou-2027", "intelligent-share")
    assert isinstance(share, Share)
    assert share.value_ppm == 650_000
    implied = Fraction(city * 10**6, share.value_ppm)  # 100 / 0.65 EFLOPS
    assert 153_846 * P <= implied < 153_847 * P
    managed = threshold("guangzhou-2027", "under-management").value_mflop_s
    assert ratio_ppm(managed, city) == 800_000
    centre = threshold("guangzhou-2000p", "scale-2000p").value_mflop_s
    assert ratio_ppm(centre, city) == 20_000  # 2 %
    assert ratio_ppm(centre, intelligent) == 487_804  # 48.8 % of Wuhan's target, printed 48.7: truncated
    assert Fraction(30, 100) * Fraction(500_000_000, 3) == 50_000_000  # 30 % of 1.6667 亿元 is 5000 万元
    assert 100_000_000 // 3_000_000 == 33
    assert 100_000_000 // 10_000_000 == 10


def test_the_wording_promises_nothing() -> None:
    """Never 认证 or 证书, never a sum of money, a score, or an entitlement (docs/policies.md)."""
    files = [*config_path("policies").glob("*.yaml"), *config_path("centres").glob("*.yaml")]
    assert len(files) >= 5
    for path in files:
        text = path.read_text(encoding="utf-8")
        for word in ("认证", "证书", "万元", "entitled", "score", "certificate"):
            assert word not in text, (path.name, word)


def test_a_good_policy_of_ones_own_loads(tmp_path: Path) -> None:
    policy = load_policy(written(tmp_path, GOOD))
    assert policy.policy == "mine"
    assert policy.valid_days_max == MAX_VALID_DAYS == 366
    assert policy.accept == ()
    assert not is_altered(policy)


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("classes: [intelligent]", "classes: [quantum]", "unknown-class"),
        ("  intelligent: {precision", "  quantum: {precision", "unknown-class"),
        ("precision: fp16", "precision: fp8", "unknown-precision"),
        ("accumulate: fp32", "accumulate: int8", "unknown-precision"),
        ("unit: PFLOPS", "unit: PiFLOPS", "unknown-unit"),
        ('operator: ">="', 'operator: "<"', "unknown-operator"),
        ("basis: certified", "basis: peak", "unknown-basis"),
        ("minimum_grade: standard", "minimum_grade: gold", "unknown-grade"),
        ("kind: threshold", "kind: score", "unknown-condition"),
        ("classes: [intelligent]", "classes: [general]", "class-not-counted"),
        ("classes: [intelligent]", "classes: [intelligent, intelligent]", "class-twice"),
        ("classes: [intelligent]", "classes: []", "config-invalid"),
        ("date: null", 'date: "2026-02-30"', "date-invalid"),
        ("date: null", "date: 2026-02-20x", "config-invalid"),
        ("value: 1,", "value: 0,", "config-invalid"),
        ("value: 1,", "value: 1.5,", "config-invalid"),
        ("value: 1,", "value: true,", "config-invalid"),
        ("scope: centre", "scope: centre\nvalid_days_max: 367", "config-invalid"),
        ("scope: centre", "scope: centre\nscope: city", "yaml-invalid"),
        ("scope: centre", "scope: centre\nscore: 1", "config-invalid"),
        ("policy: mine", "policy: guangzhou-2000p", "policy-altered"),
        ("policy: mine", "policy: ../mine", "config-invalid"),
        ("conditions:", "conditions: []\nrest:", "config-invalid"),
    ],
)
def test_a_bad_policy_is_refused(tmp_path: Path, old: str, new: str, code: str) -> None:
    assert GOOD.count(old) == 1
    with pytest.raises(InputError) as error:
        load_policy(written(tmp_path, GOOD.replace(old, new)))
    assert error.value.code == code
    assert "\n" not in str(error.value)
    if code.startswith("unknown-"):
        assert "use one of" in str(error.value)


def test_two_conditions_of_one_name_are_refused(tmp_path: Path) -> None:
    twice = GOOD + GOOD[GOOD.index("  - {kind") :]
    with pytest.raises(InputError, match="duplicate-condition"):
        load_policy(written(tmp_path, twice))


def test_a_share_is_a_part_of_its_whole(tmp_path: Path) -> None:
    text = GOOD.replace(
        "  intelligent: {precision",
        "  edge: {precision: fp16, accumulate: fp32, choice: fixed, assumption: {zh: 假, en: a}}\n"
        "  intelligent: {precision",
    )
    text = text.replace("kind: threshold", "kind: share").replace("value: 1, unit: PFLOPS", "of: [edge], value_ppm: 1")
    with pytest.raises(InputError, match="share-not-a-part"):
        load_policy(written(tmp_path, text))


def test_an_unknown_policy_names_the_known_ones() -> None:
    with pytest.raises(InputError) as error:
        load_policy("shenzhen-2030")
    assert error.value.code == "unknown-name"
    assert "guangzhou-2000p" in str(error.value)


def test_the_digest_is_that_of_the_parsed_policy(tmp_path: Path) -> None:
    """A copy of the official file under any name is the official policy; a comment changes nothing, a number does."""
    text = config_path("policies", "guangzhou-2000p.yaml").read_text(encoding="utf-8")
    copy: Policy = load_policy(written(tmp_path, "# a remark\n" + text))
    assert digest(copy) == digest(load_policy("guangzhou-2000p"))
    with pytest.raises(InputError, match="policy-altered"):
        load_policy(written(tmp_path, text.replace("value: 2000", "value: 1999")))


def test_the_page_names_every_policy_condition_and_clause() -> None:
    page = (Path(__file__).parents[3] / "docs" / "policies.md").read_text(encoding="utf-8")
    for name in NAMES:
        section = page.split(f"## {name}")[1].split("\n## ")[0]
        for condition in load_policy(name).conditions:
            assert f"`{condition.condition}`" in section
            assert condition.clause.ref in section
            if isinstance(condition, Threshold):
                line = next(line for line in section.splitlines() if f"`{condition.condition}`" in line)
                assert f"`{condition.operator}` {condition.value} {condition.unit}" in line
