"""The five conditions of guangzhou-2000p: each can be reached, each says what it lacks, and no number is invented."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from bench.errors import InputError
from bench.profile import load_profile
from bench.units import utc_text
from certify.documents.kinds import Baseline, NothingBefore
from certify.documents.statement import CapacityStatement
from certify.judge.tally import Key, Tally
from certify.policy.capacity import CapacitySum
from certify.policy.centre import Centre
from certify.policy.missing import Lack, missing
from certify.policy.policies import Policy, load_policy, policy_problem
from certify.policy.reasons import Reason, reasons
from certify.policy.verdict_lines import describe_verdict
from certify.policy.verdicts import Verdict
from certify.statement.build import build
from tests.certify.judged import ISSUE, ROOT, basis_of, centre_of
from tests.certify.measured import BEGIN_NS, node_name, test_campaign

CARDS = 6_390
NOMINAL_MFLOP_S = 313_000_000  # 910B3: 313 TFLOPS, as the vendor rates it
SUSTAINED_MFLOP_S = 280_000_000  # of a card; a real centre must measure
DAY = "2025-12-31"
EMPTY = Baseline(
    centre_id="gz-test",
    taken_at=f"{DAY}T00:00:00.000000Z",
    devices=(),
    nothing_before=NothingBefore(evidence="empty hall"),
)
INSUFFICIENT = "insufficient_evidence"
GUIDE = """
policy: guide-2027
title: {zh: 指南, en: Guide}
document:
  title: {zh: 文, en: Text}
  issuer: {zh: 市, en: City}
  number: null
  status: in_force
  date: "2027-01-10"
  guide_year: 2027
  target_year: null
scope: centre
jurisdiction: CN-440100
minimum_grade: standard
counting:
  intelligent: {precision: fp16, accumulate: fp32, choice: fixed, assumption: {zh: 假, en: a}}
conditions:
  - kind: guide
    condition: guide
    title: {zh: 符合相关要求, en: What the guide adds}
    clause: {ref: 一, text: 符合指南要求}
    items:
      - {kind: declared, condition: guide-park, title: {zh: 园区, en: Park}, clause: {ref: 一, text: 园区}, fact: park}
      - {kind: paper, condition: guide-energy, title: {zh: 节能审查, en: Energy review},
         clause: {ref: 二, text: 节能审查}, paper: energy-review}
      - {kind: threshold, condition: guide-scale, title: {zh: 规模, en: Scale}, clause: {ref: 三, text: 规模},
         classes: [intelligent], operator: ">=", value: 1000, unit: PFLOPS, basis: certified}
