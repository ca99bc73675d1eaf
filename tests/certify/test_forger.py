"""How much a forger gains (`tests.certify.forger`): on no row, in no precision and at no grade more than is promised.

Each matter that he may lie about is tried alone and together with others; what remains to him stands in
docs/threat-model.md, with its factors.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from bench.errors import RefusedError
from bench.record import Grade, NodeRecord, Precision, digest
from bench.record.identities import Uniqueness, device_keys
from bench.units import DAY_NS, utc_ns, utc_text
from certify.policy.rating import Rating
from certify.policy.ratings import installed_ratings
from certify.statement.age import check_age, ended_ns
from certify.statement.campaign import check_campaign
from tests.certify.forger import (
    ALONE,
    GRADES,
    PRECISIONS,
    TFLOPS,
    TRUTH,
    Story,
    accepted_mflop_s,
    basis,
    forged,
    honest_mflop_s,
    invented,
    most_accepted,
    most_allowed,
    processor,
    stories,
    tells,
    with_more_launches,
)
from tests.certify.judged import statement_of
from tests.certify.kinds import Kind, kind_of, rows_of
from tests.certify.measured import BEGIN_NS
from tests.certify.test_honest import ROWS

REAL = [(unit, kind_of(row, name)) for unit, name, row in rows_of(installed_ratings())]
KINDS = {unit.accelerator: kind for unit, kind in REAL}
UNITS = {unit.accelerator: unit for unit, _ in REAL}
LIES = {lie.name: lie for story in ALONE for lie in story}
LIMITS = {(precision, row.accelerator): row.limit_tflops for precision, rows in ROWS.items() for row in rows}
H200, MI250X, B910 = KINDS["nvidia-h200-sxm-141g"], KINDS["amd-mi250x-128g"], KINDS["huawei-ascend-910b3"]


def check(unit: Rating, kind: Kind, told: list[Story], precision: Precision, grade: Grade) -> None:
    """Check that an honest twin counts, that no story gets more than is promised, and how much the truth gets."""
    honest, most = honest_mflop_s(unit, precision), most_allowed(unit, precision)
    if honest is not None:
        got = accepted_mflop_s(forged(kind, TRUTH, precision, grade, honest), precision, grade)
        assert got == pytest.approx(honest, rel=1e-5)
    gain = most_accepted(kind, told, precision, grade)
    assert gain.mflop_s <= most, (unit.accelerator, [lie.name for lie in gain.story], gain.mflop_s / TFLOPS)
    if (by_hand := LIMITS.get((precision, unit.accelerator))) is not None:
        assert gain.mflop_s / TFLOPS == pytest.approx(by_hand, rel=5e-3)


def test_no_forger_passes_what_is_promised() -> None:
    """Each row in one precision at one grade, by some stories; all of it: below."""
    for place, (unit, kind) in enumerate(REAL):
        precision, grade = PRECISIONS[place % 4], GRADES[place // 4 % 3]
        told = [TRUTH, *ALONE[place % 7 :: 7][:1], *stories(unit.accelerator, 1)]
        check(unit, kind, told, precision, grade)


@pytest.mark.long
@pytest.mark.parametrize("grade", GRADES)
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("part", range(4))
def test_no_forger_passes_what_is_promised_on_any_row(precision: Precision, grade: Grade, part: int) -> None:
    for unit, kind in REAL[part::4]:
        check(unit, kind, [*ALONE, *stories(f"{unit.accelerator}/{precision}/{grade}", 10)], precision, grade)


def test_every_lie_changes_what_is_told() -> None:
    """A lie that no record shows would test nothing."""
    idle = set(LIES)
    for kind in (H200, MI250X, B910):
        truth = forged(kind, TRUTH, "fp16", "smoke", 100 * TFLOPS)
        idle = {
            name for name, lie in LIES.items() if name in idle and forged(kind, (lie,), "fp16", "smoke", 10**8) == truth
        }
    assert idle == set()


PAGE = Path(__file__).parents[2] / "docs" / "threat-model.md"
GAINS = re.findall(r"^\| `([a-z0-9-]+)` \| ([0-9.]+) \| ([0-9.]*) *\| ([0-9.]+)", PAGE.read_text(), re.MULTILINE)


def test_the_page_says_what_a_forger_gains() -> None:
    """What is accepted at most, by hand; over what is published: never more than 1.2 x, or than 0.6 x the rating."""
    assert len(GAINS) >= 17
    for name, accepted, over_best, over_sustained in GAINS:
        assert float(accepted) == pytest.approx(LIMITS["fp16", name], rel=1e-3)
        gain = most_accepted(KINDS[name], [TRUTH], "fp16", "certification").mflop_s
        assert gain / TFLOPS == pytest.approx(float(accepted), rel=2e-3)
        known = UNITS[name].best_known_mflop_s("fp16")
        assert bool(over_best) == (known is not None)
        if known is not None:
            assert gain / known == pytest.approx(float(over_best), abs=0.01)
        assert float(over_sustained) >= float(over_best or 1)


@pytest.mark.parametrize(
    ("told", "own", "times"),
    [
        ("nvidia-b200-sxm", "nvidia-h200-sxm-141g", 2.5),
        ("nvidia-h200-sxm-141g", "nvidia-h20-96g", 6.2),
        ("huawei-ascend-910b2", "huawei-ascend-910b4", 1.35),
    ],
)
def test_a_record_that_tells_another_row_in_every_fact_is_that_row(told: str, own: str, times: float) -> None:
    """docs/threat-model.md names these factors: only a witness and a spot check see such a record."""
    gain = most_accepted(KINDS[told], [TRUTH], "fp16", "certification").mflop_s
    best = UNITS[own].best_known_mflop_s("fp16") or UNITS[own].nominal_mflop_s("fp16")
    assert best is not None
    assert gain / best == pytest.approx(times, rel=0.02)
    assert f"{times} x" in PAGE.read_text()
    half_told = dataclasses.replace(KINDS[own], model=KINDS[told].model)  # its own units, memory and clocks
    assert most_accepted(half_told, [TRUTH], "fp16", "certification").mflop_s < gain


# --- parts of one card ------------------------------------------------------------------------------------------------
def alone(kind: Kind, rate_mflop_s: int, **facts: Any) -> NodeRecord:
    """Return the record of one device that is told as one."""
    return forged(dataclasses.replace(kind, dies=1, **facts), TRUTH, "fp16", "certification", rate_mflop_s)


def got(record: NodeRecord) -> int:
    """Return how many TFLOPS of a record count."""
    return round(accepted_mflop_s(record, "fp16", "certification") / TFLOPS)


PARTS: dict[str, tuple[Kind, int, int, Callable[[int], str | None], dict[str, Any]]] = {
    # how: the kind, how many of it, TFLOPS of each, the parent of each, facts of the model
    "2,100 dies of one card": (H200, 2_100, 700, lambda place: "card", {"count_unit": "die"}),
    "60 dies of one card": (H200, 60, 700, lambda place: "card", {"count_unit": "die"}),
    "60 dies of as many parents": (H200, 60, 700, lambda place: f"card{place}", {"count_unit": "die"}),
    "2,100 dies of one package": (MI250X, 2_100, 140, lambda place: "package", {}),
    "2,100 dies of 1,050 packages on one node": (MI250X, 2_100, 140, lambda place: f"package{place // 2}", {}),
    "66 dies of 33 packages on one node": (MI250X, 66, 140, lambda place: f"package{place // 2}", {}),
    "3 dies of one package": (MI250X, 3, 90, lambda place: "package", {}),
    "2 dies that each give what the package does": (MI250X, 2, 290, lambda place: "package", {}),
    "2 dies that together give more than any package": (MI250X, 2, 170, lambda place: "package", {}),
    "a die that gives what its package does": (MI250X, 1, 290, lambda place: "package", {}),
    "a die without a parent": (MI250X, 1, 140, lambda place: None, {}),
    "7 slices that each are the whole": (H200, 7, 700, lambda place: "card", {"count_unit": "slice"}),
    "2 slices of more than half": (H200, 2, 350, lambda place: "card", {"count_unit": "slice", "units": 67}),
    "a slice of one unit that gives what the whole does": (
        H200,
        1,
        700,
        lambda place: "card",
        {"count_unit": "slice", "units": 1},
    ),
    "64 slices of unknown size": (H200, 64, 10, lambda place: "card", {"count_unit": "slice", "units": None}),
    "a slice larger than its card": (H200, 1, 700, lambda place: "card", {"count_unit": "slice", "units": 133}),
    "a slice without a parent": (H200, 1, 300, lambda place: None, {"count_unit": "slice", "units": 66}),
    "2 slices that together give more than any card": (
        H200,
        2,
        460,
        lambda place: "card",
        {"count_unit": "slice", "units": 66},
    ),
    "2,100 cards on one node": (H200, 2_100, 700, lambda place: None, {}),
    "65 cards on one node": (H200, 65, 700, lambda place: None, {}),
}
HONEST_PARTS: dict[str, tuple[Kind, int, int, Callable[[int], str | None], dict[str, Any]]] = {
    "the 2 dies of a package": (MI250X, 2, 140, lambda place: "package", {}),
    "one die of a package": (MI250X, 1, 140, lambda place: "package", {}),
    "the 16 dies of 8 packages": (MI250X, 16, 140, lambda place: f"package{place // 2}", {}),
    "2 halves of a card": (H200, 2, 380, lambda place: "card", {"count_unit": "slice", "units": 66}),
    "a seventh of a card": (H200, 1, 90, lambda place: "card", {"count_unit": "slice", "units": 16}),
    "8 cards": (H200, 8, 755, lambda place: None, {}),
}


@pytest.mark.parametrize("how", PARTS)
def test_a_card_in_parts_counts_nothing(how: str) -> None:
    kind, count, tflops, parent, facts = PARTS[how]
    assert got(invented(alone(kind, tflops * TFLOPS), count, parent, **facts)) == 0


@pytest.mark.parametrize("how", HONEST_PARTS)
def test_honest_parts_count(how: str) -> None:
    kind, count, tflops, parent, facts = HONEST_PARTS[how]
    assert got(invented(alone(kind, tflops * TFLOPS), count, parent, **facts)) == count * tflops


HALVES = {  # the most that two halves with a parent each give, over what is promised of the unit in one piece
    "amd-mi250x-128g": 1.08,
    "nvidia-h200-sxm-141g": 1.12,
    "amd-mi300x-192g": 1.39,
    "amd-mi325x-256g": 1.46,
    "amd-mi355x-288g": 1.41,
    "hygon-dcu-k100": 1.75,
}


@pytest.mark.parametrize("name", HALVES)
def test_halves_of_units_of_their_own_have_their_share_of_silicon_or_rating(name: str) -> None:
    """What is published bounds a unit's sum, never a single part: the threat model names the factors."""
    unit, most = UNITS[name], most_allowed(UNITS[name], "fp16") / TFLOPS
    kind = dataclasses.replace(KINDS[name], units=(unit.units or 0) // 2, count_unit="card", power_mw=None)

    def halves(times: float) -> int:
        rate = round(most * times / 2 * TFLOPS)
        return got(invented(alone(kind, rate), 2, lambda place: f"unit{place}", count_unit="slice"))

    assert halves(HALVES[name] * 0.99) > 0 == halves(HALVES[name] * 1.01)


# --- one device twice -------------------------------------------------------------------------------------------------
def seen(*records: NodeRecord) -> None:
    """Look at records as certify and every verifier do, for devices that stand there twice."""
    unique = Uniqueness()
    for record in records:
        unique.see(record.node_id, [device_keys(device) for device in record.devices])
    unique.check_parents()


def device_is(record: NodeRecord, node_id: str = "gpu-00000", **facts: Any) -> NodeRecord:
    """Return a record of another node with other facts of its one device."""
    (device,) = record.devices
    return replace(record, node_id=node_id, devices=(replace(device, **facts),))


CARD, ASCEND = alone(H200, 750 * TFLOPS), alone(B910, 300 * TFLOPS)
UUID, DIE = CARD.devices[0].uuid or "", ASCEND.devices[0].die_id or ""
TWICE: dict[str, tuple[NodeRecord, dict[str, Any], str]] = {
    "its uuid in capitals": (CARD, {"uuid": UUID.upper(), "serial": None}, "duplicate-device"),
    "its uuid without dashes": (CARD, {"uuid": UUID.replace("-", ""), "serial": None}, "duplicate-device"),
    "its uuid as a serial number": (CARD, {"uuid": "GPU-" + "1" * 32, "serial": UUID}, "duplicate-device"),
    "a new uuid, its serial number": (CARD, {"uuid": "GPU-" + "1" * 32}, "duplicate-device"),
    "a new serial number, its uuid": (CARD, {"serial": "another-1"}, "duplicate-device"),
    "its die id with dashes": (ASCEND, {"die_id": DIE.replace(" ", "-"), "serial": None}, "duplicate-device"),
    "its die id as a uuid": (ASCEND, {"die_id": "ab" * 20, "serial": None, "uuid": DIE}, "duplicate-device"),
}


@pytest.mark.parametrize("how", TWICE)
def test_one_device_on_two_nodes_is_refused(how: str) -> None:
    record, facts, expected = TWICE[how]
    seen(record, device_is(record, "gpu-00001", uuid="GPU-" + "2" * 32, serial="S-2", die_id="cd" * 20))
    with pytest.raises(RefusedError) as refused:
        seen(record, device_is(record, "gpu-00001", **facts))
    assert refused.value.code == expected


def test_parts_of_one_card_on_two_nodes_are_refused() -> None:
    dies = invented(alone(MI250X, 140 * TFLOPS), 2, lambda place: "package")
    seen(dies)
    with pytest.raises(RefusedError) as refused:
        seen(dies, invented(device_is(alone(MI250X, 140 * TFLOPS), "gpu-00001", uuid="abc1"), 2, lambda _: "package"))
    assert refused.value.code == "parent-on-two-nodes"


@pytest.mark.parametrize(
    "facts",
    [
        {"uuid": None},  # NVIDIA's driver tells one of every device
        {"uuid": None, "serial": None},
        {"uuid": "N/A", "serial": "0"},
        {"uuid": "card-17"},
        {"parent": "GPU-1234"},
    ],
)
def test_a_device_without_its_vendors_identity_counts_nothing(facts: dict[str, Any]) -> None:
    assert got(CARD) == 750
    assert got(device_is(CARD, **facts)) == 0


# --- names ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "facts",
    [
        {"model": "NVIDIA H900"},
        {"model": "H200"},
        {"model": "NVIDIA H200 SXM6 Ultra"},
        {"vendor": "NVIDIA Corporation"},
        {"vendor": "Acme", "model": "Acme 1", "prefix": "torch"},
        {"vendor": "AMD", "prefix": "cuda"},
        {"vendor": "Huawei", "model": "Ascend910B2C", "prefix": "npu", "source": "npu-smi"},
        {"model": "Fake-1", "vendor": "petaseal", "prefix": "fake"},
    ],
)
def test_an_unknown_name_counts_nothing_at_any_rate(facts: dict[str, Any]) -> None:
    kind = dataclasses.replace(H200, **facts)
    assert most_accepted(kind, [TRUTH, *ALONE[::5]], "fp16", "certification").mflop_s == 0


