"""Each step of R12 on a whole centre with samples: just below its limit it is accepted as audited, just above not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
import yaml

from bench.record import Grade, NodeRecord, Precision, ReferenceFigure, ReferenceMeasurement, columns, config_path
from certify.policy.ratings import installed_ratings
from tests.certify.audit.audited import audited
from tests.certify.audit.test_audit import audit_of
from tests.certify.kinds import Kind, kind_of
from tests.certify.measured import Measured

TFLOPS = 10**6  # MFLOP/s


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PETASEAL_STATE", str(tmp_path / "state"))


def _kind(vendor: str, name: str) -> Kind:
    rating = installed_ratings().match(vendor, name)
    assert rating is not None
    return kind_of(rating, name)


def with_issue(tflops: float) -> Callable[[int, NodeRecord], NodeRecord]:
    """Return a change after which an exact rate of issue stands beside each fixed figure, at the figure's clock."""

    def change(index: int, record: NodeRecord) -> NodeRecord:
        (m,) = (m for m in record.measurements if m.choice == "fixed")
        rows = [
            ReferenceFigure(
                f.device, 20 * 10**9, round(tflops * TFLOPS), None, f.clock_mean_mhz, None, None, True, None
            )
            for f in m.figures()
        ]
        issue = ReferenceMeasurement(kernel="issue-mma", role="ceiling", precision=m.precision, **columns(rows))
        return msgspec.structs.replace(record, companions=(*record.companions, issue))

    return change


class Step(NamedTuple):
    """A kind of device whose figures rest on one step, and the limit that binds them."""

    kind: Kind
    limit: str
    limit_tflops: float
    code: str  # of a figure above it
    change: Callable[[int, NodeRecord], NodeRecord] = lambda index, record: record
    accept: tuple[str, ...] = ()


STEPS: dict[str, Step] = {
    # 108 SMs x 2,048 FLOP/clock at 1,410 MHz
    "silicon": Step(_kind("NVIDIA", "NVIDIA A100-SXM4-80GB"), "silicon", 311.87, "above-silicon-ceiling"),
    # an issue rate beside it that is 0.95 of what the SMs do at the clock that was read, and 2 % more
    "measured": Step(
        _kind("NVIDIA", "NVIDIA A100-SXM4-80GB"), "issue-rate", 303.96, "above-measured-ceiling", with_issue(298)
    ),
    "rating": Step(_kind("Huawei", "Ascend910B3"), "rating", 328.65, "above-rating-unproven"),
    # a model without a row, under a policy that accepts that nothing bounds it: the table's highest row bounds it
    "none": Step(
        Kind("torch", "Acme", "Acme 1", None, None, None, None, None, None),
        "highest-rating",
        3145.75,
        "above-every-rating",
        accept=("no-ceiling",),
    ),
}


def centre(folder: Path, step: Step, grade: Grade, tflops: float) -> tuple[Measured, str]:
    """Lay out a centre of a step's devices which each gave so much, and return it with its policy."""
    policy = yaml.safe_load(config_path("policies", "guangzhou-2000p.yaml").read_bytes())
    folder.mkdir()
    file = folder / "policy.yaml"
    file.write_text(yaml.safe_dump({**policy, "policy": "changed", "accept": list(step.accept)}, allow_unicode=True))
    rates: dict[Precision, int] = {"fp16": round(tflops * TFLOPS)}
    found = audited(
        folder,
        nodes=1,
        devices=1,
        change=step.change,
        profile=grade,
        kind=step.kind,
        rates=rates,
        policies=(str(file),),
    )
    return found, str(file)


SOME = [
    pytest.param(name, grade, marks=[] if place % 3 == kind % 3 else pytest.mark.long)
    for kind, name in enumerate(STEPS)
    for place, grade in enumerate(("standard", "certification", "smoke"))
    if (name, grade) != ("measured", "smoke")  # whose profile wants nothing beside a figure
]


@pytest.mark.parametrize(("name", "grade"), SOME)
def test_a_centre_is_accepted_below_its_limit_and_not_above(tmp_path: Path, name: str, grade: Grade) -> None:
    step = STEPS[name]
    below, policy = centre(tmp_path / "below", step, grade, step.limit_tflops * 0.99)
    issues = audit_of(below, policies=(policy,))
    assert [str(issue) for issue in issues.issues] == []
    report = below.verify(samples=below.records, require=("audited",), policies=(policy,), accept_simulated=False)
    assert (report.refused, report.level) == (False, "audited"), report.refusal
    assert report.statement is not None
    (line,) = [line for line in report.statement.ceilings if line.choice == "fixed"]
    assert (line.step, line.limit, line.counted) == (name, step.limit, 1)
    assert line.least_mflop_s == pytest.approx(step.limit_tflops * TFLOPS, rel=5e-3)
    (counted,) = report.statement.classes
    assert (counted.counted.devices, report.statement.grade) == (1, grade)
    assert counted.counted.sustained_mflop_s == pytest.approx(
        step.limit_tflops * 0.99 * TFLOPS, rel=5e-3
    )  # times are drawn

    above, policy = centre(tmp_path / "above", step, grade, step.limit_tflops * 1.01)
    report = above.verify(samples=above.records, policies=(policy,), accept_simulated=False)
    assert report.statement is not None
    (counted,) = report.statement.classes
    assert (counted.counted.devices, counted.counted.certified_mflop_s) == (0, 0)
    assert step.code in {code for one in report.statement.not_counted for code in one.codes}