"""


def written(folder: Path, text: str) -> str:
    path = folder / "policy.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def stated(
    centre: Centre, *policies: Policy, baseline: Baseline | None = EMPTY, vendor: str = "HUAWEI"
) -> CapacityStatement:
    """Return the statement of the cards: all counted at certification, none in the baseline."""
    campaign = test_campaign(load_profile("certification"), ("fp16",), 1)
    basis = basis_of(campaign, "certification", centre, policies, baseline)
    sums = CapacitySum(
        devices=CARDS,
        certified_mflop_s=CARDS * SUSTAINED_MFLOP_S * 99 // 100,
        sustained_mflop_s=CARDS * SUSTAINED_MFLOP_S,
        upper_mflop_s=CARDS * SUSTAINED_MFLOP_S * 101 // 100,
        nominal_mflop_s=CARDS * NOMINAL_MFLOP_S,
    )
    key = Key("main", basis.scope.counting["intelligent"].workload, in_baseline=False, standing="clean")
    tally = Tally(node_ids={node_name(0)}, sums={key: sums}, vendors={("main", vendor): sums})
    tally.devices["main"], tally.grades = CARDS, {"certification"}
    tally.measured_from = tally.measured_until = utc_text(BEGIN_NS)
    return build(tally, ROOT, basis, ISSUE)


def declared(**changes: Any) -> Centre:
    return centre_of(**{"baseline": "baseline.dsse.json", "baseline_date": DAY, **changes})


def brief(statement: CapacityStatement) -> dict[str, tuple[str, str | None]]:
    return {verdict.condition: (verdict.verdict, verdict.reason) for verdict in statement.verdicts}


def of(statement: CapacityStatement, condition: str) -> Verdict:
    return next(verdict for verdict in statement.verdicts if verdict.condition == condition)


def test_a_centre_of_910b3_under_an_empty_baseline() -> None:
    """6,390 x 313 TFLOPS are 2,000.07 PFLOPS nominal; what they sustain is less than 2,000."""
    assert CARDS * 313 == 2_000_070  # TFLOPS
    statement = stated(declared(), load_policy("guangzhou-2000p"))
    assert brief(statement) == {
        "park": ("declared", None),
        "newly-added": ("declared", None),
        "single-facility": ("declared", None),
        "scale-2000p": (INSUFFICIENT, "basis-unstated"),
        "guide": (INSUFFICIENT, "guide-not-issued"),
    }
    scale = of(statement, "scale-2000p")
    assert [(line.basis, line.verdict, line.reason) for line in scale.bases] == [
        ("certified", "not_met", None),
        ("sustained", "not_met", None),
        ("nominal", "met", None),
    ]
    assert scale.bases[2].observed_mflop_s == 2_000_070_000_000
    growth = of(statement, "newly-added").growth
    assert growth is not None
    assert (growth.baseline_devices, growth.new_devices) == (0, CARDS)
    text = "\n".join(describe_verdict(of(statement, "newly-added")))
    assert f"nothing, as is declared; {CARDS} new device(s)" in text
    assert "still there" not in text  # of nothing
    assert growth.net_mflop_s == growth.newly_added_mflop_s  # nothing stood there, and gave nothing
    assert f"net growth: +{CARDS} device(s); certified +1,771.308 PFLOPS" in text
    assert statement.baseline_sha256 is not None


def test_one_card_less_is_not_met_on_any_basis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.certify.policy.test_2000p.CARDS", CARDS - 1)
    statement = stated(declared(), load_policy("guangzhou-2000p"))
    assert brief(statement)["scale-2000p"] == ("not_met", None)


# What is missing, and which field gives it
NOTHING: dict[str, Any] = {"project_id": None, "park": None, "facility": None, "jurisdiction": None}


def test_each_condition_says_what_it_lacks_and_which_field_gives_it() -> None:
    centre, policy = centre_of(**NOTHING), load_policy("guangzhou-2000p")
    statement = stated(centre, policy, baseline=None)
    found = [(one.condition, one.code, one.field) for one in missing(centre, (policy,), statement.verdicts)]
    where = ("outside-jurisdiction", "jurisdiction")
    assert found == [
        ("park", "not-declared", "park"),
        ("park", *where),
        ("newly-added", "no-baseline", "baseline, baseline_date"),
        ("newly-added", *where),
        ("single-facility", "not-declared", "facility"),
        ("single-facility", *where),
        ("scale-2000p", "not-declared", "project_id"),
        ("scale-2000p", "not-declared", "park"),
        ("scale-2000p", "not-declared", "facility"),
        ("scale-2000p", "no-baseline", "baseline, baseline_date"),
        ("scale-2000p", *where),
        ("guide", "guide-not-issued", None),
    ]
    assert all(one.field is None or one.field.split(",")[0] in Centre.__struct_fields__ for one in found_of(centre))


def found_of(centre: Centre) -> Iterator[Lack]:
    policy = load_policy("guangzhou-2000p")
    yield from missing(centre, (policy,), stated(centre, policy, baseline=None).verdicts)


def test_who_declares_everything_lacks_what_no_field_gives() -> None:
    centre, policy = declared(), load_policy("guangzhou-2000p")
    found = missing(centre, (policy,), stated(centre, policy).verdicts)
    assert [(one.condition, one.code, one.field) for one in found] == [
        ("scale-2000p", "basis-unstated", None),
        ("guide", "guide-not-issued", None),
    ]
    assert all(str(one).startswith("guangzhou-2000p/") and str(one).endswith(f"[{one.code}]") for one in found)


# A year's guide, written as data
@pytest.mark.parametrize(
    ("changes", "guide", "items"),
    [
        ({}, ("declared", None), [("declared", None), ("declared", None), ("met", None)]),
        ({"guide_year": None}, (INSUFFICIENT, "guide-year-differs"), None),
        ({"guide_year": 2026}, (INSUFFICIENT, "guide-year-differs"), None),
        ({"evidence": {}}, (INSUFFICIENT, "not-declared"), [("declared", None), (INSUFFICIENT, "not-declared"), None]),
        ({"park": None}, (INSUFFICIENT, "not-declared"), [(INSUFFICIENT, "not-declared"), None, None]),
        ({"jurisdiction": "CN-420100"}, (INSUFFICIENT, "outside-jurisdiction"), None),
    ],
)
def test_a_guide_is_reached_by_its_items(
    tmp_path: Path, changes: dict[str, Any], guide: tuple[str, str | None], items: list[Any] | None
) -> None:
    policy = load_policy(written(tmp_path, GUIDE))
    centre = declared(**{"guide_year": 2027, "evidence": {"energy-review": "ab" * 32}, **changes})
    statement = stated(centre, policy)
    assert [v.condition for v in statement.verdicts] == ["guide", "guide-park", "guide-energy", "guide-scale"]
    found = list(brief(statement).values())
    assert found[0] == guide
    for one, wanted in zip(found[1:], items or [], strict=False):
        assert wanted in (None, one)
    lacks = missing(centre, (policy,), statement.verdicts)
    assert bool(lacks) == (guide[0] == INSUFFICIENT)
    fields = {one.field for one in lacks}
    assert fields <= {"guide_year", "evidence.energy-review", "park", "jurisdiction"}


def test_what_a_guide_demands_and_the_centre_misses(tmp_path: Path) -> None:
    policy = load_policy(written(tmp_path, GUIDE.replace("value: 1000", "value: 5000")))
    centre = declared(guide_year=2027, evidence={"energy-review": "ab" * 32})
    assert brief(stated(centre, policy))["guide"] == ("not_met", None)


def test_a_guide_with_items_is_of_a_year(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="guide-without-year"):
        load_policy(written(tmp_path, GUIDE.replace("guide_year: 2027", "guide_year: null")))
    with pytest.raises(InputError, match="duplicate-condition"):
        load_policy(written(tmp_path, GUIDE.replace("condition: guide-park", "condition: guide")))
    with pytest.raises(InputError, match="class-not-counted"):
        load_policy(written(tmp_path, GUIDE.replace("classes: [intelligent]", "classes: [edge]")))


# Domestic share: by the vendor of the devices
@pytest.mark.parametrize(("vendor", "ppm"), [("HUAWEI", 10**6), ("Moore  Threads", 10**6), ("NVIDIA", 0), ("?", 0)])
@pytest.mark.parametrize("said", [None, True, False])
def test_the_domestic_share_is_that_of_the_vendors(vendor: str, ppm: int, said: bool | None) -> None:
    shown = of(stated(declared(domestic=said), load_policy("guangzhou-2027"), vendor=vendor), "domestic")
    assert (shown.verdict, shown.reason) == (INSUFFICIENT, "no-number")
    whole = CARDS * NOMINAL_MFLOP_S
    assert [line.observed_ppm for line in shown.bases] == [ppm] * 3
    assert (shown.bases[2].observed_mflop_s, shown.bases[2].whole_mflop_s) == (whole * ppm // 10**6, whole)
    text = "\n".join(describe_verdict(shown))
    assert f"nominal: {ppm // 10_000}.0 %" in text


def test_every_vendor_with_a_rating_is_domestic_or_not() -> None:
    from certify.policy.policies import Domestic
    from certify.policy.ratings import installed_ratings

    (condition,) = (c for c in load_policy("guangzhou-2027").conditions if isinstance(c, Domestic))
    foreign = {"AMD", "Intel", "NVIDIA", "petaseal"}
    rated = {rating.vendor for rating in installed_ratings().units}
    assert rated - foreign <= set(condition.vendors)
    assert foreign.isdisjoint(condition.vendors)


# What a policy may accept
@pytest.mark.parametrize(
    ("accept", "code"),
    [
        ("not-steady", None),
        ("throttled", "accept-not-a-hold"),
        ("wrong-product", "accept-not-a-hold"),
        ("expired", "accept-not-a-hold"),
        ("no-such-code", "accept-not-a-hold"),
    ],
)
def test_a_policy_accepts_holds_only(tmp_path: Path, accept: str, code: str | None) -> None:
    text = written(tmp_path, GUIDE.replace("counting:", f"accept: [{accept}]\ncounting:"))
    if code is None:
        assert load_policy(text).accept == (accept,)
        return
    with pytest.raises(InputError, match=code):
        load_policy(text)


def test_with_a_witness_a_policy_accepts_one_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = load_policy("guangzhou-2000p")
    assert policy.accepted_with_witness == ()
    table = {
        **reasons(),
        "for-a-witness": Reason(effect="hold", rule="R12", en="A hold.", zh="暂不计入。", witness=True),
    }
    monkeypatch.setattr("certify.policy.policies.reasons", lambda: table)
    assert policy_problem(replace(policy, accept_with_witness=("for-a-witness",))) is None
    for other in ("not-steady", "wrong-product", "no-such-code"):
        problem = policy_problem(replace(policy, accept_with_witness=("for-a-witness", other)))
        assert problem is not None
        assert problem[0] == "accept-not-witnessed"
