"""An honest figure counts: one node of every model that has a figure in its class's precision, with real telemetry.

What is expected is written by hand, from vendors' data sheets and public measurements and not from the ratings table:
the step, the limit that binds, and how high it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest
from msgspec.structs import replace

from bench.profile import load_profile
from bench.record import NodeRecord, PoolClass, Precision, columns, config_names
from certify.documents.statement import CapacityStatement
from certify.keys.signers import load_scheme
from certify.policy.policies import load_policy
from certify.policy.rating import Rating
from certify.policy.ratings import installed_ratings
from tests.certify.judged import basis_of, centre_of, statement_of
from tests.certify.kinds import at_rates, kind_of
from tests.certify.measured import of_node, simulated, test_campaign
from tests.certify.policy.test_2000p import EMPTY

TFLOPS = 10**6  # MFLOP/s
CLASSES: dict[Precision, PoolClass] = {"fp16": "intelligent", "fp64": "supercomputing"}
PROFILE = load_profile("certification")


class Row(NamedTuple):
    """One model in the precision of one class; TFLOPS of a whole unit."""

    accelerator: str
    name: str  # as its driver reports it
    step: str
    limit: str  # the lowest
    limit_tflops: float
    honest_tflops: float  # a public measurement, or a part of the rating that GEMMs reach
    dies: int = 1  # devices of one unit
    memory_gb: int | None = None  # where several rows share the name


FP16 = (
    # silicon: SMs or CUs x FLOP/clock x the highest clock; the best public measurement x 1.15 where that is lower
    Row("nvidia-v100-sxm2-32g", "Tesla V100-SXM2-32GB", "silicon", "silicon", 125.34, 112),
    Row("nvidia-v100-pcie", "Tesla V100-PCIE-32GB", "silicon", "silicon", 113.05, 100),
    Row("nvidia-a100-sxm4-80g", "NVIDIA A100-SXM4-80GB", "silicon", "silicon", 311.87, 298.3),
    Row("nvidia-a100-pcie", "NVIDIA A100 80GB PCIe", "silicon", "best-known", 294.86, 256.4),
    Row("nvidia-a800-sxm4-80g", "NVIDIA A800-SXM4-80GB", "silicon", "silicon", 311.87, 286),
    Row("nvidia-a800-pcie-80g", "NVIDIA A800 80GB PCIe", "silicon", "silicon", 311.87, 256.4),
    Row("nvidia-h100-sxm5-80g", "NVIDIA H100 80GB HBM3", "silicon", "best-known", 913.68, 794.5),
    Row("nvidia-h100-pcie-80g", "NVIDIA H100 PCIe", "silicon", "best-known", 721.51, 627),
    Row("nvidia-h100-nvl-94g", "NVIDIA H100 NVL", "silicon", "silicon", 965.10, 750),
    Row("nvidia-h800-sxm5-80g", "NVIDIA H800", "silicon", "best-known", 913.68, 788),
    Row("nvidia-h800-pcie-80g", "NVIDIA H800 PCIe", "silicon", "silicon", 819.49, 627),
    Row("nvidia-h200-sxm-141g", "NVIDIA H200", "silicon", "best-known", 913.68, 794.5),
    Row("nvidia-h200-nvl-141g", "NVIDIA H200 NVL", "silicon", "silicon", 965.10, 835),
    Row("nvidia-gh200", "NVIDIA GH200 480GB", "silicon", "best-known", 952.89, 828.6),
    Row("nvidia-b200-sxm", "NVIDIA B200", "silicon", "best-known", 2006.75, 1745),
    Row("nvidia-rtx4090-24g", "NVIDIA GeForce RTX 4090", "silicon", "best-known", 205.28, 178.5),
    Row("nvidia-rtx5090-32g", "NVIDIA GeForce RTX 5090", "silicon", "silicon", 275.48, 254.2),
    Row("amd-mi210-64g", "AMD Instinct MI210", "silicon", "silicon", 181.04, 150),
    Row("amd-mi250x-128g", "AMD Instinct MI250X", "silicon", "best-known", 338.1, 294, dies=2),
    Row("amd-mi300x-192g", "AMD Instinct MI300X", "silicon", "best-known", 899.19, 781.9),
    # rating x 1.05: no certain silicon, or no source for the highest clock of a board
    Row("nvidia-v100s-pcie-32g", "Tesla V100S-PCIE-32GB", "rating", "best-known", 102.24, 88.9),
    Row("nvidia-h20-96g", "NVIDIA H20", "rating", "rating", 155.4, 140),
    Row("nvidia-b300-sxm", "NVIDIA B300 SXM6 AC", "rating", "best-known", 2034.35, 1769),
    Row("nvidia-gb200", "NVIDIA GB200", "rating", "best-known", 2095.3, 1822),
    Row("nvidia-gb300", "NVIDIA GB300", "rating", "rating", 2625, 1822),
    Row("nvidia-l40s-48g", "NVIDIA L40S", "rating", "rating", 380.1, 330),
    Row("nvidia-l40-48g", "NVIDIA L40", "rating", "rating", 190.05, 160),
    Row("nvidia-l20-48g", "NVIDIA L20", "rating", "rating", 125.48, 115),
    Row("nvidia-l4-24g", "NVIDIA L4", "rating", "rating", 127.05, 80),
    Row("nvidia-a10-24g", "NVIDIA A10", "rating", "rating", 131.25, 100),
    Row("nvidia-a30-24g", "NVIDIA A30", "rating", "rating", 173.25, 150),
    Row("nvidia-a40-48g", "NVIDIA A40", "rating", "rating", 157.5, 130),
    Row("nvidia-t4-16g", "Tesla T4", "rating", "rating", 68.25, 40),
    Row("nvidia-rtx4090d-24g", "NVIDIA GeForce RTX 4090 D", "rating", "rating", 154.35, 145),
    Row("amd-mi250-128g", "AMD Instinct MI250", "rating", "rating", 380.2, 280, dies=2),
    Row("amd-mi325x-256g", "AMD Instinct MI325X", "rating", "best-known", 902.64, 784.9),
    Row("amd-mi350x-288g", "AMD Instinct MI350X", "rating", "rating", 2422.25, 1500),
    Row("amd-mi355x-288g", "AMD Instinct MI355X", "rating", "best-known", 1799.75, 1565),
    Row("huawei-ascend-910a", "Ascend910A", "rating", "rating", 268.8, 230),
    Row("huawei-ascend-910b2", "Ascend910B2", "rating", "best-known", 377.2, 328),
    Row("huawei-ascend-910b3", "Ascend910B3", "rating", "rating", 328.65, 313.2),
    Row("huawei-ascend-910b4", "Ascend910B4", "rating", "rating", 294, 250),
    Row("huawei-ascend-910c", "Ascend910_9391", "rating", "rating", 789.6, 680, dies=2),
    Row("huawei-ascend-950dt", "Ascend950DT", "rating", "rating", 510.3, 430),
    Row("huawei-ascend-310p-300ipro", "Ascend310P3", "rating", "rating", 73.5, 60, memory_gb=24),
    Row("huawei-atlas-300i-duo", "Ascend310P3", "rating", "rating", 147, 120, dies=2, memory_gb=48),
    Row("cambricon-mlu370-x8", "MLU370-X8", "rating", "rating", 100.8, 85, dies=2),
    Row("cambricon-mlu370-x4", "MLU370-X4", "rating", "rating", 100.8, 85),
    Row("cambricon-mlu370-s4", "MLU370-S4", "rating", "rating", 75.6, 60, memory_gb=24),
    Row("hygon-dcu-k100", "K100", "rating", "best-known", 60, 32.9),
    Row("hygon-dcu-k100-ai", "K100_AI", "rating", "rating", 205.8, 170),
    Row("hygon-dcu-bw200", "BW200", "rating", "rating", 504, 456.4),
    Row("mthreads-mtt-s4000", "MTT S4000", "rating", "rating", 105, 90),
    Row("metax-c500-pcie", "MetaX C500", "rating", "best-known", 250.7, 218),
    Row("metax-c550-oam", "MetaX C550", "rating", "best-known", 292.68, 254.5),
    Row("iluvatar-bi-v100", "Iluvatar BI-V100", "rating", "rating", 154.35, 130),
    Row("iluvatar-bi-v150", "Iluvatar BI-V150", "rating", "rating", 201.6, 196.5, dies=2),
    Row("intel-gaudi3", "HL-325L", "rating", "rating", 481.95, 400),
)
FP64 = (
    Row("nvidia-v100-sxm2-32g", "Tesla V100-SXM2-32GB", "silicon", "silicon", 7.83, 7),
    Row("nvidia-v100-pcie", "Tesla V100-PCIE-32GB", "silicon", "silicon", 7.07, 6.4),
    Row("nvidia-a100-sxm4-80g", "NVIDIA A100-SXM4-80GB", "silicon", "silicon", 19.49, 19.37),
    Row("nvidia-a100-pcie", "NVIDIA A100 80GB PCIe", "silicon", "silicon", 19.49, 17.8),
    Row("nvidia-a800-sxm4-80g", "NVIDIA A800-SXM4-80GB", "silicon", "silicon", 19.49, 19.37),
    Row("nvidia-a800-pcie-80g", "NVIDIA A800 80GB PCIe", "silicon", "silicon", 19.49, 17.8),
    Row("nvidia-h100-sxm5-80g", "NVIDIA H100 80GB HBM3", "silicon", "silicon", 66.91, 62),
    Row("nvidia-h100-pcie-80g", "NVIDIA H100 PCIe", "silicon", "silicon", 51.22, 47),
    Row("nvidia-h100-nvl-94g", "NVIDIA H100 NVL", "silicon", "silicon", 60.32, 56),
    Row("nvidia-h200-sxm-141g", "NVIDIA H200", "silicon", "silicon", 66.91, 63),
    Row("nvidia-h200-nvl-141g", "NVIDIA H200 NVL", "silicon", "silicon", 60.32, 58.98),
    Row("nvidia-gh200", "NVIDIA GH200 480GB", "silicon", "silicon", 66.91, 63),
    Row("nvidia-b200-sxm", "NVIDIA B200", "silicon", "silicon", 37.22, 34),
    Row("nvidia-rtx4090-24g", "NVIDIA GeForce RTX 4090", "silicon", "silicon", 1.605, 1.3),
    Row("nvidia-rtx5090-32g", "NVIDIA GeForce RTX 5090", "silicon", "best-known", 2.036, 1.77),
    Row("amd-mi210-64g", "AMD Instinct MI210", "silicon", "silicon", 45.26, 38),
    Row("amd-mi250x-128g", "AMD Instinct MI250X", "silicon", "silicon", 95.74, 80, dies=2),
    Row("amd-mi300x-192g", "AMD Instinct MI300X", "silicon", "silicon", 163.43, 120),
    Row("nvidia-v100s-pcie-32g", "Tesla V100S-PCIE-32GB", "rating", "rating", 8.61, 7.5),
    Row("nvidia-h800-sxm5-80g", "NVIDIA H800", "rating", "rating", 1.05, 0.95),
    Row("nvidia-h800-pcie-80g", "NVIDIA H800 PCIe", "rating", "rating", 0.84, 0.78),
    Row("nvidia-h20-96g", "NVIDIA H20", "rating", "rating", 1.05, 0.95),
    Row("nvidia-b300-sxm", "NVIDIA B300 SXM6 AC", "rating", "rating", 1.26, 1.15),
    Row("nvidia-gb200", "NVIDIA GB200", "rating", "rating", 42, 38),
    Row("nvidia-gb300", "NVIDIA GB300", "rating", "rating", 1.365, 1.25),
    Row("nvidia-l40s-48g", "NVIDIA L40S", "rating", "rating", 1.47, 1.4),
    Row("nvidia-l20-48g", "NVIDIA L20", "rating", "rating", 0.977, 0.9),
    Row("nvidia-a30-24g", "NVIDIA A30", "rating", "rating", 10.82, 9.5),
    Row("nvidia-rtx4090d-24g", "NVIDIA GeForce RTX 4090 D", "rating", "rating", 1.208, 1.15),
    Row("amd-mi250-128g", "AMD Instinct MI250", "rating", "rating", 95.03, 75, dies=2),
    Row("amd-mi325x-256g", "AMD Instinct MI325X", "rating", "rating", 171.57, 120),
    Row("amd-mi350x-288g", "AMD Instinct MI350X", "rating", "rating", 75.71, 65),
    Row("amd-mi355x-288g", "AMD Instinct MI355X", "rating", "rating", 82.53, 70),
    Row("hygon-dcu-k100", "K100", "rating", "best-known", 17.14, 14.9),
    Row("hygon-dcu-k100-ai", "K100_AI", "rating", "rating", 25.73, 15),
    Row("hygon-dcu-bw200", "BW200", "rating", "rating", 31.5, 27.5),
)
ROWS: dict[Precision, tuple[Row, ...]] = {"fp16": FP16, "fp64": FP64}
CASES = [(precision, row) for precision, rows in ROWS.items() for row in rows]
# What people published of these models, TFLOPS of a whole unit: none of it may be held.
PUBLISHED: dict[Precision, dict[str, tuple[float, ...]]] = {
    "fp16": {
        "nvidia-a100-sxm4-80g": (298.3, 251.5),
        "nvidia-a800-sxm4-80g": (286, 298.3),
        "nvidia-h100-sxm5-80g": (794.5, 788),
        "nvidia-h200-sxm-141g": (794.5, 788),
        "nvidia-h200-nvl-141g": (835,),
        "nvidia-h100-pcie-80g": (627,),
        "nvidia-b200-sxm": (1745,),
        "amd-mi300x-192g": (781.9, 668.4),
        "amd-mi325x-256g": (784.9,),
        "amd-mi355x-288g": (1565,),
        "amd-mi250x-128g": (294,),
        "huawei-ascend-910b2": (322.5, 328),
        "huawei-ascend-910b3": (313.2,),
        "hygon-dcu-bw200": (456.4, 301.8),
        "hygon-dcu-k100": (32.9, 60),
        "iluvatar-bi-v150": (196.5,),
        "nvidia-rtx4090-24g": (178.5,),
        "nvidia-rtx5090-32g": (254.2,),
    },
    "fp64": {
        "nvidia-a100-sxm4-80g": (19.37,),
        "nvidia-a800-sxm4-80g": (19.37,),
        "hygon-dcu-bw200": (27.5,),
        "hygon-dcu-k100": (14.9,),
        "nvidia-rtx5090-32g": (1.77,),
        "nvidia-h200-nvl-141g": (58.98,),
    },
}
UNITS = {unit.accelerator: unit for unit in installed_ratings().units}


def matched(row: Row) -> Rating:
    """Return what the ratings table has of a device with this name."""
    unit = UNITS[row.accelerator]
    size = None if row.memory_gb is None else row.memory_gb * 10**9
    found = installed_ratings().match(unit.vendor, row.name, size, "die" if row.dies > 1 else unit.count_unit)
    assert found is not None
    assert (found.accelerator, found.part) == (row.accelerator, "die" if row.dies > 1 else "unit")
    return found if size is None else replace(found, memory_sizes_bytes=(size,))


def record_of(row: Row, precision: Precision, tflops: float) -> NodeRecord:
    """Return the record of a node with one unit of a model, which gave so much."""
    base = simulated(row.dies, PROFILE.profile, (precision,)).record
    rate = round(tflops * TFLOPS / row.dies)
    return kind_of(matched(row), row.name).dress(at_rates(base, {precision: rate}, PROFILE))


def stated(record: NodeRecord, precision: Precision, policy: str) -> CapacityStatement:
    """Return a centre's statement over one record under one installed policy."""
    centre = centre_of(pools=[{"pool": "main", "class": CLASSES[precision], "nodes": "all", "devices": "all"}])
    campaign = test_campaign(PROFILE, (precision,), 1)
    return statement_of([record], basis_of(campaign, PROFILE, centre, (load_policy(policy),)))


