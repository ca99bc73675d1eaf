"""The ratings table: every row with its sources, silicon multiplied out, names matched whole, no float anywhere.

What stands in its rows is compared with the vendors' figures, written out by hand, in ``test_ratings_rows.py``.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from bench.errors import InputError
from bench.record import Precision, config_path
from certify.policy import released
from certify.policy.rating import Rating, plain
from certify.policy.ratings import Ratings, decode_ratings, installed_ratings, load_ratings, parse_ratings

GIB = 2**30
MIB = 2**20
WITH_A_BACK_END = {
    "NVIDIA",
    "AMD",
    "Huawei",
    "Cambricon",
    "Hygon",
    "Moore Threads",
    "MetaX",
    "Iluvatar CoreX",
    "Kunlunxin",
    "petaseal",
}
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
    assert len(ROWS) == 91 == len(installed_ratings().units)
    assert all(r["sources"] and all(isinstance(s, str) and s.strip() for s in r["sources"]) for r in ROWS)
    known = {r["id"]: r["confidence"] for r in ROWS}
    assert {u.accelerator: u.confidence for u in installed_ratings().units} == known


def test_a_rating_that_can_void_rests_on_more_than_general_knowledge() -> None:
    for r in ROWS:
        if r["confidence"] == "high":
            assert any("general knowledge" not in source for source in r["sources"]), r["id"]


@pytest.mark.parametrize("unit", installed_ratings().units, ids=lambda unit: unit.accelerator)
def test_silicon_reproduces_the_rating(unit: Rating) -> None:
    """units x FLOP/clock x clock is the rating within 1 %, or within the rounding of its last printed digit.

    What is not certain may miss it by 6 %: the ratings of Ascend count the vector cores too.
    """
    printed = {r["id"]: r["tflops"] for r in ROWS}[unit.accelerator]
    for precision, rate in unit.rates.items():
        if rate.silicon_confidence == "high":
            assert rate.flop_per_clock_per_unit
            assert rate.rating_clock_mhz
            assert unit.units
        if rate.flop_per_clock_per_unit is None or unit.units is None or rate.rating_clock_mhz is None:
            continue
        text = printed.get(precision) or printed.get(f"{precision}_matrix") or printed[f"{precision}_vector"]
        exponent = Decimal(text).as_tuple().exponent
        assert isinstance(exponent, int)
        half_digit_mflop_s = int(Decimal(5).scaleb(exponent - 1) * 10**6)
        error = abs(unit.units * rate.flop_per_clock_per_unit * rate.rating_clock_mhz - rate.nominal_mflop_s)
        percent = 1 if rate.silicon_confidence == "high" else 6
        assert error * 100 <= percent * rate.nominal_mflop_s or error <= half_digit_mflop_s
        assert unit.highest_clock_mhz is None or unit.highest_clock_mhz >= rate.rating_clock_mhz


def test_silicon_is_known_for_the_parts_that_matter() -> None:
    for name in ("V100-SXM2-32GB", "A100-SXM4-80GB", "H100 80GB HBM3", "H200", "L40S", "GeForce RTX 4090"):
        rating = found("NVIDIA", f"Tesla {name}" if name.startswith("V100") else f"NVIDIA {name}")
        assert rating.flop_per_clock_per_unit("fp16")
        assert rating.flop_per_clock_per_unit("fp64")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["id"])
def test_a_vendor_with_a_back_end_has_silicon_or_the_reason_in_words(row: dict[str, Any]) -> None:
    """The reason in words: there is no figure, FLOP per clock is not published, or no highest clock was found."""
    if row["vendor"] not in WITH_A_BACK_END:
        return
    unit = {unit.accelerator: unit for unit in installed_ratings().units}[row["id"]]
    certain = [precision for precision in unit.rates if unit.silicon_is_certain(precision)]
    reasons = ("No figure", "FLOP per clock", "highest clock", "not certain", "No silicon for FP64")
    if set(certain) != set(unit.rates) or not unit.rates:
        assert any(reason in row["notes"] for reason in reasons), row["notes"]


def test_a_row_without_a_figure_says_so() -> None:
    for unit in installed_ratings().units:
        assert (unit.confidence == "none") == (not unit.rates), unit.accelerator


# Every row as its driver or tool reports it: vendor, name, memory in MiB, how it counts, and where the name was seen:
# "tool" in a public output of the vendor's tool or driver, "general" where it is general knowledge.
SEEN = [
    ("NVIDIA", "Tesla V100-SXM2-32GB", 32768, "card", "nvidia-v100-sxm2-32g", "tool"),
    ("NVIDIA", "Tesla V100-SXM2-16GB", 16384, "card", "nvidia-v100-sxm2-32g", "tool"),
    ("NVIDIA", "Tesla V100-PCIE-32GB", 32768, "card", "nvidia-v100-pcie", "tool"),
    ("NVIDIA", "Tesla V100-PCIE-16GB", 16384, "card", "nvidia-v100-pcie", "tool"),
    ("NVIDIA", "Tesla V100S-PCIE-32GB", 32768, "card", "nvidia-v100s-pcie-32g", "tool"),
    ("NVIDIA", "NVIDIA A100-SXM4-80GB", 81920, "card", "nvidia-a100-sxm4-80g", "tool"),
    ("NVIDIA", "NVIDIA A100 80GB PCIe", 81920, "card", "nvidia-a100-pcie", "tool"),
    ("NVIDIA", "NVIDIA A100-PCIE-40GB", 40960, "card", "nvidia-a100-pcie", "tool"),
    ("NVIDIA", "NVIDIA A800 80GB PCIe", 81920, "card", "nvidia-a800-pcie-80g", "tool"),
    ("NVIDIA", "NVIDIA A100-SXM4-40GB", 40960, "card", "nvidia-a100-sxm4-80g", "tool"),
    ("NVIDIA", "NVIDIA A800-SXM4-80GB", 81920, "card", "nvidia-a800-sxm4-80g", "tool"),
    ("NVIDIA", "NVIDIA H100 80GB HBM3", 81559, "card", "nvidia-h100-sxm5-80g", "tool"),
    ("NVIDIA", "NVIDIA H100 PCIe", 81559, "card", "nvidia-h100-pcie-80g", "general"),
    ("NVIDIA", "NVIDIA H100 NVL", 95830, "card", "nvidia-h100-nvl-94g", "tool"),
    ("NVIDIA", "NVIDIA H800", 81559, "card", "nvidia-h800-sxm5-80g", "general"),
    ("NVIDIA", "NVIDIA H800 PCIe", 81559, "card", "nvidia-h800-pcie-80g", "general"),
    ("NVIDIA", "NVIDIA H20", 97871, "card", "nvidia-h20-96g", "general"),
    ("NVIDIA", "NVIDIA H20-3e", 143771, "card", "nvidia-h20-96g", "general"),
    ("NVIDIA", "NVIDIA H200", 143771, "card", "nvidia-h200-sxm-141g", "general"),
    ("NVIDIA", "NVIDIA H200 NVL", 143771, "card", "nvidia-h200-nvl-141g", "tool"),
    ("NVIDIA", "NVIDIA GH200 480GB", 97871, "card", "nvidia-gh200", "tool"),
    ("NVIDIA", "NVIDIA GH200 144G HBM3e", 146831, "card", "nvidia-gh200", "general"),
    ("NVIDIA", "NVIDIA B200", 183359, "package", "nvidia-b200-sxm", "general"),
    ("NVIDIA", "NVIDIA B300 SXM6 AC", 275040, "package", "nvidia-b300-sxm", "general"),
    ("NVIDIA", "NVIDIA GB200", 189471, "package", "nvidia-gb200", "general"),
    ("NVIDIA", "NVIDIA GB300", 284208, "package", "nvidia-gb300", "general"),
    ("NVIDIA", "NVIDIA L40S", 46068, "card", "nvidia-l40s-48g", "general"),
    ("NVIDIA", "NVIDIA L20", 46068, "card", "nvidia-l20-48g", "general"),
    ("NVIDIA", "NVIDIA GeForce RTX 4090", 24564, "card", "nvidia-rtx4090-24g", "tool"),
    ("NVIDIA", "NVIDIA GeForce RTX 4090", 49140, "card", "nvidia-rtx4090-24g", "general"),
    ("NVIDIA", "NVIDIA GeForce RTX 5090", 32607, "card", "nvidia-rtx5090-32g", "tool"),
    ("NVIDIA", "NVIDIA GeForce RTX 5090 D", 32607, "card", "nvidia-rtx5090d", "general"),
    ("NVIDIA", "NVIDIA RTX 6000D", None, "card", "nvidia-rtx6000d", "general"),
    ("NVIDIA", "NVIDIA L40", 46068, "card", "nvidia-l40-48g", "tool"),
    ("NVIDIA", "NVIDIA L4", 23034, "card", "nvidia-l4-24g", "tool"),
    ("NVIDIA", "NVIDIA A10", 23028, "card", "nvidia-a10-24g", "tool"),
    ("NVIDIA", "NVIDIA A30", 24576, "card", "nvidia-a30-24g", "tool"),
    ("NVIDIA", "NVIDIA A40", 46068, "card", "nvidia-a40-48g", "tool"),
    ("NVIDIA", "Tesla T4", 15360, "card", "nvidia-t4-16g", "tool"),
    ("NVIDIA", "NVIDIA GeForce RTX 4090 D", 24564, "card", "nvidia-rtx4090d-24g", "general"),
    ("AMD", "AMD Instinct MI210", 65520, "card", "amd-mi210-64g", "general"),
    ("AMD", "AMD INSTINCT MI250X", 65520, "die", "amd-mi250x-128g", "general"),
    ("AMD", "AMD INSTINCT MI200 (MCM) OAM LC MBA HPE C2", 65520, "die", "amd-mi250x-128g", "tool"),
    ("AMD", "AMD Instinct MI250X/MI250", 65520, "die", "amd-mi250x-128g", "tool"),
    ("AMD", "AMD Instinct MI250", 65520, "die", "amd-mi250-128g", "general"),
    ("AMD", "AMD INSTINCT MI250 (MCM) OAM AC MBA", 65520, "die", "amd-mi250-128g", "tool"),
    ("AMD", "AMD Instinct MI308X OAM", 196592, "package", "amd-mi308x", "tool"),
    ("AMD", "AMD Instinct MI350 OAM", 294896, "package", "amd-mi350x-288g", "tool"),
    ("AMD", "AMD Instinct MI355X OAM", 294896, "package", "amd-mi355x-288g", "tool"),
    ("AMD", "AMD Instinct MI300X", 196592, "package", "amd-mi300x-192g", "tool"),
    ("AMD", "Instinct MI210", 65520, "card", "amd-mi210-64g", "tool"),
    ("AMD", "MI300X-O", 196592, "package", "amd-mi300x-192g", "tool"),
    ("AMD", "Aqua Vanjaram [Instinct MI300X]", 196592, "package", "amd-mi300x-192g", "tool"),
    ("AMD", "AMD Instinct MI308X", 196592, "package", "amd-mi308x", "general"),
    ("AMD", "AMD Instinct MI325X", 262128, "package", "amd-mi325x-256g", "general"),
    ("AMD", "AMD Instinct MI350X", 294896, "package", "amd-mi350x-288g", "general"),
    ("AMD", "AMD Instinct MI355X", 294896, "package", "amd-mi355x-288g", "general"),
    ("Huawei", "Ascend910A", 32768, "card", "huawei-ascend-910a", "general"),
    ("Huawei", "Ascend910B1", 65536, "card", "huawei-ascend-910b1", "tool"),
    ("Huawei", "Ascend910B2", 65536, "card", "huawei-ascend-910b2", "tool"),
    ("Huawei", "Ascend910B3", 65536, "card", "huawei-ascend-910b3", "tool"),
    ("Huawei", "Ascend910B4", 32768, "card", "huawei-ascend-910b4", "tool"),
    ("Huawei", "Ascend910B4-1", 65536, "card", "huawei-ascend-910b4", "general"),
    ("Huawei", "Ascend910B2C", 65536, "card", "huawei-ascend-910b2c", "tool"),
    ("Huawei", "Ascend910_9382", 65536, "die", "huawei-ascend-910c", "tool"),
    ("Huawei", "Ascend910_9391", 65536, "die", "huawei-ascend-910c", "tool"),
    ("Huawei", "Ascend910_9392", 65536, "die", "huawei-ascend-910c", "tool"),
    ("Huawei", "Ascend910_9372", 65536, "die", "huawei-ascend-910c-20core", "tool"),
    ("Huawei", "Ascend910_9362", 65536, "die", "huawei-ascend-910c-20core", "tool"),
    ("Huawei", "Ascend950DT", None, "card", "huawei-ascend-950dt", "general"),
    ("Huawei", "Ascend950PR_9579", None, "card", "huawei-ascend-950pr", "tool"),
    ("Huawei", "Ascend310P3", 21527, "card", "huawei-ascend-310p-300ipro", "tool"),
    ("Huawei", "Ascend310P3", 44280, "die", "huawei-atlas-300i-duo", "tool"),
    ("Huawei", "Ascend310P3", 21527, "die", "huawei-atlas-300i-duo", "general"),
    ("Cambricon", "MLU290", 32768, "card", "cambricon-mlu290-m5", "general"),
    ("Cambricon", "MLU370-X8", 23308, "die", "cambricon-mlu370-x8", "tool"),
    ("Cambricon", "MLU370-X4", 24576, "card", "cambricon-mlu370-x4", "general"),
    ("Cambricon", "MLU370-S4", 24576, "card", "cambricon-mlu370-s4", "general"),
    ("Cambricon", "MLU580", None, "card", "cambricon-mlu580", "general"),
    ("Cambricon", "MLU585", None, "card", "cambricon-mlu585", "general"),
    ("Cambricon", "MLU590", None, "card", "cambricon-mlu590", "general"),
    ("Cambricon", "MLU590-M9DG", 81920, "card", "cambricon-mlu590", "tool"),
    ("Cambricon", "MLU690", None, "card", "cambricon-mlu690", "general"),
    ("Hygon", "Z100", 32752, "card", "hygon-dcu-z100", "general"),
    ("Hygon", "K100", 65520, "card", "hygon-dcu-k100", "general"),
    ("Hygon", "K100_AI", 65520, "card", "hygon-dcu-k100-ai", "tool"),
    ("Hygon", "BW200", 65520, "card", "hygon-dcu-bw200", "tool"),
    ("Hygon", "BW200, UBB BW1000", 65520, "card", "hygon-dcu-bw200", "tool"),
    ("Hygon", "Z100L", None, "card", "hygon-dcu-z100l", "general"),
    ("Moore Threads", "MTT S4000", 49152, "card", "mthreads-mtt-s4000", "tool"),
    ("Moore Threads", "MTT S5000", 81920, "card", "mthreads-mtt-s5000", "tool"),
    ("Biren", "Biren106B", None, "card", "biren-br106", "general"),
    ("Biren", "Biren106C", None, "card", "biren-br106", "general"),
    ("Biren", "Biren166M", None, "card", "biren-br166", "general"),
    ("Iluvatar CoreX", "Iluvatar BI-V100", 32768, "card", "iluvatar-bi-v100", "tool"),
    ("Iluvatar CoreX", "Iluvatar BI-V150", 32768, "die", "iluvatar-bi-v150", "tool"),
    ("Iluvatar CoreX", "Iluvatar BI-V150S", 32768, "die", "iluvatar-bi-v150s", "tool"),
    ("Iluvatar CoreX", "Iluvatar MR-V100", 32768, "card", "iluvatar-mr-v100", "general"),
    ("Enflame", "Enflame S60", 49152, "card", "enflame-s60", "general"),
    ("Enflame", "Enflame L600", None, "card", "enflame-l600", "general"),
    ("T-Head", "PPU-ZW810E", None, "card", "t-head-ppu-zw810e", "general"),
    ("Kunlunxin", "R200", 16384, "card", "kunlunxin-r200", "tool"),
    ("Kunlunxin", "R200-8F", 32768, "card", "kunlunxin-r200", "general"),
    ("Kunlunxin", "P800 PCIe", 98304, "card", "kunlunxin-p800", "general"),
    ("Kunlunxin", "P800 OAM", 98304, "card", "kunlunxin-p800", "tool"),
    ("MetaX", "MetaX C500", 65536, "card", "metax-c500-pcie", "tool"),
    ("MetaX", "MXC500", 65536, "card", "metax-c500-pcie", "tool"),
    ("MetaX", "MetaX C550", 65536, "card", "metax-c550-oam", "tool"),
    ("MetaX", "MXC550", 65536, "card", "metax-c550-oam", "general"),
    ("MetaX", "MetaX C588", 131072, "card", "metax-c588", "general"),
    ("MetaX", "MetaX C600", None, "card", "metax-c600", "general"),
    ("MetaX", "MetaX C600-U", None, "card", "metax-c600", "tool"),
    ("MetaX", "MXC600-A", 73728, "card", "metax-c600", "tool"),
    ("MetaX", "MetaX N260", 65536, "card", "metax-n260", "tool"),
    ("Intel", "HL-225", 98304, "card", "intel-gaudi2", "general"),
    ("Intel", "HL-325L", 131072, "package", "intel-gaudi3", "general"),
]
WITHOUT_A_NAME = {"biren-br100", "biren-br104", "enflame-t20"}  # docs/devices.md


@pytest.mark.parametrize(("vendor", "model", "memory_mib", "unit", "accelerator", "where"), SEEN)
def test_devices_as_their_drivers_report_them(
    vendor: str, model: str, memory_mib: int | None, unit: str, accelerator: str, where: str
) -> None:
    memory = None if memory_mib is None else memory_mib * MIB
    rating = installed_ratings().match(vendor, model, memory, unit)
    assert rating is not None
    assert rating.accelerator == accelerator
    assert rating.part == ("die" if unit == "die" else "unit")
    assert memory is None or rating.fits_memory(memory)
    assert unit == "die" or rating.count_unit == unit
    assert where in ("tool", "general")


def test_every_row_is_matched_by_a_name_or_is_known_to_have_none() -> None:
    matched = {accelerator for *_, accelerator, _ in SEEN}
    assert matched | WITHOUT_A_NAME | {"petaseal-fake-1", "petaseal-fake-1700"} == {r["id"] for r in ROWS}
    assert not matched & WITHOUT_A_NAME
    assert {r["id"] for r in ROWS if not r.get("match")} == WITHOUT_A_NAME
    page = (config_path("accelerators.yaml").parent.parent / "docs" / "devices.md").read_text(encoding="utf-8")
    for name in ("BR100", "BR104", "T20"):
        assert name in page


@pytest.mark.parametrize(
    ("vendor", "model"),
    [
        ("NVIDIA", "NVIDIA H200 NV"),
        ("NVIDIA", "NVIDIA H200 MIG 1g.18gb"),
        ("NVIDIA", "H200"),
        ("NVIDIA", "NVIDIA H2"),
        ("NVIDIA", "GRID A100D-80C"),
        ("AMD", "NVIDIA H200"),
        ("Huawei", "Ascend910B"),  # the old 910, or a 910B of an unknown bin
        ("Huawei", "Ascend910"),
        ("Huawei", "Ascend310P3"),  # stands for two rows that only memory tells apart
        ("AMD", "AMD Instinct MI21"),
        ("petaseal", "Fake-1"),  # simulated
        ("", ""),
    ],
)
def test_no_rating_is_guessed(vendor: str, model: str) -> None:
    assert installed_ratings().match(vendor, model) is None


@pytest.mark.parametrize(
    ("model", "memory_bytes", "fits"),
    [
        ("NVIDIA H200", 18 * GIB, False),
        ("NVIDIA H200", 85 * 141 * 10**7, True),  # 0.85 of 10^9 bytes a gigabyte
        ("NVIDIA H200", 85 * 141 * 10**7 - 1, False),
        ("NVIDIA H200", 102 * 141 * GIB // 100, True),  # 1.02 of 2^30 bytes a gigabyte
        ("NVIDIA H200", 102 * 141 * GIB // 100 + 1, False),
        ("NVIDIA GeForce RTX 4090", 24 * GIB, True),
        ("NVIDIA GeForce RTX 4090", 48 * GIB, True),
        ("NVIDIA GeForce RTX 4090", 32 * GIB, False),
        ("Tesla V100-SXM2-16GB", 32 * GIB, False),  # the row's other name has as much
        ("NVIDIA RTX 6000D", 1, True),  # no size is known
    ],
)
def test_a_name_of_one_row_is_that_rows_whatever_its_memory(model: str, memory_bytes: int, fits: bool) -> None:
    rating = found("NVIDIA", model, memory_bytes)
    assert rating.fits_memory(memory_bytes) is fits


def test_the_sizes_of_memory_are_those_of_the_name() -> None:
    assert found("NVIDIA", "NVIDIA GeForce RTX 4090").memory_sizes_bytes == (24 * 10**9, 48 * 10**9)
    assert found("NVIDIA", "Tesla V100-SXM2-16GB").memory_sizes_bytes == (16 * 10**9,)
    assert found("AMD", "AMD Instinct MI250X").memory_sizes_bytes == (64 * 10**9,)
    assert found("NVIDIA", "NVIDIA RTX 6000D").memory_sizes_bytes == ()
    v100 = next(unit for unit in installed_ratings().units if unit.accelerator == "nvidia-v100-sxm2-32g")
    assert v100.memory_sizes_bytes == (16 * 10**9, 32 * 10**9)


def test_a_slice_is_rated_as_its_whole() -> None:
    match = installed_ratings().match
    whole = match("NVIDIA", "NVIDIA H200", None, "card")
    assert whole is not None
    assert match("NVIDIA", "NVIDIA H200", 18 * GIB, "slice") == whole
    assert match("NVIDIA", "NVIDIA H200 MIG 1g.18gb", 18 * GIB, "slice") == whole
    mi250x = match("AMD", "AMD Instinct MI250X", 16 * GIB, "slice")
    assert mi250x is not None
    assert (mi250x.part, mi250x.nominal_mflop_s("fp16")) == ("unit", 383_000_000)
    assert match("Huawei", "Ascend310P3", 24 * GIB, "slice") is None  # of one of two rows


@pytest.mark.parametrize(
    ("model", "memory_gib", "unit", "part"),
    [
        ("MLU370-X8", 48, "card", "unit"),
        ("MLU370-X8", 24, "card", "die"),  # the driver lists chips, and calls them cards
        ("MLU370-X8", 24, "die", "die"),
        ("MLU370-X8", 48, "die", "die"),  # its memory differs from the die's: the judge voids it
        ("MLU370-X8", 100, "card", "unit"),
        ("MLU370-X8", None, "card", "unit"),
        ("MLU370-X8", None, "die", "die"),
        ("MLU370-X4", 24, "die", "unit"),  # a part that the row does not have
    ],
)
def test_a_unit_and_its_dies_may_bear_one_name(model: str, memory_gib: int | None, unit: str, part: str) -> None:
    memory = None if memory_gib is None else memory_gib * GIB
    rating = installed_ratings().match("Cambricon", model, memory, unit)
    assert rating is not None
    assert rating.part == part


@pytest.mark.parametrize(
    ("model", "plays", "accelerator"),
    [
        ("Fake-1", None, "petaseal-fake-1"),
        ("Fake-1", "huawei-ascend-910b3", "huawei-ascend-910b3"),
        ("Fake-1", "metax-c588", "metax-c588"),
        ("Fake-1", "biren-br100", "biren-br100"),  # a row without a name
        ("Fake-1700", None, "petaseal-fake-1700"),
        ("Fake-1", "no-such-row", None),
        ("Fake-2", None, None),
        ("Fake-2", "petaseal-fake-1", "petaseal-fake-1"),
    ],
)
def test_a_simulated_device_plays_a_row(model: str, plays: str | None, accelerator: str | None) -> None:
    ratings = installed_ratings()
    rating = ratings.match("petaseal", model, 80 * GIB, "card", simulated=True, plays=plays)
    assert (None if rating is None else rating.accelerator) == accelerator
    assert ratings.match("petaseal", model, 80 * GIB, "card", plays=plays) is None  # no real device plays


def test_plays_is_read_of_simulated_devices_only() -> None:
    real = installed_ratings().match("NVIDIA", "NVIDIA L20", None, "card", plays="nvidia-h200-sxm-141g")
    assert real is not None
    assert real.accelerator == "nvidia-l20-48g"
    fake = installed_ratings().match("NVIDIA", "NVIDIA L20", None, "card", simulated=True)
    assert fake == real  # without a word it is judged as what it is called


def test_a_simulated_die_plays_a_die() -> None:
    rating = installed_ratings().match("petaseal", "Fake-1", 64 * GIB, "die", simulated=True, plays="amd-mi250x-128g")
    assert rating == found("AMD", "AMD Instinct MI250X")


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
    whole = gcd.whole()
    assert (whole.part, whole.units, whole.nominal_mflop_s("fp16")) == ("unit", 220, 383_000_000)
    assert whole.memory_sizes_bytes == (128 * 10**9,)
    assert whole.whole() is whole
    assert gcd.best_known_mflop_s("fp16") == whole.best_known_mflop_s("fp16") == 294_000_000  # of the whole unit


@pytest.mark.parametrize(
    ("rated", "known", "fp16", "bf16"),
    [
        ('fp16: "100", bf16: "100"', 'fp16: {tflops: "80", source: s}', 80, 80),
        ('fp16: "100", bf16: "100"', 'bf16: {tflops: "80", source: s}', 80, 80),
        ('fp16: "100", bf16: "100"', 'fp16: {tflops: "80", source: s}, bf16: {tflops: "90", source: s}', 90, 90),
        ('fp16: "25", bf16: "100"', 'bf16: {tflops: "80", source: s}', None, 80),
        ('fp16: "25", bf16: "100"', 'fp16: {tflops: "20", source: s}, bf16: {tflops: "80", source: s}', 20, 80),
        ('fp16: "100"', 'fp16: {tflops: "80", source: s}', 80, None),
        ('bf16: "100"', 'bf16: {tflops: "80", source: s}', None, 80),
        ('fp16: "100", bf16: "100"', "", None, None),
    ],
)
def test_fp16_and_bf16_share_what_is_known_where_they_are_rated_alike(
    rated: str, known: str, fp16: int | None, bf16: int | None
) -> None:
    text = row().replace('fp16: "1"', rated) + f"    best_known: {{{known}}}\n"
    rating = parse_ratings(table(text), "t").match("V", "X")
    assert rating is not None
    expected = [None if tflops is None else tflops * 10**6 for tflops in (fp16, bf16)]
    assert [rating.best_known_mflop_s("fp16"), rating.best_known_mflop_s("bf16")] == expected
    assert rating.best_known_mflop_s("fp64") is None


@pytest.mark.parametrize(
    ("silicon", "certain"),
    [
        ("units: 1, highest_clock_mhz: 2, fp16: {flop_per_clock_per_unit: 1, silicon_confidence: high}", True),
        ("units: 1, highest_clock_mhz: 2, fp16: {flop_per_clock_per_unit: 1, silicon_confidence: uncertain}", False),
        ("units: 1, fp16: {flop_per_clock_per_unit: 1, silicon_confidence: high}", False),
        ("highest_clock_mhz: 2, fp16: {flop_per_clock_per_unit: 1, silicon_confidence: high}", False),
        ("units: 1, highest_clock_mhz: 2", False),
    ],
)
def test_silicon_is_certain_where_all_of_it_is_known(silicon: str, certain: bool) -> None:
    rating = parse_ratings(table(row() + f"    silicon: {{{silicon}}}\n"), "t").match("V", "X")
    assert rating is not None
    assert rating.silicon_is_certain("fp16") is certain
    assert not rating.silicon_is_certain("fp64")


def test_the_highest_rating_is_of_real_accelerators() -> None:
    ratings = installed_ratings()
    expected = {"fp16": 2_516_600_000, "bf16": 2_516_600_000, "fp32": 256_000_000, "fp64": 163_400_000}
    for precision in get_args(Precision):
        assert ratings.highest_mflop_s(precision) == expected.get(precision)


def test_a_table_that_the_user_gave_never_raises_the_highest_rating() -> None:
    given = parse_ratings(table(row(tflops="9999")), "t")
    assert given.highest_mflop_s("fp16") == installed_ratings().highest_mflop_s("fp16")
    assert given.highest_mflop_s("fp64") == installed_ratings().highest_mflop_s("fp64")
    kept = decode_ratings(given.content, "t")
    assert kept.highest_mflop_s("fp16") == installed_ratings().highest_mflop_s("fp16")


def test_a_released_table_has_its_own_highest_rating() -> None:
    first = next(line for line in released.index().values() if line.kind == "ratings")
    ratings = released.ratings_of(first.sha256)
    assert ratings is not None
    highest = max(unit.nominal_mflop_s("fp16") or 0 for unit in ratings.units if not unit.simulated)
    assert ratings.highest_mflop_s("fp16") == highest
    given = load_ratings(released.table_path(first.sha256))  # the same table, given as a file
    assert given.highest_mflop_s("fp16") == highest


def test_a_cpu_has_nominal_ratings_and_bounds_no_accelerator() -> None:
    ratings = parse_ratings(table(row() + "    kind: cpu\n"), "t")
    cpu = ratings.match("V", "X")
    assert cpu is not None
    assert (cpu.kind, cpu.nominal_mflop_s("fp16")) == ("cpu", 1_000_000)
    assert found("NVIDIA", "NVIDIA H200").kind == "accelerator"


def test_what_a_row_says_survives_its_canonical_form() -> None:
    text = row() + (
        "    year: 2026\n    simulated: true\n    kind: accelerator\n"
        "    silicon: {units: 1, highest_clock_mhz: 2, fp16: {flop_per_clock_per_unit: 1, silicon_confidence: high}}\n"
        '    best_known: {fp16: {tflops: "1", source: s}}\n'
    )
    ratings = parse_ratings(table(text, row("y").replace("name: X", "name: Y")), "t")
    again = decode_ratings(ratings.content, "t")
    assert (again.content, again.units) == (ratings.content, ratings.units)
    assert installed_ratings().units == decode_ratings(installed_ratings().content, "t").units


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
        (table(row() + '    best_known: {fp16: {tflops: "1", source: " "}}\n'), "rating-without-source"),
        (table(row() + '    best_known: {fp16: {tflops: "1"}}\n'), "config-invalid"),
        (table(row() + '    best_known: {fp64: {tflops: "1", source: s}}\n'), "config-invalid"),  # not rated
        (table(row() + '    kind: cpu\n    best_known: {fp16: {tflops: "1", source: s}}\n'), "config-invalid"),
        (table(row() + "    kind: cpu\n    silicon: {units: 1}\n"), "config-invalid"),
        (table(row() + "    silicon: {units: 1, fp16: {flop_per_clock_per_unit: 1}}\n"), "config-invalid"),
        (table(row() + "    year: 0\n"), "config-invalid"),
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