@pytest.mark.parametrize(("prefix", "counts"), [("torch", True), ("cpu", False), ("cuda", False), ("rocm", False)])
def test_an_accelerator_of_a_vendor_without_a_back_end_takes_no_others_name(prefix: str, counts: bool) -> None:
    gaudi = dataclasses.replace(KINDS["intel-gaudi3"], prefix=prefix)
    assert bool(got(alone(gaudi, 400 * TFLOPS))) == counts


# --- clocks -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["nvidia-a100-sxm4-80g", "nvidia-h100-sxm5-80g", "amd-mi210-64g"])
def test_told_clocks_raise_nothing(name: str) -> None:
    kind, unit = KINDS[name], UNITS[name]
    assert kind.max_clock_mhz is not None
    for told in (9000, 2 * kind.max_clock_mhz, kind.max_clock_mhz + 1):
        highest = most_accepted(kind, [(tells("", max_clock_mhz=told),)], "fp16", "certification").mflop_s
        assert 0 < highest <= most_allowed(unit, "fp16")
        lower = most_accepted(kind, [(tells("", max_clock_mhz=kind.max_clock_mhz // 3),)], "fp16", "certification")
        assert lower.mflop_s < highest / 2  # what a device tells lowers a limit
    assert most_accepted(kind, [(tells("", clock_mhz=9000),)], "fp16", "certification").mflop_s == 0
    slow = most_accepted(kind, [(tells("", clock_mhz=500),)], "fp16", "certification").mflop_s
    silicon = (unit.units or 0) * (unit.flop_per_clock_per_unit("fp16") or 0)
    assert slow == pytest.approx(silicon * 500 * 1.02, rel=5e-3)


# --- processors -------------------------------------------------------------------------------------------------------
def of_processor(rate_mflop_s: int, **facts: Any) -> int:
    return accepted_mflop_s(processor("fp64", "certification", rate_mflop_s, **facts), "fp64", "certification")


def test_a_processors_launches_times_a_million_count_nothing() -> None:
    honest = processor("fp64", "certification", 100_000, instruction_set="avx2", max_clock_mhz=3_700)
    assert accepted_mflop_s(honest, "fp64", "certification") == pytest.approx(100_000, rel=1e-3)
    assert accepted_mflop_s(with_more_launches(honest, 10**6), "fp64", "certification") == 0


@pytest.mark.parametrize(
    ("facts", "most"),
    [
        # FLOP per core and clock x cores x MHz x 1.05
        ({"cores": 2, "instruction_set": "avx2", "max_clock_mhz": 3_700}, 16 * 2 * 3_700 * 1.05),
        ({"cores": 2, "instruction_set": "avx2", "max_clock_mhz": 9_000}, 16 * 2 * 6_200 * 1.05),
        ({"cores": 2, "instruction_set": "quantum", "max_clock_mhz": None}, 128 * 2 * 6_200 * 1.05),
        ({"cores": 2, "instruction_set": None, "max_clock_mhz": 0}, 128 * 2 * 6_200 * 1.05),
        ({"cores": None, "instruction_set": None, "max_clock_mhz": None}, 128 * 1 * 6_200 * 1.05),
        ({"cores": 10**6, "instruction_set": None, "max_clock_mhz": None}, 128 * 2_048 * 6_200 * 1.05),
    ],
)
def test_a_processor_is_bounded_by_what_its_cores_can_do(facts: dict[str, Any], most: float) -> None:
    assert of_processor(round(most * 0.999), **facts) == pytest.approx(most * 0.999, rel=1e-3)
    for times in (1.001, 10, 10**4):
        assert of_processor(round(most * times), **facts) == 0


def test_a_processor_is_no_accelerator_nor_the_other_way_round() -> None:
    for facts in ({"vendor": "NVIDIA", "model": "NVIDIA H200"}, {"kind": "gpu"}):
        assert of_processor(100_000, **facts) == 0
    as_cpu = alone(H200, 10 * TFLOPS)
    as_cpu = replace(as_cpu, models=tuple(replace(m, kind="cpu", instruction_set="avx512") for m in as_cpu.models))
    assert got(as_cpu) == 0


# --- times ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("begin", "expected"),
    [
        ("1970-01-01T08:01:00.000000Z", "measurement-too-old"),
        (utc_text(BEGIN_NS - 40 * DAY_NS), "measurement-too-old"),
        (utc_text(BEGIN_NS + 60 * 10**9), None),
        (utc_text(BEGIN_NS + 2 * DAY_NS), "issued-before-measured"),
        ("2199-01-01T08:01:00.000000Z", "issued-before-measured"),
    ],
)
def test_measurements_of_the_past_and_of_the_future_are_refused(begin: str, expected: str | None) -> None:
    """The statement is issued a day after the honest measurement."""
    given = basis("fp16", "certification")
    begin_ns = utc_ns(begin)
    campaign = replace(
        given.scope.campaign,
        issued_at=utc_text(max(0, begin_ns - DAY_NS)),
        starts_from=begin,
        starts_until=utc_text(begin_ns + 3600 * 10**9),
    )
    times = {"started_at": begin, "ready_at": begin, "ended_at": utc_text(begin_ns + 3600 * 10**9)}
    record = replace(CARD, campaign_sha256=digest(campaign), starts_at=begin, **times)
    scope = dataclasses.replace(given.scope, campaign=campaign, campaign_sha256=digest(campaign), starts_at=begin)
    made = statement_of([record], dataclasses.replace(given, scope=scope))
    code = None
    try:
        check_campaign(campaign, scope.centre, begin, made.issue.issued_at)
        check_age(made, lambda sha256: None, given.policies, "statement")
    except RefusedError as error:
        code = error.code
    assert code == expected
    in_its_years = int(begin[:4]) >= 2023  # when the H200 was announced
    assert made.classes[0].counted.devices == in_its_years
    assert ended_ns(made) > begin_ns
