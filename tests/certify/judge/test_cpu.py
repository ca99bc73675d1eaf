"""L7: the most that processors can do, at its edges and beside what this machine's do."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from bench.devices import select_devices
from bench.engine.node import NodeRequest, measure_node
from bench.profile import load_profile
from bench.record import Precision, Shape
from bench.record.node import Method
from bench.units import gemm_mflop
from certify.judge.ceilings import FP64_FLOP_PER_CLOCK, MOST_CORES, most_mflop_s

MHZ = 2_000
TINY = replace(
    load_profile("smoke"),
    warmup_ns=300_000_000,
    window_ns=900_000_000,
    guard_ns=100_000_000,
    launches_per_subwindow=4,
    telemetry_interval_ns=50_000_000,
    shapes={p: (Shape(m=64, n=64, k=64),) for p in ("fp16", "fp32", "fp64")},
)


@pytest.mark.parametrize(
    ("instruction_set", "flop"),
    [
        *[(narrow, 16) for narrow in ("sse2", "avx", "avx2", "neon", "sve128", "sve256", "lsx", "lasx")],
        *[(wide, 32) for wide in ("avx512", "sve512")],
        *[(widest, 128) for widest in ("amx", "sme", "sve2048", "new", None)],
    ],
)
def test_flop_of_one_core_in_one_clock(instruction_set: str | None, flop: int) -> None:
    def most(precision: Precision, method: Method = "native") -> int:
        return most_mflop_s(precision, method, instruction_set, 100, MHZ)

    assert most("fp64") == flop * 100 * MHZ * 105 // 100
    assert most("fp32") == most("fp16", "upcast") == most("bf16", "upcast") == 2 * most("fp64")
    assert most("fp16") == most("bf16") == 1_024 * 100 * MHZ * 105 // 100


def test_every_set_of_the_table_is_narrower_than_an_unknown_one() -> None:
    unknown = most_mflop_s("fp64", "native", None, 1, MHZ)
    assert all(most_mflop_s("fp64", "native", name, 1, MHZ) < unknown for name in FP64_FLOP_PER_CLOCK)


@pytest.mark.parametrize("clock_mhz", [None, 0, 6_200, 6_201, 2**53 - 1])
def test_no_processor_clocks_higher_than_the_fastest_sold(clock_mhz: int | None) -> None:
    assert most_mflop_s("fp64", "native", "avx2", 1, clock_mhz) == 16 * 6_200 * 105 // 100


def test_cores_that_were_not_reported_are_one_and_no_node_has_more_than_the_largest() -> None:
    one = most_mflop_s("fp64", "native", "avx2", 1, MHZ)
    assert most_mflop_s("fp64", "native", "avx2", None, MHZ) == most_mflop_s("fp64", "native", "avx2", 0, MHZ) == one
    assert most_mflop_s("fp64", "native", "avx2", 2**53 - 1, MHZ) == MOST_CORES * one


def test_the_bound_is_rounded_down() -> None:
    assert most_mflop_s("fp64", "native", "avx2", 1, 1) == 16  # 16.8


@pytest.mark.long
def test_the_processors_of_this_machine_are_below_and_a_million_times_as_many_launches_above() -> None:
    record, _ = measure_node(NodeRequest(select_devices("cpu"), TINY, TINY.workloads_of("general"), "node-1", "SPKI"))
    assert record.measurements  # a busy machine may finish too few launches of one precision
    model = record.models[0]
    for m in record.measurements:
        most = most_mflop_s(m.precision, m.method, model.instruction_set, model.units, model.max_clock_mhz)
        (figure,) = m.figures()
        assert 0 < figure.sustained_mflop_s < most
        forged = gemm_mflop(m.m, m.n, m.k, figure.launches * 10**6) * 10**9 // sum(figure.subwindow_ns)
        assert forged > most
