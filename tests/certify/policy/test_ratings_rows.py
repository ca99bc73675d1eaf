"""What stands in the ratings table, written out by hand from what vendors and public measurements say."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from certify.policy.rating import Confidence, Rating
from certify.policy.ratings import installed_ratings

GIB = 2**30
TFLOPS = 10**6  # MFLOP/s


class Row(NamedTuple):
    """One row by its id: dense TFLOPS, and how well they are supported."""

    accelerator: str
    fp16: str | None
    fp64: str | None
    confidence: Confidence


ROWS = (
    Row("nvidia-v100-sxm2-32g", "125", "7.8", "high"),
    Row("nvidia-v100-pcie", "112", "7", "high"),
    Row("nvidia-v100s-pcie-32g", "130", "8.2", "medium"),
    Row("nvidia-a100-sxm4-80g", "312", "19.5", "high"),
    Row("nvidia-a100-pcie", "312", "19.5", "high"),
    Row("nvidia-a800-sxm4-80g", "312", "19.5", "high"),
    Row("nvidia-a800-pcie-80g", "312", "19.5", "medium"),
    Row("nvidia-h100-sxm5-80g", "989.4", "66.9", "high"),
    Row("nvidia-h100-pcie-80g", "756", "51.2", "high"),
    Row("nvidia-h100-nvl-94g", "835", "60", "medium"),
    Row("nvidia-h800-sxm5-80g", "989", "1", "medium"),
    Row("nvidia-h800-pcie-80g", "756", "0.8", "medium"),
    Row("nvidia-h20-96g", "148", "1", "high"),
    Row("nvidia-h200-sxm-141g", "989.4", "66.9", "high"),
    Row("nvidia-h200-nvl-141g", "835", "60", "medium"),
    Row("nvidia-gh200", "989", "67", "high"),
    Row("nvidia-b200-sxm", "2250", "37", "medium"),
    Row("nvidia-b300-sxm", "2250", "1.2", "high"),
    Row("nvidia-gb200", "2500", "40", "high"),
    Row("nvidia-gb300", "2500", "1.3", "high"),
    Row("nvidia-l40s-48g", "362", "1.4", "high"),
    Row("nvidia-l40-48g", "181", None, "medium"),
    Row("nvidia-l20-48g", "119.5", "0.93", "medium"),
    Row("nvidia-l4-24g", "121", None, "medium"),
    Row("nvidia-a10-24g", "125", None, "medium"),
    Row("nvidia-a30-24g", "165", "10.3", "medium"),
    Row("nvidia-a40-48g", "150", None, "medium"),
    Row("nvidia-t4-16g", "65", None, "medium"),
    Row("nvidia-rtx4090-24g", "165.2", "1.29", "high"),
    Row("nvidia-rtx4090d-24g", "147", "1.15", "medium"),
    Row("nvidia-rtx5090-32g", "209.5", "1.64", "high"),
    Row("nvidia-rtx5090d", None, None, "none"),
    Row("nvidia-rtx6000d", None, None, "none"),
    Row("amd-mi210-64g", "181", "45.3", "medium"),
    Row("amd-mi250-128g", "362.1", "90.5", "high"),
    Row("amd-mi250x-128g", "383", "95.7", "high"),
    Row("amd-mi300x-192g", "1307.4", "163.4", "high"),
    Row("amd-mi308x", None, None, "none"),
    Row("amd-mi325x-256g", "1307.4", "163.4", "high"),
    Row("amd-mi350x-288g", "2306.9", "72.1", "medium"),
    Row("amd-mi355x-288g", "2516.6", "78.6", "high"),
    Row("huawei-ascend-910a", "256", None, "medium"),
    Row("huawei-ascend-910b1", "400", None, "low"),
    Row("huawei-ascend-910b2", "376", None, "medium"),
    Row("huawei-ascend-910b2c", None, None, "none"),
    Row("huawei-ascend-910b3", "313", None, "medium"),
    Row("huawei-ascend-910b4", "280", None, "medium"),
    Row("huawei-ascend-910c", "752", None, "medium"),
    Row("huawei-ascend-910c-20core", None, None, "none"),
    Row("huawei-ascend-950dt", "486", None, "medium"),
    Row("huawei-ascend-950pr", None, None, "none"),
    Row("huawei-ascend-310p-300ipro", "70", None, "medium"),
    Row("huawei-atlas-300i-duo", "140", None, "medium"),
    Row("cambricon-mlu290-m5", None, None, "none"),
    Row("cambricon-mlu370-x8", "96", None, "high"),
    Row("cambricon-mlu370-x4", "96", None, "medium"),
    Row("cambricon-mlu370-s4", "72", None, "medium"),
    Row("cambricon-mlu580", None, None, "none"),
    Row("cambricon-mlu585", None, None, "none"),
    Row("cambricon-mlu590", None, None, "none"),
    Row("cambricon-mlu690", None, None, "none"),
    Row("hygon-dcu-z100", None, "10", "low"),
    Row("hygon-dcu-z100l", "24.5", "10", "low"),
    Row("hygon-dcu-k100", "100", "24.5", "medium"),
    Row("hygon-dcu-k100-ai", "196", "24.5", "medium"),
    Row("hygon-dcu-bw200", "480", "30", "medium"),
    Row("mthreads-mtt-s4000", "100", None, "high"),
    Row("mthreads-mtt-s5000", None, None, "none"),
    Row("biren-br100", None, None, "medium"),  # rated in BF16
    Row("biren-br104", None, None, "medium"),
    Row("biren-br106", None, None, "none"),
    Row("biren-br166", None, None, "none"),
    Row("iluvatar-bi-v100", "147", None, "high"),
    Row("iluvatar-bi-v150", "192", None, "medium"),
    Row("iluvatar-bi-v150s", None, None, "none"),
    Row("iluvatar-mr-v100", None, None, "none"),
    Row("enflame-t20", "128", None, "low"),
    Row("enflame-s60", None, None, "none"),
    Row("enflame-l600", None, None, "none"),
    Row("t-head-ppu-zw810e", None, None, "none"),
    Row("kunlunxin-r200", "128", None, "low"),
    Row("kunlunxin-p800", "345", None, "low"),
    Row("metax-c500-pcie", "240", None, "medium"),
    Row("metax-c550-oam", "280", None, "high"),
    Row("metax-c588", None, None, "none"),
    Row("metax-c600", None, None, "none"),
    Row("metax-n260", None, None, "none"),
    Row("intel-gaudi2", None, None, "high"),  # rated in BF16
    Row("intel-gaudi3", "459", None, "medium"),
    Row("petaseal-fake-1", "460.06272", "57.50784", "high"),
    Row("petaseal-fake-1700", "1700", None, "high"),
)
# What the silicon does at the highest clock of any board, TFLOPS: the rows that have such a ceiling, and no others.
CEILINGS = {
    ("nvidia-v100-sxm2-32g", "fp16"): 125,
    ("nvidia-v100-sxm2-32g", "fp64"): 7,
    ("nvidia-v100-pcie", "fp16"): 113,
    ("nvidia-v100-pcie", "fp64"): 7,
    ("nvidia-a100-sxm4-80g", "fp16"): 311,
    ("nvidia-a100-sxm4-80g", "fp64"): 19,
    ("nvidia-a100-pcie", "fp16"): 311,
    ("nvidia-a100-pcie", "fp64"): 19,
    ("nvidia-a800-sxm4-80g", "fp16"): 311,
    ("nvidia-a800-sxm4-80g", "fp64"): 19,
    ("nvidia-a800-pcie-80g", "fp16"): 311,
    ("nvidia-a800-pcie-80g", "fp64"): 19,
    ("nvidia-h100-sxm5-80g", "fp16"): 1070,
    ("nvidia-h100-sxm5-80g", "fp64"): 66,
    ("nvidia-h100-pcie-80g", "fp16"): 819,
    ("nvidia-h100-pcie-80g", "fp64"): 51,
    ("nvidia-h100-nvl-94g", "fp16"): 965,
    ("nvidia-h100-nvl-94g", "fp64"): 60,
    ("nvidia-h800-sxm5-80g", "fp16"): 1070,
    ("nvidia-h800-pcie-80g", "fp16"): 819,
    ("nvidia-h200-sxm-141g", "fp16"): 1070,
    ("nvidia-h200-sxm-141g", "fp64"): 66,
    ("nvidia-h200-nvl-141g", "fp16"): 965,
    ("nvidia-h200-nvl-141g", "fp64"): 60,
    ("nvidia-gh200", "fp16"): 1070,
    ("nvidia-gh200", "fp64"): 66,
    ("nvidia-b200-sxm", "fp16"): 2382,
    ("nvidia-b200-sxm", "fp64"): 37,
    ("nvidia-rtx4090-24g", "fp16"): 205,
    ("nvidia-rtx4090-24g", "fp64"): 1,
    ("nvidia-rtx5090-32g", "fp16"): 275,
    ("nvidia-rtx5090-32g", "fp64"): 2,
    ("amd-mi210-64g", "fp16"): 181,
    ("amd-mi210-64g", "fp64"): 45,
    ("amd-mi250x-128g", "fp16"): 382,
    ("amd-mi250x-128g", "fp64"): 95,
    ("amd-mi300x-192g", "fp16"): 1307,
    ("amd-mi300x-192g", "fp64"): 163,
    ("petaseal-fake-1", "fp16"): 471,
    ("petaseal-fake-1", "fp64"): 58,
    ("petaseal-fake-1700", "fp16"): 1782,
}
UNCERTAIN = {  # in FP16
    "nvidia-l20-48g",
    "nvidia-b300-sxm",
    "nvidia-gb200",
    "nvidia-gb300",
    "amd-mi350x-288g",
    "amd-mi355x-288g",
    "huawei-ascend-910a",
    "huawei-ascend-910b1",
    "huawei-ascend-910b2",
    "huawei-ascend-910b3",
    "huawei-ascend-910b4",
    "huawei-ascend-910c",
    "huawei-ascend-310p-300ipro",
    "huawei-atlas-300i-duo",
}
NO_HIGHEST_CLOCK = {  # known but for the clock that a board may reach
    "nvidia-v100s-pcie-32g",
    "nvidia-l40s-48g",
    "nvidia-l40-48g",
    "nvidia-l4-24g",
    "nvidia-a10-24g",
    "nvidia-a30-24g",
    "nvidia-a40-48g",
    "nvidia-t4-16g",
    "nvidia-rtx4090d-24g",
    "amd-mi250-128g",
    "amd-mi325x-256g",
}
# The best public measurements of a whole unit, GFLOPS in FP16 (or BF16, where that is rated alike) and FP64.
BEST_KNOWN = {
    "nvidia-v100s-pcie-32g": (88_900, None),
    "nvidia-a100-sxm4-80g": (298_300, 19_370),
    "nvidia-a100-pcie": (256_400, None),
    "nvidia-a800-sxm4-80g": (298_300, 19_370),
    "nvidia-h100-sxm5-80g": (794_500, None),
    "nvidia-h100-pcie-80g": (627_400, None),
    "nvidia-h800-sxm5-80g": (794_500, None),
    "nvidia-h200-sxm-141g": (794_500, None),
    "nvidia-h200-nvl-141g": (None, 58_980),
    "nvidia-gh200": (828_600, None),
    "nvidia-b200-sxm": (1_745_000, None),
    "nvidia-b300-sxm": (1_769_000, None),
    "nvidia-gb200": (1_822_000, None),
    "nvidia-l20-48g": (115_000, None),
    "nvidia-rtx4090-24g": (178_500, None),
    "nvidia-rtx5090-32g": (254_200, 1_770),
    "amd-mi250x-128g": (294_000, None),
    "amd-mi300x-192g": (781_900, None),
    "amd-mi325x-256g": (784_900, None),
    "amd-mi355x-288g": (1_565_000, None),
    "huawei-ascend-910b2": (328_000, None),
    "huawei-ascend-910b3": (313_200, None),
    "hygon-dcu-bw200": (456_400, 27_500),
    "hygon-dcu-k100": (32_900, 14_900),
    "metax-c500-pcie": (218_000, None),
    "metax-c550-oam": (254_500, None),
    "iluvatar-bi-v150": (196_500, None),
}
BEST_KNOWN_BF16 = {"intel-gaudi2": 418_700, "intel-gaudi3": 1_243_000}
# Announced in that year; a row that is not here has none, because it was not certain.
YEARS = {
    "nvidia-v100-sxm2-32g": 2017,
    "nvidia-v100-pcie": 2017,
    "nvidia-t4-16g": 2018,
    "nvidia-a100-sxm4-80g": 2020,
    "nvidia-a100-pcie": 2020,
    "nvidia-a40-48g": 2020,
    "nvidia-a10-24g": 2021,
    "nvidia-a30-24g": 2021,
    "nvidia-a800-sxm4-80g": 2022,
    "nvidia-a800-pcie-80g": 2022,
    "nvidia-h100-sxm5-80g": 2022,
    "nvidia-h100-pcie-80g": 2022,
    "nvidia-l40-48g": 2022,
    "nvidia-rtx4090-24g": 2022,
    "nvidia-h100-nvl-94g": 2023,
    "nvidia-h200-sxm-141g": 2023,
    "nvidia-l4-24g": 2023,
    "nvidia-l40s-48g": 2023,
    "nvidia-rtx4090d-24g": 2023,
    "nvidia-b200-sxm": 2024,
    "nvidia-gb200": 2024,
    "nvidia-h200-nvl-141g": 2024,
    "nvidia-b300-sxm": 2025,
    "nvidia-gb300": 2025,
    "nvidia-rtx5090-32g": 2025,
    "amd-mi250-128g": 2021,
    "amd-mi250x-128g": 2021,
    "amd-mi300x-192g": 2023,
    "amd-mi325x-256g": 2024,
    "huawei-ascend-910a": 2019,
    "huawei-ascend-950dt": 2025,
    "huawei-ascend-950pr": 2025,
    "iluvatar-bi-v100": 2021,
    "intel-gaudi2": 2022,
    "biren-br100": 2022,
    "biren-br104": 2022,
    "mthreads-mtt-s4000": 2023,
}
UNITS = {unit.accelerator: unit for unit in installed_ratings().units}


def ceiling_mflop_s(unit: Rating, precision: str) -> int | None:
    """Return what the certain silicon of a row does at its highest clock."""
    rate = unit.rates.get(precision)  # type: ignore[call-overload]
    if rate is None or not unit.silicon_is_certain(precision):  # type: ignore[arg-type]
        return None
    assert unit.units
    assert unit.highest_clock_mhz
    return int(unit.units * rate.flop_per_clock_per_unit * unit.highest_clock_mhz)


def test_every_row_is_written_out() -> None:
    assert {row.accelerator for row in ROWS} == UNITS.keys()
    assert len(ROWS) == len(UNITS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.accelerator)
def test_a_row_says_what_its_vendor_says(row: Row) -> None:
    unit = UNITS[row.accelerator]
    assert unit.confidence == row.confidence
    for precision, tflops in (("fp16", row.fp16), ("fp64", row.fp64)):
        nominal = unit.nominal_mflop_s(precision)  # type: ignore[arg-type]
        assert nominal == (None if tflops is None else round(float(tflops) * TFLOPS))


def test_the_ceilings_are_those_of_certain_silicon() -> None:
    found = {
        (name, precision): ceiling // TFLOPS
        for name, unit in UNITS.items()
        for precision in ("fp16", "fp64")
        if (ceiling := ceiling_mflop_s(unit, precision)) is not None
    }
    assert found == CEILINGS


def test_what_keeps_the_other_silicon_from_being_a_ceiling() -> None:
    fp16 = {name: unit.rates["fp16"] for name, unit in UNITS.items() if "fp16" in unit.rates}
    assert {name for name, rate in fp16.items() if rate.silicon_confidence == "uncertain"} == UNCERTAIN
    high = {name for name, rate in fp16.items() if rate.silicon_confidence == "high"}
    assert {name for name in high if UNITS[name].highest_clock_mhz is None} == NO_HIGHEST_CLOCK


def test_cut_parts_have_no_silicon_of_their_family() -> None:
    h20 = UNITS["nvidia-h20-96g"]
    assert h20.units == 78
    assert {h20.flop_per_clock_per_unit(precision) for precision in h20.rates} == {None}
    for name in ("nvidia-h800-sxm5-80g", "nvidia-h800-pcie-80g", "nvidia-b300-sxm", "nvidia-gb300"):
        assert UNITS[name].flop_per_clock_per_unit("fp64") is None


def test_the_best_public_measurements() -> None:
    found = {name: (unit.best_known_mflop_s("fp16"), unit.best_known_mflop_s("fp64")) for name, unit in UNITS.items()}
    assert {name: known for name, known in found.items() if known != (None, None)} == {
        name: tuple(None if gflops is None else gflops * 1000 for gflops in known) for name, known in BEST_KNOWN.items()
    }
    only_bf16 = {name: best for name, unit in UNITS.items() if (best := unit.best_known_mflop_s("bf16")) is not None}
    for name, gflops in BEST_KNOWN_BF16.items():
        assert only_bf16[name] == gflops * 1000
    alike = {name for name in BEST_KNOWN if found[name][0] is not None and "bf16" in UNITS[name].rates}
    assert only_bf16.keys() == alike | BEST_KNOWN_BF16.keys()


def test_no_public_measurement_is_above_what_its_row_allows() -> None:
    """A best known figure is honest: it stays below the silicon, and within 1.05 x a rating without such."""
    for name, unit in UNITS.items():
        for precision in unit.rates:
            best, nominal = unit.best_known_mflop_s(precision), unit.nominal_mflop_s(precision)
            if best is not None:
                ceiling = ceiling_mflop_s(unit, precision)
                assert nominal is not None
                assert best <= (nominal * 105 // 100 if ceiling is None else ceiling), name


def test_the_years_of_announcement() -> None:
    assert {name: unit.year for name, unit in UNITS.items() if unit.year is not None} == YEARS


@pytest.mark.parametrize(
    ("vendor", "name", "dies"),
    [
        ("AMD", "AMD Instinct MI250X", 2),
        ("AMD", "AMD Instinct MI250", 2),
        ("Huawei", "Ascend910_9392", 2),
        ("Huawei", "Ascend910_9372", 2),
        ("Huawei", "Ascend310P3", 2),
        ("Cambricon", "MLU370-X8", 2),
        ("Iluvatar CoreX", "Iluvatar BI-V150", 2),
        ("Iluvatar CoreX", "Iluvatar BI-V150S", 2),
        ("NVIDIA", "NVIDIA H200", None),
        ("NVIDIA", "NVIDIA B200", None),  # two dies, one device
        ("AMD", "AMD Instinct MI300X", None),  # its partitions are slices
        ("Huawei", "Ascend910B3", None),
    ],
)
def test_dies_count_where_the_driver_lists_them(vendor: str, name: str, dies: int | None) -> None:
    rating = installed_ratings().match(vendor, name, None, "die")
    assert rating is not None
    assert rating.part == ("unit" if dies is None else "die")
    assert dies is None or rating.dies_per_unit == dies


def test_the_simulated_rows() -> None:
    fake = UNITS["petaseal-fake-1"]
    assert [name for name, unit in UNITS.items() if unit.simulated] == ["petaseal-fake-1", "petaseal-fake-1700"]
    assert (fake.units, fake.highest_clock_mhz, fake.tdp_mw, fake.dies_per_unit) == (128, 1_800, 700_000, 1)
    assert fake.fits_memory(80 * GIB)