def assert_counts(row: Row, precision: Precision, tflops: float, policy: str) -> CapacityStatement:
    """Check that a unit of a model that gave so much counts, at the highest grade."""
    record = record_of(row, precision, tflops)
    found = stated(record, precision, policy)
    (line,) = found.classes
    m = next(m for m in record.measurements if m.choice == "fixed")
    assert found.not_counted == ()
    assert (line.counted.devices, line.untested.devices) == (row.dies, 0)
    assert line.counted.certified_mflop_s == sum(m.certified_mflop_s) > 0
    assert line.counted.sustained_mflop_s == pytest.approx(tflops * TFLOPS, rel=1e-6)
    assert line.counted.on_accepted_hold_mflop_s == 0
    assert (found.grade, found.simulated) == ("certification", False)
    assert {f.effect for f in found.findings} <= {"note"}
    return found


def test_the_hand_written_rows_are_those_of_the_table() -> None:
    for precision, rows in ROWS.items():
        rated = {
            unit.accelerator
            for unit in UNITS.values()
            if unit.kind == "accelerator"
            and not unit.simulated
            and unit.confidence in ("high", "medium")
            and unit.nominal_mflop_s(precision) is not None
        }
        named = [row.accelerator for row in rows]
        assert set(named) == rated
        assert len(set(named)) == len(named)
        assert PUBLISHED[precision].keys() <= rated


