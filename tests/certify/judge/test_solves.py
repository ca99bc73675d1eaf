"""R15: what the rules make of solves, each against the same honest record, and who may count them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from bench.errors import InputError
from bench.profile import load_profile
from bench.record import Figure, Measurement, NodeRecord, Workload, columns, throughput_bounds
from bench.record.campaign import named_workloads
from bench.record.fields import workload_of
from bench.record.plan import kernel_for
from bench.units import work_mflop
from certify.documents.statement import CapacityStatement
from certify.judge.case import SOLVE_RESIDUAL_PPM, MeasurementPlan, is_constant, is_wrong, residual_limits
from certify.judge.rules import figures_of
from certify.policy.policies import Policy, policy_problem
from certify.policy.ratings import installed_ratings
from certify.policy.reasons import effect_of
from tests.bench.fleet import FIXED, simulate
from tests.certify.judged import basis_of, centre_of, policy_of, statement_of
from tests.certify.measured import node_name, test_campaign

SOLVE, MIXED = Workload("fp64", "solve"), Workload("fp64", "mixed")
WORKLOADS = ("fp64", "fp64-solve", "fp64-mixed")
CAMPAIGN = test_campaign(FIXED, WORKLOADS, 1)
SOLVES_ALONE = test_campaign(FIXED, WORKLOADS[1:], 1)


@cache
def honest() -> NodeRecord:
    return simulate(None, 1, FIXED, WORKLOADS, node_name(0), CAMPAIGN)


def changed(workload: Workload, change: Callable[[Measurement], Measurement]) -> NodeRecord:
    measurements = tuple(change(m) if m.workload == workload else m for m in honest().measurements)
    return replace(honest(), measurements=measurements)


def figure_is(**changes: Any) -> Callable[[Measurement], Measurement]:
    def change(m: Measurement) -> Measurement:
        return replace(m, **columns([figure._replace(**changes) for figure in m.figures()]))

    return change


def codes_of(record: NodeRecord, workload: Workload = SOLVE) -> set[str]:
    plan = MeasurementPlan(CAMPAIGN, FIXED)
    of_device = figures_of(record, installed_ratings(), plan).judged["fake:0"]
    return {code for code in of_device[workload].judgement.codes if effect_of(code) != "note"}


def statement(record: NodeRecord, *policies: Policy) -> CapacityStatement:
    centre = centre_of(pools=[{"pool": "main", "class": "supercomputing", "nodes": "all", "devices": "all"}])
    return statement_of([record], basis_of(CAMPAIGN, FIXED, centre, policies or (counting("fixed"),)))


def counting(choice: str, precision: str = "fp64") -> Policy:
    policy = policy_of()
    known = policy.counting["intelligent"]
    entry = replace(known, precision=precision, choice=choice, accumulate="fp64")
    return replace(policy, counting=dict.fromkeys(("intelligent", "supercomputing", "general", "edge"), entry))


def test_a_solve_is_one_workload_of_its_own() -> None:
    assert (str(SOLVE), workload_of("fp64-solve"), SOLVE.is_solve, SOLVE.computed) == (
        "fp64-solve",
        SOLVE,
        True,
        "fp64",
    )
    assert (str(MIXED), workload_of("fp64-mixed"), MIXED.computed) == ("fp64-mixed", MIXED, "fp16")
    assert Workload("fp16", "tuned").launched == Workload("fp16")
    assert SOLVE.launched == SOLVE
    assert [kernel_for(c, "gemm-torch") for c in ("tuned", "solve", "mixed")] == [
        "gemm-torch",
        "lu-torch",
        "mixed-torch",
    ]
    profile = load_profile("standard")
    assert named_workloads(profile, ["fp64-solve", "fp64-mixed"]) == (SOLVE, MIXED)
    assert profile.workloads_of("supercomputing") == (Workload("fp64"), SOLVE)
    assert not any(w.is_solve for w in load_profile("smoke").workloads_of("supercomputing"))
    for name in ("fp32-solve", "fp16-mixed", "fp64-lu"):
        with pytest.raises(InputError, match=f"there is no precision '{name}'"):
            named_workloads(profile, [name])


@pytest.mark.parametrize("n", [1, 32, 511, 8192, 65_536, 999_983])
@pytest.mark.parametrize("launches", [1, 7, 12_000])
def test_work_is_exact_and_truncated_once(n: int, launches: int) -> None:
    from fractions import Fraction

    exact = launches * (Fraction(2, 3) * n**3 + Fraction(3, 2) * n**2)
    for choice in ("solve", "mixed"):
        assert work_mflop(choice, n, n, n, launches) == exact // 10**6
    assert work_mflop("tuned", n, n, n, launches) == launches * 2 * n**3 // 10**6


def test_an_honest_solve_is_shown_beside_the_products() -> None:
    solves = {m.workload: m for m in honest().measurements}
    assert [(m.kernel, m.accumulate) for m in solves.values()] == [
        ("gemm-fake", "fp64"),
        ("lu-fake", "fp64"),
        ("mixed-fake", "fp32"),
    ]
    for workload in (SOLVE, MIXED):
        m = solves[workload]
        f: Figure = next(m.figures())
        assert m.m == m.n == m.k
        assert 0 < (f.row_error_ppm or 0) < SOLVE_RESIDUAL_PPM
        assert f.rms_error_ppm is None
        assert throughput_bounds(work_mflop("solve", m.m, m.n, m.k, f.launches), f.subwindow_ns)[:3] == (
            f.sustained_mflop_s,
            f.certified_mflop_s,
            f.upper_mflop_s,
        )
        assert not codes_of(honest(), workload)
    made = statement(honest())
    assert made.pools[0].counted.certified_mflop_s == solves[Workload("fp64")].certified_mflop_s[0]
    assert [(line.choice, line.shown.devices, line.shown.certified_mflop_s) for line in made.shown] == [
        ("mixed", 1, solves[MIXED].certified_mflop_s[0]),
        ("solve", 1, solves[SOLVE].certified_mflop_s[0]),
    ]


def as_products(m: Measurement) -> Measurement:
    """Return a measurement whose rates are of the work of so many products."""
    bounds = [throughput_bounds(2 * m.n**3 * f.launches // 10**6, f.subwindow_ns) for f in m.figures()]
    return replace(m, **{name: tuple(getattr(b, name) for b in bounds) for name in bounds[0]._fields[:3]})


def of_another_order(m: Measurement) -> Measurement:
    """Return a measurement of an order that is a little smaller, with the rates of the work that this is."""
    n = m.n - 8
    bounds = [throughput_bounds(work_mflop(m.choice, n, n, n, f.launches), f.subwindow_ns) for f in m.figures()]
    size = m.operand_sets * (n * n + n) * 8
    rates = {name: tuple(getattr(b, name) for b in bounds) for name in bounds[0]._fields[:3]}
    return replace(m, m=n, n=n, k=n, operand_bytes=size, **rates)


WRONG: dict[str, tuple[Callable[[Measurement], Measurement], str]] = {
    "R15 a residual of 16": (figure_is(row_error_ppm=SOLVE_RESIDUAL_PPM), "solve-residual-exceeded"),
    "R15 a tampered solution": (figure_is(row_error_ppm=2**53 - 1), "solve-residual-exceeded"),
    "R15 a NaN or a stale solution": (figure_is(row_error_ppm=None), "solve-residual-exceeded"),
    "R15 no rounding at all": (figure_is(row_error_ppm=0), "operands-not-random"),
    "R15 a set that was never checked": (figure_is(verified_launches=1), "products-not-verified"),
    "R9 the work of products": (as_products, "statistics-differ"),
    "R4 an order that no profile lists": (of_another_order, "shape-not-registered"),
    "R3 one set": (lambda m: replace(m, operand_sets=1, operand_bytes=m.operand_bytes // 2), "operands-in-cache"),
    "R3 bytes of a product": (lambda m: replace(m, operand_bytes=2 * m.operand_bytes), "operands-in-cache"),
    "R1 a kernel of products": (lambda m: replace(m, kernel="gemm-fake"), "kernel-impossible"),
    "R1 in FP32": (lambda m: replace(m, accumulate="fp32"), "accumulation-differs"),
}


@pytest.mark.parametrize("workload", [SOLVE, MIXED], ids=str)
@pytest.mark.parametrize("lie", WRONG)
def test_a_wrong_solve_counts_nowhere(lie: str, workload: Workload) -> None:
    change, code = WRONG[lie]
    if workload == MIXED and lie == "R1 in FP32":
        change = lambda m: replace(m, accumulate="fp64")  # noqa: E731
    record = changed(workload, change)
    codes = codes_of(record, workload)
    # of twice the work other rules speak too: no silicon is so fast
    assert codes == {code} or (code == "statistics-differ" and code in codes)
    assert [line.choice for line in statement(record).shown] == ["solve" if workload == MIXED else "mixed"]
    assert statement(record, counting("solve")).pools[0].counted.devices == (workload == MIXED)


def test_an_impossible_solve_does_not_exist() -> None:
    for wrong in ({"m": 64}, {"k": 64}, {"precision": "fp32"}, {"rms_error_ppm": (1,)}):
        with pytest.raises(ValueError, match="a solve "):
            changed(SOLVE, lambda m, wrong=wrong: replace(m, **wrong))  # type: ignore[misc]
        content = msgspec.json.encode(honest().measurements[1])
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(
                msgspec.json.encode(msgspec.json.decode(content) | msgspec.to_builtins(wrong)), type=Measurement
            )


def test_a_solve_is_bounded_by_its_own_silicon() -> None:
    factor = 3  # 38.7 of 67 TFLOPS in FP64; a mixed solve computes in FP16

    def faster(m: Measurement) -> Measurement:
        figures = []
        for f in m.figures():
            launches = f.launches * factor
            bounds = throughput_bounds(work_mflop(m.choice, m.m, m.n, m.k, launches), f.subwindow_ns)
            figures.append(f._replace(launches=launches, **dict(list(bounds._asdict().items())[:3])))
        return replace(m, **columns(figures))

    assert "above-silicon-ceiling" in codes_of(changed(SOLVE, faster))
    assert not codes_of(changed(MIXED, faster), MIXED)


def test_limits_of_residuals() -> None:
    limits = residual_limits("fp64", "solve")
    figure = next(honest().measurements[1].figures())
    for error, wrong, constant in ((None, True, False), (0, False, True), (1, False, False)):
        one = figure._replace(row_error_ppm=error)
        assert (is_wrong(one, limits), is_constant(one, limits)) == (wrong, constant)
    assert not is_wrong(figure._replace(row_error_ppm=15_999_999), limits)
    assert is_wrong(figure._replace(row_error_ppm=16_000_000), limits)


@pytest.mark.parametrize(
    ("choice", "precision", "refused"),
    [("solve", "fp64", False), ("mixed", "fp64", True), ("solve", "fp32", True), ("mixed", "fp16", True)],
)
def test_a_policy_may_count_solves_in_fp64_alone(choice: str, precision: str, refused: bool) -> None:
    problem = policy_problem(counting(choice, precision))
    assert (problem or ("",))[0] == ("solve-not-counted" if refused else "")


def test_a_policy_that_counts_solves_counts_them() -> None:
    made = statement(honest(), counting("solve"))
    solve = next(m for m in honest().measurements if m.workload == SOLVE)
    assert (made.pools[0].choice, made.pools[0].counted.certified_mflop_s) == ("solve", solve.certified_mflop_s[0])
    assert [line.choice for line in made.shown] == ["fixed", "mixed"]


@pytest.mark.parametrize("wrong", ["stale", "zero", "nan", "element", "bf16"])
def test_a_device_whose_solutions_are_wrong_in_its_window_counts_nowhere(wrong: str) -> None:
    """The solutions of a fake are real, of a small matrix, and so is their check; its products stay right."""
    script = {"wrong": wrong, "wrong_from_s": 20.0, "noise_interval_s": 0.05}
    record = simulate(script, 1, FIXED, ("fp64-solve", "fp64-mixed"), node_name(0), SOLVES_ALONE)
    plan = MeasurementPlan(SOLVES_ALONE, FIXED)
    of_device = figures_of(record, installed_ratings(), plan).judged["fake:0"]
    for workload in (SOLVE, MIXED):
        codes = of_device[workload].judgement.codes
        assert [code for code in codes if effect_of(code) == "void"] == ["solve-residual-exceeded"]
