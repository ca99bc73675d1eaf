"""What a device can expect before a measurement: limits, prospects and what is missing; and that the judge agrees."""

from __future__ import annotations

import ast
import inspect
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from bench.devices.fake import Fake
from bench.profile import load_profile
from bench.record import Campaign, Device, DeviceModel, NodeRecord, Profile
from bench.scenario import Scenario
from certify.judge import ceilings, identities, parts, plausibility, telemetry
from certify.judge.expectation import Demand, Expectation, demands_of, expectations
from certify.judge.record import JudgedFigure, add_record, partition_codes, place_codes
from certify.judge.tally import Tally
from certify.policy.policies import load_policy
from certify.policy.ratings import installed_ratings
from certify.policy.reasons import effect_of, mending, reasons
from certify.policy.sources import exposed_by
from certify.statement.outlook import outlook_of
from tests.bench.fleet import simulate
from tests.certify.judged import basis_of
from tests.certify.measured import node_name, test_campaign

DEMAND = Demand(("p",), "intelligent", "fp16", "certification", frozenset())
FOUND = Fake(Scenario()).find("1")[0]
H200 = {"vendor": "NVIDIA", "model": "NVIDIA H200", "units": 132, "max_clock_mhz": 1980, "memory_bytes": 141 * 10**9}
ASCEND = {"vendor": "Huawei", "model": "910B3", "units": 20, "max_clock_mhz": 1800, "memory_bytes": 64 * 2**30}
CAMBRICON = {"vendor": "Cambricon", "model": "MLU370-X4", "units": None, "max_clock_mhz": None, "memory_bytes": None}
CPU = {"kind": "cpu", "vendor": "AMD", "model": "AMD EPYC", "instruction_set": "avx2", "units": 2, "source": "linux"}
UUID = "GPU-" + "1a" * 16


def model_of(named: str, **changes: Any) -> DeviceModel:
    """Return a real device's model whose source tells what the table says of it."""
    source = "nvml" if named == "cuda" else None
    told = {"simulated": False, "plays": None, "source": source, "exposes": tuple(exposed_by(named, source) or ())}
    return replace(FOUND.model, **{**told, **changes})


def device_of(kind: str, **changes: Any) -> Device:
    own = {"device": f"{kind}:0", "uuid": UUID if kind == "cuda" else "1a2b3c4d5e6f", "die_id": "1a2b3c4d"}
    return replace(FOUND.device, **{**own, **changes})


def expected(kind: str, facts: dict[str, Any], demand: Demand = DEMAND, **identity: Any) -> Expectation:
    (one,) = expectations(model_of(kind, **facts), device_of(kind, **identity), installed_ratings(), (demand,))
    return one


def against(one: Expectation) -> tuple[str, ...]:
    (prospect,) = one.prospects
    assert prospect.can_count == (not prospect.against)
    return prospect.against


@pytest.mark.parametrize(
    ("kind", "facts", "step", "limit", "most"),
    [
        ("cuda", H200, "silicon", "best-known", 913_675_000),  # 1.15 x 794.5, below 4096 x 132 x 1980
        ("cuda", {**H200, "max_clock_mhz": 1_000}, "silicon", "silicon", 4_096 * 132 * 1_000),
        ("npu", ASCEND, "rating", "rating", 328_650_000),  # 1.05 x 313, below 1.15 x 313.2
        ("mlu", CAMBRICON, "rating", "rating", 100_800_000),
    ],
)
def test_a_rated_model_can_count(kind: str, facts: dict[str, Any], step: str, limit: str, most: int) -> None:
    one = expected(kind, facts)
    assert one.limit is not None
    assert (one.step, one.limit.name, one.limit.mflop_s, against(one)) == (step, limit, most, ())