@pytest.mark.parametrize("policy", config_names("policies"))
@pytest.mark.parametrize(("precision", "row"), CASES, ids=lambda value: getattr(value, "accelerator", value))
def test_one_node_of_every_model_counts_at_certification(precision: Precision, row: Row, policy: str) -> None:
    found = assert_counts(row, precision, row.honest_tflops, policy)
    (line,) = [line for line in found.ceilings if line.choice == "fixed"]
    assert (line.step, line.limit, line.counted) == (row.step, row.limit, row.dies)
    assert line.least_mflop_s == pytest.approx(row.limit_tflops * TFLOPS / row.dies, rel=2e-3)
    assert [(step.step, step.devices) for step in found.classes[0].steps] == [(row.step, row.dies)]


PUBLIC = [
    pytest.param(precision, row, tflops, id=f"{row.accelerator}-{precision}-{tflops}")
    for precision, row in CASES
    for tflops in PUBLISHED[precision].get(row.accelerator, ())
]


@pytest.mark.parametrize(("precision", "row", "tflops"), PUBLIC)
def test_no_published_measurement_is_held(precision: Precision, row: Row, tflops: float) -> None:
    assert_counts(row, precision, tflops, "guangzhou-2000p")


@pytest.mark.long
def test_6390_cards_of_910b3_reach_2000p_in_nominal_and_in_nothing_else() -> None:
    """Measured and recorded node by node, under declared park and facility and an empty baseline."""
    nodes = 799  # of 8 cards, the last of 6
    (row,) = (row for row in FP16 if row.accelerator == "huawei-ascend-910b3")
    campaign = test_campaign(PROFILE, ("fp16",), nodes)
    base = simulated(8, PROFILE.profile, ("fp16",)).record
    kind, key = kind_of(matched(row), row.name), load_scheme("ed25519").generate()
    frame = at_rates(base, {"fp16": 297 * TFLOPS}, PROFILE)  # 95 % of the rating
    centre = centre_of(baseline="baseline.dsse.json", baseline_date="2025-12-31")
    basis = basis_of(campaign, PROFILE, centre, (load_policy("guangzhou-2000p"),), EMPTY)

    def records() -> Iterator[NodeRecord]:
        for index in range(nodes):
            record = kind.dress(of_node(frame, index, campaign, key))
            yield record if index < nodes - 1 else first_of(record, 6)

    found = statement_of(records(), basis)
    (line,) = found.classes
    assert (line.counted.devices, line.untested.devices, found.not_counted) == (6_390, 0, ())
    assert [(one.step, one.devices) for one in line.steps] == [("rating", 6_390)]
    verdicts = {verdict.condition: verdict for verdict in found.verdicts}
    for condition in ("park", "newly-added", "single-facility"):
        assert verdicts[condition].verdict == "declared"
    scale = verdicts["scale-2000p"]
    assert (scale.verdict, scale.reason) == ("insufficient_evidence", "basis-unstated")
    assert {one.basis: (one.verdict, one.reason) for one in scale.bases} == {
        "nominal": ("met", None),
        "sustained": ("not_met", None),
        "certified": ("not_met", None),
    }


def first_of(record: NodeRecord, devices: int) -> NodeRecord:
    """Return the record of a node that has only so many of the devices."""
    return replace(
        record,
        devices=record.devices[:devices],
        measurements=tuple(replace(m, **columns(list(m.figures())[:devices])) for m in record.measurements),
    )
