"""Solves (R15): operands by the recipe, exact work, residuals against exact fractions, and what is wrong is seen."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kernels
from kernels.base import SOLVERS, Residual, SolveProblem, load_solver
from kernels.lu import RESIDUAL_LIMIT_PPM
from kernels.lu_mixed import MAX_ITERATIONS, inverse_factors
from kernels.operands import Array, SolveOperands, digest, stream, stream_key
from kernels.verify import check_solutions, solve_residual

from .fake_cupy import FakeCupy
from .products import CHALLENGE

N = 96
HERE = ("lu-numpy", "lu-torch", "mixed-numpy", "mixed-torch")  # lu-cupy: below


def prepare(name: str, n: int = N, target: str = "cpu", sets: int = 2) -> Any:
    problem = SolveProblem(name, "fp64", n, n, n)
    return load_solver(name).prepare(problem, CHALLENGE, "cpu:0", target, 0, sets)


@pytest.fixture(params=HERE)
def prepared(request: pytest.FixtureRequest) -> Iterator[Any]:
    subject = prepare(request.param)
    yield subject
    subject.close()


def good(residual: Residual) -> bool:
    return residual.row_error_ppm is not None and 0 < residual.row_error_ppm < RESIDUAL_LIMIT_PPM


def test_the_table_and_the_names_agree() -> None:
    assert {name: load_solver(name).name for name in SOLVERS} == {name: name for name in SOLVERS}
    files = {path.stem for path in Path(kernels.__file__).parent.glob("lu*.py")}
    assert {entry.split(":")[0] for entry in SOLVERS.values()} == {f"kernels.{stem}" for stem in files}
    with pytest.raises(ValueError, match=r"^there is no kernel 'lu-acme' for solves; known are lu-numpy, "):
        load_solver("lu-acme")


@pytest.mark.parametrize(
    ("precision", "m", "n", "k"), [("fp32", 64, 64, 64), ("fp64", 64, 64, 96), ("fp64", 96, 64, 64)]
)
def test_a_solve_is_of_fp64_and_one_order(precision: Any, m: int, n: int, k: int) -> None:
    with pytest.raises(ValueError, match="a solve is of FP64 and one order, not"):
        SolveProblem("lu-numpy", precision, m, n, k)


def test_matrix_and_right_side_are_those_of_the_recipe() -> None:
    problem = SolveProblem("lu-numpy", "fp64", 40, 40, 40)
    for mixed, domain in ((False, "petaseal/solve/v1"), (True, "petaseal/mixed/v1")):
        made = SolveOperands(problem, CHALLENGE, "cpu:0", mixed=mixed).make(1)
        for operand, matrix in (("a", made.a), ("b", made.b)):
            key = stream_key(domain, CHALLENGE, "cpu:0", "fp64", [40, 40, 40], 1, operand)
            words = [int(word) for word in stream(key, "<u8", 0, matrix.size)]
            exact = [Fraction(word >> 11, 2**53) - Fraction(1, 2) for word in words]
            values = [Fraction(float(value)) for value in matrix.ravel()]
            raised = [6 if mixed and operand == "a" and i % 41 == 0 else 0 for i in range(len(values))]
            assert values == [Fraction(float(one + more)) for one, more in zip(exact, raised, strict=True)]
            assert made.sha256[operand] == digest(matrix)
    assert np.array_equal(
        SolveOperands(problem, CHALLENGE, "cpu:0").rows(1, "a", 7, 3),
        SolveOperands(problem, CHALLENGE, "cpu:0").make(1).a[7:10],
    )
    off = np.abs(made.a).sum(axis=1) - np.abs(np.diag(made.a))
    assert (np.abs(np.diag(made.a)) < off).all()  # the mixed one is not diagonally dominant
    assert not np.array_equal(made.a, made.a.T)


def test_the_residual_is_that_of_exact_fractions(prepared: Any) -> None:
    prepared.launch(0, 2)
    prepared.synchronize()
    made = prepared._operands.make(0)
    x = prepared._solution(0)
    exact = [[Fraction(float(v)) for v in row] for row in made.a]
    right, solution = ([Fraction(float(v)) for v in vector] for vector in (made.b[:, 0], x))
    error = max(
        abs(sum(a * v for a, v in zip(row, solution, strict=True)) - b) for row, b in zip(exact, right, strict=True)
    )
    size = max(sum(map(abs, row)) for row in exact) * max(map(abs, solution)) + max(map(abs, right))
    true_ppm = error * 2**53 / (size * N) * 10**6
    for residual in (prepared.check(0, 1), check_solutions(prepared._operands, 0, x[None, :])[0]):
        assert good(residual)
        assert residual.rms_error_ppm is None
        # what the dot products of the check round is of the residual's own size: n of them, not n^2
        assert residual.row_error_ppm == pytest.approx(float(true_ppm), rel=0.5, abs=2)


def test_what_was_checked_in_the_window_is_checked_again_on_the_host(prepared: Any) -> None:
    prepared.launch(0, 2)
    prepared.synchronize()
    before = prepared.check(0, 1)
    assert good(prepared.check_on_host(1, 1))
    prepared._solved[0][0][3] += 1e-6  # a device that checks its own solution by another matrix would not see it
    assert not good(prepared.check_on_host(1, 1))
    assert good(before)


@pytest.mark.parametrize("wrong", ["poisoned", "one element", "infinite", "zero", "of the other set", "in FP32"])
def test_a_wrong_solution_is_seen(prepared: Any, wrong: str) -> None:
    prepared.launch(0, 2)
    prepared.synchronize()
    out, other = prepared._sets[0][2], prepared._sets[1][2]
    if wrong == "poisoned":
        prepared.poison(0)
    elif wrong == "one element":
        out[5] += 1e-9
    elif wrong == "infinite":
        out[5] = float("inf")
    elif wrong == "zero":
        out[...] = 0
    elif wrong == "of the other set":
        out[...] = other
    else:
        out[...] = prepared._on_device(np.asarray(prepared._on_host(out)).astype(np.float32).astype(np.float64))
    for residual in (prepared.check(0, 1), prepared.check_on_host(0, 1)):
        assert not good(residual)


def test_a_singular_matrix_has_no_solution(prepared: Any) -> None:
    matrix = np.array(prepared._on_host(prepared._sets[0][0]))
    matrix[7] = matrix[9] = 0.0
    prepared._sets[0] = (prepared._on_device(matrix), *prepared._sets[0][1:])
    prepared.launch(0, 1)
    prepared.synchronize()
    assert prepared.check(0, 1) == Residual(None, None)


@pytest.mark.parametrize("name", ["mixed-numpy", "mixed-torch"])
def test_a_refinement_that_does_not_converge_gives_no_solution(name: str) -> None:
    subject = prepare(name)
    calls: list[int] = []
    substitute = subject._substitute

    def poor(factors: Any, vector: Any) -> Any:
        calls.append(1)
        return substitute(factors, vector) * 0.01  # each step takes a hundredth off the error

    subject._substitute = poor
    subject.launch(0, 1)
    assert len(calls) == 1 + MAX_ITERATIONS
    assert subject.check(0, 1) == Residual(None, None)
    subject.close()


def test_products_of_a_mixed_solve_are_of_fp16() -> None:
    subject = prepare("mixed-numpy")
    a, b = (np.full((32, 32), value, np.float32) for value in (1 + 2.0**-12, 1.0))
    assert (subject._product(a, b) == 32).all()  # 2^-12 is lost in FP16
    assert (subject.accumulate, subject.method) == ("fp32", "upcast")
    plain = prepare("lu-numpy")
    assert (plain.accumulate, plain.method) == ("fp64", "native")


def test_the_inverses_are_those_of_the_factors() -> None:
    n = 100
    matrix = np.random.default_rng(3).uniform(-0.5, 0.5, (n, n)) + 10 * np.eye(n)
    lower, upper = inverse_factors(matrix.astype(np.float32))
    assert np.array_equal(np.triu(lower, 1), np.zeros((n, n)))
    assert np.array_equal(np.tril(upper, -1), np.zeros((n, n)))
    assert np.allclose(np.diag(lower), 1)
    assert np.allclose(lower @ matrix @ upper, np.eye(n), atol=1e-4)


def test_operands_are_counted_and_a_trial_is_as_fast(prepared: Any) -> None:
    assert prepared.operand_bytes == 2 * (N * N + N) * 8
    assert sorted(prepared.operand_sha256) == ["0/a", "0/b", "1/a", "1/b"]
    trial: Any = load_solver(prepared.problem.kernel).prepare_trial(prepared.problem, "cpu")
    trial.launch(0, 2)
    trial.synchronize()
    assert np.isfinite(trial._solution(1)).all()  # a mixed one converges
    trial.close()


def test_what_a_device_lacks_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    assert load_solver("lu-numpy").supports("fp32", "cpu") == "solves are of FP64"
    assert load_solver("lu-numpy").supports("fp64", "cuda:0") == "numpy computes on the CPU only, not on cuda:0"
    assert [load_solver(name).supports("fp64", "cpu") for name in HERE] == [None] * 4

    def missing(*_: object, **__: object) -> None:
        raise RuntimeError(
            "Calling torch.linalg.lu_factor on a CPU tensor requires compiling PyTorch with lapack.\nmore"
        )

    monkeypatch.setattr(torch.linalg, "lu_factor_ex", missing)
    reason = "Calling torch.linalg.lu_factor on a CPU tensor requires compiling PyTorch with lapack."
    assert load_solver("lu-torch").supports("fp64", "cpu") == reason
    monkeypatch.undo()
    monkeypatch.setattr(torch.linalg, "lu_solve", lambda *_, out: out)  # it computes nothing
    assert load_solver("lu-torch").supports("fp64", "cpu") == "a small solve has a wrong solution"


def test_cusolver_is_called_on_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeCupy().install(monkeypatch)
    assert load_solver("lu-cupy").supports("fp64", "cuda:0") is None
    subject = prepare("lu-cupy", target="cuda:0")
    before = digest(subject._on_host(subject._sets[0][0]))
    subject.launch(0, 2)
    subject.synchronize()
    assert good(subject.check(0, 1))
    assert good(subject.check_on_host(1, 1))
    assert digest(subject._on_host(subject._sets[0][0])) == before == subject.operand_sha256["0/a"]
    subject.poison(0)
    assert subject.check(0, 1) == Residual(None, None)
    subject.close()


@pytest.mark.parametrize("name", HERE)
def test_the_matrix_survives_its_launch(name: str) -> None:
    subject = prepare(name)
    subject.launch(0, 4)
    subject.synchronize()
    for set_index in range(2):
        matrix = np.ascontiguousarray(np.asarray(subject._on_host(subject._sets[set_index][0])))
        assert digest(matrix) == subject.operand_sha256[f"{set_index}/a"]
    subject.close()


def test_an_empty_solve_has_no_residual() -> None:
    zero: Array = np.zeros(32)
    assert solve_residual(zero, zero, zero, zero) == Residual(None, None)