@pytest.mark.parametrize(
    ("kind", "facts", "identity", "codes"),
    [
        ("torch", {"vendor": "Acme", "model": "Acme 1"}, {}, {"no-ceiling"}),
        ("npu", {**ASCEND, "model": "910B9"}, {}, {"no-ceiling"}),
        ("npu", {**ASCEND, "units": 26}, {}, {"units-above-row"}),
        ("npu", {**ASCEND, "memory_bytes": 32 * 2**30}, {}, {"memory-differs"}),
        ("npu", {**ASCEND, "bin": "910B2"}, {}, {"bin-differs"}),
        ("npu", {**ASCEND, "exposes": ("power",)}, {}, {"telemetry-incomplete"}),
        ("npu", ASCEND, {"uuid": None, "die_id": None}, {"identity-incomplete"}),
        ("npu", ASCEND, {"uuid": None, "die_id": None, "serial": None}, {"no-identity"}),
        ("npu", ASCEND, {"parent": "c1"}, {"whole-with-parent"}),
        ("npu", {**ASCEND, "count_unit": "die"}, {"parent": "c1"}, {"die-not-rated"}),
        ("cuda", H200, {"uuid": "GPU-" + "1a" * 4}, {"identity-form-differs"}),
        ("rocm", H200, {"uuid": UUID}, {"kind-differs"}),
        ("cuda", {**H200, "count_unit": "slice", "units": None}, {"parent": UUID[:-2]}, {"share-unknown"}),
        ("cuda", {**H200, "count_unit": "slice", "units": 16}, {}, {"no-parent"}),
        ("cpu", CPU, {}, {"cpu-fallback"}),
    ],
)
def test_what_keeps_a_device_from_counting(
    kind: str, facts: dict[str, Any], identity: dict[str, Any], codes: set[str]
) -> None:
    assert set(against(expected(kind, facts, **identity))) == codes
    assert codes <= mending().keys()


