"""R5: no honest product is refused, and every dishonest one on the list is seen."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest

from kernels import verify
from kernels.base import PRECISIONS, GemmProblem, Precision, Residual, load_kernel
from kernels.operands import Array, stream_key

from .bounds import verdict
from .products import (
    TO,
    Matrix,
    accumulated_in_fp16,
    bf16,
    case,
    fp32,
    from_slices,
    lanes_in_fp16,
    rounded,
    tf32,
    tree_in_fp16,
)

SIXTEEN: tuple[Precision, ...] = ("fp16", "bf16")
HONEST: dict[str, tuple[Precision, ...]] = {"gemm-numpy": ("fp16", "fp32", "fp64"), "gemm-torch": PRECISIONS}
DIMENSIONS = (32, 32, 33, 37, 48, 64, 100, 128, 255, 257, 512)
SETS = 5


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Let torch compute with one thread: on a busy machine, small products wait for the other threads for ever."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("kernel", HONEST)
@pytest.mark.parametrize("cases", [300, pytest.param(5000, marks=pytest.mark.long)])
def test_ten_thousand_honest_products_are_good(kernel: str, cases: int, one_thread: None) -> None:
    loaded = load_kernel(kernel)
    rng = np.random.default_rng(20260301)
    for number in range(cases // SETS):
        precision = HONEST[kernel][number % len(HONEST[kernel])]
        while True:
            m, n, k = (int(size) for size in rng.choice(DIMENSIONS, 3))
            if m * n * k <= 2**20:  # torch's fp16 on a CPU does 10^9 FLOP/s
                break
        problem = GemmProblem(kernel, precision, m, n, k)
        prepared = loaded.prepare(problem, f"{number:032x}", "cpu:0", "cpu", 0, SETS)
        prepared.launch(0, SETS)
        for set_index in range(SETS):
            found = prepared.check(set_index, number)
            assert verdict(precision, found) == "good", (problem, set_index, found)
        found = prepared.check_on_host(number % SETS, number + 1)
        assert verdict(precision, found) == "good", (problem, found)
        prepared.close()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("n", "k"), [(4096, 4096), (300, 2000), (2000, 300)])
def test_large_honest_products_are_good(precision: Precision, n: int, k: int) -> None:
    subject = case(precision, 64, n, k)
    assert subject.verdict(subject.honest) == "good"


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("n", [300, 4096])
def test_one_value_that_is_no_number_voids(precision: Precision, value: float, n: int) -> None:
    subject = case(precision, 64, n, n)
    product = subject.honest.copy()
    product[63, n - 1] = value
    assert subject.residual(product) == Residual(None, None)
    product[63] = [value, -value] * (n // 2)
    assert subject.residual(product) == Residual(None, None)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_gross_faults_void(precision: Precision) -> None:
    subject = case(precision, 64, 300, 200)
    good = subject.honest
    wrong_column, wrong_block, swapped_rows, transposed = good.copy(), good.copy(), good.copy(), good.copy()
    wrong_column[:, 17] = good[:, 18]
    wrong_block[32:, 100:200] *= -1
    swapped_rows[[3, 4]] = good[[4, 3]]
    transposed[:64, :64] = good[:64, :64].T
    faults = {
        "zeros": np.zeros_like(good),
        "ones": np.ones_like(good),
        "all signs": -good,
        "twice": 2 * good,
        "huge": np.full_like(good, 1e300),
        "one column": wrong_column,
        "signs of a block": wrong_block,
        "rows swapped": swapped_rows,
        "rows shifted": np.roll(good, 1, axis=0),
        "transposed": transposed,
        "another set's": case(precision, 64, 300, 201).honest,
    }
    assert {name: subject.verdict(product) for name, product in faults.items()} == dict.fromkeys(faults, "void")


@pytest.mark.parametrize("precision", SIXTEEN)
def test_swapped_columns_escape_one_seed_in_256(precision: Precision) -> None:
    subject = case(precision, 64, 300, 200)
    product = subject.honest.copy()
    product[:, [5, 6]] = product[:, [6, 5]]  # cancels where all eight probes give both columns the same sign
    escaped = sum(subject.verdict(product, seed) == "good" for seed in range(512))
    assert escaped <= 10


@pytest.mark.parametrize("precision", SIXTEEN)
def test_one_wrong_element_of_4096_columns_voids(precision: Precision) -> None:
    subject = case(precision, 64, 4096, 4096)
    size = np.where(np.abs(subject.honest) >= 16, np.abs(subject.honest), np.inf)  # 0.25 sqrt(k) = 16
    for row in range(64):
        column = int(size[row].argmin())
        product = subject.honest.copy()
        product[row, column] = 0
        assert subject.verdict(product, seed=row % 4) == "void", (row, column)


@pytest.mark.parametrize("precision", ["fp32", "fp64"])
def test_one_wrong_element_voids_in_wide_types_too(precision: Precision) -> None:
    subject = case(precision, 64, 4096, 4096)
    product = subject.honest.copy()
    column = int(np.abs(product[5] - 16).argmin())
    product[5, column] = 0
    assert subject.verdict(product) == "void"


@pytest.mark.parametrize("size", [256, 1024])
def test_narrower_types_than_claimed_void(size: int) -> None:
    half, single, double = (case(precision, 64, size, size) for precision in ("fp16", "fp32", "fp64"))
    assert half.verdict(bf16(half.exact)) == "void"
    assert half.verdict(TO["fp16"](bf16(half.a) @ bf16(half.b))) == "void"
    assert single.verdict(fp32(tf32(single.a) @ tf32(single.b))) == "void"
    assert single.verdict(fp32(bf16(single.a) @ bf16(single.b))) == "void"
    assert single.verdict(bf16(single.exact)) == "void"
    assert double.verdict(fp32(double.exact)) == "void"
    assert double.verdict(fp32(double.a) @ fp32(double.b)) == "void"
    assert double.verdict(double.a @ rounded(double.b, 40)) == "void"


@pytest.mark.parametrize("k", [1024, pytest.param(4096, marks=pytest.mark.long)])
def test_accumulation_in_fp16_is_seen(k: int) -> None:
    subject = case("fp16", 48, 96, k)
    for step in (1, 2, 4, 8, 16, 32, 64):
        assert subject.verdict(accumulated_in_fp16(subject.a, subject.b, step)) == "void", step
    for lanes in (2, 8):
        assert subject.verdict(lanes_in_fp16(subject.a, subject.b, lanes)) == "void", lanes
    for leaf in (1, 4, 16):
        assert subject.verdict(tree_in_fp16(subject.a, subject.b, leaf)) == "void", leaf
    few = accumulated_in_fp16(subject.a, subject.b, k // 8)  # split in 8 parts, reduced in FP16: a library's switch
    assert subject.verdict(few) == "reduced-precision-reduction"
    chopped = np.trunc(np.ldexp(subject.exact, 11 - np.frexp(subject.exact)[1]))
    assert subject.verdict(np.ldexp(chopped, np.frexp(subject.exact)[1] - 11)) == "reduced-precision-reduction"


@pytest.mark.parametrize("k", [256, pytest.param(1024, marks=pytest.mark.long)])
@pytest.mark.parametrize(("bits", "native"), [(7, 8), (8, 7)])
def test_fp64_from_slices_is_ruined_by_the_grading(k: int, bits: int, native: int) -> None:
    subject = case("fp64", 40, 128, k)
    assert subject.grading is not None
    e = subject.grading.astype(np.int64)
    plain_a, plain_b = np.ldexp(subject.a, -e), np.ldexp(subject.b, e[:, None])
    assert subject.verdict(from_slices(plain_a, plain_b, native, bits)) == "good"  # as good as FP64 where not graded
    for count in range(2, native + 4):
        assert subject.verdict(from_slices(subject.a, subject.b, count, bits)) == "void", count


def test_grading_costs_nothing_natively() -> None:
    subject = case("fp64", 64, 256, 256)
    assert subject.grading is not None
    e = subject.grading.astype(np.int64)
    plain = np.ldexp(subject.a, -e) @ np.ldexp(subject.b, e[:, None])
    assert np.array_equal(plain, subject.exact)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_blocks_cover_all_columns_once(precision: Precision) -> None:
    for n in (32, 256, 257, 300, 4096, 16384, 16385, 50_000):
        edges = verify.block_edges(precision, n)
        widths = [high - low for low, high in pairwise(edges)]
        assert (edges[0], edges[-1], sum(widths)) == (0, n, n)
        assert min(widths) >= 32
        assert max(widths) <= {"fp16": 16384, "bf16": 256}.get(precision, n)
    assert len(verify.block_edges("fp16", 16384)) == len(verify.block_edges("fp64", 50_000)) == 2
    assert len(verify.block_edges("bf16", 4096)) == 17


def test_signs_are_reproducible_balanced_and_independent() -> None:
    signs = verify.signs(1, 10_000)
    assert signs.shape == (verify.PROBES, 10_000)
    assert set(np.unique(signs)) == {-1, 1}
    assert np.array_equal(signs, verify.signs(1, 10_000))
    assert not np.array_equal(signs, verify.signs(2, 10_000))
    correlation = signs.astype(np.float64) @ signs.T / 10_000
    assert np.abs(correlation - np.eye(verify.PROBES)).max() < 0.05
    key = stream_key("petaseal/probe/v1", 7, 4)
    byte = np.random.Philox(key=int.from_bytes(key, "little")).random_raw() & 255  # of column 0; bit p is probe p
    assert verify.signs(7, 4)[:, 0].tolist() == [-1 if byte >> p & 1 else 1 for p in range(8)]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_unit_and_the_rounding_up(precision: Precision) -> None:
    u = {"fp16": 2**-11, "bf16": 2**-8, "fp32": 2**-24, "fp64": 2**-53}[precision]
    unit = u if precision in SIXTEEN else u * (32 + 16)
    assert verify.unit(precision, 256, 1024) == unit
    reference = np.zeros((2, 1, 8))
    product = reference.copy()
    product[1, 0, 3] = 3 * unit * 5 * 16  # three units, row norm 5, sqrt(256) = 16
    found = verify.residual(precision, 256, 1024, product, reference, np.array([7.0, 5.0]))
    assert found == Residual(3_000_000, 750_000)
    product *= 1 + 1e-9
    assert verify.residual(precision, 256, 1024, product, reference, np.array([7.0, 5.0])) == Residual(
        3_000_001, 750_001
    )


def test_a_residual_is_capped_at_what_a_document_can_hold() -> None:
    product = np.full((2, 1, 8), 1e30)
    assert verify.residual("fp64", 64, 64, product, product * 0, np.ones(2)) == Residual(2**53 - 1, 2**53 - 1)


def test_dot_products_without_vecdot(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    matrix, vectors = rng.standard_normal((1000, 300)), rng.standard_normal((8, 300))
    expected: Array = np.stack([matrix[:, :100] @ vectors[:, :100].T, matrix[:, 100:] @ vectors[:, 100:].T], 1)
    np.testing.assert_allclose(verify.project(matrix, "fp64", vectors, (0, 100, 300)), expected, atol=1e-12)
    monkeypatch.delattr(np, "vecdot", raising=False)
    np.testing.assert_allclose(verify.project(matrix, "fp64", vectors, (0, 100, 300)), expected, atol=1e-12)


def test_emulation_used_here_is_itself_right() -> None:
    subject = case("fp32", 64, 300, 200)
    product: Matrix = from_slices(subject.a, subject.b, 9, 7)
    np.testing.assert_allclose(product, subject.exact, atol=1e-12)
