"""The ratings table: every row carried over, silicon multiplied out, names matched whole, no float anywhere."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
import yaml

from bench.errors import InputError
from bench.record import config_path
from certify.policy.ratings import Rating, Ratings, installed_ratings, load_ratings, parse_ratings, plain

GIB = 2**30
MIB = 2**20
TABLE = config_path("accelerators.yaml").read_text(encoding="utf-8")
ROWS = yaml.safe_load(TABLE)["accelerators"]
ROW = """
  - id: {id}
    name: X
    vendor: V
    match: [{{name: X{memory}}}]
    count_unit: card
    dies_per_unit: 1
    tflops: {{fp16: "{tflops}"}}
    confidence: low
    sources: [a data sheet]
    notes: none
"""


def table(*rows: str) -> bytes:
    return ("accelerators:" + "".join(rows)).encode()


def row(id: str = "x", memory: str = "", tflops: str = "1") -> str:
    return ROW.format(id=id, memory=memory, tflops=tflops)


def found(vendor: str, model: str, memory_bytes: int | None = None) -> Rating:
    rating = installed_ratings().match(vendor, model, memory_bytes)
    assert rating is not None
    return rating


def test_every_row_is_there_with_its_sources() -> None:
    assert len(ROWS) == 44 == len(installed_ratings().units)
    assert all(r["sources"] and all(isinstance(s, str) and s.strip() for s in r["sources"]) for r in ROWS)
    known = {r["id"]: r["confidence"] for r in ROWS}
    assert {u.accelerator: u.confidence for u in installed_ratings().units} == known


def test_a_rating_that_can_void_rests_on_more_than_general_knowledge() -> None:
    for r in ROWS:
        if r["confidence"] == "high":
            assert any("general knowledge" not in source for source in r["sources"]), r["id"]


@pytest.mark.parametrize("unit", installed_ratings().units, ids=lambda unit: unit.accelerator)
def test_silicon_reproduces_the_rating(unit: Rating) -> None:
    """units x FLOP/clock x clock is the rating within 1 %, or within the rounding of its last printed digit."""
    printed = {r["id"]: r["tflops"] for r in ROWS}[unit.accelerator]
    for precision, rate in unit.rates.items():
        if rate.flop_per_clock_per_unit is None:
            continue
        assert unit.units is not None
        assert rate.rating_clock_mhz is not None
        text = printed.get(precision) or printed.get(f"{precision}_matrix") or printed[f"{precision}_vector"]
        exponent = Decimal(text).as_tuple().exponent
        assert isinstance(exponent, int)
        half_digit_mflop_s = int(Decimal(5).scaleb(exponent - 1) * 10**6)
        error = abs(unit.units * rate.flop_per_clock_per_unit * rate.rating_clock_mhz - rate.nominal_mflop_s)
        assert error * 100 <= rate.nominal_mflop_s or error <= half_digit_mflop_s


def test_silicon_is_known_for_the_parts_that_matter() -> None:
    for name in ("V100-SXM2-32GB", "A100-SXM4-80GB", "H100 80GB HBM3", "H200", "L40S", "GeForce RTX 4090"):
        rating = found("NVIDIA", f"Tesla {name}" if name.startswith("V100") else f"NVIDIA {name}")
        assert rating.flop_per_clock_per_unit("fp16")
        assert rating.flop_per_clock_per_unit("fp64")


# Every row as its driver or tool reports it: vendor, name, memory in MiB, how it counts, and where the name was seen:
# "tool" in a public output of the vendor's tool or driver, "general" where it is general knowledge.
SEEN = [
    ("NVIDIA", "Tesla V100-SXM2-32GB", 32768, "card", "nvidia-v100-sxm2-32g", "tool"),
    ("NVIDIA", "Tesla V100-SXM2-16GB", 16384, "card", "nvidia-v100-sxm2-32g", "tool"),
    ("NVIDIA", "NVIDIA A100-SXM4-80GB", 81920, "card", "nvidia-a100-sxm4-80g", "tool"),
    ("NVIDIA", "NVIDIA A100-SXM4-40GB", 40960, "card", "nvidia-a100-sxm4-80g", "tool"),
    ("NVIDIA", "NVIDIA A800-SXM4-80GB", 81920, "card", "nvidia-a800-sxm4-80g", "tool"),
    ("NVIDIA", "NVIDIA H100 80GB HBM3", 81559, "card", "nvidia-h100-sxm5-80g", "tool"),
    ("NVIDIA", "NVIDIA H100 PCIe", 81559, "card", "nvidia-h100-pcie-80g", "general"),
    ("NVIDIA", "NVIDIA H800", 81559, "card", "nvidia-h800-sxm5-80g", "general"),
    ("NVIDIA", "NVIDIA H20", 97871, "card", "nvidia-h20-96g", "general"),
    ("NVIDIA", "NVIDIA H20-3e", 143771, "card", "nvidia-h20-96g", "general"),
    ("NVIDIA", "NVIDIA H200", 143771, "card", "nvidia-h200-sxm-141g", "general"),
    ("NVIDIA", "NVIDIA B200", 183359, "package", "nvidia-b200-sxm", "general"),
    ("NVIDIA", "NVIDIA L40S", 46068, "card", "nvidia-l40s-48g", "general"),
    ("NVIDIA", "NVIDIA L20", 46068, "card", "nvidia-l20-48g", "general"),
    ("NVIDIA", "NVIDIA GeForce RTX 4090", 24564, "card", "nvidia-rtx4090-24g", "tool"),
    ("NVIDIA", "NVIDIA GeForce RTX 4090 D", 24564, "card", "nvidia-rtx4090d-24g", "general"),
    ("AMD", "AMD Instinct MI210", 65520, "card", "amd-mi210-64g", "general"),
    ("AMD", "AMD INSTINCT MI250X", 65520, "die", "amd-mi250x-128g", "general"),
    ("AMD", "AMD Instinct MI300X", 196592, "package", "amd-mi300x-192g", "tool"),
    ("Huawei", "Ascend910A", 32768, "card", "huawei-ascend-910a", "general"),
    ("Huawei", "Ascend910B1", 65536, "card", "huawei-ascend-910b1", "tool"),
    ("Huawei", "Ascend910B2", 65536, "card", "huawei-ascend-910b2", "tool"),
    ("Huawei", "Ascend910B3", 65536, "card", "huawei-ascend-910b3", "tool"),
    ("Huawei", "Ascend910B4", 32768, "card", "huawei-ascend-910b4", "tool"),
    ("Huawei", "Ascend910B4-1", 65536, "card", "huawei-ascend-910b4", "general"),
    ("Huawei", "Ascend910_9382", 65536, "die", "huawei-ascend-910c", "tool"),
    ("Huawei", "Ascend310P3", 21527, "card", "huawei-ascend-310p-300ipro", "tool"),
    ("Huawei", "Ascend310P3", 44280, "die", "huawei-atlas-300i-duo", "tool"),
    ("Cambricon", "MLU290", 32768, "card", "cambricon-mlu290-m5", "general"),
    ("Cambricon", "MLU370-X8", 23308, "die", "cambricon-mlu370-x8", "tool"),
    ("Cambricon", "MLU590", None, "card", "cambricon-mlu590", "general"),
    ("Hygon", "Z100", 32752, "card", "hygon-dcu-z100", "general"),
    ("Hygon", "K100", 65520, "card", "hygon-dcu-k100", "general"),
    ("Hygon", "K100_AI", 65520, "card", "hygon-dcu-k100-ai", "tool"),
    ("Hygon", "BW200", 65520, "card", "hygon-dcu-bw200", "tool"),
    ("Moore Threads", "MTT S4000", 49152, "card", "mthreads-mtt-s4000", "tool"),
    ("Biren", "Biren106B", None, "card", "biren-br106", "general"),
    ("Biren", "Biren106C", None, "card", "biren-br106", "general"),
    ("Iluvatar CoreX", "Iluvatar BI-V100", 32768, "card", "iluvatar-bi-v100", "tool"),
    ("Iluvatar CoreX", "Iluvatar BI-V150", 32768, "die", "iluvatar-bi-v150", "tool"),
    ("Enflame", "Enflame S60", 49152, "card", "enflame-s60", "general"),
    ("Kunlunxin", "P800 OAM", 98304, "card", "kunlunxin-p800", "tool"),
    ("MetaX", "MetaX C500", 65536, "card", "metax-c500-oam", "tool"),
    ("Intel", "HL-225", 98304, "card", "intel-gaudi2", "general"),
    ("Intel", "HL-325L", 131072, "package", "intel-gaudi3", "general"),
]
WITHOUT_A_NAME = {"biren-br100", "biren-br104", "enflame-t20", "kunlunxin-r200"}  # docs/devices.md


@pytest.mark.parametrize(("vendor", "model", "memory_mib", "unit", "accelerator", "where"), SEEN)
def test_devices_as_their_drivers_report_them(
    vendor: str, model: str, memory_mib: int | None, unit: str, accelerator: str, where: str
) -> None:
    memory = None if memory_mib is None else memory_mib * MIB
    rating = installed_ratings().match(vendor, model, memory, unit)
    assert rating is not None
    assert rating.accelerator == accelerator
    assert rating.part == ("die" if unit == "die" else "unit")
    assert unit == "die" or rating.count_unit == unit
    assert where in ("tool", "general")


def test_every_row_is_matched_by_a_name_or_is_known_to_have_none() -> None:
    matched = {accelerator for *_, accelerator, _ in SEEN}
    assert matched | WITHOUT_A_NAME == {r["id"] for r in ROWS}
    assert not matched & WITHOUT_A_NAME
    assert {r["id"] for r in ROWS if not r.get("match")} == WITHOUT_A_NAME
    page = (config_path("accelerators.yaml").parent.parent / "docs" / "devices.md").read_text(encoding="utf-8")
    for name in ("BR100", "BR104", "T20", "R200"):
        assert name in page


@pytest.mark.parametrize(
    ("vendor", "model", "memory_bytes"),
    [
        ("NVIDIA", "NVIDIA H200 NVL", None),
        ("NVIDIA", "NVIDIA H200 MIG 1g.18gb", None),
        ("NVIDIA", "H200", None),
        ("NVIDIA", "NVIDIA H2", None),
        ("NVIDIA", "NVIDIA L4", None),
        ("NVIDIA", "NVIDIA A100-PCIE-40GB", None),
        ("AMD", "NVIDIA H200", None),
        ("Huawei", "Ascend910B", None),  # the old 910, or a 910B of an unknown bin
        ("Huawei", "Ascend910", None),
        ("Huawei", "Ascend910B2C", None),
        ("Huawei", "Ascend910_9362", None),  # a 910C die of a lower bin
        ("NVIDIA", "NVIDIA H200", 18 * GIB),  # a slice that bears the whole device's name
        ("NVIDIA", "NVIDIA GeForce RTX 4090", 48 * GIB),  # rebuilt with more memory
        ("Huawei", "Ascend310P3", None),  # stands for two parts that only memory tells apart
        ("AMD", "AMD Instinct MI21", None),
        ("", "", None),
    ],
)
def test_no_rating_is_guessed(vendor: str, model: str, memory_bytes: int | None) -> None:
    assert installed_ratings().match(vendor, model, memory_bytes) is None


def test_a_slice_has_no_rating() -> None:
    assert installed_ratings().match("NVIDIA", "NVIDIA H200", None, "card") is not None
    assert installed_ratings().match("NVIDIA", "NVIDIA H200", None, "slice") is None


def test_case_width_and_spaces_do_not_matter() -> None:
    assert found("nvidia", " nvidia  h200\n") == found("NVIDIA", "NVIDIA H200")
    assert plain("ＭＴＴ　S4000") == "mtts4000"


def test_rates_are_exact_integers() -> None:
    h200 = found("NVIDIA", "NVIDIA H200")
    assert h200.nominal_mflop_s("fp16") == 989_400_000
    assert h200.nominal_mflop_s("fp64") == 66_900_000  # matrix, not the vector 33.5
    assert found("NVIDIA", "Tesla V100-SXM2-32GB").nominal_mflop_s("fp64") == 7_800_000  # vector only
    assert found("NVIDIA", "Tesla V100-SXM2-32GB").nominal_mflop_s("bf16") is None
    assert found("AMD", "AMD Instinct MI300X").nominal_mflop_s("fp16") == 1_307_400_000
    assert found("Intel", "HL-225").nominal_mflop_s("fp16") is None
    assert found("Intel", "HL-225").rating_clock_mhz("bf16") is None
    for unit in installed_ratings().units:
        for rate in unit.rates.values():
            assert type(rate.nominal_mflop_s) is int


def test_a_die_is_rated_as_its_share() -> None:
    gcd = found("AMD", "AMD Instinct MI250X", 64 * GIB)
    assert gcd.nominal_mflop_s("fp16") == 191_500_000
    assert (gcd.units, gcd.tdp_mw, gcd.memory_bytes) == (110, 280_000, 64 * 10**9)
    assert found("Huawei", "Ascend910_9382").nominal_mflop_s("fp16") == 376_000_000


def test_digest_follows_the_figures_and_not_the_notes() -> None:
    same = parse_ratings(TABLE.replace("1979 FP16 is the sparse figure.", "Changed.").encode(), "t")
    assert same.digest == installed_ratings().digest == load_ratings().digest
    changed = parse_ratings(TABLE.replace('fp16: "989.4"', 'fp16: "989.5"', 1).encode(), "t")
    assert changed.digest != installed_ratings().digest
    assert Ratings([]).digest != installed_ratings().digest


def test_order_of_rows_does_not_change_the_digest() -> None:
    a, b = row("a"), row("b").replace("name: X", "name: Y")
    assert parse_ratings(table(a, b), "t").digest == parse_ratings(table(b, a), "t").digest


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (table(row().replace("[a data sheet]", "[]")), "rating-without-source"),
        (table(row().replace("[a data sheet]", '["  "]')), "rating-without-source"),
        (table(row().replace("    sources: [a data sheet]\n", "")), "rating-without-source"),
        (table(row(), row("y")), "duplicate-match"),
        (table(row(memory=", memory_gb: 64"), row("y", ", memory_gb: 80")), "duplicate-match"),  # too close to tell
        (table(row(memory=", memory_gb: 64"), row("y")), "duplicate-match"),
        (table(row(), row()), "duplicate-accelerator"),
        (table(row(tflops='1" , x: "1')), "config-invalid"),
        (table(row(tflops="1e3")), "config-invalid"),
        (table(row(tflops="nan")), "config-invalid"),
        (table(row(tflops="-1")), "config-invalid"),
        (table(row().replace('"1"', "1.5")), "config-invalid"),  # a float
        (table(row().replace("dies_per_unit: 1", "dies_per_unit: 0")), "config-invalid"),
        (table(row().replace("dies_per_unit: 1", "dies_per_unit: true")), "config-invalid"),
        (table(row().replace("confidence: low", "confidence: certain")), "config-invalid"),
        (table(row() + "    surprise: 1\n"), "config-invalid"),
        (table(row() + "    vendor: W\n"), "yaml-invalid"),
        (b"accelerators: []", "config-invalid"),
        (b"accelerators: !!python/object/apply:os.system [true]", "yaml-invalid"),
    ],
)
def test_a_bad_table_is_refused(text: bytes, code: str) -> None:
    with pytest.raises(InputError) as error:
        parse_ratings(text, "table.yaml")
    assert error.value.code == code
    assert str(error.value).startswith("table.yaml: ")


def test_one_name_may_stand_for_parts_that_memory_tells_apart() -> None:
    ratings = parse_ratings(table(row(memory=", memory_gb: 32"), row("y", ", memory_gb: 64", "2")), "t")
    small, large = ratings.match("V", "X", 32 * GIB), ratings.match("V", "X", 64 * GIB)
    assert small is not None
    assert large is not None
    assert (small.accelerator, large.accelerator) == ("x", "y")
    assert ratings.match("V", "X", 48 * GIB) is None


def test_a_missing_table_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        load_ratings(tmp_path / "none.yaml")
    assert error.value.code == "file-missing"