def test_a_slice_is_bounded_by_its_share() -> None:
    one = expected("cuda", {**H200, "count_unit": "slice", "units": 33}, parent=UUID[:-2])
    assert one.limit is not None
    assert (one.limit.mflop_s, against(one)) == (913_675_000 * 33 // 132, ())
    assert one.nominal_mflop_s == 989_400_000 * 33 // 132


def test_a_clock_that_no_tool_of_the_vendor_tells_is_a_note() -> None:
    one = expected("mlu", CAMBRICON)
    assert "clock-not-watched" in one.notes
    assert against(one) == ()


def test_a_smoke_run_demands_no_telemetry() -> None:
    facts = {**ASCEND, "exposes": ()}
    assert against(expected("npu", facts)) == ("telemetry-incomplete",)
    one = expected("npu", facts, DEMAND._replace(grade="smoke"))
    assert against(one) == ()
    assert {"clock-not-watched", "power-not-watched"} <= set(one.notes)


def test_an_accepted_hold_is_nothing_against_it_and_a_void_cannot_be_accepted() -> None:
    accepting = DEMAND._replace(accept=frozenset({"no-ceiling", "no-identity"}))
    unknown: dict[str, Any] = {"vendor": "Acme", "model": "Acme 1"}
    assert against(expected("torch", unknown, accepting)) == ()
    nobody = {"uuid": None, "die_id": None, "serial": None}
    assert against(expected("torch", unknown, accepting, **nobody)) == ("no-identity",)


def test_a_pool_that_is_not_measured_or_not_in_operation() -> None:
    assert against(expected("cuda", H200, DEMAND._replace(measured=False))) == ("untested",)
    assert against(expected("cuda", H200, DEMAND._replace(in_operation=False))) == ("not-in-operation",)


def test_a_policy_asks_for_each_of_its_classes_and_a_precision_is_looked_at_once() -> None:
    policy = load_policy("guangzhou-2000p")
    demands = demands_of(policy)
    assert {(one.pool_class, one.precision) for one in demands} == {
        ("intelligent", "fp16"),
        ("supercomputing", "fp64"),
        ("general", "fp32"),
        ("edge", "fp16"),
    }
    assert {one.grade for one in demands} == {"certification"}
    found = expectations(model_of("npu", **ASCEND), device_of("npu"), installed_ratings(), demands)
    assert [one.precision for one in found] == ["fp16", "fp64", "fp32"]
    assert [len(one.prospects) for one in found] == [2, 1, 1]
    assert [one.step for one in found] == ["rating", "none", "rating"]


def test_a_processor_counts_where_no_accelerator_is_wanted() -> None:
    one = expected("cpu", CPU, DEMAND._replace(pool_class="supercomputing", precision="fp64"))
    assert one.limit is not None
    assert (one.step, one.limit.name, against(one)) == ("silicon", "cpu", ())


def test_the_outlook_names_what_is_missing_once_and_who_can_mend_it() -> None:
    demands = demands_of(load_policy("guangzhou-2000p"))
    nobody = {"uuid": None, "die_id": None, "serial": None}
    found = outlook_of(model_of("npu", **ASCEND), device_of("npu", **nobody), installed_ratings(), demands)
    assert found.against == ("no-identity", "no-ceiling")
    lines = found.lines()
    assert [line for line in lines if line.startswith("  missing: ")] == [
        f"  missing: {code}: {reasons()[code].en}" for code in found.against
    ]
    assert f"    {mending()['no-ceiling'].en}" in lines
    told: Any = found.as_json()
    assert (told["row"], told["confidence"]) == ("huawei-ascend-910b3", "medium")
    assert [one["code"] for one in told["missing"]] == list(found.against)
    assert all(set(one["mend"]) == {"en", "zh"} for one in told["missing"])
    fp16 = told["precisions"][0]
    assert (fp16["limit"], fp16["limit_mflop_s"]) == ("rating", 328_650_000)
    assert fp16["counting"][0] == {
        "policies": ["guangzhou-2000p"],
        "class": "intelligent",
        "grade": "certification",
        "can_count": False,
        "codes": ["no-identity"],
    }


# --- the judge says the same ---

PLAYED: dict[str, dict[str, Any]] = {
    "fake": {},
    "ascend": {"plays": "huawei-ascend-910b3", "units": 20, "memory_bytes": 64 * 2**30},
    "h200": {"plays": "nvidia-h200-sxm-141g", "units": 132, "max_clock_mhz": 1980, "memory_bytes": 141 * 10**9},
    "too many units": {"plays": "huawei-ascend-910b3", "units": 24, "memory_bytes": 64 * 2**30},
    "less memory": {"plays": "huawei-ascend-910b3", "units": 20, "memory_bytes": 32 * 2**30},
    "unknown": {"vendor": "Acme", "model": "Acme 1"},
    "silent": {"default": {"rate_gflop_s": {"fp16": 100_000}, "telemetry": False}},
    "nobody": {"default": {"rate_gflop_s": {"fp16": 100_000}, "identity": {"uuid": None, "serial": None}}},
    "part of nothing": {"count_unit": "die"},
}


@pytest.mark.parametrize("case", PLAYED)
def test_the_judge_of_a_figure_says_what_was_expected(case: str) -> None:
    """Every code that is known beforehand is on the measured figure, no limit is higher, and nothing else blocks it."""
    script = {"rate_gflop_s": {"fp16": 100_000}, "clock_mhz": 1_000, "power_mw": 400_000}
    scenario = msgspec.convert({"default": script, "cache_bytes": 2**20, **PLAYED[case]}, Scenario)
    profile = load_profile("standard")
    campaign = test_campaign(profile, ("fp16",), 1)
    record = simulate(scenario, 1, profile, ("fp16",), node_name(0), campaign)
    judged = judged_of(record, campaign, profile)
    demand = DEMAND._replace(grade="standard")
    (one,) = expectations(record.models[0], record.devices[0], installed_ratings(), (demand,))
    assert set(against(one)) == set(partition_codes(judged.codes, frozenset())[1])
    assert judged.limit is not None
    assert one.limit is not None
    assert judged.limit.mflop_s <= one.limit.mflop_s
    assert judged.step == one.step


def judged_of(record: NodeRecord, campaign: Campaign, profile: Profile) -> JudgedFigure:
    """Return what a statement makes of a record's one figure that counts."""
    scope = basis_of(campaign, profile).scope
    found: list[JudgedFigure] = []
    add_record(record, scope, Tally(), lambda one: found.append(one) if one.counted else None)
    (one,) = found
    return one


# --- the table of what can be done ---

BEFOREHAND = (
    plausibility.row_of,
    identities.identity_codes,
    identities.r12_kind,
    telemetry.r13_beforehand,
    telemetry._unread,
    place_codes,
    parts.parenthood,
    ceilings.notes,
    expectations.__globals__["_expectation"],
)


def test_every_code_that_is_known_beforehand_says_what_can_be_done() -> None:
    codes = {
        node.value
        for function in BEFOREHAND
        for node in ast.walk(ast.parse(inspect.getsource(function)))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in reasons()
    }
    graver = {code for code in codes if effect_of(code) in ("hold", "void")}
    assert len(graver) >= 15
    assert mending().keys() == graver | {"grade-too-low"}


def test_what_can_be_done_is_whole_sentences_in_both_languages() -> None:
    for code, entry in mending().items():
        assert entry.en.endswith("."), code
        assert entry.zh.endswith("。"), code
        assert "认证" not in entry.zh, code
        assert "证书" not in entry.zh, code
